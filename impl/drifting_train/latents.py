"""``drifting-train latents``: encode class folders once, into arrays that ``images`` trains on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drifting_train.checkpoint import write_whole
from drifting_train.errors import TrainError
from drifting_train.folders import ClassFolders

BATCH = 32


def encoder_of(name: str) -> Callable[[Tensor], Tensor]:
    """What ``python:package.module:attribute`` names: images [B, C, H, W] → latents [B, ...].

    :class:`TrainError` if it cannot be imported, or is nothing to call.
    """
    kind, _, rest = name.partition(":")
    module, _, attribute = rest.partition(":")
    if kind != "python" or not module or not attribute:
        raise TrainError(f"--encoder is {name!r}, expected python:package.module:attribute")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise TrainError(f"--encoder {name}: {problem}") from problem
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise TrainError(f"--encoder {name} is {type(found).__name__}, expected something to call")
    return found  # pyright: ignore[reportReturnType] -- what it returns is looked at each time


@torch.no_grad()
def cache_latents(
    folder: Path, name: str, target: Path, device: torch.device
) -> list[tuple[Path, int]]:
    """Write one ``latents.npy`` [K, C, H, W] for each class; the files and how many each holds."""
    encode, data = encoder_of(name), ClassFolders(folder)
    if isinstance(encode, torch.nn.Module):
        encode.eval().to(device)
    written: list[tuple[Path, int]] = []
    for label, (title, count) in enumerate(zip(data.names, data.counts, strict=True)):
        parts: list[Tensor] = []
        for start in range(0, count, BATCH):
            rows = range(start, min(start + BATCH, count))
            images = torch.stack([data.sample(label, index) for index in rows]).to(device)
            parts.append(_checked(encode(images), len(rows), name))
        latents = torch.cat(parts).numpy()
        path = target / title / "latents.npy"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise TrainError(f"cannot write to {path.parent}: {problem.strerror}") from problem
        write_whole(path, lambda file, latents=latents: np.save(file, latents))
        written.append((path, count))
    return written


def _checked(latents: object, count: int, name: str) -> Tensor:
    if not isinstance(latents, Tensor) or latents.dim() != 4 or len(latents) != count:
        shown = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise TrainError(f"--encoder {name} returned {shown}, expected latents [{count}, C, H, W]")
    if not bool(latents.isfinite().all()):
        raise TrainError(f"--encoder {name} returned values that are not finite")
    return latents.float().cpu()
