"""Class folders of images or latents, memory-mapped where they are arrays."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drifting_train.errors import TrainError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class ClassFolders:
    """Samples [C, H, W] in one folder for each class, all of one shape.

    A folder holds pictures, whose pixels become −1 to 1, or ``.npy`` arrays: [C, H, W] of one
    sample or [K, C, H, W] of several, which stay on the disk until they are drawn. Classes are
    the folders in the order of their names.

    Raises
    ------
    TrainError
        For a folder without classes, classes without samples, files that cannot be read, samples
        of unequal shapes or with values that are not finite.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise TrainError(f"{root} is no folder, expected one with a folder for each class")
        folders = sorted(each for each in root.iterdir() if each.is_dir())
        if not folders:
            raise TrainError(f"{root} has no folders, expected one for each class")
        self.root = root
        self.names = [each.name for each in folders]
        self._parts: list[list[tuple[Path, Any, int]]] = []
        self._shape: tuple[int, ...] | None = None
        for folder in folders:
            parts = [self._part(path) for path in sorted(folder.iterdir()) if _is_sample(path)]
            if not parts:
                raise TrainError(
                    f"{folder} holds no samples, expected .npy arrays or pictures "
                    f"({', '.join(PICTURES)})"
                )
            self._parts.append(parts)
        assert self._shape is not None
        self.shape: tuple[int, ...] = self._shape
        self.counts = [sum(count for _, _, count in parts) for parts in self._parts]

    def __len__(self) -> int:
        return len(self.names)

    def _part(self, path: Path) -> tuple[Path, Any, int]:
        """A file, its array if it is one, and how many samples it holds."""
        if path.suffix.lower() != ".npy":
            shape, held, count = _picture(path).shape, None, 1
        else:
            try:
                held = np.load(path, mmap_mode="r")
            except (EOFError, OSError, ValueError) as problem:
                raise TrainError(f"cannot read {path}: {problem}") from problem
            if held.ndim not in (3, 4) or not np.issubdtype(held.dtype, np.floating):
                raise TrainError(
                    f"{path} has shape {held.shape} of {held.dtype}, expected floating numbers "
                    "[C, H, W] or [K, C, H, W]"
                )
            held = held[None] if held.ndim == 3 else held
            shape, count = held.shape[1:], len(held)
        if self._shape not in (None, tuple(shape)):
            raise TrainError(
                f"{path} has samples of {tuple(shape)}, expected {self._shape} as those before"
            )
        self._shape = tuple(shape)
        return path, held, count

    def sample(self, label: int, index: int) -> Tensor:
        """One sample [C, H, W] of a class."""
        for path, held, count in self._parts[label]:
            if index < count:
                value = _picture(path) if held is None else np.array(held[index], np.float32)
                found = torch.from_numpy(np.asarray(value, np.float32))
                if not bool(found.isfinite().all()):
                    raise TrainError(f"{path}, sample {index} has values that are not finite")
                return found
            index -= count
        raise IndexError(index)

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Samples [count, C, H, W] and labels [count], drawn with replacement, classes alike."""
        labels = torch.randint(len(self), (count,), generator=rng)
        return torch.stack([self._drawn(label, rng) for label in labels.tolist()]), labels

    def _drawn(self, label: int, rng: torch.Generator) -> Tensor:
        index = int(torch.randint(self.counts[label], (1,), generator=rng))
        return self.sample(label, index)


def _is_sample(path: Path) -> bool:
    return path.suffix.lower() in (".npy", *PICTURES)


def _picture(path: Path) -> np.ndarray[Any, Any]:
    """A picture's pixels [3, H, W] from −1 to 1."""
    try:
        opened: Any = importlib.import_module("PIL.Image")
    except ModuleNotFoundError as problem:
        raise TrainError("pictures need Pillow: pip install 'drifting-parity[train]'") from problem
    try:
        with opened.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), np.float32)
    except (OSError, ValueError) as problem:
        raise TrainError(f"cannot read {path}: {problem}") from problem
    return pixels.transpose(2, 0, 1) / 127.5 - 1
