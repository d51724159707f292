"""The judge on suspects: red on the right clause, another reading where there is one."""

from __future__ import annotations

import pytest

from drifting_parity.adapters.loading import AdapterError, load_adapter
from drifting_parity.judging.verdicts import Request, judge
from drifting_parity.suspects import ALL, SuspectAdapter
from drifting_spec import PAPER

JUDGED = {
    # suspect: clause that must be red, its verdict, the axis on which another reading is seen
    "D12": ("ALG2-6", "conforms to reading", "softmax_combination"),
    "D15": ("ALG2-9", "deviates", ""),
    "D18:always": ("ALG2-1", "deviates", ""),
    "D18:centred": ("EQ-26", "deviates", ""),
    "D22": ("EQ-22", "conforms to reading", "temperature_scaling"),
    "D24": ("A6-order", "conforms to reading", "temperature_aggregation"),
    "D25:errors": ("A6-order", "conforms to reading", "temperature_aggregation"),
    "D28:norm": ("EQ-25", "deviates", ""),
    "D61:target": ("S3-sg", "deviates", ""),
}
UNTOUCHED = {
    "D12": {"ALG2-5", "ALG2-9", "EQ-21", "EQ-25", "EQ-26"},
    "D15": {"EQ-21"},
    "D22": {"ALG2-10", "EQ-21", "EQ-25", "EQ-26"},
    "D24": {"ALG2-10", "EQ-21", "EQ-25", "EQ-26", "S3-sg"},
    "D28:norm": {"ALG2-10", "EQ-12", "EQ-21", "A6-S"},
    "D61:target": {"ALG2-10", "EQ-12"},
}


@pytest.mark.parametrize("key", JUDGED)
def test_a_suspect_turns_red_on_the_right_clause(key: str) -> None:
    report = judge(Request(f"suspect {key}", SuspectAdapter(ALL[key]), PAPER, quick=True))
    clauses = {clause.id: clause for clause in report.clauses}
    identifier, verdict, axis = JUDGED[key]
    assert report.exit_status == 1
    assert clauses[identifier].verdict == verdict
    assert [item.id for item in report.axes if item.differs] == ([axis] if axis else [])
    assert {clauses[name].verdict for name in UNTOUCHED.get(key, set())} <= {"conforms"}


def test_the_textbook_conforms() -> None:
    report = judge(Request("textbook", SuspectAdapter(), PAPER, quick=True))
    assert report.exit_status == 0
    assert not [clause.id for clause in report.clauses if clause.verdict in {"deviates", "raises"}]


def test_a_suspect_is_an_implementation_on_the_command_line() -> None:
    both = load_adapter("python:drifting_parity.suspects.wrong:D12__D16_under_root")
    assert both.name == "textbook + D12 + D16:under-root"
    with pytest.raises(AdapterError, match="has no 'D12__D99'"):
        load_adapter("python:drifting_parity.suspects.wrong:D12__D99")
