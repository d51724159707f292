"""The command line: exit statuses, errors, pages, lists, and what it must not import."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from drifting_parity.catalogue import check_index, effects
from drifting_parity.checks import CHECKS, PROPERTIES
from drifting_parity.cli import KINDS, main
from drifting_parity.commands import report as cli_report
from drifting_parity.golden import manifests
from drifting_parity.judging.verdicts import Request
from drifting_parity.report.data import Report
from drifting_spec import AXES, PRESETS
from drifting_spec.registry import load

SPEC = load()
COMMAND = [sys.executable, "-m", "drifting_parity.cli"]
HEAVY = {"torch", "scipy", "numpy", "rich", "hypothesis", "pytest"}


def run(*arguments: str) -> int:
    """The exit status, whether it is returned or leaves through argparse."""
    try:
        return main(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)


def one_line(text: str) -> str:
    """The only line of an error, without its ``error: ``."""
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text.removeprefix("error: ")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, good_report: Report) -> list[Request]:
    """The requests that reach the judge, which answers with a report made by hand."""
    requests: list[Request] = []

    def judge(request: Request, progress: object = None) -> Report:
        del progress
        requests.append(request)
        return good_report

    monkeypatch.setattr(cli_report, "judge", judge)
    return requests


# Usage.


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert re.fullmatch(r"drifting-parity \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_source_tree_that_is_not_installed_is_run_as_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is installed says which version it is."""

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert run("--version") == 0
    assert capsys.readouterr().out == "drifting-parity not installed\n"
    arguments = ("--clause", "EQ-3", "--implementation", "builtin:drifting_reference")
    assert run("report", "--quick", "--format", "json", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["tool"]["version"] == "not installed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reprot",), "invalid choice: 'reprot'"),
        (("list",), "kind"),
        (("list", "axes"), "invalid choice: 'axes'"),
        (("explain",), "ID"),
        (("report", "--seed", "-1"), "'-1' is not an integer from 0"),
        (("report", "--seed=1.5"), "'1.5' is not an integer from 0"),
        (("report", "--dtype", "float8"), "invalid choice: 'float8'"),
        (("report", "--quik"), "unrecognized arguments: --quik"),
        (("report", "--readings", "papr"), "did you mean paper?"),
        (("report", "--readings", "paper,floor=none"), "did you mean floors"),
        (("report", "--readings", "floors=nine"), "expected one of: none, release, seed"),
        (("report", "--readings", "kernel_normalization=separate"), "contradicts"),
        (("report", "--clause", "EQ-111"), "no clause matches 'EQ-111'; did you mean EQ-11"),
        (("report", "--implementation", "torch"), "unknown kind 'torch'"),
        (("report", "--implementation", "builtin:jax"), "no builtin 'jax'"),
        (("report", "--implementation", "python:module"), "lacks a part"),
        (("report", "--implementation", "builtin:drifting_reference", "--dtype", "float32"),
         "drifting_reference offers float64, not 'float32'"),
        (("report", "--implementation", "builtin:drifting_reference", "--device", "cuda"),
         "drifting_reference offers cpu, not 'cuda'"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_2(
    arguments: tuple[str, ...],
    said: str,
    judged: list[Request],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*arguments) == 2
    assert said in one_line(capsys.readouterr().err)
    assert not judged


def test_what_does_not_load_is_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "breaks_at_once.py").write_text("1 / 0\n")
    (tmp_path / "reaches_it.py").write_text("import breaks_at_once\n")
    (tmp_path / "no_python.py").write_text("x = = 3\n")
    (tmp_path / "no_adapter.py").write_text("thing = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for target, said in (
        ("python:leaves_at_once:x", "did not load: SystemExit: 0 (leaves_at_once.py, line 1"),
        ("python:breaks_at_once:x", "breaks_at_once.py, line 1: 1 / 0"),
        ("python:breaks_at_once.py:x", "breaks_at_once.py, line 1: 1 / 0"),
        ("python:reaches_it.py:x", "breaks_at_once.py, line 1: 1 / 0"),
        ("python:no_python.py:x", "no_python.py, line 1"),
        ("python:nowhere.py:x", "there is no file nowhere.py"),
        ("python:no_adapter.py:think", "no_adapter.py has no 'think'; did you mean thing?"),
        ("python:no_adapter.py:thing", "is int, expected"),
        ("python:not_there_at_all:x", "ModuleNotFoundError"),
        ("python:no_adapter:thing", "is int, expected"),
    ):
        assert run("report", "--implementation", target) == 3
        assert said in one_line(capsys.readouterr().err)


