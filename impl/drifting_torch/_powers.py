"""The paper's and the release's affinities for several temperatures from one exponential.

The temperatures of the paper are τ_max over whole numbers k (1, 4, 10), so that e^(−d/τ) is a power
of e^(−d/τ_max). A softmax does not change where its logits are shifted, so distances may be
measured from what is nearest: E = e^(−(d − ρ − θ)/τ_max) with ρ_n = min_m d_nm, and θ_m = 0 or,
where that leaves too little of some column, θ_m = min_n (d_nm − ρ_n). The affinity is

    A = E^k · √(e^(−ρk/τ_max) / Σ_m E^k e^(−θk/τ_max)) · √(e^(−θk/τ_max) / Σ_n E^k e^(−ρk/τ_max)):

a power times a factor of the row times a factor of the column, one exponential an entry for all
temperatures. It computes what ``_affinity`` computes, and is tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch._affinity import Targets, self_entries

_LARGEST_POWER = 64

_RANGE = {torch.float32: 80.0, torch.float64: 600.0}
"""Logits whose exponential neither vanishes nor overflows."""

_LEAST = {torch.float32: 1e-35, torch.float64: 1e-290}
"""Sums above it hold what enters them to full precision."""

_NEGLIGIBLE = 300.0
"""Logits by which a sample's own entry must lie below all that counts to be left out."""


def whole_powers(temperatures: tuple[float, ...]) -> tuple[int, ...] | None:
    """τ_max/τ for each temperature, None unless all are whole numbers of a moderate size."""
    highest = max(temperatures)
    powers = tuple(round(highest / temperature) for temperature in temperatures)
    for power, temperature in zip(powers, temperatures, strict=True):
        if power > _LARGEST_POWER or not math.isclose(power * temperature, highest, rel_tol=1e-12):
            return None
    return powers


def applies(readings: Readings) -> bool:
    """Whether the affinities are those of the two softmaxes' geometric mean."""
    return (
        readings.softmax_axes == "xy"
        and readings.softmax_combination == "sqrt"
        and readings.kernel_normalization == "joint"
        and readings.temperature_scaling == "sqrt_channels"
        and readings.unconditional_weight != "log_in_softmaxes"
    )


@dataclass
class Buffers:
    """Memory [groups, N, M] that the chunks of one feature share."""

    base: Tensor
    square: Tensor
    spare: Tensor

    @classmethod
    def like(cls, distances: Tensor) -> Buffers:
        """Buffers of the shape of one chunk's distances [B, N, M]."""
        return cls(*(torch.empty_like(distances) for _ in range(3)))

    def first(self, groups: int) -> Buffers:
        """The part of them that a last, smaller chunk needs."""
        if groups == len(self.base):
            return self
        return Buffers(self.base[:groups], self.square[:groups], self.spare[:groups])


def _ascend(base: Tensor, square: Tensor, powers: list[int]) -> Iterator[int]:
    """Raise ``base`` in place to each of the ascending ``powers``; ``square`` holds a square.

    (1, 4, 10) takes four products: x², x⁴ = x²·x², x¹⁰ = x⁴·x⁴·x². Other chains take a pow.
    """
    at, kept = 1, 0
    for power in powers:
        if power == 2 * at:
            base.mul_(base)
            kept = 0
        elif power == 4 * at:
            torch.mul(base, base, out=square)
            torch.mul(square, square, out=base)
            kept = 2 * at
        elif kept and power == 2 * at + kept:
            base.mul_(base).mul_(square)
            kept = 0
        elif power != at:
            base.pow_(power / at)
            kept = 0
        at = power
        yield power


@dataclass(frozen=True)
class Kernel:
    """What the affinities of a chunk are besides its distances.

    ``rate`` [B, 1, 1], or of one element, turns distances into logits at the highest temperature;
    ``mask_logit`` is what is added to a sample's own logit; ``scale`` [B, 1, 1], or of one element,
    multiplies what comes out. Columns before ``weighted`` weigh 1.
    """

    powers: tuple[int, ...]
    rate: Tensor
    mask_logit: float
    scale: Tensor
    targets: Targets
    weighted: int
    readings: Readings

    @property
    def floor(self) -> float:
        """The least affinity: the reading's floor is one of the softmaxes' product."""
        floor = self.readings.affinity_floor
        return 0.0 if floor == "none" else math.sqrt(float(floor))


Deliver = Callable[[int, Tensor], object]


