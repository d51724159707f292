"""Comparisons: of saved reports in every form, what is refused of a file, exit statuses."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.cells import cell_len

from drifting_parity.cli import main
from drifting_parity.explanation.data import (
    Confirmation,
    DeviationStatement,
    DialStatement,
    Explanation,
    ReadingStatement,
    Unexplained,
)
from drifting_parity.report.as_json import to_json
from drifting_parity.report.comparison import Comparison
from drifting_parity.report.comparison import to_json as comparison_json
from drifting_parity.report.comparison_text import markdown, terminal
from drifting_parity.report.data import AxisReport, Report
from drifting_parity.report.saved import SavedError, entry
from drifting_parity.report.stages import PLAN, stage_reports
from drifting_spec import PAPER

LACKS = DeviationStatement(
    "D71", "√C missing in S", "scale", "D71", ("EQ-21",), {"factor": 0.5},
    effect="gradient 96.7 % off", mend="Divide S by √C.",
)  # fmt: skip
AS_ASKED = Explanation(
    "mine", PAPER, PAPER, explained=True, confirmation=Confirmation(30, 2e-15, 3e-15, {"C": 64})
)
WRONG = replace(AS_ASKED, deviations=(LACKS,))
OTHER = replace(
    AS_ASKED,
    taken=replace(PAPER, self_mask="add_100"),
    readings=(ReadingStatement("self_mask", "add_100", seen=True, effect="5 % off"),),
)
OPEN = replace(
    AS_ASKED,
    explained=False,
    unexplained=(Unexplained("drift scale", "many channels", 0.25),),
    dials=(DialStatement("temperature", "scale", 0.5, "C^-0.5"),),
)


def written(report: Report, path: Path) -> str:
    path.write_text(json.dumps(to_json(report)), encoding="utf-8")
    return str(path)


@pytest.fixture
def compared(good_report: Report, broken_report: Report) -> Comparison:
    reports = (
        replace(good_report, explanation=AS_ASKED),
        replace(broken_report, explanation=WRONG, implementation="python:a | b:<c>"),
        replace(broken_report, explanation=OPEN),
    )
    return Comparison(tuple(entry(to_json(item)) for item in reports))


# Stages.


def states(report: Report) -> dict[str, str]:
    return {item.key: item.state for item in stage_reports(report)}


def test_stages_are_where_things_show(good_report: Report, broken_report: Report) -> None:
    good = states(replace(good_report, explanation=AS_ASKED))
    assert list(good) == [plan.key for plan in PLAN]
    assert good["field"] == good["drift-scale"] == "conforms"
    assert good["scale"] == "not observed"
    bare = states(broken_report)
    assert (bare["drift-scale"], bare["error"], bare["weights"]) == (
        "deviates", "raises", "reading",
    )  # fmt: skip
    assert bare["features"] == "not observed"


def test_what_another_stage_explains_follows_from_it(broken_report: Report) -> None:
    report = replace(broken_report, explanation=WRONG)
    stages = {item.key: item for item in stage_reports(report)}
    assert stages["scale"].state == "deviates"
    assert stages["scale"].mends == ("Divide S by √C.",)
    assert stages["scale"].figures[0] == "D71 √C missing in S: gradient 96.7 % off"
    assert stages["drift-scale"].state == "follows"
    assert "follows from D71" in stages["drift-scale"].figures
    partly = replace(WRONG, explained=False)
    assert states(replace(broken_report, explanation=partly))["drift-scale"] == "deviates"


def test_readings_and_what_is_open_have_their_stages(good_report: Report) -> None:
    report = replace(good_report, explanation=OTHER)
    (field,) = (item for item in stage_reports(report) if item.key == "field")
    assert field.state == "reading"
    assert field.figures[0] == "takes self_mask=add_100 in place of exclude"
    assert field.mends == ("Take exclude, or ask for it: --readings paper,self_mask=add_100",)
    assert states(replace(good_report, explanation=OPEN))["drift-scale"] == "deviates"


def test_a_stage_of_which_little_is_seen_does_not_conform(good_report: Report) -> None:
    one = good_report.clauses[0]
    unseen = tuple(replace(one, id=f"ALG2-{n}", verdict="not observable") for n in (1, 2))
    few = replace(good_report, clauses=(*good_report.clauses, *unseen))
    assert states(few)["field"] == "not observed"
    assert states(replace(few, clauses=few.clauses[:-1]))["field"] == "conforms"


def test_code_that_answers_nothing_is_wrong_at_no_stage_of_its_own(good_report: Report) -> None:
    silent = replace(
        AS_ASKED, explained=False, unexplained=(Unexplained("call", "the first", math.inf),)
    )
    assert states(replace(good_report, explanation=silent))["training"] == "not observed"


# Forms.


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_text_keeps_to_the_width(compared: Comparison, width: int, verbose: bool) -> None:
    lines = terminal(compared, width, verbose=verbose).splitlines()
    assert max(map(cell_len, lines)) <= width
    many = terminal(Comparison(compared.entries * 8), width, verbose=verbose).splitlines()
    assert max(map(cell_len, many)) <= width
    heads = [line.split()[1:] for line in many if line.startswith("clauses ")]
    assert [letter for head in heads for letter in head] == list("ABCDEFGHIJKLMNOPQRSTUVWX")
    assert "\x1b" not in "".join(lines)


def test_text_has_outcomes_stages_and_the_clauses_that_fail(compared: Comparison) -> None:
    text = terminal(compared, 100)
    for part in (
        "3 implementations, held to the paper",
        "A  python:package.module:attribute_with_a_long_name",
        "explained to 3e-15 on 30 fresh cases",
        "D71 √C missing in S: factor 0.5 · gradient 96.7 % off",
        "measured temperature: 0.5, C^-0.5",
        "unexplained from here: drift scale: 2.5e-01 off on many channels",
    ):
        assert part in text, part
    (row,) = re.findall(r"^  EQ-25 .*$", text, re.MULTILINE)
    assert row.split()[:4] == ["EQ-25", "=", "✗0.25", "✗0.25"]
    (row,) = re.findall(r"^  drift scale .*$", text, re.MULTILINE)
    assert row.split()[2:] == ["✓", "↳", "✗"]
    assert "EQ-11 " not in text.partition("not as asked")[2]
    assert "EQ-11 " in terminal(compared, 100, verbose=True)


def test_markdown_cannot_be_broken_out_of(compared: Comparison) -> None:
    text = markdown(compared)
    assert r"python:a \| b:&lt;c>" in text
    for line in text.splitlines():
        if line.startswith("| A "):
            assert len(re.findall(r"(?<!\\)\|", line)) in {3, 6}


def test_json_follows_its_schema(compared: Comparison) -> None:
    folder = resources.files("drifting_parity.report")
    schema = json.loads(folder.joinpath("comparison.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    document: Any = json.loads(json.dumps(comparison_json(compared), allow_nan=False))
    validator.validate(document)
    assert document["implementations"][1]["deviations"][0]["mend"] == "Divide S by √C."
    document["implementations"][0]["outcome"]["kind"] = "fine"
    assert not validator.is_valid(document)


# Exit statuses and files.


def test_the_worst_outcome_is_the_exit_status(
    good_report: Report,
    broken_report: Report,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = written(good_report, tmp_path / "good.json")
    broken = written(broken_report, tmp_path / "broken.json")
    blind = replace(good_report, clauses=(replace(good_report.clauses[1]),))
    unjudged = written(blind, tmp_path / "unjudged.json")
    assert main(["compare", good, good]) == 0
    assert main(["compare", good, unjudged]) == 3
    assert main(["compare", good, unjudged, broken]) == 1
    out = tmp_path / "out.md"
    assert main(["compare", good, broken, "--format", "markdown", "--output", str(out)]) == 1
    assert out.read_text("utf-8").startswith("## drifting-parity: 2 implementations")
    capsys.readouterr()


def test_different_readings_are_said(good_report: Report) -> None:
    other = replace(good_report, readings="release")
    text = terminal(Comparison((entry(to_json(good_report)), entry(to_json(other)))))
    assert "held to different readings" in text
    assert "held to release" in text


FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "another schema": (lambda d: d.update(schema=1), "schema is 1, expected 2"),
    "no schema": (lambda d: d.pop("schema"), "schema is missing"),
    "no outcome": (lambda d: d.pop("outcome"), "outcome is missing, expected an object"),
    "a verdict": (
        lambda d: d["clauses"][1].update(verdict="skipped"),
        r'clauses\[1\].verdict is "skipped", expected one of conforms',
    ),
    "a list": (lambda d: d.update(clauses={}), "clauses is an object, expected a list"),
    "a number": (lambda d: d["clauses"][0].update(observed="x"), r'observed is "x", expected a n'),
    "an endless number": (lambda d: d.update(seconds=10**400), "seconds is 10+…?, expected a num"),
    "a name": (lambda d: d["implementation"].update(name=3), "implementation.name is 3, expected"),
    "a stage": (lambda d: d["stages"][0].update(state=None), r"stages\[0\].state is null"),
    "texts": (lambda d: d["stages"][0].update(mends=[1]), "mends is a list, expected a list of s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_report_is_refused(fault: str, good_report: Report) -> None:
    change, message = FAULTS[fault]
    document = copy.deepcopy(to_json(good_report))
    change(document)
    with pytest.raises(SavedError, match=message):
        entry(document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no UTF-8 text"),
        (b"[1]", "it is a list, expected an object"),
        (b'{"schema": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "is no JSON"),
        (json.dumps(AS_ASKED.as_json()).encode(), "it is a fingerprint, expected a report"),
    ],
)
def test_a_bad_file_is_one_line(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert main(["compare", str(path), str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: compare: ")
    assert message in line


@pytest.mark.parametrize(
    ("subjects", "message"),
    [
        (["one.json"], "compare: 1 given, expected 2 to 26"),
        (["nowhere.json", "x"], "nowhere.json is neither a file nor KIND:TARGET"),
        ([".", "."], "cannot be read"),
        (["builtin:nothing", "builtin:drifting_torch"], "error: compare: "),
    ],
)
def test_bad_usage_is_one_line(
    subjects: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *subjects]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_what_a_file_says_cannot_move_the_cursor(broken_report: Report) -> None:
    document = to_json(replace(broken_report, explanation=WRONG))
    document["implementation"]["name"] = "a\x1b[2Jb\nc"
    text = terminal(Comparison((entry(document), entry(document))))
    assert "\x1b" not in text
    assert r"a\x1b[2Jb c" in text


def test_axes_that_differ_are_told_with_their_effect(good_report: Report) -> None:
    axis = AxisReport("self_mask", "exclude", "add_100", "seen")
    report = replace(good_report, explanation=OTHER, axes=(axis,))
    item = entry(to_json(report))
    assert [(c.id, c.title, c.effect) for c in item.readings] == [
        ("self_mask", "add_100 in place of exclude", "5 % off")
    ]