def test_a_crash_while_judging_is_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(*_: object) -> Report:
        raise RuntimeError("over\nthe edge")

    monkeypatch.setattr(cli_report, "judge", crash)
    assert run("report", "--implementation", "builtin:drifting_reference") == 3
    said = one_line(capsys.readouterr().err)
    assert "could not be judged: RuntimeError: over the edge (test_cli.py, line" in said


def test_an_interrupt_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_report, "judge", interrupt)
    assert run("report", "--implementation", "builtin:drifting_reference") == 130
    assert capsys.readouterr().err == "interrupted\n"


# The report.


def test_the_request_is_what_was_asked(judged: list[Request]) -> None:
    assert run(
        *("report", "--implementation", "builtin:drifting_reference", "--quick"),
        *("--readings", "release,floors=none", "--clause", "ALG2-*", "--seed", "7"),
    ) == 0  # fmt: skip
    (request,) = judged
    assert str(request.readings) == "release,floors=none"
    assert (request.seed, request.quick, request.clause_glob) == (7, True, "ALG2-*")
    assert (request.setting.dtype, request.setting.device) == ("float64", "cpu")


@pytest.mark.parametrize(
    ("form", "start"),
    [("terminal", "drifting-parity: "), ("json", "{\n"), ("markdown", "## drifting-parity")],
)
def test_output_is_the_report_and_nothing_else(
    form: str,
    start: str,
    judged: list[Request],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "report"
    target.write_text("what stood there before\n")
    target.chmod(0o640)
    judge = ("report", "--implementation", "builtin:drifting_reference", "--format", form)
    assert run(*judge) == 0
    shown = capsys.readouterr().out
    assert run(*judge, "--output", str(target)) == 0
    written = target.read_text(encoding="utf-8")
    assert written == shown
    assert written.startswith(start)
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]
    assert capsys.readouterr().err.startswith("parity holds")
    if form == "json":
        assert json.loads(written)["complete"] is True
    assert len(judged) == 2


