"""The table of ablations of ``python -m drifting_train.ablations``, its runs left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from drifting_spec.registry import load
from drifting_train import ablations
from drifting_train.ablations import MEASURES, ROWS, main, verdict
from drifting_train.digits import DigitsSettings
from drifting_train.settings import RunSettings


def test_every_row_is_one_change_and_has_the_paper_s_number() -> None:
    assert ROWS[0].change == {}
    assert ROWS[0].reported == 8.46
    for row in ROWS[1:]:
        assert len(row.change) == 1
        DigitsSettings(**row.change).feature_config({})
        assert (row.reported is None) == (not row.table)
    table1 = {result.configuration for result in load().results if result.table == "T1"}
    assert table1 == {row.configuration for row in ROWS if row.table == "T1"}


def test_verdicts() -> None:
    assert verdict((8.0, 9.0), (0.1, 0.2)) == "worse, as there"
    assert verdict((8.0, 9.0), (0.2, 0.1)) == "better; there worse"
    assert verdict((8.0, 7.0), (0.2, 0.1)) == "better, as there"
    assert verdict((8.0, 9.0), (0.1, 0.1)) == "equal; there worse"


def test_the_table_and_what_it_trains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[RunSettings] = []

    def evaluations(command: str, settings: RunSettings) -> list[dict[str, float]]:
        seen.append(settings)
        assert command == ("digits" if isinstance(settings, DigitsSettings) else "encoder")
        distance = {1.5: 2.0, 1.0: 1.0}[getattr(settings, "attraction", 1.0)]
        measures = [*MEASURES, *(f"{name}_real" for name in MEASURES)]
        return [{}, dict.fromkeys(measures, distance)]

    monkeypatch.setattr(ablations, "evaluations", evaluations)
    only = ["--only", "1.5·V⁺ − V⁻", "no vanilla term"]
    assert main(["--out", str(tmp_path), "--steps", "7", "--seed", "3", *only]) == 0
    *_, first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("| paper | 1.000 |")
    assert second.endswith("| 41.05 | worse, as there |")
    assert third.endswith("| 1.000 |  |  |")
    digits = [each for each in seen if isinstance(each, DigitsSettings)]
    assert [each.attraction for each in digits] == [1.0, 1.5, 1.0]
    assert [each.feature_include_raw_drift_loss for each in digits] == [True, True, False]
    assert {(each.steps, each.seed) for each in digits} == {(7, 3)}
    assert len({each.out for each in seen}) == 4


def test_a_row_that_is_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "3·V⁺"]) == 2
    assert "--only is '3·V⁺', expected rows of paper, 1.5·V⁺ − V⁻" in capsys.readouterr().err
    assert main(["--steps", "0"]) == 2
