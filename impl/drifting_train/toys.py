"""``python -m drifting_train.toys``: each toy of ``toy2d`` from several seeds, in a table.

Energy distances are between 2000 generated and 2000 real points, beside those of two real sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drifting_train.ablations import evaluations, table_line
from drifting_train.errors import TrainError
from drifting_train.options import Parser
from drifting_train.toy2d import ToySettings


@dataclass(frozen=True)
class Toy:
    """A law of points, and where the generated ones start."""

    name: str
    change: dict[str, Any] = field(default_factory=dict[str, Any])


_COLLAPSED: dict[str, Any] = {"start": "collapsed", "separation": 6.0}

TOYS = (
    Toy("two modes, near"),
    Toy("two modes, far", {"start": "far"}),
    Toy("two modes, collapsed", {"start": "collapsed"}),
    Toy("six apart, collapsed", _COLLAPSED),
    Toy("six apart, collapsed, τ = 0.81 alone", {**_COLLAPSED, "temperatures": (0.81,)}),
    Toy("checkerboard", {"data": "checkerboard"}),
    Toy("swiss roll", {"data": "swiss-roll"}),
    Toy("eight gaussians", {"data": "eight-gaussians"}),
)


def line_of(toy: Toy, runs: Sequence[Sequence[dict[str, float]]]) -> str:
    """One line of the table, from each seed's evaluations: the first, and the last."""

    def each(name: str, at: int, digits: int) -> str:
        return ", ".join(f"{run[at][name]:.{digits}f}" for run in runs)

    served = between = ""
    if "modes" in runs[0][-1]:
        served = ", ".join(f"{run[-1]['modes_served']:g}/{run[-1]['modes']:g}" for run in runs)
        between = each("between_modes", -1, 3)
    shown = [
        toy.name,
        each("energy_distance", 0, 2),
        each("energy_distance", -1, 4),
        each("energy_distance_real", -1, 4),
        served,
        between,
    ]
    return table_line(shown)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table line by line; 2 with one line about what was wrong."""
    parser = Parser(prog="python -m drifting_train.toys", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/toys"), metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=ToySettings().steps, metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    try:
        options: argparse.Namespace = parser.parse_args(arguments)
        if options.steps < 1 or min(options.seeds) < 0:
            raise TrainError("--steps is below 1 or one of --seeds below 0")
        print("| toy | before | after | two real sets | modes served | between modes |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for toy in TOYS:
            folder = options.out / toy.name.replace(" ", "-")
            runs = [
                evaluations(
                    "toy2d",
                    ToySettings(
                        out=folder / str(seed),
                        seed=seed,
                        device="cpu",
                        threads=1,
                        steps=options.steps,
                        evaluate_every=options.steps,
                        checkpoint_every=options.steps,
                        **toy.change,
                    ),
                )
                for seed in options.seeds
            ]
            print(line_of(toy, runs), flush=True)
    except TrainError as problem:
        print(f"drifting_train.toys: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
