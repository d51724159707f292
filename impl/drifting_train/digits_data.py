"""scikit-learn's digits: 8×8 images of ten classes, split into training and test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

CLASSES, SIDE, TESTED = 10, 8, 500


@dataclass(frozen=True)
class Images:
    """Images [B, 1, 8, 8] with values from −1 to 1, and their labels [B]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@cache
def digits() -> tuple[Images, Images]:
    """Training and test images; the split is always the same, 500 for testing."""
    held = load_digits()
    images = np.asarray(held.images, np.float32) / 8 - 1  # pyright: ignore[reportAttributeAccessIssue]
    labels = np.asarray(held.target, np.int64)  # pyright: ignore[reportAttributeAccessIssue]
    rows = np.arange(len(labels))
    split = train_test_split(rows, test_size=TESTED, random_state=0, stratify=labels)
    train, test = (
        Images(torch.from_numpy(images[each])[:, None], torch.from_numpy(labels[each]))
        for each in split
    )
    return train, test
