"""Small generators, encoders and batches for the tests of the training step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from drifting_torch import (
    FeatureDriftingConfig,
    GroupedDriftStepConfig,
    GroupedDriftStepOutput,
    grouped_drift_training_step,
)

CLASSES = 5


class ToyGenerator(nn.Module):
    """x = (conv of ε) with class and α embedded as channel shifts, then dropout."""

    def __init__(self, channels: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.classes = nn.Embedding(CLASSES, 6)
        self.alpha = nn.Linear(1, 6)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(6, channels, 3, padding=1)

    def forward(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        kind = self.alpha.weight.dtype
        shift = self.classes(labels) + self.alpha(alpha[:, None].to(kind))
        inner = torch.tanh(self.first(noise) + shift[:, :, None, None])
        return self.last(self.dropout(inner))


class ToyEncoder(nn.Module):
    """Two maps: 4×4 with 5 channels and, behind a GroupNorm, 2×2 with 6."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 5, 3, padding=1)
        self.deeper = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 6)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = torch.nn.functional.gelu(self.stem(images))
        return {"stem": first, "deeper": self.norm(self.deeper(first))}


@dataclass
class Toy:
    """Everything that a step takes; ``step`` leaves the parameters as they are (rate 0)."""

    generator: Any
    encoder: Any
    noise: Tensor
    labels: Tensor
    alpha: Tensor
    positive: Tensor
    unconditional: Tensor | None
    config: GroupedDriftStepConfig

    def but(self, **changes: Any) -> Toy:
        return replace(self, **changes)

    def configured(self, **changes: Any) -> Toy:
        return replace(self, config=replace(self.config, **changes))

    def step(self, rate: float = 0.0, **more: Any) -> GroupedDriftStepOutput:
        if "optimizer" not in more:
            more["optimizer"] = torch.optim.SGD(self.generator.parameters(), lr=rate)
        return grouped_drift_training_step(
            self.generator,
            self.noise,
            self.labels,
            self.alpha,
            self.positive,
            self.unconditional,
            encoder=self.encoder,
            config=self.config,
            **more,
        )

    def gradients(self, **more: Any) -> dict[str, Tensor]:
        """The parameters' gradients after a step, in double precision."""
        self.step(**more)
        return {
            name: each.grad.double().clone() for name, each in self.generator.named_parameters()
        }


def toy(
    labels: int = 2,
    samples: int = 4,
    dtype: torch.dtype = torch.float64,
    dropout: float = 0.0,
    seed: int = 0,
) -> Toy:
    torch.manual_seed(seed)
    shape = (2, 4, 4)
    generator = ToyGenerator(dropout=dropout).to(dtype)
    encoder = ToyEncoder().to(dtype).eval().requires_grad_(False)
    # The deeper map is 2×2, which 4×4 patches do not fit.
    readings = FeatureDriftingConfig().readings.with_reading("patch_remainder", "skip")
    return Toy(
        generator,
        encoder,
        torch.randn(labels, samples, *shape, dtype=dtype),
        torch.arange(labels) % CLASSES,
        1.0 + torch.rand(labels, dtype=dtype),
        torch.randn(labels, 3, *shape, dtype=dtype) + 0.5,
        torch.randn(labels, 2, *shape, dtype=dtype) - 0.5,
        GroupedDriftStepConfig(FeatureDriftingConfig(readings=readings), gradient_clip=None),
    )


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Relative l2 distance over all parameters together."""
    flat = [torch.cat([side[name].flatten() for name in theirs]) for side in (ours, theirs)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())
