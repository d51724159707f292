"""The state of a process that a call has no business to change, compared by name.

Read before and after each call in the worker. What can be put back is put back, so that the next
call is judged on its own; the random streams are left where they are, since an implementation
that always drew the same numbers would look deterministic.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np


@dataclass(frozen=True)
class Part:
    """One piece of state: how it is read, put back (if at all), and told."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object] | None = None
    random: bool = False
    shown: bool = True


_HANDLED: Final = ("INT", "TERM", "HUP", "ALRM", "SEGV", "ABRT", "FPE", "PIPE", "CHLD", "USR1")
_SIGNALS: Final = {
    f"SIG{name}": getattr(signal, f"SIG{name}")
    for name in _HANDLED
    if hasattr(signal, f"SIG{name}")
}
"""Those that programs handle; reading all sixty would take longer than a small call."""


def _handlers() -> dict[str, Any]:
    return {name: signal.getsignal(number) for name, number in _SIGNALS.items()}


def _restore_handlers(handlers: Mapping[str, Any]) -> None:
    for name, handler in handlers.items():
        # None stands for a handler that was not installed from Python.
        if handler is not None and signal.getsignal(_SIGNALS[name]) is not handler:
            signal.signal(_SIGNALS[name], handler)


def _restore_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _restore_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # pyright: ignore[reportIndexIssue] -- a list, typed a sequence


def _restore_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 -- compared as text
    except FileNotFoundError:
        return "(removed)"


def _legacy_state() -> tuple[bytes, int]:
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 -- what judged code draws from
    return state["state"]["key"].tobytes(), int(state["state"]["pos"])


PARTS: Final = (
    Part("working directory", _working_directory, os.chdir),
    Part("environment variables", lambda: dict(os.environ), _restore_environment, shown=False),
    Part("signal handlers", _handlers, _restore_handlers, shown=False),
    Part("warnings filters", lambda: list(warnings.filters), _restore_filters, shown=False),
    Part(
        "sys.stdout or sys.stderr",
        lambda: (sys.stdout, sys.stderr),
        _restore_streams,
        shown=False,
    ),
    Part("numpy.seterr", np.geterr, lambda kept: np.seterr(**kept)),
    Part("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Part("random's stream", random.getstate, random=True),
    Part("numpy.random's stream", _legacy_state, random=True),
)


def _of_torch(torch: Any) -> tuple[Part, ...]:
    return (
        Part("torch default dtype", torch.get_default_dtype, torch.set_default_dtype),
        # A default device of "cpu" would be one set by hand, which intercepts every call.
        Part(
            "torch default device",
            torch.get_default_device,
            lambda kept: torch.set_default_device(None if kept.type == "cpu" else kept),
        ),
        Part("torch grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
        Part("torch number of threads", torch.get_num_threads, torch.set_num_threads),
        Part(
            "torch deterministic algorithms",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        Part(
            "torch float32 matmul precision",
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        Part("torch anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
        Part("torch's random stream", lambda: torch.get_rng_state().numpy().tobytes(), random=True),
    )


def _parts() -> tuple[Part, ...]:
    torch = sys.modules.get("torch")
    # While it is being imported it has none of these yet.
    return PARTS + (_of_torch(torch) if hasattr(torch, "is_anomaly_enabled") else ())


class State:
    """The state as it was when this was made."""

    def __init__(self) -> None:
        self._parts = _parts()
        self._values = {part.name: part.read() for part in self._parts}

    def changes(self) -> list[tuple[str, str]]:
        """What is different now, as (kind, words); what can be put back is put back."""
        listed: list[tuple[str, str]] = []
        for part in self._parts:
            before, now = self._values[part.name], part.read()
            if now == before:
                continue
            if part.random:
                listed.append(("random numbers", f"drew from {part.name}"))
            else:
                how = f" from {before} to {now}" if part.shown else _keys(before, now)
                listed.append(("global state", f"changed {part.name}{how}"))
            if part.restore is not None:
                part.restore(before)
            else:
                self._values[part.name] = now
        return listed

    def knows_torch(self) -> bool:
        """Whether torch was there when this was made; a call may import it."""
        return len(self._parts) > len(PARTS)


def _keys(before: Any, now: Any) -> str:
    """Name the entries of mappings that differ."""
    if not isinstance(before, dict):
        return ""
    differing = [str(key) for key in {**before, **now} if before.get(key) != now.get(key)]
    return f": {', '.join(differing[:5])}{' …' if len(differing) > 5 else ''}"
