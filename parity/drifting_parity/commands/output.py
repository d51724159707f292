"""What a command writes: a file whole or not at all, and standard output with its failures."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from pathlib import Path

from drifting_parity.errors import CommandError


def output_path(given: str | None) -> Path | None:
    """Resolve ``--output`` before anything else is done, None where there is none."""
    return None if given is None else check_writable(Path(given))


def check_writable(path: Path, option: str = "--output") -> Path:
    """Refuse an ``option``'s file that cannot be written, before any work is done.

    Returns it as an absolute path, which later changes of the working directory leave alone.
    """
    if path.is_dir():
        raise CommandError(f"{option}: {path} is a folder, expected a file")
    if not path.parent.is_dir():
        raise CommandError(f"{option}: the folder {path.parent} does not exist")
    target = path if path.exists() and not path.is_file() else path.parent
    if not os.access(target, os.W_OK):
        raise CommandError(f"{option}: no permission to write to {target}")
    if path.is_fifo():
        _check_reader(path, option)
    return path.absolute()


def _check_reader(path: Path, option: str) -> None:
    """Refuse a pipe that nobody reads: writing to it would wait for ever."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as problem:
        if problem.errno == errno.ENXIO:
            raise CommandError(f"{option}: {path} is a pipe that nobody reads") from problem
        raise CommandError(f"{option}: {path}: {problem.strerror}") from problem


def read_file(path: Path) -> str:
    """Read a file of UTF-8 text that a command was given. Raises ``OSError``, ``ValueError``.

    Pipes and devices are refused: they may have no end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "expected a file, not a folder, a pipe or a device")
    return path.read_text(encoding="utf-8")


def write_out(text: str) -> None:
    """Write to standard output at once; :class:`CommandError` if it could not be written.

    A reader that left early is ``BrokenPipeError``.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as problem:
        silence_stdout()
        said = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise CommandError(f"standard output was not written: {said}") from problem


def silence_stdout() -> None:
    """Send to nowhere what Python writes to standard output once more at its exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # it is no file
        sys.stdout = io.StringIO()


def write_whole(path: Path, text: str, option: str = "--output") -> None:
    """Write ``text`` to a new file beside ``path`` and put it in its place in one step.

    Devices and pipes are written to as they are. Raises :class:`CommandError`.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as problem:
        raise CommandError(f"{option}: {path} was not written: {problem.strerror}") from problem


def _replace(path: Path, text: str) -> None:
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Read the process's umask, which is only possible by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
