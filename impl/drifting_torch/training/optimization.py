"""What Table 8 puts around the gradient: clipping of its norm, warm-up, moving averages."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drifting_spec import implements
from drifting_torch.arguments.tensors import check_integer, is_number
from drifting_torch.training.parameters import (
    averaged_parameters,
    check_state,
    fitted,
    misfit,
    spread_over,
    wide,
)


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
    norm = _norm_of_all(gradients)
    if limit is not None:
        factor = (limit / norm).clamp(max=1.0)
        for each in gradients:
            _own_part(each).mul_(factor.to(each.device, each.dtype))
    return norm


def _norm_of_all(gradients: Sequence[Tensor]) -> Tensor:
    """The norm over all gradients together, on the first one's device."""
    norms: dict[object, list[Tensor]] = {}
    for each in gradients:
        narrow = each.dtype in (torch.float16, torch.bfloat16)
        values = _values(each.float() if narrow else each)
        # Those that are spread over the same processes are added up in one message.
        norms.setdefault(spread_over(each), []).append(torch.linalg.vector_norm(values))
    device = gradients[0].device
    totals: list[Tensor] = []
    for mesh, several in norms.items():
        total = torch.linalg.vector_norm(torch.stack([each.to(device) for each in several]))
        totals.append(total if mesh is None else total.full_tensor())  # pyright: ignore[reportAttributeAccessIssue] -- a DTensor's
    return torch.linalg.vector_norm(torch.stack(totals))


def _values(gradient: Tensor) -> Tensor:
    """What a gradient holds: of a sparse one its values, those of the same entry added up."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _own_part(gradient: Tensor) -> Tensor:
    """What this process holds of a gradient, in the same memory."""
    return gradient if spread_over(gradient) is None else gradient.to_local()  # pyright: ignore[reportAttributeAccessIssue] -- a DTensor's


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
    averaged, nor are parameters of integers: :meth:`applied` leaves the module's own.

    Averages follow a module that is cast, moved, or given further parameters, whose averages start
    at what they are then. A module that lost parameters, or has them in another shape, is refused
    by name: which of its averages still mean something, only its owner knows.

    Parameters
    ----------
    module
        The module that is trained; compiled or in ``DistributedDataParallel`` if you like.
    decays
        Each in [0, 1); (0.999, 0.9995, 0.9998, 0.9999) for the system-level runs of Table 8.

    Raises
    ------
    ValueError, TypeError
        For decays that are none, and parameters that have no values yet.
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
        values = averaged_parameters(module)
        with _lasting():
            self._averages: dict[float, dict[str, Tensor]] = {
                decay: {name: wide(value).clone() for name, value in values.items()}
                for decay in decays
            }

    def check(self) -> None:
        """Demand that the averages fit the module as it is; ``ValueError`` names what does not."""
        self._fitting()

    def _fitting(self) -> dict[str, Tensor]:
        """The module's parameters, all of which the averages fit or know nothing of."""
        values = averaged_parameters(self._module)
        averages = next(iter(self._averages.values()))
        gone = [name for name in averages if name not in values]
        misfits = [
            problem
            for name, value in values.items()
            if name in averages and (problem := misfit(name, value, averages[name]))
        ]
        problems = [f"gone, or integers now: {', '.join(gone)}"] if gone else []
        problems += [f"changed: {'; '.join(misfits)}"] if misfits else []
        if problems:
            raise ValueError(
                "the module's parameters are not those of its averages any more; "
                f"{'; '.join(problems)}: make a new MovingAverage"
            )
        return values

    def update(self) -> None:
        """Take in the parameters as they are now; call once after each step of the optimiser.

        ``ValueError`` for a module that the averages do not fit any more; none is updated then.
        """
        values = self._fitting()
        with _lasting():
            for decay, averages in self._averages.items():
                for name, value in values.items():
                    if name not in averages:
                        averages[name] = wide(value).clone()
                        continue
                    now = wide(value)
                    averages[name] = averages[name].to(now.device, now.dtype)
                    averages[name].lerp_(now, 1 - decay)

    def averages(self, decay: float) -> Mapping[str, Tensor]:
        """The averages of one decay, by the names that the module's parameters have now.

        ``KeyError`` for a decay not tracked.
        """
        names = {id(value): name for name, value in self._module.named_parameters()}
        own = {
            bare: names.get(id(each)) for bare, each in averaged_parameters(self._module).items()
        }
        return {own.get(bare) or bare: each for bare, each in self._of(decay).items()}

    def _of(self, decay: float) -> dict[str, Tensor]:
        if decay not in self._averages:
            raise KeyError(f"decay {decay} is not tracked; tracked: {sorted(self._averages)}")
        return self._averages[decay]

    @contextmanager
    @torch.no_grad()
    def applied(self, decay: float) -> Generator[nn.Module]:
        """The module with the averages in its parameters; they are put back at the end.

        ``ValueError`` for a module that the averages do not fit any more.
        """
        averages, values = self._of(decay), self._fitting()
        lent = [(value, averages[name]) for name, value in values.items() if name in averages]
        kept = [(value, value.detach().clone()) for value, _ in lent]
        try:
            for value, average in lent:
                value.copy_(average)
            yield self._module
        finally:
            for value, before in kept:
                value.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        """The averages by decay and parameter name, not copied.

        The names are those of the bare module, without what compiling or
        ``DistributedDataParallel`` puts before them.
        """
        return {"averages": self._averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over averages, of the same module in any wrapping, dtype and place.

        ``ValueError`` where decays, parameters or their shapes are not these, ``KeyError`` or
        ``TypeError`` if the state is none; the averages are as before then.
        """
        held = check_state(state, self._averages)
        values = averaged_parameters(self._module)
        with _lasting():
            self._averages = {decay: fitted(held[decay], values) for decay in self._averages}


@contextmanager
def _lasting() -> Generator[None]:
    """Without graphs, and without making tensors that only inference mode may change."""
    with torch.inference_mode(False), torch.no_grad():
        yield
