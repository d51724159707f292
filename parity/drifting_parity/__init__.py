"""The judge of drifting models: puts an implementation to every clause of the paper.

What an adapter needs is offered here; it is imported on first use, so that the command line's
``--help``, ``list`` and ``explain`` need no NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drifting_parity.adapters.base import Adapter, NotObservable
    from drifting_parity.cases import (
        FeatureCase,
        FeatureObservation,
        FieldCase,
        LossCase,
        LossObservation,
        Setting,
        VectorizeCase,
    )

__all__ = [
    "Adapter",
    "FeatureCase",
    "FeatureObservation",
    "FieldCase",
    "LossCase",
    "LossObservation",
    "NotObservable",
    "Setting",
    "VectorizeCase",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'drifting_parity' has no attribute {name!r}")
    home = "adapters.base" if name in {"Adapter", "NotObservable"} else "cases"
    return getattr(importlib.import_module(f"drifting_parity.{home}"), name)
