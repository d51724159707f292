"""``drifting-train toy2d``: a small network learns a law of points in the plane."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from drifting_train.datasets import Law, law_of
from drifting_train.errors import TrainError
from drifting_train.loading import loaded
from drifting_train.monitor import Warned, warnings_of, watch
from drifting_train.options import option
from drifting_train.quality import Points, energy_distance, maximum_mean_discrepancy
from drifting_train.settings import LossSettings
from drifting_train.task import Batch, DriftTask

Data = Literal["two-modes", "checkerboard", "swiss-roll", "eight-gaussians"]
Start = Literal["near", "far", "collapsed"]

EVALUATED = 2000
"""Points of each set that an evaluation compares."""


@dataclass(frozen=True, kw_only=True)
class ToySettings(LossSettings):
    """Settings of ``toy2d``."""

    out: Path = option(Path("runs/toy2d"), "folder of checkpoint, log and pictures")
    data: Data = option("two-modes", f"the law: {', '.join(get_args(Data))}")
    start: Start = option(
        "near", "where the generated points start: between the modes, far off, or on one of them"
    )
    separation: float = option(2.0, "distance of the two modes of two-modes", least=0.01)
    generated: int = option(256, "generated points of a step, N", least=2)
    positive: int = option(256, "real points of a step, P", least=1)
    noise: int = option(2, "numbers that a point is made of", least=1)
    width: int = option(128, "width of the network", least=1)
    depth: int = option(3, "hidden layers of the network", least=1)
    learning_rate: float = option(2e-3, "learning rate after the warm-up", least=0)
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "the learning rate after the warm-up: constant as in the release, or cosine"
    )
    ema_decays: tuple[float, ...] = option(
        (0.995,), "decays of the moving averages; the first is evaluated", least=0, most=0.999999
    )
    # The points are their own feature: the vanilla term would be the same term once more.
    feature_include_raw_drift_loss: bool = option(
        False, "add the vanilla drifting loss, here the same term once more"
    )


class PointGenerator(nn.Module):
    """Noise [B, Z] → points [B, 2], by a plain network; they start about ``start``."""

    def __init__(
        self, noise: int, width: int, depth: int, start: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        super().__init__()
        widths = [noise, *[width] * depth]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(width, 2)
        with torch.no_grad():
            self.last.bias.add_(torch.tensor(start))

    def forward(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        """One pass; there is one class, and no guidance."""
        return self.last(self.layers(noise))


def as_vectors(points: Tensor) -> dict[str, Tensor]:
    """The feature of points [B, 2]: each is its own one vector [B, 1, 2]."""
    return {"points": points.unsqueeze(1)}


class ToyTask(DriftTask):
    """Trains a :class:`PointGenerator`; the encoder leaves points as they are."""

    def __init__(self, settings: ToySettings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        if settings.start != "near" and settings.data != "two-modes":
            raise TrainError(
                f"start is {settings.start!r} with the data {settings.data!r}, expected 'near': "
                "the other starts are those of two-modes"
            )
        half = settings.separation / 2
        starts = {"near": (0.0, 0.0), "far": (0.0, 5.0 * half), "collapsed": (-half, 0.0)}
        model = PointGenerator(
            settings.noise, settings.width, settings.depth, starts[settings.start]
        )
        super().__init__(settings, model, device)
        self.law = law_of(settings.data, settings.separation)
        self.toy = settings
        self.encoder = as_vectors
        self.features = settings.feature_config({"include_input_x2_mean": False})
        self.step_config = settings.step_config(self.features, classes=1)
        self._warned: list[Warned] = []

    def batch(self) -> Batch:
        """Noise and real points of one label, without guidance."""
        settings = self.toy
        return Batch(
            noise=torch.randn(1, settings.generated, settings.noise, generator=self.rng),
            labels=torch.zeros(1, dtype=torch.int64),
            alpha=torch.ones(1),
            positive=self.law.draw(settings.positive, self.rng)[None],
        )

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Tensor:
        """Points [count, 2] of the averaged generator."""
        noise = torch.randn(count, self.toy.noise, generator=torch.Generator().manual_seed(seed))
        alpha = torch.ones(count, device=self.device)
        with self.average.applied(self.decay) as averaged:
            return averaged(noise.to(self.device), alpha.long(), alpha).float().cpu()

    def evaluate(self) -> dict[str, float]:
        """Energy distance and MMD of generated points, beside those of two real sets."""
        rng = torch.Generator().manual_seed(self.toy.seed + 10_000)
        real, other = self.law.draw(EVALUATED, rng), self.law.draw(EVALUATED, rng)
        generated = self.sample(EVALUATED, self.toy.seed + 20_000)
        watched = watch(generated, real[:500], self.toy.temperatures, self.features.readings)
        self._warned = warnings_of({"points": watched}, self.toy.temperatures)
        x, y, z = (_wide(each) for each in (generated, real, other))
        found = {
            "energy_distance": energy_distance(x, y),
            "energy_distance_real": energy_distance(z, y),
            "mmd": maximum_mean_discrepancy(x, y),
            "mmd_real": maximum_mean_discrepancy(z, y),
        }
        return found | modes(generated, other, self.law) | watched.logs()

    def pictures(self, folder: Path) -> list[Path]:
        """Points with their field at each temperature, and the curves of the log."""
        pictures = loaded("drifting_train.pictures")
        rng = torch.Generator().manual_seed(self.toy.seed + 10_000)
        real, generated = self.law.draw(EVALUATED, rng), self.sample(EVALUATED, self.toy.seed)
        figure = pictures.Figure(
            figsize=(4 * len(self.toy.temperatures), 4.3), layout="constrained"
        )
        axes = figure.subplots(1, len(self.toy.temperatures), squeeze=False)[0]
        for ax, tau in zip(axes, self.toy.temperatures, strict=True):
            pictures.draw_points(
                ax, real, generated, tau, self.features.readings, f"field at τ = {tau:g}"
            )
        return [
            pictures.save(figure, folder / "points.png"),
            pictures.draw_curves(
                folder / "log.jsonl", folder / "curves.png", ("energy_distance", "spread_ratio")
            ),
        ]

    def warned(self) -> list[Warned]:
        """What the last evaluation gives reason to warn of."""
        return self._warned


def _wide(points: Tensor) -> Points:
    return points.double().numpy()


def modes(generated: Tensor, real: Tensor, law: Law) -> dict[str, float]:
    """For laws of modes: how many are served, and the share of points between them.

    A mode is served if it has at least half of its share of the points. A point is between the
    modes if it is more than four standard deviations from each; of real points next to none are.
    """
    places, width = law.centres, law.width
    if not len(places):
        return {}

    def shares(points: Tensor) -> tuple[int, float]:
        apart, nearest = torch.cdist(points, places).min(1)
        near = apart < 4 * width
        held = torch.bincount(nearest[near], minlength=len(places)) / len(points)
        return int((held > 0.5 / len(places)).sum()), float((~near).float().mean())

    served, between = shares(generated)
    _, between_real = shares(real)
    return {
        "modes_served": float(served),
        "modes": float(len(places)),
        "between_modes": between,
        "between_modes_real": between_real,
    }
