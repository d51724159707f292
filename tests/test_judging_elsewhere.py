"""The judge in notebooks, in CI servers and in a stranger's workflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from drifting_parity import Adapter, Judgement, fingerprint, judge
from drifting_parity.cli import main
from drifting_parity.commands import gate as gate_command
from drifting_parity.gate.findings import Finding, to_junit
from drifting_parity.report.badge import badge
from drifting_parity.report.data import Report
from drifting_parity.report.junit import junit
from drifting_parity.suspects import ALL, SuspectAdapter

ROOT = Path(__file__).parents[1]


class Marked(SuspectAdapter):
    """Wrong, and of a name that would be a script if it were not escaped."""

    name = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def judged() -> Judgement:
    adapter = Marked(ALL["D71"])
    adapter.name = Marked.name
    return judge(adapter, clause="EQ-21")


def test_a_judgement_says_what_the_first_screen_says(judged: Judgement) -> None:
    assert not judged.conforms
    assert "D71" in str(judged)
    assert "Divide S by √C." in str(judged)
    assert "EQ-21" in judged.full()
    assert judged.as_json()["schema"] == 2
    assert judged.explanation is not None


def test_a_notebook_shows_it_escaped(judged: Judgement) -> None:
    shown = judged._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<td" in shown  # the failing clause
    explained = fingerprint(SuspectAdapter(ALL["D71"]), name="<b>")
    assert "<b>" not in explained._repr_html_()
    assert "&lt;b&gt;" in explained._repr_html_()
    assert "D71" in str(explained)


def test_a_function_is_judged_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    import plain_loss  # pyright: ignore[reportMissingImports]

    found = judge(plain_loss.plain_drifting_loss, clause="A6-tau")
    assert found.conforms, str(found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype is 'int8', expected one of float64"),
        ({"device": "tpu"}, "device is 'tpu', expected one of cpu"),
        ({"readings": "papr"}, "papr"),
    ],
)
def test_what_there_is_not_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        judge(SuspectAdapter(), **options)


def test_the_package_is_light_until_something_is_asked_for() -> None:
    code = "import sys, drifting_parity; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


# CI servers.


def test_junit_counts_what_fails_and_what_is_not_seen(broken_report: Report) -> None:
    (suite,) = ET.fromstring(junit(broken_report))
    failing = [case for case in suite if case.find("failure") is not None]
    skipped = [case for case in suite if case.find("skipped") is not None]
    assert len(suite) == len(broken_report.of_implementation)
    assert len(failing) == int(suite.get("failures", "")) == len(broken_report.failing)
    assert len(skipped) == int(suite.get("skipped", ""))
    assert failing
    told = [case.find("failure").get("message", "") for case in failing]  # pyright: ignore[reportOptionalMemberAccess]
    assert all(text.startswith(("deviates", "raises", "conforms to reading")) for text in told)


def test_junit_of_the_gate_has_a_case_for_each_finding(good_report: Report) -> None:
    (suite,) = ET.fromstring(to_junit(good_report, ()))
    assert [case.get("name") for case in suite] == ["as declared"]
    assert suite.get("failures") == "0"
    hostile = Finding("stale", "deviation", "D07", 'a "<b>" \x00\x1b[31m & more')
    (suite,) = ET.fromstring(to_junit(good_report, (hostile,)))
    (case,) = suite
    assert case.get("name") == "deviation D07"
    assert "<b>" in case.find("failure").get("message", "")  # pyright: ignore[reportOptionalMemberAccess]


def test_a_badge_says_no_more_than_was_seen(good_report: Report, broken_report: Report) -> None:
    good, broken = json.loads(badge(good_report)), json.loads(badge(broken_report))
    assert set(good) == {"schemaVersion", "label", "message", "color"}
    assert good["schemaVersion"] == 1
    assert good["message"].startswith("conforms")
    assert ("as far as seen" in good["message"]) == (not good_report.complete)
    assert broken["message"].startswith("deviates")
    assert broken["color"] != good["color"]


# A stranger's workflow.


def test_the_action_names_what_there_is() -> None:
    action = (ROOT / "action.yml").read_text()
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert "using: composite" in action
    (script,) = re.findall(r"GITHUB_ACTION_PATH/(\S+?)\"'", action)
    assert os.access(ROOT / script, os.X_OK)
    given = set(re.findall(r"^        ([A-Z]+): \$\{\{ inputs", action, re.MULTILINE))
    read = set(re.findall(r"\$\{([A-Z]+):-", (ROOT / script).read_text()))
    assert given == read - {"GITHUB_STEP_SUMMARY"}
    (entry,) = re.findall(r"entry: drifting-parity (.*)", hooks)
    with pytest.raises(SystemExit) as ended:
        main([*entry.split(), "--help"])
    assert ended.value.code == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_actions_step_writes_everything_and_ends_as_the_gate_does(tmp_path: Path) -> None:
    expectations = tmp_path / "parity.toml"
    expectations.write_text(
        'schema = 2\nimplementation = "python:drifting_parity.suspects.wrong:D60_half"\n'
        'readings = "paper"\n'
    )
    summary = tmp_path / "summary.txt"
    environment = os.environ | {
        "EXPECTATIONS": str(expectations),
        "PYTHON": sys.executable,
        "FOLDER": str(tmp_path / "kept"),
        "QUICK": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    environment.pop("IMPLEMENTATION", None)
    run = subprocess.run(
        [ROOT / ".github" / "gate.sh"], env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode == 1, run.stderr
    assert "undeclared" in summary.read_text()
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert kept == {"summary.md", "report.json", "junit.xml", "badge.json"}
    assert json.loads((tmp_path / "kept" / "report.json").read_text())["schema"] == 2
    assert json.loads((tmp_path / "kept" / "badge.json").read_text())["color"] == "orange"
    ET.parse(tmp_path / "kept" / "junit.xml")


@pytest.mark.parametrize("option", ["--report", "--junit", "--badge"])
def test_a_file_that_cannot_be_written_is_named_before_any_work(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("judged")

    monkeypatch.setattr(gate_command, "judged", refused)
    file = tmp_path / "parity.toml"
    file.write_text('schema = 2\nimplementation = "builtin:drifting_torch"\nreadings = "paper"\n')
    status = main(["gate", "--expectations", str(file), option, str(tmp_path / "no" / "file")])
    assert status == 2
    assert f"{option}: the folder {tmp_path / 'no'} does not exist" in capsys.readouterr().err


def test_adapters_are_taken_as_they_are() -> None:
    assert issubclass(Marked, Adapter)
