"""Marks code with the clauses of the paper that it carries out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])

IMPLEMENTED: Final[dict[str, list[str]]] = {}
"""Clause id → ``module:qualified_name`` of each function marked with it, as imported so far."""


def implements(*clauses: str) -> Callable[[_Function], _Function]:
    """Mark a function as carrying out ``clauses`` (ids as in the spec), for `explain` and tests."""

    def mark(function: _Function) -> _Function:
        where = f"{function.__module__}:{function.__qualname__}"
        for clause in clauses:
            IMPLEMENTED.setdefault(clause, []).append(where)
        return function

    return mark
