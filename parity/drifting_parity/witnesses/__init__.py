"""The effects of the paper's contradictions and of known deltas, measured on the reference.

``WITNESSES`` has a function for each ``[[witness]]`` of the spec, ``measure()`` runs them.
"""

from __future__ import annotations

from drifting_parity.witnesses import (
    arithmetic,
    fields,
    floors,
    generator,
    guidance,
    inventory,
    losses,
    masks,
    scales,
    theory,
)
from drifting_parity.witnesses.core import WITNESSES, Effect, measure

__all__ = [
    "WITNESSES",
    "Effect",
    "arithmetic",
    "fields",
    "floors",
    "generator",
    "guidance",
    "inventory",
    "losses",
    "masks",
    "measure",
    "scales",
    "theory",
]
