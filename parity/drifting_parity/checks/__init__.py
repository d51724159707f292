"""Every check there is, and every property, gathered from the modules of this folder.

A module lists its own under ``PROPERTIES`` and ``CHECKS``; to be found it only has to lie here.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from drifting_parity.checks.core import Check, Property

_ROOMS: Final = ("field", "loss", "training", "features", "generator", "vectors", "paper")
"""The folders in the order of the paper; any other comes after them."""

_KINDS: Final = ("headline", "golden value", "property", "comparison", "vector", "real data")
"""The order in which checks run and are listed."""


def _modules() -> Iterator[ModuleType]:
    """The modules of this folder and of those in it, room by room, by name within a room."""
    names = [
        item.name for item in pkgutil.walk_packages(__path__, f"{__name__}.") if not item.ispkg
    ]

    def place(name: str) -> tuple[int, str]:
        room, inside, _ = name.removeprefix(f"{__name__}.").partition(".")
        if not inside:
            return -1, name
        return (_ROOMS.index(room) if room in _ROOMS else len(_ROOMS)), name

    for name in sorted(names, key=place):
        yield import_module(name)


def properties_of(room: str = "") -> tuple[Property[Any], ...]:
    """The properties of one folder (``"field"``), or all of them."""
    within = f"{__name__}.{room}." if room else __name__
    return tuple(
        item
        for module in _modules()
        if module.__name__.startswith(within)
        for item in getattr(module, "PROPERTIES", ())
    )


def checks_of(room: str = "") -> tuple[Check, ...]:
    """The checks of one folder, its properties among them, or all of them."""
    within = f"{__name__}.{room}." if room else __name__
    found: list[Check] = [item.check() for item in properties_of(room)]
    for module in _modules():
        if module.__name__.startswith(within):
            found += getattr(module, "CHECKS", ())
    return tuple(sorted(found, key=lambda check: _KINDS.index(check.kind)))


PROPERTIES: Final = properties_of()
CHECKS: Final = checks_of()
