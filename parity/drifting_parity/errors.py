"""What a command refuses: one line for the reader and the exit status that goes with it."""

from __future__ import annotations

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
