"""Confirmation: fresh cases, Table 8's sizes among them, that no stage has looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import PAPER_TEMPERATURES, LossCase
from drifting_parity.explanation.answers import relative, value_error
from drifting_parity.explanation.data import Confirmation, DialStatement, Unexplained
from drifting_parity.explanation.hypothesis import Hypothesis
from drifting_parity.explanation.limits import find_limit
from drifting_parity.explanation.probes import loss_case
from drifting_parity.explanation.search import Search

LARGE = (
    # L, N, P, U, V, C
    ((1, 64, 128, 32, 1, 320), PAPER_TEMPERATURES),
    ((1, 64, 64, 16, 1, 4096), PAPER_TEMPERATURES),
    ((6, 16, 64, 16, 2, 24), (0.02, 0.05, 0.2, 0.4)),
    ((1, 8, 8, 4, 72, 16), PAPER_TEMPERATURES),
    ((1, 300, 640, 120, 1, 8), (0.2,)),
    ((2, 64, 96, 32, 3, 40), PAPER_TEMPERATURES),
)
SMALL = 24


def fresh_cases(seed: int) -> list[LossCase]:
    """Cases that the search has not seen: random small ones, then Table 8's sizes."""
    source = np.random.default_rng([seed, 8])
    return [_small(source, index) for index in range(SMALL)] + large_cases(source)


def _pick(source: np.random.Generator, low: int, high: int) -> int:
    return int(source.integers(low, high + 1))


def _small(source: np.random.Generator, index: int) -> LossCase:
    # Plain ones too, for code that takes one label, one vector and no weights.
    labels, vectors = ((1, 1), (1, 1), (_pick(source, 1, 3), _pick(source, 1, 3)))[index % 3]
    extra = 0 if index % 6 == 0 else _pick(source, 0, 5)
    sizes = (
        labels, _pick(source, 2, 7), _pick(source, 1, 7), extra, vectors, _pick(source, 2, 20),
    )  # fmt: skip
    temperatures = np.sort(source.uniform(0.1, 1.0, size=1 + index % 4))
    return loss_case(
        f"fresh-{index}",
        _pick(source, 0, 2**31),
        sizes,
        tuple(float(tau) for tau in temperatures),
        spread=float(source.uniform(1.0, 2.5)),
        weight=("one", "label", "sample")[index % 3],
    )


def large_cases(source: np.random.Generator) -> list[LossCase]:
    """Table 8's sizes, and the weights that follow from α to 4."""
    cases: list[LossCase] = []
    for index, (sizes, temperatures) in enumerate(LARGE):
        seed = _pick(source, 0, 2**31)
        case = loss_case(f"large-{index}", seed, sizes, temperatures, spread=1.8)
        alpha = source.uniform(1.5, 4.0, size=(sizes[0], 1))
        weight = (alpha - 1) * (sizes[1] - 1) / sizes[3]
        cases.append(case.changed(unconditional_weight=np.repeat(weight, sizes[3], 1)))
    return cases


@dataclass
class Trial:
    """What fresh cases gave: figures, cases that the hypothesis misses, and limits of size."""

    confirmation: Confirmation = field(default_factory=Confirmation)
    missed: list[tuple[LossCase, float]] = field(default_factory=list[tuple[LossCase, float]])
    limits: dict[str, DialStatement] = field(default_factory=dict[str, DialStatement])

    @property
    def smallest(self) -> LossCase:
        """The smallest case that is missed."""
        return min((case for case, _ in self.missed), key=lambda case: case.generated.size)

    @property
    def unexplained(self) -> list[Unexplained]:
        """The smallest case that is missed, in words; none if all agree."""
        if not self.missed:
            return []
        size = next(size for case, size in self.missed if case is self.smallest)
        return [Unexplained("confirmation", words(self.smallest), size)]


def confirmed(
    search: Search, hypothesis: Hypothesis, seed: int, fit: Callable[[LossCase], LossCase]
) -> Trial:
    """Value and gradient on fresh cases, brought by ``fit`` to what the subject takes."""
    subject, trial, count = search.subject, Trial(), 0
    worst_value = worst_gradient = 0.0
    largest: dict[str, int] = {}
    for case in map(fit, fresh_cases(seed)):
        try:
            observed = subject.show(case)
        except NotObservable:
            continue
        except Exception:
            if not subject.failures:  # otherwise said already: it raises on cases of this kind
                trial.missed.append((case, math.inf))
            continue
        expected = search.model.compute(hypothesis, case)
        errors = value_error(observed, expected), relative(observed.array, expected.array)
        if not max(errors) <= 10 * search.tolerance:
            limit = find_limit(search, hypothesis, case)
            if limit is None:
                trial.missed.append((case, max(errors)))
            else:
                trial.limits.setdefault(limit.name, limit)
            continue
        count += 1
        worst_value, worst_gradient = max(worst_value, errors[0]), max(worst_gradient, errors[1])
        for letter, size in sizes_of(case).items():
            largest[letter] = max(largest.get(letter, 0), size)
    trial.confirmation = Confirmation(count, worst_value, worst_gradient, largest)
    return trial


def words(case: LossCase) -> str:
    """A case by its sizes."""
    return "a fresh case of " + ", ".join(f"{key} {size}" for key, size in sizes_of(case).items())


def sizes_of(case: LossCase) -> dict[str, int]:
    """The case's sizes by the letters L, N, P, U, V, C and T for its temperatures."""
    labels, count, vectors, channels = case.generated.shape
    extra = 0 if case.unconditional is None else case.unconditional.shape[1]
    return {
        "L": labels,
        "N": count,
        "P": case.positive.shape[1],
        "U": extra,
        "V": vectors,
        "C": channels,
        "T": len(case.temperatures),
    }
