"""Laws of points in the plane, about 1 in size, drawn from a generator of random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Law:
    """A law of points: how they are drawn, and where its modes are if it has any.

    ``draw`` gives points [count, 2]; ``centres`` are [K, 2], of no rows for laws without modes;
    ``width`` is the standard deviation of each mode.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    centres: Tensor = field(default_factory=lambda: torch.zeros(0, 2))
    width: float = 0.0


def law_of(name: str, separation: float = 2.0) -> Law:
    """The law of a name that ``--data`` takes; ``separation`` is that of the two modes."""
    if name == "two-modes":
        half = separation / 2
        return _gaussians(torch.tensor([[-half, 0.0], [half, 0.0]]), 0.15)
    if name == "eight-gaussians":
        turns = torch.arange(8) * (math.pi / 4)
        return _gaussians(1.4 * torch.stack([turns.cos(), turns.sin()], dim=1), 0.1)
    return Law({"checkerboard": _checkerboard, "swiss-roll": _swiss_roll}[name])


def _gaussians(centres: Tensor, width: float) -> Law:
    """Equal Gaussian modes."""

    def draw(count: int, rng: torch.Generator) -> Tensor:
        chosen = torch.randint(len(centres), (count,), generator=rng)
        return centres[chosen] + width * torch.randn(count, 2, generator=rng)

    return Law(draw, centres, width)


def _checkerboard(count: int, rng: torch.Generator) -> Tensor:
    """Uniform on the eight black squares of a 4×4 board with sides from −1.6 to 1.6."""
    squares = torch.tensor([(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0])
    corner = squares[torch.randint(8, (count,), generator=rng)]
    return (corner + torch.rand(count, 2, generator=rng) - 2) * 0.8


def _swiss_roll(count: int, rng: torch.Generator) -> Tensor:
    """A spiral of one and a half turns with a little noise."""
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=rng))
    roll = angle[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return roll / 9 + 0.03 * torch.randn(count, 2, generator=rng)
