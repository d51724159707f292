"""The log of a run: one JSON object a line, without clocks, so that equal runs write equal logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drifting_train.checkpoint import write_whole
from drifting_train.errors import TrainError

NAME = "log.jsonl"


class RunLog:
    """Appends to the log of a run, and to TensorBoard's if that is installed and asked for.

    TensorBoard hides what a run cut short has written from ``purge_step`` on.
    """

    def __init__(
        self, folder: Path, *, tensorboard: bool = False, purge_step: int | None = None
    ) -> None:
        self.path = folder / NAME
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter  # pyright: ignore[reportPrivateImportUsage]
            except ImportError as problem:
                raise TrainError(
                    "--tensorboard needs the package tensorboard: pip install tensorboard"
                ) from problem
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line: the step, what kind of line it is, and its values."""
        line = json.dumps({"step": step, "kind": kind, **values})
        try:
            with self.path.open("a") as file:
                file.write(line + "\n")
        except OSError as problem:
            raise TrainError(f"cannot write {self.path}: {problem.strerror}") from problem
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float | int):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def keep_until(self, step: int) -> None:
        """Drop the lines of later steps, which a run cut short has written, and a half line."""
        if not self.path.exists():
            return
        lines = [json.dumps(each) for each in read_log(self.path) if each["step"] <= step]
        text = "".join(f"{line}\n" for line in lines)
        write_whole(self.path, lambda file: _write(file, text))


def _write(file: Any, text: str) -> None:
    file.write(text.encode())


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; a last line that is cut short is left out."""
    try:
        text = path.read_text()
    except OSError as problem:
        raise TrainError(f"cannot read {path}: {problem.strerror}") from problem
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            held = json.loads(line)
        except json.JSONDecodeError as problem:
            if number == len(lines):
                return
            raise TrainError(f"{path}, line {number} is no JSON: {problem.msg}") from problem
        if not isinstance(held, dict) or not isinstance(held.get("step"), int):
            raise TrainError(f"{path}, line {number} is no line of a log of drifting-train")
        yield held
