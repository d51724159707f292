"""Errors of the GPU kernels at many sizes: ``python -m benchmarks.gpu_sizes [N,P,U,C,V,L ...]``.

Every size has a process of its own, since a kernel that reads beyond its memory ends all work of
its process on the device. The exit status is 1 if a size fails or is further off than LIMIT.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu import eagerly
from drifting_torch import DriftingLossOutput, KernelsUnavailableWarning, drifting_loss

LIMIT = 1e-5
"""Largest relative error of a gradient against PyTorch's operators in float64."""

TEMPERATURES = (0.02, 0.05, 0.2)

SIZES = (
    "33,9,4,160,2,2",
    "64,16,16,160,2,2",
    "33,9,0,160,2,2",
    "33,9,4,64,2,2",
    "33,40,4,160,2,2",
    "17,9,4,160,2,2",
    "33,9,20,160,2,2",
    "33,9,4,150,2,2",
    "64,32,16,512,2,2",
    "128,16,16,512,2,1",
    "128,128,16,512,2,1",
    "64,64,128,512,2,1",
    "64,64,16,256,16,2",
    "64,64,16,2048,4,1",
    "64,64,16,4096,1,1",
    "64,64,0,4096,1,1",
)
"""Samples N, P, U, channels, vectors and labels."""


def solved(given: dict[str, Tensor], dtype: torch.dtype) -> tuple[DriftingLossOutput, Tensor]:
    """Loss and gradient in a dtype."""
    cast = {key: value.to(dtype) for key, value in given.items()}
    leaf = cast["generated"].detach().requires_grad_()
    found = drifting_loss(
        leaf,
        cast["positive"],
        cast.get("unconditional"),
        cast.get("unconditional_weight"),
        temperatures=TEMPERATURES,
    )
    found.loss.backward()
    assert leaf.grad is not None
    return found, leaf.grad


def far(one: Tensor, other: Tensor) -> float:
    """Relative error."""
    return float((one.double() - other).norm() / other.norm())


def measure(text: str, device: str) -> bool:
    """Print one size's errors; whether the gradient's is within the limit."""
    count, positives, others, channels, vectors, labels = map(int, text.split(","))

    def draw(number: int, seed: int) -> Tensor:
        source = torch.Generator().manual_seed(seed)
        return torch.randn(labels, number, vectors, channels, generator=source).to(device)

    given = {"generated": draw(count, 1), "positive": draw(positives, 2) + 0.3}
    if others:
        given["unconditional"] = draw(others, 3)
        given["unconditional_weight"] = torch.full((labels, others), 2.0, device=device)
    warnings.simplefilter("error", category=KernelsUnavailableWarning)
    found, gradient = solved(given, torch.float32)
    with eagerly():
        exact, slope = solved(given, torch.float64)
        plain = far(solved(given, torch.float32)[1], slope)
    error = far(gradient, slope)
    names = ("feature_scale", "drift_scale", "per_label")
    parts = (f"{name} {far(getattr(found, name), getattr(exact, name)):.1e}" for name in names)
    print(f"{text}: gradient {error:.1e} (operators {plain:.1e}), {', '.join(parts)}")
    return error <= LIMIT


def process(text: str, device: str) -> tuple[bool, str]:
    """Measure one size in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu_sizes", "--here", "--device", device, text]
    environment = os.environ | {"CUDA_LAUNCH_BLOCKING": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = found.stdout.strip() or f"{text}: {found.stderr.strip().splitlines()[-1][:200]}"
    return found.returncode == 0, said


def main() -> None:
    """Measure the sizes asked for, else all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES, metavar="N,P,U,C,V,L")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=6, help="at once")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    right = True
    if options.here:
        for each in options.sizes:
            right &= measure(each, options.device)
    else:
        with ThreadPoolExecutor(options.processes) as pool:
            measured = pool.map(partial(process, device=options.device), options.sizes)
            for good, said in measured:
                print(f"{'ok  ' if good else 'FAIL'} {said}", flush=True)
                right &= good
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
