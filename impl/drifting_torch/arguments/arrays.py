"""Arrays of other libraries as tensors: those that NumPy and JAX write to files among them.

NumPy itself is not imported; its arrays bring what is needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FOREIGN = {
    name: getattr(torch, name)
    for name in (
        "bfloat16",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    )
    if hasattr(torch, name)
}
"""PyTorch's dtypes of the numbers that NumPy has from ``ml_dtypes``, as JAX does, by name."""


def tensor_of(value: object) -> Tensor:
    """A tensor of its own of the real numbers in an array, or in lists of lists of them.

    ``TypeError`` says what else it is, as "a str, expected an array of numbers".
    """
    if isinstance(value, Tensor):
        found = value.detach()
    elif (as_array := getattr(value, "__array__", None)) is not None:
        found = _of_array(as_array())  # element by element otherwise, for JAX's
    else:
        try:
            found = torch.tensor(value, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{_kind(value)}, expected an array of numbers") from error
    if found.dtype.is_complex:
        raise TypeError(f"of dtype {found.dtype}, expected real numbers")
    return found


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _of_array(array: Any) -> Tensor:
    kind = array.dtype
    if kind.name in FOREIGN:
        return _of_bits(array, FOREIGN[kind.name])
    if kind.kind == "V" and kind.itemsize == 2 and kind.names is None and kind.subdtype is None:
        return _of_bits(array, torch.bfloat16)
    if kind.kind not in "fiubc":
        lost = kind.name.startswith("void") and kind.names is None
        hint = ": NumPy's files lose the dtypes of ml_dtypes" if lost else ""
        raise TypeError(f"an array of dtype {kind}, expected an array of numbers{hint}")
    wide = kind.kind == "f" and kind.itemsize > 8
    # Bytes in this machine's order, and strides above 0: PyTorch has no others.
    plain = array.astype("float64" if wide else kind.newbyteorder("="), order="C")
    return torch.tensor(plain, device="cpu")


def _of_bits(array: Any, dtype: torch.dtype) -> Tensor:
    """Numbers of a dtype that NumPy knows nothing of, by their bits."""
    return torch.tensor(array.view(f"int{8 * dtype.itemsize}").copy(), device="cpu").view(dtype)
