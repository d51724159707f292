"""Text that judged code had a hand in, made safe to show: one line, printable, not too long."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

LONGEST: Final = 300
"""Characters of a message that are shown; more would bury the report in one implementation's."""


def plain(text: str, longest: int = LONGEST) -> str:
    r"""Put ``text`` on one line, escape what is not printable (ESC as ``\x1b``), cut the rest.

    Direction marks, zero-width characters and lone surrogates are escaped as well: a terminal
    would act on them or a file could not hold them.
    """
    text = " ".join(text[: 8 * longest].split())
    if not text.isprintable():
        text = "".join(item if item.isprintable() else _escaped(item) for item in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def described(problem: BaseException) -> str:
    """Say what was raised and where, also if the exception's own ``__str__`` raises."""
    try:
        text = str(problem)
    except BaseException as second:  # judged code may raise anything, even from here
        text = f"its message cannot be shown: __str__ raised {type(second).__name__}"
    name = type(problem).__name__
    frames = traceback.extract_tb(problem.__traceback__, limit=-1)
    place = ""
    if frames:
        last = frames[-1]
        place = f"({Path(last.filename).name}, line {last.lineno}, in {last.name})"
    # The place is worth more than the end of a long message.
    said = plain(f"{name}: {text}" if text else name, LONGEST - len(place))
    return f"{said} {plain(place)}".rstrip()


__all__ = ["LONGEST", "described", "plain"]
