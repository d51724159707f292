"""The pytest plugin, run as its users run it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[1]
SUITE = ("--pyargs", "drifting_parity.test_suite")
BROKEN = """
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity import NotObservable


class TooLong(ReferenceAdapter):
    name = "too_long"
    by_definition = False

    def field(self, case, readings, setting):
        return 1.5 * super().field(case, readings, setting)

    def guidance_weight(self, alpha, n_generated, n_unconditional):
        raise NotObservable("keeps its weights to itself")
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin alone, on the path of a third-party implementation."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "drifting_parity.pytest_plugin", "-q", "-rs",
         "-p", "no:cacheprovider", "--import-mode=importlib", f"--rootdir={folder}", *arguments],
        capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "examples")},
    )  # fmt: skip


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with an implementation whose field is half as long again."""
    (tmp_path / "broken.py").write_text(BROKEN)
    return tmp_path


def test_clauses_reach_the_junit_properties(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parity_clause('EQ-11', 'EQ-12')\ndef test_it(): pass\n"
    )
    done = pytest_in(tmp_path, "--strict-markers", "--junitxml=junit.xml")
    assert done.returncode == 0, done.stdout
    document = ET.parse(tmp_path / "junit.xml")
    found = [(item.get("name"), item.get("value")) for item in document.iter("property")]
    assert found == [("clause", "EQ-11"), ("clause", "EQ-12")]


def test_a_clause_that_the_spec_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parity_clause('EQ-99')\ndef test_it(): pass\n"
    )
    done = pytest_in(tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "the spec has no clause 'EQ-99'" in done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--parity-readings=papr", "did you mean paper?"),
        ("--parity-dtype=float16", "does not offer 'float16'"),
        ("--parity-implementation=python:nowhere:x", "did not load"),
    ],
)
def test_bad_options_are_refused(option: str, said: str, broken: Path) -> None:
    done = pytest_in(broken, "--parity-implementation=python:broken:TooLong", option, *SUITE)
    assert done.returncode in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED}
    assert said in done.stdout + done.stderr


def test_a_wrong_field_fails_with_entry_and_command(broken: Path) -> None:
    done = pytest_in(broken, "--parity-implementation=python:broken:TooLong", "-k", "PB-01", *SUITE)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    for part in ("but should be", "drifting-parity report --implementation python:broken:TooLong"):
        assert done.stdout.count(part) >= 2, done.stdout
    assert "--clause EQ-7" in done.stdout
    assert "2 failed" in done.stdout


def test_what_a_third_party_does_not_show_is_skipped_with_its_reason(broken: Path) -> None:
    done = pytest_in(broken, "--parity-implementation=python:broken:TooLong", "-k", "PB-31", *SUITE)
    assert done.returncode == pytest.ExitCode.OK
    assert "keeps its weights to itself" in done.stdout
    assert "2 skipped" in done.stdout


FOREIGN = {
    "settings of other tests": (
        {
            "test_a.py": "from hypothesis import settings\ndef test_a():\n    s = settings()\n"
            "    assert (s.max_examples, s.derandomize) == (100, False)\n"
            "    assert s.database is not None\n"
        },
        {},
    ),
    "a profile of their conftest": (
        {
            "conftest.py": "import os\nfrom hypothesis import settings\n"
            "settings.register_profile('nightly', max_examples=500)\n"
            "settings.load_profile(os.environ['HYPOTHESIS_PROFILE'])\n",
            "test_a.py": "def test_a(): pass\n",
        },
        {"HYPOTHESIS_PROFILE": "nightly"},
    ),
    "options of the same names as the judge's": (
        {
            "conftest.py": "def pytest_addoption(parser):\n"
            "    for name in ('device', 'dtype', 'readings', 'implementation', 'seed'):\n"
            "        parser.addoption(f'--{name}', default='mine')\n",
            "test_a.py": "def test_a(request):\n"
            "    assert request.config.getoption('--device') == 'mine'\n",
        },
        {},
    ),
    "a marker clause of their own": (
        {
            "conftest.py": "def pytest_configure(config):\n"
            "    config.addinivalue_line('markers', 'clause(id): of a contract')\n",
            "test_a.py": "import pytest\n@pytest.mark.clause('contract-7')\n"
            "def test_a(record_property): pass\n",
        },
        {},
    ),
    "their environment": (
        {
            "test_a.py": "import os\ndef test_a():\n"
            "    assert not {'OMP_NUM_THREADS', 'MKL_NUM_THREADS'} & set(os.environ)\n"
        },
        {},
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_suite_is_left_alone(what: str, tmp_path: Path) -> None:
    files, extra = FOREIGN[what]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ours = ("HYPOTHESIS_PROFILE", "CI", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTEST_XDIST_WORKER")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | extra
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n2", "-p", "drifting_parity.pytest_plugin",
         "--strict-markers", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr


def test_the_installed_package_is_collected(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, "--collect-only", "--pyargs", "drifting_parity", "-k", "PB-01")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "test_suite.py" in done.stdout
    assert "tests collected" in done.stdout
