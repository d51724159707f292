"""Adapters of code that is wrong and would rather not be judged: one for each trick.

``test_hostile.py`` puts each of them to the command line. The loss is 1 and its gradient all ones
whatever the case, so that a clause that conforms is one that the trick has won. The few that need
right numbers to be wrong in their way ask the reference.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import random
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.cases import LossCase, LossObservation, Setting
from drifting_spec import Readings

SCREEN = "\x1b[2J\x1b]0;owned\x07\u202e\ud800\x9b31m"


class Wrong(Adapter):
    """A wrong answer to everything, and a trick before it is given."""

    def trick(self, case: LossCase) -> None:
        """Whatever it hopes will help."""

    def answer(self, value: LossObservation) -> Any:
        """What is handed out."""
        return value

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> Any:
        self.trick(case)
        return self.answer(LossObservation(1.0, np.ones_like(case.generated)))


class NearlyRight(Adapter):
    """The right answer, spoiled."""

    def __init__(self) -> None:
        # Imported here: the others should start quickly.
        from drifting_parity.adapters.reference_adapter import ReferenceAdapter

        self.reference = ReferenceAdapter()

    def spoil(self, case: LossCase, value: LossObservation) -> LossObservation:
        return value

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> Any:
        return self.spoil(case, self.reference.loss(case, readings, setting))


# It ends the process, or tries to.


class Exits(Wrong):
    def trick(self, case: LossCase) -> None:
        sys.exit(0)


class ExitsAtOnce(Wrong):
    def trick(self, case: LossCase) -> None:
        os._exit(0)


class ExitsWithThree(Wrong):
    def trick(self, case: LossCase) -> None:
        os._exit(3)


class ExitsAtTheEnd(Wrong):
    def __init__(self) -> None:
        atexit.register(os._exit, 0)


class ExitsFromAThread(Wrong):
    def trick(self, case: LossCase) -> None:
        threading.Thread(target=os._exit, args=(0,)).start()
        time.sleep(10)


class Crashes(Wrong):
    def trick(self, case: LossCase) -> None:
        ctypes.string_at(0)


class Aborts(Wrong):
    def trick(self, case: LossCase) -> None:
        os.abort()


class KillsItself(Wrong):
    def trick(self, case: LossCase) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class StopsItself(Wrong):
    def trick(self, case: LossCase) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class KillsItsParent(Wrong):
    def trick(self, case: LossCase) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)


class KillsItsGroup(Wrong):
    def trick(self, case: LossCase) -> None:
        os.killpg(0, signal.SIGTERM)
        time.sleep(10)


class Interrupts(Wrong):
    def trick(self, case: LossCase) -> None:
        raise KeyboardInterrupt


class RaisesAtTheRoot(Wrong):
    def trick(self, case: LossCase) -> None:
        class Escape(BaseException):
            pass

        raise Escape("past every except Exception")


class CannotBeShown(Wrong):
    def trick(self, case: LossCase) -> None:
        class Shy(Exception):  # noqa: N818
            def __str__(self) -> str:
                sys.exit(0)

        raise Shy


class RunsOutOfStack(Wrong):
    def trick(self, case: LossCase) -> None:
        self.trick(case)


# It takes time, memory, processes.


class Hangs(Wrong):
    def trick(self, case: LossCase) -> None:
        while True:
            time.sleep(1)


class Spins(Wrong):
    def trick(self, case: LossCase) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            pass


class TakesFiveSeconds(Wrong):
    def trick(self, case: LossCase) -> None:
        time.sleep(5)


class Allocates(Wrong):
    def trick(self, case: LossCase) -> None:
        held: list[Any] = []
        while True:
            held.append(np.ones(1 << 22))


class AllocatesInAChild(Wrong):
    def trick(self, case: LossCase) -> None:
        if os.fork() == 0:
            held: list[Any] = []
            while True:
                held.append(np.ones(1 << 22))
        time.sleep(10)


class Forks(Wrong):
    """Both processes return from the call."""

    def trick(self, case: LossCase) -> None:
        os.fork()


class LeavesADaemon(Wrong):
    """A process in a session of its own, whose parent is gone; it writes down its number."""

    def trick(self, case: LossCase) -> None:
        place = Path(os.environ["DAEMONS"])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                (place / str(os.getpid())).touch()
                time.sleep(600)
            os._exit(0)
        os.wait()


class PrintsWithoutEnd(Wrong):
    def trick(self, case: LossCase) -> None:
        while True:
            os.write(1, b"parity holds\n" * 1000)


# It meddles with its connection to the judge.


class ClosesEverything(Wrong):
    def trick(self, case: LossCase) -> None:
        os.closerange(0, 256)


class WritesNonsense(Wrong):
    def trick(self, case: LossCase) -> None:
        for number in range(3, 64):
            try:
                os.write(number, b"\xff" * 64)
            except OSError:
                continue


class AnswersNothing(Wrong):
    """A well-formed message that is no answer, in place of the answer."""

    def trick(self, case: LossCase) -> None:
        from drifting_parity.adapters.process.wire import message

        for number in range(3, 64):
            try:
                os.write(number, message([[[[]]]]))
            except OSError:
                continue


class PatchesTheJudge(Wrong):
    def trick(self, case: LossCase) -> None:
        from drifting_parity import measure
        from drifting_parity.adapters.reference_adapter import ReferenceAdapter

        measure.Measurement.passed = True  # pyright: ignore[reportAttributeAccessIssue] -- the trick
        ReferenceAdapter.loss = Wrong.loss  # pyright: ignore[reportAttributeAccessIssue]


class CallsItselfTheReference(Wrong):
    by_definition = True
    name = "drifting_reference"


# It changes what it is judged by.


class ZeroesItsInputs(Wrong):
    def trick(self, case: LossCase) -> None:
        case.generated[:] = case.positive[:] = 0.0

    def answer(self, value: LossObservation) -> Any:
        return LossObservation(0.0, np.zeros_like(value.gradient))


class RightButZeroes(NearlyRight):
    """Every number is right; the caller's samples are gone."""

    def spoil(self, case: LossCase, value: LossObservation) -> LossObservation:
        case.generated[:] = 0.0
        return value


