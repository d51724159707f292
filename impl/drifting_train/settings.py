"""The settings that all training commands share, and what of ``drifting_torch`` they amount to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from drifting_spec import ReadingsError, parse_readings
from drifting_torch import (
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    GroupedDriftStepConfig,
    LinearWarmup,
)
from drifting_train.errors import TrainError
from drifting_train.options import option

Aggregation = Literal["sum_drifts_then_mse", "per_temperature_mse"]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What any run needs to know: where, how long, on what, and how the parameters move."""

    out: Path = option(Path("runs/latest"), "folder of checkpoint, log and pictures")
    seed: int = option(0, "seed of everything that is drawn", least=0)
    device: str = option("auto", "cpu, cuda, cuda:1, mps, or auto for the fastest there is")
    threads: int | None = option(None, "threads of PyTorch on the CPU", least=1)
    steps: int = option(2000, "steps to train for, in all", least=1)
    learning_rate: float = option(1e-3, "learning rate after the warm-up", least=0)
    betas: tuple[float, ...] = option((0.9, 0.95), "the two betas of AdamW", least=0, most=1)
    weight_decay: float = option(0.0, "weight decay of AdamW", least=0)
    warmup_steps: int = option(100, "steps of the linear warm-up", least=1)
    schedule: Literal["constant", "cosine"] = option(
        "constant", "the learning rate after the warm-up: constant as in the release, or cosine"
    )
    gradient_clip: float = option(2.0, "limit of the gradient's norm; 0 for none", least=0)
    ema_decays: tuple[float, ...] = option(
        (0.999,), "decays of the moving averages; the first is evaluated", least=0, most=0.999999
    )
    log_every: int = option(20, "steps between lines of the log", least=1)
    evaluate_every: int = option(500, "steps between evaluations", least=1)
    checkpoint_every: int = option(500, "steps between checkpoints", least=1)
    tensorboard: bool = option(False, "write TensorBoard's log too, if it is installed")

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise TrainError(f"betas has {len(self.betas)} entries, expected two")
        if max(self.betas) >= 1:
            raise TrainError(f"betas is {self.betas}, expected numbers below 1")
        if len(set(self.ema_decays)) != len(self.ema_decays):
            raise TrainError(f"ema-decays is {self.ema_decays}, expected each only once")


@dataclass(frozen=True, kw_only=True)
class LossSettings(RunSettings):
    """How the drifting loss is formed; every choice of reading has its home in ``readings``."""

    readings: str = option("paper", "a preset and changes: paper, release, seed, axis=reading")
    temperatures: tuple[float, ...] = option((0.02, 0.05, 0.2), "the temperatures τ")
    feature_temperature_aggregation: Aggregation | None = option(
        None, "sum the drifts of all τ and form one error, or one error for each τ; as readings say"
    )
    feature_include_raw_drift_loss: bool = option(
        True, "add the vanilla drifting loss, on the samples themselves (A.5)"
    )
    feature_raw_drift_loss_weight: float = option(1.0, "weight of that term", least=0)
    feature_raw_drift_temperatures: tuple[float, ...] | None = option(
        None, "temperatures τ of that term; those of the features if not given"
    )
    attraction: float = option(1.0, "factor of V⁺ (Table 1's ablation)", least=0)
    repulsion: float = option(1.0, "factor of V⁻ (Table 1's ablation)", least=0)
    feature_normalization: bool = option(
        True, "divide features by S; leaving it out is an ablation, not the paper's"
    )
    drift_normalization: bool = option(
        True, "divide drifts by λ; leaving it out is an ablation, not the paper's"
    )
    bf16: bool = option(False, "run generator and encoder in bfloat16")
    micro_batches: int = option(1, "parts in which generator and encoder run", least=1)

    def feature_config(self, vectorization: dict[str, Any]) -> FeatureDriftingConfig:
        """The loss over features whose vectors are chosen by these keywords."""
        try:
            readings = parse_readings(self.readings)
            aggregation = self.feature_temperature_aggregation
            if aggregation is not None:
                readings = readings.with_reading("temperature_aggregation", aggregation)
            return FeatureDriftingConfig(
                self.temperatures,
                FeatureVectorizationConfig(readings=readings, **vectorization),
                include_raw_drift_loss=self.feature_include_raw_drift_loss,
                raw_drift_loss_weight=self.feature_raw_drift_loss_weight,
                readings=readings,
                raw_drift_temperatures=self.feature_raw_drift_temperatures,
                attraction=self.attraction,
                repulsion=self.repulsion,
                feature_normalization=self.feature_normalization,
                drift_normalization=self.drift_normalization,
                process_group="world" if world_size() > 1 else None,
            )
        except ReadingsError as problem:
            raise TrainError(f"--readings: {problem}") from problem
        except ValueError as problem:
            raise TrainError(str(problem)) from problem

    def step_config(
        self, features: FeatureDriftingConfig, classes: int | None
    ) -> GroupedDriftStepConfig:
        """How a step is done with that loss."""
        return GroupedDriftStepConfig(
            feature_config=features,
            autocast=torch.bfloat16 if self.bf16 else None,
            gradient_clip=self.gradient_clip or None,
            micro_batches=self.micro_batches,
            classes=classes,
        )


class Rate:
    """Factor of the learning rate at a step: linear warm-up, then constant or half a cosine."""

    def __init__(self, warmup: int, steps: int, schedule: str) -> None:
        self.warmup, self.steps, self.schedule = warmup, steps, schedule

    def __call__(self, step: int) -> float:
        """The factor for the step of this number, counted from 0."""
        rising = LinearWarmup(self.warmup)(step)
        if self.schedule == "constant":
            return rising
        return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


def world_size() -> int:
    """How many processes train together."""
    held = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if held else 1


def rank() -> int:
    """Which of them this one is."""
    return torch.distributed.get_rank() if world_size() > 1 else 0


def device_of(name: str) -> torch.device:
    """The device of that name; :class:`TrainError` if this machine has none."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = str(problem).splitlines()[0]
        raise TrainError(f"--device {name} cannot be used: {reason}") from problem
    return device
