"""The adapter of code that runs in a process of its own.

How often a process may fail: a method that did not answer in time twice, or ended its process
three times, is not called again, nor is any after twelve of either in all; what still needs it is
reported as raising, with that reason. A hang costs ``--timeout`` each, a new process the import.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

from drifting_parity.adapters.base import Adapter, ImplementationError, NotObservable
from drifting_parity.adapters.conduct import KINDS, Conduct, Kind, together
from drifting_parity.adapters.process.calls import METHODS, QUEUE, QUEUE_METHODS, Call, case_name
from drifting_parity.adapters.process.judged_process import (
    PROTOCOL,
    Ending,
    JudgedProcess,
    Limits,
    ProcessEnded,
)
from drifting_parity.adapters.process.wire import AnyArray, Unfit, unpacker
from drifting_parity.cases import DType
from drifting_parity.plain import LONGEST, plain

MOST_UNANSWERED: Final = 2
MOST_ENDED: Final = 3
MOST_IN_ALL: Final = 12

Body = Mapping[str, Any]


class LoadingError(Exception):
    """The code under judgement could not be loaded in its process."""


class Session:
    """The processes, one after the other, in which one target is asked."""

    def __init__(self, target: str, limits: Limits, command: Sequence[str] = ()) -> None:
        self.target = target
        self.command = command
        self.limits = limits
        self.generation = 0
        self.dropped: list[int] = []
        self._process: JudgedProcess | None = None
        self._conduct: list[Conduct] = []
        self._failed: Counter[tuple[str, Kind]] = Counter()
        self._reasons: dict[str, str] = {}
        self._printed: list[tuple[int, str]] = []
        self._left = 0

    def start(self) -> Body:
        """Start a process and load the target; :class:`LoadingError` says why it did not."""
        process = JudgedProcess(self.limits, self.command)
        try:
            body = process.load(self.target)
        except ProcessEnded as gone:
            self._note_output(gone.ending)
            printed = plain(gone.ending.text[-LONGEST:])
            raise LoadingError(
                f"{self.target} {self._how(gone.ending)} while it was loaded"
                + (f"; it printed {printed}" if printed else "")
            ) from None
        except (TimeoutError, Unfit) as problem:
            process.end()
            what = "did not load in time" if isinstance(problem, TimeoutError) else str(problem)
            raise LoadingError(f"{self.target}: {what}") from None
        except BaseException:
            process.end()
            raise
        if "problem" in body:
            process.end()
            problem = plain(str(body["problem"]), 2 * LONGEST)
            raise LoadingError(f"{self.target}: {problem}" if self.command else problem)
        if self.command and body.get("protocol") != PROTOCOL:
            process.end()
            raise LoadingError(
                f"{self.target} speaks protocol {plain(str(body.get('protocol')), 20)}, expected "
                f"{PROTOCOL} (spec/PROTOCOL.md)"
            )
        self._process = process
        self.generation += 1
        self.dropped.clear()
        return body

    def ask(self, call: Call, queue: int | None, arguments: Sequence[Any]) -> Any:
        """Put one call to the process and unpack the answer."""
        case = case_name(arguments)
        where = f"{call.method} of case {plain(case)}" if case else call.method
        self._refuse(call.method)
        if self._process is None:
            try:
                self.start()
            except LoadingError as problem:
                raise self._failure("ended", call.method, str(problem), where) from None
        process = self._process
        assert process is not None
        dropped, self.dropped = self.dropped, []
        packed = call.pack_arguments(arguments)
        try:
            body, arrays = process.ask(call.method, queue, dropped, packed)
            self._take_conduct(body.get("conduct"), where)
            return self._result(call, body, arrays, where)
        except ProcessEnded as gone:
            self._process = None
            self._note_output(gone.ending)
            raise self._failure("ended", call.method, self._how(gone.ending), where) from None
        except TimeoutError:
            self._end()
            what = f"did not answer within {self.limits.seconds:g} s (--timeout)"
            raise self._failure("no answer", call.method, what, where) from None
        except Unfit as problem:
            self._end()
            what = f"sent an answer that is none: {plain(str(problem), 100)}"
            raise self._failure("ended", call.method, what, where) from None
        except (NotObservable, ImplementationError):
            raise
        except BaseException:  # an interrupt leaves an answer under way
            self._end()
            raise

    def _how(self, ending: Ending) -> str:
        if not ending.memory:
            return str(ending)
        held, allowed = (size / 2**30 for size in (ending.memory, self.limits.memory))
        return f"held {held:.3g} GiB of memory, allowed are {allowed:.3g} (--memory)"

    def _result(self, call: Call, body: Body, arrays: Sequence[AnyArray], where: str) -> Any:
        if "not_observable" in body:
            raise NotObservable(plain(str(body["not_observable"])))
        if "raised" in body:
            text = plain(str(body["raised"]))
            if body.get("left"):
                text = f"tried to leave the process: {text}"
                self._conduct.append(Conduct("left", text, where))
            raise ImplementationError(text)
        return unpacker(call.returns)(body.get("result"), arrays)

    def _take_conduct(self, told: Any, where: str) -> None:
        """Keep what the worker told, as far as it has the form of it."""
        if not isinstance(told, list):
            return
        for item in told[:100]:
            match item:
                case [str(kind), str(what)] if kind in KINDS:
                    self._conduct.append(Conduct(kind, plain(what), where))
                case _:
                    continue

    def _failure(self, kind: Kind, method: str, what: str, where: str) -> ImplementationError:
        self._conduct.append(Conduct(kind, what, where))
        self._failed[method, kind] += 1
        self._reasons[method] = self._reasons[""] = f"it {what} in {where}"
        return ImplementationError(f"{what} in {where}")

    def _refuse(self, method: str) -> None:
        """Do not call again what has failed too often."""
        stopped = (
            self._failed[method, "no answer"] >= MOST_UNANSWERED
            or self._failed[method, "ended"] >= MOST_ENDED
        )
        if stopped or self._failed.total() >= MOST_IN_ALL:
            reason = self._reasons.get(method) or self._reasons[""]
            text = f"{method} is not called any more: {reason}"
            self._conduct.append(Conduct("not called", text))
            raise ImplementationError(text)

    def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            self._note_output(process.end())

    def _note_output(self, ending: Ending) -> None:
        self._printed.append((ending.printed, ending.text))
        self._left += ending.left

    def conduct(self) -> list[Conduct]:
        """What was done since last asked."""
        told, self._conduct = self._conduct, []
        return told

    def close(self) -> list[Conduct]:
        """End the process; what is left to tell."""
        self._end()
        told = list(together(self.conduct()))
        count = sum(item for item, _ in self._printed)
        if count:
            text = next(item for size, item in self._printed if size)
            told.append(Conduct("printed", f"printed {count} bytes: {plain(text, 200)}"))
        if self._left:
            some = "a process" if self._left == 1 else f"{self._left} processes"
            told.append(Conduct("processes", f"left {some} running"))
        self._printed, self._left = [], 0
        return told


class IsolatedAdapter(Adapter):
    """Forwards what the code under judgement offers; made by :func:`isolated`.

    ``taken`` says as what code without an adapter was taken.
    """

    taken: str = ""

    def __init__(self, session: Session) -> None:
        self.session = session

    def conduct(self) -> list[Conduct]:
        """What it did beside answering since last asked."""
        return self.session.conduct()

    def close(self) -> list[Conduct]:
        """End its process; a later call starts another."""
        return self.session.close()


class RemoteQueue:
    """A queue that lives in the process of the code under judgement."""

    def __init__(self, session: Session, handle: int) -> None:
        self._session = session
        self._handle = handle
        self._generation = session.generation

    def _ask(self, name: str, *arguments: Any) -> Any:
        if self._session.generation != self._generation:
            raise ImplementationError("the process that held the queue has ended")
        return self._session.ask(QUEUE_METHODS[name], self._handle, arguments)

    def push(self, samples: Any, labels: Sequence[int]) -> None:
        """Push samples with their classes."""
        self._ask("push", samples, labels)

    def positive(self, labels: Sequence[int], count: int, seed: int) -> Any:
        """Draw of the labels' classes."""
        return self._ask("positive", labels, count, seed)

    def unconditional(self, labels: int, count: int, seed: int) -> Any:
        """Draw of the global queue."""
        return self._ask("unconditional", labels, count, seed)

    def content(self, label: int) -> Any:
        """Samples held of a class."""
        return self._ask("content", label)

    def global_content(self) -> Any:
        """Samples of the global queue."""
        return self._ask("global_content")

    def __del__(self) -> None:
        if self._session.generation == self._generation:
            self._session.dropped.append(self._handle)


