"""Every property of the harness on inputs that Hypothesis draws, and shrinks where it fails."""

from __future__ import annotations

from functools import cache
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.capabilities import Capabilities
from drifting_parity.checks.core import Context, Property
from drifting_parity.draw import Rejected
from drifting_parity.judge.verdicts import prepared
from drifting_parity.pytest_plugin import HypothesisDraw, Subject
from drifting_parity.report.wording import complaint


@cache
def context_of(subject: Subject) -> Context:
    """What the subject takes is tried once."""
    return prepared(subject.context())


@hypothesis.given(data=st.data())
def test_property(subject: Subject, judged_property: Property[Any], data: st.DataObject) -> None:
    context = context_of(subject)
    try:
        measured = list(judged_property.measured(context, HypothesisDraw(data)))
    except Rejected:
        hypothesis.reject()
    except NotObservable as answer:
        if subject.must_show_everything:
            raise AssertionError(f"{judged_property.id}: {answer}") from answer
        if context.capabilities != Capabilities():
            hypothesis.reject()
        pytest.skip(str(answer))
    for item in measured:
        if not item.passed:
            command = subject.command(item.clauses[0])
            raise AssertionError(f"{complaint(item)}\n  {command}")
