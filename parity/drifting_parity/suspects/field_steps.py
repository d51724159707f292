"""Algorithm 2 step by step in PyTorch, every step a method that a suspect can replace.

Written from the equations, batched over groups: ``...`` in a shape stands for [L, V], with the
temperatures in front of it from the logits on. Columns stand in the order of :class:`Samples`.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from drifting_parity.suspects.samples import Samples
from drifting_spec import PAPER, Readings

AFFINITY_FLOORS: Final = {"none": 0.0, "1e-6": 1e-6, "1e-12": 1e-12}


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0/0 := 0: where the denominator is 0 the result is 0."""
    return numerator / denominator.masked_fill(denominator <= 0, torch.inf)


def root(squared: Tensor) -> Tensor:
    """√ with gradient 0 at 0."""
    if not squared.requires_grad:
        return squared.sqrt()
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


class FieldSteps:
    """The steps of Algorithm 2 under one set of readings."""

    def __init__(self, readings: Readings = PAPER) -> None:
        self.readings = readings

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """ALG2-1, ALG2-2: ‖x_i − y_m‖₂ by explicit differences. [..., N, C] → [..., N, M]."""
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """ALG2-3: no sample repels itself. Distances [..., N, M] and which pairs are present.

        self_mask=exclude: the pair is absent; add_1e6: 10⁶ is added; add_100: 100 ``unit``.
        """
        own = samples.self_pairs
        if self.readings.self_mask == "exclude":
            return distance, ~own
        added = 1e6 if self.readings.self_mask == "add_1e6" else 100 * unit
        return distance + added * own.to(distance.dtype), torch.ones_like(own)

    def weights(self, samples: Samples) -> Tensor:
        """A7-w: the kernel weight of each column, in the affinities and in S. [L, 1, M]."""
        return samples.weight

    def logits(self, distance: Tensor, samples: Samples, temperature: Tensor) -> Tensor:
        """ALG2-4, EQ-12: −d/T. [..., N, M] and [T, 1, 1, 1, 1] → [T, ..., N, M]."""
        del samples
        return -distance / temperature

    def shares(self, logit: Tensor, counted: Tensor, weight: Tensor, axis: int) -> Tensor:
        """ALG2-5: e/Σ w e along an axis, 0 for what does not count and where nothing does."""
        logit = logit.masked_fill(~counted, -torch.inf)
        largest = logit.detach().amax(axis, keepdim=True).clamp_min(torch.finfo(logit.dtype).min)
        e = torch.exp(logit - largest)
        return ratio(e, (weight * e).sum(axis, keepdim=True))

    def row_softmax(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        """A_row: the share of one copy of each target. Weights [L, 1, 1, M]. [T, ..., N, M]."""
        return self.shares(logit, present & (weight > 0), weight, -1)

    def column_softmax(self, logit: Tensor, present: Tensor) -> Tensor:
        """A_col: the softmax over the generated samples. [T, ..., N, M]."""
        return self.shares(logit, present, logit.new_ones(()), -2)

    def combination(self, row: Tensor, column: Tensor) -> Tensor:
        """ALG2-6: √(row·column) above the floor; product: without the root. [T, ..., N, M]."""
        floor = AFFINITY_FLOORS[self.readings.affinity_floor]
        if self.readings.softmax_combination == "product":
            return (row * column).clamp_min(floor)
        # Root by root: the product of two small shares would underflow first.
        return (root(row) * root(column)).clamp_min(floor**0.5)

    def kernel(self, logit: Tensor, present: Tensor) -> Tensor:
        """EQ-12: k = exp(−d/T), 0 for what is absent. [T, ..., N, M]."""
        return torch.where(present, torch.exp(logit), 0.0)

    def affinity(self, logit: Tensor, present: Tensor, weight: Tensor) -> Tensor:
        """ALG2-5, ALG2-6 and where w enters: A. Weights [L, 1, 1, M]. [T, ..., N, M].

        With e = exp(logit), R = Σ_m e, R_w = Σ_m w e and C = Σ_i e: replication w·√(e/R_w · e/C);
        after_softmaxes w·√(e/R · e/C); log_in_softmaxes √(w e/R_w · e/C).
        """
        if self.readings.softmax_axes == "none":
            return weight * self.kernel(logit, present)
        entry = self.readings.unconditional_weight
        inside = weight if entry != "after_softmaxes" else torch.ones_like(weight)
        row = self.row_softmax(logit, present, inside)
        if self.readings.softmax_axes == "y":
            return weight * row
        column = self.column_softmax(logit, present)
        if entry == "log_in_softmaxes":
            return self.combination(weight * row, column)
        return weight * self.combination(row, column)

    def affinities(
        self, logit: Tensor, present: Tensor, weight: Tensor, positives: int
    ) -> tuple[Tensor, Tensor]:
        """ALG2-7: A of the positive and of the negative columns; separate: each set on its own."""
        if self.readings.kernel_normalization == "joint":
            A = self.affinity(logit, present, weight)
            return A[..., :positives], A[..., positives:]
        pos, neg = slice(None, positives), slice(positives, None)
        return (
            self.affinity(logit[..., pos], present[..., pos], weight[..., pos]),
            self.affinity(logit[..., neg], present[..., neg], weight[..., neg]),
        )

    def balance(self, A_pos: Tensor, A_neg: Tensor) -> tuple[Tensor, Tensor]:
        """ALG2-8, ALG2-9: W_pos = A_pos·ΣA_neg and W_neg = A_neg·ΣA_pos, sums along the row."""
        return A_pos * A_neg.sum(-1, keepdim=True), A_neg * A_pos.sum(-1, keepdim=True)

    def origin(self, y_pos: Tensor) -> Tensor:
        """From where the targets are measured: a sample, so that coinciding ones give exactly 0.

        W_pos and W_neg have equal row sums, so that any origin is right; a suspect that breaks
        this balance measures from 0, as the code that it stands for. [..., 1, C].
        """
        return y_pos[..., :1, :]

    def drift(self, W_pos: Tensor, W_neg: Tensor, y_pos: Tensor, y_neg: Tensor) -> Tensor:
        """ALG2-10: V = W_pos @ y_pos − W_neg @ y_neg. [T, ..., N, C]."""
        origin = self.origin(y_pos)
        return W_pos @ (y_pos - origin) - W_neg @ (y_neg - origin)

    def weights_from_distances(
        self, distance: Tensor, samples: Samples, temperature: Tensor, unit: float
    ) -> tuple[Tensor, Tensor]:
        """Algorithm 2 from ALG2-3 to ALG2-9: W_pos and W_neg of distances [..., N, M].

        ``unit`` is what self_mask=add_100 adds a hundred of, in units of the distance.
        """
        distance, present = self.mask(distance, samples, unit)
        logit = self.logits(distance, samples, temperature)
        weight = self.weights(samples).unsqueeze(1)
        return self.balance(*self.affinities(logit, present, weight, samples.positives))
