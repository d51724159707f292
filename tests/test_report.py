"""The report's forms: text at several widths, Markdown, and JSON against its schema."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from rich.cells import cell_len

from drifting_parity.explanation.data import DeviationStatement, Explanation, Unexplained
from drifting_parity.report import wording
from drifting_parity.report.as_json import to_json
from drifting_parity.report.data import Report, Verdict
from drifting_parity.report.markdown import markdown
from drifting_parity.report.screen import first_screen
from drifting_parity.report.terminal import terminal
from drifting_spec import PAPER

FIXTURES = ("good_report", "broken_report", "infinite_report")


@pytest.fixture(params=FIXTURES)
def report(request: pytest.FixtureRequest) -> Report:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    text = (
        resources.files("drifting_parity.report").joinpath("report.schema.json").read_text("utf-8")
    )
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_json_follows_the_schema(
    report: Report, validator: jsonschema.Draft202012Validator
) -> None:
    text = json.dumps(to_json(report), allow_nan=False)
    validator.validate(json.loads(text))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("clauses", 0, "verdict"), "skipped"),
        (("clauses", 0, "headroom"), "small"),
        (("schema",), 1),
        (("summary", "total"), -1),
        (("paper", "scan_sha256"), "234c"),
        (("unheard", "of"), 1),
    ],
)
def test_the_schema_refuses(
    path: tuple[Any, ...],
    value: object,
    good_report: Report,
    validator: jsonschema.Draft202012Validator,
) -> None:
    document: Any = json.loads(json.dumps(to_json(good_report)))
    target = document
    for key in path[:-1]:
        target = target.setdefault(key, {}) if isinstance(target, dict) else target[key]
    target[path[-1]] = value
    assert not validator.is_valid(document)


def test_the_schema_knows_every_verdict(validator: jsonschema.Draft202012Validator) -> None:
    schema: Any = validator.schema
    clause = schema["$defs"]["clause"]["properties"]
    assert set(clause["verdict"]["enum"]) == set(Verdict.__args__) == set(wording.MARKS)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_text_keeps_to_the_width(width: int, report: Report) -> None:
    for verbose in (False, True):
        for line in terminal(report, width, verbose=verbose).splitlines()[:-1]:
            copied = "drifting-parity report --implementation" in line
            assert copied or cell_len(line) <= width, line


def test_text_has_no_escapes_unless_asked(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, coloured = terminal(report, 80), terminal(report, 80, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == plain.split()


def test_text_respects_no_color(good_report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in terminal(good_report, 80, colour=True)


def test_text_names_what_was_judged(good_report: Report) -> None:
    text = terminal(good_report, 80, verbose=True)
    for part in (
        *("2602.04770", "234cead3f889b1b217394d0fddc46d9744709b5d61279a6860d3810604d72def"),
        *("attribute_with_a_long_name", "cpu · float64 · seed 0", "torch 2.13.0"),
        *("Sec. 3.3  Designing the Drifting Field", "A.6  Feature and Drift Normalization"),
        *("2e-15 ≤ 1e-10", "2e-05", "40", "not executable"),
        *("scale invariance", "1.2e-07", "3.9e-03"),
    ):
        assert part in text, part
    assert "differ from the paper's\n  none\n" in text
    assert "largest headroom: 2e-05 (field, EQ-11, drawn)" in text
    assert text.splitlines()[-1].startswith("parity holds: ")


def test_the_first_screen_has_the_outcome_the_counts_and_what_was_not_observed(
    broken_report: Report, good_report: Report
) -> None:
    first, *rest = (line.text for line in first_screen(broken_report))
    assert first.endswith("attribute_with_a_long_name deviates from the paper")
    assert "not observed: no vectorisation of maps (1 clause)" in rest
    assert any(text.startswith("clauses: ✓ 1 conforms · ≠ 1 conforms to reading") for text in rest)
    assert "headline checks: ✗ scale invariance" in rest
    assert first_screen(good_report)[0].text.endswith("conforms to the paper")


EXPLAINED = Explanation("mine", PAPER, PAPER, explained=True)
LACKS = DeviationStatement("D71", "√C missing in S", "scale", mend="Divide S by √C.")


def test_no_clause_is_wrong_and_still_it_does_not_conform(good_report: Report) -> None:
    """Where only some clauses are asked for, the explanation has the last word."""
    assert replace(good_report, explanation=EXPLAINED).exit_status == 0
    report = replace(good_report, explanation=replace(EXPLAINED, deviations=(LACKS,)))
    assert report.exit_status == 1
    assert first_screen(report)[0].text.endswith("deviates from the paper")
    assert any(line.text.startswith("D71  √C missing in S") for line in first_screen(report))
    assert wording.conclusion(report).endswith(": it has D71")
    opened = replace(EXPLAINED, explained=False, unexplained=(Unexplained("field", "x", 0.1),))
    report = replace(good_report, explanation=opened)
    assert report.exit_status == 1
    assert first_screen(report)[0].text.endswith("computes something that nothing explains")
    assert "conforms" not in wording.conclusion(report)


def test_code_that_answers_nothing_was_not_judged(broken_report: Report) -> None:
    note = "raises TypeError: the loss function returned tuple, expected a scalar"
    told = replace(
        EXPLAINED, explained=False, unexplained=(Unexplained("call", "x", 1.0),), notes=(note,)
    )
    report = replace(broken_report, explanation=told)
    assert report.exit_status == 3
    assert first_screen(report)[0].text.endswith(f"could not be judged: {note}")
    assert wording.conclusion(report).startswith("not judged: ")


def test_clauses_about_the_paper_are_counted_apart(good_report: Report) -> None:
    paper = replace(good_report.clauses[0], id="EQ-3", subject="paper")
    report = replace(good_report, clauses=(*good_report.clauses, paper))
    assert report.count("conforms") == good_report.count("conforms")
    assert "1 of 1 hold, checked on the reference" in terminal(report, 80)
    assert to_json(report)["summary"]["total"] == len(good_report.clauses)
    assert to_json(report)["paper_summary"]["total"] == 1


def test_a_section_has_one_line_and_a_failing_clause_its_example(broken_report: Report) -> None:
    lines = terminal(broken_report, 100).splitlines()
    (section,) = [line for line in lines if line.startswith("  A.6 ")]
    assert section.rstrip().endswith("✗ 1  ! 1   EQ-25 EQ-26")
    (position,) = [n for n, line in enumerate(lines) if line.startswith("  ✗ EQ-25")]
    assert "entry [0, 1] = 1.75, but should be 1.5" in " ".join(lines[position + 1 : position + 4])
    assert sum("drifting-parity report --implementation" in line for line in lines) == 1
    assert any("--clause CLAUSE --dtype float64" in line for line in lines)


def test_every_clause_stands_in_the_long_form(broken_report: Report) -> None:
    text = terminal(broken_report, 80, verbose=True)
    lines = text.splitlines()
    (position,) = [n for n, line in enumerate(lines) if line.startswith("  ✗ EQ-25")]
    under = "\n".join(lines[position + 1 : position + 9])
    together = " ".join(under.split())
    assert "entry [0, 1] = 1.75, but should be 1.5 (error 0.25, allowed 1e-10)" in together
    assert text.count("drifting-parity report --implementation") == 3
    command = next(line for line in lines if "drifting-parity report --implementation" in line)
    assert command.endswith("--clause EQ-25 --dtype float64 --seed 0")
    assert "self_mask: add_100 (paper: exclude, asked for exclude)" in " ".join(text.split())


def test_the_conclusion_is_one_line_with_the_outcome(
    good_report: Report, broken_report: Report, infinite_report: Report
) -> None:
    assert wording.conclusion(good_report).startswith("parity holds: python:package")
    broken = wording.conclusion(broken_report)
    assert broken.startswith("parity broken")
    assert "2 clauses fail; it takes self_mask=add_100" in broken
    assert wording.conclusion(infinite_report).startswith("parity broken")
    assert "\n" not in broken


def test_markdown_tables_are_whole(report: Report) -> None:
    lines = markdown(report).splitlines()
    for above, below in itertools.pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert _cells(above) == _cells(below), below


def _cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


def test_markdown_escapes_and_names_the_command(broken_report: Report) -> None:
    text = markdown(broken_report)
    assert "nothing here \\| and there" in text
    assert "`drifting-parity report --implementation python:package" in text
    assert "**EQ-25**" in text


def test_a_missing_difference_is_worded_as_such() -> None:
    from drifting_parity.measure import at_least

    item = at_least("EQ-26", "difference", "three temperatures", 0.0, 1e-3)
    assert wording.complaint(item) == (
        "difference of EQ-26 on three temperatures: 0, but should be at least 0.001"
    )
    assert wording.comparison(item) == "0 ≱ 0.001"
