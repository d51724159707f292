"""A comparison for a reader at a terminal, and as Markdown."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from drifting_parity.report import wording
from drifting_parity.report.comparison import (
    MARKS,
    ROLES,
    ClauseRow,
    Comparison,
    StageRow,
    heading,
    said,
    sources,
)
from drifting_parity.report.data import FAILING
from drifting_parity.report.saved import Standing
from drifting_parity.report.stages import State
from drifting_parity.report.table import plain_cell, table
from drifting_parity.report.terminal import NARROWEST, STYLES, WIDEST
from drifting_parity.report.terminal import ROLES as STYLE_OF

COLUMN: Final = 7
"""Cells of one implementation's column where a figure stands beside the mark, else three."""

NARROW: Final = 3
MOST: Final = 40
"""Clauses shown at a terminal before the rest is counted."""


def terminal(
    comparison: Comparison, width: int = 100, *, colour: bool = False, verbose: bool = False
) -> str:
    """Render for ``width`` columns; ``verbose`` shows every clause, not those that fail alone."""
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
    _print(console, heading(comparison), "bold")
    for letter, item in comparison.lettered:
        _print(console, f"{letter}  {item.name}", "bold", 2, 3)
        role = ROLES.get(item.outcome, "bad")
        _print(console, item.phrase, STYLE_OF[role], 5, 2)
        for text in said(item):
            _print(console, text, "default", 5, 2)
        _print(console, sources(item), "dim", 5, 2)
    _stages(console, comparison)
    _clauses(console, comparison, verbose=verbose)
    return buffer.getvalue()


def _print(console: Console, text: str, style: str, indent: int = 0, hang: int = 0) -> None:
    for position, line in enumerate(Text(text).wrap(console, console.width - indent - hang)):
        start = " " * (indent + (hang if position else 0))
        console.print(Text(start) + Text(line.plain.rstrip(), style=style))


