"""The explanation in words: the first screen of a report."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from drifting_parity.explanation.data import (
    DeviationStatement,
    Explanation,
    ReadingStatement,
    Unexplained,
)

WIDTH: Final = 100
"""The longest line."""

NAMED: Final = 5
"""How many names stand in a line before the rest are counted."""

MAPPED: Final = {
    "deviates": "deviates from the paper",
    "reading": "computes the paper under other readings than those asked for",
    "as asked": "computes what the readings asked for say",
    "unexplained": "computes something that no catalogued change explains",
    "nothing": "showed nothing that could be judged",
}


def verdict(explanation: Explanation) -> str:
    """One sentence: what the implementation is, as far as it was seen."""
    if explanation.deviations or (explanation.explained and explanation.dials):
        kind = "deviates"
    elif explanation.unexplained:
        kind = "unexplained"
    elif not explanation.explained:
        kind = "nothing"
    elif explanation.taken != explanation.asked:
        kind = "reading"
    else:
        kind = "as asked"
    return f"drifting-parity: {explanation.implementation} {MAPPED[kind]}"


def first_screen(explanation: Explanation, width: int = WIDTH) -> list[str]:
    """Verdict, what differs with its effect and its mend, what holds, what was not seen."""
    lines = [verdict(explanation), *statement_lines(explanation, width)]
    unseen = unseen_words(explanation)
    if unseen:
        lines += _wrapped(f"not seen: {', '.join(unseen)}", width, "")
    return lines


def statement_lines(explanation: Explanation, width: int = WIDTH) -> list[str]:
    """What differs with its effect and its mend, what was measured, what holds and how far."""
    lines: list[str] = []
    for item in explanation.deviations:
        lines += _deviation(item, width)
    for item in explanation.readings:
        if item.seen and item.reading != getattr(explanation.asked, item.axis):
            lines += _reading(item, getattr(explanation.asked, item.axis), width)
    for dial in explanation.dials:
        law = f", {dial.law}" if dial.law else ""
        lines += _wrapped(f"measured  {dial.name}: {dial.value:.6g}{law}  ({dial.stage})", width)
    for item in explanation.unexplained:
        lines += _wrapped(f"unexplained from here: {item.stage}, {_open(item)}", width)
    lines += _held(explanation, width)
    for note in explanation.notes:
        lines += _wrapped(f"note: {note}", width, "")
    return lines


def _deviation(item: DeviationStatement, width: int) -> list[str]:
    sizes = ", ".join(f"{_words(name)} {_number(value)}" for name, value in item.parameters.items())
    head = f"{item.id}  {item.title}" + (f": {sizes}" if sizes else "")
    lines = _wrapped(head, width)
    lines += _wrapped(" · ".join((*item.clauses, item.effect)), width, "       ")
    if item.mend:
        lines += _wrapped(item.mend, width, "       ")
    if item.alike:
        lines += _wrapped(f"not told apart from {several(item.alike)}", width, "       ")
    return lines


def several(names: Sequence[str]) -> str:
    """The names; of many the first, and how many more there are."""
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _reading(item: ReadingStatement, asked: str, width: int) -> list[str]:
    text = f"reading  {item.axis}={item.reading} in place of {asked}"
    lines = _wrapped(text, width)
    tail = [f"not told apart from {several(item.alike)}"] if item.alike else []
    tail = [*([item.effect] if item.effect else []), *tail, f"explain {item.axis}"]
    return lines + _wrapped(" · ".join(tail), width, "       ")


def _held(explanation: Explanation, width: int) -> list[str]:
    confirmation = explanation.confirmation
    if not confirmation.cases or explanation.unexplained:
        return []
    worst = max(confirmation.worst_value, confirmation.worst_gradient)
    reach = f"to {worst:.0e}" if worst else "exactly"
    sizes = " ".join(f"{key}≤{size}" for key, size in confirmation.largest_sizes.items())
    lines = _wrapped(
        f"explained {reach} on {confirmation.cases} fresh cases (value and gradient; {sizes})",
        width,
        "",
    )
    failing = [item.probe for item in explanation.range if not item.holds]
    if failing:
        lines += _wrapped(f"it does not hold for {', '.join(failing)}", width, "")
    return lines


def unseen_words(explanation: Explanation) -> list[str]:
    """What did not show, in words."""
    return [item.replace("_", " ") for item in explanation.not_seen]


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _open(item: Unexplained) -> str:
    """Where a stage is not explained, and by how much."""
    if item.size < float("inf"):
        return f"{item.size:.1e} off on {item.probe}"
    return f"no number, or of another shape, on {item.probe}"


def as_text(lines: Sequence[str]) -> str:
    """The lines as one text."""
    return "\n".join(lines) + "\n"
