"""Dials: factors that are measured from outside where no catalogued change explains a stage.

A measured factor is named only where it follows a law in the sizes, and is then put back into the
textbook: whatever is said of it has to reproduce every other probe. Otherwise the measurement
itself is what is said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from drifting_parity.cases import LossCase
from drifting_parity.explanation.answers import Answer, direction_error
from drifting_parity.explanation.data import DialStatement
from drifting_parity.explanation.hypothesis import DIALS, Hypothesis, Use
from drifting_parity.explanation.probes import Probe, loss_case
from drifting_parity.explanation.search import Search
from drifting_parity.suspects import Solution, Suspect, Textbook
from drifting_parity.suspects.samples import Samples

SIZES: Final = ("C", "N", "P", "M", "N-1", "M-1", "V", "L", "T")
"""Sizes in which a law may go; M = N + P + U counts the targets."""

STRAIGHT: Final = 1e-6
"""How well a law fits the logarithms of the factors."""


def sizes_of(labels: int, count: int, targets: int, vectors: int, channels: int, temperatures: int,
             positives: int) -> dict[str, int]:  # fmt: skip
    """The sizes by their letters."""
    return {
        "C": channels, "N": count, "P": positives, "M": targets, "N-1": count - 1,
        "M-1": targets - 1, "V": vectors, "L": labels, "T": temperatures,
    }  # fmt: skip


def case_sizes(case: LossCase) -> dict[str, int]:
    """The sizes of a case by their letters."""
    labels, count, vectors, channels = case.generated.shape
    positives = case.positive.shape[1]
    extra = 0 if case.unconditional is None else case.unconditional.shape[1]
    targets = count + positives + extra
    return sizes_of(labels, count, targets, vectors, channels, len(case.temperatures), positives)


class _Law(Textbook):
    """A factor κ Π size^power; powers of sizes that are not named are 0."""

    def law(self, prefix: str, sizes: Mapping[str, int]) -> float:
        """The factor at these sizes."""
        factor = float(getattr(self, f"{prefix}_factor"))
        for name, size in sizes.items():
            power = float(getattr(self, f"{prefix}_power_of_{name}", 0.0))
            factor *= size**power if power else 1.0
        return factor

    def sizes(self, samples: Samples, temperatures: int) -> dict[str, int]:
        """The sizes of samples in groups."""
        labels, vectors, count, channels = samples.x.shape
        targets = samples.weight.shape[-1]
        return sizes_of(labels, count, targets, vectors, channels, temperatures, samples.positives)


class TemperatureLaw(_Law):
    """Every temperature is multiplied."""

    temperature_factor: float = 1.0

    def field_of_feature(
        self, samples: Samples, S: Tensor, distance: Tensor, temperature: Tensor
    ) -> Tensor:
        """The field at κ times the temperature."""
        factor = self.law("temperature", self.sizes(samples, len(temperature)))
        return super().field_of_feature(samples, S, distance, factor * temperature)


class LossLaw(_Law):
    """Value and gradient of the loss are multiplied, each by its own factor."""

    value_factor: float = 1.0
    gradient_factor: float = 1.0

    def solve_samples(self, live: Samples, temperatures: Sequence[float]) -> Solution:
        """The loss with value and gradient apart."""
        solution = super().solve_samples(live, temperatures)
        sizes = self.sizes(live, len(temperatures))
        value, frozen = solution.value, solution.value.detach()
        moved = self.law("gradient", sizes) * (value - frozen) + self.law("value", sizes) * frozen
        return replace(solution, value=moved)


class WeightLaw(Textbook):
    """The weights of the unconditional samples are κ w^p."""

    weight_factor: float = 1.0
    weight_power: float = 1.0

    def weights(self, samples: Samples) -> Tensor:
        """κ w^p for the columns after the samples' own."""
        weight = super().weights(samples)
        column = torch.arange(weight.shape[-1]) >= samples.positives + samples.own
        return torch.where(column, self.weight_factor * weight**self.weight_power, weight)


def _dial(key: str, change: type[Textbook], **parameters: float) -> None:
    DIALS[key] = Suspect(key, "", change, frozenset({"loss"}), parameters=parameters)


