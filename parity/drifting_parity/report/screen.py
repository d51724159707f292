"""The first screen of a report: what the code computes, where it differs, what was not seen.

Plain lines, whatever the format: the terminal colours them, Markdown and HTML set them in their
own way. It is said in this order: the outcome; the explanation, or where none was found what was
measured; what was not seen; how many clauses got which verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from drifting_parity.explanation.wording import statement_lines
from drifting_parity.report import wording
from drifting_parity.report.data import FAILING, ClauseReport, Report

Role = Literal["good", "bad", "other", "plain", "quiet"]


@dataclass(frozen=True)
class Line:
    """A line of the first screen; ``indent`` columns in, ``hang`` more where it is wrapped."""

    text: str
    role: Role = "plain"
    indent: int = 0
    hang: int = 0


def first_screen(report: Report, width: int = 0) -> list[Line]:
    """Lines of the first screen, the outcome first; what is said of the code in ``width``."""
    explained = _explained(report, width or NARROWEST)
    return [outcome(report), *explained, *_unobserved(report), *_counted(report)]


Outcome = Literal["conforms", "readings", "deviates", "unexplained", "not judged"]
"""How an implementation stands to what it is held to, in one word or two."""


def outcome(report: Report) -> Line:
    """Say in one line how the implementation stands to what it is held to."""
    kind, phrase = concluded(report)
    role: dict[Outcome, Role] = {"conforms": "good", "readings": "other"}
    return Line(f"drifting-parity: {report.implementation} {phrase}", role.get(kind, "bad"))


def concluded(report: Report) -> tuple[Outcome, str]:
    """How the implementation stands to what it is held to: in a word, and as the end of a line."""
    held = "the paper" if report.readings == "paper" else f"readings {report.readings}"
    status = report.exit_status
    if report.unanswered:
        return "not judged", f"could not be judged: {report.unanswered}"
    if status == 3:
        return "not judged", "was not judged: it lets no clause be observed"
    broken = any(item.verdict in {"deviates", "raises"} for item in report.of_implementation)
    told = report.explanation
    if status == 1 and (broken or report.misconduct or (told is not None and told.deviations)):
        return "deviates", f"deviates from {held}"
    if status == 1 and report.unlike:
        return "unexplained", "computes something that nothing explains"
    if status == 1:
        return "readings", f"takes other readings than {held}"
    return "conforms", f"conforms to {held}"


def _explained(report: Report, width: int) -> Iterator[Line]:
    if report.explanation is None:
        return
    for text in statement_lines(report.explanation, width):
        indent = len(text) - len(text.lstrip())
        yield Line(text.strip(), "plain", indent)


def _unobserved(report: Report) -> Iterator[Line]:
    """What could not be seen, by its reason: the three that hide most, the rest counted."""
    unseen = [item for item in report.of_implementation if item.verdict == "not observable"]
    reasons = Counter(item.detail.partition(";")[0] for item in unseen)
    shown = reasons.most_common(_REASONS)
    for reason, count in shown:
        clauses = f"{count} clause{'s' if count > 1 else ''}"
        yield Line(f"not observed: {reason} ({clauses})", "quiet", hang=2)
    if rest := len(reasons) - len(shown):
        yield Line(f"and for {rest} more reason{'s' if rest > 1 else ''}", "quiet", indent=2)


_REASONS: Final = 3

NARROWEST: Final = 80
"""Columns that the explanation's lines keep to, whatever the terminal."""


def _counted(report: Report) -> Iterator[Line]:
    yield Line(f"clauses: {wording.counts(report)}", "plain", hang=2)
    headlines = [
        f"{wording.MARKS[wording.together(outcomes)]} {name}"
        for name, outcomes in wording.headlines(report)
    ]
    if headlines:
        yield Line(f"headline checks: {' · '.join(headlines)}", "plain", hang=2)
    if report.of_paper:
        yield Line(wording.paper_counts(report), "quiet", hang=2)


def section_lines(report: Report) -> Iterator[tuple[str, str, str, Role]]:
    """One row for each section: its name, its title, how its clauses stand, and the worst of it."""
    for section, members in by_section(report).items():
        counted = Counter(item.verdict for item in members)
        parts = [
            f"{wording.MARKS[verdict]} {counted[verdict]}"
            for verdict in wording.MARKS
            if verdict in counted
        ]
        failing = [item.id for item in members if item.verdict in FAILING]
        role: Role = "good" if not failing else "bad"
        if failing and all(i.verdict == "conforms to reading" for i in members if i.id in failing):
            role = "other"
        text = "  ".join(parts) + (f"   {' '.join(failing)}" if failing else "")
        yield wording.section(section), report.sections.get(section, ""), text, role


def by_section(report: Report) -> dict[str, list[ClauseReport]]:
    """The clauses of each section that has any, in the order of the paper."""
    names = dict.fromkeys([*report.sections, *(clause.section for clause in report.clauses)])
    members = {
        name: [clause for clause in report.clauses if clause.section == name] for name in names
    }
    return {name: clauses for name, clauses in members.items() if clauses}
