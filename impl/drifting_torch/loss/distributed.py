"""The loss of labels that are spread over processes (A.6: statistics of the entire batch).

Only S and λ join the processes, since the softmaxes stay within a label, and a label lies whole in
one process. Every loss is solved up to the sums that S needs, then up to those that λ needs; each
time the sums of all losses travel in one message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

from drifting_torch.arguments.transforms import is_transforming
from drifting_torch.loss.output import DriftingLossOutput, outputs_of
from drifting_torch.problem.problem import Problem

_AGREED: WeakSet[ProcessGroup] = WeakSet()
"""Groups that have compared problems once, on devices other than the CPU."""


@torch.compiler.disable
def solve_together(
    asked: Iterable[tuple[str, Tensor, Problem]],
    process_group: ProcessGroup | str,
    validate: bool | None,
) -> dict[str, DriftingLossOutput]:
    """Solve the problems of all processes of the group; ``asked`` makes and checks this one's.

    What one process finds wrong with its problems, all raise, unless ``validate`` is false.
    """
    group = _group_of(process_group)
    if is_transforming():  # before anything is exchanged: that fails as well
        raise ValueError(
            "process_group is given, expected None under torch.func, forward-mode derivatives, "
            "make_fx and FakeTensorMode: processes exchange values"
        )
    error, found = None, dict[str, tuple[Tensor, Problem]]()
    try:
        for key, generated, problem in asked:
            _check_device(group, generated.device)
            found[key] = (generated, problem)
    except Exception as raised:  # whatever it is, the other processes must not wait for this one
        error = raised
    devices = {generated.device.type for generated, _ in found.values()}
    try:
        if group not in _AGREED if validate is None else validate:
            _agree(group, found, error)
        if error is not None:
            raise error
    finally:
        del error  # its traceback holds this frame, and so what was found
    if validate is None and devices != {"cpu"}:
        _AGREED.add(group)  # by all alike: none of them has raised
    return outputs_of(found, distributed.get_world_size(group), partial(_reduced, group))


def _group_of(process_group: ProcessGroup | str) -> ProcessGroup:
    if not distributed.is_available() or not distributed.is_initialized():
        raise RuntimeError(
            f"process_group is {process_group!r} and torch.distributed is not initialised, "
            "expected torch.distributed.init_process_group before the first loss"
        )
    if isinstance(process_group, str):
        if process_group != "world":
            raise ValueError(
                f"process_group is {process_group!r}, expected 'world' or a ProcessGroup"
            )
        world = distributed.group.WORLD
        assert world is not None
        return world
    if process_group is distributed.GroupMember.NON_GROUP_MEMBER:  # pyright: ignore[reportUnnecessaryComparison] -- what new_group gives to others
        raise ValueError("process_group is a group that this process is no member of")
    if not isinstance(process_group, ProcessGroup):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"process_group is {type(process_group).__name__}, expected 'world' or a ProcessGroup"
        )
    return process_group


def _check_device(group: ProcessGroup, device: torch.device) -> None:
    """Demand that the group's backend can reduce tensors on ``device``."""
    backends = str(distributed.get_backend_config(group))  # as cpu:gloo,cuda:nccl
    kinds = [part.partition(":")[0] for part in backends.split(",")]
    if device.type not in kinds:
        raise ValueError(
            f"generated is on {device}, expected a device that process_group can reduce on "
            f"({backends})"
        )


def _agree(
    group: ProcessGroup,
    found: Mapping[str, tuple[Tensor, Problem]],
    error: Exception | None,
) -> None:
    """Raise on every process the first error of one, or the first difference between them."""
    raised = None
    if error is not None:
        ours = [kind for kind in (TypeError, ValueError) if isinstance(error, kind)]
        raised = ([*ours, RuntimeError][0], str(error))
    own = (raised, _facts(found))
    others: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(others, own, group=group)
    for rank, (raised, _) in enumerate(others):
        if raised is not None:
            kind, message = raised
            raise kind(f"rank {rank} of process_group: {message}") from error
    first: dict[str, str] = others[0][1]
    for rank, (_, facts) in enumerate(others):
        for name in [*first, *facts]:
            if facts.get(name) != first.get(name):
                raise ValueError(
                    f"the ranks of process_group disagree on {name}: {first.get(name, 'none')} on "
                    f"rank 0, {facts.get(name, 'none')} on rank {rank}, expected the same on all"
                )


def _facts(found: Mapping[str, tuple[Tensor, Problem]]) -> dict[str, str]:
    """What must be the same in every process, by its name."""
    facts = {"the features": ", ".join(sorted(key for key in found if key))}
    for key, (generated, problem) in found.items():
        _, count, vectors, channels = generated.shape
        here = f" of {key}" if key else ""
        facts |= {
            f"the temperatures{here}": str(problem.temperatures),
            f"the readings{here}": str(problem.readings),
            f"the ablation{here}": str(problem.ablation),
            f"the samples N of generated{here}": str(count),
            f"the vectors V of generated{here}": str(vectors),
            f"the channels C of generated{here}": str(channels),
            f"the dtype of generated{here}": str(generated.dtype),
            f"the kind of device of generated{here}": generated.device.type,
        }
    return facts


def _reduced(group: ProcessGroup, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums over all processes, in one message."""
    message = torch.cat([value.flatten() for value in sums.values()])
    distributed.all_reduce(message, group=group)
    pieces = message.split([value.numel() for value in sums.values()])
    return {key: piece.view(sums[key].shape) for key, piece in zip(sums, pieces, strict=True)}
