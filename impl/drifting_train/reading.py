"""What is done with a run that has been trained: evaluations, samples, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import Tensor

from drifting_train.checkpoint import write_whole
from drifting_train.errors import TrainError
from drifting_train.task import Task


@runtime_checkable
class Sampler(Protocol):
    """A task that can draw samples."""

    def sample(self, count: int, seed: int) -> Tensor:
        """Samples [count, ...] of the averaged generator."""
        ...


@runtime_checkable
class Drawn(Protocol):
    """A task that can draw pictures of itself."""

    def pictures(self, folder: Path) -> list[Path]:
        """Draw into a folder; the files."""
        ...


def print_evaluation(command: str, step: int, task: Task, console: Console) -> None:
    """Print an evaluation of the averaged model; what is real beside what is generated."""
    values = task.evaluate()
    table = Table(title=f"{command}, step {step}", box=None)
    table.add_column("")
    table.add_column("generated", justify="right")
    table.add_column("real", justify="right")
    for name, value in values.items():
        if not name.endswith("_real"):
            real = values.get(f"{name}_real")
            table.add_row(name, f"{value:.4g}", "" if real is None else f"{real:.4g}")
    console.print(table)
    for each in task.warned():
        console.print(f"warning: {each.text}", style="yellow", markup=False, highlight=False)


def save_samples(task: Task, count: int, seed: int, path: Path) -> None:
    """Draw samples and write them as a .npy file."""
    if path.suffix != ".npy":
        raise TrainError(f"--save is {path}, expected a name that ends in .npy")
    if not isinstance(task, Sampler):
        raise TrainError("this run has no generator to draw samples from")
    samples = task.sample(count, seed).numpy()
    write_whole(path, lambda file: np.save(file, samples))


def draw(run: Path, task: Task, console: Console) -> None:
    """Draw the pictures of a run into its folder."""
    folder = run if run.is_dir() else run.parent
    if not isinstance(task, Drawn):
        raise TrainError("there are no pictures of this kind of run")
    for path in task.pictures(folder):
        console.print(str(path), highlight=False, soft_wrap=True)
