"""Copies of the implementation broken by hand turn the report red, on the right clause."""

from __future__ import annotations

import broken_copies
import pytest

from drifting_parity.judge.verdicts import Request, judge
from drifting_spec import PAPER

BROKEN = {
    # copy: clause that must be red, its verdict, the axis on which another reading is seen
    "d12": ("ALG2-6", "conforms to reading", "softmax_combination"),
    "d15": ("ALG2-9", "deviates", ""),
    "d18": ("ALG2-1", "deviates", ""),
    "d22": ("EQ-22", "conforms to reading", "temperature_scaling"),
    "d24": ("A6-order", "conforms to reading", "temperature_aggregation"),
    "d25": ("A6-order", "conforms to reading", "temperature_aggregation"),
    "d28": ("EQ-25", "deviates", ""),
    "d61": ("S3-sg", "deviates", ""),
    "gram": ("EQ-12", "deviates", ""),
}
UNTOUCHED = {
    "d12": {"ALG2-5", "ALG2-9", "EQ-21", "EQ-25", "EQ-26"},
    "d15": {"EQ-21", "A6-S", "A5-count", "EQ-A7alpha"},
    "d22": {"ALG2-10", "EQ-21", "EQ-25", "EQ-26"},
    "d24": {"ALG2-10", "EQ-21", "EQ-25", "EQ-26", "S3-sg"},
    "d28": {"ALG2-10", "EQ-12", "EQ-21", "A6-S"},
    "d61": {"ALG2-10", "EQ-12", "A5-count"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_turns_red_on_the_right_clause(name: str) -> None:
    target = f"python:broken_copies:{name}"
    report = judge(Request(target, getattr(broken_copies, name), PAPER, quick=True))
    clauses = {clause.id: clause for clause in report.clauses}
    identifier, verdict, axis = BROKEN[name]
    assert report.exit_status == 1
    assert clauses[identifier].verdict == verdict
    assert [each.id for each in report.axes if each.differs] == ([axis] if axis else [])
    assert {clauses[each].verdict for each in UNTOUCHED.get(name, set())} <= {"conforms"}
