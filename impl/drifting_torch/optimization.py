"""What Table 8 puts around the gradient: clipping of its norm, warm-up, moving averages."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drifting_spec import implements
from drifting_torch._validation import check_integer, is_number


@implements("T8-clip")
def clip_gradient_norm(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """Scale all gradients by min(1, limit/‖g‖), ‖g‖ the norm over all of them together.

    Returns ‖g‖ before clipping, a scalar on the gradients' device; ``limit`` None only measures.
    Below the limit gradients stay as they are, bit for bit. ``ValueError`` for a limit that is not
    above 0, and where no parameter has a gradient.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"limit is {limit}, expected a number above 0, or None for no clipping")
    gradients = [each.grad for each in parameters if each.grad is not None]
    if not gradients:
        raise ValueError("no parameter has a gradient, expected a backward pass before clipping")
    device = gradients[0].device
    wide = [
        each.float() if each.dtype in (torch.float16, torch.bfloat16) else each
        for each in gradients
    ]
    norms = [torch.linalg.vector_norm(each).to(device) for each in wide]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if limit is not None:
        factor = (limit / norm).clamp(max=1.0)
        for each in gradients:
            each.mul_(factor.to(each.device, each.dtype))
    return norm


@implements("T8-warmup")
class LinearWarmup:
    """Factor of the learning rate at step t = 0, 1, …: min(1, (t + 1)/steps), constant after.

    For ``torch.optim.lr_scheduler.LambdaLR(optimizer, LinearWarmup(5000))``. What follows the
    warm-up the paper does not say (P-50); the release holds the rate constant.
    """

    def __init__(self, steps: int) -> None:
        self.steps = check_integer("steps", steps)

    def __call__(self, step: int) -> float:
        """The factor for the step of this number, counted from 0."""
        return min(1.0, (step + 1) / self.steps)


@implements("T8-ema")
class MovingAverage:
    """Exponential moving averages of a module's parameters: θ̄ ← d·θ̄ + (1 − d)·θ, for several d.

    They start at the parameters as they are, on their devices. Averages are held in float32 at
    least: the steps of a decay of 0.9999 are below the spacing of narrower dtypes. Buffers are not
    averaged: :meth:`applied` leaves the module's own.

    Parameters
    ----------
    module
        The module that is trained.
    decays
        Each in [0, 1); (0.999, 0.9995, 0.9998, 0.9999) for the system-level runs of Table 8.
    """

    def __init__(self, module: nn.Module, decays: Sequence[float] = (0.999,)) -> None:
        if not isinstance(decays, Sequence) or isinstance(decays, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"decays is {decays!r}, expected a sequence of numbers as (0.999,)")
        if not decays:
            raise ValueError("decays is empty, expected at least one")
        for decay in decays:
            if not (is_number(decay) and 0 <= decay < 1):
                raise ValueError(f"decays holds {decay}, expected numbers in [0, 1)")
        self._module = module
        self._averages: dict[float, dict[str, Tensor]] = {
            decay: {name: _wide(value).clone() for name, value in module.named_parameters()}
            for decay in decays
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now; call once after each step of the optimiser."""
        for decay, averages in self._averages.items():
            for name, value in self._module.named_parameters():
                averages[name].lerp_(_wide(value), 1 - decay)

    def averages(self, decay: float) -> Mapping[str, Tensor]:
        """The averages of one decay by parameter name; ``KeyError`` for a decay not tracked."""
        if decay not in self._averages:
            raise KeyError(f"decay {decay} is not tracked; tracked: {sorted(self._averages)}")
        return self._averages[decay]

    @contextmanager
    @torch.no_grad()
    def applied(self, decay: float) -> Generator[nn.Module]:
        """The module with the averages in its parameters; they are put back at the end."""
        averages = self.averages(decay)
        kept = {name: value.detach().clone() for name, value in self._module.named_parameters()}
        try:
            for name, value in self._module.named_parameters():
                value.copy_(averages[name])
            yield self._module
        finally:
            for name, value in self._module.named_parameters():
                value.copy_(kept[name])

    def state_dict(self) -> dict[str, Any]:
        """The averages by decay and parameter name, not copied."""
        return {"averages": self._averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over averages.

        ``ValueError`` where decays, parameters or their shapes are not these, ``KeyError`` if the
        state is none; the averages are as before then.
        """
        if "averages" not in state:
            raise KeyError(f"the state has {sorted(state)}, expected what state_dict() gave")
        held: Mapping[float, Mapping[str, Tensor]] = state["averages"]
        if set(held) != set(self._averages):
            raise ValueError(
                f"the state has decays {sorted(held)}, expected {sorted(self._averages)}"
            )
        for decay, averages in self._averages.items():
            if set(held[decay]) != set(averages):
                odd = sorted(set(held[decay]) ^ set(averages))
                raise ValueError(f"the state and the module differ in the parameters {odd}")
            for name, value in averages.items():
                if held[decay][name].shape != value.shape:
                    raise ValueError(
                        f"the state has {name} of shape {tuple(held[decay][name].shape)}, expected "
                        f"{tuple(value.shape)}"
                    )
        for decay, averages in self._averages.items():
            for name, value in averages.items():
                value.copy_(held[decay][name])


def _wide(value: Tensor) -> Tensor:
    narrow = value.dtype in (torch.float16, torch.bfloat16)
    return value.detach().float() if narrow else value.detach()
