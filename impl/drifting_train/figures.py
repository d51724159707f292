"""Figures 3 and 4 of the paper redrawn: points while a generator learns, and their ‖V‖²."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from drifting_train.checkpoint import write_whole
from drifting_train.errors import TrainError
from drifting_train.pictures import GENERATED, REAL, save
from drifting_train.toy2d import ToySettings, ToyTask

FRACTIONS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""When the points are drawn, as fractions of the training."""

SHOWN = 800
"""Points of a panel."""


@dataclass(frozen=True)
class Snapshot:
    """Points of the generator as it is at a step, and the drift energy of that step's batch."""

    step: int
    points: Tensor
    energy: float


def snapshots(settings: ToySettings, steps: list[int]) -> tuple[Tensor, list[Snapshot]]:
    """Train a toy and look at these steps; real points [N, 2] come first.

    The generator itself is shown, not its average, which would lag behind at the start.
    """
    task = ToyTask(settings, torch.device("cpu"))
    real = task.law.draw(SHOWN, torch.Generator().manual_seed(1))
    noise = torch.randn(SHOWN, settings.noise, generator=torch.Generator().manual_seed(2))
    taken: list[Snapshot] = []
    energy = float("nan")
    for step in range(steps[-1] + 1):
        if step in steps:
            with torch.no_grad():
                points = task.model(noise, torch.zeros(SHOWN), torch.ones(SHOWN))
            taken.append(Snapshot(step, points, energy))
        if step < steps[-1]:
            values = task.step()
            energy = sum(v for name, v in values.items() if name.startswith("drift_energy/tau="))
    return real, taken


def draw_figure(path: Path, rows: list[tuple[str, Tensor, list[Snapshot]]], energies: bool) -> Path:
    """A row of panels for each training, a column for each step."""
    columns = len(rows[0][2])
    figure = Figure(figsize=(2.0 * columns, 2.15 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, real, taken) in zip(axes, rows, strict=True):
        extent = float(torch.cat([real, *(each.points for each in taken)]).abs().max()) * 1.05
        for ax, each in zip(line, taken, strict=True):
            _panel(ax, real, each.points, extent)
            shown = f"\n‖V‖² {each.energy:.1e}" if energies and each.step else ""
            ax.set_title(f"step {each.step}{shown}", fontsize=8)
        line[0].set_ylabel(name, fontsize=9)
    return save(figure, path)


def _panel(ax: Any, real: Tensor, points: Tensor, extent: float) -> None:
    for held, color in ((real, REAL), (points, GENERATED)):
        ax.scatter(*held.T.numpy(), s=2, color=color, linewidths=0, alpha=0.6)
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    ax.set_xticks([])
    ax.set_yticks([])


def draw_gif(path: Path, real: Tensor, taken: list[Snapshot]) -> Path:
    """The snapshots one after the other, the last one longer."""
    extent = float(torch.cat([real, *(each.points for each in taken)]).abs().max()) * 1.05
    frames: list[Image.Image] = []
    for each in taken:
        figure = Figure(figsize=(3.2, 3.4), dpi=80, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        ax = figure.subplots()
        _panel(ax, real, each.points, extent)
        ax.set_title(f"step {each.step}", fontsize=9)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    buffer = BytesIO()
    durations = [120] * (len(frames) - 1) + [2000]
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    write_whole(path, lambda file: _write(file, buffer.getvalue()))
    return path


def _write(file: Any, content: bytes) -> None:
    file.write(content)


def draw_figures(folder: Path, steps: int, seed: int, gif: bool) -> list[Path]:
    """Figure 3 (two modes from three starts), Figure 4 (points with ‖V‖²), and a GIF of each."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise TrainError(f"cannot write to {folder}: {problem.strerror}") from problem
    columns = sorted({round(fraction * steps) for fraction in FRACTIONS})
    frames = sorted({round(steps * (k / 40) ** 2) for k in range(41)}) if gif else []
    drawn: list[Path] = []
    starts: tuple[Literal["near", "far", "collapsed"], ...] = ("near", "far", "collapsed")
    laws: tuple[Literal["swiss-roll", "checkerboard", "eight-gaussians"], ...] = (
        "swiss-roll", "checkerboard", "eight-gaussians",
    )  # fmt: skip
    figures = (
        (3, [(name, ToySettings(start=name, steps=steps, seed=seed)) for name in starts]),
        (4, [(name, ToySettings(data=name, steps=steps, seed=seed)) for name in laws]),
    )
    for number, trainings in figures:
        rows: list[tuple[str, Tensor, list[Snapshot]]] = []
        for name, settings in trainings:
            real, taken = snapshots(settings, sorted({*columns, *frames}))
            rows.append((name, real, [each for each in taken if each.step in columns]))
            if gif:
                held = [each for each in taken if each.step in frames]
                drawn.append(draw_gif(folder / f"{name}.gif", real, held))
        drawn.append(draw_figure(folder / f"figure-{number}.png", rows, number == 4))
    return drawn
