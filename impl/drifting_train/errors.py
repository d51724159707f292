"""What the trainer says instead of a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrainError(Exception):
    """Something the user can mend: one line, exit status 2."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known word nearest to ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
