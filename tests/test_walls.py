"""The walls between the packages: who may import whom, and what an import may load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    """The names of all modules after ``statement`` in a fresh interpreter."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_contracts_are_kept() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_implementation_loads_torch_and_plain_python_only() -> None:
    extra = loaded_by("import drifting_torch") - loaded_by("import torch")
    known = {"drifting_torch", "drifting_spec"}
    ours = {name for name in extra if name.partition(".")[0] in known}
    assert "drifting_spec.registry" not in ours
    unwanted = {"tomllib", "rich", "hypothesis", "scipy", "numpy", "drifting_parity", "pytest"}
    assert not unwanted & {name.partition(".")[0] for name in extra - ours}


def test_the_reference_never_loads_torch_nor_the_harness() -> None:
    loaded = loaded_by("import drifting_reference")
    assert not {"torch", "drifting_torch", "drifting_parity", "rich", "hypothesis"} & loaded


def test_the_spec_stands_on_the_standard_library() -> None:
    loaded = loaded_by("import drifting_spec.registry; drifting_spec.registry.load()")
    tops = {name.partition(".")[0] for name in loaded - loaded_by("pass")}
    assert tops <= {*sys.stdlib_module_names, "drifting_spec"}


@pytest.mark.parametrize("module", ["judging", "report", "checks", "adapters"])
def test_the_harness_judges_without_pytest(module: str) -> None:
    assert not {"pytest", "hypothesis", "torch"} & loaded_by(f"import drifting_parity.{module}")
