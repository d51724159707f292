"""Curves and effects that the pages draw: ``python -m drifting_parity.catalogue.curves``.

Measuring them imports SciPy and PyTorch and takes half a minute, so the numbers ship as
``curves.json`` (deltas and deviations), ``deviations.json`` (what each variant of a deviation
does at Table 8's sizes), ``readings.json`` (what each reading does) and ``worked.json`` (examples
to follow by hand). A test measures a part of them anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drifting_parity.explanation.deviation_effects import DeviationEffect, ReadingEffect
    from drifting_parity.witnesses.curves import Curve
    from drifting_parity.witnesses.worked import Worked

CURVES: Final = Path(__file__).with_name("curves.json")
WORKED: Final = Path(__file__).with_name("worked.json")
DEVIATIONS: Final = Path(__file__).with_name("deviations.json")
READINGS: Final = Path(__file__).with_name("readings.json")


@dataclass(frozen=True)
class Shipped:
    """A curve as it ships: lines of (label, x, y), marks of (label, x)."""

    id: str
    title: str
    says: str
    x: str
    y: str
    series: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    log_x: bool
    log_y: bool
    marks: tuple[tuple[str, float], ...]


@cache
def shipped_curves() -> tuple[Shipped, ...]:
    """Read the curves that ship."""
    return tuple(_shipped(entry) for entry in json.loads(CURVES.read_text(encoding="utf-8")))


def _shipped(entry: dict[str, Any]) -> Shipped:
    lines = tuple((line["label"], tuple(line["x"]), tuple(line["y"])) for line in entry["series"])
    values: dict[str, Any] = {**entry, "series": lines, "marks": tuple(map(tuple, entry["marks"]))}
    return Shipped(**values)


@cache
def shipped_effects() -> dict[str, tuple[tuple[str, str], ...]]:
    """Read what each deviation does, by id: (variant, what it does)."""
    effects: dict[str, list[tuple[str, str]]] = {}
    for entry in json.loads(DEVIATIONS.read_text(encoding="utf-8")):
        effects.setdefault(entry["id"], []).append((entry["variant"], entry["says"]))
    return {identifier: tuple(items) for identifier, items in effects.items()}


@cache
def shipped_reading_effects() -> dict[tuple[str, str], str]:
    """Read what each reading does against the paper's, by axis and reading."""
    entries = json.loads(READINGS.read_text(encoding="utf-8"))
    return {(entry["axis"], entry["reading"]): entry["says"] for entry in entries}


@dataclass(frozen=True)
class ShippedExample:
    """An example as it ships: what is given, then (clause, TeX, value) step by step."""

    section: str
    given: str
    steps: tuple[tuple[str, str, str], ...]


@cache
def shipped_examples() -> tuple[ShippedExample, ...]:
    """Read the examples that ship."""
    return tuple(
        ShippedExample(
            entry["section"],
            entry["given"],
            tuple((step["clause"], step["tex"], step["value"]) for step in entry["steps"]),
        )
        for entry in json.loads(WORKED.read_text(encoding="utf-8"))
    )


def rendered_examples(examples: Iterable[Worked]) -> str:
    """Write examples as the file's text, one on each line."""
    return _lines(asdict(item) for item in examples)


def rendered_curves(curves: Iterable[Curve]) -> str:
    """Write curves as the file's text, one on each line."""
    return _lines(asdict(item) for item in curves)


def rendered_effects(effects: Iterable[DeviationEffect | ReadingEffect]) -> str:
    """Write effects as the file's text, one on each line."""
    return _lines(asdict(item) for item in effects)


def _lines(entries: Iterable[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in entries) + "\n]\n"


def main() -> None:
    """Measure everything and write the files."""
    from drifting_parity.explanation.deviation_effects import (
        deviation_curves,
        deviation_effects,
        reading_effects,
    )
    from drifting_parity.witnesses.curves import measure_curves
    from drifting_parity.witnesses.worked import worked_examples

    WORKED.write_text(rendered_examples(worked_examples()), encoding="utf-8")
    text = rendered_curves([*measure_curves(), *deviation_curves()])
    CURVES.write_text(text, encoding="utf-8")
    DEVIATIONS.write_text(rendered_effects(deviation_effects()), encoding="utf-8")
    READINGS.write_text(rendered_effects(reading_effects()), encoding="utf-8")


if __name__ == "__main__":
    main()
