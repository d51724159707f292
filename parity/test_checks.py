"""Every check of the harness, put to the implementation chosen on the command line."""

from __future__ import annotations

import pytest

from drifting_parity.checks.core import Check
from drifting_parity.judge.verdicts import prepared, run_check
from drifting_parity.pytest_plugin import Subject
from drifting_parity.report.wording import complaint


def test_check(subject: Subject, judged_check: Check) -> None:
    outcome = run_check(judged_check, prepared(subject.context()))
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
