"""Checks of what callers hand in: every error names the argument, its value and what is right.

Shapes, dtypes and devices are always checked. Values (finiteness, signs) are read only where that
costs no host synchronisation, or where ``validate=True`` asks for it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex, TypeGuard

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch.arguments.transforms import is_transformed

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_readings(readings: object) -> Readings:
    """Demand a :class:`Readings`; a string is refused with the way to parse it."""
    if not isinstance(readings, Readings):
        raise TypeError(
            f"readings is {readings!r}, expected a drifting_spec.Readings "
            "(drifting_spec.parse_readings reads 'paper,axis=reading')"
        )
    return readings


def check_tensor(name: str, value: object, letters: str) -> Tensor:
    """Demand a floating tensor whose rank is that of ``letters``, as ``"L N V C"``."""
    rank = len(letters.split())
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is {type(value).__name__}, expected a tensor [{letters}]")
    if value.dtype not in FLOATING:
        raise TypeError(
            f"{name} has dtype {value.dtype}, expected float64, float32, bfloat16 or float16"
        )
    if value.dim() != rank:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected {rank} dimensions [{letters}]"
        )
    for size, letter in zip(value.shape, letters.split(), strict=True):
        if size == 0:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected at least one along {letter}"
            )
    return value


def check_like(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Demand the dtype and the device of another argument."""
    if value.dtype != other.dtype:
        raise TypeError(
            f"{name} has dtype {value.dtype}, expected {other.dtype} as {other_name} has"
        )
    if value.device != other.device:
        raise ValueError(f"{name} is on {value.device}, expected {other.device} as {other_name} is")


def check_samples(name: str, value: object, generated: Tensor) -> Tensor:
    """Demand samples [L, ·, V, C] that agree with ``generated`` in everything but their number."""
    tensor = check_tensor(name, value, "L N V C")
    check_like(name, tensor, "generated", generated)
    labels, _, vectors, channels = generated.shape
    wanted = (labels, tensor.shape[1], vectors, channels)
    if tuple(tensor.shape) != wanted:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, expected {wanted}: the labels, vectors and "
            f"channels of generated {tuple(generated.shape)}"
        )
    return tensor


def check_weight(name: str, value: object, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Demand kernel weights of ``shape``, one for each label and sample."""
    if not isinstance(value, Tensor):
        either = f" or ({shape[0]},)" if name == "unconditional_weight" else ""
        raise TypeError(
            f"{name} is {type(value).__name__}, expected a tensor of shape {shape}{either}"
        )
    if not value.is_floating_point():
        raise TypeError(f"{name} has dtype {value.dtype}, expected a floating dtype")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
    if value.device != device:
        raise ValueError(f"{name} is on {value.device}, expected {device} as generated is")
    return value.detach()


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether this is a number, which a bool is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_integer(name: str, value: object, least: int = 1) -> int:
    """Demand an integer, Python's or NumPy's, of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    # An integer stays what it is: torch.compile may hold a symbol.
    number = value if isinstance(value, int) else operator.index(value)
    if number < least:
        raise ValueError(f"{name} is {number}, expected at least {least}")
    return number


def check_temperatures(temperatures: object) -> tuple[float, ...]:
    """Demand a non-empty sequence of finite positive numbers; they may repeat."""
    if isinstance(temperatures, (str, Tensor)) or not isinstance(temperatures, Sequence):
        raise TypeError(
            f"temperatures is {temperatures!r}, expected a sequence of numbers as (0.02, 0.05, 0.2)"
        )
    if not temperatures:
        raise ValueError("temperatures is empty, expected at least one")
    return tuple(check_temperature("temperatures", value) for value in temperatures)


def check_temperature(name: str, value: object) -> float:
    """Demand one finite positive number."""
    if not is_number(value):
        raise TypeError(f"{name} holds {value!r}, expected a number")
    if not 0 < value < math.inf:  # not by isfinite: torch.compile may hold a symbol
        raise ValueError(f"{name} holds {value!r}, expected a finite number above 0")
    return float(value)


def check_factors(attraction: object, repulsion: object) -> tuple[float, float]:
    """Demand the factors a and b of V = a·V⁺ − b·V⁻: finite, none negative, not both 0."""
    found: list[float] = []
    for name, value in (("attraction", attraction), ("repulsion", repulsion)):
        if not is_number(value):
            raise TypeError(f"{name} is {value!r}, expected a number (1.0 is the paper's)")
        if not 0 <= value < math.inf:  # not by isfinite: torch.compile may hold a symbol
            raise ValueError(f"{name} is {value!r}, expected a finite number of at least 0")
        found.append(float(value))
    if not (found[0] > 0 or found[1] > 0):
        raise ValueError("attraction and repulsion are both 0, expected one of them above 0")
    return found[0], found[1]


PRECISIONS = ("float32", "tf32")


def check_precision(precision: object) -> str:
    """Demand one of the precisions of the GPU kernels' products."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected 'float32' or 'tf32'")
    return str(precision)


def reads_values(tensor: Tensor, validate: bool | None) -> bool:
    """Whether values may be looked at: on the CPU unless traced, elsewhere only when asked for."""
    if validate is None:
        return tensor.device.type == "cpu" and not is_transformed(tensor)
    if validate and is_transformed(tensor) and not torch.compiler.is_compiling():
        raise ValueError(
            "validate is True, expected None or False where tensors have no values to look at: "
            'under torch.func, forward-mode derivatives, make_fx, FakeTensorMode and on "meta"'
        )
    return validate


def check_finite(name: str, value: Tensor) -> None:
    """Demand finite entries; one pass, and a second one only to say where the first bad one is."""
    wide = torch.float32 if value.device.type == "mps" else torch.float64
    if math.isfinite(value.detach().sum(dtype=wide).item()):
        return
    bad = (~torch.isfinite(value.detach())).nonzero()
    if len(bad) == 0:  # finite entries whose sum overflowed
        return
    index = tuple(int(position) for position in bad[0])
    raise ValueError(
        f"{name}{list(index)} is {float(value.detach()[index])}, expected finite entries "
        f"({len(bad)} of {value.numel()} are not)"
    )


def check_not_negative(name: str, value: Tensor) -> None:
    """Demand finite weights of at least 0."""
    check_finite(name, value)
    if bool((value < 0).any()):
        index = tuple(int(position) for position in (value < 0).nonzero()[0])
        raise ValueError(
            f"{name}{list(index)} is {float(value[index])}, expected weights of at least 0"
        )
