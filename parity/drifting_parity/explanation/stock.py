"""Taking stock: what an implementation can be asked, and how it runs, before anything is searched.

Code whose answers change from call to call stops here: whatever was said after that would be false.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import PAPER_TEMPERATURES, Array, FieldCase, LossCase, rounded
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


def take_stock(subject: Subject, probes: Sequence[Probe]) -> Stock:
    """Ask what can be asked; nothing of the answers' content is judged."""
    first = next((probe for probe in probes if isinstance(probe.case, LossCase)), None)
    notes: list[str] = []
    fit: Fit = lambda case: case  # noqa: E731 -- the identity has no better name
    if first is not None:
        fit, text = _fitting(subject, first)
        notes += [text] if text else []
    fitted = tuple(
        replace(probe, case=fit(probe.case)) if isinstance(probe.case, LossCase) else probe
        for probe in probes
    )
    answered = tuple(subject.answered(fitted))
    if not answered:
        return Stock((), notes=tuple(notes), fit=fit)
    unsteady, moved = _unsteady(subject, answered)
    single = subject.setting.dtype == "float64" and _single(subject, answered[0])
    if single:
        notes.append("computes in float32 whatever it is given, and is held to float32")
    return Stock(answered, single, unsteady, moved, tuple(notes), fit)


def _fitting(subject: Subject, probe: Probe) -> tuple[Fit, str]:
    """What has to be done to a case so that the implementation takes it."""
    case = probe.case
    if not isinstance(case, LossCase):
        return _as_it_is, ""
    for change, text in (
        (_as_it_is, ""),
        (_paper_temperatures, "takes no other temperatures than 0.02, 0.05, 0.2"),
        (_guided, "takes no case without unconditional samples"),
        (_both, "takes no other temperatures and no case without unconditional samples"),
    ):
        try:
            answer = subject.show(change(case))
        except Exception:  # a refusal is an answer here
            continue
        if change in (_as_it_is, _guided):
            other = change(case.changed(temperatures=(0.8,)))
            try:
                same = np.array_equal(subject.show(other).array, answer.array)
            except Exception:
                same = False
            if same:
                fixed = _paper_temperatures if change is _as_it_is else _both
                return fixed, "takes no notice of the temperatures that it is given"
        return change, text
    return _as_it_is, ""


def _as_it_is(case: LossCase) -> LossCase:
    return case


def _paper_temperatures(case: LossCase) -> LossCase:
    return case.changed(temperatures=PAPER_TEMPERATURES)


def _guided(case: LossCase) -> LossCase:
    if case.unconditional is not None:
        return case
    labels, _, vectors, channels = case.generated.shape
    source = np.random.default_rng(case.generated.size)
    size = float(np.abs(case.positive).mean())
    extra = size * source.normal(size=(labels, 3, vectors, channels))
    return case.changed(unconditional=extra, unconditional_weight=np.ones((labels, 3)))


def _both(case: LossCase) -> LossCase:
    return _guided(_paper_temperatures(case))


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


def _single(subject: Subject, probe: Probe) -> bool:
    """Whether rounding the inputs to float32 leaves every bit of the answer as it was."""
    before = subject.ask(probe)
    if before is None or not before.array.any():
        return False
    try:
        after = subject.show(_rounded(probe.case))
    except NotObservable:
        return False
    return np.array_equal(before.array, after.array) and before.value == after.value


def _rounded(case: LossCase | FieldCase) -> LossCase | FieldCase:
    def single(array: Array | None) -> Array | None:
        return None if array is None else rounded(array, "float32")

    if isinstance(case, FieldCase):
        return case.changed(
            x=single(case.x), positive=single(case.positive), negative=single(case.negative)
        )
    return case.changed(
        generated=single(case.generated),
        positive=single(case.positive),
        unconditional=single(case.unconditional),
    )
