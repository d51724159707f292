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
    from drifting_parity.explanation.data import Explanation
    from drifting_parity.explanation.fingerprint import fingerprint
    from drifting_parity.notebook import Judgement, judge

__all__ = [
    "Adapter",
    "Explanation",
    "FeatureCase",
    "FeatureObservation",
    "FieldCase",
    "Judgement",
    "LossCase",
    "LossObservation",
    "NotObservable",
    "Setting",
    "VectorizeCase",
    "fingerprint",
    "judge",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'drifting_parity' has no attribute {name!r}")
    return getattr(importlib.import_module(f"drifting_parity.{_HOMES.get(name, 'cases')}"), name)


_HOMES = {
    "Adapter": "adapters.base",
    "NotObservable": "adapters.base",
    "Explanation": "explanation.data",
    "fingerprint": "explanation.fingerprint",
    "Judgement": "notebook",
    "judge": "notebook",
}
"""Where names come from that are no cases."""
