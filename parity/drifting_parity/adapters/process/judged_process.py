"""The judge's side of one process of judged code: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drifting_parity.adapters.process.wire import AnyArray, Tree, Unfit, message, receive

WARDEN: Final = Path(__file__).with_name("warden.py")
WORKER: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from drifting_parity.adapters.process.worker import main; main(int(sys.argv[1]))"
)
PROTOCOL: Final = 1
"""Version of ``spec/PROTOCOL.md``; another one answers that it cannot speak it."""

DESCRIPTOR: Final = "DRIFTING_PARITY_FD"
"""The environment variable that tells a command the number of its socket."""

LOADING: Final = 4
"""Importing an implementation may take so many times as long as one call …"""

LOADING_AT_LEAST: Final = 60.0
"""… and so many seconds in any case."""

LOST_CONNECTION: Final = 121
"""With this status a worker ends whose socket judged code closed."""

PATIENCE: Final = 10.0
"""Seconds that the warden gets to end everything."""

GRACE: Final = 1.0
"""Seconds in which the warden notices an end of which the judge knows already."""


@dataclass(frozen=True)
class Limits:
    """What judged code may use: ``seconds`` for each call, ``memory`` in bytes (0: any)."""

    seconds: float = 60.0
    memory: int = 0


def usual_memory() -> int:
    """Half of what this machine, or the container that this runs in, has."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return total // 2


@dataclass(frozen=True)
class Ending:
    """How a process ended. ``status`` is None where the judge ended it, −n where signal n did.

    ``unguarded``: its warden did not live to tell.
    """

    status: int | None = None
    unguarded: bool = False
    memory: int = 0
    processes: int = 0
    left: int = 0
    printed: int = 0
    text: str = ""

    def __str__(self) -> str:
        if self.processes:
            return f"started {self.processes} processes"
        if self.unguarded:
            return "ended the process that guards it"
        if self.status is None or self.status == LOST_CONNECTION:
            return "closed its connection to the judge"
        if self.status >= 0:
            return f"ended the process (exit status {self.status})"
        name = f"signal {-self.status}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-self.status).name
        return f"ended the process ({name})"


class ProcessEnded(Exception):  # noqa: N818 -- no error of the judge's: news of a process
    """The process is gone, and how it went."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


class JudgedProcess:
    """A worker under its warden. Nothing is asked of it after it has ended."""

    def __init__(self, limits: Limits, command: Sequence[str] = ()) -> None:
        """Start this project's worker, or the ``command`` of another implementation's."""
        self._limits = limits
        self._calls = 0
        self._data, data = socket.socketpair()
        self._control, control = socket.socketpair()
        path = json.dumps(sys.path)
        # -P: no folder of the user's before the standard library.
        worker = list(command) or [
            *(sys.executable, "-u", "-P", "-c", WORKER, str(data.fileno()), path)
        ]
        self._warden = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(WARDEN), str(control.fileno())),
                *(str(data.fileno()), str(limits.memory), *worker),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(control.fileno(), data.fileno()),
            start_new_session=True,
            env={**os.environ, DESCRIPTOR: str(data.fileno())} if command else None,
        )
        control.close()
        data.close()
        self._lines = _Lines(self._control)
        self._worker = 0
        self._finalizer = weakref.finalize(self, _abandon, self._warden, self._data, self._control)

    def load(self, target: str) -> dict[str, Any]:
        """Import the target; what it offers, or ``problem``."""
        told = self._lines.next(time.monotonic() + PATIENCE)
        self._worker = int(told.get("worker", 0))
        limit = time.monotonic() + max(LOADING_AT_LEAST, LOADING * self._limits.seconds)
        body, _ = self._exchange(message({"protocol": PROTOCOL, "target": target}), 0, limit)
        return body

    def ask(
        self,
        call: str,
        queue: int | None,
        dropped: Sequence[int],
        arguments: tuple[Tree, list[AnyArray]],
    ) -> tuple[dict[str, Any], list[AnyArray]]:
        """Put one call. Raises ``TimeoutError``, :class:`ProcessEnded`, or ``Unfit`` for nonsense.

        After any of them, or an interrupt, it must be ended.
        """
        self._calls += 1
        tree, arrays = arguments
        body = {
            "id": self._calls,
            "call": call,
            "queue": queue,
            "dropped": list(dropped),
            "arguments": tree,
        }
        limit = time.monotonic() + self._limits.seconds
        return self._exchange(message(body, arrays), self._calls, limit)

    def _exchange(
        self, sent: bytes, number: int, limit: float
    ) -> tuple[dict[str, Any], list[AnyArray]]:
        try:
            self._data.settimeout(max(0.01, limit - time.monotonic()))
            self._data.sendall(sent)
            self._data.settimeout(None)
            while True:
                body, arrays = receive(self._data, limit, also=(self._control,))
                if not isinstance(body, dict):
                    raise Unfit("no answer")
                # Judged code that copies itself may answer twice; only the first one counts.
                if body.get("id") == number:
                    return body, arrays
        except TimeoutError:
            raise
        except (EOFError, OSError):
            raise ProcessEnded(self.end(GRACE)) from None

    def printed(self) -> tuple[int, str]:
        """How many bytes it printed so far, with the beginning and the end of them."""
        try:
            self._control.sendall(b"p")
            told = self._lines.next(time.monotonic() + GRACE)
        except (EOFError, OSError, ValueError):
            return 0, ""
        return int(told.get("printed", 0)), str(told.get("text", ""))

    def end(self, grace: float = 0.0) -> Ending:
        """End it with all that it started; with ``grace`` it may first be seen to end itself."""
        told = self._last_words(grace) if grace else None
        if told is None:
            with contextlib.suppress(OSError):
                self._control.sendall(b"k")
            told = self._last_words(PATIENCE)
        if told is None and self._worker:
            # The warden is gone or stuck; judged code may have seen to that.
            with contextlib.suppress(OSError):
                os.killpg(self._worker, signal.SIGKILL)
        self._finalizer()
        if told is None:
            return Ending(unguarded=True)
        return Ending(
            status=told.get("ended"),
            memory=int(told.get("memory", 0)),
            processes=int(told.get("processes", 0)),
            left=int(told.get("left", 0)),
            printed=int(told.get("printed", 0)),
            text=str(told.get("text", "")),
        )

    def _last_words(self, seconds: float) -> dict[str, Any] | None:
        limit = time.monotonic() + seconds
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                told = self._lines.next(limit)
                if "ended" in told:
                    return told
        return None


class _Lines:
    """Lines of JSON from the warden."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._read = b""

    def next(self, limit: float) -> dict[str, Any]:
        """The next line. Raises ``TimeoutError``, or ``EOFError`` if there will be none."""
        while b"\n" not in self._read:
            poll = select.poll()
            poll.register(self._source, select.POLLIN)
            left = limit - time.monotonic()
            if not poll.poll(None if left == math.inf else max(0.0, 1000 * left)):
                raise TimeoutError
            part = self._source.recv(1 << 16)
            if not part:
                raise EOFError
            self._read += part
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)


def _abandon(warden: subprocess.Popen[bytes], *ends: socket.socket) -> None:
    """Close the connections, whereupon the warden ends everything, and wait for it."""
    for end in ends:
        end.close()
    try:
        warden.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        warden.kill()
        warden.wait()