def _powers(prefix: str) -> dict[str, float]:
    return {f"{prefix}_power_of_{name}": 0.0 for name in SIZES}


_dial("temperature", TemperatureLaw, temperature_factor=1.0, **_powers("temperature"))
_dial("loss", LossLaw, value_factor=1.0, gradient_factor=1.0, **_powers("value"),
      **_powers("gradient"))  # fmt: skip
_dial("weight", WeightLaw, weight_factor=1.0, weight_power=1.0)


@dataclass(frozen=True)
class Law:
    """κ Π size^power, with the names of the sizes."""

    factor: float
    powers: Mapping[str, float]

    @property
    def text(self) -> str:
        """The law in words, ``2 · C^0.5``."""
        parts = [f"{self.factor:.6g}"] if abs(self.factor - 1) > STRAIGHT or not self.powers else []
        return " · ".join([*parts, *(f"{name}^{power:g}" for name, power in self.powers.items())])


def find_law(factors: Sequence[float], sizes: Sequence[Mapping[str, int]]) -> Law | None:
    """The law with the fewest sizes (two at most, powers in quarters) that all factors follow."""
    if any(not (math.isfinite(item) and item > 0) for item in factors):
        return None
    logs = np.log(factors)
    for count in range(3):
        for names in itertools.combinations(SIZES, count):
            if any(item[name] <= 0 for item in sizes for name in names):
                continue
            columns = [np.log([item[name] for item in sizes]) for name in names]
            if any(np.ptp(column) == 0 for column in columns):
                continue
            matrix = np.stack([np.ones(len(logs)), *columns], axis=1)
            found = np.linalg.lstsq(matrix, logs, rcond=None)[0]
            powers = np.round(4 * found[1:]) / 4
            if np.abs(powers - found[1:]).max(initial=0) > 1e-3 or (count and not powers.all()):
                continue
            rest = logs - matrix[:, 1:] @ powers
            if np.ptp(rest) < STRAIGHT:
                factor = float(np.exp(rest.mean()))
                return Law(factor, dict(zip(names, map(float, powers), strict=True)))
    return None


# Measuring.


@cache
def size_probes() -> tuple[Probe, ...]:
    """One temperature, one label, one vector: C, N and P varied one at a time, then together."""
    sizes = ((5, 4, 8), (5, 4, 32), (10, 4, 8), (5, 9, 8), (8, 6, 15), (4, 7, 21))
    return tuple(
        Probe(f"N {count}, P {positives}, C {channels}", "size",
              loss_case(f"size-{index}", 60 + index, (1, count, positives, 0, 1, channels),
                        (0.25 + 0.1 * (index % 3),), positive_spread=1.0 + 0.3 * (index % 2)))
        for index, (count, positives, channels) in enumerate(sizes)
    )  # fmt: skip


