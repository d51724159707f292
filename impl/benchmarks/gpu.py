"""Times the loss on one GPU: ``python -m benchmarks.gpu``.

The workloads of ``make bench``, and Table 8's ablation (64 labels, width 256, the release's maps)
streamed map by map, features drawn on the device. All features of a workload or a map are one tap.
Results are held to the eager path in float64 before anything is timed. Bytes and operations are
counted from the shapes and set against this card's own copy bandwidth and matrix rate, measured
first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.textbook import textbook_loss
from benchmarks.workloads import (
    GENERATED,
    POSITIVE,
    TEMPERATURES,
    UNCONDITIONAL,
    WORKLOADS,
    Feature,
    Workload,
)
from drifting_spec import RELEASE
from drifting_torch import FeatureDriftingConfig, slot_inventory, stream_drifting_loss

LIMITS = {"float32": 1e-5, "tf32": 2e-2, "bfloat16": 1e-2}
"""Largest relative error of a gradient, of a bfloat16 one as rounded to its dtype."""

TARGETS = GENERATED + POSITIVE + UNCONDITIONAL


@dataclass(frozen=True)
class Cost:
    """Bytes that must move at least, and operations of the matrix products."""

    bytes: float
    operations: float

    def seconds(self, bandwidth: float, rate: float) -> float:
        """The roofline's time: whichever takes longer."""
        return max(self.bytes / bandwidth, self.operations / rate)


def cost(workload: Workload, width: int) -> Cost:
    """The least cost of a workload at ``width`` bytes an entry.

    Inputs are read twice, since S is known only after all distances, and the gradient is written
    once. Each group multiplies N·M·C for the distances and for the drifts' sum; for λ either as
    much for every temperature's drift, or N·M·M for its trace, and what the other inner products
    take, whichever is less.
    """
    moved, products = 0.0, 0.0
    others = POSITIVE * (POSITIVE + UNCONDITIONAL) + UNCONDITIONAL**2
    for vectors, channels in workload.shapes:
        groups = workload.labels * vectors
        moved += (2 * TARGETS + GENERATED) * groups * channels * width
        drifts = len(TEMPERATURES) * GENERATED * TARGETS * channels
        traces = len(TEMPERATURES) * GENERATED * TARGETS * TARGETS + others * channels
        products += groups * (2 * GENERATED * TARGETS * channels + min(drifts, traces))
    return Cost(moved, 2.0 * products)


def ablation(labels: int = 64, width: int = 256) -> list[Workload]:
    """Table 8's ablation under the release's maps, a workload a tapped map."""
    slots = slot_inventory(width, readings=RELEASE)
    kept = [(key, each) for key, each in slots.items() if key != "samples"]
    maps = groupby(kept, key=lambda item: item[0].rpartition(".")[0])
    return [
        Workload(name, labels, tuple((each.vectors, each.channels) for _, each in members))
        for name, members in maps
    ]


def drawn(workload: Workload, device: torch.device, dtype: torch.dtype) -> Iterator[Feature]:
    """Gaussian features made on the device, one after the other."""
    for vectors, channels in workload.shapes:
        generated, positive, unconditional = (
            torch.randn(workload.labels, count, vectors, channels, device=device).to(dtype)
            for count in (GENERATED, POSITIVE, UNCONDITIONAL)
        )
        weight = torch.full((workload.labels, UNCONDITIONAL), 2.0, device=device)
        yield Feature(generated, positive, unconditional, weight)


def solve(features: list[Feature], precision: str, taps: int = 1) -> list[Tensor]:
    """Gradients of some features by ``drifting_torch``; each of ``taps`` holds all of them."""
    leaves = [
        {
            f"{index}": each.generated.detach().requires_grad_()
            for index, each in enumerate(features)
        }
        for _ in range(taps)
    ]
    positive = {f"{index}": each.positive for index, each in enumerate(features)}
    unconditional = {f"{index}": each.unconditional for index, each in enumerate(features)}
    config = FeatureDriftingConfig(
        TEMPERATURES,
        include_raw_drift_loss=False,
        readings=RELEASE,
        precision="tf32" if precision == "tf32" else "float32",
    )
    stream_drifting_loss(
        ((f"{turn}", each, positive, unconditional) for turn, each in enumerate(leaves)),
        features[0].weight,
        config=config,
        validate=False,
    )
    gradients = [each.grad for each in leaves[0].values()]
    return [each for each in gradients if each is not None]


