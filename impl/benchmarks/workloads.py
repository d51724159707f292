"""What is measured: the shapes of training with the paper's encoder, and single large features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURES = (0.02, 0.05, 0.2)
GENERATED, POSITIVE, UNCONDITIONAL = 64, 64, 16


@dataclass(frozen=True)
class Feature:
    """One feature's inputs: [L, ·, V, C] and the weight of the unconditional samples [L, U]."""

    generated: Tensor
    positive: Tensor
    unconditional: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Workload:
    """A named list of feature shapes (vectors, channels), for a number of labels."""

    name: str
    labels: int
    shapes: tuple[tuple[int, int], ...]

    def features(self, device: str, mean: float = 0.0) -> list[Feature]:
        """Gaussian features with a common mean in units of their spread, always the same."""
        source = torch.Generator().manual_seed(0)

        def draw(*size: int) -> Tensor:
            return (torch.randn(*size, generator=source) + mean).to(device)

        return [
            Feature(
                draw(self.labels, GENERATED, vectors, channels),
                draw(self.labels, POSITIVE, vectors, channels) + 0.3,
                draw(self.labels, UNCONDITIONAL, vectors, channels),
                torch.full((self.labels, UNCONDITIONAL), 2.0, device=device),
            )
            for vectors, channels in self.shapes
        ]

    def input_bytes(self) -> int:
        """Bytes of all inputs in float32."""
        samples = self.labels * (GENERATED + POSITIVE + UNCONDITIONAL)
        return 4 * samples * sum(vectors * channels for vectors, channels in self.shapes)


def ladder(channels: int) -> tuple[tuple[int, int], ...]:
    """All features of A.5 of the maps 32²×C, 16²×2C, 8²×4C, 4²×8C: 28 shapes, 2,218 vectors."""
    shapes: list[tuple[int, int]] = []
    for stage, side in enumerate((32, 16, 8, 4)):
        width = channels * 2**stage
        counts = (
            side**2,
            1,
            1,
            (side // 2) ** 2,
            (side // 2) ** 2,
            (side // 4) ** 2,
            (side // 4) ** 2,
        )
        shapes.extend((count, width) for count in counts)
    return tuple(shapes)


WORKLOADS = (
    Workload("ladder 16, 1 label", 1, ladder(16)),
    Workload("ladder 16, 2 labels", 2, ladder(16)),
    Workload("ladder 32, 1 label", 1, ladder(32)),
    Workload("B=1024 S=256", 1, ((1024, 256),)),
    Workload("B=16 S=2048", 1, ((16, 2048),)),
    Workload("B=1 S=4096", 1, ((1, 4096),)),
)
