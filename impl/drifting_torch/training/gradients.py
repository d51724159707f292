"""Gradients for the tensors that are named and for no others, from a plain backward pass.

``backward(inputs=...)`` would say the same, were it not for two kinds of modules: checkpoints with
``use_reentrant=True`` refuse it, and FSDP2 differentiates copies of what the optimiser holds, which
it passes by. So everything is differentiated, and what others received is taken away again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from drifting_torch.arguments.modules import modules_behind


def backward_into(
    inputs: Iterable[Tensor], values: Sequence[Tensor], arriving: Sequence[Tensor] | None = None
) -> None:
    """Add gradients of ``values`` to the ``.grad`` of ``inputs``, to no other tensor's.

    ``arriving`` are the gradients that reach the values; None for one scalar. The graph is freed.
    """
    with untouched(leaves_behind(values), inputs):
        torch.autograd.backward(values, arriving)


@contextmanager
def untouched(leaves: Iterable[Tensor], inputs: Iterable[Tensor]) -> Generator[None]:
    """Give all ``leaves`` that are not among ``inputs`` their gradients back at the end."""
    named = {id(each) for each in inputs}
    others = {id(each): each for each in leaves if id(each) not in named}
    before = [(each, each.grad) for each in others.values()]
    for each, gradient in before:
        if gradient is not None:
            each.grad = None  # or it would be added to in place
    try:
        yield
    finally:
        for each, gradient in before:
            if each.grad is not gradient:
                each.grad = gradient


def leaves_behind(values: Iterable[Tensor]) -> list[Tensor]:
    """Every leaf that a backward pass from ``values`` gives a gradient.

    A reentrant checkpoint hides what it recomputes: there the parameters of the modules that its
    function refers to are taken.
    """
    found: dict[int, Tensor] = {}
    pending: list[torch.autograd.graph.Node | None] = []
    for value in values:
        if value.grad_fn is None and value.requires_grad:
            found[id(value)] = value
        pending.append(value.grad_fn)
    met: set[torch.autograd.graph.Node] = set()
    while pending:
        node = pending.pop()
        if node is None or node in met:
            continue
        met.add(node)
        pending += [following for following, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        elif (function := getattr(node, "run_function", None)) is not None:
            found |= {id(each): each for each in parameters_behind(function)}
    return list(found.values())


def parameters_behind(function: object) -> list[Tensor]:
    """Parameters of the modules that ``function`` is or refers to."""
    return [each for _, module in modules_behind(function) for each in module.parameters()]
