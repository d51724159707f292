"""Drives the solvers through their three stages, all losses side by side (A.6).

Each stage ends with sums over the labels of this process, which the next one takes over the labels
of all: S, λ and the loss are statistics of the whole batch. The kernels take what they can. Where
one does not compile or launch, PyTorch's operators go on with the stage that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from drifting_torch.eager.solve import Stages as EagerStages
from drifting_torch.kernels import available
from drifting_torch.kernels.solve import Bucket, Solved, gathered
from drifting_torch.kernels.solve import Stages as KernelStages
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.solution import Solution, Sums

_Any = TypeVar("_Any")

Added = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Sums of this process to sums over all processes, by the losses' names."""


def solve(
    problems: Mapping[str, Problem], processes: int = 1, added: Added | None = None
) -> tuple[list[tuple[Bucket, Solved]], dict[str, Solution]]:
    """Solve named problems of one device, with those of other ``processes`` if ``added`` is given.

    Returns the buckets that the kernels solved, and the solutions of all other problems.
    """
    many = added is not None
    buckets = gathered(problems.items())
    together = {key for bucket in buckets for key in bucket.keys}
    alone = {key: problem for key, problem in problems.items() if key not in together}
    runs = [
        *(_Run.of(bucket, many, processes) for bucket in buckets),
        *(_Run([key], [each], many, _Operators([each], many)) for key, each in alone.items()),
    ]
    devices = {problem.generated.device.type for problem in problems.values()}
    with torch.no_grad(), torch.autocast(devices.pop(), enabled=False):
        sums = [run.measure() for run in runs]
        totals = _totals(runs, sums, added)
        sums = [run.scale(each) for run, each in zip(runs, totals, strict=True)]
        totals = _totals(runs, sums, added)
        ended = [run.finish(each) for run, each in zip(runs, totals, strict=True)]
    solved: list[tuple[Bucket, Solved]] = []
    solutions: dict[str, Solution] = {}
    for index, (run, found) in enumerate(zip(runs, ended, strict=True)):
        if isinstance(found, Solved):
            solved.append((buckets[index], found))
        else:
            solutions |= zip(run.keys, found, strict=True)
    return solved, solutions


def solved_again(problems: Sequence[Problem], received: Sequence[Sums]) -> list[Solution]:
    """The solutions by PyTorch's operators, with the totals that both turns ``received``."""
    many = any(each is not None for totals in received for each in totals)
    with torch.no_grad(), torch.autocast(problems[0].generated.device.type, enabled=False):
        return _reaching(problems, many, received).finish(received[-1])


class _Stages(Protocol):
    """Problems on their way through three stages, each run once."""

    def measure(self) -> Sums: ...

    def scale(self, totals: Sums) -> Sums: ...

    def finish(self, totals: Sums) -> Solved | list[Solution]: ...


class _Operators:
    """Problems side by side on PyTorch's operators."""

    def __init__(self, problems: Sequence[Problem], many: bool) -> None:
        self._stages = [EagerStages(each, many=many) for each in problems]

    def measure(self) -> Sums:
        return [each.measure() for each in self._stages]

    def scale(self, totals: Sums) -> Sums:
        return [each.scale(total) for each, total in zip(self._stages, totals, strict=True)]

    def finish(self, totals: Sums) -> list[Solution]:
        return [each.finish(total) for each, total in zip(self._stages, totals, strict=True)]


def _reaching(problems: Sequence[Problem], many: bool, received: Sequence[Sums]) -> _Operators:
    """PyTorch's operators before the stage that takes the last totals ``received``."""
    stages = _Operators(problems, many)
    if received:
        stages.measure()
    for totals in received[:-1]:
        stages.scale(totals)
    return stages


@dataclass
class _Run:
    """Named problems at some stage, by the kernels or by PyTorch's operators."""

    keys: list[str]
    problems: list[Problem]
    many: bool
    stages: _Stages
    received: list[Sums] = field(default_factory=list[Sums])

    @classmethod
    def of(cls, bucket: Bucket, many: bool, processes: int) -> _Run:
        """A bucket before its first stage."""
        stages = KernelStages(bucket, many=many, processes=processes)
        return cls(bucket.keys, bucket.problems, many, stages)

    def measure(self) -> Sums:
        return self._by(lambda stages: stages.measure())

    def scale(self, totals: Sums) -> Sums:
        self.received.append(totals)
        return self._by(lambda stages: stages.scale(totals))

    def finish(self, totals: Sums) -> Solved | list[Solution]:
        self.received.append(totals)
        found = self._by(lambda stages: stages.finish(totals))
        if isinstance(found, Solved):
            return replace(found, received=tuple(self.received))
        return found

    def _by(self, stage: Callable[[_Stages], _Any]) -> _Any:
        """Run a stage; where a kernel fails, by PyTorch's operators, as are those that follow."""
        if isinstance(self.stages, _Operators):
            return stage(self.stages)
        try:
            return stage(self.stages)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler may raise
            available.give_up(self.problems[0], error)
        self.stages = _reaching(self.problems, self.many, self.received)
        return stage(self.stages)


def _totals(runs: Sequence[_Run], sums: Sequence[Sums], added: Added | None) -> list[Sums]:
    """What each run's next stage is handed for the ``sums`` of its last."""
    own = {
        key: each
        for run, of_run in zip(runs, sums, strict=True)
        for key, each in zip(run.keys, of_run, strict=True)
        if each is not None
    }
    if not own or added is None:
        return [*sums]
    # Sorted, since processes may hold their features in different orders and buckets.
    totals = added({key: own[key] for key in sorted(own)})
    return [[totals.get(key) for key in run.keys] for run in runs]
