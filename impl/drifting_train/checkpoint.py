"""Checkpoints that are whole or not there: written beside the last one, then put in its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from drifting_train.errors import TrainError

FORMAT = "drifting-train checkpoint 1"
NAME = "checkpoint.pt"


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that at any moment the old or the new one is there, never half of one.

    :class:`TrainError` if it cannot be written; what was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as problem:
        reason = _reason(problem)
        kept = "; the one before is kept" if path.exists() else ""
        raise TrainError(f"cannot write {path}: {reason}{kept}") from problem
    finally:
        part.unlink(missing_ok=True)


def _reason(problem: BaseException) -> str:
    """What the system said: PyTorch raises a RuntimeError of its own over what the file raised."""
    under: BaseException | None = problem
    while under is not None:
        if isinstance(under, OSError) and under.strerror:
            return under.strerror
        under = under.__cause__ or under.__context__
    return str(problem).splitlines()[0]


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power cut, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; :class:`TrainError` if that fails, and the one before is kept."""
    held = {"format": FORMAT, **content}
    write_whole(path, lambda file: torch.save(held, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; :class:`TrainError` if there is none, or one that is cut or foreign."""
    if path.is_dir():
        path = path / NAME
    if not path.exists():
        raise TrainError(f"there is no checkpoint {path}")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as problem:
        raise TrainError(f"cannot read {path}: {problem.strerror or problem}") from problem
    except Exception as problem:  # whatever a broken file makes the reader say
        reason = f"{problem}".strip().splitlines()[0][:120] if str(problem).strip() else "empty"
        raise TrainError(f"{path} is cut short, or no checkpoint: {reason}") from problem
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise TrainError(f"{path} is no checkpoint of drifting-train, expected {FORMAT!r} in it")
    return held
