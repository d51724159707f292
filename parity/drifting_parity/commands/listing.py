"""``drifting-parity list``: one line per entry, its id first."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from drifting_spec import AXES, PRESETS
from drifting_spec.registry import Clause, load, preset_readings

Row = Sequence[str]


def listing(kind: str, form: str = "terminal") -> str:
    """Everything of one kind: aligned columns with a head, or JSON, one object for each entry.

    Columns are cut to the width on a terminal alone.
    """
    heads, rows = LISTS[kind]()
    if form == "json":
        entries = [dict(zip(heads, row, strict=True)) for row in rows]
        return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    return _aligned([heads, *rows])


def _aligned(rows: Iterable[Row]) -> str:
    table = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if room is not None:
        _make_room(widths, room)
    lines: list[str] = []
    for row in table:
        cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        lines.append(line if room is None else _cut(line, room))
    return "\n".join(lines) + "\n"


def _make_room(widths: list[int], room: int) -> None:
    """Narrow the widest columns between the id and the last one, which gets a quarter at least."""
    inner = range(1, len(widths) - 1)
    while inner and sum(widths[:-1]) + 2 * len(inner) > 3 * room // 4:
        widest = max(inner, key=lambda index: widths[index])
        if widths[widest] <= 8:
            return
        widths[widest] -= 1


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _clauses() -> tuple[Row, list[Row]]:
    rows = [(item.id, item.section, _asked(item), item.title) for item in load().clauses.values()]
    return ("clause", "section", "checked", "title"), list(rows)


def _asked(clause: Clause) -> str:
    return "yes" if clause.executable else "no"


def _readings() -> tuple[Row, list[Row]]:
    rows: list[Row] = []
    for axis, readings in AXES.items():
        taken = preset_readings(axis)
        rows.append((axis, *(taken[name] for name in PRESETS), ", ".join(readings)))
    return ("axis", *PRESETS, "readings"), rows


def _deltas() -> tuple[Row, list[Row]]:
    entries = load().deltas.values()
    return ("delta", "of", "title"), [(item.id, item.kind, item.title) for item in entries]


def _effects() -> tuple[Row, list[Row]]:
    entries = load().witnesses.values()
    rows = [(item.id, item.band, item.unit, item.title) for item in entries]
    return ("effect", "band", "unit", "title"), list(rows)


def _deviations() -> tuple[Row, list[Row]]:
    rows = [(item.id, ", ".join(item.clauses), item.title) for item in load().deviations.values()]
    return ("deviation", "clauses", "title"), list(rows)


def _checks() -> tuple[Row, list[Row]]:
    from drifting_parity.catalogue.check_index import indexed

    rows = [(item.id, item.kind, " ".join(item.clauses), item.title) for item in indexed()]
    return ("check", "kind", "clauses", "title"), list(rows)


def _cases() -> tuple[Row, list[Row]]:
    from drifting_parity.golden import manifests

    rows = [
        (item.id, item.set, item.conditioning, item.source, item.exercises) for item in manifests()
    ]
    return ("case", "set", "conditioning", "source", "exercises"), list(rows)


LISTS: Final[dict[str, Callable[[], tuple[Row, list[Row]]]]] = {
    "clauses": _clauses,
    "readings": _readings,
    "deltas": _deltas,
    "effects": _effects,
    "deviations": _deviations,
    "checks": _checks,
    "cases": _cases,
}
