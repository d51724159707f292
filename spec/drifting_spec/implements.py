"""Marks code with the clauses of the paper that it carries out, or that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])

IMPLEMENTED: Final[dict[str, list[str]]] = {}
"""Clause id → ``module:qualified_name`` of each function marked with it, as imported so far."""

ORACLES: Final[dict[str, list[str]]] = {}
"""The same for :func:`oracle`."""


def implements(*clauses: str) -> Callable[[_Function], _Function]:
    """Mark a function as carrying out ``clauses`` (ids as in the spec), for `explain` and tests."""
    return _marking(IMPLEMENTED, clauses)


def oracle(*clauses: str) -> Callable[[_Function], _Function]:
    """Mark a function as an independent way to a number of ``clauses``, not as what they say.

    The code that carries a clause out is compared with its oracles; `explain` lists them apart.
    """
    return _marking(ORACLES, clauses)


def _marking(
    marks: dict[str, list[str]], clauses: tuple[str, ...]
) -> Callable[[_Function], _Function]:
    def mark(function: _Function) -> _Function:
        where = f"{function.__module__}:{function.__qualname__}"
        for clause in clauses:
            marks.setdefault(clause, []).append(where)
        return function

    return mark
