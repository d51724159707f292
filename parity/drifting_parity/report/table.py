"""Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def cell(text: object) -> str:
    """Markdown as it is, but for a bar, which would end the cell."""
    return str(text).replace("|", "\\|")


def plain_cell(text: object) -> str:
    """Text that cannot break out of a table's cell, nor be taken for Markdown or HTML."""
    safe = str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(safe.replace("*", "\\*").replace("_", "\\_").split())


def table(
    heads: Iterable[str],
    rows: Iterable[Iterable[object]],
    cell: Callable[[object], str] = plain_cell,
) -> list[str]:
    """Lines of a Markdown table; ``cell`` makes what is safe in one."""
    names = list(heads)
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    return lines + [f"| {' | '.join(map(cell, row))} |" for row in rows]
