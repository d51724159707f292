"""Suspects of Algorithm 2 from the softmaxes to the drift, and of the weights of A.7."""

from __future__ import annotations

import torch
from torch import Tensor

from drifting_parity.suspects.field_steps import AFFINITY_FLOORS, ratio, root
from drifting_parity.suspects.registry import suspect
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook

NO_SOFTMAX = {"softmax_axes": "none"}
SEPARATE = {"kernel_normalization": "separate"}
ROWS_OF_ONE = (
    {**SEPARATE, "unconditional_weight": "replication"},
    {**SEPARATE, "unconditional_weight": "log_in_softmaxes"},
)
"""Where each set's rows of A already have the sum 1."""
JOINT_ROWS_OF_ONE = tuple(
    {"softmax_axes": "y", "kernel_normalization": "joint", "unconditional_weight": weight}
    for weight in ("replication", "log_in_softmaxes")
)


@suspect("D10", "", size=1e-3, idle_under=(NO_SOFTMAX, SEPARATE))
class SeparateSoftmaxes(Textbook):
    """Positives and negatives have a softmax over y of their own."""

    def affinities(
        self, logit: Tensor, present: Tensor, weight: Tensor, positives: int
    ) -> tuple[Tensor, Tensor]:
        """A of each set on its own; the softmax over x is the same either way."""
        pos, neg = slice(None, positives), slice(positives, None)
        return (
            self.affinity(logit[..., pos], present[..., pos], weight[..., pos]),
            self.affinity(logit[..., neg], present[..., neg], weight[..., neg]),
        )


@suspect("D11", "", size=1e-3, reading=("softmax_axes", "y"))
class RowSoftmaxAlone(Textbook):
    """The softmax over y alone."""

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        """A = w · A_row."""
        inside = self.readings.unconditional_weight != "after_softmaxes"
        row = self.row_softmax(logit, present, weight if inside else torch.ones_like(weight))
        return weight * row


@suspect("D12", "", size=1e-3, reading=("softmax_combination", "product"))
class Product(Textbook):
    """Row times column without the square root."""

    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        """A = A_row · A_col, above the floor of the readings."""
        return (row * column).clamp_min(AFFINITY_FLOORS[self.readings.affinity_floor])


@suspect("D06", "", "both softmaxes", shows_at="tiny temperature", size=1e-3, least_under_root=1e-6)
@suspect("D16", "clamped", "both softmaxes", shows_at="tiny temperature", least_under_root=1e-8)
class RootClamped(Textbook):
    """The product of the softmaxes is kept above a floor, masked pairs too."""

    least_under_root: float = 1e-6

    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        """√max(row·column, ε)."""
        least = self.least_under_root**0.5
        return torch.maximum(super().combination(row, column), row.new_tensor(least))


@suspect(
    "D16",
    "under-root",
    "both softmaxes",
    shows_at="tiny temperature",
    size=1e-9,
    added_under_root=1e-12,
)
class RootAdded(Textbook):
    """An epsilon under the root."""

    added_under_root: float = 1e-12

    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        """√(row·column + ε)."""
        return root(super().combination(row, column).square() + self.added_under_root)


@suspect(
    "D16", "beside-root", "both softmaxes", shows_at="tiny temperature", added_to_affinity=1e-8
)
class AffinityAdded(Textbook):
    """An epsilon beside the root."""

    added_to_affinity: float = 1e-8

    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        """√(row·column) + ε."""
        return super().combination(row, column) + self.added_to_affinity


@suspect("D13", "rows", size=1e-3, idle_under=JOINT_ROWS_OF_ONE)
class RowsRenormalized(Textbook):
    """Each row of A is divided by its sum."""

    def affinities(
        self, logit: Tensor, present: Tensor, weight: Tensor, positives: int
    ) -> tuple[Tensor, Tensor]:
        """A/ΣA over positives and negatives together."""
        A_pos, A_neg = super().affinities(logit, present, weight, positives)
        total = A_pos.sum(-1, keepdim=True) + A_neg.sum(-1, keepdim=True)
        return ratio(A_pos, total), ratio(A_neg, total)


@suspect("D13", "total", "groups", size=1e-4, needed_under={"groups": ("softmax_axes", "xy")})
class AffinityOverTotal(Textbook):
    """A of a group is divided by the sum of all its entries."""

    def affinities(
        self, logit: Tensor, present: Tensor, weight: Tensor, positives: int
    ) -> tuple[Tensor, Tensor]:
        """A/ΣΣA."""
        A_pos, A_neg = super().affinities(logit, present, weight, positives)
        total = A_pos.sum((-2, -1), keepdim=True) + A_neg.sum((-2, -1), keepdim=True)
        return ratio(A_pos, total), ratio(A_neg, total)


