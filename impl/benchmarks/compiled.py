"""Times the loss and its gradient with the compiled CPU kernel and without.

``python -m benchmarks.compiled``: both in turns in one process, on one thread; medians of process
CPU time over rounds, and the error of each gradient against float64 (relative L2 norm, largest over
the features).
"""

from __future__ import annotations

import os
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.run import ours, step
from benchmarks.workloads import WORKLOADS, Feature
from drifting_torch import backends

_VARIABLE = "DRIFTING_TORCH_KERNELS"
_SECONDS = 6.0
"""For which a workload is measured."""


def gradients(features: list[Feature], value: str) -> list[Tensor]:
    """One step, with the environment's variable at ``value``."""
    os.environ[_VARIABLE] = value
    return step(ours, features)


def widened(feature: Feature) -> Feature:
    """The same inputs in float64."""
    return Feature(
        feature.generated.double(),
        feature.positive.double(),
        feature.unconditional.double(),
        feature.weight.double(),
    )


def error(features: list[Feature], value: str, exact: list[Tensor]) -> float:
    """Largest relative error of the features' gradients."""
    return max(
        ((one.double() - two).norm() / two.norm()).item()
        for one, two in zip(gradients(features, value), exact, strict=True)
    )


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    table = Table("workload", "without, ms", "with, ms", "without ÷ with", "errors")
    for workload in WORKLOADS:
        features = workload.features("cpu")
        exact = gradients([widened(feature) for feature in features], "off")
        errors = [error(features, value, exact) for value in ("off", "auto")]
        times: dict[str, list[float]] = {"off": [], "auto": []}
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end or len(times["off"]) < 5:
            for value, found in times.items():
                start = time.process_time()
                gradients(features, value)
                found.append(time.process_time() - start)
        without, fused = (1e3 * statistics.median(found) for found in times.values())
        table.add_row(
            workload.name,
            f"{without:.1f}",
            f"{fused:.1f}",
            f"{without / fused:.2f}",
            " / ".join(f"{each:.1e}" for each in errors),
        )
    os.environ.pop(_VARIABLE, None)
    Console().print(table)
    Console().print(f"CPU: {backends()['cpu']}")


if __name__ == "__main__":
    main()
