"""The report for a reader at a terminal: the first screen, the sections, what fails.

The same layout, without colour, when it is piped. ``screen.py`` and ``wording.py`` hold what is
said, ``markdown.py`` the tables for CI summaries, ``as_json.py`` the JSON.
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
from drifting_parity.report.screen import Role, by_section, first_screen, section_lines
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


def terminal(
    report: Report, width: int = 100, *, colour: bool = False, verbose: bool = False
) -> str:
    """Render ``report`` for ``width`` columns; without ``colour`` the text holds no escapes.

    The first screen, a line for each section, and what fails; ``verbose`` adds every clause, the
    figures of the headline checks, all readings and the effects of deltas.
    """
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
    _first_screen(console, report)
    if verbose:
        _clauses(console, report)
        _headlines(console, report)
        _readings(console, report)
        _effects(console, report)
    else:
        _sections(console, report)
        _failing(console, report)
    _conduct(console, report)
    console.print()
    _closing(console, report, verbose=verbose)
    style = "bold green" if report.exit_status == 0 else "bold red"
    if colour:
        _paragraph(console, wording.conclusion(report), style)
    else:
        # Whoever reads it from a pipe takes the last line.
        _verbatim(console, Text(wording.conclusion(report)))
    return buffer.getvalue()


ROLES: Final[Mapping[Role, str]] = {
    "good": "green",
    "bad": "bold red",
    "other": "bold yellow",
    "plain": "default",
    "quiet": "dim",
}


def _first_screen(console: Console, report: Report) -> None:
    for line in first_screen(report):
        _paragraph(console, line.text, ROLES[line.role], line.indent, line.hang)


def _sections(console: Console, report: Report) -> None:
    """A line for each section of the paper; the clauses of one are behind ``-v``."""
    console.print()
    rows = list(section_lines(report))
    names = max(cell_len(name) for name, *_ in rows)
    titles = min(max(cell_len(title) for _, title, *_ in rows), console.width * 4 // 10)
    for name, title, text, role in rows:
        if cell_len(title) > titles:
            title = set_cell_size(title, titles - 1).rstrip() + "…"
        head = f"  {set_cell_size(name, names)}  {set_cell_size(title, titles)}  "
        room = console.width - cell_len(head)
        for position, part in enumerate(Text(text).wrap(console, room)):
            start = head if position == 0 else " " * cell_len(head)
            console.print(Text(start) + Text(part.plain.rstrip(), style=ROLES[role]))


def _failing(console: Console, report: Report) -> None:
    """What fails, each clause with its smallest example; the command for one of them once."""
    failing = [item for item in report.failing if item.verdict != "conforms to reading"]
    if not failing:
        return
    console.print()
    ids = max(cell_len(item.id) for item in failing)
    for clause in failing:
        mark = wording.MARKS[clause.verdict]
        head = f"  {mark} {set_cell_size(clause.id, ids)}  {clause.title}"
        console.print(Text(head, style=STYLES[clause.verdict]), no_wrap=True, overflow="ellipsis")
        for text in wording.explanation(clause):
            _paragraph(console, text, "default", indent=6)
    command = failing[0].reproduce.replace(failing[0].id, "CLAUSE")
    if command:
        _verbatim(console, Text(f"  {command}", style="bold"))


def _closing(console: Console, report: Report, *, verbose: bool) -> None:
    """The run's facts: whose paper, which versions; and the tightest measurement."""
    if verbose and (found := wording.largest(report)):
        clause, item = found
        size = f"{wording.number(item.headroom)} ({item.quantity}, {clause.id}, {item.case})"
        _paragraph(console, f"largest headroom: {size}", "")
    for label, value in _facts(report).items():
        _paragraph(console, f"{label:<9}{value}", "dim", hang=9)
    if not verbose:
        _paragraph(console, "-v shows every clause; explain ID says what one is", "dim")


def _paragraph(console: Console, text: str, style: str, indent: int = 0, hang: int = 0) -> None:
    """Print ``text`` wrapped, every line indented, those after the first by ``hang`` more."""
    first, rest = " " * indent, " " * (indent + hang)
    wrapped = Text(text).wrap(console, console.width - indent - hang)
    for position, line in enumerate(wrapped):
        start = rest if position else first
        console.print(Text(start) + Text(line.plain.rstrip(), style=style))


def _verbatim(console: Console, text: Text) -> None:
    """Print a line that must stay in one piece, however long, so that it can be copied."""
    console.print(text, soft_wrap=True)


def _facts(report: Report) -> dict[str, str]:
    facts = report.environment
    versions = [f"{name} {facts[name]}" for name in _VERSIONS if name in facts]
    run = [facts.get("device", ""), facts.get("dtype", ""), f"seed {facts.get('seed', '')}"]
    if facts.get("quick") == "true":
        run.append("quick: fewer cases")
    run += [facts.get("platform", ""), f"{report.seconds:.1f} s"]
    paper = report.paper
    note = facts.get("arithmetic")
    return ({"note": note} if note else {}) | {
        "paper": f"{paper['title']}, {paper['authors']}, arXiv {paper['arxiv']}",
        "sha256": paper["scan_sha256"],
        "readings": report.readings,
        "run": " · ".join(run),
        "versions": " · ".join([f"{report.tool['name']} {report.tool['version']}", *versions]),
    }


_VERSIONS: Final = ("python", "numpy", "scipy", "torch")


def _clauses(console: Console, report: Report) -> None:
    heading = _columns("error ≤ allowed", "headroom", "cases")
    console.print()
    console.print(Text(heading.rjust(console.width), style="dim"))
    for name, members in by_section(report).items():
        title = report.sections.get(name, "")
        console.print(Text(f"{wording.section(name)}  {title}".rstrip(), style="bold"))
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


def _conduct(console: Console, report: Report) -> None:
    """List what the implementation did beside answering."""
    if not report.conduct:
        return
    console.print()
    console.print(Text("Conduct: what it did beside answering", style="bold"))
    for item in report.conduct:
        mark, style = ("✗", "bold red") if item.failing else ("·", "default")
        _paragraph(console, f"{mark} {item}", style, indent=2)


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
