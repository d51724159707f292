"""The paper's and the release's affinities for several temperatures from one exponential.

The temperatures of the paper are τ_max over whole numbers k (1, 4, 10), so that e^(−d/τ) is a power
of e^(−d/τ_max). A softmax does not change where its logits are shifted, so distances may be
measured from what is nearest: E = e^(−(d − ρ − θ)/τ_max) with ρ_n = min_m d_nm, and θ_m = 0 or,
where that leaves too little of some column, θ_m = min_n (d_nm − ρ_n). The affinity is

    A = E^k · √(e^(−ρk/τ_max) / Σ_m E^k e^(−θk/τ_max)) · √(e^(−θk/τ_max) / Σ_n E^k e^(−ρk/τ_max)):

a power times a factor of the row times a factor of the column, one exponential an entry for all
temperatures. It computes what ``affinity`` computes, and is tested against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch.eager.affinity import Targets, self_entries
from drifting_torch.eager.fused import call
from drifting_torch.problem.readings import affinity_floor
from drifting_torch.problem.thresholds import LEAST_SUM, LOGIT_RANGE, NEGLIGIBLE

_LARGEST_POWER = 64


def whole_powers(temperatures: tuple[float, ...]) -> tuple[int, ...] | None:
    """τ_max/τ for each temperature, None unless all are whole numbers of a moderate size."""
    highest = max(temperatures)
    powers = tuple(round(highest / temperature) for temperature in temperatures)
    for power, temperature in zip(powers, temperatures, strict=True):
        if power > _LARGEST_POWER or not math.isclose(power * temperature, highest, rel_tol=1e-12):
            return None
    return powers


@dataclass(frozen=True)
class Kernel:
    """What the affinities of a chunk are besides its distances.

    ``powers`` are τ_max/τ for each temperature. ``rate`` [B, 1, 1], or of one element,
    turns distances into logits at the highest temperature; ``mask_logit`` is what is added to a
    sample's own logit; ``scale`` [B, 1, 1], or of one element, multiplies what comes out. Columns
    before ``weighted`` weigh 1.
    """

    powers: tuple[int, ...]
    rate: Tensor
    mask_logit: float
    scale: Tensor
    targets: Targets
    weighted: int
    readings: Readings

    @cached_property
    def halves(self) -> Tensor:
        """Half of each of the powers [T, 1, 1]."""
        return self.rate.new_tensor([0.5 * power for power in self.powers]).view(-1, 1, 1)

    @cached_property
    def scale_logit(self) -> float:
        """How far from 1 the scale may take the rows' factors, as a logit; 0 is no factor."""
        scale = self.scale.masked_fill(self.scale == 0, 1.0)
        return scale.log().abs().amax().item()

    @property
    def floor(self) -> float:
        """The least affinity: the reading's floor is one of the softmaxes' product."""
        return math.sqrt(affinity_floor(self.readings))


def fill_coefficients(distances: Tensor, kernel: Kernel, spare: Tensor, out: Tensor) -> bool:
    """Fill ``out`` [B, T, N, M] with the drift's coefficients of distances [B, N, M].

    ``spare`` is memory of the same shape. The product of coefficients and targets is the drift.
    A sample's distance from itself is lost. Returns False, with nothing of use in ``out`` and the
    distances as they were, where samples are so far from one side or from one another that the
    general path must be taken.
    """
    served = call.fill(distances, kernel, out)
    if served is not None:
        return bool(served.all())
    own = self_entries(distances, kernel.targets)
    kept = own.clone()
    own.fill_(torch.finfo(distances.dtype).max / 4)
    row = distances.amin(-1, keepdim=True)
    lowest, highest = row.aminmax(dim=1, keepdim=True)
    middle = (lowest + highest).mul_(0.5)
    for shifted in (False, True):
        column = _column(distances, row, spare[:, 0]) if shifted else None
        if not _serves(middle, highest, column, kernel):
            break
        of_row = torch.sub(middle, row).mul_(kernel.rate)
        _fill_powers(distances, row, column, kernel, spare, out[:, 0])
        of_column = None if column is None else column * -kernel.rate
        if _balance_powers(spare, of_row, of_column, kernel, out):
            return True
    own.copy_(kept)
    return False


def _column(distances: Tensor, row: Tensor, spare: Tensor) -> Tensor:
    """θ [B, 1, M]: how far the nearest of each column is from being its row's nearest."""
    column = torch.sub(distances, row, out=spare).amin(1, keepdim=True)
    # Where a sample is the only one, its own column has no other entry.
    return column.masked_fill_(column > torch.finfo(column.dtype).max / 8, 0.0)


