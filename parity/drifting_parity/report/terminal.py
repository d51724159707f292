"""The report for a reader at a terminal: the paper's sections with a line per clause.

The same layout, without colour, when it is piped. ``wording.py`` holds what is said,
``markdown.py`` the tables for CI summaries, ``report.py`` the JSON.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from drifting_parity.measure import Figure
from drifting_parity.report import wording
from drifting_parity.report.data import FAILING, NO_READING, ClauseReport, Report, Verdict
from drifting_spec import PAPER

STYLES: Final[Mapping[Verdict, str]] = {
    "conforms": "green",
    "by definition": "cyan",
    "conforms to reading": "bold yellow",
    "deviates": "bold red",
    "raises": "bold red",
    "not observable": "yellow",
    "not executable": "dim",
}
NARROWEST: Final = 72
WIDEST: Final = 120
_NUMBERS: Final = 32
"""Cells that observed ≤ allowed, headroom and cases take at the end of a clause's line."""


def terminal(report: Report, width: int = 100, *, colour: bool = False) -> str:
    """Render ``report`` for ``width`` columns; without ``colour`` the text holds no escapes."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=max(NARROWEST, min(width, WIDEST)),
        force_terminal=colour,
        color_system="auto" if colour else None,
        highlight=False,
        emoji=False,
        markup=False,
    )
    _header(console, report)
    _clauses(console, report)
    _headlines(console, report)
    _readings(console, report)
    _effects(console, report)
    console.print()
    _paragraph(console, wording.counts(report), "")
    if found := wording.largest(report):
        clause, item = found
        size = f"{wording.number(item.headroom)} ({item.quantity}, {clause.id}, {item.case})"
        _paragraph(console, f"largest headroom: {size}", "")
    style = "bold green" if report.exit_status == 0 else "bold red"
    if colour:
        _paragraph(console, wording.conclusion(report), style)
    else:
        # Whoever reads it from a pipe takes the last line.
        _verbatim(console, Text(wording.conclusion(report)))
    return buffer.getvalue()


def _paragraph(console: Console, text: str, style: str, indent: int = 0) -> None:
    """Print ``text`` wrapped, every line indented."""
    for line in Text(text).wrap(console, console.width - indent):
        console.print(Text(" " * indent) + Text(line.plain.rstrip(), style=style))


def _verbatim(console: Console, text: Text) -> None:
    """Print a line that must stay in one piece, however long, so that it can be copied."""
    console.print(text, soft_wrap=True)


def _header(console: Console, report: Report) -> None:
    facts = report.environment
    versions = [f"{name} {facts[name]}" for name in _VERSIONS if name in facts]
    run = [facts.get("device", ""), facts.get("dtype", ""), f"seed {facts.get('seed', '')}"]
    if facts.get("quick") == "true":
        run.append("quick: fewer cases")
    run += [facts.get("platform", ""), f"{report.seconds:.1f} s"]
    paper = report.paper
    lines = {
        "judged": report.implementation,
        "paper": f"{paper['title']}, {paper['authors']}, arXiv {paper['arxiv']}",
        "sha256": paper["scan_sha256"],
        "readings": report.readings,
        "run": " · ".join(run),
        "versions": " · ".join(versions),
    }
    if note := facts.get("arithmetic"):
        lines["note"] = note
    tool = f"{report.tool['name']} {report.tool['version']}"
    console.print(Text(f"{tool}: parity report", style="bold"))
    for label, value in lines.items():
        _verbatim(console, Text(f"  {label:<9}", style="dim") + Text(value, style="default"))


_VERSIONS: Final = ("python", "numpy", "scipy", "torch")


def _clauses(console: Console, report: Report) -> None:
    heading = _columns("error ≤ allowed", "headroom", "cases")
    console.print()
    console.print(Text(heading.rjust(console.width), style="dim"))
    names = list(report.sections)
    for section in dict.fromkeys([*names, *(clause.section for clause in report.clauses)]):
        members = [clause for clause in report.clauses if clause.section == section]
        if members:
            title = report.sections.get(section, "")
            console.print(Text(f"{_section(section)}  {title}".rstrip(), style="bold"))
            checked = [clause for clause in members if clause.verdict != "not executable"]
            ids = max((cell_len(clause.id) for clause in checked), default=0)
            for clause in checked:
                _line(console, clause, ids)
                _under(console, clause)
            _not_executable(console, [clause for clause in members if clause not in checked])


def _not_executable(console: Console, clauses: Sequence[ClauseReport]) -> None:
    """Name them in one line; a single one with its reason, `explain` has those of the others."""
    if not clauses:
        return
    mark = wording.MARKS["not executable"]
    text = f"{mark} not executable: {', '.join(clause.id for clause in clauses)}"
    if len(clauses) == 1:
        text += f" ({clauses[0].detail})" if clauses[0].detail else ""
    _paragraph(console, text, "dim", indent=2)


def _section(name: str) -> str:
    return f"Sec. {name}" if name[0].isdigit() else name


def _columns(size: str, headroom: str, cases: str) -> str:
    return f"{size:>17} {headroom:>8} {cases:>5}"


def _line(console: Console, clause: ClauseReport, ids: int) -> None:
    worst = clause.worst
    if clause.verdict in {"not observable", "not executable"} or worst is None:
        numbers = clause.verdict.rjust(_NUMBERS)
    else:
        size = wording.comparison(worst)
        numbers = _columns(size, wording.number(worst.headroom), str(clause.cases))
    style = STYLES[clause.verdict]
    titles = console.width - ids - _NUMBERS - 6
    title = clause.title
    if cell_len(title) > titles:
        title = set_cell_size(title, titles - 1).rstrip() + "…"
    line = Text(f"  {wording.MARKS[clause.verdict]} ", style=style)
    line.append(set_cell_size(clause.id, ids), style=style)
    line.append(f" {set_cell_size(title, titles)} ", style="dim" if worst is None else "default")
    line.append(numbers, style="default" if clause.verdict == "conforms" else style)
    console.print(line, no_wrap=True)


def _under(console: Console, clause: ClauseReport) -> None:
    """Say what is wrong with a clause, and the command that shows it again."""
    failing = clause.verdict in FAILING
    if not failing and clause.verdict != "not observable":
        return
    first, *rest = wording.explanation(clause) or [""]
    _paragraph(console, f"{clause.verdict}: {first}", STYLES[clause.verdict], indent=6)
    for text in rest:
        _paragraph(console, text, "default", indent=6)
    if failing and clause.reproduce:
        _verbatim(console, Text(f"      {clause.reproduce}", style="bold"))


def _headlines(console: Console, report: Report) -> None:
    found = wording.headlines(report)
    if not found:
        return
    console.print()
    console.print(Text("Headline checks", style="bold"))
    for name, outcomes in found:
        verdict = wording.together(outcomes)
        mark = Text(f"  {wording.MARKS[verdict]} ", style=STYLES[verdict])
        console.print(mark + Text(name, style="bold"))
        _figures(console, [f for item in outcomes for f in item.figures if f.headline == name])
        for outcome in outcomes:
            if reason := outcome.error or outcome.not_observable:
                _paragraph(console, reason, STYLES[verdict], indent=6)


def _figures(console: Console, figures: Sequence[Figure]) -> None:
    """Labels in a column, values beside it; a label too long for it gets a line of its own."""
    widest = max((cell_len(figure.label) for figure in figures), default=0)
    column = min(widest, console.width * 6 // 10)
    for figure in figures:
        label = figure.label
        if cell_len(label) > column:
            _paragraph(console, label, "default", indent=6)
            label = ""
        for line in Text(figure.value).wrap(console, console.width - column - 8):
            text = f"      {set_cell_size(label, column)}  {line.plain}"
            console.print(Text(text.rstrip()))
            label = ""


def _readings(console: Console, report: Report) -> None:
    """List the axes on which it reads, or was asked to read, otherwise than the paper does."""
    console.print()
    papers = {axis.id: str(getattr(PAPER, axis.id, "")) for axis in report.axes}
    shown = [axis for axis in report.axes if axis.differs or axis.expected != papers[axis.id]]
    unseen = [axis.id for axis in report.axes if axis.reading == "not observable"]
    console.print(Text("Readings that differ from the paper's", style="bold"))
    if not shown and not all(axis.evidence == NO_READING for axis in report.axes):
        console.print(Text("  none"))
    for axis in shown:
        seen = axis.reading != "not observable"
        mark = "≠" if axis.differs else ("✓" if seen else "?")
        asked = f", asked for {axis.expected}" if axis.differs else ""
        text = (
            f"{mark} {axis.id}: {axis.reading} (paper: {papers[axis.id]}{asked}); {axis.evidence}"
        )
        _paragraph(console, text, "bold yellow" if axis.differs else "default", indent=2)
    if unseen and all(axis.evidence == NO_READING for axis in report.axes):
        _paragraph(console, NO_READING, "bold yellow", indent=2)
    elif unseen:
        _paragraph(console, f"not observable: {', '.join(unseen)}", "dim", indent=2)


def _effects(console: Console, report: Report) -> None:
    """Say how many effects of deltas were measured, and show those that left their bands."""
    if not report.effects:
        return
    console.print()
    console.print(Text("Deltas: measured effects", style="bold"))
    _paragraph(console, wording.effects(report), "default", indent=2)
    for item in report.effects:
        if not item.within:
            text = f"✗ {item.id} {item.witness.title}: {wording.effect(item)}"
            _paragraph(console, text, "bold red", indent=2)
    _paragraph(console, "each of them: drifting-parity list effects", "dim", indent=2)
