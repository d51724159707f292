"""What a command refuses: one line for the reader and the exit status that goes with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

BROKEN: Final = 1
"""Parity is broken: a deviation, or a reading other than the one asked for."""
USAGE: Final = 2
"""Bad usage or configuration."""
UNJUDGED: Final = 3
"""The implementation could not be judged: it did not load, or it crashed."""
INTERRUPTED: Final = 130
"""Interrupted by the user; what a shell shows for SIGINT."""


class CommandError(Exception):
    """A command cannot go on; ``status`` is the exit status."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Name the nearest of the ``known`` names, whatever their case, else say ``otherwise``."""
    by_lower = {item.lower(): item for item in known}
    same = [item for item in by_lower if bare(item) == bare(name)]
    near = same or difflib.get_close_matches(name.lower(), list(by_lower), n=4, cutoff=0.5)
    return f"did you mean {', '.join(by_lower[item] for item in near)}?" if near else otherwise


def bare(name: str) -> str:
    """Strip case, punctuation and leading zeros, easily got wrong: p-3 is P-03, eq11 EQ-11."""
    return re.sub(r"[^a-z0-9]|(?<!\d)0+(?=\d)", "", name.lower())