def _blocks(comparison: Comparison, room: int, column: int) -> Iterator[slice]:
    """The implementations in as many rows of columns as fit into ``room`` cells."""
    step = max(1, room // column)
    for start in range(0, len(comparison.entries), step):
        yield slice(start, start + step)


def _head(comparison: Comparison, title: str, names: int, column: int, block: slice) -> Text:
    letters = "".join(f"{letter:<{column}}" for letter, _ in comparison.lettered[block])
    return Text(f"{set_cell_size(title, names)}  {letters}".rstrip(), style="bold")


def _stages(console: Console, comparison: Comparison) -> None:
    rows = comparison.stages()
    if not rows:
        return
    names = max(cell_len(row.title) for row in rows) + 2
    for block in _blocks(comparison, console.width - names - 2, NARROW):
        console.print()
        console.print(_head(comparison, "stages", names, NARROW, block))
        for row in rows:
            line = Text(set_cell_size(f"  {row.title}", names) + "  ")
            for stage in row.stages[block]:
                state = "not observed" if stage is None else stage.state
                line.append(f"{MARKS[state]:<{NARROW}}", style=STATES[state])
            line.rstrip()
            console.print(line)
    used = {"not observed" if s is None else s.state for row in rows for s in row.stages}
    legend = " · ".join(f"{mark} {LEGEND[state]}" for state, mark in MARKS.items() if state in used)
    _print(console, legend, "dim", 2, 2)


LEGEND: Final[Mapping[State, str]] = {
    "conforms": "conforms",
    "reading": "takes another reading",
    "follows": "fails by a deviation at another stage",
    "deviates": "deviates",
    "raises": "raises",
    "not observed": "not observed, or little of it",
}
"""What the marks of stages mean."""

STATES: Final[Mapping[State, str]] = {
    "conforms": "green",
    "reading": "bold yellow",
    "follows": "yellow",
    "deviates": "bold red",
    "raises": "bold red",
    "not observed": "dim",
}


def _clauses(console: Console, comparison: Comparison, *, verbose: bool) -> None:
    counts = comparison.counts()
    names = max((len(verdict) for verdict, _ in counts), default=0) + 4
    for block in _blocks(comparison, console.width - names - 2, COLUMN):
        console.print()
        console.print(_head(comparison, "clauses", names, COLUMN, block))
        for verdict, numbers in counts:
            start = set_cell_size(f"  {wording.MARKS[verdict]} {verdict}", names)
            line = "".join(f"{number:<{COLUMN}}" for number in numbers[block]).rstrip()
            console.print(Text(f"{start}  {line}"))
    rows = comparison.clauses() if verbose else comparison.failing()
    if not rows:
        return
    shown = rows if verbose else rows[:MOST]
    title = "each clause, its error" if verbose else "not as asked, its error"
    ids = max(len(title), *(cell_len(row.id) + 2 for row in shown))
    room = console.width - ids - 2
    column = COLUMN if COLUMN * len(comparison.entries) <= room else NARROW
    for block in _blocks(comparison, room, column):
        console.print()
        console.print(_head(comparison, title, ids, column, block))
        for row in shown:
            line = Text(set_cell_size(f"  {row.id}", ids) + "  ")
            for standing in row.standings[block]:
                text, style = _standing(standing, column)
                line.append(set_cell_size(text, column), style=style)
            left = console.width - cell_len(line.plain) - 2
            if left >= _TITLE:
                text = row.title if cell_len(row.title) <= left else f"{row.title[: left - 1]}…"
                line.append(f" {text}", style="dim")
            line.rstrip()
            console.print(line, no_wrap=True)
    if len(shown) < len(rows):
        _print(console, f"and {len(rows) - len(shown)} more: -v shows every clause", "dim", 2)


_TITLE: Final = 12
"""Cells below which a clause's title says nothing."""


def _standing(standing: Standing | None, column: int) -> tuple[str, str]:
    if standing is None:
        return "", "dim"
    mark = wording.MARKS[standing.verdict]
    if standing.verdict == "deviates" and column >= COLUMN:
        return f"{mark}{_short(standing.observed)}", STYLES[standing.verdict]
    return mark, STYLES[standing.verdict]


def _short(value: float) -> str:
    """A measured error in five characters, nothing where there is none."""
    text = wording.number(value) if value == value else ""
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")[:5]


def markdown(comparison: Comparison) -> str:
    """Render as GitHub-flavoured Markdown: the scoreboard, the stages, the clauses that fail."""
    lines = [f"## {plain_cell(heading(comparison))}", ""]
    heads = ("", "implementation", "outcome", "what explains it", "clauses")
    rows = [
        (letter, item.name, item.phrase, "; ".join(said(item)), _counted(comparison, at))
        for at, (letter, item) in enumerate(comparison.lettered)
    ]
    lines += table(heads, rows)
    letters = [letter for letter, _ in comparison.lettered]
    lines += [
        "",
        "### Stages",
        "",
        *table(("stage", *letters), map(_stage_row, comparison.stages())),
    ]
    failing = comparison.failing()
    lines += ["", "### Clauses in which one is not as asked", ""]
    if failing:
        lines += table(("clause", "title", *letters), map(_clause_row, failing))
    else:
        lines.append("none")
    lines += ["", "### The runs", ""]
    lines += table(("", "run"), ((letter, sources(item)) for letter, item in comparison.lettered))
    marks = " · ".join(f"{mark} {verdict}" for verdict, mark in wording.MARKS.items())
    states = " · ".join(f"{mark} {LEGEND[state]}" for state, mark in MARKS.items())
    return (
        "\n".join([*lines, "", f"stages: {plain_cell(states)}; clauses: {plain_cell(marks)}"])
        + "\n"
    )


def _counted(comparison: Comparison, at: int) -> str:
    return " · ".join(
        f"{wording.MARKS[verdict]} {numbers[at]}"
        for verdict, numbers in comparison.counts()
        if numbers[at]
    )


def _stage_row(row: StageRow) -> Sequence[str]:
    return (row.title, *(MARKS["not observed" if s is None else s.state] for s in row.stages))


def _clause_row(row: ClauseRow) -> Sequence[str]:
    return (row.id, row.title, *(_figure(standing) for standing in row.standings))


def _figure(standing: Standing | None) -> str:
    if standing is None:
        return ""
    mark = wording.MARKS[standing.verdict]
    failing = standing.verdict in FAILING and standing.observed == standing.observed
    return f"{mark} {wording.number(standing.observed)}" if failing else mark