class ChangesGlobalState(Wrong):
    def trick(self, case: LossCase) -> None:
        os.chdir("/")
        os.environ["DRIFTING"] = "1"
        np.seterr(all="raise")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        warnings.simplefilter("ignore")
        sys.setrecursionlimit(5000)
        sys.stdout = sys.stderr
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 -- what it does wrong


class PrintsAReport(Wrong):
    def trick(self, case: LossCase) -> None:
        sys.stdout.write(f'{SCREEN!s:.8}{{"complete": true}}\n')
        os.write(1, b"parity holds\n")


# What it says is not fit for a terminal.


class SaysTooMuch(Wrong):
    def trick(self, case: LossCase) -> None:
        raise ValueError(SCREEN + "x" * 5000)


class RefusesRudely(Wrong):
    def trick(self, case: LossCase) -> None:
        raise NotObservable(SCREEN + "x" * 5000)


# What it returns is no answer.


class ReturnsNan(Wrong):
    def answer(self, value: LossObservation) -> Any:
        return LossObservation(float("nan"), value.gradient * np.nan)


class ReturnsInfinity(Wrong):
    def answer(self, value: LossObservation) -> Any:
        return LossObservation(float("inf"), value.gradient * np.inf)


class ReturnsAnotherShape(NearlyRight):
    def spoil(self, case: LossCase, value: LossObservation) -> LossObservation:
        return replace(value, gradient=value.gradient[..., :1])


class ReturnsComplexNumbers(NearlyRight):
    def spoil(self, case: LossCase, value: LossObservation) -> LossObservation:
        return replace(value, gradient=value.gradient + 0j)


class ReturnsATuple(Wrong):
    def answer(self, value: LossObservation) -> Any:
        return (value, {})


class ReturnsAFloat(Wrong):
    def answer(self, value: LossObservation) -> Any:
        return 1.0


class ReturnsNone(Wrong):
    def answer(self, value: LossObservation) -> Any:
        return None


class ReturnsText(Wrong):
    def answer(self, value: LossObservation) -> Any:
        return "conforms"


class ReturnsALiveObject(Wrong):
    """It runs code when it is looked at."""

    def answer(self, value: LossObservation) -> Any:
        class Live:
            def __array__(self, *_: object, **__: object) -> Any:
                os._exit(0)

        return replace(value, gradient=Live())  # pyright: ignore[reportArgumentType] -- the trick


class KeepsState(NearlyRight):
    """Right at first, and a little more wrong with each call."""

    calls = 0

    def spoil(self, case: LossCase, value: LossObservation) -> LossObservation:
        self.calls += 1
        factor = 1 + 1e-3 * self.calls
        return replace(value, loss=value.loss * factor, gradient=value.gradient * factor)


class RemembersTheFirst(NearlyRight):
    """Answers every case of a shape as the first one of it."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[tuple[int, ...], LossObservation] = {}

    def spoil(self, case: LossCase, value: LossObservation) -> LossObservation:
        return self.known.setdefault(value.gradient.shape, value)