def _serves(middle: Tensor, highest: Tensor, column: Tensor | None, kernel: Kernel) -> bool:
    """Whether the rows' factors are in range, and a sample's own entry is negligible if masked."""
    spread, height = highest - middle, highest
    if column is not None:
        height = highest + column.amax(-1, keepdim=True)
    found = torch.cat([spread, height], 1).mul_(kernel.rate).amax((0, 2)).tolist()
    return (
        found[0] * max(kernel.powers) <= LOGIT_RANGE[middle.dtype] - kernel.scale_logit
        and found[1] <= -kernel.mask_logit - NEGLIGIBLE
    )


def _fill_powers(
    distances: Tensor,
    row: Tensor,
    column: Tensor | None,
    kernel: Kernel,
    out: Tensor,
    square: Tensor,
) -> None:
    """Fill ``out`` [B, T, N, M] with E^k for all powers; ``column`` None stands for zeros.

    ``square`` [B, N, M] is spare. (1, 4, 10) takes four products: x², x⁴ = x²·x²,
    x¹⁰ = x⁴·x⁴·x². Other chains take a pow.
    """
    first, *others = sorted(range(len(kernel.powers)), key=kernel.powers.__getitem__)
    source = out[:, first]
    if column is not None:
        torch.sub(distances, row, out=source).sub_(column).mul_(kernel.rate).neg_()
    elif kernel.rate.numel() == 1:
        torch.sub(row * kernel.rate, distances, alpha=kernel.rate.item(), out=source)
    else:
        torch.sub(row, distances, out=source).mul_(kernel.rate)
    source.exp_()
    at, squared = 1, 0
    for index in others:
        power, into = kernel.powers[index], out[:, index]
        if power == at:
            into.copy_(source)
        elif power == 2 * at:
            torch.mul(source, source, out=into)
        elif power == 4 * at:
            torch.mul(source, source, out=square)
            torch.mul(square, square, out=into)
            squared = 2 * at
        elif squared and power == 2 * at + squared:
            torch.mul(source, source, out=into).mul_(square)
        else:
            torch.pow(source, power / at, out=into)
        source, at = into, power


def _balance_powers(
    powers: Tensor, of_row: Tensor, of_column: Tensor | None, kernel: Kernel, out: Tensor
) -> bool:
    """Fill ``out`` from the powers of E and the logits of its rows and columns.

    ``powers`` may be overwritten. Returns False where a sum holds too little.
    """
    groups, temperatures, count, targets = powers.shape
    half_row = (of_row.unsqueeze(1) * kernel.halves).exp_()
    weighing = half_row.square().view(-1, 1, count)
    column_sum = torch.bmm(weighing, powers.view(-1, count, targets))
    row_sum = _row_sum(powers, of_column, kernel, out)
    column = column_sum.rsqrt().view(groups, temperatures, 1, targets)
    if of_column is not None:
        column.mul_((of_column.unsqueeze(1) * kernel.halves).exp_())
    torch.mul(powers, column, out=out)
    row = row_sum.rsqrt().mul_(half_row)
    if kernel.floor:
        torch.maximum(out, row.reciprocal().mul_(kernel.floor), out=out)
    weight = kernel.targets.weight
    if weight is not None:
        out[..., kernel.weighted :].mul_(weight[..., kernel.weighted :].unsqueeze(1))
    # What is there lacks a factor of its row, which either side and its mass bring in.
    positive, negative = out.tensor_split([kernel.targets.positives], dim=-1)
    attracting, repelling = positive.sum(-1, keepdim=True), negative.sum(-1, keepdim=True)
    row.square_().mul_(kernel.scale.unsqueeze(1))
    positive.mul_(repelling * row)
    negative.mul_(attracting * row.neg_())
    sums = (column_sum, row_sum, attracting, repelling)
    return torch.stack([each.amin() for each in sums]).amin().item() > LEAST_SUM[out.dtype]


def _row_sum(powers: Tensor, of_column: Tensor | None, kernel: Kernel, spare: Tensor) -> Tensor:
    """The row softmaxes' denominators [B, T, N, 1], in the units of E^k."""
    entering = None
    if of_column is not None:
        entering = (of_column.unsqueeze(1) * (2 * kernel.halves)).exp_()
    weight = kernel.targets.weight
    if weight is not None and kernel.readings.unconditional_weight == "replication":
        weight = weight.unsqueeze(1)
        entering = weight if entering is None else entering.mul_(weight)
    if entering is not None:
        powers = torch.mul(powers, entering, out=spare)
    return powers.sum(-1, keepdim=True)
