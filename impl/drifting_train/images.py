"""``drifting-train images FOLDER``: the paper's generator on class folders of images or latents."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from drifting_torch import (
    AlphaDistribution,
    DriftingTransformer,
    DriftingTransformerConfig,
    MAEResNetEncoder,
    SampleQueue,
    extract_features,
    load_release_parameters,
    sample_alpha,
)
from drifting_train.encoder import encoder_run, load_averages
from drifting_train.errors import TrainError
from drifting_train.folders import ClassFolders
from drifting_train.monitor import Warned, warnings_of, watch
from drifting_train.options import option, positional
from drifting_train.settings import LossSettings
from drifting_train.task import Batch, DriftTask


@dataclass(frozen=True, kw_only=True)
class ImagesSettings(LossSettings):
    """Settings of ``images``; the files of ``drifting_train/configurations`` are Table 8's."""

    folder: Path = positional(Path("data"), "folder with one folder of samples for each class")
    out: Path = option(Path("runs/images"), "folder of checkpoint and log")
    encoder: Path | None = option(
        None, "a run of encoder --folder, or a .npz of the authors' parameters"
    )
    sample_shape: tuple[int, ...] | None = option(
        None, "channels, height and width that the samples must have; any if not given", least=1
    )
    encoder_width: int = option(256, "channels of the encoder's first stage", least=1)
    encoder_blocks: tuple[int, ...] = option((3, 4, 6, 3), "blocks of its stages", least=1)
    encoder_patch: int = option(1, "side of the encoder's patches", least=1)
    patch: int = option(2, "side of the generator's patches", least=1)
    width: int = option(768, "width of the generator", least=4)
    depth: int = option(12, "blocks of the generator", least=1)
    heads: int = option(12, "attention heads", least=1)
    register_tokens: int = option(16, "in-context tokens", least=0)
    style_tokens: int = option(32, "style tokens", least=0)
    labels: int = option(64, "labels of a step, L", least=1)
    generated: int = option(64, "generated samples of a label, N", least=2)
    positive: int = option(64, "real samples of a label, P", least=1, most=128)
    unconditional: int = option(16, "real samples of any class for a label", least=1, most=1000)
    alpha_exponent: float = option(3.0, "n of the density α⁻ⁿ of the guidance scale")
    alpha_atom: float = option(0.0, "probability of the least guidance scale", least=0, most=1)
    alpha_least: float = option(1.0, "least guidance scale in training", least=1)
    alpha_most: float = option(4.0, "greatest guidance scale in training", least=1)
    learning_rate: float = option(2e-4, "learning rate after the warm-up", least=0)
    weight_decay: float = option(0.01, "weight decay of AdamW", least=0)
    warmup_steps: int = option(5000, "steps of the linear warm-up", least=1)
    steps: int = option(30000, "steps to train for, in all", least=1)
    checkpoint_activations: bool = option(False, "recompute activations: less memory, more time")
    compile: bool = option(False, "compile the generator with torch.compile")

    def generator(self, shape: tuple[int, ...], classes: int) -> DriftingTransformer:
        """The generator of samples of this shape [C, H, W]."""
        channels, height, width = shape
        if height != width:
            raise TrainError(f"samples are {height}×{width}, expected squares")
        try:
            config = DriftingTransformerConfig(
                input_size=height,
                channels=channels,
                patch_size=self.patch,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                classes=classes,
                prefix_tokens=self.register_tokens,
                style_tokens=self.style_tokens,
                checkpoint=self.checkpoint_activations,
            )
        except ValueError as problem:
            raise TrainError(str(problem)) from problem
        return DriftingTransformer(config)


def image_encoder(settings: ImagesSettings, channels: int, features: Any) -> MAEResNetEncoder:
    """The encoder with the parameters that ``settings.encoder`` names, frozen."""
    encoder = MAEResNetEncoder(
        settings.encoder_width,
        channels,
        patch_size=settings.encoder_patch,
        blocks=settings.encoder_blocks,
        readings=features.readings,
        checkpoint=settings.checkpoint_activations,
    )
    path = settings.encoder
    if path is None:
        raise TrainError(
            "--encoder is missing, expected a run of drifting-train encoder --folder, or a .npz "
            "with the authors' parameters"
        )
    if path.suffix != ".npz":
        load_averages(encoder, encoder_run(path), path)
        return encoder.eval().requires_grad_(False)
    try:
        # Opened here: NumPy leaves a file open that is no archive.
        with path.open("rb") as file, np.load(file) as held:
            load_release_parameters(encoder, {name: held[name] for name in held.files})
    except (EOFError, OSError, TypeError, ValueError, BadZipFile, zlib.error) as problem:
        reason = " ".join(str(problem).split())[:160]
        raise TrainError(f"--encoder {path} does not fit: {reason}") from problem
    return encoder.eval().requires_grad_(False)


