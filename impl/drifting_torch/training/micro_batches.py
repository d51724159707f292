"""Back-propagation in micro-batches that is exact although the loss is one of the whole batch.

S and λ are taken over the batch (A6-S, A6-lambda), so that summing the gradients of the parts'
losses is wrong (D70). Here the samples and features of all micro-batches are computed without a
graph, the loss is differentiated with respect to them, and each micro-batch is then computed once
more, with the same random numbers, to carry its share of that gradient to the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from drifting_torch.training.gradients import backward_into

Output = TypeVar("Output")

Forward = Callable[[slice], Mapping[str, Tensor]]
"""Samples' numbers in, tensors [samples, ...] by name out; differentiable in the parameters."""

Loss = Callable[[Mapping[str, Tensor]], tuple[Tensor, Output]]
"""Tensors [B, ...] of the whole batch in; the scalar to differentiate and what else is wanted."""


@dataclass(frozen=True)
class RandomState:
    """The random state that a forward pass draws from: the CPU's and one device's."""

    host: Tensor
    device: torch.device
    state: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        """The state at this moment."""
        accelerator = device.type == "cuda"
        state = torch.cuda.get_rng_state(device) if accelerator else None
        return cls(torch.get_rng_state(), device, state)

    @contextmanager
    def replayed(self) -> Generator[None]:
        """Draw the same numbers once more; the present state is put back at the end."""
        after = RandomState.now(self.device)
        self._set()
        try:
            yield
        finally:
            after._set()

    def _set(self) -> None:
        torch.set_rng_state(self.host)
        if self.state is not None:
            torch.cuda.set_rng_state(self.state, self.device)


@dataclass(frozen=True)
class MicroBatches(Generic[Output]):
    """Differentiates one loss of a whole batch through a forward pass done in parts.

    Attributes
    ----------
    forward
        Called once for each part without a graph, and once more with one; in a single part only
        with one. Must depend on the samples of its part alone, and on random numbers of PyTorch's
        global generators: others would differ the second time.
    loss
        The loss of the whole batch.
    device
        Where random numbers are drawn beside the CPU.
    """

    forward: Forward
    loss: Loss[Output]
    device: torch.device

    @property
    def _on_host(self) -> bool:
        return self.device.type == "cpu"

    def backward(self, size: int, parts: int, inputs: Sequence[Tensor]) -> Output:
        """Add the loss's gradient to the ``.grad`` of ``inputs``, for samples 0 … ``size`` − 1.

        ``inputs`` are leaves; no other tensor's ``.grad`` changes.
        Holds the activations of one part at a time, and the forward pass's outputs of all.
        ``ValueError`` unless 1 ≤ ``parts`` ≤ ``size``, and, on the CPU, for a forward pass that
        gives something else the second time; gradients may have been added to by then.
        """
        if not 1 <= parts <= size:
            raise ValueError(f"parts is {parts}, expected 1 to {size}, the number of samples")
        if parts == 1:
            scalar, output = self.loss(self.forward(slice(0, size)))
            backward_into(inputs, [scalar])
            return output
        slices = list(even_slices(size, parts))
        states: list[RandomState] = []
        collected: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for part in slices:
                states.append(RandomState.now(self.device))
                for name, value in self.forward(part).items():
                    collected.setdefault(name, []).append(value)
        leaves = {name: torch.cat(collected.pop(name)).requires_grad_() for name in list(collected)}
        scalar, output = self.loss(leaves)
        arriving = torch.autograd.grad(scalar, list(leaves.values()))
        gradients = dict(zip(leaves, arriving, strict=True))
        # Elsewhere a comparison would wait for the device, and hold memory that is scarce.
        first = {name: each.detach() for name, each in leaves.items()} if self._on_host else {}
        del leaves, arriving, scalar
        for part, state in zip(slices, states, strict=True):
            with state.replayed():
                values = self.forward(part)
            if self._on_host:
                _check_repeated(part, {name: each[part] for name, each in first.items()}, values)
            shares = [gradients[name][part] for name in values]
            backward_into(inputs, list(values.values()), shares)
        return output


NOT_ROUNDING = 0.05
"""A pass with and one without a graph may round apart, by less than this also in bfloat16."""


@torch.no_grad()
def _check_repeated(part: slice, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Demand the same values, all together: one that is nearly constant may be all rounding."""
    if all(torch.equal(each, second[name]) for name, each in first.items()):
        return
    changes = [(second[name].double() - each.double()).norm() for name, each in first.items()]
    sizes = [each.double().norm() for each in first.values()]
    change = float(torch.stack(changes).norm() / torch.stack(sizes).norm())
    # Written so that NaN is let through: the loss has looked at the values.
    if change > NOT_ROUNDING:
        raise ValueError(
            f"the forward pass gives something else for the samples {part.start} to "
            f"{part.stop - 1} the second time, relative difference {change:.2g}: it must draw "
            "random numbers from PyTorch's global generators alone, and change nothing that it "
            "depends on"
        )


def even_slices(size: int, parts: int) -> Iterator[slice]:
    """Cut ``size`` samples into ``parts`` parts whose sizes differ by one at most."""
    for part in range(parts):
        yield slice(part * size // parts, (part + 1) * size // parts)
