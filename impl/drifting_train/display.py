"""What is seen while a run trains: progress, energies, spread, quality and the time left."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

Values = Mapping[str, float]


class Display:
    """A live display on a terminal, a line for each evaluation elsewhere."""

    def __init__(self, title: str, steps: int, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(title, total=steps)
        self._train: Values = {}
        self._quality: Values = {}
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self.live:
            self._live = Live(self._shown(), console=self.console, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, value, trace)

    def step(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def train(self, values: Values) -> None:
        """Show the numbers of a step."""
        self._train = values
        self._refresh()

    def evaluation(self, step: int, values: Values) -> None:
        """Show an evaluation."""
        self._quality = values
        self._refresh()
        if not self.live:
            shown = ", ".join(f"{name} {_number(value)}" for name, value in values.items())
            self.console.print(f"step {step}: {shown}", highlight=False, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Print a line that stays."""
        self.console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._shown())

    def _shown(self) -> Group:
        parts: list[Table | Progress] = [self._progress]
        if table := _energies(self._train):
            parts.append(table)
        if self._quality:
            parts.append(_pairs("evaluation", self._quality))
        rest = {name: v for name, v in self._train.items() if not name.startswith("drift_energy")}
        if rest:
            parts.append(_pairs("step", rest))
        return Group(*parts)


def _energies(values: Values) -> Table | None:
    """Drift energy by feature (rows, the twelve greatest) and temperature (columns)."""
    cells: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        parts = name.split("/")
        if parts[0] == "drift_energy" and len(parts) == 3:
            cells.setdefault(parts[1], {})[parts[2].removeprefix("tau=")] = value
    if not cells:
        return None
    temperatures = list(next(iter(cells.values())))
    table = Table(box=None, pad_edge=False)
    table.add_column("drift energy ‖V‖²")
    for tau in temperatures:
        table.add_column(f"τ = {tau}", justify="right")
    rows = sorted(cells.items(), key=lambda item: -max(item[1].values()))
    for feature, by_temperature in rows[:12]:
        table.add_row(feature, *(_number(by_temperature[tau]) for tau in temperatures))
    if len(rows) > 12:
        table.add_row(f"and {len(rows) - 12} more", *("" for _ in temperatures))
    return table


def _pairs(title: str, values: Values) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True)
    table.add_column(title)
    table.add_column("", justify="right")
    for name, value in values.items():
        table.add_row(name, _number(value))
    return table


def _number(value: float) -> str:
    return f"{value:.4g}"
