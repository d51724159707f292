"""The loss with its target frozen: a quadratic in the generated samples (S3-sg, A6-mse).

Value and slope are known where the samples lie, and the curvature is 2/(L·N·C·S²) on the diagonal.
So a gradient is differentiated again without a graph over the N×M work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.arguments.transforms import is_func, is_grads_batched
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import inverse_scales, per_entry
from drifting_torch.problem.slope import Product, Slope

_Any = TypeVar("_Any")


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of ``per_label`` [L] with the target frozen.

    2·``factor``·``scale``² where a coordinate meets itself, 0 elsewhere. ``scale`` [1|L, 1|V] is
    what coordinates are multiplied by: 1/S, after the readings' floors.
    """

    scale: Tensor
    factor: float

    @classmethod
    @implements("S3-sg", "A6-mse")
    def of(cls, problem: Problem, feature_scale: Tensor) -> Curvature:
        """That of a problem whose S is [1|L, 1|V]."""
        scale, _ = inverse_scales(problem, feature_scale)
        one_square = problem.readings.temperature_aggregation == "sum_drifts_then_mse"
        squares = 1 if one_square else len(problem.temperatures)
        return cls(scale, per_entry(problem) * squares)

    def times(self, change: Tensor) -> Tensor:
        """How a change [L, N, V, C] of the generated samples changes the slope."""
        scale = self.scale.to(change.dtype)[:, None, :, None]
        # One after the other: squares of the scale may leave the range of their dtype.
        return change * scale * (2 * self.factor) * scale


def expanded(generated: Tensor, per_label: Tensor, slope: Tensor, curvature: Curvature) -> Tensor:
    """``per_label`` [L], differentiable in the generated samples [L, N, V, C] by PyTorch itself.

    Slope and curvature are multiplied by a change that is zero: ordinary operations, which every
    transformation of functions takes.
    """
    change = (generated - generated.detach()).to(slope.dtype)
    terms = change * slope + 0.5 * change * curvature.times(change)
    return per_label + terms.sum((1, 2, 3)).to(per_label.dtype)


def change_of(generated: Tensor) -> Tensor:
    """How far the generated samples moved since the target was frozen: 0, its derivative is 1.

    A graph that holds it holds nothing of the samples but what leads to them.
    """
    return _Change.apply(generated)


_ZEROS: dict[tuple[torch.device, torch.dtype], Tensor] = {}
"""One zero for each device and dtype, so that a feature starts no work of its own on a device."""


def _zero(like: Tensor) -> Tensor:
    """A zero of the dtype and on the device of ``like``; nothing may write to it."""
    if type(like) not in (Tensor, torch.nn.Parameter):
        return like.new_zeros(())  # of a kind of its own, as without values
    key = (like.device, like.dtype)
    if key not in _ZEROS:
        with torch.inference_mode(False):
            _ZEROS[key] = torch.zeros((), device=like.device, dtype=like.dtype)
    return _ZEROS[key]


class _Change(torch.autograd.Function):
    """Zeros in the memory of one number."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, generated: Tensor
    ) -> Tensor:
        """Give zeros."""
        ctx.set_materialize_grads(False)
        return _zero(generated).expand_as(generated)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, gradient: Tensor | None
    ) -> Tensor | None:
        """Hand on what arrives."""
        return gradient


class Frozen(Protocol):
    """Features whose losses and targets are known."""

    def gradients(
        self, of_loss: Sequence[Tensor | None], of_label: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Gradients [L, N, V, C] of what arrives at each loss [] and each ``per_label`` [L]."""
        ...

    def share(self, index: int) -> Tensor:
        """What a loss is differentiated to in each of its ``per_label``."""
        ...

    def slope(self, index: int) -> Tensor:
        """The gradient [L, N, V, C] of each label's loss."""
        ...

    def curvature(self, index: int) -> Curvature:
        """The second derivatives of each label's loss."""
        ...


