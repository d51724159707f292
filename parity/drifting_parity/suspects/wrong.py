"""Suspects as implementations on the command line.

``drifting-parity report --implementation python:drifting_parity.suspects.wrong:D22`` judges the
textbook with one suspect; variants are written ``D16_under_root``, several suspects
``D12__D22``.
"""

from __future__ import annotations

from drifting_parity.suspects import ALL, SuspectAdapter

_NAMES = {key.replace(":", "_").replace("-", "_"): key for key in ALL}


def __getattr__(name: str) -> SuspectAdapter:
    """Return the adapter of the suspects that ``name`` lists; ``AttributeError`` names unknowns."""
    parts = name.split("__")
    unknown = [part for part in parts if part not in _NAMES]
    if unknown:
        raise AttributeError(f"no suspect {', '.join(unknown)}; known: {', '.join(_NAMES)}")
    return SuspectAdapter(*(ALL[_NAMES[part]] for part in parts))
