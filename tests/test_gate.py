"""The gate: what it reads, what it refuses, every way to fail once, and its drafts."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drifting_parity.cli import main
from drifting_parity.commands import report as cli_report
from drifting_parity.errors import CommandError
from drifting_parity.gate import findings as gate
from drifting_parity.gate.expectations import read_expectations
from drifting_parity.judge.verdicts import Request
from drifting_parity.report.data import AxisReport, ClauseReport, Report
from drifting_parity.witnesses import Effect
from drifting_spec.registry import load

ROOT = Path(__file__).parents[1]
SPEC = load()
TARGET = "builtin:drifting_reference"
HEAD = f'schema = 1\nimplementation = "{TARGET}"\nreadings = "paper"\n'
READING = '[[reading]]\naxis = "self_mask"\nreading = "add_100"\nreason = "as the release"\n'
DEVIATION = (
    '[[deviation]]\nclause = "EQ-25"\nverdict = "deviates"\nlow = 1e9\nhigh = 1e10\n'
    'reason = "λ is smoothed"\n'
)
UNSEEN = '[[not_observable]]\nclause = "A5-x2"\nreason = "no encoder"\n'
DELTA = '[[delta]]\nid = "P-08-scale"\nlow = 0.992\nhigh = 0.993\nreason = "127/128"\n'


def found(value: float = 127 / 128) -> Effect:
    return Effect(SPEC.witnesses["P-08-scale"], value)


@pytest.fixture
def as_declared(good_report: Report, broken_report: Report) -> Report:
    """A report with one of each: a reading, a deviation, an unseen clause, an effect."""
    (failing,) = (clause for clause in broken_report.clauses if clause.verdict == "deviates")
    seen = tuple(clause for clause in good_report.clauses if clause.verdict == "conforms")
    unseen = ClauseReport("A5-x2", "A.6", "x²", "not observable", detail="no encoder")
    clauses = (*(each for each in seen if each.id != failing.id), failing, unseen)
    axis = AxisReport("self_mask", "exclude", "add_100", "0.1 away")
    return replace(good_report, clauses=clauses, axes=(axis,), effects=(found(),))


@pytest.fixture
def run(
    as_declared: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Run the gate on a file's text, with a report made by hand; status, stdout, stderr."""

    def call(text: str, report: Report | None = None, *options: str) -> tuple[int, str, str]:
        path = tmp_path / "expectations.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(cli_report, "judge", lambda *_: report or as_declared)
        status = main(["gate", "--expectations", str(path), *options])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


ALL = HEAD + READING + DEVIATION + UNSEEN + DELTA


def test_what_is_declared_passes(run: Any) -> None:
    status, out, _ = run(ALL)
    assert (status, out.count("\n")) == (0, 1)
    assert out.startswith("gate holds: ")


def changed(report: Report, clause: str, **values: Any) -> Report:
    """The report with one clause's report changed."""
    clauses = (replace(c, **values) if c.id == clause else c for c in report.clauses)
    return replace(report, clauses=tuple(clauses))


def axis(report: Report, reading: str) -> Report:
    return replace(report, axes=(replace(report.axes[0], reading=reading),))


