"""What judged code does beside answering: its conduct, as the report tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal[
    "inputs",
    "ended",
    "no answer",
    "left",
    "not called",
    "global state",
    "random numbers",
    "printed",
    "processes",
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

FAILING: Final[frozenset[Kind]] = frozenset({"inputs", "ended", "no answer", "left", "not called"})
"""Kinds after which nothing that was measured in that call counts as conforming."""


@dataclass(frozen=True)
class Conduct:
    """One thing that judged code did: ``what`` in words, ``where`` it was first seen, how often."""

    kind: Kind
    what: str
    where: str = ""
    count: int = 1

    @property
    def failing(self) -> bool:
        """Whether it breaks parity, whatever was measured."""
        return self.kind in FAILING

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.what}{place}{times}"


def together(items: list[Conduct]) -> tuple[Conduct, ...]:
    """Collect those of one kind and words; the first place is kept, the counts are added."""
    first: dict[tuple[str, str], Conduct] = {}
    for item in items:
        known = first.get((item.kind, item.what))
        count = item.count + (known.count if known else 0)
        kept = known or item
        first[item.kind, item.what] = Conduct(kept.kind, kept.what, kept.where, count)
    order = {kind: position for position, kind in enumerate(KINDS)}
    return tuple(sorted(first.values(), key=lambda item: order[item.kind]))


__all__ = ["FAILING", "KINDS", "Conduct", "Kind", "together"]
