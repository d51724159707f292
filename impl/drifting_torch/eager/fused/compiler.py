"""``solver.cpp`` as a library: compiled once on a machine, kept, and loaded.

The library lies in ``$DRIFTING_TORCH_CACHE``, else ``$XDG_CACHE_HOME/drifting_torch``, else
``~/.cache/drifting_torch``, and in a temporary folder of this process where none of them can be
written. Its name holds source, compiler, flags and processor. It is written under another name and
moved into place, so that processes that begin at once do not see half of it, and none waits for
another.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("solver.cpp")

_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)

_SECONDS = 120
"""After which a compiler is given up; it takes a few seconds."""


class NoCompilerError(RuntimeError):
    """No library could be made; says why."""


def library() -> ctypes.CDLL:
    """The compiled source. Raises :class:`NoCompilerError` where it cannot be had."""
    source, compiler = source_and_command()
    name = file_name(source, compiler)
    for folder in _folders():
        path = folder / name
        if path.is_file():
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                pass  # cut short, or made elsewhere: made again below
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / name
                _compile(compiler, made)
                made.replace(path)
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / name
        _compile(compiler, made)
        try:
            return ctypes.CDLL(str(made))  # stays loaded without its file
        except OSError as error:
            raise NoCompilerError(f"what {compiler[0]} made does not load: {error}") from error


def source_and_command() -> tuple[bytes, list[str]]:
    """The source with all it includes, and the compiler's command without its arguments."""
    included = sorted(_SOURCE.parent.glob("*.hpp"))
    return b"\0".join(path.read_bytes() for path in (_SOURCE, *included)), _compiler()


def _compiler() -> list[str]:
    """The command of a C++ compiler: ``$CXX``, else the first of the usual names."""
    given = os.environ.get("CXX")
    if given:
        return shlex.split(given)
    for name in ("g++", "c++"):
        found = shutil.which(name)
        if found:
            return [found]
    raise NoCompilerError("no C++ compiler: neither CXX nor g++ nor c++")


def _folders() -> list[Path]:
    given = os.environ.get("DRIFTING_TORCH_CACHE")
    if given:
        return [Path(given)]
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return [Path(cache) / "drifting_torch"]
    try:
        return [Path.home() / ".cache" / "drifting_torch"]
    except RuntimeError:  # no home
        return []


def file_name(source: bytes, compiler: list[str]) -> str:
    """A library's name: those that may differ have different ones."""
    parts = (source, repr((compiler, _FLAGS, platform.machine(), _processor())).encode())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return f"solver-{key[:20]}.so"


def _processor() -> str:
    """What ``-march=native`` looks at: the processor's instructions, where the system says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    told = [line for line in lines if line.startswith(wanted)]
    return "\n".join(dict.fromkeys(told))


def _compile(compiler: list[str], into: Path) -> None:
    command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(into)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"{compiler[0]} does not run: {error}") from error
    if done.returncode or not into.is_file():
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NoCompilerError(
            f"{compiler[0]} fails: {said[0] if said else f'exit {done.returncode}'}"
        )
