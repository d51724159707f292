"""The GPU kernels, in processes that interpret them on the CPU or run them on a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CASES = [Path(__file__).with_name(name) for name in ("triton_cases.py", "triton_tap_cases.py")]


def run(case: Path, interpret: bool) -> str:
    """What pytest says of cases, all of which must pass or be for the other kind of process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*command, str(case)],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def passed(output: str) -> int:
    found = re.search(r"(\d+) passed", output)
    assert found is not None, output
    return int(found[1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_interpreted(case: Path) -> None:
    pytest.importorskip("triton")
    assert passed(run(case, interpret=True)) >= 30


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_on_a_gpu(case: Path) -> None:
    assert passed(run(case, interpret=False)) >= 30
