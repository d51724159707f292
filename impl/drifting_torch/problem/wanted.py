"""Which kernels compute the loss: compiled ones where they can, PyTorch's own everywhere else.

``DRIFTING_TORCH_KERNELS=off`` in the environment keeps to PyTorch's operators; ``auto``, the
default, takes what is installed. A kernel that cannot be had costs one warning, never the loss.
"""

from __future__ import annotations

import os
import warnings

_VARIABLE = "DRIFTING_TORCH_KERNELS"
_SAID: set[str] = set()


class KernelsUnavailableWarning(RuntimeWarning):
    """Compiled kernels were to be had and could not be used; the loss is right, only slower."""


def kernels_wanted() -> bool:
    """Whether compiled kernels may be used."""
    value = os.environ.get(_VARIABLE, "auto")
    if value not in ("auto", "off"):
        raise ValueError(f"{_VARIABLE} is {value!r}, expected 'auto' or 'off'")
    return value == "auto"


def warn_once(kernels: str, why: str) -> None:
    """Say once in a process that ``kernels`` are not used, and why."""
    if kernels not in _SAID:
        _SAID.add(kernels)
        warnings.warn(
            f"{kernels} cannot be used, PyTorch's operators take their place: {why}",
            KernelsUnavailableWarning,
            stacklevel=2,
        )
