"""Arrays of PyTorch, JAX, MLX and NumPy: NumPy in, the framework's to the code, NumPy out.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9; a framework is imported only if the
code under judgement uses it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from drifting_parity.forms.layout import FormError, NotTaken

Run = Callable[..., Any]
"""From the framework's arrays to what the code returned, the value picked from it."""


def imported(name: str) -> Any:
    """A framework's module, none of which this project depends on."""
    return importlib.import_module(name)


def to_numpy(value: Any) -> Any:
    """A framework's array as float64 of NumPy, by ``detach``, ``__array__`` or DLPack."""
    if hasattr(value, "detach"):
        value = value.detach().to("cpu")
        value = value.double() if value.is_floating_point() else value
        return np.array(value.numpy(), dtype=np.float64)
    if isinstance(value, (bool, str, bytes)) or value is None:
        raise TypeError(type(value).__name__)
    if isinstance(value, (int, float)) or hasattr(value, "__array__"):
        return np.array(value, dtype=np.float64)
    if hasattr(value, "__dlpack__"):
        return np.array(np.from_dlpack(value), dtype=np.float64)
    raise TypeError(type(value).__name__)


class NumpyArrays:
    """Code on NumPy arrays: it shows values, and no gradient."""

    name = "numpy"
    dtypes: tuple[str, ...] = ("float64", "float32")

    def devices(self) -> tuple[str, ...]:
        """Where it can run."""
        return ("cpu",)

    def array(self, value: Any, dtype: str, setting: Any) -> Any:
        """An array of the dtype; every second entry of a wider one if the setting asks so."""
        kept = np.array(value, dtype=dtype)
        if not setting.strided or kept.ndim < 2:
            return kept
        wide = np.full((*kept.shape[:-2], kept.shape[-1], 2 * kept.shape[-2]), 7.0, dtype)
        view = np.swapaxes(wide, -1, -2)[..., ::2, :]
        view[...] = kept
        return view

    def region(self, setting: Any) -> Any:
        """The context in which the code is called."""
        if setting.autocast:
            raise NotTaken(f"{self.name} has no autocast")
        return contextlib.nullcontext()

    def value(
        self, run: Run, arrays: list[Any], setting: Any, key: Any = None, numbers: Any = ()
    ) -> Any:
        """Call without differentiating; ``key`` and ``numbers`` as for :meth:`gradients`."""
        with self.region(setting):
            return run(arrays)

    def gradients(
        self, run: Run, arrays: list[Any], setting: Any, factor: float, key: Any = None,
        numbers: Any = (),
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """The value, and the gradient of ``factor`` × the sum of its entries in every array.

        Calls with the same ``key`` differ in the arrays' entries and in the ``numbers`` alone,
        the temperatures. ``run(arrays)`` takes these; ``run(arrays, numbers)`` takes others.
        """
        raise NotTaken("code on NumPy arrays shows no gradient")


class TorchArrays(NumpyArrays):
    """PyTorch: gradients by ``backward``."""

    name = "torch"

    def devices(self) -> tuple[str, ...]:
        """Where it can run."""
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return ("cpu", *(name for name, present in there.items() if present))

    def array(self, value: Any, dtype: str, setting: Any) -> Any:
        """A tensor; a strided view if the setting asks so."""
        import torch

        tensor = torch.tensor(value, dtype=getattr(torch, dtype), device=setting.device)
        if not setting.strided or tensor.dim() < 2:
            return tensor
        shape = (*tensor.shape[:-2], tensor.shape[-1], 2 * tensor.shape[-2])
        view = torch.full(shape, 7.0).to(tensor).transpose(-1, -2)[..., ::2, :]
        view.copy_(tensor)
        return view

    def region(self, setting: Any) -> Any:
        """Autocast, if the setting asks so."""
        import torch

        if setting.autocast is None:
            return contextlib.nullcontext()
        kind = torch.device(setting.device).type
        return torch.autocast(kind, dtype=getattr(torch, setting.autocast))

    def gradients(
        self, run: Run, arrays: list[Any], setting: Any, factor: float, key: Any = None,
        numbers: Any = (),
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """Call, then ``backward``; an array that no gradient reached has zeros."""
        for array in arrays:
            array.requires_grad_()
        with self.region(setting):
            value = run(arrays)
        if not hasattr(value, "requires_grad"):
            raise FormError(f"returned {kind_of(value)}, expected a tensor to differentiate")
        if value.requires_grad:
            (value.sum() * factor).backward()
        slopes = [
            np.zeros(tuple(array.shape)) if array.grad is None else to_numpy(array.grad)
            for array in arrays
        ]
        return value, slopes


QUICKLY = (
    {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
    },
    {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)
"""How XLA compiles code that is to be judged, and hardly run: the first that this version knows.

Most shapes are seen once or twice: what optimising them takes would not come back.
"""


class JaxArrays(NumpyArrays):
    """JAX in double precision: gradients by ``jax.value_and_grad``, compiled where it can be."""

    name = "jax"

    def __init__(self) -> None:
        jax = imported("jax")
        jax.config.update("jax_enable_x64", True)
        self._compiled: dict[Any, Any] = {}
        self._compared: set[int] = set()
        self.compiles = self.frees = True
        self._quickly: dict[str, Any] | None = None

    def array(self, value: Any, dtype: str, setting: Any) -> Any:
        """An array of JAX; it has no strides."""
        return imported("jax.numpy").asarray(value, dtype=dtype)

    def gradients(
        self, run: Run, arrays: list[Any], setting: Any, factor: float, key: Any = None,
        numbers: Any = (),
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """Compiled for each shape once; not at all if the code does not allow it."""
        jax = imported("jax")

        def total(by: Any, free: Any, *given: Any) -> tuple[Any, Any]:
            value = run(list(given), free)
            if not hasattr(value, "sum"):
                raise FormError(f"returned {kind_of(value)}, expected an array to differentiate")
            return value.sum() * by, value

        places = tuple(range(2, len(arrays) + 2))
        slopes_too = jax.value_and_grad(total, places, has_aux=True)
        with self.region(setting):
            (_, value), slopes = self._asked(
                slopes_too, ("slopes", key), (factor,), numbers, arrays
            )
        return value, [to_numpy(slope) for slope in slopes]

    def value(
        self, run: Run, arrays: list[Any], setting: Any, key: Any = None, numbers: Any = ()
    ) -> Any:
        """Call without differentiating, compiled for each shape once if the code allows it."""

        def called(free: Any, *given: Any) -> Any:
            return run(list(given), free)

        with self.region(setting):
            return self._asked(called, ("value", key), (), numbers, arrays)

    def _asked(self, function: Any, key: Any, before: Any, numbers: Any, arrays: list[Any]) -> Any:
        """Compiled with the ``numbers`` free where that gives what it gives with them fixed.

        They are free as long as the code takes numbers whose values it is not told; for each
        count of them both ways are compared once.
        """
        key = (key, tuple((array.shape, str(array.dtype)) for array in arrays))
        if not (numbers and self.compiles and self.frees):
            return self._fixed(function, (key, numbers), before, arrays)
        try:
            found = self._compiled_as((key, len(numbers)), function)(*before, numbers, *arrays)
        except Exception:  # whatever it raises with its numbers known is raised below
            self.frees = False
            return self._fixed(function, (key, numbers), before, arrays)
        if len(numbers) in self._compared:
            return found
        known = self._fixed(function, (key, numbers), before, arrays)
        self.frees = _alike(found, known)
        self._compared.add(len(numbers))
        return known

    def _fixed(self, function: Any, key: Any, before: Any, arrays: list[Any]) -> Any:
        """Compiled with all numbers known, or not at all."""
        jax = imported("jax")
        if self.compiles:
            try:
                return self._compiled_as(key, function)(*before, None, *arrays)
            except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
                self.compiles = False
        return function(*before, None, *arrays)

    def _compiled_as(self, key: Any, function: Any) -> Any:
        if key not in self._compiled:
            self._compiled[key] = imported("jax").jit(function, **self._options())
        return self._compiled[key]

    def _options(self) -> dict[str, Any]:
        """How to compile quickly; nothing where this version of JAX knows no such options."""
        if self._quickly is None:
            self._quickly = {}
            for options in QUICKLY:
                with contextlib.suppress(Exception):
                    imported("jax").jit(abs, compiler_options=options)(1.0)
                    self._quickly = {"compiler_options": options}
                    break
        return self._quickly


def _alike(one: Any, other: Any) -> bool:
    """Whether two answers of JAX are equal but for rounding."""
    leaves = imported("jax").tree_util.tree_leaves
    pairs = [(to_numpy(a), to_numpy(b)) for a, b in zip(leaves(one), leaves(other))]  # noqa: B905 -- Python 3.9 has no strict
    return len(leaves(one)) == len(leaves(other)) and all(
        a.shape == b.shape
        and np.allclose(
            a, b, rtol=0.0, equal_nan=True,
            atol=(1e-9 if b.dtype == np.float64 else 1e-4) * float(np.abs(b).max(initial=0.0)),
        )
        for a, b in pairs
    )  # fmt: skip


class MlxArrays(NumpyArrays):
    """MLX, which computes gradients in single precision: ``mlx.core.value_and_grad``."""

    name = "mlx"
    dtypes: tuple[str, ...] = ("float32",)

    def array(self, value: Any, dtype: str, setting: Any) -> Any:
        """An array of MLX."""
        mx = imported("mlx.core")
        return mx.array(np.asarray(value), dtype=getattr(mx, dtype))

    def gradients(
        self, run: Run, arrays: list[Any], setting: Any, factor: float, key: Any = None,
        numbers: Any = (),
    ) -> tuple[Any, list[Any]]:  # fmt: skip
        """Call and differentiate."""
        mx = imported("mlx.core")
        kept: list[Any] = []

        def total(*given: Any) -> Any:
            value = run(list(given))
            kept.append(value)
            return value.sum() * factor

        with self.region(setting):
            _, slopes = mx.value_and_grad(total, list(range(len(arrays))))(*arrays)
        return kept[-1], [to_numpy(slope) for slope in slopes]


FRAMEWORKS: dict[str, Callable[[], NumpyArrays]] = {
    "torch": TorchArrays,
    "jax": JaxArrays,
    "mlx": MlxArrays,
    "numpy": NumpyArrays,
}


def kind_of(value: Any) -> str:
    """The type of a value, and its shape if it has one, in words."""
    if value is None:
        return "None"
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")


def framework(name: str | None, function: Any) -> NumpyArrays:
    """The named framework, or that of the module in which the function was written."""
    if name is None:
        name = _used_by(function)
    if name not in FRAMEWORKS:
        raise FormError(f"framework is {name!r}, expected one of {', '.join(FRAMEWORKS)}")
    try:
        return FRAMEWORKS[name]()
    except ImportError as problem:
        raise FormError(f"framework is {name!r}, which does not import: {problem}") from None


def _used_by(function: Any) -> str:
    """By the modules that the function's own module imported, then by those that these import."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__module__") or not hasattr(function, "__name__"):
        function = type(function)
    home = sys.modules.get(getattr(function, "__module__", "") or "")
    names = getattr(function, "__globals__", None) or (vars(home) if home else {})
    roots = {_root(value) for value in list(names.values())}
    roots |= {_root(base) for base in getattr(function, "__mro__", ())}
    further = {
        _root(inner)
        for value in list(names.values())
        if _root(value) not in ("numpy", "scipy", "builtins")
        for inner in list(
            (vars(value) if inspect.ismodule(value) else getattr(value, "__globals__", {})).values()
        )
    }
    for known in (roots, further):
        for name in ("torch", "jax", "mlx"):
            if name in known:
                return name
        if "numpy" in known:
            return "numpy"
    return next((name for name in ("torch", "jax", "mlx") if name in sys.modules), "numpy")


def _root(value: Any) -> str:
    """The package that a module, a class or a function comes from."""
    origin = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
    return str(origin).partition(".")[0]
