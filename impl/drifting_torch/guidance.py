"""Classifier-free guidance in training: the kernel weight of the unconditional samples (A.7)."""

from __future__ import annotations

import math
from typing import overload

from torch import Tensor

from drifting_spec import implements


@overload
def cfg_alpha_to_weight(alpha: float, n_generated: int, n_unconditional: int) -> float: ...
@overload
def cfg_alpha_to_weight(alpha: Tensor, n_generated: int, n_unconditional: int) -> Tensor: ...
@implements("A7-w", "EQ-A7alpha", "EQ-A7gamma", "EQ-A7q")
def cfg_alpha_to_weight(
    alpha: float | Tensor, n_generated: int, n_unconditional: int
) -> float | Tensor:
    """Kernel weight w = (α − 1)(N − 1)/N_unc of the unconditional samples for guidance scale α.

    Parameters
    ----------
    alpha
        Guidance scale, at least 1; a tensor [L] gives one weight per label. 1 gives weight 0.
    n_generated
        N, the generated samples per label, at least 2: a sample is no negative of its own, so
        that N − 1 of them count.
    n_unconditional
        N_unc, the unconditional samples per label, at least 1.

    Returns
    -------
    float or Tensor
        w, in the type of ``alpha``.

    Raises
    ------
    ValueError
        For α below 1 or not finite, or too few samples. A tensor on a GPU is not looked at.
    """
    if n_generated < 2:
        raise ValueError(f"n_generated is {n_generated}, expected at least 2")
    if n_unconditional < 1:
        raise ValueError(f"n_unconditional is {n_unconditional}, expected at least 1")
    if isinstance(alpha, Tensor):
        if alpha.device.type == "cpu" and not bool(((alpha >= 1) & alpha.isfinite()).all()):
            raise ValueError(f"alpha holds {alpha.tolist()}, expected finite values of at least 1")
    elif not (math.isfinite(alpha) and alpha >= 1):
        raise ValueError(f"alpha is {alpha}, expected a finite value of at least 1")
    return (alpha - 1) * ((n_generated - 1) / n_unconditional)
