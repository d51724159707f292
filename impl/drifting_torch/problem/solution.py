"""What a solved problem consists of, whichever solver it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from drifting_torch.problem.slope import Slope

Sums = Sequence[Tensor | None]
"""Of each of several problems, what processes add up between two stages; None for nothing."""


@dataclass(frozen=True)
class Statistics:
    """What is shared over the batch: S [1|L, 1|V] and λ [T, 1|L, 1|V], before any floor."""

    feature_scale: Tensor
    drift_scale: Tensor


@dataclass(frozen=True)
class Solution:
    """``per_label`` [L], its gradient with the target frozen, and the statistics.

    ``loss`` and ``labels`` are the loss and the number of labels of all processes, None for one.
    """

    per_label: Tensor
    slope: Slope
    statistics: Statistics
    loss: Tensor | None = None
    labels: Tensor | None = None
