"""The loss on a GPU by the Triton kernels, where they apply, with the eager path behind them.

Three kernels a feature: ``measure`` gives the distances, ``correlate`` what λ needs, ``gradient``
the normalised sum. Between them lie a few operators on one number a group, none of which asks the
device for a value, so that a step can be captured in a CUDA graph. Inputs are read three times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch import _powers
from drifting_torch._backends import kernels_wanted, warn_once
from drifting_torch._coefficients import mask_logits, root_scaled
from drifting_torch._problem import Problem
from drifting_torch._statistics import RELEASE_DISTANCE, distance_sums, reciprocal

_LARGEST = 128
"""Samples of one kind up to which a tile of distances fits a program."""

_OLDEST = (3, 2)

_NAME = "the Triton kernels"

_DEVICES = {"cuda"}
_STATE: dict[str, ModuleType | None] = {}


def kernels_for(problem: Problem) -> Kernels | None:
    """The kernels for a problem, None where the eager path is to be taken."""
    if problem.generated.device.type not in _DEVICES or not _applies(problem):
        return None
    module = _module()
    return None if module is None else Kernels.of(problem, module)


def _applies(problem: Problem) -> bool:
    sizes = [problem.positive.shape[1], problem.generated.shape[1]]
    if problem.unconditional is not None:
        sizes.append(problem.unconditional.shape[1])
    return (
        kernels_wanted()
        and problem.normalized
        and problem.dtype == torch.float32
        and max(sizes) <= _LARGEST
        and _powers.applies(problem.readings)
        and problem.readings.location_sharing != "all_pairs"
    )


def _module() -> ModuleType | None:
    """The kernels' module, loaded when first asked for; None if that fails, which is said once."""
    if "kernels" not in _STATE:
        try:
            _STATE["kernels"] = _loaded()
        except Exception as error:  # whatever a foreign installation may raise
            give_up(error)
    return _STATE["kernels"]


def _loaded() -> ModuleType:
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise ImportError(f"Triton is {triton.__version__}, expected {oldest} or newer")
    from drifting_torch import _triton_kernels

    return _triton_kernels


