"""The suite: every check and every property of the harness, put to the chosen implementation.

``pytest -p drifting_parity.pytest_plugin --pyargs drifting_parity --parity-implementation
KIND:TARGET`` runs it from an installed wheel (extra ``test``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import hypothesis
import hypothesis.errors
import pytest
from hypothesis import strategies as st

from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.capabilities import Capabilities
from drifting_parity.checks.core import Check, Context, Property
from drifting_parity.draw import Rejected
from drifting_parity.judging.verdicts import prepared, run_check
from drifting_parity.pytest_plugin import HypothesisDraw, Subject
from drifting_parity.report.wording import complaint


@cache
def _context_of(subject: Subject) -> Context:
    """What the subject takes is tried once."""
    return prepared(subject.context())


pytestmark = pytest.mark.usefixtures("one_thread")


def test_check(subject: Subject, judged_check: Check) -> None:
    """Put one check, on cases of its own, to one subject."""
    outcome = run_check(judged_check, _context_of(subject))
    command = subject.command(judged_check.clauses[0])
    if outcome.error:
        pytest.fail(f"{judged_check.id} raised {outcome.error}\n{command}", pytrace=False)
    if outcome.not_observable:
        if subject.must_show_everything:
            pytest.fail(f"{judged_check.id}: {outcome.not_observable}\n{command}", pytrace=False)
        pytest.skip(outcome.not_observable)
    failed = [item for item in outcome.measurements if not item.passed]
    if failed:
        lines = [f"{complaint(item)}\n  {subject.command(item.clauses[0])}" for item in failed]
        pytest.fail("\n".join(lines), pytrace=False)


def test_property(
    subject: Subject, judged_property: Property[Any], drawn_by_hypothesis: hypothesis.settings
) -> None:
    """Put one property, on inputs that Hypothesis draws and shrinks, to one subject."""
    context = _context_of(subject)
    subject.adapter.conduct()  # what is told from here on belongs to this test
    refusals: list[str] = []

    @drawn_by_hypothesis
    @hypothesis.given(data=st.data())
    def holds(data: st.DataObject) -> None:
        try:
            measured = list(judged_property.measured(context, HypothesisDraw(data)))
        except Rejected:
            hypothesis.reject()
        except NotObservable as answer:
            if subject.must_show_everything:
                raise AssertionError(f"{judged_property.id}: {answer}") from answer
            if context.capabilities == Capabilities():
                pytest.skip(str(answer))
            # Code that takes part of the inputs is asked the draws that fit.
            refusals.append(str(answer))
            hypothesis.reject()
        for item in measured:
            if not item.passed:
                command = subject.command(item.clauses[0])
                raise AssertionError(f"{complaint(item)}\n  {command}")
        for act in subject.adapter.conduct():
            if act.failing:
                command = subject.command(judged_property.clauses[0])
                raise AssertionError(f"{judged_property.id}: it {act}\n  {command}")

    try:
        holds()
    except hypothesis.errors.Unsatisfiable:
        if not refusals:
            raise
        pytest.skip(refusals[-1])
