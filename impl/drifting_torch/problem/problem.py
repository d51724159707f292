"""One feature's inputs (A.6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch.problem.ablation import NO_ABLATION, Ablation


@dataclass(frozen=True)
class Problem:
    """One feature's inputs, checked, and the arithmetic to treat them in.

    ``weight`` [L, M] holds the kernel weights in the order of the targets, None if all are one.
    ``normalized=False`` leaves out A.6: raw distances, raw temperatures, no S and no λ.
    ``precision`` is that of the GPU kernels' products, ``ablation`` what is changed on purpose.
    ``units`` [L, V] are powers of two by which the groups' targets are multiplied, None for ones.
    """

    generated: Tensor
    positive: Tensor
    unconditional: Tensor | None
    weight: Tensor | None
    temperatures: tuple[float, ...]
    readings: Readings
    dtype: torch.dtype
    normalized: bool = True
    precision: str = "float32"
    ablation: Ablation = NO_ABLATION
    units: Tensor | None = None

    @cached_property
    def sets(self) -> list[Tensor]:
        """The targets' samples [L, ·, V, C] in their order."""
        sets = [self.positive, self.generated, self.unconditional]
        return [each for each in sets if each is not None]

    @cached_property
    def targets(self) -> int:
        """M, the number of targets of each generated sample."""
        return sum(each.shape[1] for each in self.sets)

    @cached_property
    def weighted(self) -> int:
        """The first column that weighs another than 1; 0 elsewhere than on the CPU, unasked."""
        if self.weight is None or self.generated.device.type != "cpu":
            return 0
        places = (self.weight != 1).any(0).nonzero()
        return int(places[0]) if len(places) else self.targets

    @property
    def divides_features(self) -> bool:
        """Whether features are divided by S (EQ-18)."""
        return self.normalized and self.ablation.feature_normalization

    @property
    def divides_drifts(self) -> bool:
        """Whether drifts are divided by λ (EQ-23)."""
        return self.normalized and self.ablation.drift_normalization

    @property
    def options(self) -> dict[str, Any]:
        """All but the tensors."""
        return {
            "temperatures": self.temperatures,
            "readings": self.readings,
            "dtype": self.dtype,
            "normalized": self.normalized,
            "precision": self.precision,
            "ablation": self.ablation,
        }

    @property
    def wide(self) -> torch.dtype:
        """The dtype of sums over the batch."""
        return torch.float32 if self.generated.device.type == "mps" else torch.float64
