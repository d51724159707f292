"""Every check kills a suspect, every suspect is caught for a clause that it breaks.

``selftest.json`` holds one killed suspect for each check, and for each suspect one check with the
clause it names; a full table (``python -m drifting_parity.suspects.table``) writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drifting_parity.cases import Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Context
from drifting_parity.measure import Measurement
from drifting_parity.suspects import ALL, SuspectAdapter
from drifting_parity.suspects.table import (
    TEXTBOOK,
    Kill,
    Row,
    Table,
    judged,
    kills_of,
    proof,
    selftest,
)
from drifting_spec import PAPER
from drifting_spec.registry import load

PROOF = json.loads(Path(__file__).with_name("selftest.json").read_text(encoding="utf-8"))
JUDGED = [check.id for check in CHECKS if judged(check)]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # suspects that return NaN
@pytest.mark.parametrize("check", JUDGED)
def test_the_check_kills_its_suspects_and_not_the_textbook(check: str) -> None:
    of_check = [PROOF["checks"][check]] if check in PROOF["checks"] else []
    of_suspects = {
        key: clause for key, (name, clause) in PROOF["suspects"].items() if name == check
    }
    kills = kills_of(check, list(dict.fromkeys([*of_check, *of_suspects])))
    if kills is None:
        assert not of_check
        return
    assert of_check, "no suspect is known that this check kills"
    assert TEXTBOOK not in kills
    assert set(of_check) <= set(kills)
    for key, clause in of_suspects.items():
        assert clause in kills[key], key


def test_every_suspect_is_caught_for_a_clause_that_it_breaks() -> None:
    assert set(PROOF["suspects"]) == set(ALL)
    for key, (check, clause) in PROOF["suspects"].items():
        assert clause in ALL[key].clauses
        assert check in JUDGED


@pytest.mark.parametrize("processes", [1, 2])
def test_a_table_of_some_checks(processes: int) -> None:
    steps: list[tuple[int, int]] = []
    table = selftest(
        [ALL["D12"], ALL["D24"], ALL["D28:norm"]],
        checks=["G-1", "PB-41", "loss.frozen_target"],
        processes=processes,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (3, 3)
    assert "PB-41" not in table.checks  # the textbook has no queue
    assert not table.false_alarms
    assert [row.suspect for row in table.rows] == ["D12", "D24", "D28:norm"]
    assert "ALG2-6" in table.rows[0].right
    assert table.rows[0].stage == "field"
    assert "D24" in table.uncaught


def test_what_is_remembered_changes_nothing() -> None:
    """The table keeps draws, the reference's answers and those of the textbook."""
    keys = ["D01", "D12", "D22", "D61:target"]
    for check in [item for item in CHECKS if item.id in {"loss.copies", "PB-13", "PB-36"}]:
        expected: dict[str, set[str]] = {}
        for key in keys:
            context = Context(SuspectAdapter(ALL[key]), PAPER, Setting(), load(), quick=True)
            failed = [item for item in check.run(context) if isinstance(item, Measurement)]
            clauses = {name for item in failed if not item.passed for name in item.clauses}
            expected |= {key: clauses} if clauses else {}
        kills = kills_of(check.id, keys)
        assert kills is not None
        assert {key: set(clauses) for key, clauses in kills.items()} == expected


def test_what_a_table_says() -> None:
    rows = (
        Row("D12", "", "field", ("ALG2-6",), (Kill("a", ("ALG2-6", "EQ-5")),)),
        Row("D15", "", "field", ("ALG2-9",), (Kill("a", ("EQ-5",)),)),
        Row("D22", "", "temperature", ("EQ-22",), ()),
    )
    table = Table(rows, ("a", "b"), ())
    assert table.idle_checks == ("b",)
    assert table.uncaught == ("D22",)
    assert table.wrongly_caught == ("D15",)
    assert proof(table) == {"checks": {"a": "D12"}, "suspects": {"D12": ["a", "ALG2-6"]}}


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(ValueError, match=r"checks has \['nothing'\]"):
        selftest([], checks=["nothing"])
    with pytest.raises(ValueError, match="checks has"):
        selftest([], checks=["EQ-26"])