FAILURES: dict[str, tuple[str, Any, str]] = {
    "undeclared reading": (
        ALL.replace(READING, ""), None,
        "✗ undeclared: reading self_mask: takes add_100, not exclude",
    ),
    "stale reading": (
        ALL, lambda r: axis(r, "exclude"),
        "✗ stale: reading self_mask: declared add_100, takes exclude as asked for",
    ),
    "another reading": (
        ALL, lambda r: axis(r, "add_1e6"),
        "✗ changed: reading self_mask: declared add_100, takes add_1e6",
    ),
    "reading out of sight": (
        ALL, lambda r: axis(r, "not observable"),
        "✗ changed: reading self_mask: declared add_100, cannot be observed any more",
    ),
    "undeclared deviation": (
        ALL.replace(DEVIATION, ""), None,
        "✗ undeclared: deviation EQ-25: deviates: ",
    ),
    "stale deviation": (
        ALL, lambda r: changed(r, "EQ-25", verdict="conforms"),
        "✗ stale: deviation EQ-25: declared deviates, now conforms: remove the entry",
    ),
    "worse by its size": (
        ALL.replace("high = 1e10", "high = 1.1e9"), None,
        "✗ worse: deviation EQ-25: headroom 2.5e+09, declared 1e+09 to 1.1e+09",
    ),
    "worse by its verdict": (
        ALL, lambda r: changed(r, "EQ-25", verdict="raises", detail="KeyError: 3"),
        "✗ worse: deviation EQ-25: declared deviates, now raises: KeyError: 3",
    ),
    "better by its verdict": (
        ALL.replace('"deviates"', '"raises"'), None,
        "✗ changed: deviation EQ-25: declared raises, now deviates",
    ),
    "deviation below its band": (
        ALL.replace("low = 1e9", "low = 5e9"), None,
        "✗ left its band: deviation EQ-25: headroom 2.5e+09, declared 5e+09 to 1e+10",
    ),
    "incomplete report": (
        ALL.replace(UNSEEN, ""), None,
        "✗ undeclared: not_observable A5-x2: the report is incomplete: no encoder",
    ),
    "clause in sight again": (
        ALL, lambda r: changed(r, "A5-x2", verdict="conforms"),
        "✗ stale: not_observable A5-x2: declared not observable, now conforms",
    ),
    "undeclared delta": (
        ALL.replace(DELTA, ""), None,
        "✗ undeclared: delta P-08-scale: Zeros counted or not: 0.99219 ratio",
    ),
    "delta out of its band": (
        ALL, lambda r: replace(r, effects=(found(1.0),)),
        "✗ left its band: delta P-08-scale: Zeros counted or not: 1 ratio, declared 0.992 to 0.993",
    ),
    "witness that raises": (
        ALL, lambda r: replace(r, effects=(replace(found(float("nan")), error="KeyError: 1"),)),
        "✗ left its band: delta P-08-scale: Zeros counted or not: KeyError: 1, declared 0.992",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_each_failing_condition_is_named_and_1(name: str, run: Any, as_declared: Report) -> None:
    text, change, said = FAILURES[name]
    status, out, _ = run(text, change(as_declared) if change else None)
    assert status == 1
    first, last = out.splitlines()
    assert first.startswith(said)
    assert last.startswith("gate fails: ")


REFUSALS = {
    "no TOML": ("schema = = 1", "is no TOML"),
    "another schema": (HEAD.replace("schema = 1", "schema = 2"), "schema is 2, expected 1"),
    "no implementation": ("schema = 1\n", "implementation is None, expected a string"),
    "unknown table": (HEAD + "[[deviatoin]]\n", "unknown key 'deviatoin'; did you mean deviation"),
    "no array": (HEAD + "[delta]\n", "delta is no array of tables: write [[delta]]"),
    "unknown key": (
        HEAD + READING + "why = 1\n",
        "[[reading]] number 1, self_mask: unknown key 'why'",
    ),
    "missing reason": (HEAD + UNSEEN.replace('reason = "no encoder"\n', ""), "reason is missing"),
    "empty reason": (HEAD + UNSEEN.replace("no encoder", " "), "A5-x2: reason is empty"),
    "missing band": (HEAD + DELTA.replace("low = 0.992\n", ""), "low is missing"),
    "no number": (HEAD + DELTA.replace("0.992\n", '"x"\n'), "low is 'x', expected a number"),
    "no band": (HEAD + DELTA.replace("low = 0.992", "low = 1.0"), "low 1.0 is not below high"),
    "declared twice": (HEAD + UNSEEN + UNSEEN, "[[not_observable]] number 2: A5-x2 is declared"),
    "unknown clause": (
        HEAD + UNSEEN.replace("A5-x2", "A5-x3"),
        "clause 'A5-x3' matches nothing; did you mean A5-x2",
    ),
    "unknown axis": (
        HEAD + READING.replace("self_mask", "self_maks"),
        "axis 'self_maks' matches nothing; did you mean self_mask",
    ),
    "unknown reading": (HEAD + READING.replace("add_100", "add_10"), "expected one of exclude"),
    "unknown witness": (
        HEAD + DELTA.replace("P-08-scale", "P-08-scales"),
        "id 'P-08-scales' matches nothing; did you mean P-08-scale",
    ),
    "unknown verdict": (
        HEAD + DEVIATION.replace('"deviates"', '"conforms"'),
        "verdict is 'conforms', expected one of deviates, raises",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_file_is_one_line_and_2(name: str, run: Any) -> None:
    text, said = REFUSALS[name]
    status, out, err = run(text)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: --expectations: ")
    assert said in err


def test_a_file_that_is_not_there_is_2(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file") as refusal:
        read_expectations(tmp_path / "none.toml")
    assert refusal.value.status == 2


def test_what_cannot_be_judged_is_3(
    run: Any, as_declared: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = tuple(replace(c, verdict="not observable") for c in as_declared.clauses)
    status, out, err = run(HEAD, replace(as_declared, clauses=unseen))
    assert (status, out) == (3, "")
    assert "lets no clause be observed" in err
    status, _, err = run(HEAD.replace("builtin:drifting_reference", "python:not_there:x"))
    assert status == 3
    assert "did not load" in err


def test_json_and_markdown_say_the_same(run: Any, tmp_path: Path) -> None:
    text = ALL.replace(UNSEEN, "")
    status, out, _ = run(text, None, "--format", "json")
    document = json.loads(out)
    assert (status, document["holds"]) == (1, False)
    (finding,) = document["findings"]
    assert (finding["kind"], finding["table"], finding["id"]) == (
        *("undeclared", "not_observable", "A5-x2"),
    )
    status, out, _ = run(text, None, "--format", "markdown")
    assert status == 1
    assert "| undeclared | not\\_observable | A5-x2 |" in out
    target = tmp_path / "answer"
    status, out, err = run(text, None, "--format", "markdown", "--output", str(target))
    assert (status, out) == (1, "")
    assert "gate fails" in err
    assert target.read_text(encoding="utf-8").startswith("## drifting-parity gate")


def test_options_go_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_declared: Report
) -> None:
    requests: list[Request] = []

    def judge(request: Request, progress: object = None) -> Report:
        del progress
        requests.append(request)
        return as_declared

    monkeypatch.setattr(cli_report, "judge", judge)
    path = tmp_path / "e.toml"
    path.write_text(ALL.replace('"paper"', '"seed"'), encoding="utf-8")
    chosen = ["gate", "--expectations", str(path)]
    assert main(chosen) == 0
    assert main([*chosen, "--readings", "release", "--quick", "--seed", "5"]) == 0
    assert [str(request.readings) for request in requests] == ["seed", "release"]
    assert (requests[1].quick, requests[1].seed, requests[1].clause_glob) == (True, 5, "*")


def test_a_draft_holds_once_its_reasons_are_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_declared: Report,
) -> None:
    monkeypatch.setattr(cli_report, "judge", lambda *_: as_declared)
    path = tmp_path / "new.toml"
    chosen = ["gate", "--expectations", str(path), "--implementation", TARGET]
    assert main([*chosen, "--write"]) == 0
    assert "write a reason" in capsys.readouterr().err
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    assert {key for key, value in document.items() if isinstance(value, list)} == {
        *("reading", "deviation", "not_observable", "delta"),
    }
    assert main(chosen) == 2
    assert "reason is empty" in capsys.readouterr().err
    filled = path.read_text(encoding="utf-8").replace('reason = ""', 'reason = "known"')
    path.write_text(filled, encoding="utf-8")
    assert read_expectations(path).implementation == as_declared.implementation
    assert main(chosen) == 0
    before = path.read_text(encoding="utf-8")
    assert main([*chosen, "--write"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == before


def test_this_repository_declares_the_effect_of_every_delta() -> None:
    expected = read_expectations(ROOT / "parity" / "expectations.toml")
    assert expected.implementation == "builtin:drifting_torch"
    assert expected.readings == "paper"
    assert (expected.reading, expected.deviation) == ({}, {})
    assert list(expected.delta) == list(SPEC.witnesses)
    for key, item in expected.delta.items():
        assert SPEC.witnesses[key].low <= item.low <= item.high <= SPEC.witnesses[key].high


def test_an_infinite_headroom_can_be_declared(as_declared: Report) -> None:
    worst = replace(as_declared.clauses[-2].measurements[0][1], observed=float("inf"))
    report = changed(as_declared, "EQ-25", measurements=(("check", worst),))
    document = tomllib.loads(gate.draft(report))
    assert document["deviation"][0]["high"] == float("inf")
