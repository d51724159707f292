"""What is trained: a model with its optimiser and averages, one step, one evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from drifting_torch import (
    GroupedDriftStepConfig,
    GroupedDriftStepOutput,
    MovingAverage,
    grouped_drift_training_step,
)
from drifting_train.errors import TrainError
from drifting_train.monitor import Warned
from drifting_train.settings import LossSettings, Rate, RunSettings, rank, world_size


class Task(ABC):
    """A model that is trained step by step; everything that its steps depend on can be saved.

    Random numbers come from ``rng``, on the CPU, so that they are the same on every device; those
    that modules draw themselves come from PyTorch's global generators, which are saved as well.
    """

    def __init__(self, settings: RunSettings, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device)
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
            weight_decay=settings.weight_decay,
        )
        rate = Rate(settings.warmup_steps, settings.steps, settings.schedule)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.average = MovingAverage(self.model, settings.ema_decays)
        self.decay = settings.ema_decays[0]

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Train one step; what to log of it."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """How good the averaged model is; draws nothing from ``rng``."""

    def warned(self) -> list[Warned]:
        """What the last evaluation gives reason to warn of."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
            "rng": self.rng.get_state(),
            "global_rng": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; :class:`TrainError` if it does not fit."""
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.average.load_state_dict(state["average"])
            self.rng.set_state(state["rng"])
            torch.set_rng_state(state["global_rng"])
            if "cuda_rng" in state and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        except (KeyError, RuntimeError, TypeError, ValueError) as problem:
            reason = str(problem).strip().splitlines()[0]
            raise TrainError(f"the checkpoint does not fit these settings: {reason}") from problem


@dataclass(frozen=True)
class Batch:
    """What a step of A.9 takes, all labels of it: noise [L, N, ...], labels [L] and so on."""

    noise: Tensor
    labels: Tensor
    alpha: Tensor
    positive: Tensor
    unconditional: Tensor | None = None

    def part(self, device: torch.device) -> tuple[Tensor | None, ...]:
        """The labels of this process, on its device."""
        held = (self.noise, self.labels, self.alpha, self.positive, self.unconditional)
        count, processes, mine = len(self.labels), world_size(), rank()
        if processes > count:
            raise TrainError(
                f"{processes} processes, expected at most {count}: a label is never split"
            )
        own = slice(mine * count // processes, (mine + 1) * count // processes)
        return tuple(None if each is None else each[own].to(device) for each in held)


class DriftTask(Task):
    """Trains a generator ``(noise, labels, alpha) → samples`` by the step of A.9."""

    encoder: Any
    step_config: GroupedDriftStepConfig
    last: GroupedDriftStepOutput

    def __init__(self, settings: LossSettings, model: nn.Module, device: torch.device) -> None:
        super().__init__(settings, model, device)
        self.settings = settings
        self.trained: nn.Module = self.model
        if world_size() > 1:
            where = [device] if device.type == "cuda" else None
            self.trained = nn.parallel.DistributedDataParallel(self.model, device_ids=where)

    @abstractmethod
    def batch(self) -> Batch:
        """Draw what the next step takes."""

    def step(self) -> dict[str, float]:
        """One step of A.9; energies are logged for each feature and temperature."""
        noise, labels, alpha, positive, unconditional = self.batch().part(self.device)
        assert noise is not None
        assert labels is not None
        assert alpha is not None
        assert positive is not None
        self.last = grouped_drift_training_step(
            self.trained,
            noise,
            labels,
            alpha,
            positive,
            unconditional,
            optimizer=self.optimizer,
            encoder=self.encoder,
            config=self.step_config,
            schedule=self.schedule,
            average=self.average,
        )
        return self.logs(self.last)

    def logs(self, output: GroupedDriftStepOutput) -> dict[str, float]:
        """The numbers of a step; read from the device together."""
        shown: dict[str, Tensor] = {"loss": output.loss, "gradient_norm": output.gradient_norm}
        if output.feature_loss is not None:
            shown["feature_loss"] = output.feature_loss
        if output.raw_loss is not None:
            shown["raw_loss"] = output.raw_loss
        totals: list[Tensor] = []
        for feature, energy in output.drift_energy.items():
            by_temperature = energy.flatten(1).mean(1)
            totals.append(by_temperature)
            for tau, value in zip(self.settings.temperatures, by_temperature, strict=True):
                shown[f"drift_energy/{feature}/tau={tau:g}"] = value
        for tau, value in zip(self.settings.temperatures, torch.stack(totals).sum(0), strict=True):
            shown[f"drift_energy/tau={tau:g}"] = value
        values = torch.stack([each.detach().double().cpu() for each in shown.values()]).tolist()
        return dict(zip(shown, values, strict=True))