class ImagesTask(DriftTask):
    """Trains a :class:`DriftingTransformer` on class folders."""

    def __init__(self, settings: ImagesSettings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.data = ClassFolders(settings.folder)
        wanted = settings.sample_shape
        if wanted is not None and self.data.shape != wanted:
            raise TrainError(
                f"{settings.folder} has samples of {self.data.shape}, expected {wanted} as "
                "sample-shape says"
            )
        channels = self.data.shape[0]
        model = settings.generator(self.data.shape, len(self.data))
        super().__init__(settings, model, device)
        if settings.compile:
            self.trained = torch.compile(self.trained)  # pyright: ignore[reportAttributeAccessIssue]
        self.own = settings
        self.features = settings.feature_config({"input_patch_size": settings.encoder_patch})
        self.encoder = image_encoder(settings, channels, self.features).to(device)
        self.step_config = settings.step_config(self.features, classes=len(self.data))
        self.law = AlphaDistribution(
            settings.alpha_exponent,
            settings.alpha_atom,
            settings.alpha_least,
            settings.alpha_most,
        )
        self.queue = SampleQueue(len(self.data))
        self.alpha = 1.0
        self._warned: list[Warned] = []

    def _push(self) -> None:
        self.queue.push(*self.data.draw(64, self.rng))

    def _fill(self) -> None:
        """Fill the queues before the first step: as much of every class as a draw takes."""
        settings = self.own
        for label in range(len(self.data)):
            missing = settings.positive - int(self.queue.counts[label])
            for start in range(0, max(missing, 0), 64):
                count = min(64, missing - start)
                held = [self.data._drawn(label, self.rng) for _ in range(count)]  # pyright: ignore[reportPrivateUsage]
                self.queue.push(torch.stack(held), torch.full((count,), label))
        while self.queue.global_count < settings.unconditional:
            self._push()

    def batch(self) -> Batch:
        """A step's labels with their α, noise and real samples from the queue."""
        settings, rng = self.own, self.rng
        self._fill()
        self._push()
        count = settings.labels
        labels = torch.randint(len(self.data), (count,), generator=rng)
        return Batch(
            noise=torch.randn(count, settings.generated, *self.data.shape, generator=rng),
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
    def _images(self, labels: Tensor, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(labels), *self.data.shape, generator=rng)
        # Style indices come from the global generators: drawn for this alone.
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.average.applied(self.decay) as averaged:
            torch.manual_seed(seed)
            parts = [
                averaged(e.to(self.device), c.to(self.device), self.alpha).float().cpu()
                for e, c in zip(noise.split(64), labels.split(64), strict=True)
            ]
        return torch.cat(parts)

    def sample(self, count: int, seed: int) -> Tensor:
        """Samples [count, C, H, W] at ``self.alpha``, the classes in turn."""
        return self._images(torch.arange(count) % len(self.data), seed)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Spread, reach and floor in the encoder's features, for the first class."""
        count = min(64, self.data.counts[0])
        real = torch.stack([self.data.sample(0, index) for index in range(count)])
        generated = self._images(torch.zeros(count, dtype=torch.int64), self.own.seed + 20_000)
        mine, theirs = (
            extract_features(self.encoder, each.to(self.device), self.features.vectorization)
            for each in (generated, real)
        )
        watched = {
            name: watch(
                value[:, 0], theirs[name][:, 0], self.own.temperatures, self.features.readings
            )
            for name, value in mine.items()
            if value.shape[1] == 1
        }
        self._warned = warnings_of(watched, self.own.temperatures)
        return {
            "least_spread_ratio": min(each.spread_ratio for each in watched.values()),
            "mean_spread_ratio": sum(e.spread_ratio for e in watched.values()) / len(watched),
            "unreached_share": max(each.unreached for each in watched.values()),
            "floor_share": max(each.floor_share for each in watched.values()),
        }

    def warned(self) -> list[Warned]:
        """What the last evaluation gives reason to warn of."""
        return self._warned
