"""The process in which judged code runs: it loads the adapter, then answers calls one by one.

Started by the warden. The first message names the target, and the answer tells what the adapter
offers. Everything that judged code raises, ``SystemExit`` included, becomes an answer; what ends
the process is the judge's to see.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.loading import AdapterError, load_here
from drifting_parity.adapters.process.calls import CALLS, METHODS, QUEUE, Call, inputs
from drifting_parity.adapters.process.judged_process import LOST_CONNECTION
from drifting_parity.adapters.process.state import State
from drifting_parity.adapters.process.wire import AnyArray, Unfit, message, receive
from drifting_parity.plain import described, plain

Body = dict[str, Any]

DRAWS: frozenset[str] = frozenset(
    {"masks", "drawn_alpha", f"{QUEUE}.positive", f"{QUEUE}.unconditional"}
)
"""Methods whose task it is to draw: their use of random numbers is no news."""


class Worker:
    """An adapter that answers over a socket."""

    def __init__(self, judge: socket.socket) -> None:
        self._judge = judge
        self._owner = os.getpid()
        self._adapter = Adapter()
        self._queues: dict[int, Any] = {}
        self._count = 0
        # A copy of this process made by judged code must not answer in its place.
        os.register_at_fork(after_in_child=judge.close)

    def run(self) -> None:
        """Load, answer until the judge has gone."""
        request, _ = receive(self._judge)
        self._send({"id": 0, **self._load(request)})
        self._state = State()
        while os.getpid() == self._owner:
            request, arrays = receive(self._judge)
            body, results = self._answer(request, arrays)
            if os.getpid() == self._owner:
                self._send({"id": request["id"], **body}, results)

    def _send(self, body: Body, arrays: Sequence[AnyArray] = ()) -> None:
        self._judge.sendall(message(body, arrays))

    def _load(self, request: Mapping[str, Any]) -> Body:
        try:
            adapter = load_here(request["target"])
            self._adapter = adapter
            return {
                "name": plain(str(adapter.name)),
                "configurable": bool(adapter.configurable),
                "dtypes": [str(item) for item in adapter.dtypes],
                "devices": [str(item) for item in adapter.devices],
                "offers": [name for name in METHODS if adapter.offers(name)],
                "taken": str(getattr(adapter, "taken", "")),
            }
        except AdapterError as problem:
            return {"problem": str(problem)}
        except BaseException as problem:  # importing runs its code, which may raise anything
            return {"problem": f"{request['target']} did not load: {described(problem)}"}

    def _answer(
        self, request: Mapping[str, Any], given: Sequence[AnyArray]
    ) -> tuple[Body, list[AnyArray]]:
        call = CALLS[request["call"]]
        for handle in request["dropped"]:
            self._queues.pop(handle, None)
        arguments = call.unpack_arguments(request["arguments"], given)
        kept = {
            key: item.tobytes() for key, item in inputs(list(call.parameters), arguments).items()
        }
        body, results = self._ask(call, request["queue"], arguments)
        body["conduct"] = self._conduct(call, arguments, kept)
        return body, results

    def _ask(
        self, call: Call, handle: int | None, arguments: list[Any]
    ) -> tuple[Body, list[AnyArray]]:
        """Run judged code; whatever it raises is its answer."""
        owner = self._adapter if handle is None else self._queues[handle]
        try:
            value = getattr(owner, call.method.rpartition(".")[2])(*arguments)
            tree, results = call.pack_result(self._kept(value) if call.method == QUEUE else value)
        except Unfit as problem:
            return {"raised": plain(f"TypeError: {problem}")}, []
        except NotObservable as reason:
            return {"not_observable": plain(str(reason))}, []
        except Exception as problem:
            return {"raised": described(problem)}, []
        except BaseException as problem:  # sys.exit() and its like decide nothing here
            return {"raised": described(problem), "left": True}, []
        return {"result": tree}, results

    def _kept(self, queue: Any) -> int:
        """A number for a queue, by which it is asked later."""
        self._count += 1
        self._queues[self._count] = queue
        return self._count

    def _conduct(
        self, call: Call, arguments: list[Any], kept: Mapping[str, bytes]
    ) -> list[list[str]]:
        listed = [
            ["inputs", f"changed its input {key} in place"]
            for key, item in inputs(list(call.parameters), arguments).items()
            if item.tobytes() != kept.get(key)
        ]
        try:
            listed += [[item.kind, plain(item.what)] for item in self._adapter.conduct()]
            changes = self._state.changes()
        except BaseException as problem:  # comparing runs judged code where it left objects behind
            changes = [("global state", f"left state that cannot be read: {described(problem)}")]
        if not self._state.knows_torch():
            self._state = State()
        listed += [
            [kind, plain(what)]
            for kind, what in changes
            if kind != "random numbers" or call.method not in DRAWS
        ]
        return listed


def _first_to_go() -> None:
    """Where memory runs out, the kernel ends this process and not the judge."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main(descriptor: int) -> None:
    """Answer on the socket ``descriptor`` until the judge has gone."""
    _first_to_go()
    status = 0
    try:
        Worker(socket.socket(fileno=descriptor)).run()
    except EOFError:
        pass
    except OSError:
        status = LOST_CONNECTION
    # Without the handlers that judged code may have registered.
    os._exit(status)