def _forward(name: str) -> Callable[..., Any]:
    signature = inspect.signature(getattr(Adapter, name))

    def forwarded(self: IsolatedAdapter, *given: Any, **named: Any) -> Any:
        if named:
            given = signature.bind(self, *given, **named).args[1:]
        answer = self.session.ask(METHODS[name], None, given)
        return RemoteQueue(self.session, answer) if name == QUEUE else answer

    forwarded.__name__ = name
    forwarded.__doc__ = getattr(Adapter, name).__doc__
    return forwarded


def isolated(target: str, limits: Limits, command: Sequence[str] = ()) -> Adapter:
    """Load ``python:…``, or run a command, as its own process; :class:`LoadingError` if it fails.

    The adapter has the methods that the implementation overrides, and no others. It never counts
    as the reference (``by_definition``): judged code does not choose its own standard.
    """
    session = Session(target, limits, command)
    told = session.start()
    try:
        offered = [name for name in told["offers"] if name in METHODS]
        dtypes = _known("dtypes", told["dtypes"], get_args(DType))
        devices = tuple(plain(str(item), 50) for item in told["devices"])
        name, configurable = plain(str(told["name"])), bool(told["configurable"])
    except (KeyError, TypeError) as problem:
        session.close()
        raise LoadingError(f"{target} introduced itself wrongly: {problem}") from None
    except LoadingError:
        session.close()
        raise
    kind = type("IsolatedAdapter", (IsolatedAdapter,), {item: _forward(item) for item in offered})
    adapter = kind(session)
    adapter.name, adapter.configurable = name, configurable
    adapter.dtypes, adapter.devices = dtypes, devices
    adapter.taken = plain(str(told.get("taken", "")), 2 * LONGEST)
    return adapter


def _known(what: str, given: Sequence[Any], known: Sequence[str]) -> tuple[Any, ...]:
    if not given or any(item not in known for item in given):
        listed = plain(", ".join(map(str, given)), 100)
        raise LoadingError(f"its {what} are ({listed}), expected some of {', '.join(known)}")
    return tuple(given)
