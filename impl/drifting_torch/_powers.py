"""The paper's and the release's affinities for several temperatures from one exponential.

The temperatures of the paper are τ_max over whole numbers (1, 4, 10), so that e^(−d/τ) is a power
of q = e^(−d/τ_max): two exponentials, with the row's and with the column's extremum taken out, and
a few products serve all temperatures. Written with out= buffers that stay in cache. It computes
what ``_affinity`` and the product with the targets compute, and is tested against them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch._affinity import Targets, balanced, self_entries

_LARGEST_POWER = 64

_RANGE = 40.0
"""How far apart, in units of τ_max, the nearest positive and the nearest negative of a sample may
be. Beyond it a factor that float32 rounds to 0 could be all that a sample sees."""


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

    row: Tensor
    column: Tensor
    root: Tensor
    spare: Tensor

    @classmethod
    def like(cls, distances: Tensor) -> Buffers:
        """Four buffers of the shape of one chunk's distances [B, N, M]."""
        return cls(*(torch.empty_like(distances) for _ in range(4)))

    def first(self, groups: int) -> Buffers:
        """The part of them that a last, smaller chunk needs."""
        parts = (self.row, self.column, self.root, self.spare)
        return Buffers(*(part[:groups] for part in parts))


def _ascend(base: Tensor, spare: Tensor, powers: list[int]) -> Iterator[tuple[int, Tensor]]:
    """Raise ``base`` in place to each of the ascending ``powers``; ``spare`` holds a square.

    (1, 4, 10) takes four products: x², x⁴ = x²·x², x¹⁰ = x⁴·x⁴·x². Other chains take a pow.
    """
    at, kept = 1, 0
    for power in powers:
        if power == 2 * at:
            base.mul_(base)
            kept = 0
        elif power == 4 * at:
            torch.mul(base, base, out=spare)
            torch.mul(spare, spare, out=base)
            kept = 2 * at
        elif kept and power == 2 * at + kept:
            base.mul_(base).mul_(spare)
            kept = 0
        elif power != at:
            base.pow_(power / at)
            kept = 0
        at = power
        yield power, base


def drifts_by_powers(
    distances: Tensor,
    per_distance: Tensor,
    centred: Tensor,
    targets: Targets,
    powers: tuple[int, ...],
    mask_logit: float,
    readings: Readings,
    buffers: Buffers,
) -> list[Tensor] | None:
    """Drifts [B, N, C] of one chunk for every power, before the coordinates' scale.

    ``per_distance`` [B, 1, 1] turns distances into logits at the highest temperature;
    ``mask_logit`` is added to every sample's own entry (−inf excludes it). Returns None where the
    samples are so far from one side that the general path must be taken.
    """
    logits = torch.mul(distances, per_distance, out=buffers.root)
    if targets.masked:
        own = self_entries(logits, targets)
        if math.isinf(mask_logit):
            own.fill_(mask_logit)
        else:
            own.add_(mask_logit)
    positive_top, negative_top = (
        part.amax(-1, keepdim=True) for part in logits.tensor_split([targets.positives], dim=-1)
    )
    apart = (positive_top - negative_top).abs_().max().item()
    if not apart <= _RANGE:
        return None
    row = torch.sub(logits, torch.maximum(positive_top, negative_top), out=buffers.row).exp_()
    tops = logits.amax(-2, keepdim=True)
    column = torch.sub(logits, tops, out=buffers.column).exp_()
    root = torch.sqrt(row, out=buffers.root).mul_(torch.sqrt(column, out=buffers.spare))
    wanted = sorted(set(powers))
    weight = targets.weight
    rows: dict[int, Tensor] = {}
    for power, at in _ascend(row, buffers.spare, wanted):
        if weight is not None and readings.unconditional_weight == "replication":
            rows[power] = torch.bmm(at, weight.mT)
        else:
            rows[power] = at.sum(-1, keepdim=True)
    columns = {
        power: at.sum(-2, keepdim=True).rsqrt_()
        for power, at in _ascend(column, buffers.spare, wanted)
    }
    floor = 0.0 if readings.affinity_floor == "none" else float(readings.affinity_floor) ** 0.5
    found: dict[int, Tensor] = {}
    for power, at in _ascend(root, buffers.row, wanted):
        if floor:
            scaled = torch.mul(at, columns[power], out=buffers.spare).mul_(rows[power].rsqrt())
            found[power] = _drift(scaled.clamp_min_(floor), weight, centred, targets.positives)
        else:
            # ``at`` itself is raised further, so the factor is what must be given here.
            factor = columns[power] if weight is None else columns[power] * weight
            found[power] = _drift(at, factor, centred, targets.positives).div_(rows[power])
    # Temperatures may repeat, and what is returned may be written to.
    repeated = len(wanted) < len(powers)
    return [found[power].clone() if repeated else found[power] for power in powers]


def _drift(affinity: Tensor, factor: Tensor | None, centred: Tensor, positives: int) -> Tensor:
    """Attraction times repelling mass less repulsion times attracting mass [B, N, C].

    ``factor`` [B, 1, M] multiplies the columns. It goes into whichever is smaller, the affinities
    or the targets.
    """
    if centred.shape[-1] > affinity.shape[-2]:
        if factor is not None:
            affinity = affinity * factor
        return torch.bmm(balanced(affinity, Targets(positives, masked=False)), centred)
    column = centred.new_ones((*centred.shape[:-1], 1)) if factor is None else factor.mT
    extended = torch.cat([centred if factor is None else centred * column, column], dim=-1)
    attracted = torch.bmm(affinity[..., :positives], extended[:, :positives])
    repelled = torch.bmm(affinity[..., positives:], extended[:, positives:])
    drift = attracted[..., :-1] * repelled[..., -1:]
    return drift.addcmul_(repelled[..., :-1], attracted[..., -1:], value=-1)
