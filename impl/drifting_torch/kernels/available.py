"""Whether the Triton kernels can compute a loss, and what is said where they cannot."""

from __future__ import annotations

from types import ModuleType

import torch

from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import takes_geometric_mean
from drifting_torch.problem.wanted import kernels_wanted, warn_once

_LARGEST = 128
"""Samples of one kind up to which a tile of distances fits a program."""

_OLDEST = (3, 3)
"""The first Triton whose kernels take tuples."""

_NAME = "the Triton kernels"

_DEVICES = {"cuda"}

_STATE: dict[str, ModuleType | None] = {}

_FAILED: set[tuple[object, ...]] = set()
"""Kinds of problems whose kernels did not compile or launch."""


def kernels_for(problem: Problem) -> ModuleType | None:
    """The kernels for a problem, None where the eager path is to be taken."""
    if problem.generated.device.type not in _DEVICES or not _applies(problem):
        return None
    if _FAILED and _shape(problem) in _FAILED:
        return None
    return _module()


def described() -> str:
    """Whether the Triton kernels are there, and why not."""
    if not torch.cuda.is_available():
        return "operators: no CUDA device"
    if not kernels_wanted():
        return "operators: DRIFTING_TORCH_KERNELS is off"
    return "Triton kernels" if _module() is not None else "operators: no Triton that serves"


def _applies(problem: Problem) -> bool:
    sizes = [problem.positive.shape[1], problem.generated.shape[1]]
    if problem.unconditional is not None:
        sizes.append(problem.unconditional.shape[1])
    return (
        kernels_wanted()
        and problem.normalized
        and not problem.ablation.changes
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
            _STATE["kernels"] = None
            warn_once(_NAME, f"{type(error).__name__}: {error}")
    return _STATE["kernels"]


def _loaded() -> ModuleType:
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise ImportError(f"Triton is {triton.__version__}, expected {oldest} or newer")
    from drifting_torch.kernels import gpu

    return gpu


def _shape(problem: Problem) -> tuple[object, ...]:
    """What kernels are compiled for: problems alike in it fail alike."""
    return (
        problem.generated.device,
        tuple(each.shape[1] for each in problem.sets),
        problem.generated.shape[-1],
        problem.generated.dtype,
        len(problem.temperatures),
        problem.weight is None,
        problem.readings,
        problem.precision,
    )


def give_up(problem: Problem, error: Exception) -> None:
    """Take the eager path for problems of this shape from now on, and say why, once a shape."""
    shape = _shape(problem)
    if shape in _FAILED:
        return
    _FAILED.add(shape)
    sizes = dict(zip("PNU", (each.shape[1] for each in problem.sets), strict=False))
    sizes["C"] = problem.generated.shape[-1]
    text = ", ".join(f"{name} {size}" for name, size in sizes.items())
    warn_once(f"{_NAME} for {text}", f"{type(error).__name__}: {error}")