def textbook(feature: Feature) -> None:
    """The same in the textbook form."""
    leaf = feature.generated.detach().requires_grad_()
    parts = (feature.positive, feature.unconditional, feature.weight)
    textbook_loss(leaf, *parts, TEMPERATURES).backward()


@contextlib.contextmanager
def eagerly() -> Generator[None]:
    """PyTorch's operators alone."""
    before = os.environ.get("DRIFTING_TORCH_KERNELS")
    os.environ["DRIFTING_TORCH_KERNELS"] = "off"
    try:
        yield
    finally:
        del os.environ["DRIFTING_TORCH_KERNELS"]
        if before is not None:
            os.environ["DRIFTING_TORCH_KERNELS"] = before


def few(workload: Workload) -> Workload:
    """A few groups of every shape."""
    shapes = tuple((min(vectors, 4), channels) for vectors, channels in workload.shapes)
    return Workload(workload.name, min(workload.labels, 2), shapes)


def error(workload: Workload, device: torch.device, precision: str) -> float:
    """Worst relative error of a gradient against float64, over a few groups of every shape."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    features = list(drawn(few(workload), device, dtype))
    found = solve(features, precision)
    with eagerly():
        wide = [Feature(*(part.double() for part in vars(each).values())) for each in features]
        exact = solve(wide, "exact")
    return max(
        float((one.double() - two).norm() / two.norm())
        for one, two in zip(found, exact, strict=True)
    )


def seconds(run: Callable[[], object], device: torch.device, runs: int) -> float:
    """Median seconds of a run: device events on a GPU."""
    found: list[float] = []
    for turn in range(runs + 2):
        if device.type == "cuda":
            events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            events[0].record()
            run()
            events[1].record()
            torch.cuda.synchronize()
            taken = events[0].elapsed_time(events[1]) / 1e3
        else:
            started = time.perf_counter()
            run()
            taken = time.perf_counter() - started
        if turn >= 2:
            found.append(taken)
    return statistics.median(found)


def peak(run: Callable[[], object], device: torch.device) -> float:
    """MiB allocated at most beyond what was there before."""
    if device.type != "cuda":
        return float("nan")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def on_device(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that the device itself computes; the rest of a run it waits for the host."""
    if device.type != "cuda":
        return float("nan")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        run()
        torch.cuda.synchronize()
    return sum(each.self_device_time_total for each in found.key_averages()) / 1e6


def launches(workload: Workload, device: torch.device, precision: str) -> float:
    """Kernels and copies that one tap more starts on the device, forward and backward."""
    if device.type != "cuda":
        return float("nan")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    features = list(drawn(few(workload), device, dtype))
    counts: list[int] = []
    for taps in (1, 2):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
            solve(features, precision, taps)
            torch.cuda.synchronize()
        counts.append(
            sum(each.count for each in found.key_averages() if each.self_device_time_total)
        )
    return counts[1] - counts[0]


def bandwidth(device: torch.device, entries: int, runs: int) -> float:
    """Bytes a second of a copy, read and written."""
    source = torch.empty(entries, device=device)
    target = torch.empty_like(source)
    return 8 * entries / seconds(lambda: target.copy_(source), device, runs)


