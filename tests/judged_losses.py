"""Losses for the tests of what turns red and what stays green, behind adapters of few words.

Wrong ones are the suspects of the catalogue, by their keys, and a few mistakes that it does not
hold; odd ones are right. Each adapter offers the loss alone, or with the field of the same code,
and takes no readings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    Array,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
)
from drifting_parity.suspects import ALL, compose
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import PAPER, Readings


class HalfScale(Textbook):
    """S is half as large, everywhere."""

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        return super().feature_scale(samples, distance) / 2


class ScalePerLabel(Textbook):
    """S of each label on its own, λ as it should be."""

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        weight = self.pair_weights(samples)
        total = (weight * distance).sum((-2, -1)).sum(-1, keepdim=True)
        count = weight.sum((-2, -1)).expand(distance.shape[:2]).sum(-1, keepdim=True)
        return total / count / math.sqrt(samples.channels)


class OtherLabels(Textbook):
    """The negatives of the drift are another label's, those of S as they should be."""

    def drift(self, W_pos: Tensor, W_neg: Tensor, y_pos: Tensor, y_neg: Tensor) -> Tensor:
        return super().drift(W_pos, W_neg, y_pos, y_neg.roll(1, dims=-4))


class FirstPositives(Textbook):
    """Only the first 64 positives are looked at."""

    def solve_samples(self, live: Samples, temperatures: Any) -> Any:
        kept, rest = live.positive[..., :64, :], live.weight[..., live.positives :]
        weight = torch.cat([live.weight[..., : kept.shape[-2]], rest], -1)
        return super().solve_samples(replace(live, positive=kept, weight=weight), temperatures)


class FirstChannels(Textbook):
    """Only the first 256 channels are measured."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        return super().distances(x[..., :256], y[..., :256])


OF_THE_TESTS: Final[Mapping[str, type[Textbook]]] = {
    "half of S": HalfScale,
    "S by label": ScalePerLabel,
    "drift from other labels": OtherLabels,
    "first 64 positives": FirstPositives,
    "first 256 channels": FirstChannels,
}
"""Mistakes that the catalogue does not hold."""


def wrong(key: str, readings: Readings = PAPER) -> Textbook:
    """The textbook with the suspect of this key, or with a mistake of :data:`OF_THE_TESTS`."""
    if key in OF_THE_TESTS:
        return OF_THE_TESTS[key](readings)
    return compose(readings, ALL[key])


@dataclass(eq=False)
class LossOnly(Adapter):
    """The loss of a textbook, and nothing else; ``narrow`` turns cases away or changes them."""

    book: Textbook
    name: str = "loss only"
    narrow: Callable[[LossCase], None] = lambda case: None
    inside: str = "float64"

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        self.narrow(case)
        dtype = self.inside if setting.dtype == "float64" else setting.dtype
        seen = self.book.observe(case, setting=replace(setting, dtype=dtype))
        return LossObservation(seen.loss, seen.gradient, other_gradients=seen.other_gradients)


class LossAndField(LossOnly):
    """The loss of a textbook, and the field of ``field_book`` (the same one if None)."""

    field_book: Textbook | None = None

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        return (self.field_book or self.book).observe_field(case, setting)


def one_label_no_weights(case: LossCase) -> None:
    """Turn away all but one label, one vector, no guidance, the paper's temperatures, N > 1."""
    if case.generated.shape[0] > 1:
        raise NotObservable("one label at a time")
    if case.generated.shape[2] > 1:
        raise NotObservable("one vector a sample")
    if case.unconditional is not None:
        raise NotObservable("no unconditional samples")
    if case.generated_weight is not None or case.positive_weight is not None:
        raise NotObservable("no weights")
    if case.temperatures != PAPER_TEMPERATURES:
        raise NotObservable("its own temperatures")
    if case.generated.shape[1] < 2:
        raise NotObservable("two samples at least")


def one_label(case: LossCase) -> None:
    """Turn away all but one label and one vector, and weights other than one for each label."""
    if case.generated.shape[0] > 1 or case.generated.shape[2] > 1:
        raise NotObservable("one label and vector at a time")
    if case.generated_weight is not None or case.positive_weight is not None:
        raise NotObservable("no weights but of unconditional samples")
    weight = case.unconditional_weight
    if weight is not None and weight.std() > 0:
        raise NotObservable("one weight for each label")


class AsPrinted(Textbook):
    """Right but odd: the last line of Algorithm 2 as printed, on coordinates as they lie."""

    def origin(self, y_pos: Tensor) -> Tensor:
        return torch.zeros_like(y_pos[..., :1, :])


class Shuffled(Textbook):
    """Right but odd: sums in another order at every call."""

    calls = 0

    def solve_samples(self, live: Samples, temperatures: Any) -> Any:
        self.calls += 1
        source = torch.Generator().manual_seed(self.calls)
        order = torch.randperm(live.positives, generator=source)
        rest = live.weight[..., live.positives :]
        weight = torch.cat([live.weight[..., : live.positives][..., order], rest], -1)
        return super().solve_samples(
            replace(live, positive=live.positive[..., order, :], weight=weight), temperatures
        )
