"""Finding the adapter that ``KIND:TARGET`` names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drifting_parity.adapters.base import Adapter
from drifting_parity.plain import described

if TYPE_CHECKING:
    from drifting_parity.adapters.process.judged_process import Limits

BUILTIN = ("drifting_torch", "drifting_reference")


class AdapterError(Exception):
    """``KIND:TARGET`` is not understood (``usage``), or what it names cannot be loaded."""

    def __init__(self, message: str, *, usage: bool) -> None:
        super().__init__(message)
        self.usage = usage


def load_adapter(target: str, limits: Limits | None = None) -> Adapter:
    """Load the adapter named by ``builtin:NAME`` or ``python:package.module:attribute``.

    A Python target is imported, and then asked, in a process of its own that keeps to ``limits``
    (60 s for each call and half of the memory, if not given); the builtins are this project's own
    code and run in this process, where a debugger sees them. The working directory is on the
    path; the attribute is an :class:`Adapter`, or a class of one that takes no arguments. Raises
    :class:`AdapterError`.
    """
    kind, _, rest = target.partition(":")
    if kind == "builtin":
        return _builtin(rest)
    if kind == "python":
        _parts(rest)
        return _isolated(target, limits)
    raise AdapterError(
        f"implementation {target!r} is of an unknown kind {kind!r}, expected "
        "builtin:drifting_torch, builtin:drifting_reference or python:package.module:attribute",
        usage=True,
    )


def load_here(target: str) -> Adapter:
    """Load ``python:package.module:attribute`` in this process: for that of judged code alone."""
    return _python(target.partition(":")[2])


def _isolated(target: str, limits: Limits | None) -> Adapter:
    from drifting_parity.adapters.process.isolated import LoadingError, isolated
    from drifting_parity.adapters.process.judged_process import Limits, usual_memory

    try:
        return isolated(target, limits or Limits(memory=usual_memory()))
    except LoadingError as problem:
        raise AdapterError(str(problem), usage=False) from problem


def _builtin(name: str) -> Adapter:
    if name == "drifting_torch":
        from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter

        return DriftingTorchAdapter()
    if name == "drifting_reference":
        from drifting_parity.adapters.reference_adapter import ReferenceAdapter

        return ReferenceAdapter()
    raise AdapterError(f"no builtin {name!r}, expected one of: {', '.join(BUILTIN)}", usage=True)


def _parts(target: str) -> tuple[str, str]:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise AdapterError(
            f"python target {target!r} lacks a part, expected python:package.module:attribute",
            usage=True,
        )
    return module_name, attribute


def _python(target: str) -> Adapter:
    module_name, attribute = _parts(target)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise AdapterError(
            f"python:{target} did not load: {described(error)}", usage=False
        ) from error
    if isinstance(found, type) and issubclass(found, Adapter):
        found = found()
    if not isinstance(found, Adapter):
        raise AdapterError(
            f"python:{target} is {type(found).__name__}, expected a drifting_parity.Adapter "
            "object or a subclass of it",
            usage=False,
        )
    return found
