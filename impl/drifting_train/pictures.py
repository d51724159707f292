"""Pictures of runs, drawn with matplotlib: points with their field, sheets of samples, curves."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from drifting_spec import Readings
from drifting_torch import drifting_field
from drifting_train.checkpoint import write_whole
from drifting_train.log import read_log

REAL, GENERATED = "#4477aa", "#ee7733"


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, whole."""
    buffer = BytesIO()
    # No software version nor date: equal runs draw equal files.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    write_whole(path, lambda file: _write(file, buffer.getvalue()))
    return path


def _write(file: Any, content: bytes) -> None:
    file.write(content)


def draw_points(
    axes: Any, real: Tensor, generated: Tensor, temperature: float, readings: Readings, title: str
) -> None:
    """Real and generated points [N, 2], and the field as arrows on a grid.

    The field is that of one ``temperature`` τ times √2 and the unit of the features, as the loss
    has it; arrows show its direction, their shade its length against the longest.
    """
    extent = float(torch.cat([real, generated]).abs().max()) * 1.1
    side = torch.linspace(-extent, extent, 19, dtype=torch.float64)
    real, generated = real.double(), generated.double()  # far off the field is below float32
    grid = torch.cartesian_prod(side, side)
    scale = float(torch.cdist(generated[:500], real[:500]).mean()) / 2**0.5
    arrows = drifting_field(
        grid / scale,
        real[:500] / scale,
        generated[:500] / scale,
        temperature * 2**0.5,
        mask_self=False,
        readings=readings,
    )
    length = arrows.norm(dim=1, keepdim=True)
    unit = arrows / length.clamp(min=1e-300)
    shade = (length[:, 0] / length.max().clamp(min=1e-300)).sqrt().clamp(min=0.08)
    axes.quiver(
        *grid.T.numpy(),
        *unit.T.numpy(),
        alpha=shade.numpy(),
        color="#555555",
        width=0.0035,
        scale=26,
        zorder=1,
    )
    axes.scatter(*real.T.numpy(), s=2.5, color=REAL, linewidths=0, alpha=0.6, zorder=2)
    axes.scatter(*generated.T.numpy(), s=2.5, color=GENERATED, linewidths=0, alpha=0.6, zorder=3)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=title)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_curves(log: Path, path: Path, quality: Sequence[str]) -> Path:
    """Drift energy by temperature and the named numbers of the evaluations, over the steps."""
    lines = list(read_log(log))
    train = [each for each in lines if each["kind"] == "train"]
    evaluations = [each for each in lines if each["kind"] == "evaluation"]
    shown = [name for name in quality if evaluations and name in evaluations[-1]]
    figure = Figure(figsize=(5 * (1 + len(shown)), 3.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 1 + len(shown)))
    names = [name for name in (train[-1] if train else {}) if name.startswith("drift_energy/tau=")]
    for name in names:
        points = [(each["step"], each[name]) for each in train if each.get(name)]
        axes[0].plot(*zip(*points, strict=True), label=f"τ = {name.partition('=')[2]}", lw=1)
    axes[0].set(title="drift energy ‖V‖²", xlabel="step", yscale="log")
    if names:
        axes[0].legend()
    for ax, name in zip(axes[1:], shown, strict=True):
        for kind, label, color in ((name, "generated", GENERATED), (f"{name}_real", "real", REAL)):
            held = [(e["step"], e[kind]) for e in evaluations if e.get(kind) is not None]
            if held:
                ax.plot(*zip(*held, strict=True), label=label, color=color, marker=".")
        ax.set(title=name.replace("_", " "), xlabel="step")
        ax.legend()
    return save(figure, path)


def draw_sheet(samples: Tensor, path: Path, rows: Sequence[str], title: str) -> Path:
    """Samples [R, K, 1|3, H, W] with values from −1 to 1, one row for each name."""
    count = samples.shape[1]
    figure = Figure(figsize=(0.42 * count + 1.2, 0.42 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for ax, name, row in zip(axes, rows, samples, strict=True):
        strip = ((row.clamp(-1, 1) + 1) / 2).permute(2, 0, 3, 1)  # H, K, W, C
        height, _, width, channels = strip.shape
        strip = torch.nn.functional.pad(strip, (0, 0, 0, 1), value=1.0)
        strip = strip.reshape(height, count * (width + 1), channels).squeeze(-1)
        ax.imshow(strip.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ax.spines.values():
            side.set_visible(False)
    figure.suptitle(title, fontsize=9)
    return save(figure, path)


mpl.use("agg")