class Gradient(torch.autograd.Function):
    """Gradients of frozen features, differentiable in the samples and in what arrives.

    Of K features it takes the changes of their samples, what arrives at the K losses, and at the K
    ``per_label``.
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        frozen: Frozen, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Give the gradients, one a feature."""
        _, of_loss, of_label = _thirds(tensors)
        return tuple(frozen.gradients(of_loss, of_label))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep everything: this is reached only where a gradient is differentiated again."""
        del output
        ctx.frozen, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    @implements("S3-sg", "A6-mse")
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, *directions: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Curvature times direction for the samples, slope times direction for what arrives.

        Ordinary operations, so that what they give is differentiable again.
        """
        frozen: Frozen = ctx.frozen
        changes, of_loss, of_label = _thirds(ctx.saved_tensors)
        asked = _thirds(ctx.needs_input_grad[1:])
        found: list[list[Tensor | None]] = [[None] * len(directions) for _ in range(3)]
        for index, direction in enumerate(directions):
            change, loss, label = changes[index], of_loss[index], of_label[index]
            if direction is None or change is None:
                continue
            curvature = frozen.curvature(index)
            if asked[0][index]:
                arriving = _arriving(frozen, index, loss, label)
                bent = curvature.times(direction.to(arriving.dtype))
                found[0][index] = (bent * arriving).to(change.dtype)
            if asked[1][index] or asked[2][index]:
                slope = frozen.slope(index)
                slope = slope + curvature.times(change.to(slope.dtype))
                labels = (slope * direction).sum((1, 2, 3))
                if loss is not None:
                    found[1][index] = (labels * frozen.share(index)).sum().to(loss.dtype)
                if label is not None:
                    found[2][index] = labels.to(label.dtype)
        return None, *found[0], *found[1], *found[2]

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        info: Any, in_dims: tuple[int | None, ...], frozen: Frozen, *tensors: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """One gradient after the other."""
        turns = [
            Gradient.apply(frozen, *unstacked(tensors, in_dims[1:], index))
            for index in range(info.batch_size)
        ]
        return stacked(turns)


def unstacked(values: Sequence[Any], in_dims: Sequence[int | None], index: int) -> list[Any]:
    """The arguments of one of the calls that ``torch.vmap`` asks for together."""
    return [
        value.select(axis, index) if isinstance(value, Tensor) and axis is not None else value
        for value, axis in zip(values, in_dims, strict=True)
    ]


def stacked(turns: Sequence[tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The outputs of all calls for ``torch.vmap``, and along which axis they lie."""
    outputs = tuple(torch.stack(parts) for parts in zip(*turns, strict=True))
    return outputs, (0,) * len(outputs)


def _thirds(values: Sequence[_Any]) -> tuple[list[_Any], list[_Any], list[_Any]]:
    size = len(values) // 3
    return list(values[:size]), list(values[size : 2 * size]), list(values[2 * size :])


def _arriving(
    frozen: Frozen, index: int, of_loss: Tensor | None, of_label: Tensor | None
) -> Tensor:
    """What arrives at ``per_label`` by both ways, [L, 1, 1, 1] or []."""
    parts = [] if of_loss is None else [of_loss * frozen.share(index)]
    parts += [] if of_label is None else [of_label[:, None, None, None]]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def gradients_of(
    frozen: Frozen,
    changes: Sequence[Tensor],
    of_loss: Sequence[Tensor | None],
    of_label: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Gradients [L, N, V, C] of frozen features, for one of which something arrives at least.

    Differentiable in all arguments.
    """
    if not any(is_grads_batched(each) for each in (*of_loss, *of_label)):
        if not (torch.is_grad_enabled() or is_func()):  # nobody asks for more
            return tuple(frozen.gradients(of_loss, of_label))
        return Gradient.apply(frozen, *changes, *of_loss, *of_label)
    # Such batches know no rules but those of ordinary operations.
    found: list[Tensor] = []
    for index, change in enumerate(changes):
        slope = frozen.slope(index)
        slope = slope + frozen.curvature(index).times(change.to(slope.dtype))
        gradient = slope * _arriving(frozen, index, of_loss[index], of_label[index])
        found.append(gradient.to(change.dtype))
    return tuple(found)


@dataclass(frozen=True)
class FrozenFeature:
    """One feature, and no loss but ``per_label``.

    ``like`` has shape, strides and dtype of the generated samples, ``options`` are the problem's.
    ``product`` is what the gradient is formed by where coefficients and targets were kept.
    """

    of_label: Slope
    feature_scale: Tensor
    like: Tensor
    options: dict[str, Any]
    product: Product = torch.bmm

    def gradients(
        self, of_loss: Sequence[Tensor | None], of_label: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """As :meth:`Frozen.gradients`."""
        (arriving,) = of_label
        assert of_loss == [None]
        assert arriving is not None
        return [self.of_label.times(arriving, self.like.stride(), self.product).to(self.like.dtype)]

    def share(self, index: int) -> Tensor:
        """As :meth:`Frozen.share`."""
        raise AssertionError("what arrives, arrives at labels")

    def slope(self, index: int) -> Tensor:
        """As :meth:`Frozen.slope`."""
        del index
        return self.of_label.whole()

    def curvature(self, index: int) -> Curvature:
        """As :meth:`Frozen.curvature`."""
        del index
        problem = Problem(self.like, self.like, None, None, **self.options)
        return Curvature.of(problem, self.feature_scale)
