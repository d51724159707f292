"""What hypotheses answer to probes; the temperature as a dial; sizes fitted to an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from drifting_parity.adapters.torch_adapter import to_array
from drifting_parity.cases import Array, DType, FieldCase, LossCase, rounded
from drifting_parity.explanation.answers import Answer, directions_of
from drifting_parity.explanation.hypothesis import Hypothesis
from drifting_parity.explanation.probes import Probe

GRID: Final = tuple(float(factor) for factor in np.geomspace(0.03, 60.0, 48))
"""Factors of the temperature from which the dial starts."""

COARSE: Final = GRID[::3]
"""The same where every factor costs an evaluation."""

OWN_DIRECTION: Final = frozenset({"attached", "error", "squared", "displacement", "features"})
"""Steps after which the gradient no longer points along −ΣṼ."""

NO_ANSWER: Final = Answer(np.full(0, math.nan), math.nan)

Inputs = dict[str, torch.Tensor | None]


@dataclass
class Model:
    """What hypotheses answer, each computed once; inputs rounded as ``dtype`` has them."""

    dtype: DType = "float64"
    evaluations: int = 0
    _answers: dict[tuple[str, object], Answer] = field(
        default_factory=dict[tuple[str, object], Answer]
    )
    _dials: dict[tuple[str, object], tuple[float, float]] = field(
        default_factory=dict[tuple[str, object], tuple[float, float]]
    )
    _tensors: dict[str, Inputs] = field(default_factory=dict[str, Inputs])

    def answer(self, hypothesis: Hypothesis, probe: Probe) -> Answer:
        """The answer of the hypothesis to the probe's case."""
        key = (probe.name, hypothesis.key(probe.case))
        if key not in self._answers:
            self._answers[key] = self.compute(hypothesis, probe.case, probe.name)
        return self._answers[key]

    def compute(self, hypothesis: Hypothesis, case: LossCase | FieldCase, name: str = "") -> Answer:
        """The answer to a case that is asked once; ``name`` keeps its tensors for the next."""
        try:
            if isinstance(case, FieldCase):
                return Answer(self._field(hypothesis, case))
            return self._loss(hypothesis, case, case.temperatures, name)
        except (ValueError, RuntimeError):
            return NO_ANSWER

    def _field(self, hypothesis: Hypothesis, case: FieldCase) -> Array:
        self.evaluations += 1
        weight = case.negative_weight
        V = hypothesis.textbook.field(
            self._tensor(case.x),
            self._tensor(case.positive),
            self._tensor(case.negative),
            case.temperature,
            mask_self=case.mask_self,
            negative_weight=None if weight is None else self._tensor(weight),
        )
        return to_array(V)

    def _loss(
        self,
        hypothesis: Hypothesis,
        case: LossCase,
        temperatures: Sequence[float],
        name: str,
    ) -> Answer:
        self.evaluations += 1
        inputs = self._inputs(case, name)
        generated = self._tensor(case.generated).requires_grad_()
        value = hypothesis.textbook.loss(
            **{**inputs, "generated": generated},  # pyright: ignore[reportArgumentType] -- positive is there
            temperatures=temperatures,
        )
        if not value.requires_grad:
            return Answer(np.zeros(case.generated.shape), float(value))
        (gradient,) = torch.autograd.grad(value, generated)
        return Answer(to_array(gradient), float(value.detach()))

    def _inputs(self, case: LossCase, name: str) -> Inputs:
        if name and name in self._tensors:
            return self._tensors[name]
        arrays = {
            "generated": case.generated,
            "positive": case.positive,
            "unconditional": case.unconditional,
            "unconditional_weight": case.unconditional_weight,
            "generated_weight": case.generated_weight,
            "positive_weight": case.positive_weight,
        }
        tensors = {
            key: None if array is None else self._tensor(array) for key, array in arrays.items()
        }
        if name:
            self._tensors[name] = tensors
        return tensors

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(rounded(array, self.dtype)).copy())

    # The dial: the direction of the gradient with the temperature free.

    def nearest(
        self,
        hypothesis: Hypothesis,
        probe: Probe,
        observed: Answer,
        factor: float | None = None,
    ) -> tuple[float, float]:
        """The factor of a grid (and ``factor``) that fits best, and the distance left."""
        case = probe.case
        if not isinstance(case, LossCase) or not (observed.finite and observed.array.any()):
            return 1.0, math.inf
        target = observed.direction
        try:
            tried, directions = self._tried(hypothesis, case, probe.name, factor)
        except (ValueError, RuntimeError):
            return 1.0, math.inf
        if directions.shape[1:] != target.shape:
            return 1.0, math.inf
        misses = np.linalg.norm((directions - target).reshape(len(tried), -1), axis=1)
        misses[~np.isfinite(misses)] = math.inf
        best = int(misses.argmin())
        return tried[best], float(misses[best])

    def _tried(
        self, hypothesis: Hypothesis, case: LossCase, name: str, also: float | None
    ) -> tuple[Sequence[float], Array]:
        """Factors on the temperatures, and the direction with each of them."""
        more = (1.0,) if also is None else (1.0, also)  # as asked, however sharp the fit is
        if not own_direction(hypothesis):
            factors = (*GRID, *more)
            return factors, directions_of(self._drifts(hypothesis, case, name, factors))
        near = [item for item in COARSE if also is None or also / 2.5 < item < 2.5 * also]
        factors = (*near, *more)
        answers = [
            self._loss(hypothesis, case, [factor * tau for tau in case.temperatures], name)
            for factor in factors
        ]
        return factors, directions_of(np.stack([each.array for each in answers]))

    def _drifts(
        self, hypothesis: Hypothesis, case: LossCase, name: str, factors: Sequence[float]
    ) -> Array:
        """−Σ_τ Ṽ_τ with every temperature times each of the factors, from one evaluation."""
        self.evaluations += 1
        count = len(case.temperatures)
        temperatures = [factor * value for factor in factors for value in case.temperatures]
        with torch.no_grad():
            drifts = hypothesis.textbook.solve(
                **self._inputs(case, name),  # pyright: ignore[reportArgumentType] -- generated and positive are there
                temperatures=temperatures,
            ).normalized_drifts
        if len(drifts) != len(temperatures):
            raise ValueError("the temperatures do not stay apart")
        summed = drifts.unflatten(0, (len(factors), count)).sum(1)
        return -to_array(summed).transpose(0, 1, 3, 2, 4)

    def directions(
        self, hypothesis: Hypothesis, probe: Probe, factors: Sequence[float]
    ) -> list[Array]:
        """The direction with every temperature of the probe multiplied by each of the factors."""
        case = probe.case
        if not isinstance(case, LossCase):
            return [NO_ANSWER.array] * len(factors)
        try:
            if not own_direction(hypothesis):
                return [*directions_of(self._drifts(hypothesis, case, probe.name, factors))]
            return [
                self._loss(
                    hypothesis, case, [factor * tau for tau in case.temperatures], probe.name
                ).direction
                for factor in factors
            ]
        except (ValueError, RuntimeError):
            return [NO_ANSWER.array] * len(factors)

    def dialled(
        self, hypothesis: Hypothesis, probe: Probe, observed: Answer
    ) -> tuple[float, float]:
        """The factor on every temperature that fits the direction best, and the distance left."""
        key = (probe.name, (hypothesis.key(probe.case), observed.array.tobytes()))
        if key not in self._dials:
            start, miss = self.nearest(hypothesis, probe, observed)
            if math.isfinite(miss):
                start, miss = self._refined(hypothesis, probe, observed.direction, start)
            self._dials[key] = start, miss
        return self._dials[key]

    def _refined(
        self, hypothesis: Hypothesis, probe: Probe, target: Array, start: float
    ) -> tuple[float, float]:
        """Gauss-Newton on the logarithm of the factor, value and slope from one evaluation."""
        log, best, step = math.log(start), (start, math.inf), 1e-6
        for _ in range(12):
            here, ahead = self.directions(hypothesis, probe, [math.exp(log), math.exp(log + step)])
            miss = _distance(target, here)
            if miss < best[1]:
                best = math.exp(log), miss
            slope = (ahead - here) / step
            norm = float((slope * slope).sum())
            if not norm > 0 or not math.isfinite(miss) or miss > 2 * best[1]:
                break
            move = float((slope * (target - here)).sum()) / norm
            log += max(-0.5, min(0.5, move))
            if abs(move) < 1e-13 or (abs(move) < 1e-4 and miss > 1e-3):
                break
        return best


