"""Copies of the implementation, each broken by hand in one of the ways met in the wild.

Each is a ``drifting_parity`` adapter, for the tests and for
``drifting-parity report --implementation python:broken_copies:d15`` run in this folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.adapters.torch_adapter import backward_observation, loss_tensors
from drifting_parity.cases import FieldCase, LossCase, LossObservation, Setting
from drifting_spec import Readings
from drifting_torch import _core, field
from drifting_torch._affinity import Targets
from drifting_torch._problem import Chunk


class _Reread(DriftingTorchAdapter):
    """The implementation that always takes one reading, whatever it is asked for."""

    def __init__(self, name: str, **changes: str) -> None:
        self.name = name
        self._changes: dict[str, Any] = changes

    def field(self, case: Any, readings: Readings, setting: Setting) -> Any:
        return super().field(case, replace(readings, **self._changes), setting)

    def loss(self, case: Any, readings: Readings, setting: Setting) -> Any:
        return super().loss(case, replace(readings, **self._changes), setting)

    def feature_loss(self, case: Any, readings: Readings, setting: Setting) -> Any:
        return super().feature_loss(case, replace(readings, **self._changes), setting)


class _Patched(DriftingTorchAdapter):
    """The implementation with one of its functions replaced, in every module that uses it."""

    def __init__(self, name: str, function: str, replacement: Callable[..., Any]) -> None:
        self.name = name
        self._patches = [
            (module, function, replacement)
            for module in (_core, field)
            if hasattr(module, function)
        ]

    def _broken(self, call: Callable[[], Any]) -> Any:
        patches = [mock.patch.object(*each) for each in self._patches]
        for patch in patches:
            patch.start()
        try:
            return call()
        finally:
            for patch in patches:
                patch.stop()

    def field(self, case: Any, readings: Readings, setting: Setting) -> Any:
        return self._broken(lambda: DriftingTorchAdapter.field(self, case, readings, setting))

    def loss(self, case: Any, readings: Readings, setting: Setting) -> Any:
        return self._broken(lambda: DriftingTorchAdapter.loss(self, case, readings, setting))

    def feature_loss(self, case: Any, readings: Readings, setting: Setting) -> Any:
        return self._broken(
            lambda: DriftingTorchAdapter.feature_loss(self, case, readings, setting)
        )


def _aliased(affinity: Tensor, targets: Targets) -> Tensor:
    """D15: Algorithm 2 as printed, in place: W_neg is scaled by the already scaled A_pos."""
    positive, negative = affinity.tensor_split([targets.positives], dim=-1)
    positive.mul_(negative.sum(-1, keepdim=True))
    negative.mul_(-positive.sum(-1, keepdim=True))
    return affinity


_drift_sums = _core.drift_sums


def _without_channels(problem: _core.Problem, energy: Tensor) -> tuple[Tensor, int]:
    """D28: λ is the root of the mean squared norm, not divided by C."""
    sums, entries = _drift_sums(problem, energy)
    return sums, entries // problem.generated.shape[-1]


def _plain_gram(
    x: Tensor,
    y: Tensor,
    self_at: int | None = None,
    out: Tensor | None = None,
    norms: Tensor | None = None,
) -> Tensor:
    """Distances by expanded squares, coincident pairs not repaired."""
    del norms
    squared = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
    found = (squared - 2 * x @ y.mT).clamp_min_(0).sqrt_()
    if self_at is not None:
        found[..., self_at : self_at + x.shape[-2]].diagonal(dim1=-2, dim2=-1).zero_()
    return found if out is None else out.copy_(found)


_measure_distances = _core.measure_distances


def _without_centring(problem: _core.Problem, gathered: Iterable[Chunk]) -> tuple[Tensor, Tensor]:
    """D18: distances by expanded squares, without centring."""
    sets = [problem.positive, problem.generated, problem.unconditional]
    everything = torch.cat([each for each in sets if each is not None], dim=1).transpose(1, 2)
    raw = everything.to(problem.dtype).flatten(0, 1)
    where_it_lies = [replace(chunk, targets=raw[chunk.groups].contiguous()) for chunk in gathered]
    with mock.patch.object(_core, "pair_distances", _plain_gram):
        return _measure_distances(problem, where_it_lies)


class _Uncentred(_Patched):
    """D18 for the field as well, whose program centres its points before it measures them."""

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Any:
        targets = np.concatenate([case.positive, case.negative], axis=-2)
        centre = torch.as_tensor(targets.mean(-2, keepdims=True)).reshape(-1, 1, targets.shape[-1])

        def measured(x: Tensor, y: Tensor) -> Tensor:
            back = centre.to(x)
            return _plain_gram(x + back, y + back)

        with mock.patch.object(field, "pair_distances", measured):
            return super().field(case, readings, setting)


@dataclass
class _Differentiated(DriftingTorchAdapter):
    """D61: the target is not detached, so the gradient runs through V, S and λ."""

    name: str = "D61"

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        tensors = loss_tensors(case, setting)
        value = _attached_loss(tensors, case.temperatures)
        return backward_observation(value, tensors, setting)


def _attached_loss(tensors: dict[str, Tensor | None], temperatures: tuple[float, ...]) -> Tensor:
    generated, positive = tensors["generated"], tensors["positive"]
    assert generated is not None
    assert positive is not None
    labels, count, _, channels = generated.shape
    sets, weights = [positive, generated], []
    for name, samples in (("positive_weight", positive), ("generated_weight", generated)):
        given = tensors[name]
        weights.append(samples.new_ones(samples.shape[:2]) if given is None else given)
    unconditional, weight = tensors["unconditional"], tensors["unconditional_weight"]
    if unconditional is not None and weight is not None:
        sets.append(unconditional)
        weights.append(
            weight if weight.dim() == 2 else weight[:, None].expand(labels, unconditional.shape[1])
        )
    x = generated.transpose(1, 2)
    y = torch.cat(sets, 1).transpose(1, 2)
    omega = torch.cat(weights, 1)[:, None, None, :].to(y.dtype)
    gap = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1)
    d = torch.where(gap > 0, gap.clamp_min(1e-300 if gap.dtype == torch.float64 else 1e-30), 0.0)
    d = torch.where(d > 0, d.clamp_min(1e-37).sqrt(), 0.0)
    scale = (d * omega).sum() / omega.expand_as(d).sum() / math.sqrt(channels)
    first, own = positive.shape[1], torch.arange(count)
    total = torch.zeros_like(x)
    for temperature in temperatures:
        logit = -d / (scale * math.sqrt(channels) * temperature)
        mask = torch.zeros_like(logit)
        mask[..., own, first + own] = -1e30
        logit = logit + mask
        row = torch.softmax(logit + omega.log(), -1) / omega
        affinity = (
            omega
            * (row * torch.softmax(logit, -2))
            .clamp_min(1e-290 if d.dtype == torch.float64 else 1e-35)
            .sqrt()
        )
        affinity = torch.where(mask < 0, 0.0, affinity)
        attract, repel = affinity[..., :first], affinity[..., first:]
        w_pos = attract * repel.sum(-1, keepdim=True)
        w_neg = repel * attract.sum(-1, keepdim=True)
        drift = (w_pos @ y[..., :first, :] - w_neg @ y[..., first:, :]) / scale
        total = total + drift / drift.square().mean().sqrt()
    return total.square().mean((0, 2, 3)).sum()


d12 = _Reread("D12", softmax_combination="product")
d22 = _Reread("D22", temperature_scaling="raw")
d24 = _Reread("D24", temperature_aggregation="per_temperature_mse")
d25 = _Reread("D25", temperature_aggregation="per_temperature_mse_mean")
d15 = _Patched("D15", "balanced", _aliased)
d18 = _Uncentred("D18", "measure_distances", _without_centring)
d28 = _Patched("D28", "drift_sums", _without_channels)
d61 = _Differentiated()
gram = _Patched("centred Gram without repair", "pair_distances", _plain_gram)
