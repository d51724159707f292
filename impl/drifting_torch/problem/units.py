"""Powers of two that bring features of any unit to where their squares are ordinary numbers (A.6).

The loss does not depend on the unit of its features (EQ-21), but the squares of distances and the
logits' rates leave a dtype's range long before the features do. Multiplying by a power of two
rounds nothing. Ordinary features are not multiplied, nor looked at a second time.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from drifting_torch.problem.problem import Problem

_EXPONENT = {torch.float32: 126, torch.float64: 1022}
"""Exponents up to which powers of two and their reciprocals are ordinary numbers."""


def with_units(problem: Problem) -> Problem:
    """The problem with a unit for each of its groups, by which their targets are multiplied.

    Floors keep small features from mattering: under a reading that has them only large ones are
    brought down.
    """
    sizes = torch.stack([each.abs().amax((1, 3)) for each in problem.sets]).amax(0)
    units = powers_of_two(sizes.to(problem.dtype)).to(problem.wide)
    if problem.readings.floors != "none":
        units.clamp_(max=1.0)
    return replace(problem, units=units)


def powers_of_two(sizes: Tensor) -> Tensor:
    """A power of two for each size, whose product with it is about 1; 1 for 0, inf and nan."""
    most = _EXPONENT[sizes.dtype]
    exponents = torch.frexp(sizes).exponent.neg_().clamp_(-most, most)
    exponents.masked_fill_((sizes == 0) | ~sizes.isfinite(), 0)
    return torch.ldexp(torch.ones_like(sizes), exponents)


def units_for(points: Tensor, norms: Tensor) -> Tensor | None:
    """Such powers [B, 1, 1] for points [B, M, C] of norms [B, M]; None where they are ordinary."""
    lowest, highest = norms.amax(-1).aminmax()
    least, most = ordinary_range(norms.dtype)
    if least < lowest.item() and highest.item() < most:
        return None
    units = powers_of_two(points.abs().amax((1, 2), keepdim=True))
    return None if bool((units == 1).all()) else units


def ordinary_range(dtype: torch.dtype) -> tuple[float, float]:
    """Norms whose squares, summed and compared, are far inside the dtype's range."""
    info = torch.finfo(dtype)
    return info.tiny**0.4, info.max**0.4


def shared(problem: Problem, *, raw: bool) -> Tensor | float:
    """The unit [1|L, 1|V] of what shares a scale S, that of its largest group; 1 if ``raw``."""
    units = problem.units
    if units is None or raw:
        return 1.0
    if problem.readings.statistics_scope == "batch":
        units = units.amin(0, keepdim=True)
    if problem.readings.location_sharing != "none":
        units = units.amin(1, keepdim=True)
    return units


def exceeds(factor: Tensor, dtype: torch.dtype) -> bool:
    """Whether ``factor``, which is wider, may leave the range of ``dtype`` with what multiplies it.

    Where it has zeros they are left out: there nothing is left to multiply.
    """
    if factor.dtype == dtype or factor.device.type != "cpu":
        return False
    sizes = factor.abs()
    lowest, highest = sizes.masked_fill(sizes == 0, 1.0).aminmax()
    info = torch.finfo(dtype)
    return lowest.item() < info.tiny**0.75 or highest.item() > info.max**0.75
