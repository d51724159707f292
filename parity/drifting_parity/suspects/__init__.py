"""The textbook loss in PyTorch, and the catalogued deviations as changes of its steps.

:class:`Textbook` is the loss under one set of readings; :data:`ALL` holds every suspect by its
key (``D12``, ``D16:under-root``); :func:`compose` puts suspects on a textbook, and
:class:`SuspectAdapter` puts that before the judge.
"""

from typing import Final

# The modules register their suspects when they are loaded.
from drifting_parity.suspects import affinities, kernel, regression, scales
from drifting_parity.suspects.adapter import SuspectAdapter
from drifting_parity.suspects.registry import ELSEWHERE, Suspect, compose, conflict, registered
from drifting_parity.suspects.textbook import Solution, Textbook

ALL: Final[dict[str, Suspect]] = registered()
"""Every suspect by its key."""

__all__ = [
    "ALL",
    "ELSEWHERE",
    "Solution",
    "Suspect",
    "SuspectAdapter",
    "Textbook",
    "affinities",
    "compose",
    "conflict",
    "kernel",
    "regression",
    "scales",
]
