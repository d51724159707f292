"""The GPU benchmark: its arithmetic, and that it runs."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "impl"))
    return importlib.import_module("benchmarks.gpu")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "impl"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_ablation_has_the_releases_maps(gpu: Any) -> None:
    maps = gpu.ablation()
    vectors = [sum(count for count, _ in each.shapes) for each in maps]
    assert vectors == [1666] * 3 + [418] * 3 + [106] * 4 + [28] * 2 + [1]
    assert sum(len(each.shapes) for each in maps) == 85  # and the samples themselves
    assert round(sum(each.input_bytes() for each in maps) / 1e9) == 91


def test_bytes_and_operations(gpu: Any) -> None:
    """One group of one channel: 2·144 + 64 entries moved, five products of 64·144."""
    found = gpu.cost(gpu.Workload("one", 1, ((1, 1),)), 4)
    assert found.bytes == 4 * 352
    assert found.operations == 2 * 5 * 64 * 144
    assert found.seconds(bandwidth=352, rate=1e9) == 4
    assert found.seconds(bandwidth=1e9, rate=9216) == 10


def test_a_dry_run_goes_through(tmp_path: Path) -> None:
    found = run("--dry-run", "--json", str(tmp_path / "found.json"))
    assert found.returncode == 0, found.stderr
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["precision"] for row in rows] == ["float32"] * 2 + ["tf32"] * 2 + ["bfloat16"] * 2
    assert all(row["verified"] for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu() -> None:
    found = run()
    assert found.returncode == 1
    assert found.stderr == "no CUDA device: torch.cuda.is_available() is false\n"
    assert not found.stdout
