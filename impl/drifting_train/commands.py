"""Which commands train what, and how a run is made again from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from drifting_train.checkpoint import load_checkpoint
from drifting_train.errors import TrainError
from drifting_train.loading import loaded
from drifting_train.options import settings_of
from drifting_train.settings import RunSettings, device_of
from drifting_train.task import Task


@dataclass(frozen=True)
class Command:
    """A training command: where its settings and its task are, and what it does."""

    module: str
    settings: str
    task: str
    text: str

    def settings_type(self) -> type[Any]:
        """The dataclass of its settings."""
        return getattr(loaded(self.module), self.settings)

    def build(self, settings: RunSettings) -> Task:
        """The task, on the device that the settings name."""
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        return getattr(loaded(self.module), self.task)(settings, device_of(settings.device))


COMMANDS = {
    "toy2d": Command(
        "drifting_train.toy2d", "ToySettings", "ToyTask", "points in the plane, in seconds"
    ),
    "encoder": Command(
        "drifting_train.encoder",
        "EncoderSettings",
        "EncoderTask",
        "an encoder for the features (A.3)",
    ),
    "digits": Command(
        "drifting_train.digits", "DigitsSettings", "DigitsTask", "digits of ten classes, guided"
    ),
    "images": Command(
        "drifting_train.images", "ImagesSettings", "ImagesTask", "the paper's generator on folders"
    ),
}
"""The training commands by name."""


def task_of(path: Path, device: str, out: Path | None = None) -> tuple[str, int, Task]:
    """The command, step and task of a checkpoint, or of the folder that holds one."""
    held = load_checkpoint(path)
    name = held.get("command")
    if name not in COMMANDS:
        raise TrainError(f"{path} is of the command {name!r}, expected {', '.join(COMMANDS)}")
    kind = COMMANDS[name].settings_type()
    settings = settings_of(kind, held["settings"], origin=str(path))
    settings = replace(settings, device=device, out=out or settings.out)
    task = COMMANDS[name].build(settings)
    task.load_state_dict(held["task"])
    return name, int(held["step"]), task
