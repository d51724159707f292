"""Keeps a process of judged code, and everything that it starts, within bounds.

Run as a script, by ``python -I -S warden.py CONTROL DATA LIMIT COMMAND…``: it starts COMMAND with
the socket DATA in a session of its own and watches it. Standard library only, and little of that,
since one of these starts with every worker.

On Linux it is a *subreaper*: whatever the worker starts becomes its child once its parent is gone,
so that nothing outlives it. It ends all of them when the worker ends, when together they hold more
memory than LIMIT bytes (0: no limit), when the judge asks by ``k`` or is gone. What they print it
reads, counts and keeps the beginning and the end of. It writes lines of JSON to CONTROL:
``{"worker": pid}`` at first, ``{"printed": …, "text": …}`` for every ``p`` that it reads, and at
the end ``{"ended": status, "memory": bytes, "processes": many, "left": some}`` with what was
printed: ``memory`` and ``processes`` if they were too many, ``left`` those still running.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

INTERVAL = 0.05
"""Seconds between two looks at the memory."""

KEPT = 2000
"""Bytes of output kept from the beginning, and as many from the end."""

MOST_PROCESSES = 512
"""More than that is a process that multiplies without end."""

PATIENCE = 5.0
"""Seconds until ending everything is given up."""

PR_SET_CHILD_SUBREAPER = 36


class Output:
    """What was printed: how much, and its beginning and end."""

    def __init__(self, source: int) -> None:
        self.source = source
        self.count = 0
        self._first = b""
        self._last = b""
        os.set_blocking(source, False)

    def read(self) -> bool:
        """Take what is there; false at its end."""
        # A bounded number of times: judged code may print faster than it can be read.
        for _ in range(64):
            try:
                part = os.read(self.source, 1 << 16)
            except BlockingIOError:
                return True
            if not part:
                return False
            self.count += len(part)
            room = KEPT - len(self._first)
            self._first += part[:room] if room > 0 else b""
            self._last = (self._last + (part[room:] if room > 0 else part))[-KEPT:]
        return True

    def told(self) -> dict[str, object]:
        """As the judge is told."""
        gap = b" ... " if self.count > 2 * KEPT else b""
        return {
            "printed": self.count,
            "text": (self._first + gap + self._last).decode("utf-8", "replace"),
        }


def become_subreaper() -> None:
    """Adopt the orphans of every descendant (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """Every process below this one, where the system tells."""
    listed: list[int] = []
    waiting = [os.getpid()]
    while waiting and len(listed) <= MOST_PROCESSES:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 -- pathlib starts slowly
                with open(f"/proc/{pid}/task/{task}/children") as file:  # noqa: PTH123 -- likewise
                    children = [int(item) for item in file.read().split()]
                listed += children
                waiting += children
    return listed


def running(pid: int) -> bool:
    """Whether it is more than an entry that waits to be collected."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 -- likewise
            # The name in parentheses may hold anything.
            return file.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except (OSError, IndexError):
        return False


def shared_out(pids: list[int]) -> int:
    """Bytes that the processes hold together, each shared page counted once. Slow."""
    total = 0
    for pid in pids:
        with (
            contextlib.suppress(OSError, ValueError, IndexError),
            open(f"/proc/{pid}/smaps_rollup", "rb") as file,  # noqa: PTH123 -- likewise
        ):
            total += sum(1024 * int(line.split()[1]) for line in file if line.startswith(b"Pss:"))
    return total


def held(pids: list[int]) -> int:
    """Bytes that the processes hold, a page that several of them share counted for each."""
    pages = 0
    for pid in pids:
        with (
            contextlib.suppress(OSError, ValueError, IndexError),
            open(f"/proc/{pid}/statm") as file,  # noqa: PTH123 -- likewise
        ):
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Warden:
    """One worker under guard."""

    def __init__(self, control: socket.socket, data: int, limit: int, command: list[str]) -> None:
        self.control = control
        self.limit = limit
        self.memory = 0
        self.processes = 0
        self.status: int | None = None
        reader, writer = os.pipe()
        self.output = Output(reader)
        self.worker = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            pass_fds=(data,),
            start_new_session=True,
        )
        os.close(writer)
        os.close(data)
        self.tell({"worker": self.worker.pid})

    def tell(self, told: dict[str, object]) -> None:
        """Write one line to the judge, who may be gone."""
        with contextlib.suppress(OSError):
            self.control.sendall(json.dumps(told).encode() + b"\n")

    def watch(self, wakeup: int) -> None:
        """Until the worker has ended, by itself or by order."""
        sources = [self.control.fileno(), wakeup, self.output.source]
        looked = 0.0
        while self.status is None:
            ready, _, _ = select.select(sources, [], [], INTERVAL)
            if self.output.source in ready and not self.output.read():
                sources.remove(self.output.source)
            if wakeup in ready:
                os.read(wakeup, 4096)
            if self.control.fileno() in ready:
                order = self.control.recv(64)
                if not order or b"k" in order:
                    return
                self.output.read()
                self.tell(self.output.told())
            if time.monotonic() - looked > INTERVAL:
                looked = time.monotonic()
                self._look()
                if self.memory or self.processes:
                    return
            self._reap()

    def _look(self) -> None:
        pids = descendants() or [self.worker.pid]
        size = held(pids)
        if self.limit and size > self.limit and len(pids) > 1:
            size = shared_out(pids) or size
        if self.limit and size > self.limit:
            self.memory = size
        if len(pids) > MOST_PROCESSES:
            self.processes = len(pids)

    def _reap(self) -> bool:
        """Take note of every child that has ended; false when there is none left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.worker.pid:
                self.status = os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """End everything, then say how it was."""
        ended_itself = self.status
        left = sum(pid != self.worker.pid and running(pid) for pid in descendants())
        limit = time.monotonic() + PATIENCE
        # The group as well: where /proc does not tell, that is most of them.
        with contextlib.suppress(OSError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        while self._reap() and time.monotonic() < limit:
            for pid in descendants():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
        self.output.read()
        ended = {
            "ended": ended_itself,
            "memory": self.memory,
            "processes": self.processes,
            "left": left,
        }
        self.tell({**ended, **self.output.told()})


def _nothing(*_: object) -> None:
    """Let the signal interrupt the waiting, and no more."""


def main(arguments: list[str]) -> None:
    """Watch the command until it has ended."""
    control, data, limit, *command = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    become_subreaper()
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, _nothing)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    warden = Warden(socket.socket(fileno=int(control)), int(data), int(limit), command)
    try:
        warden.watch(reader)
    finally:
        warden.end()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