def give_up(error: Exception) -> None:
    """Take the eager path from now on, and say why."""
    _STATE["kernels"] = None
    warn_once(_NAME, f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Kernels:
    """A problem's launches. What they share is worked out once."""

    problem: Problem
    module: ModuleType
    samples: tuple[Tensor, Tensor, Tensor]
    sizes: tuple[int, int, int, int, int]
    strides: tuple[int, ...]
    tiles: dict[str, Any]

    @classmethod
    def of(cls, problem: Problem, module: ModuleType) -> Kernels:
        """Sizes, strides and tiles of a problem; without unconditional samples their tile is 0."""
        generated, positive = problem.generated, problem.positive
        _, count, vectors, channels = generated.shape
        other = positive if problem.unconditional is None else problem.unconditional
        others = 0 if problem.unconditional is None else other.shape[1]
        tiles: dict[str, Any] = {
            "N": _tile(count),
            "P": _tile(positive.shape[1]),
            "U": _tile(others) if others else 0,
            "C": min(64 if max(count, positive.shape[1], others) <= 64 else 32, _tile(channels)),
            "PRECISION": "tf32x3" if problem.precision == "float32" else "tf32",
        }
        strides = [each.stride() for each in (generated, positive, other)]
        return cls(
            problem,
            module,
            (generated, positive, other),
            (count, positive.shape[1], others, vectors, channels),
            tuple(step for each in strides for step in each),
            tiles,
        )

    @implements("EQ-19", "EQ-21", "A6-S", "A7-weight-in-scale", "A6-locshare")
    def measure(self) -> tuple[Tensor, Tensor]:
        """All distances [L·V, N, M], and the sums [2, 1|L, 1|V] whose ratio is their mean."""
        problem, (count, _, _, vectors, _) = self.problem, self.sizes
        groups = problem.generated.shape[0] * vectors
        like = self.samples[0]
        distances = like.new_empty((groups, count, problem.targets), dtype=torch.float32)
        columns = like.new_empty((groups, problem.targets), dtype=torch.float32)
        floor = RELEASE_DISTANCE if problem.readings.floors == "release" else 0.0
        self.module.measure[(groups,)](
            *self.samples,
            distances,
            columns,
            *self.sizes,
            *self.strides,
            floor,
            **self.tiles,
            THRESHOLD=torch.finfo(torch.float32).eps ** 0.25,
        )
        wide = columns.to(problem.wide).view(-1, vectors, problem.targets)
        return distances, distance_sums(problem, distances, wide)

    def drifts(
        self, distances: Tensor, coordinate_scale: Tensor, distance_scale: Tensor, *, kept: bool
    ) -> TritonDrifts:
        """The drifts from the distances; with ``kept`` the products of two of them as well."""
        problem = self.problem
        shape = (problem.generated.shape[0], self.sizes[3])
        units = [
            reciprocal(scale).expand(shape).reshape(-1)
            for scale in (distance_scale, coordinate_scale)
        ]
        effective = [temperature * root_scaled(problem) for temperature in problem.temperatures]
        rates = torch.stack([units[0] / each for each in effective]).to(torch.float32)
        masks = torch.stack(
            [torch.full_like(rates[0, :1], -each) for each in mask_logits(problem, effective)]
        ).view(-1)
        readings = problem.readings
        floor = 0.0 if readings.affinity_floor == "none" else float(readings.affinity_floor)
        weight = problem.weight
        flags = {
            "WEIGHTED": weight is not None,
            "INSIDE": weight is not None and readings.unconditional_weight == "replication",
            "FLOOR": math.sqrt(floor),
        }
        shared = (
            distances,
            rates if weight is None else weight.to(torch.float32).contiguous(),
            rates,
            units[1].to(torch.float32),
            masks,
        )
        indices = list(range(len(effective)))
        pairs = [(index, index) for index in indices]
        products = self._correlate(shared, flags, pairs)
        crosses = None
        if kept and len(indices) > 1:
            crosses = self._correlate(shared, flags, list(combinations(indices, 2)))
        return TritonDrifts(self, shared, flags, products.view(-1, *shape), crosses)

    def _correlate(
        self, shared: tuple[Tensor, ...], flags: dict[str, Any], pairs: list[tuple[int, int]]
    ) -> Tensor:
        """Products [pairs, L·V] of two temperatures' drifts each."""
        groups = len(shared[0])
        device, same = shared[0].device, all(one == two for one, two in pairs)
        table = shared[0]
        if not same:
            # One operator an entry, since a table copied from the host would stop the device.
            entries = [index for pair in pairs for index in pair]
            full = [torch.full((), each, dtype=torch.int32, device=device) for each in entries]
            table = torch.stack(full)
        products = torch.empty((len(pairs), groups), dtype=torch.float32, device=device)
        self.module.correlate[(groups * len(pairs),)](
            *self.samples,
            *shared,
            products,
            table,
            groups,
            *self.sizes,
            *self.strides,
            **self.tiles,
            **flags,
            PAIRS=len(pairs),
            SAME=same,
        )
        return products.to(self.problem.wide)


@dataclass(frozen=True)
class TritonDrifts:
    """The drifts as their distances: nothing of [N, C] is kept of them."""

    kernels: Kernels
    shared: tuple[Tensor, ...]
    flags: dict[str, Any]
    energy: Tensor
    products: Tensor | None

    def crosses(self) -> list[Tensor]:
        """Products [L, V] of every two temperatures' drifts."""
        if self.products is None:
            return []
        return [each.view(self.energy.shape[1:]) for each in self.products]

    @implements("EQ-A6tau", "A6-order")
    def summed(self, inverse: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Squares [L, V] of Ṽ, and Ṽ times ``slope`` [L, V] as [L·V, N, C]."""
        kernels, (count, _, _, _, channels) = self.kernels, self.kernels.sizes
        groups = len(self.shared[0])
        squares = self.shared[0].new_empty((groups,))
        out = self.shared[0].new_empty((groups, count, channels))
        kernels.module.gradient[(groups,)](
            *kernels.samples,
            *self.shared,
            inverse.reshape(len(inverse), -1).to(torch.float32).contiguous(),
            slope.reshape(-1).to(torch.float32).contiguous(),
            squares,
            out,
            groups,
            *kernels.sizes,
            *kernels.strides,
            **kernels.tiles,
            **self.flags,
            T=len(inverse),
        )
        return squares.to(kernels.problem.wide).view(slope.shape), out


def _tile(size: int) -> int:
    """The power of two that holds ``size``, at least 16 as products of tiles need."""
    return max(16, 1 << (size - 1).bit_length())
