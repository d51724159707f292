"""JUnit's XML, which CI servers show: a test case for every clause, or for every finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from drifting_parity.plain import plain
from drifting_parity.report import wording
from drifting_parity.report.data import FAILING, ClauseReport, Report

Kind = Literal["passed", "failure", "skipped"]


@dataclass(frozen=True)
class Case:
    """A test case: its name, its group, how it ended, and why."""

    name: str
    group: str
    kind: Kind = "passed"
    message: str = ""


def junit(report: Report) -> str:
    """A report's clauses; those that cannot be observed or carried out are skipped."""
    cases = [_case(item) for item in report.of_implementation]
    cases += [Case(item.kind, "conduct", "failure", str(item)) for item in report.misconduct]
    return document(report.implementation, cases, report.seconds)


def _case(item: ClauseReport) -> Case:
    kind: Kind = "passed"
    if item.verdict in FAILING:
        kind = "failure"
    elif item.verdict != "conforms":
        kind = "skipped"
    words = "; ".join((item.verdict, *wording.explanation(item))) if kind == "failure" else ""
    return Case(f"{item.id} {item.title}", item.section, kind, words or item.detail)


def document(name: str, cases: Iterable[Case], seconds: float = 0.0) -> str:
    """One suite of test cases as XML."""
    listed = list(cases)
    suite = ET.Element(
        "testsuite",
        name=plain(f"drifting-parity {name}"),
        tests=str(len(listed)),
        failures=str(sum(case.kind == "failure" for case in listed)),
        errors="0",
        skipped=str(sum(case.kind == "skipped" for case in listed)),
        time=f"{seconds:.3f}",
    )
    for case in listed:
        element = ET.SubElement(
            suite, "testcase", classname=plain(case.group), name=plain(case.name)
        )
        if case.kind != "passed":
            ET.SubElement(element, case.kind, message=plain(case.message, 2000))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'