def own_direction(hypothesis: Hypothesis) -> bool:
    """Whether factors cannot be tried side by side as −ΣṼ of temperatures of one call."""
    return any(
        OWN_DIRECTION & set(use.suspect.steps) or "temperatures" in use.suspect.needs
        for use in hypothesis.uses
    )


def fit(
    at: Callable[[list[float]], Array], target: Array, start: Sequence[float], rounds: int = 10
) -> tuple[list[float], float]:
    """Gauss-Newton on the logarithms of positive sizes: the best of them and the distance left."""
    if not all(0.0 < size < math.inf for size in start):
        return list(start), math.inf
    logs = [math.log(size) for size in start]
    here = at([math.exp(item) for item in logs])
    best = list(logs), _distance(target, here)
    step = 1e-5
    for _ in range(rounds):
        columns = []
        for index in range(len(logs)):
            ahead = [*logs]
            ahead[index] += step
            columns.append((at([math.exp(item) for item in ahead]) - here).ravel() / step)
        jacobian = np.stack(columns, axis=1)
        gap = (target - here).ravel()
        if not (np.isfinite(jacobian).all() and np.isfinite(gap).all()):
            break
        move = np.linalg.lstsq(jacobian, gap, rcond=1e-12)[0].clip(-1.5, 1.5)
        previous = best[1]
        for _ in range(4):
            trial = [item + float(change) for item, change in zip(logs, move, strict=True)]
            there = at([math.exp(item) for item in trial])
            miss = _distance(target, there)
            if miss < best[1]:
                break
            move = move / 4
        else:
            break
        logs, here, best = trial, there, (trial, miss)
        if float(np.abs(move).max()) < 1e-11 or (miss > 0.9 * previous and miss < 1e-6):
            break
    return [math.exp(item) for item in best[0]], best[1]


def _distance(target: Array, here: Array) -> float:
    if target.shape != here.shape or not np.isfinite(here).all():
        return math.inf
    return float(np.linalg.norm(target - here))
