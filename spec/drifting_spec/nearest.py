"""The one did-you-mean: which of the known names somebody may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Name the nearest of the ``known`` names, whatever their case, else say ``otherwise``.

    Without ``otherwise`` all known names are listed.
    """
    by_lower = {item.lower(): item for item in known}
    same = [item for item in by_lower if bare(item) == bare(name)]
    near = same or difflib.get_close_matches(name.lower(), list(by_lower), n=4, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(by_lower[item] for item in near)}?"
    return otherwise or f"known: {', '.join(by_lower.values())}"


def bare(name: str) -> str:
    """Strip case, punctuation and leading zeros, easily got wrong: p-3 is P-03, eq11 EQ-11."""
    return re.sub(r"[^a-z0-9]|(?<!\d)0+(?=\d)", "", name.lower())