def deliver_coefficients(
    distances: Tensor, kernel: Kernel, buffers: Buffers, deliver: Deliver
) -> bool:
    """Form the drift's coefficients [B, N, M] of a chunk's distances for every power.

    ``deliver(index, coefficients)`` is called once for each of the powers, with a matrix whose
    product with the targets is the drift; it may be overwritten afterwards. Returns False, and
    what was delivered is void, where samples are so far from one side or from one another that
    the general path must be taken.
    """
    own = self_entries(distances, kernel.targets)
    kept = own.clone()
    own.fill_(torch.finfo(distances.dtype).max / 4)
    row = distances.amin(-1, keepdim=True)
    lowest, highest = row.aminmax(dim=1, keepdim=True)
    middle = (lowest + highest).mul_(0.5)
    done = False
    for shifted in (False, True):
        column = _column(distances, row, buffers.base) if shifted else None
        if not _serves(middle, highest, column, kernel):
            break
        base = _exponential(distances, row, column, kernel.rate, buffers.base)
        of_row = torch.sub(middle, row).mul_(kernel.rate)
        of_column = None if column is None else column * -kernel.rate
        if _deliver(base, of_row, of_column, kernel, buffers, deliver):
            done = True
            break
    own.copy_(kept)
    return done


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
        found[0] * max(kernel.powers) <= _RANGE[middle.dtype]
        and found[1] <= -kernel.mask_logit - _NEGLIGIBLE
    )


def _exponential(
    distances: Tensor, row: Tensor, column: Tensor | None, rate: Tensor, out: Tensor
) -> Tensor:
    """E [B, N, M]; ``column`` None stands for zeros."""
    if column is not None:
        torch.sub(distances, row, out=out).sub_(column).mul_(rate).neg_()
    elif rate.numel() == 1:
        torch.sub(row * rate, distances, alpha=rate.item(), out=out)
    else:
        torch.sub(row, distances, out=out).mul_(rate)
    return out.exp_()


def _deliver(
    base: Tensor,
    of_row: Tensor,
    of_column: Tensor | None,
    kernel: Kernel,
    buffers: Buffers,
    deliver: Deliver,
) -> bool:
    """Deliver the coefficients from E and the logits of its rows and columns."""
    weight, spare = kernel.targets.weight, buffers.spare
    part = None if weight is None else weight[..., kernel.weighted :]
    sides = spare.tensor_split([kernel.targets.positives], dim=-1)
    wanted = sorted(set(kernel.powers))
    least: list[Tensor] = []
    for power in _ascend(base, buffers.square, wanted):
        half_row = (of_row * (0.5 * power)).exp_()
        column_sum = torch.bmm(half_row.square().mT, base)
        row_sum = _row_sum(base, of_column, power, kernel, spare)
        least = [column_sum, row_sum]
        column = column_sum.rsqrt()
        if of_column is not None:
            column.mul_((of_column * (0.5 * power)).exp_())
        row = half_row.mul_(row_sum.rsqrt())
        torch.mul(base, column, out=spare)
        if kernel.floor:
            torch.maximum(spare, row.reciprocal().mul_(kernel.floor), out=spare)
        if part is not None:
            spare[..., kernel.weighted :].mul_(part)
        least += _balance(sides, row.square_().mul_(kernel.scale))
        for index, other in enumerate(kernel.powers):
            if other == power:
                deliver(index, spare)
    # All these sums are least at the highest power.
    return torch.stack([each.amin() for each in least]).amin().item() > _LEAST[base.dtype]


def _row_sum(
    base: Tensor, of_column: Tensor | None, power: int, kernel: Kernel, spare: Tensor
) -> Tensor:
    """The row softmax's denominator [B, N, 1], in the units of E^k."""
    weight, first = kernel.targets.weight, kernel.weighted
    if kernel.readings.unconditional_weight != "replication":
        weight = None
    if of_column is not None:
        entering = (of_column * power).exp_()
        if weight is not None:
            entering.mul_(weight)
        return torch.mul(base, entering, out=spare).sum(-1, keepdim=True)
    if weight is None:
        return base.sum(-1, keepdim=True)
    columns = weight[..., first:].mT.expand(len(base), -1, 1)
    return torch.bmm(base[..., first:], columns).add_(base[..., :first].sum(-1, keepdim=True))


def _balance(sides: Sequence[Tensor], row_factor: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients in place: attraction times repelling mass, repulsion times −attracting mass.

    The affinities lack a factor of their row; ``row_factor`` [B, N, 1] is its square. Returns the
    masses without it.
    """
    positive, negative = sides
    attracting, repelling = positive.sum(-1, keepdim=True), negative.sum(-1, keepdim=True)
    positive.mul_(repelling * row_factor)
    negative.mul_(attracting * row_factor.neg_())
    return attracting, repelling
