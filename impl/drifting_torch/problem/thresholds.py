"""From where on a fast form is not to be trusted, for every solver alike."""

from __future__ import annotations

import torch

CANCELLED = 1e-3
"""Least share of the trace in the sum of its terms' magnitudes: below it λ would lose digits."""


LEAST_DRIFT_SCALE = 1e-30
"""Least λ that float32 drifts are divided by: below, they and what they consist of lose digits."""


def near(dtype: torch.dtype) -> float:
    """Share of |x|²+|y|² up to which a squared distance is not left to the Gram form.

    That errs by about eps·(|x|²+|y|²), so by eps·(|x|²+|y|²) / 2d in the distance. At the threshold
    d² = √√eps·(|x|²+|y|²) this is 4e-7 of √(|x|²+|y|²) in float32.
    """
    return torch.finfo(dtype).eps ** 0.25