@pytest.mark.parametrize(
    ("name", "said"), [(".", "is a folder"), ("none/report", "the folder none does not exist")]
)
def test_output_is_refused_before_the_work(
    name: str,
    said: str,
    judged: list[Request],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ("report", "--implementation", "builtin:drifting_reference")
    assert run(*chosen, "--output", name) == 2
    assert said in one_line(capsys.readouterr().err)
    assert not judged
    assert not list(tmp_path.iterdir())


def test_output_survives_a_failure_half_way(
    judged: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report"
    target.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    chosen = ("report", "--implementation", "builtin:drifting_reference")
    assert run(*chosen, "--output", str(target)) == 2
    assert len(judged) == 1
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_parity_broken_is_1_in_every_format(
    monkeypatch: pytest.MonkeyPatch, broken_report: Report, tmp_path: Path
) -> None:
    def judge(*_: object) -> Report:
        return broken_report

    monkeypatch.setattr(cli_report, "judge", judge)
    chosen = ("report", "--implementation", "builtin:drifting_reference")
    for form in ("terminal", "json", "markdown"):
        assert run(*chosen, "--format", form) == 1
        assert run(*chosen, "--format", form, "--output", str(tmp_path / form)) == 1


def test_a_real_report_of_one_clause(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("report", "--implementation", "builtin:drifting_reference", "--quick")
    assert run(*chosen, "--clause", "EQ-3", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    (clause,) = document["clauses"]
    assert clause["id"] == "EQ-3"
    assert clause["verdict"] in {"conforms", "by definition"}
    assert clause["reproduce"].startswith("drifting-parity report --implementation builtin:")


# explain.


@pytest.mark.parametrize("identifier", [*SPEC.ids(), *PRESETS])
def test_every_id_has_a_page(identifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", identifier) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"{identifier}  ")
    assert "\x1b" not in page


def test_a_clauses_page_shows_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "eq-a7γ") == 0
    page = capsys.readouterr().out
    for part in (
        *("EQ-A7gamma", "A.7, Classifier-Free Guidance", "Statement", "Formula"),
        *("drifting_reference.guidance.weight_to_gamma", "def weight_to_gamma(", "Checks"),
        "drifting-parity report --clause EQ-A7gamma",
    ):
        assert part in page, part


def test_an_axis_page_gives_readings_presets_and_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("explain", "affinity_floor=1e-6") == 0
    page = capsys.readouterr().out
    assert "1e-6 [release]" in page
    assert SPEC.axes["affinity_floor"].question in page
    for name in SPEC.axes["affinity_floor"].clauses:
        assert name in page


def test_a_reading_alone_finds_its_axis(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "add_100") == 0
    assert capsys.readouterr().out.startswith("self_mask  (axis)")
    assert run("explain", "product") == 0
    capsys.readouterr()
    assert run("explain", "none") == 2
    assert "affinity_floor=none" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("EQ-111", "EQ-11"), ("affinity_flor", "affinity_floor"), ("P-0303", "P-03"), ("AL2", "ALG2")],
)
def test_an_unknown_id_names_the_nearest(
    wrong: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", wrong) == 2
    said = one_line(capsys.readouterr().err)
    assert f"unknown id '{wrong}'; did you mean" in said
    assert near in said


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("eq11", "EQ-11  "),
        ("p-3", "P-03  "),
        ("d3", "D03  "),
        ("alg2_1", "ALG2-1  "),
        ("a6s", "A6-S  "),
    ],
)
def test_an_id_is_known_without_its_punctuation(
    typed: str, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", typed) == 0
    assert capsys.readouterr().out.startswith(title)


@pytest.mark.parametrize(
    "identifier",
    [*(item.id for item in CHECKS), *SPEC.witnesses, *(item.id for item in manifests())],
)
def test_what_a_report_prints_has_a_page(
    identifier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", identifier) == 0
    assert identifier in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "function"),
    [
        ("loss per label", "comparisons.compare_loss"),
        ("V over y, log w", "by_hand"),
        ("cross terms vanish (positive at 2.037568)", "headlines"),
    ],
)
def test_quantities_and_cases_lead_to_their_checks(
    words: str, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", words) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"{words}\n")
    assert function in page


def test_the_shipped_effects_are_what_the_reference_gives() -> None:
    """To renew them: python -m drifting_parity.catalogue.effects."""
    assert effects.PATH.read_text(encoding="utf-8") == effects.rendered()


def test_effects_of_other_data_are_measured_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = json.loads(effects.PATH.read_text(encoding="utf-8"))
    stale = {"data": "of yesterday", "effects": {"P-01-value": "12"}}
    monkeypatch.setattr(effects, "PATH", tmp_path / "effects.json")
    effects.PATH.write_text(json.dumps(stale))
    assert effects.measured(["P-01-value"]) == {"P-01-value": shipped["effects"]["P-01-value"]}


# list.


@pytest.mark.parametrize("kind", KINDS)
def test_every_list_comes_as_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", kind) == 0
    heads, *rows = capsys.readouterr().out.splitlines()
    assert run("list", kind, "--format", "json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert len(entries) == len(rows)
    assert list(entries[0]) == heads.split()


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_fits_a_terminal_and_shows_its_last_column(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert run("list", kind) == 0
    heads, *rows = capsys.readouterr().out.splitlines()
    assert max(map(len, rows)) <= 80
    last = heads.rindex(heads.split()[-1])
    assert last <= 66


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_every_list_has_its_heading_and_entries(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", kind) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[0] in {"axis", kind.removesuffix("s")}
    assert rows
    ids = [row.split()[0] for row in rows]
    expected = {
        "clauses": list(SPEC.clauses),
        "readings": list(AXES),
        "deltas": list(SPEC.deltas),
        "deviations": list(SPEC.deviations),
    }
    assert ids == expected.get(kind, ids)
    assert len(set(ids)) == len(ids)


def test_the_index_of_checks_is_the_registry() -> None:
    """To renew it: python -m drifting_parity.catalogue.check_index."""
    assert check_index.PATH.read_text(encoding="utf-8") == check_index.rendered()
    assert [item.id for item in check_index.indexed()] == [item.id for item in CHECKS]


def test_checks_have_names_of_their_own_and_clauses_of_the_spec() -> None:
    assert len({item.id for item in CHECKS}) == len(CHECKS)
    assert {item.id for item in PROPERTIES} <= {item.id for item in CHECKS}
    assert not {name for item in CHECKS for name in item.clauses} - set(SPEC.clauses)


def test_every_executable_clause_has_a_check() -> None:
    asked = {name for item in CHECKS for name in item.clauses}
    assert not [key for key, item in SPEC.clauses.items() if item.executable and key not in asked]


# As a process.


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["report", "--help"], ["explain", "EQ-25"], *(["list", kind] for kind in KINDS)],
    ids=" ".join,
)
def test_the_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys, drifting_parity.cli as cli\n"
        f"try: cli.main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stderr.split())


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(
        [*COMMAND, "explain", "paper"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_real_interrupt_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(
        "import pathlib, time\npathlib.Path('ready').touch()\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [*COMMAND, "report", "--implementation", "python:waits:adapter"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        # A shell starts its background jobs with interrupts ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "interrupted\n"
    assert process.returncode == 130


def test_a_narrow_encoding_is_no_failure() -> None:
    done = subprocess.run(
        [*COMMAND, "explain", "EQ-A7alpha"],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0
    assert done.stderr == b""
