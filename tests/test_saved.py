"""What the backward pass of the GPU kernels' problems reads again is what was saved."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER
from drifting_torch.kernels.launches import Kept
from drifting_torch.loss.together import Saved
from drifting_torch.problem.problem import Problem


def tensors(value: Any) -> list[Tensor | None]:
    """All tensors of a structure, in the order of its fields."""
    if value is None or isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in tensors(item)]
    if isinstance(value, (Problem, Saved)):
        parts = [getattr(value, item.name) for item in fields(value)]
        return [each for part in parts for each in tensors(part)]
    return []


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_saved_is_restored(turns: int, weighted: bool) -> None:
    """Every tensor comes back in its place: two features, of which one has all three sets."""

    def tensor() -> Tensor:
        return torch.zeros(1)

    weight = tensor() if weighted else None
    problems = [
        Problem(tensor(), tensor(), other, weight, (0.1,), PAPER, torch.float32)
        for other in (tensor(), None)
    ]
    kept = Kept(*(tensor() for _ in Kept._fields))
    received = tuple([tensor(), None] for _ in range(turns))
    saved = Saved(problems, tensor(), kept, [tensor(), tensor()], received)
    again = Saved.restore(saved.flatten(), len(problems), problems[0].options)
    before, after = tensors(saved), tensors(again)
    assert len(before) == len(after) > 15
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert [each.options for each in again.problems] == [each.options for each in problems]