class _Unbalanced(Textbook):
    """Rows of W_pos and W_neg that do not have equal sums: the origin matters then."""

    def origin(self, y_pos: Tensor) -> Tensor:
        """Targets as they are."""
        return torch.zeros_like(y_pos[..., :1, :])


@suspect("D14", "own-means", size=1e-3, idle_under=ROWS_OF_ONE)
class OwnMeans(_Unbalanced):
    """The means of each set by its own affinities, the form of EQ-8."""

    def balance(self, A_pos: Tensor, A_neg: Tensor) -> tuple[Tensor, Tensor]:
        """A/ΣA for each set."""
        return (
            ratio(A_pos, A_pos.sum(-1, keepdim=True)),
            ratio(A_neg, A_neg.sum(-1, keepdim=True)),
        )


@suspect("D14", "sums", size=1e-3, idle_under=ROWS_OF_ONE)
class NoCrossWeights(_Unbalanced):
    """The affinities themselves are the weights."""

    def balance(self, A_pos: Tensor, A_neg: Tensor) -> tuple[Tensor, Tensor]:
        """W = A."""
        return A_pos, A_neg


@suspect("D15", "", size=1e-3, idle_under=ROWS_OF_ONE)
class Aliased(_Unbalanced):
    """Algorithm 2 as printed, in place: ``W_pos`` is ``A_pos``."""

    def balance(self, A_pos: Tensor, A_neg: Tensor) -> tuple[Tensor, Tensor]:
        """W_neg is scaled by the row sums of A_pos after it was scaled."""
        W_pos = A_pos * A_neg.sum(-1, keepdim=True)
        return W_pos, A_neg * W_pos.sum(-1, keepdim=True)


@suspect("D69", "", "loss", "temperatures", size=1e-3)
class AveragedKernels(Textbook):
    """The affinities of all temperatures are averaged before one drift."""

    def affinities(
        self, logit: Tensor, present: Tensor, weight: Tensor, positives: int
    ) -> tuple[Tensor, Tensor]:
        """The mean of A over τ. [1, ..., N, P] and [1, ..., N, M − P]."""
        A_pos, A_neg = super().affinities(logit, present, weight, positives)
        return A_pos.mean(0, keepdim=True), A_neg.mean(0, keepdim=True)


# Weights, A.7.


@suspect("D52", "", size=1e-3, reading=("unconditional_weight", "log_in_softmaxes"))
class LogWeight(Textbook):
    """log w is added to the logits before both softmaxes; it cancels in the one over x."""

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        """√(w e/R_w · e/C)."""
        if self.readings.softmax_axes == "none":
            return weight * self.kernel(logit, present)
        row = weight * self.row_softmax(logit, present, weight)
        if self.readings.softmax_axes == "y":
            return row
        return self.combination(row, self.column_softmax(logit, present))


@suspect("D53", "", size=1e-3, reading=("unconditional_weight", "after_softmaxes"))
class WeightAfterSoftmaxes(Textbook):
    """Unweighted softmaxes, then A is multiplied by w: a weight of 0 still takes part in R."""

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        """A = w · √(e/R · e/C)."""
        if self.readings.softmax_axes == "none":
            return weight * self.kernel(logit, present)
        row = self.row_softmax(logit, present, torch.ones_like(weight))
        if self.readings.softmax_axes == "y":
            return weight * row
        return weight * self.combination(row, self.column_softmax(logit, present))


@suspect("D55", "unweighted", "unconditional weights", size=1e-3)
class UnconditionalUnweighted(Textbook):
    """Every unconditional sample has weight 1."""

    def weights(self, samples: Samples) -> Tensor:
        """1 for the columns after the samples' own."""
        weight = super().weights(samples).clone()
        weight[..., samples.positives + samples.own :] = 1
        return weight


@suspect("D55", "switch", "unconditional weights", size=1e-3)
class WeightIsSwitch(Textbook):
    """A weight above 0 counts as 1."""

    def weights(self, samples: Samples) -> Tensor:
        """0 or 1 for the columns after the samples' own."""
        weight = super().weights(samples).clone()
        first = samples.positives + samples.own
        weight[..., first:] = (weight[..., first:] > 0).to(weight.dtype)
        return weight
