"""The paper "Generative Modeling via Drifting" as data: clauses, readings, deltas, tolerances.

Standard library only. ``Readings`` and the presets are plain Python; ``load()`` reads the TOML
files on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from drifting_spec.implements import implements, oracle
from drifting_spec.readings import (
    AXES,
    FEATURE_AXES,
    FIELD_AXES,
    MOOT,
    PAPER,
    PRESETS,
    RELEASE,
    SEED,
    Readings,
    ReadingsError,
    Traits,
    parse_readings,
)

__all__ = [
    "AXES",
    "FEATURE_AXES",
    "FIELD_AXES",
    "MOOT",
    "PAPER",
    "PRESETS",
    "RELEASE",
    "SEED",
    "Readings",
    "ReadingsError",
    "Traits",
    "implements",
    "oracle",
    "parse_readings",
]