@cache
def group_probes() -> tuple[Probe, ...]:
    """Several labels, vectors and temperatures, one at a time, then together."""
    plain, two, three = (0.3,), (0.2, 0.6), (0.1, 0.3, 0.9)
    shapes = ((1, 1, plain), (1, 1, two), (1, 1, three), (2, 1, plain), (3, 1, plain),
              (1, 2, plain), (1, 3, plain), (2, 3, three), (3, 2, two))  # fmt: skip
    return tuple(
        Probe(f"L {labels}, V {vectors}, {len(taus)} temperatures", "size",
              loss_case(f"group-{index}", 80 + index, (labels, 4, 5, 0, vectors, 7), taus))
        for index, (labels, vectors, taus) in enumerate(shapes)
    )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Dials of a stage; ``hypothesis`` has them put back where they follow a law."""

    dials: tuple[DialStatement, ...]
    hypothesis: Hypothesis | None = None


def measure(search: Search, hypothesis: Hypothesis, stage: str) -> Measured:
    """Measure what the stage is about, under a hypothesis that explains the stages before."""
    if stage == "scale":
        return _temperature(search, hypothesis)
    if stage in ("drift scale", "aggregation", "labels", "locations"):
        return _loss(search, hypothesis, stage)
    if stage == "weights":
        return _weight(search, hypothesis)
    return Measured(())


def _temperature(search: Search, hypothesis: Hypothesis) -> Measured:
    factors: list[float] = []
    sizes: list[dict[str, int]] = []
    for probe in search.subject.answered(size_probes()):
        observed = search.subject.ask(probe)
        if observed is None or not isinstance(probe.case, LossCase):
            continue
        factor, miss = search.model.dialled(hypothesis, probe, observed)
        if miss > search.tolerance:
            return Measured(())
        factors.append(factor)
        sizes.append(case_sizes(probe.case))
    name = "factor of the temperature"
    return _named(hypothesis, "temperature", {"temperature": factors}, sizes, name, "scale")


def _loss(search: Search, hypothesis: Hypothesis, stage: str) -> Measured:
    probes = size_probes() if stage == "drift scale" else (*size_probes(), *group_probes())
    factors: dict[str, list[float]] = {"value": [], "gradient": []}
    sizes: list[dict[str, int]] = []
    for probe in search.subject.answered(probes):
        observed = search.subject.ask(probe)
        expected = search.model.answer(hypothesis, probe)
        if observed is None or not isinstance(probe.case, LossCase):
            continue
        if direction_error(observed, expected) > search.tolerance:
            return Measured(())
        factors["value"].append(observed.value / expected.value if expected.value else math.nan)
        factors["gradient"].append(_length(observed) / (_length(expected) or math.nan))
        sizes.append(case_sizes(probe.case))
    return _named(hypothesis, "loss", factors, sizes, "factor of the {}", stage)


def _length(answer: Answer) -> float:
    return float(np.linalg.norm(answer.array))


def _named(
    hypothesis: Hypothesis,
    key: str,
    factors: Mapping[str, Sequence[float]],
    sizes: Sequence[Mapping[str, int]],
    name: str,
    stage: str,
) -> Measured:
    dials: list[DialStatement] = []
    parameters: dict[str, float] = {}
    complete = True
    for prefix, values in factors.items():
        if len(values) < 3:
            return Measured(())
        law = find_law(values, sizes)
        title = name.format(prefix)
        if law is None:
            complete = False
            text = f"{min(values):.4g} … {max(values):.4g}, no law in the sizes"
            dials.append(DialStatement(title, stage, float(np.median(values)), text))
            continue
        parameters[f"{prefix}_factor"] = law.factor
        parameters |= {f"{prefix}_power_of_{key}": power for key, power in law.powers.items()}
        if law.powers or abs(law.factor - 1) > STRAIGHT:
            dials.append(DialStatement(title, stage, float(values[0]), law.text))
    if not complete or not dials:
        return Measured(tuple(dials))
    use = Use(key, tuple(sorted(parameters.items())))
    others = tuple(item for item in hypothesis.uses if item.key != key)
    return Measured(tuple(dials), Hypothesis(hypothesis.readings, tuple(sorted((*others, use)))))


def _weight(search: Search, hypothesis: Hypothesis) -> Measured:
    """The exponent and the factor of w, fitted to one probe and left to the others."""
    dialled = Hypothesis(hypothesis.readings, tuple(sorted((*hypothesis.uses, Use("weight")))))
    probes = [probe for probe in search.probes_of("weights") if _weighted(probe)]
    if not probes:
        return Measured(())
    tuned = search.tune(dialled, probes)
    if tuned is None or search.misfit(tuned, probes[0]) > search.tolerance:
        return Measured(())
    (use,) = (item for item in tuned.uses if item.key == "weight")
    sizes = {**DIALS["weight"].parameters, **dict(use.parameters)}
    power, factor = sizes["weight_power"], sizes["weight_factor"]
    law = f"w acts as {factor:.6g} · w^{power:.6g}"
    return Measured((DialStatement("exponent of w", "weights", power, law),), tuned)


def _weighted(probe: Probe) -> bool:
    case = probe.case
    weight = case.unconditional_weight if isinstance(case, LossCase) else None
    return weight is not None and len(np.unique(weight)) > 1
