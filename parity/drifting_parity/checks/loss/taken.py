"""What raises where most code has an answer: several labels or vectors, guidance, uneven counts.

Code may decline such inputs (then they are not asked of it); code that raises, as a mask of eye(N)
does for other counts, is wrong where the paper asks for them. One check for each, so that nothing
else is voided by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from drifting_parity.adapters.capabilities import PURPOSE, Feature
from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.measure import necessary, within


class RaisedError(Exception):
    """The implementation raised on a plain case; the message is its own."""


def _taken(context: Context, *, feature: Feature, clauses: tuple[str, ...]) -> Iterator[Yield]:
    context_raises = context.capabilities.raises
    if feature in context_raises:
        raise RaisedError(f"{feature}: {context_raises[feature]}")
    context.needs(feature)
    yield necessary(within(clauses, "calls that raise", feature, 0.0, 0.0))


def _check(feature: Feature, clauses: tuple[str, ...]) -> Check:
    name = feature.replace(" ", "_")
    run = partial(_taken, feature=feature, clauses=clauses)
    return Check(
        f"taken.{name}", f"{feature}: an answer, not an exception", clauses, "property", run
    )


CHECKS: tuple[Check, ...] = tuple(
    _check(feature, clauses) for feature, clauses in PURPOSE.items() if clauses
)
