"""The GPU kernels compile for GPUs that are not there, within their memory and registers."""

from __future__ import annotations

import os

import pytest
import torch

from drifting_spec import PAPER, RELEASE, Readings

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton interprets", allow_module_level=True)

import triton_targets as targets

ORDINARY = (64, 64, 16, 256)
KERNELS = ["measure", "scale", "correlate", "drift", "gradient"]

SPILLED = {"H100": 4, "A100": 32, "RTX 4090": 32}
"""Bytes of registers that may go to memory."""

CASES: dict[str, tuple[tuple[int, int, int, int], Readings, torch.dtype, str]] = {
    "traces": (ORDINARY, PAPER, torch.float32, "float32"),
    "squares": ((64, 64, 16, 64), RELEASE, torch.float32, "float32"),
    "bfloat16": (ORDINARY, RELEASE, torch.bfloat16, "float32"),
    "unconditional": ((64, 64, 64, 256), RELEASE, torch.float32, "float32"),
    "tf32": ((64, 64, 0, 1024), RELEASE, torch.float32, "tf32"),
}


def check(kernel: str, name: str, case: str) -> None:
    sizes, readings, dtype, precision = CASES[case]
    target = targets.TARGETS[name]
    calls = targets.launched(target, sizes, readings, dtype, precision=precision)
    found = targets.compiled(*calls[kernel], target)
    assert found.shared <= target.shared, found
    assert found.spilled <= SPILLED[name], found


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", targets.TARGETS)
def test_ordinary_features(kernel: str, name: str) -> None:
    check(kernel, name, "traces")


@pytest.mark.parametrize(
    ("kernel", "case"),
    [
        *((kernel, "squares") for kernel in ("measure", "correlate")),
        *((kernel, "bfloat16") for kernel in ("measure", "gradient")),
        *((kernel, "tf32") for kernel in ("measure", "correlate", "gradient")),
        ("gradient", "unconditional"),
    ],
)
def test_other_features(kernel: str, case: str) -> None:
    check(kernel, "H100", case)


def test_a_gradient_in_little_memory() -> None:
    """Where not all coefficients fit, they are made for each block of channels."""
    target = targets.Target(89, 64 * 1024)
    calls = targets.launched(target, ORDINARY, PAPER)
    found = targets.compiled(*calls["gradient"], target)
    assert found.shared <= target.shared
    assert not found.spilled


@pytest.mark.parametrize("kernel", ["measure", "gradient"])
def test_many_samples_fit_the_least_memory(kernel: str) -> None:
    """Where they are too many for the registers, spills are allowed, failing launches are not."""
    target = targets.TARGETS["RTX 4090"]
    calls = targets.launched(target, (128, 128, 128, 64), RELEASE)
    assert targets.compiled(*calls[kernel], target).shared <= target.shared


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 1, 0, 1), (2, 1, 0, 1)], ids=str)
def test_one_of_everything(sizes: tuple[int, int, int, int]) -> None:
    """A whole number that is 1 is a constant to a kernel, which has no method of a value."""
    target = targets.TARGETS["H100"]
    for readings in (PAPER, RELEASE):
        calls = targets.launched(
            target, sizes, readings, vectors=(1,), labels=1, temperatures=(0.05,)
        )
        for kernel in KERNELS:
            targets.compiled(*calls[kernel], target)
