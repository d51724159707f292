"""From where on a fast form is not to be trusted, for every solver alike."""

from __future__ import annotations

import torch

CANCELLED = 1e-3
"""Least share of the trace in the sum of its terms' magnitudes: below it λ would lose digits."""

LOGIT_RANGE = {torch.float32: 80.0, torch.float64: 600.0}
"""Logits whose exponential neither vanishes nor overflows."""

LEAST_SUM = {torch.float32: 1e-35, torch.float64: 1e-290}
"""Sums of exponentials above it hold what enters them to full precision."""

NEGLIGIBLE = 300.0
"""Logits by which a sample's own entry must lie below all that counts to be left out."""


LEAST_DRIFT_SCALE = 1e-30
"""Least λ that float32 drifts are divided by: below, they and what they consist of lose digits."""


def near(dtype: torch.dtype) -> float:
    """Share of |x|²+|y|² up to which a squared distance is not left to the Gram form.

    That errs by about eps·(|x|²+|y|²), so by eps·(|x|²+|y|²) / 2d in the distance. At the threshold
    d² = √√eps·(|x|²+|y|²) this is 4e-7 of √(|x|²+|y|²) in float32.
    """
    return torch.finfo(dtype).eps ** 0.25