def matrix_rate(device: torch.device, precision: str, side: int, runs: int) -> float:
    """Operations a second of a product of two large matrices."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, two = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        return 2 * side**3 / seconds(lambda: one @ two, device, runs)
    finally:
        torch.set_float32_matmul_precision(before)


def measure(
    workload: Workload,
    device: torch.device,
    precision: str,
    rates: dict[str, float],
    runs: int,
    *,
    compare: bool,
) -> dict[str, Any]:
    """One row: time, memory, launches, share of the roofline, and the textbook form's time."""
    row: dict[str, Any] = {
        "workload": workload.name,
        "precision": precision,
        "gradient_error": error(workload, device, precision),
    }
    row["verified"] = row["gradient_error"] <= LIMITS[precision]
    if not row["verified"]:
        return row
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    features = list(drawn(workload, device, dtype))

    def ours() -> None:
        solve(features, precision)

    least = cost(workload, dtype.itemsize)
    row |= {
        "seconds": seconds(ours, device, runs),
        "device_seconds": on_device(ours, device),
        "peak_mib": peak(ours, device),
        "launches_a_tap": launches(workload, device, precision),
        "bytes": least.bytes,
        "operations": least.operations,
        "roofline_seconds": least.seconds(rates["bandwidth"], rates[precision]),
    }
    if compare:
        with contextlib.suppress(torch.OutOfMemoryError):  # it holds N×M×T for all groups
            taken = seconds(lambda: [textbook(each) for each in features], device, runs)
            row["textbook_seconds"] = taken
    return row


def summed(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of maps one after the other as one row, with the worst of their peaks and launches."""
    whole: dict[str, Any] = {"workload": name, "precision": rows[0]["precision"]}
    whole["gradient_error"] = max(row["gradient_error"] for row in rows)
    whole["verified"] = all(row["verified"] for row in rows)
    if whole["verified"]:
        for key in ("seconds", "device_seconds", "bytes", "operations", "roofline_seconds"):
            whole[key] = sum(row[key] for row in rows)
        for key in ("peak_mib", "launches_a_tap"):
            whole[key] = max(row[key] for row in rows)
        if all("textbook_seconds" in row for row in rows):
            whole["textbook_seconds"] = sum(row["textbook_seconds"] for row in rows)
    return whole


def table(rows: list[dict[str, Any]]) -> Table:
    """What was measured, a row a workload and precision."""
    heads = (
        "workload",
        "precision",
        "gradient",
        "ms",
        "on device",
        "× textbook",
        "peak MiB",
        "launches a tap",
    )
    found = Table(*heads, "of roofline")
    for row in rows:
        cells = [row["workload"], row["precision"], f"{row['gradient_error']:.1e}"]
        if row["verified"]:
            ratio = row.get("textbook_seconds", float("nan")) / row["seconds"]
            times = (f"{1e3 * row[key]:.3f}" for key in ("seconds", "device_seconds"))
            cells += [*times, f"{ratio:.2f}", f"{row['peak_mib']:.0f}"]
            share = row["roofline_seconds"] / row["seconds"]
            cells += [f"{row['launches_a_tap']:.0f}", f"{100 * share:.0f} %"]
        else:
            cells += ["not verified"]
        found.add_row(*cells)
    return found


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", type=Path, help="written anew after every row")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=LIMITS,
        default=list(LIMITS),
        metavar="NAME",
        help="of float32, tf32 and bfloat16, those to measure (all)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="run everything on the CPU at tiny sizes"
    )
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("no CUDA device: torch.cuda.is_available() is false", file=sys.stderr)
        raise SystemExit(1)
    device = torch.device("cpu" if options.dry_run else "cuda")
    runs = 1 if options.dry_run else options.runs
    side, entries = (64, 2**10) if options.dry_run else (8192, 2**28)
    rates = {"bandwidth": bandwidth(device, entries, runs)}
    rates |= {each: matrix_rate(device, each, side, runs) for each in options.precision}
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(row), file=sys.stderr, flush=True)
        if options.json:
            found = {"rates": rates, "rows": [*rows, row]}
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        return row

    chosen = (Workload("tiny", 1, ((2, 8), (1, 16))),) if options.dry_run else WORKLOADS
    maps = ablation(1, 8)[-1:] if options.dry_run else ablation()
    for precision in options.precision:
        arguments = (device, precision, rates, runs)
        compare = precision != "bfloat16"
        rows.extend(keep(measure(each, *arguments, compare=compare)) for each in chosen)
        streamed = [keep(measure(each, *arguments, compare=compare)) for each in maps]
        rows.append(keep(summed("Table 8, ablation", streamed)))
    name = "CPU, a dry run: no figure means anything"
    console = Console(width=120)
    console.print(name if options.dry_run else torch.cuda.get_device_name(), rates)
    console.print(table(rows))


if __name__ == "__main__":
    main()
