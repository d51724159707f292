"""``python -m drifting_train.ablations``: digits trained in the paper's ablations, in one table.

Every row is one run of ``drifting-train digits`` with one thing changed. Beside each stands the FID
that the paper reports for the same change on ImageNet, and whether both call it worse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from drifting_spec.registry import load
from drifting_train.commands import COMMANDS
from drifting_train.digits import DigitsSettings
from drifting_train.encoder import EncoderSettings
from drifting_train.errors import TrainError
from drifting_train.log import read_log
from drifting_train.loop import Run
from drifting_train.options import Parser
from drifting_train.settings import RunSettings

MEASURES = ("frechet_distance", "accuracy", "precision", "recall", "spread_within_class")
"""What is shown of an evaluation; the first decides which of two runs is better."""


@dataclass(frozen=True)
class Row:
    """One change of the settings, and the paper's row that it is to be held against."""

    name: str
    change: dict[str, Any] = field(default_factory=dict[str, Any])
    table: str = ""
    configuration: str = ""

    @property
    def reported(self) -> float | None:
        """The FID that the paper reports for it, None for none."""
        for result in load().results:
            if (result.table, result.configuration) == (self.table, self.configuration):
                return result.value
        return None


_B2 = "B/2, 100 epochs, "

ROWS = (
    Row("paper", {}, "T1", f"{_B2}V⁺ − V⁻"),
    Row("1.5·V⁺ − V⁻", {"attraction": 1.5}, "T1", f"{_B2}1.5·V⁺ − V⁻"),
    Row("V⁺ − 1.5·V⁻", {"repulsion": 1.5}, "T1", f"{_B2}V⁺ − 1.5·V⁻"),
    Row("2·V⁺ − V⁻", {"attraction": 2.0}, "T1", f"{_B2}2·V⁺ − V⁻"),
    Row("V⁺ − 2·V⁻", {"repulsion": 2.0}, "T1", f"{_B2}V⁺ − 2·V⁻"),
    Row("V⁺", {"repulsion": 0.0}, "T1", f"{_B2}V⁺"),
    Row("one positive", {"positive": 1}, "T2", f"{_B2}N_c = 64, N_pos = 1, N_neg = 64"),
    Row("no vanilla term", {"feature_include_raw_drift_loss": False}),
    Row("readings seed", {"readings": "seed"}),
    Row("readings release", {"readings": "release"}),
    Row("τ = 0.02", {"temperatures": (0.02,)}, "T-A6", f"{_B2}τ = 0.02"),
    Row("τ = 0.05", {"temperatures": (0.05,)}, "T-A6", f"{_B2}τ = 0.05"),
    Row("τ = 0.2", {"temperatures": (0.2,)}, "T-A6", f"{_B2}τ = 0.2"),
    Row("without S", {"feature_normalization": False}),
    Row("without λ", {"drift_normalization": False}),
)
"""The first is what all others are held against."""


def evaluations(command: str, settings: RunSettings) -> list[dict[str, float]]:
    """The evaluations of a run, which is trained to its end if it is not yet."""
    run = Run(command, COMMANDS[command].build(settings), settings, Console(quiet=True))
    run.prepare(resume=run.path.exists())
    if run.step < settings.steps:
        run.train()
    return [line for line in read_log(settings.out / "log.jsonl") if line["kind"] == "evaluation"]


def measured(
    rows: Sequence[Row], out: Path, steps: int, seed: int
) -> Iterator[tuple[Row, dict[str, float]]]:
    """Train the encoder, then the rows one after the other; finished ones are not trained again."""
    encoder = EncoderSettings(out=out / "encoder", device="cpu", threads=1)
    evaluations("encoder", encoder)
    for row in rows:
        settings = DigitsSettings(
            out=out / row.name.replace(" ", "-"),
            encoder=encoder.out,
            device="cpu",
            threads=1,
            steps=steps,
            evaluate_every=steps,
            seed=seed,
            **row.change,
        )
        yield row, evaluations("digits", settings)[-1]


def verdict(reported: tuple[float, float], found: tuple[float, float]) -> str:
    """Whether the paper and these runs agree that a row is worse than, or better than, the first.

    ``reported`` and ``found`` are distances of the first and of the row.
    """

    def word(first: float, second: float) -> str:
        return "worse" if second > first else "better" if second < first else "equal"

    paper, here = word(*reported), word(*found)
    return f"{here}, as there" if paper == here else f"{here}; there {paper}"


def lines_of(row: Row, values: dict[str, float], first: dict[str, float]) -> str:
    """One line of the table."""
    shown = [f"{values[name]:.3f}" for name in MEASURES]
    reported, whole = row.reported, ROWS[0].reported
    against = ""
    if reported is not None and whole is not None and row is not ROWS[0]:
        found = (first[MEASURES[0]], values[MEASURES[0]])
        against = verdict((whole, reported), found)
    return table_line([row.name, *shown, "" if reported is None else f"{reported:g}", against])


def table_line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def heading(real: dict[str, float]) -> list[str]:
    """The table's heading, and the line of the real test images."""
    names = ["Fréchet", "accuracy", "precision", "recall", "spread"]
    cells = ["", *names, "paper's FID", "than the first"]
    of_real = ["test images", *(f"{real[f'{name}_real']:.3f}" for name in MEASURES), "", ""]
    return [table_line(cells), table_line(["---"] * len(cells)), table_line(of_real)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table line by line; 2 with one line about what was wrong."""
    parser = Parser(prog="python -m drifting_train.ablations", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), metavar="FOLDER")
    parser.add_argument("--steps", type=int, default=1200, metavar="N", help="of each run")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of each run")
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", help=f"rows beside the first: {', '.join(names[1:])}"
    )
    try:
        options: argparse.Namespace = parser.parse_args(arguments)
        only = names if options.only is None else [names[0], *options.only]
        if unknown := [name for name in only if name not in names]:
            raise TrainError(f"--only is {unknown[0]!r}, expected rows of {', '.join(names)}")
        if options.steps < 1 or options.seed < 0:
            raise TrainError("--steps is below 1 or --seed below 0")
        first: dict[str, float] | None = None
        rows = [row for row in ROWS if row.name in only]
        for row, values in measured(rows, options.out, options.steps, options.seed):
            if first is None:
                first = values
                print("\n".join(heading(first)), flush=True)
            print(lines_of(row, values, first), flush=True)
    except TrainError as problem:
        print(f"drifting_train.ablations: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
