"""Whether the Triton kernels can compute a loss, and what is said where they cannot."""

from __future__ import annotations

from types import ModuleType

import torch

from drifting_torch.kernels.wanted import kernels_wanted, warn_once
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import takes_geometric_mean

_LARGEST = 128
"""Samples of one kind up to which a tile of distances fits a program."""

_OLDEST = (3, 3)
"""The first Triton whose kernels take tuples."""

_NAME = "the Triton kernels"

_DEVICES = {"cuda"}

_STATE: dict[str, ModuleType | None] = {}


def kernels_for(problem: Problem) -> ModuleType | None:
    """The kernels for a problem, None where the eager path is to be taken."""
    if problem.generated.device.type not in _DEVICES or not _applies(problem):
        return None
    return _module()


def _applies(problem: Problem) -> bool:
    sizes = [problem.positive.shape[1], problem.generated.shape[1]]
    if problem.unconditional is not None:
        sizes.append(problem.unconditional.shape[1])
    return (
        kernels_wanted()
        and problem.normalized
        and problem.dtype == torch.float32
        and max(sizes) <= _LARGEST
        and takes_geometric_mean(problem.readings)
        and problem.readings.location_sharing != "all_pairs"
    )


def _module() -> ModuleType | None:
    """The kernels' module, loaded when first asked for; None if that fails, which is said once."""
    if "kernels" not in _STATE:
        try:
            _STATE["kernels"] = _loaded()
        except Exception as error:  # whatever a foreign installation may raise
            give_up(error)
    return _STATE["kernels"]


def _loaded() -> ModuleType:
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise ImportError(f"Triton is {triton.__version__}, expected {oldest} or newer")
    from drifting_torch.kernels import gpu

    return gpu


def give_up(error: Exception) -> None:
    """Take the eager path from now on, and say why."""
    _STATE["kernels"] = None
    warn_once(_NAME, f"{type(error).__name__}: {error}")
