"""The loop of every training command: steps, log, evaluations, checkpoints, and going on."""

from __future__ import annotations

import math
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import torch
from rich.console import Console

from drifting_train.checkpoint import NAME, load_checkpoint, save_checkpoint
from drifting_train.display import Display
from drifting_train.errors import TrainError
from drifting_train.log import RunLog
from drifting_train.options import as_plain
from drifting_train.settings import RunSettings, rank, world_size
from drifting_train.task import Task

FREE = {"out", "device", "threads", "log_every", "tensorboard", "checkpoint_every"}
"""Settings that may differ when a run goes on: the parameters do not depend on them."""


@contextmanager
def _interruptions() -> Generator[Event]:
    """Put SIGINT off until a step is whole; the second one ends it at once, with nothing saved.

    A checkpoint from the middle of a step would not go on to the bit.
    """
    seen = Event()

    def stop(_number: int, _frame: object) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    if current_thread() is not main_thread():  # only that one is told of signals
        yield seen
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


class Run:
    """One run of a task in a folder: trains it to the last step, from its checkpoint if asked."""

    def __init__(self, command: str, task: Task, settings: RunSettings, console: Console) -> None:
        self.command, self.task, self.settings = command, task, settings
        self.folder: Path = settings.out
        self.path = self.folder / NAME
        self.step = 0
        self.leading = rank() == 0
        self.console = console if self.leading else Console(quiet=True)
        self._resumed = False
        self._warned: set[str] = set()

    def prepare(self, resume: bool) -> None:
        """Make the folder, or go on from its checkpoint; refuse to write over another run."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise TrainError(f"cannot write to {self.folder}: {problem.strerror}") from problem
        if resume:
            self._load(load_checkpoint(self.path))
        elif self.path.exists():
            raise TrainError(
                f"{self.folder} holds a run already: --resume goes on with it, --out takes another "
                "folder"
            )
        if self.leading:
            for part in self.folder.glob(f".{NAME}.*.part"):
                part.unlink()  # of a run that was killed while it wrote
            again = self.step + 1 if resume else None
            self.log = RunLog(self.folder, tensorboard=self.settings.tensorboard, purge_step=again)
            self.log.keep_until(self.step if resume else -1)
        if world_size() > 1:
            torch.distributed.barrier()  # none writes before all have looked

    def _load(self, held: Mapping[str, Any]) -> None:
        if held["command"] != self.command:
            raise TrainError(
                f"{self.path} is of drifting-train {held['command']}, expected {self.command}"
            )
        now = as_plain(self.settings)
        # A setting that the checkpoint does not know yet was at its default.
        before = as_plain(type(self.settings)()) | held["settings"]
        differing = [
            f"{name.replace('_', '-')} was {before[name]!r} and is {value!r}"
            for name, value in now.items()
            if name not in FREE and before[name] != value
        ]
        if differing:
            raise TrainError(
                f"{self.path} was trained with other settings: {'; '.join(differing[:4])}"
            )
        self.task.load_state_dict(held["task"])
        self.step, self._resumed = int(held["step"]), True
        self._warned = set(held["warned"])

    def train(self) -> None:
        """Train to the last step; an interruption saves after its step, a second stops at once."""
        settings = self.settings
        with Display(self.command, settings.steps, self.console) as display:
            display.step(self.step)
            if self._resumed:
                display.say(f"going on from step {self.step} of {settings.steps}")
            else:
                self._evaluate(display)
                self._save()
            with _interruptions() as seen:
                while self.step < settings.steps:
                    self._step(display)
                    if seen.is_set() and self.step < settings.steps:
                        self._save()
                        display.say(f"stopped at step {self.step}; --resume goes on from there")
                        raise KeyboardInterrupt

    def _step(self, display: Display) -> None:
        settings = self.settings
        number = self.step + 1
        try:
            values = self.task.step()
        except (FloatingPointError, ValueError) as problem:
            raise self._stopped(number, str(problem).splitlines()[0]) from problem
        self.step = number
        display.step(number)
        last = number == settings.steps
        if number % settings.log_every == 0 or last:
            if broken := [name for name, value in values.items() if not math.isfinite(value)]:
                raise self._stopped(number, f"{', '.join(broken[:3])} not finite")
            rate = self.task.optimizer.param_groups[0]["lr"]
            values["learning_rate"] = float(rate)
            self._write("train", values)
            display.train(values)
        evaluated = number % settings.evaluate_every == 0 or last
        if evaluated:
            self._evaluate(display)
        if number % settings.checkpoint_every == 0 or last:
            if broken := [name for name, value in values.items() if not math.isfinite(value)]:
                raise self._stopped(number, f"{', '.join(broken[:3])} not finite")
            self._save()

    def _check_parameters(self) -> None:
        """Stop rather than put parameters in the checkpoint's place that are of no use."""
        for name, value in self.task.model.named_parameters():
            if not bool(value.isfinite().all()):
                raise self._stopped(self.step, f"parameter {name} not finite")

    def _stopped(self, number: int, reason: str) -> TrainError:
        kept = f"{self.path} is kept as it was" if self.path.exists() else "there is no checkpoint"
        return TrainError(f"step {number}: {reason}; training stopped, {kept}")

    def _evaluate(self, display: Display) -> None:
        if not self.leading:
            return
        values = self.task.evaluate()
        self._write("evaluation", values)
        display.evaluation(self.step, values)
        warned = self.task.warned() if self.step else []  # nothing was learnt yet
        for each in warned:
            if each.kind not in self._warned:
                self.log.write("warning", self.step, {"warning": each.kind, "text": each.text})
                display.say(f"warning at step {self.step}: {each.text}", style="yellow")
        self._warned = {each.kind for each in warned}

    def _write(self, kind: str, values: Mapping[str, float]) -> None:
        if self.leading:
            shown = {name: v if math.isfinite(v) else None for name, v in values.items()}
            self.log.write(kind, self.step, shown)

    def _save(self) -> None:
        self._check_parameters()
        if not self.leading:
            return
        held = {
            "command": self.command,
            "settings": as_plain(self.settings),
            "step": self.step,
            "task": self.task.state_dict(),
            "warned": sorted(self._warned),
        }
        save_checkpoint(self.path, held)
