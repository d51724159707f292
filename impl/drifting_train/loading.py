"""Loading what needs the extra, with a line about how to get it."""

from __future__ import annotations

import importlib
from typing import Any

from drifting_train.errors import TrainError


def loaded(module: str) -> Any:
    """A module of the trainer; :class:`TrainError` if it needs the extra that is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("drifting_train"):
            raise
        raise TrainError(
            f"this needs the package {problem.name}: pip install 'drifting-parity[train]'"
        ) from problem
