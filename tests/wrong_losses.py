"""Wrong, odd and narrow losses: the textbook with one step replaced, behind adapters of few words.

For the tests of what turns red and what stays green. Each adapter offers the loss alone, or with
the field of the same code, and takes no readings.
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
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import Readings


class NoRoot(Textbook):
    """D22: the temperature lacks √C."""

    def normalized_temperature(self, temperature: Tensor, channels: int) -> Tensor:
        return temperature


class ScaleWithoutRoot(Textbook):
    """S lacks its 1/√C."""

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        return self.mean_distance(samples, distance)


class HalfScale(Textbook):
    """S is half as large, everywhere."""

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        return super().feature_scale(samples, distance) / 2


class ScalePerLabel(Textbook):
    """D40: S of each label on its own."""

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        weight = self.pair_weights(samples)
        total = (weight * distance).sum((-2, -1)).sum(-1, keepdim=True)
        count = weight.sum((-2, -1)).expand(distance.shape[:2]).sum(-1, keepdim=True)
        return total / count / math.sqrt(samples.channels)


class ScaleUnweighted(Textbook):
    """D36: guidance weights are left out of S."""

    def pair_weights(self, samples: Samples) -> Tensor:
        return torch.ones_like(super().pair_weights(samples))


class NoMask(Textbook):
    """D09: no self-mask."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        return distance, torch.ones_like(samples.self_pairs)


class MaskIfSquare(Textbook):
    """D01, D02: masked whenever there are as many negatives as samples, and only then."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        count = distance.shape[-2]
        present = torch.ones_like(samples.self_pairs)
        if distance.shape[-1] - samples.positives == count:
            present[:, samples.positives :].fill_diagonal_(False)
        return distance, present


class Squared(Textbook):
    """D19: squared distances in the kernel."""

    def logits(self, distance: Tensor, samples: Samples, temperature: Tensor) -> Tensor:
        del samples
        return -distance.square() / temperature


class Product(Textbook):
    """D12: row times column, without the root."""

    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        return row * column


class OverY(Textbook):
    """D11: the softmax over y alone."""

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        return weight * self.row_softmax(logit, present, weight)


class Aliased(Textbook):
    """D15: W_neg is formed from W_pos."""

    def balance(self, A_pos: Tensor, A_neg: Tensor) -> tuple[Tensor, Tensor]:
        W_pos = A_pos * A_neg.sum(-1, keepdim=True)
        return W_pos, A_neg * W_pos.sum(-1, keepdim=True)

    def origin(self, y_pos: Tensor) -> Tensor:
        return torch.zeros_like(y_pos[..., :1, :])


class Cosine(Textbook):
    """D21: cosine distances, in the kernel and in S."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        return (
            1
            - torch.nn.functional.normalize(x, dim=-1) @ torch.nn.functional.normalize(y, dim=-1).mT
        )


class LogWeight(Textbook):
    """D52: log w in both softmaxes' logits."""

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        row = weight * self.row_softmax(logit, present, weight)
        return self.combination(row, self.column_softmax(logit, present))


class IgnoredWeight(Textbook):
    """D55: the kernel knows no weight."""

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        return super().affinity(logit, present, torch.ones_like(weight))


class DriftScaleWithoutRoot(Textbook):
    """D28: λ lacks its 1/√C."""

    def drift_scale(self, V: Tensor) -> Tensor:
        return super().drift_scale(V) * math.sqrt(V.shape[-1])


class NoDriftScale(Textbook):
    """D30: no λ."""

    def drift_scale(self, V: Tensor) -> Tensor:
        return torch.ones_like(super().drift_scale(V))


class Half(Textbook):
    """D60: a factor ½."""

    def squared(self, error: Tensor) -> Tensor:
        return error.square() / 2


class ChannelSum(Textbook):
    """D60: a sum over channels."""

    def reduce_channels(self, squared: Tensor) -> Tensor:
        return squared.sum(-1)


class Huber(Textbook):
    """D60: a Huber error."""

    def squared(self, error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size < 0.5, error.square(), size - 0.25)


class PerTemperature(Textbook):
    """D24: one error for each temperature."""

    def aggregation(self, drifts: Tensor) -> Tensor:
        return drifts


class Live(Textbook):
    """D61: nothing of the target is stopped."""

    attached = frozenset(
        {"rows", "positives", "negatives", "feature_scale", "drift", "drift_scale"}
    )

    def error(self, phi: Tensor, displacement: Tensor) -> Tensor:
        return -displacement


class LiveScale(Textbook):
    """D61: the gradient runs through S as well."""

    def stopped(self, part: str, tensor: Tensor) -> Tensor:
        return tensor if part in {"rows", "feature_scale"} else tensor.detach()


class LiveNegatives(Textbook):
    """D61: the negatives are not stopped."""

    attached = frozenset({"negatives", "drift"})


class OtherLabels(Textbook):
    """D58: the negatives are another label's generated samples."""

    def drift(self, W_pos: Tensor, W_neg: Tensor, y_pos: Tensor, y_neg: Tensor) -> Tensor:
        return super().drift(W_pos, W_neg, y_pos, y_neg.roll(1, dims=-4))

    def weights_from_distances(
        self, distance: Tensor, samples: Samples, temperature: Tensor, unit: float
    ) -> tuple[Tensor, Tensor]:
        return super().weights_from_distances(distance, samples, temperature, unit)


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


WRONG: Final[Mapping[str, type[Textbook]]] = {
    each.__name__: each
    for each in (
        NoRoot,
        ScaleWithoutRoot,
        HalfScale,
        ScalePerLabel,
        ScaleUnweighted,
        NoMask,
        MaskIfSquare,
        Squared,
        Product,
        OverY,
        Aliased,
        Cosine,
        LogWeight,
        IgnoredWeight,
        DriftScaleWithoutRoot,
        NoDriftScale,
        Half,
        ChannelSum,
        Huber,
        PerTemperature,
        Live,
        LiveScale,
        LiveNegatives,
        OtherLabels,
        FirstPositives,
        FirstChannels,
    )
}


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


class ExpandedSquares(Textbook):
    """D18: distances by expanded squares, coincident pairs floored as the release does."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        squared = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2) - 2 * x @ y.mT
        return squared.clamp_min(1e-8 if self.readings.floors == "release" else 0).sqrt()


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
