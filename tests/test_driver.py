"""The driver of the solvers, where no process group is needed to see it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drifting_spec import PAPER
from drifting_torch.loss.driver import solve
from drifting_torch.problem.problem import Problem


def test_sums_are_sent_in_one_order_whatever_order_the_features_have() -> None:
    """Processes add up one message: an order of one process's own would mix features."""
    sent: list[list[str]] = []

    def added(sums: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        sent.append(list(sums))
        return sums

    def problem(channels: int) -> Problem:
        draw = torch.Generator().manual_seed(channels)
        generated, positive = torch.randn(2, 1, 3, 1, channels, generator=draw).unbind()
        return Problem(generated, positive, None, None, (0.1,), PAPER, torch.float32)

    problems = {"b": problem(2), "a": problem(3), "c": problem(4)}
    solve(problems, added=added)
    solve({key: problems[key] for key in ("c", "a", "b")}, added=added)
    assert sent == [["a", "b", "c"]] * 4
