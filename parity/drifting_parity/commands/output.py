"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from drifting_parity.errors import CommandError


def check_writable(path: Path) -> None:
    """Refuse an ``--output`` that cannot be written, before any work is done."""
    if path.is_dir():
        raise CommandError(f"--output: {path} is a folder, expected a file")
    if not path.parent.is_dir():
        raise CommandError(f"--output: the folder {path.parent} does not exist")
    target = path if path.exists() and not path.is_file() else path.parent
    if not os.access(target, os.W_OK):
        raise CommandError(f"--output: no permission to write to {target}")


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to a new file beside ``path`` and put it in its place in one step.

    Devices and pipes are written to as they are. Raises :class:`CommandError`.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as problem:
        raise CommandError(f"--output: {path} was not written: {problem.strerror}") from problem


def _replace(path: Path, text: str) -> None:
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
