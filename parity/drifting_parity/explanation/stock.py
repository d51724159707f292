"""Taking stock: what an implementation can be asked, and how it runs, before anything is searched.

What it takes was learnt by :mod:`drifting_parity.adapters.capabilities`. Code whose answers change
from call to call stops here: whatever was said after that would be false.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from drifting_parity.adapters.capabilities import Capabilities
from drifting_parity.cases import FieldCase, LossCase
from drifting_parity.explanation.answers import Answer, whole_error
from drifting_parity.explanation.probes import Probe
from drifting_parity.explanation.subject import Subject

Fit = Callable[[LossCase], LossCase]

STEADY: Final = 1e-12
"""Two answers to the same question differ by no more, whatever order threads add in."""


@dataclass(frozen=True)
class Stock:
    """How an implementation runs.

    ``probes`` are those that it answers, brought to what it takes; ``single``: it computes in
    float32 though it is given float64; ``unsteady``: why nothing can be said of it, empty if it
    gives one answer to one question, and by how much its answers ``moved``; ``fit`` brings other
    cases to what it takes.
    """

    probes: tuple[Probe, ...]
    single: bool = False
    unsteady: str = ""
    moved: float = 0.0
    notes: tuple[str, ...] = ()
    fit: Fit = lambda case: case


def take_stock(subject: Subject, probes: Sequence[Probe], capabilities: Capabilities) -> Stock:
    """Ask what can be asked; nothing of the answers' content is judged."""
    fit, notes = capabilities.answerable, [*capabilities.notes]
    fitted = tuple(
        replace(probe, case=fit(probe.case)) if isinstance(probe.case, LossCase) else probe
        for probe in probes
    )
    answered = tuple(subject.answered(fitted))
    if not answered:
        return Stock((), notes=tuple(notes), fit=fit)
    unsteady, moved = _unsteady(subject, answered)
    if isinstance(answered[0].case, FieldCase):
        single = "field" in capabilities.also_single
    else:
        single = capabilities.single_precision or "guided loss" in capabilities.also_single
    single = single and subject.setting.dtype == "float64"
    if single:
        notes.append("computes in float32 whatever it is given, and is held to float32")
    return Stock(answered, single, unsteady, moved, tuple(notes), fit)


def _unsteady(subject: Subject, probes: Sequence[Probe]) -> tuple[str, float]:
    """Whether the first probe of each kind is answered as before, now that others were asked."""
    for kind in (LossCase, FieldCase):
        probe = next((item for item in probes if type(item.case) is kind), None)
        before = None if probe is None else subject.ask(probe)
        if probe is None or before is None:
            continue
        try:
            again = [subject.show(probe.case) for _ in range(2)]
        except Exception as problem:
            return f"{probe.name}, answered once and then {type(problem).__name__}", math.inf
        moved = max(_moved(before, item) for item in again)
        if moved > STEADY:
            twice = "twice in a row" if _moved(*again) > STEADY else "again after other calls"
            return f"the same case {twice}: {probe.name}", moved
    return "", 0.0


def _moved(one: Answer, other: Answer) -> float:
    return whole_error(other, one)
