"""Finding the adapter that ``KIND:TARGET`` names."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from drifting_parity.adapters.base import Adapter
from drifting_parity.plain import LONGEST, plain
from drifting_spec.nearest import nearest

if TYPE_CHECKING:
    from drifting_parity.adapters.process.judged_process import Limits

BUILTIN = ("drifting_torch", "drifting_reference")


class AdapterError(Exception):
    """``KIND:TARGET`` is not understood (``usage``), or what it names cannot be loaded."""

    def __init__(self, message: str, *, usage: bool) -> None:
        super().__init__(message)
        self.usage = usage


def load_adapter(target: str, limits: Limits | None = None) -> Adapter:
    """Load the adapter named by ``builtin:NAME``, ``python:package.module:attribute`` or a file's.

    A Python target is imported, and then asked, in a process of its own that keeps to ``limits``
    (60 s for each call and half of the memory, if not given); the builtins are this project's own
    code and run in this process, where a debugger sees them.

    A module is imported with the working directory on the path, ``python:file.py:attribute`` with
    the file's folder; the attribute is an :class:`Adapter`, or a class of one that takes no
    arguments, or code whose call form is guessed (:mod:`drifting_parity.forms.guess`).
    ``command:argv …`` runs an adapter in any language, over ``spec/PROTOCOL.md``. Raises
    :class:`AdapterError`, with file and line where the module itself breaks.
    """
    kind, _, rest = target.partition(":")
    if kind == "builtin":
        return _builtin(rest)
    if kind == "python":
        _parts(rest)
        return _isolated(target, limits)
    if kind == "command":
        return _isolated(target, limits, _words(rest))
    raise AdapterError(
        f"implementation {target!r} is of an unknown kind {kind!r}, expected "
        "builtin:drifting_torch, builtin:drifting_reference, python:package.module:attribute, "
        "python:file.py:attribute or command:program arguments",
        usage=True,
    )


def load_here(target: str) -> Adapter:
    """Load a ``python:`` target in this process: for the process of judged code alone."""
    return _python(target.partition(":")[2])


def _isolated(target: str, limits: Limits | None, command: Sequence[str] = ()) -> Adapter:
    from drifting_parity.adapters.process.isolated import LoadingError, isolated
    from drifting_parity.adapters.process.judged_process import Limits, usual_memory

    try:
        return isolated(target, limits or Limits(memory=usual_memory()), command)
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
    home, _, attribute = target.rpartition(":")
    if not home or not attribute:
        raise AdapterError(
            f"python target {target!r} lacks a part, expected python:package.module:attribute or "
            "python:file.py:attribute",
            usage=True,
        )
    return home, attribute


def _words(command: str) -> list[str]:
    """The words of a command, as a shell would split them; no shell runs it."""
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise AdapterError(
            f"command {command!r} is not understood: {problem}", usage=True
        ) from None
    if not words:
        raise AdapterError("command: names no program, expected command:program …", usage=True)
    if shutil.which(words[0]) is None:
        raise AdapterError(
            f"command:{command}: there is no program {words[0]!r} to run", usage=False
        )
    return words


def _python(target: str) -> Adapter:
    home, attribute = _parts(target)
    try:
        module = _file(home) if home.endswith(".py") else _module(home)
    except Exception as error:
        raise AdapterError(
            f"python:{target} did not load: {_said(error)}{_place(error)}",
            usage=False,
        ) from error
    if not hasattr(module, attribute):
        hint = nearest(attribute, vars(module), f"it has {_public(module)}")
        raise AdapterError(f"python:{target}: {home} has no {attribute!r}; {hint}", usage=False)
    named = getattr(module, attribute)
    if isinstance(named, type) and issubclass(named, Adapter):
        named = named()
    if isinstance(named, Adapter):
        return _tried(named, target)
    return _guessed(named, target, attribute)


def _tried(adapter: Adapter, target: str) -> Adapter:
    """An adapter made by a call form answers a small case before it is judged."""
    smoke = getattr(adapter, "smoke", None)
    if smoke is None or "drifting_parity.forms" not in sys.modules:
        return adapter
    from drifting_parity.forms.layout import FormError, NotTaken

    try:
        smoke()
    except (FormError, NotTaken) as problem:
        raise AdapterError(f"python:{target}: {problem}", usage=False) from problem
    except Exception as problem:
        raise AdapterError(
            f"python:{target}: its form does not fit, a small case raised "
            f"{_said(problem)}{_place(problem)}",
            usage=False,
        ) from problem
    return adapter


def _guessed(named: object, target: str, attribute: str) -> Adapter:
    """The adapter of code that has none, if one call form fits it and no other."""
    from drifting_parity.forms.guess import GuessError, guess

    try:
        adapter, adapter.taken = guess(named, attribute)
    except GuessError as problem:
        raise AdapterError(f"python:{target} {problem}", usage=False) from problem
    return adapter


def _module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _file(path: str) -> ModuleType:
    """Load a file by its path; what lies beside it can be imported by it."""
    file = Path(path).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = re.sub(r"\W", "_", file.stem)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _said(error: BaseException) -> str:
    # Cut by itself, so that the place after it is seen.
    return plain(f"{type(error).__name__}: {error}", LONGEST // 2)


def _place(error: BaseException) -> str:
    """Where in the user's own files it broke: the last line of theirs that ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # its message has file and line
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and Path(frame.filename) not in _OURS
    ]
    if not theirs:
        return ""
    last = theirs[-1]
    return f" ({last.filename}, line {last.lineno}: {last.line})"


_OURS: Final = frozenset({Path(__file__), Path(importlib.__file__)})


def _public(module: ModuleType) -> str:
    names = [name for name in vars(module) if not name.startswith("_")]
    return ", ".join(names[:8]) or "nothing"
