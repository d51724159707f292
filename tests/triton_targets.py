"""Compiles the GPU kernels for GPUs that are not there, with the arguments of real launches."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from drifting_spec import Readings
from drifting_torch.kernels import gpu, tiles
from drifting_torch.kernels.gpu.segments import COUNTS
from drifting_torch.kernels.launches import Kept, Launches
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.weights import TargetWeights

TEMPERATURES = (0.02, 0.05, 0.2)
_TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
}


@dataclass(frozen=True)
class Target:
    """A GPU's compute capability and the shared memory that a program may ask for."""

    capability: int
    shared: int


TARGETS = {
    "A100": Target(80, 163 * 1024),
    "RTX 4090": Target(89, 99 * 1024),
    "H100": Target(90, 227 * 1024),
}


@dataclass(frozen=True)
class Compiled:
    """What a compiled kernel takes: bytes of shared memory, registers and bytes spilled."""

    shared: int
    registers: int
    spilled: int


class _Recorder:
    """Stands for a kernel and notes what it is launched with."""

    def __init__(self, kernel: Any, calls: dict[str, tuple[Any, dict[str, Any]]]) -> None:
        self.kernel, self.calls = kernel, calls

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **named: Any) -> None:
            named |= dict(zip(self.kernel.arg_names, arguments, strict=False))
            self.calls[self.kernel.__name__] = (self.kernel, named)

        return launch


def launched(
    target: Target,
    sizes: tuple[int, int, int, int],
    readings: Readings,
    dtype: torch.dtype = torch.float32,
    *,
    vectors: tuple[int, ...] = (64, 1),
    labels: int = 2,
    temperatures: tuple[float, ...] = TEMPERATURES,
    **options: Any,
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The launches of a bucket with N, P, U samples and C channels: kernels and arguments."""
    count, positives, others, channels = sizes
    weight = torch.empty((labels, positives + count + others), device="meta") if others else None

    def draw(number: int, width: int) -> torch.Tensor:
        return torch.empty((labels, number, width, channels), dtype=dtype, device="meta")

    problems = [
        replace(
            problem_of(
                draw(count, width),
                draw(positives, width),
                None,
                TargetWeights(),
                temperatures=temperatures,
                readings=readings,
                validate=False,
                **options,
            ),
            unconditional=draw(others, width) if others else None,
            weight=weight,
        )
        for width in vectors
    ]
    calls: dict[str, tuple[Any, dict[str, Any]]] = {}
    kernels = {
        name: _Recorder(getattr(gpu, name), calls)
        for name in ("measure", "scale", "correlate", "drift", "gradient")
    }
    recording = SimpleNamespace(**kernels, told=gpu.told)
    launches = Launches(problems, recording)  # pyright: ignore[reportArgumentType]
    launches.tile = lambda kernel: tiles.fitting(  # pyright: ignore[reportAttributeAccessIssue]
        kernel, sizes, launches.gram, target.shared
    )
    distances, gram, means, sums = launches.measure()
    _, units = launches.scale(sums)
    normalizers, products = launches.correlate(
        distances, gram, means, units, crossed=launches.crossed
    )
    drift = launches.drift(products, mean=True)
    arriving = list(drift.losses.unbind())
    outs = [torch.empty_like(each.generated) for each in problems]
    kept = Kept(distances, means, normalizers, units, drift.inverses)
    launches.gradient(
        kept, drift.shares, range(len(problems)), arriving, [None] * len(problems), outs
    )
    return calls


def compiled(kernel: Any, arguments: dict[str, Any], target: Target) -> Compiled:
    """Compile a kernel as a launch with these arguments would."""
    signature: dict[str, Any] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}

    def kind(value: Any, path: tuple[int, ...], special: bool) -> Any:
        if value is None:
            constants[path] = None
            return "constexpr"
        if isinstance(value, tuple):
            return tuple(kind(each, (*path, at), special) for at, each in enumerate(value))
        if isinstance(value, torch.Tensor):
            attributes[path] = [["tt.divisibility", 16]]
            return _TYPES[value.dtype]
        if isinstance(value, float):
            return "fp32"
        if special and value == 1:
            constants[path] = 1
            return "constexpr"
        if special and value % 16 == 0:
            attributes[path] = [["tt.divisibility", 16]]
        return "i32"

    for index, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr:
            constants[index,] = value
            signature[parameter.name] = "constexpr"
        else:
            special = parameter.name not in COUNTS
            signature[parameter.name] = kind(value, (index,), special)
    options = {name: arguments[name] for name in ("num_warps", "num_stages") if name in arguments}
    found = triton.compile(
        ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", target.capability, 32),
        options=options,
    )
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(found.asm["cubin"])
        usage = subprocess.run(
            [str(tools / "cuobjdump"), "-res-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    used = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
    spilled = int(used["STACK"]) + int(used["LOCAL"])
    return Compiled(found.metadata.shared, int(used["REG"]), spilled)
