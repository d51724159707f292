"""How time and memory grow with every size: ``python -m benchmarks.scaling``.

One size at a time is doubled from a common base; CPU time of a step on one thread (median), peak
memory beyond the inputs, each point in a process of its own, and the exponent of the power law that
fits the points best (1 is proportional). Processes share the statistics of a batch over gloo, each
with labels of its own, and are timed by the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import distributed
from torch.multiprocessing.spawn import spawn

from benchmarks.run import afresh, clear_peak, status
from drifting_spec import RELEASE
from drifting_torch import drifting_loss

SECONDS = 0.7
"""For which a point is timed."""


@dataclass(frozen=True)
class Sizes:
    """Samples, vectors, channels, labels, temperatures, features, processes of one point."""

    generated: int = 64
    positives: int = 64
    vectors: int = 64
    channels: int = 128
    labels: int = 1
    temperatures: int = 3
    features: int = 1
    processes: int = 1


SERIES: dict[str, tuple[int, ...]] = {
    "generated": (16, 32, 64, 128, 256),
    "positives": (16, 32, 64, 128, 256),
    "vectors": (16, 32, 64, 128, 256, 512),
    "channels": (32, 64, 128, 256, 512, 1024, 2048),
    "labels": (1, 2, 4, 8),
    "temperatures": (1, 2, 4, 8),
    "features": (1, 2, 4, 8),
    "processes": (1, 2),
}


class Step:
    """The loss of every feature and its gradient, at some sizes."""

    def __init__(self, sizes: Sizes, group: distributed.ProcessGroup | None = None) -> None:
        source = torch.Generator().manual_seed(0)
        shape = (sizes.vectors, sizes.channels)

        def draw(count: int) -> torch.Tensor:
            return torch.randn(sizes.labels, count, *shape, generator=source)

        self.features = [
            (draw(sizes.generated), draw(sizes.positives)) for _ in range(sizes.features)
        ]
        self.temperatures = tuple(0.02 * 1.5**index for index in range(sizes.temperatures))
        self.group = group

    def __call__(self) -> None:
        """One step."""
        for generated, positive in self.features:
            leaf = generated.detach().requires_grad_()
            drifting_loss(
                leaf,
                positive,
                temperatures=self.temperatures,
                readings=RELEASE,
                validate=False,
                process_group=self.group,
            ).loss.backward()

    def seconds(self, clock: str) -> float:
        """Median seconds of a step."""
        read = getattr(time, clock)
        found: list[float] = []
        self()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or len(found) < 5:
            before = read()
            self()
            found.append(read() - before)
        return statistics.median(found)


def point(sizes: Sizes) -> tuple[float, float]:
    """Milliseconds and MiB of one point, in this process."""
    torch.set_num_threads(1)
    Step(replace(sizes, vectors=1, features=1))()  # what first use costs is not the loss's
    step = Step(sizes)
    clear_peak()
    before = status("VmRSS")
    step()
    memory = status("VmHWM") - before
    return 1e3 * step.seconds("process_time"), memory


def _member(rank: int, sizes: Sizes, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=sizes.processes
    )
    step = Step(sizes, distributed.group.WORLD)
    found: list[float] = []
    for _ in range(30):
        distributed.barrier()
        before = time.perf_counter()
        step()
        found.append(time.perf_counter() - before)
    if rank == 0:
        Path(folder, "found").write_text(str(statistics.median(found[5:])))
    distributed.destroy_process_group()


def together(sizes: Sizes) -> float:
    """Milliseconds of a step that several processes take together, by the clock."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_member, (sizes, folder), sizes.processes)
        return 1e3 * float(Path(folder, "found").read_text())


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """The slope of the straight line through the logarithms."""
    if len(sizes) < 2 or min(values) <= 0:
        return math.nan
    return statistics.linear_regression(
        [math.log(each) for each in sizes], [math.log(each) for each in values]
    ).slope


def main() -> None:
    """Measure every series, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SERIES, nargs="+", default=list(SERIES), metavar="SIZE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    table = Table("size", "from … to", "ms", "exponent", "MiB", "exponent")
    rows: list[dict[str, object]] = []
    for name in options.only:
        values, times, memory = SERIES[name], list[float](), list[float]()
        for value in values:
            sizes = Sizes(**{name: value})
            if name == "processes":
                times.append(together(sizes))
            else:
                taken, held = afresh(point, sizes)
                times.append(taken)
                memory.append(held)
        row: dict[str, object] = {"size": name, "values": values, "ms": times, "mib": memory}
        row["exponent_of_time"] = exponent(values, times)
        rows.append(row)
        grown = f"{exponent(values, memory):.2f}" if memory else "–"
        table.add_row(
            name,
            f"{values[0]} … {values[-1]}",
            " ".join(f"{each:.3g}" for each in times),
            f"{exponent(values, times):.2f}",
            " ".join(f"{each:.3g}" for each in memory) or "–",
            grown,
        )
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
