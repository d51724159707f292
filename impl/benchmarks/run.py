"""Times the loss and its gradient against the textbook form: ``make bench``.

Both are run in turns, in processes of their own for each workload; medians of process CPU time on
one thread and of wall time on all; of the textbook form its fastest step too, against our median.
Nothing is timed before its loss and gradient were held to float64; a row whose accuracy is not good
enough prints no ratio. Memory is the peak beyond the inputs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.textbook import textbook_loss
from benchmarks.workloads import TEMPERATURES, WORKLOADS, Feature, Workload
from drifting_spec import RELEASE
from drifting_torch import drifting_loss

Loss = Callable[[Feature, Tensor], Tensor]
Result = TypeVar("Result")
GRADIENT_LIMIT, LOSS_LIMIT = 5e-6, 1e-5
SHORTEST = 3.0
"""Seconds for which a workload is measured at least, however short its steps are."""
PROCESSES = 3


def ours(feature: Feature, generated: Tensor) -> Tensor:
    """The loss of one feature by ``drifting_torch``."""
    return drifting_loss(
        generated,
        feature.positive,
        feature.unconditional,
        feature.weight,
        temperatures=TEMPERATURES,
        readings=RELEASE,
        validate=False,
    ).loss


def textbook(feature: Feature, generated: Tensor) -> Tensor:
    """The loss of one feature in the textbook form."""
    return textbook_loss(
        generated, feature.positive, feature.unconditional, feature.weight, TEMPERATURES
    )


def step(loss: Loss, features: list[Feature]) -> list[Tensor]:
    """Losses and gradients of all features, one after the other."""
    results: list[Tensor] = []
    for feature in features:
        leaf = feature.generated.detach().requires_grad_()
        value = loss(feature, leaf)
        value.backward()
        assert leaf.grad is not None
        results += [value.detach(), leaf.grad]
    return results


def errors(loss: Loss, workload: Workload, mean: float) -> tuple[float, float]:
    """Worst relative errors of loss and gradient over the features, against float64."""
    worst_loss = worst_gradient = 0.0
    for feature in workload.features("cpu", mean):
        exact = Feature(*(part.double() for part in vars(feature).values()))
        value, gradient = step(loss, [feature])
        true_value, true_gradient = step(ours, [exact])
        worst_loss = max(worst_loss, float((value - true_value).abs() / true_value))
        apart = (gradient.double() - true_gradient).norm() / true_gradient.norm()
        worst_gradient = max(worst_gradient, float(apart))
    return worst_loss, worst_gradient


def turns(name: str, runs: int, threads: int, clock: str) -> list[list[float]]:
    """Seconds of both, ours first, measured in turns."""
    torch.set_num_threads(threads)
    features = _workload(name).features("cpu")
    read: Callable[[], float] = getattr(time, clock)
    seconds: list[list[float]] = [[], []]
    started, turn = time.perf_counter(), 0
    while turn <= runs // PROCESSES or time.perf_counter() - started < SHORTEST / PROCESSES:
        for each, loss in zip(seconds, (ours, textbook), strict=True):
            before = read()
            step(loss, features)
            each.append(read() - before)
        turn += 1
    return [each[1:] for each in seconds]


def timings(name: str, runs: int, threads: int, clock: str) -> tuple[float, float, float]:
    """Median seconds of ours and of the textbook form, and the latter's fastest step.

    Over several processes: how memory lies differs between them.
    """
    found = [afresh(turns, name, runs, threads, clock) for _ in range(PROCESSES)]
    own, other = ([*chain(*each)] for each in zip(*found, strict=True))
    return statistics.median(own), statistics.median(other), min(other)


def _workload(name: str) -> Workload:
    (found,) = (each for each in WORKLOADS if each.name == name)
    return found


def status(key: str) -> float:
    """A figure of this process in MiB, as Linux keeps it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status holds no {key}")


def clear_peak() -> None:
    """Let ``VmHWM`` start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory(name: str, which: str) -> float:
    """Peak MiB beyond the inputs, one feature after the other."""
    torch.set_num_threads(1)
    workload = _workload(name)
    features = workload.features("cpu")
    loss = ours if which == "ours" else textbook
    # What first use costs is not the loss's.
    step(loss, Workload("first", workload.labels, ((1, 16),)).features("cpu"))
    clear_peak()
    before = status("VmRSS")
    for feature in features:
        step(loss, [feature])
    return status("VmHWM") - before


def afresh(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function returns in a process of its own: no row depends on those before it."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawning) as pool:
        return pool.submit(function, *arguments).result()


def measure(workload: Workload, runs: int) -> dict[str, float | str | bool]:
    """One row of the table."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loss, gradient = errors(ours, workload, 0.0)
    offset_loss, offset_gradient = errors(ours, workload, 100.0)
    right = gradient <= GRADIENT_LIMIT and loss <= LOSS_LIMIT and offset_gradient <= 1e-4
    row: dict[str, float | str | bool] = {
        "workload": workload.name,
        "loss_error": loss,
        "gradient_error": gradient,
        "offset_gradient_error": offset_gradient,
        "offset_loss_error": offset_loss,
        "textbook_gradient_error": errors(textbook, workload, 0.0)[1],
        "verified": right,
    }
    torch.set_num_threads(threads)
    if not right:
        return row
    name = workload.name
    cpu, cpu_textbook, cpu_fastest = timings(name, runs, 1, "process_time")
    wall, wall_textbook, wall_fastest = timings(name, runs, threads, "perf_counter")
    memory, memory_textbook = (afresh(peak_memory, name, which) for which in ("ours", "textbook"))
    return row | {
        "cpu_ms": 1e3 * cpu,
        "cpu_ratio": cpu_textbook / cpu,
        "cpu_fastest_ratio": cpu_fastest / cpu,
        "wall_ms": 1e3 * wall,
        "wall_ratio": wall_textbook / wall,
        "wall_fastest_ratio": wall_fastest / wall,
        "memory_mib": memory,
        "memory_ratio": memory / memory_textbook if memory_textbook else float("nan"),
    }


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--runs", type=int, default=9, help="turns at least")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(each, options.runs) for each in WORKLOADS if options.only in each.name]
    table = Table(
        "workload",
        "CPU ms",
        "× textbook",
        "× its fastest",
        "wall ×",
        "× fastest",
        "MiB",
        "× textbook",
        "loss",
        "gradient",
        "at 100σ",
    )
    for row in rows:
        numbers = ["cpu_ms", "cpu_ratio", "cpu_fastest_ratio", "wall_ratio", "wall_fastest_ratio"]
        numbers += ["memory_mib", "memory_ratio"]
        cells = [f"{row[key]:.2f}" if key in row else "not verified" for key in numbers]
        accuracy = ["loss_error", "gradient_error", "offset_gradient_error"]
        table.add_row(str(row["workload"]), *cells, *(f"{row[key]:.1e}" for key in accuracy))
    Console(width=132).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
