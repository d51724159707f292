"""Limits of size: code that uses only the first K positives, channels, vectors of what it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from drifting_parity.cases import Array, LossCase
from drifting_parity.explanation.answers import Answer, whole_error
from drifting_parity.explanation.data import DialStatement
from drifting_parity.explanation.hypothesis import Hypothesis
from drifting_parity.explanation.search import Search

Cut = Callable[[LossCase, int], LossCase]


@dataclass(frozen=True)
class _Axis:
    """A size of a case: what it counts, how to cut a case to its first K, where it stands."""

    name: str
    size: Callable[[LossCase], int]
    cut: Cut
    axis: int | None
    """The axis of the gradient on which the rest is 0; None where it has none."""


def _first_positives(case: LossCase, keep: int) -> LossCase:
    weight = case.positive_weight
    return case.changed(
        positive=case.positive[:, :keep],
        positive_weight=None if weight is None else weight[:, :keep],
    )


def _first_unconditional(case: LossCase, keep: int) -> LossCase:
    extra, weight = case.unconditional, case.unconditional_weight
    if extra is None or weight is None:
        return case
    return case.changed(unconditional=extra[:, :keep], unconditional_weight=weight[:, :keep])


def _everywhere(case: LossCase, cut: Callable[[Array], Array]) -> LossCase:
    extra = case.unconditional
    return case.changed(
        generated=cut(case.generated),
        positive=cut(case.positive),
        unconditional=None if extra is None else cut(extra),
    )


AXES: Final = (
    _Axis("positives", lambda case: case.positive.shape[1], _first_positives, None),
    _Axis(
        "unconditional samples",
        lambda case: 0 if case.unconditional is None else case.unconditional.shape[1],
        _first_unconditional,
        None,
    ),
    _Axis(
        "channels",
        lambda case: case.generated.shape[3],
        lambda case, keep: _everywhere(case, lambda array: array[..., :keep]),
        3,
    ),
    _Axis(
        "vectors",
        lambda case: case.generated.shape[2],
        lambda case, keep: _everywhere(case, lambda array: array[:, :, :keep]),
        2,
    ),
    _Axis(
        "generated samples",
        lambda case: case.generated.shape[1],
        lambda case, keep: case.changed(generated=case.generated[:, :keep]),
        1,
    ),
)


def find_limit(search: Search, hypothesis: Hypothesis, case: LossCase) -> DialStatement | None:
    """The size whose surplus the subject leaves out of a case, if the hypothesis then fits.

    How many are used is found by moving the rest: what is left out does not change the answer.
    """
    try:
        observed = search.subject.show(case)
        for axis in AXES:
            size = axis.size(case)
            if size < 2 or not _unmoved(search, case, axis, size - 1, observed):
                continue
            low, high = 0, size - 1
            while high - low > 1:
                middle = (low + high) // 2
                if _unmoved(search, case, axis, middle, observed):
                    high = middle
                else:
                    low = middle
            if _explains(search, hypothesis, case, axis, high, observed):
                text = f"only the first {high} of {size} {axis.name} are used"
                return DialStatement(f"{axis.name} used", "field", float(high), text)
    except Exception:
        return None
    return None


def _unmoved(search: Search, case: LossCase, axis: _Axis, keep: int, observed: Answer) -> bool:
    """Whether moving all but the first ``keep`` leaves the answer as it was."""
    kept = axis.cut(case, keep)
    moved = _moved(case, kept)
    answer = search.subject.show(moved)
    return whole_error(answer, observed) < 1e-12


def _moved(case: LossCase, kept: LossCase) -> LossCase:
    """The case with every sample or entry that ``kept`` lacks multiplied by 1.5."""

    def move(array: Array | None, part: Array | None) -> Array | None:
        if array is None or part is None or array.shape == part.shape:
            return array
        changed = 1.5 * array + 0.3
        changed[tuple(slice(0, size) for size in part.shape)] = part
        return changed

    return case.changed(
        generated=move(case.generated, kept.generated),
        positive=move(case.positive, kept.positive),
        unconditional=move(case.unconditional, kept.unconditional),
    )


def _explains(
    search: Search,
    hypothesis: Hypothesis,
    case: LossCase,
    axis: _Axis,
    keep: int,
    observed: Answer,
) -> bool:
    expected = search.model.compute(hypothesis, axis.cut(case, keep))
    array = expected.array
    if axis.axis is not None and array.shape != observed.array.shape:
        padding = [(0, whole - part) for whole, part in
                   zip(observed.array.shape, array.shape, strict=True)]  # fmt: skip
        array = np.pad(array, padding)
    return whole_error(observed, Answer(array, expected.value)) <= 10 * search.tolerance
