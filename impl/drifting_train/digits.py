"""``drifting-train digits``: a class-conditional generator of 8×8 digits, guided by α."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drifting_torch import AlphaDistribution, SampleQueue, extract_features, sample_alpha
from drifting_train.digits_data import CLASSES, SIDE, Images, digits
from drifting_train.encoder import trained_encoder
from drifting_train.errors import TrainError
from drifting_train.judged import judged
from drifting_train.loading import loaded
from drifting_train.monitor import Warned, Watched, warnings_of, watch
from drifting_train.options import option
from drifting_train.settings import LossSettings
from drifting_train.task import Batch, DriftTask


@dataclass(frozen=True, kw_only=True)
class DigitsSettings(LossSettings):
    """Settings of ``digits``."""

    out: Path = option(Path("runs/digits"), "folder of checkpoint, log and pictures")
    encoder: Path = option(Path("runs/encoder"), "run of drifting-train encoder")
    labels: int = option(10, "labels of a step, L", least=1, most=CLASSES)
    generated: int = option(16, "generated images of a label, N", least=2)
    positive: int = option(24, "real images of a label, P", least=1, most=128)
    unconditional: int = option(8, "real images of any class for a label, N_unc", least=1)
    alpha_exponent: float = option(3.0, "n of the density α⁻ⁿ of the guidance scale")
    alpha_most: float = option(4.0, "greatest guidance scale in training", least=1.0001)
    noise: int = option(32, "numbers that an image is made of", least=1)
    width: int = option(256, "width of the generator", least=1)
    depth: int = option(3, "hidden layers of the generator", least=1)
    steps: int = option(1200, "steps to train for, in all", least=1)
    learning_rate: float = option(4e-3, "learning rate after the warm-up", least=0)
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "the learning rate after the warm-up: constant as in the release, or cosine"
    )
    ema_decays: tuple[float, ...] = option(
        (0.99,), "decays of the moving averages; the first is evaluated", least=0, most=0.999999
    )


class DigitGenerator(nn.Module):
    """Noise [B, Z], labels [B] and α [B] → images [B, 1, 8, 8], in one pass."""

    def __init__(self, noise: int, width: int, depth: int) -> None:
        super().__init__()
        self.noise = nn.Linear(noise, width)
        self.classes = nn.Embedding(CLASSES, width)
        self.guidance = nn.Linear(1, width)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, SIDE * SIDE))

    def forward(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        """One pass."""
        guided = self.guidance(alpha.log()[:, None].to(noise.dtype))
        return self.layers(self.noise(noise) + self.classes(labels) + guided).unflatten(
            1, (1, SIDE, SIDE)
        )


class DigitsTask(DriftTask):
    """Trains a :class:`DigitGenerator` in the features of a pre-trained encoder."""

    def __init__(self, settings: DigitsSettings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        model = DigitGenerator(settings.noise, settings.width, settings.depth)
        super().__init__(settings, model, device)
        self.own = settings
        self.encoder = trained_encoder(settings.encoder, 1, SIDE).to(device)
        self.features = settings.feature_config({})
        self.step_config = settings.step_config(self.features, classes=CLASSES)
        self.law = AlphaDistribution(settings.alpha_exponent, high=settings.alpha_most)
        self.train_images, self.test_images = digits()
        self.queue = SampleQueue(CLASSES)
        self._warned: list[Warned] = []
        self.alpha = 1.0
        if settings.unconditional > 1000:
            raise TrainError("unconditional is above 1000, the capacity of the global queue (A.8)")

    def _push(self) -> None:
        """Push 64 images, drawn with replacement (A8-push-64)."""
        rows = torch.randint(len(self.train_images), (64,), generator=self.rng)
        self.queue.push(self.train_images.images[rows], self.train_images.labels[rows])

    def batch(self) -> Batch:
        """A step's labels with their α, noise and real images from the queue."""
        settings, rng = self.own, self.rng
        self._push()
        while (
            int(self.queue.counts.min()) < settings.positive
            or self.queue.global_count < settings.unconditional
        ):
            self._push()
        labels = torch.randperm(CLASSES, generator=rng)[: settings.labels]
        count = settings.labels
        return Batch(
            noise=torch.randn(count, settings.generated, settings.noise, generator=rng),
            labels=labels,
            alpha=sample_alpha(count, self.law, generator=rng),
            positive=self.queue.sample_positive(labels, settings.positive, generator=rng),
            unconditional=self.queue.sample_unconditional(
                count, settings.unconditional, generator=rng
            ),
        )

    def state_dict(self) -> dict[str, Any]:
        """The queue as well."""
        return {**super().state_dict(), "queue": self.queue.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The queue as well."""
        super().load_state_dict(state)
        try:
            self.queue.load_state_dict(state["queue"])
        except (KeyError, TypeError, ValueError) as problem:
            raise TrainError(f"the checkpoint's queue does not fit: {problem}") from problem

    @torch.no_grad()
    def images_of(self, labels: Tensor, alpha: float, seed: int) -> Images:
        """Images of these labels [B] at one guidance scale, from the averaged generator."""
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(labels), self.own.noise, generator=rng).to(self.device)
        alphas = torch.full((len(labels),), alpha, device=self.device)
        with self.average.applied(self.decay) as averaged:
            images = averaged(noise, labels.to(self.device), alphas).float().cpu()
        return Images(images.clamp(-1, 1), labels)

    def sample(self, count: int, seed: int) -> Tensor:
        """Images [count, 1, 8, 8] at ``self.alpha``, classes 0 to 9 in turn."""
        return self.images_of(torch.arange(count) % CLASSES, self.alpha, seed).images

    def evaluate(self) -> dict[str, float]:
        """Measures of generated images, beside those of the test images."""
        generated = self.images_of(self.test_images.labels, self.alpha, self.own.seed + 20_000)
        real = judged(self.test_images)
        watched = self._watched(generated)
        self._warned = warnings_of(watched, self.own.temperatures)
        found: dict[str, float] = {}
        for name, value in judged(generated).items():
            found[name] = value
            found[f"{name}_real"] = real[name]
        found["unreached_share"] = max(each.unreached for each in watched.values())
        found["floor_share"] = max(each.floor_share for each in watched.values())
        found["least_spread_ratio"] = min(each.spread_ratio for each in watched.values())
        return found

    @torch.no_grad()
    def _watched(self, generated: Images) -> dict[str, Watched]:
        """Features of one vector, those of the first class in ``test_images``."""
        label = 0
        sets = (generated, self.test_images)
        chosen = [each.images[each.labels == label].to(self.device) for each in sets]
        mine, theirs = (
            extract_features(self.encoder, each, self.features.vectorization) for each in chosen
        )
        return {
            name: watch(
                value[:, 0], theirs[name][:, 0], self.own.temperatures, self.features.readings
            )
            for name, value in mine.items()
            if value.shape[1] == 1
        }

    def warned(self) -> list[Warned]:
        """What the last evaluation gives reason to warn of."""
        return self._warned

    def pictures(self, folder: Path) -> list[Path]:
        """A sheet of each class, one at several α, and the curves of the log."""
        pictures = loaded("drifting_train.pictures")
        labels = torch.arange(CLASSES).repeat_interleave(20)
        names = [str(label) for label in range(CLASSES)]
        drawn = [
            pictures.draw_sheet(
                self.images_of(labels, alpha, self.own.seed).images.unflatten(0, (CLASSES, 20)),
                folder / f"classes-alpha-{alpha:g}.png",
                names,
                f"one pass at α = {alpha:g}",
            )
            for alpha in (1.0, 2.0, 4.0)
        ]
        rows = [self.train_images.images[self.train_images.labels == k][:20] for k in range(10)]
        real = pictures.draw_sheet(
            torch.stack(rows), folder / "classes-real.png", names, "training images"
        )
        quality = ("accuracy", "frechet_distance", "recall", "spread_within_class")
        curves = pictures.draw_curves(folder / "log.jsonl", folder / "curves.png", quality)
        return [*drawn, real, curves]
