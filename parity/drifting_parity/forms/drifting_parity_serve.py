"""Put your code before drifting-parity, from any Python with NumPy (3.9 or later).

    import drifting_parity_serve as parity
    from mine import drifting_loss

    parity.serve(parity.loss(drifting_loss, layout="sample channel"))

and then, where drifting-parity is installed:

    drifting-parity report --implementation "command:/path/to/python serve_mine.py"

Written by ``python -m drifting_parity.forms.bundle`` from the modules of ``drifting_parity.forms``:
change those, not this. What a layout, a form and their options are is said at their classes.
"""

# ruff: noqa -- written from modules that are checked themselves
# pyright: basic
# fmt: off

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Callable, Mapping
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import contextlib
import functools
import importlib
import inspect
import json
import numpy as np
import os
import re
import socket
import struct
import sys
import traceback


# In which order code takes the axes of its samples: ``label vector sample channel`` and others.

AXES = ("label", "sample", "vector", "channel")


class NotTaken(Exception):  # noqa: N818 -- no error: a case that this call form cannot put
    """The call form cannot take this case; the message says why."""


class FormError(Exception):
    """A call form that cannot work, in one sentence: what it got and what would be right."""


class Layout:
    """A parsed layout. Raises :class:`FormError` for an unknown axis, or one that comes twice."""

    def __init__(self, text: Any) -> None:
        self.text = text
        parts = re.findall(r"\([^()]*\)|[^\s()]+", text) if isinstance(text, str) else []
        self.groups = [part.strip("()").split() for part in parts]
        self.axes = [axis for group in self.groups for axis in group if axis != "1"]
        unknown = [axis for axis in self.axes if axis not in AXES]
        broken = re.sub(r"\([^()]*\)", "", str(text))
        if unknown or "(" in broken or ")" in broken or not self.axes:
            what = f": {unknown[0]!r} is no axis" if unknown else ""
            raise FormError(
                f"layout is {text!r}{what}, expected the axes {', '.join(AXES)} in the order of "
                "the code, as in 'label vector sample channel' or '(label vector) sample channel'"
            )
        if len(set(self.axes)) < len(self.axes):
            raise FormError(f"layout is {text!r}, which names an axis twice")
        for axis in ("sample", "channel"):
            if axis not in self.axes:
                raise FormError(f"layout is {text!r}, which lacks the axis {axis}")

    def __contains__(self, axis: str) -> bool:
        return axis in self.axes

    def pack(self, array: Any, axes: tuple[str, ...] = AXES) -> Any:
        """Bring an array with the given axes into this layout, those that it lacks left out."""
        for axis, size in zip(axes, array.shape):  # noqa: B905 -- Python 3.9 has no strict
            if axis not in self.axes and size != 1:
                raise NotTaken(f"the code takes one {axis}, and the case has {size}")
        groups = [[axis for axis in group if axis in axes] for group in self.groups]
        order = [axis for group in groups for axis in group]
        absent = [axis for axis in axes if axis not in order]
        sizes = dict(zip(axes, array.shape))  # noqa: B905 -- likewise
        moved = np.transpose(array, [axes.index(axis) for axis in order + absent])
        kept = [
            group
            for group, whole in zip(groups, self.groups)  # noqa: B905 -- likewise
            if group or (len(axes) == len(AXES) and whole == ["1"])
        ]
        return moved.reshape([int(np.prod([sizes[axis] for axis in group])) for group in kept])

    def unpack(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Bring an array of this layout back to [label, sample, vector, channel] of that shape."""
        sizes = dict(zip(AXES, shape))  # noqa: B905 -- likewise
        order = [axis for group in self.groups for axis in group if axis != "1"]
        absent = [axis for axis in AXES if axis not in order]
        whole = np.reshape(array, [sizes[axis] for axis in order + absent])
        return np.transpose(whole, [(order + absent).index(axis) for axis in AXES])

    def batch(self) -> tuple[str, ...]:
        """Labels and vectors as far as the code has them, in its order: what a loss may list."""
        return tuple(axis for axis in self.axes if axis in {"label", "vector"})

    def sample_axis(self) -> int:
        """Which axis of the code's arrays counts samples; those need an axis of their own."""
        if ["sample"] not in self.groups:
            raise FormError(f"layout is {self.text!r}, and samples need an axis of their own")
        return self.groups.index(["sample"])


# Arrays of PyTorch, JAX, MLX and NumPy: NumPy in, the framework's to the code, NumPy out.

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


# Which argument of a function stands for what: by the names that people give them.

SYNONYMS: dict[str, tuple[str, ...]] = {
    "generated": (
        *("generated", "gen", "x", "xgen", "genx", "fake", "fakes", "xfake", "phix", "genfeat"),
        *("xfeat", "featgen", "genfeats", "generatedfeatures", "genfeatures", "phigen", "feats"),
        *("xgenerated", "generatedsamples", "oldgen", "q", "featx", "xfeats", "fgen", "gfeat"),
    ),
    "positive": (
        *("positive", "positives", "pos", "ypos", "xpos", "y", "real", "reals", "xreal", "yreal"),
        *("posfeat", "featpos", "posfeats", "positivefeatures", "posfeatures", "phipos", "data"),
        *("fixedpos", "realfeatures", "p", "featy", "ypositive", "positivesamples", "fpos"),
    ),
    "negative": (
        *("negative", "negatives", "neg", "yneg", "xneg", "negfeat", "featneg", "negfeats"),
        *("negativefeatures", "negfeatures", "phineg", "fixedneg", "ynegative", "fneg"),
    ),
    "unconditional": (
        *("unconditional", "uncond", "unc", "yunc", "xunc", "yuncond", "xuncond", "uncondfeat"),
        *("uncfeat", "featunc", "unconditionalfeatures", "uncfeatures", "uncondfeatures"),
    ),
    "temperatures": (
        *("temperatures", "temps", "taus", "taulist", "rlist", "templist", "temperaturelist"),
        *("ts", "temperaturevalues", "tauvalues"),
    ),
    "temperature": ("temperature", "temp", "tau", "T"),
    "unconditional_weight": (
        *("unconditionalweight", "uncondweight", "uncweight", "weightunc", "wunc", "wuncond"),
        *("weightneg", "negweight", "wneg", "negativeweight", "negweights", "uncweights"),
    ),
    "negative_weight": ("negativeweight", "negweight", "weightneg", "wneg", "negweights"),
    "generated_weight": ("generatedweight", "genweight", "weightgen", "wgen", "genweights"),
    "positive_weight": ("positiveweight", "posweight", "weightpos", "wpos", "posweights"),
    "mask": ("maskself", "selfmask", "excludeself", "maskdiagonal", "ignoreself"),
    "generated_samples": ("generatedsamples", "rawgen", "rawgenerated", "xraw", "genraw"),
    "positive_samples": ("positivesamples", "rawpos", "rawpositive", "posraw"),
    "unconditional_samples": ("unconditionalsamples", "rawunc", "rawuncond", "uncraw"),
    "raw_weight": ("rawweight", "vanillaweight"),
}
"""Role → names of arguments, in lower case and without underscores."""


def bare(name: str) -> str:
    """A name in lower case without underscores."""
    return name.replace("_", "").lower()


def _usual(name: str, usual: tuple[str, ...]) -> bool:
    """Whether a name is one of the usual ones; a lone letter in its own case: t is a time."""
    if len(name) == 1 and name.lower() in ("t", "r"):
        return name in usual
    return bare(name) in {bare(item) for item in usual}


class Signature:
    """The arguments of a function and the roles that they play.

    ``names`` gives a role's argument where it is not one of the usual ones, None for a role that
    the code does not take; ``given`` are arguments that the form fills by itself. Raises
    :class:`FormError` if an argument without a default is left, or a needed role has none.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        roles: tuple[str, ...],
        names: Mapping[str, Any],
        given: Mapping[str, Any],
        needed: tuple[str, ...],
        usual: Mapping[str, tuple[str, ...]] = SYNONYMS,
    ) -> None:
        self.function = function
        self.usual = usual
        self.roles = roles
        unknown = [role for role in names if role not in roles]
        if unknown:
            raise FormError(
                f"names has {unknown[0]!r}, expected some of {', '.join(roles)}, "
                "each with the name of the argument that takes it"
            )
        parameters = _parameters(function)
        self._open = any(item.kind is item.VAR_KEYWORD for item in parameters)
        self.known = {
            item.name: item
            for item in parameters
            if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
        }
        for what, listed in (("names", names.values()), ("constants", given)):
            for name in listed:
                if name is not None and name not in self.known and not self._open:
                    raise FormError(
                        f"{what} has the argument {name!r}, which {place(function)} does not have: "
                        f"it takes {', '.join(self.known)}"
                    )
        self.argument = self._assign(roles, names, given)
        self._require(needed, given)

    def _assign(
        self, roles: tuple[str, ...], names: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, str]:
        argument = {role: name for role, name in names.items() if name is not None}
        taken = {*argument.values(), *given}
        for role in roles:
            if role in names:
                continue
            usual = (role, *self.usual.get(role, ()))
            for name in self.known:
                if name not in taken and _usual(name, usual):
                    argument[role] = name
                    taken.add(name)
                    break
        return argument

    def _require(self, needed: tuple[str, ...], given: Mapping[str, Any]) -> None:
        filled = {*self.argument.values(), *given}
        left = [
            name
            for name, item in self.known.items()
            if item.default is item.empty and name not in filled
        ]
        if left:
            raise FormError(
                f"{place(self.function)} needs the argument {left[0]!r}, and its name does not say "
                f"what it is: say names={{'…': {left[0]!r}}} with one of the roles "
                f"{', '.join(self.usual)}, or constants={{{left[0]!r}: …}}"
            )
        for role in needed:
            if role not in self.argument:
                raise FormError(
                    f"{place(self.function)} takes {', '.join(self.known) or 'nothing'}, and none "
                    f"of them is known to be {role}: say names={{{role!r}: …}}"
                )

    def optional(self, role: str) -> bool:
        """Whether the role's argument has a default."""
        item = self.known.get(self.argument[role])
        return item is None or item.default is not item.empty

    def call(self, values: Mapping[str, Any], constants: Mapping[str, Any]) -> Any:
        """Call with a value for each role; by name, or by place where the code has no names."""
        by_name = {self.argument[role]: value for role, value in values.items()}
        by_name.update(constants)
        by_place: list[Any] = []
        for name, item in self.known.items():
            if item.kind is item.POSITIONAL_ONLY and name in by_name:
                by_place.append(by_name.pop(name))
        return self.function(*by_place, **by_name)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those of ``forward`` for a PyTorch module, which itself takes ``*args``."""
    asked = getattr(function, "forward", None) if not inspect.isroutine(function) else None
    try:
        return list(inspect.signature(asked or function).parameters.values())
    except (TypeError, ValueError):
        raise FormError(
            f"{place(function)} does not show its arguments: wrap it in a function with names, as "
            "in `def loss(generated, positive): …`"
        ) from None


def place(function: Any) -> str:
    """Name, file and line of a function, as far as they show."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        source = function if isinstance(function, type) else type(function)
        try:
            line = inspect.getsourcelines(source)[1]
            return f"{name} ({Path(inspect.getsourcefile(source) or '').name}, line {line})"
        except (OSError, TypeError):
            return str(name)
    return f"{name} ({Path(code.co_filename).name}, line {code.co_firstlineno})"


# What every call form does: bring a case to code as it wants it, and read what it answers.

Pairs = Mapping[str, Any]


class Form:
    """A function, a class to build first, or a module, and how a case is put to it.

    ``names``: role → the code's name of the argument, where it is not one of the usual ones (None:
    not taken). ``constants``: argument → value, passed along with every call. ``derived``:
    argument → function of what a case is like (``temperatures``, ``channels``, ``raw_weight``), as
    in ``derived={"config": lambda temperatures: Config(taus=temperatures)}``. ``build``: for a
    class, the keyword arguments it is built with, once; or a function of what a case is like that
    returns what is called. ``returns``: the key, attribute or place of the answer where the code
    returns several things (default: the first, or ``loss``). ``framework``: ``torch``, ``jax``,
    ``mlx`` or ``numpy`` (default: the one that the code's module imports).
    """

    method = ""
    configurable = False
    roles: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    answer = "loss"

    def __init__(
        self,
        function: Any,
        *,
        name: str = "",
        names: Pairs | None = None,
        constants: Pairs | None = None,
        derived: Mapping[str, Callable[..., Any]] | None = None,
        build: Any = None,
        returns: str | int | None = None,
        uses: str | None = None,
        dtypes: Sequence[str] = (),
    ) -> None:
        if not callable(function):
            raise FormError(f"{kind_of(function)} is no function, class or module to call")
        self.place = place(function)
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.constants = dict(constants or {})
        self.derived = dict(derived or {})
        self.returns = returns
        self.framework: NumpyArrays = framework(uses, function)
        self.dtypes = tuple(dtypes) or self.framework.dtypes
        self.devices = self.framework.devices()
        self.said: list[str] = []
        self._cache: dict[str, Any] = {}
        self._varies = callable(build) and not isinstance(build, Mapping)
        self.build: Any = build
        self.function = function
        if self._varies:
            self._covered = set(inspect.signature(self.build).parameters)
        else:
            self._covered: set[str] = set()
            self.function = _built(function, build)
        for maker in self.derived.values():
            self._covered |= set(inspect.signature(maker).parameters)
        given = {**self.constants, **self.derived}
        target = self._callee(self.example()) if self._varies else self.function
        self.names = dict(names or {})
        self.signature = Signature(target, self.roles, self.names, given, self.needed)

    def example(self) -> dict[str, Any]:
        """What a case is like, for what is built to be looked at."""
        return {"temperatures": (0.02, 0.05, 0.2), "channels": 7, "raw_weight": 1.0}

    def takes(self, role: str) -> bool:
        """Whether an argument of the code has this role."""
        return role in self.signature.argument

    def covers(self, role: str) -> bool:
        """Whether the role reaches the code, as an argument or through something built."""
        return self.takes(role) or role in self._covered

    def _callee(self, facts: Pairs) -> Any:
        if not self._varies:
            return self.function
        wanted = {name: facts[name] for name in inspect.signature(self.build).parameters}
        key = repr(sorted(wanted.items()))
        if key not in self._cache:
            self._cache[key] = self.build(**wanted)
        return self._cache[key]

    def _constants(self, facts: Pairs) -> dict[str, Any]:
        made = {
            argument: maker(**{name: facts[name] for name in inspect.signature(maker).parameters})
            for argument, maker in self.derived.items()
        }
        return {**self.constants, **made}

    # Calling.

    def ask(
        self, inputs: Pairs, facts: Pairs, setting: Any, factor: float | None
    ) -> tuple[Any, dict[str, Any]]:
        """Call with inputs by role; the value, and the gradients by role if ``factor`` is given.

        An input is an array of NumPy, a dict or list of them, or a plain value passed as it is.
        """
        leaves: list[Any] = []
        plan = {role: _planned(value, leaves) for role, value in inputs.items()}
        fine = setting.dtype if setting.dtype in ("float64", "float32") else "float32"
        kinds: list[str] = []
        for role, value in inputs.items():
            kinds += [fine if role.endswith("_weight") else setting.dtype] * _count(value)
        arrays = [
            self.framework.array(leaf, kind, setting)
            for leaf, kind in zip(leaves, kinds)  # noqa: B905 -- Python 3.9 has no strict
        ]
        before = [to_numpy(array) for array in arrays]
        signature, constants = self.signature, self._constants(facts)
        if self._varies:
            signature.function = self._callee(facts)
        _at(signature.function, setting)

        free, numbers = self._free(inputs)

        def run(given: list[Any], others: Any = None) -> Any:
            values = {role: item(given) for role, item in plan.items()}
            if others is not None:
                values[free] = others[0] if free == "temperature" else tuple(others)
            return self._picked(signature.call(values, constants))

        known = {k: v for k, v in facts.items() if not (free and k == "temperatures")}
        key = repr(
            (sorted(known.items()), [(r, _static(v)) for r, v in inputs.items() if r != free])
        )
        if factor is None:
            value, slopes = self.framework.value(run, arrays, setting, key, numbers), []
        else:
            value, slopes = self.framework.gradients(run, arrays, setting, factor, key, numbers)
        self._notice(inputs, before, arrays)
        value = self._numbers(value)
        named: dict[str, Any] = {}
        rest = list(slopes)
        for role, item in inputs.items():
            if slopes and _count(item):
                own, rest = rest[: _count(item)], rest[_count(item) :]
                if isinstance(item, Mapping):
                    named[role] = dict(zip(item, own))  # noqa: B905 -- likewise
                else:
                    named[role] = own if isinstance(item, list) else own[0]
        return value, named

    def _free(self, inputs: Pairs) -> tuple[str, tuple[float, ...]]:
        """The role and the values of numbers that nothing but the code is told."""
        if "temperatures" in self._covered:
            return "", ()
        if "temperature" in inputs:
            return "temperature", (inputs["temperature"],)
        return ("temperatures", inputs["temperatures"]) if "temperatures" in inputs else ("", ())

    def _picked(self, answer: Any) -> Any:
        """The value among what was returned."""
        if self.returns is not None:
            try:
                if isinstance(self.returns, str) and not isinstance(answer, Mapping):
                    return getattr(answer, self.returns)
                return answer[self.returns]
            except (AttributeError, IndexError, KeyError, TypeError):
                raise FormError(
                    f"{self.place} returned {kind_of(answer)}, which has no {self.returns!r}"
                ) from None
        if isinstance(answer, Mapping):
            if self.answer not in answer:
                raise FormError(
                    f"{self.place} returned a mapping of {', '.join(map(str, answer))}: say "
                    "returns='…', the key of the value"
                )
            return answer[self.answer]
        if isinstance(answer, (tuple, list)) and answer:
            return answer[0]
        inner = getattr(answer, self.answer, None)
        return inner if inner is not None and not hasattr(answer, "shape") else answer

    def _numbers(self, value: Any) -> Any:
        try:
            return to_numpy(value)
        except (TypeError, ValueError):
            raise FormError(
                f"{self.place} returned {kind_of(value)}, expected an array of numbers"
            ) from None

    def _notice(self, inputs: Pairs, before: list[Any], arrays: list[Any]) -> None:
        """Note what the code changed in place: its caller's samples."""
        names = [role for role, item in inputs.items() for _ in range(_count(item))]
        for role, kept, now in zip(names, before, arrays):  # noqa: B905 -- likewise
            if not np.array_equal(kept, to_numpy(now), equal_nan=True):
                self.said.append(f"changed its input {self.signature.argument[role]} in place")

    def conduct(self) -> list[str]:
        """Inputs that the code changed since this was last asked."""
        said, self.said = self.said, []
        return said

    # Looking at oneself.

    def smoke(self) -> None:
        """Call twice on a small case; :class:`FormError` says in a sentence what is not right."""
        first, second = self._tried(), self._tried()
        for one, two in zip(first, second):  # noqa: B905 -- likewise
            if not np.all(np.isfinite(one)):
                raise FormError(f"{self.place} returned numbers that are not finite, of a small "
                                "case of ordinary numbers")  # fmt: skip
            size = float(np.linalg.norm(one)) or 1.0
            off = float(np.linalg.norm(np.subtract(one, two))) / size
            if off > 1e-5:
                raise FormError(
                    f"{self.place} returned something else the second time, {off:.2g} of its size "
                    "off, for the same inputs: give it a fixed seed and no state that it carries "
                    "from call to call (say build=lambda …, or wrap it)"
                )

    def _tried(self) -> list[Any]:
        raise NotImplementedError

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        raise NotImplementedError


def _built(function: Any, build: Any) -> Any:
    """An object of a class, or the function itself."""
    if not isinstance(function, type):
        if build:
            raise FormError(f"build is for a class, and {place(function)} is none")
        return function
    try:
        built = function(**(build or {}))
    except TypeError as problem:
        raise FormError(
            f"{place(function)} cannot be built: {problem}; say build={{'argument': value}}"
        ) from None
    if not callable(built):
        raise FormError(f"{place(function)} builds {kind_of(built)}, which cannot be called")
    return built


def _at(function: Any, setting: Any) -> None:
    """Bring a PyTorch module to the setting's device and dtype."""
    if hasattr(function, "parameters") and hasattr(function, "to"):
        import torch

        function.to(device=setting.device, dtype=getattr(torch, setting.dtype))


def _count(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return 1
    if isinstance(value, (Mapping, list)):
        return len(value)
    return 0


def _static(value: Any) -> Any:
    """What of an input is not in the arrays."""
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, Mapping):
        return list(value)
    return len(value) if isinstance(value, list) else value


def _planned(value: Any, leaves: list[Any]) -> Callable[[list[Any]], Any]:
    """How an input is put together from the list of all arrays."""
    start, count = len(leaves), _count(value)
    if isinstance(value, np.ndarray):
        leaves.append(value)
        return lambda given: given[start]
    if isinstance(value, Mapping):
        keys = list(value)
        leaves.extend(value.values())

        def keyed(given: list[Any]) -> Any:
            return dict(zip(keys, given[start : start + count]))  # noqa: B905 -- likewise

        return keyed
    if isinstance(value, list):
        leaves.extend(value)
        return lambda given: given[start : start + count]
    return lambda given: value


def constant(values: Any, what: str) -> Any:
    """One value of each label: those of its samples must agree."""
    if np.any(values != values[:, :1]):
        raise NotTaken(f"the code takes one {what} per label, and the samples' differ")
    return values[:, 0]


# What the call forms say of themselves: their options, checked and written out.

PAPER = (0.02, 0.05, 0.2)
NEGATIVES = ("implicit", "generated first", "real first")
WEIGHTS = ("w", "alpha", "log w")


def one_of(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise :class:`FormError` for a value that is none of the known ones."""
    if value not in known:
        raise FormError(f"{what} is {value!r}, expected one of {', '.join(map(repr, known))}")


def plain_setting(form: Form) -> SimpleNamespace:
    """The setting of a smoke call: the form's first dtype, on the CPU."""
    return SimpleNamespace(
        dtype=form.dtypes[0], device="cpu", upstream=1.0, strided=False, autocast=None
    )


def renamed(form: Form) -> dict[str, str]:
    """The names to say: of roles that go by another than the usual one."""
    return {role: name for role, name in form.names.items() if name != role}


def written(kind: str, function: str, options: Mapping[str, Any]) -> str:
    """The statement that makes an adapter."""
    said = [f"{name}={value!r}" for name, value in options.items() if value not in (None, "", {})]
    return f"adapter = forms.{kind}({', '.join([function, *said])})"


# The call form of a field: V of Algorithm 2.

class FieldForm(Form):
    """V of Algorithm 2: ``function(x, y_pos, y_neg, T, mask_self) → V`` or ``(V, …)``.

    ``negatives``: ``generated first`` where the negatives that the code takes begin with the
    generated samples, ``real first`` where they end with them, ``implicit`` where the code adds
    the generated samples itself. ``masks``: whether code without a flag masks the self pairs
    (True: cases without such pairs are not put to it; False: those with). ``layout`` as of
    :class:`Layout`; a ``label`` is a leading batch axis.
    """

    method = "field"
    roles = (
        *("generated", "positive", "negative", "unconditional", "temperature", "temperatures"),
        *("mask", "negative_weight"),
    )
    needed = ("generated", "positive")
    answer = "V"

    def __init__(
        self,
        function: Any,
        *,
        layout: str = "sample channel",
        negatives: str = "",
        masks: bool = True,
        temperature: float | None = None,
        **options: Any,
    ) -> None:
        names = dict(options.pop("names", None) or {})
        if "x" in names:
            names["generated"] = names.pop("x")
        super().__init__(function, names=names, **options)
        self.layout = Layout(layout)
        self.layout.sample_axis()
        self.given = "negative" if self.takes("negative") else "unconditional"
        takes = self.takes(self.given)
        self.negatives = negatives or ("generated first" if takes else "implicit")
        one_of("negatives", self.negatives, NEGATIVES)
        if self.negatives != "implicit" and not takes:
            raise FormError(f"negatives is {negatives!r}, and {self.place} takes none")
        self.masks = masks
        self.temperature = temperature

    def field(self, case: Any, setting: Any) -> Any:
        """V [N, C] at the case's inputs."""
        count = len(case.x)
        inputs: dict[str, Any] = {
            "generated": self.pack(case.x),
            "positive": self.pack(case.positive),
        }
        self._add_negatives(inputs, case, count)
        self.add_temperature(inputs, case.temperature)
        if self.takes("mask"):
            inputs["mask"] = bool(case.mask_self)
        elif case.mask_self != self.masks and self.negatives != "implicit":
            raise NotTaken(f"the code {'always' if self.masks else 'never'} masks self pairs")
        facts = {**self.example(), "channels": case.x.shape[1], "temperatures": ()}
        value, _ = self.ask(inputs, facts, setting, None)
        wanted = inputs["generated"].shape
        if value.shape != wanted:
            raise FormError(
                f"{self.place} returned the shape {value.shape} for generated samples {wanted}, "
                f"expected {wanted}: one drift for each of them"
            )
        return self.layout.unpack(value, (1, count, 1, case.x.shape[1]))[0, :, 0]

    def pack(self, array: Any) -> Any:
        """Samples [N, C] in the code's layout."""
        return self.layout.pack(array[None, :, None, :])

    def _add_negatives(self, inputs: dict[str, Any], case: Any, count: int) -> None:
        negative, weight = case.negative, case.negative_weight
        if self.negatives == "implicit":
            if not case.mask_self:
                raise NotTaken("the code adds the generated samples to the negatives itself")
            own = None if weight is None else weight[:count]
            if own is not None and np.any(own != 1):
                raise NotTaken("the code takes no weight of the generated samples")
            negative, weight = negative[count:], None if weight is None else weight[count:]
            if not len(negative):
                if self.takes(self.given) and not self.signature.optional(self.given):
                    inputs[self.given] = None
                return
            if not self.takes(self.given):
                raise NotTaken("the code takes no negatives but the generated samples")
        elif self.negatives == "real first" and case.mask_self:
            order = np.r_[count : len(negative), :count]
            negative, weight = negative[order], None if weight is None else weight[order]
        inputs[self.given] = self.pack(negative)
        if weight is None:
            return
        if not self.takes("negative_weight"):
            raise NotTaken("the code takes no weight of the negatives")
        inputs["negative_weight"] = self.layout.pack(weight[None, :], ("label", "sample"))

    def add_temperature(self, inputs: dict[str, Any], value: float) -> None:
        """Add the temperature as the code takes it."""
        if self.takes("temperature"):
            inputs["temperature"] = float(value)
        elif self.takes("temperatures"):
            inputs["temperatures"] = (float(value),)
        elif value != self.temperature:
            raise NotTaken("the code takes no temperature")

    def _tried(self) -> list[Any]:
        random = np.random.default_rng(1)
        x, positive, other = (random.normal(size=(count, 7)) for count in (4, 5, 2))
        others = [other, other[:0]] if self.takes(self.given) else [other[:0]]
        known = (1.0, True, False) if self.takes("mask") else (1.0, self.masks)
        for item in others:
            case = SimpleNamespace(
                x=x, positive=positive, negative=np.concatenate([x, item]),
                temperature=self.temperature or 1.0, negative_weight=None,
                mask_self=known[1] or self.negatives == "implicit",
            )  # fmt: skip
            try:
                return [self.field(case, plain_setting(self))]
            except (FormError, NotTaken):
                raise
            except Exception:
                # Code that cannot take more negatives than samples is still to be judged.
                if item is others[-1]:
                    raise
        raise NotImplementedError

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        return written("field", function, {
            "layout": self.layout.text if self.layout.text != "sample channel" else "",
            "negatives": self.negatives, "names": renamed(self), "returns": self.returns,
        })  # fmt: skip


# The call form of a loss of one feature (A.6).

class LossForm(Form):
    """The loss of one feature: ``function(gen, pos, neg, …) → loss``, ``loss[B]`` or ``(loss, …)``.

    ``layout``: the axes of its samples. ``loop``: axes that the code does not have and that a
    caller loops over (``"label"``, ``"vector"`` or both); cases with several of another axis that
    it does not have are not put to it. ``over_labels`` (default: mean) and ``over_vectors``
    (default: sum): how the values of several of them come together, those looped over and those
    that the code lists. ``negatives``: ``implicit`` where it takes the unconditional samples
    alone, else as for a field. ``weight``: whether it takes the kernel weight ``w``, the guidance
    scale ``alpha`` or ``log w``; ``weight_per``: for each ``sample`` or ``label``.
    ``temperatures``: those fixed in code that takes none.
    """

    method = "loss"
    roles = (
        *("generated", "positive", "unconditional", "negative", "temperatures", "temperature"),
        *("unconditional_weight", "generated_weight", "positive_weight"),
    )
    needed = ("generated", "positive")

    def __init__(
        self,
        function: Any,
        *,
        layout: str = "label sample vector channel",
        loop: str = "",
        over_labels: str = "mean",
        over_vectors: str = "sum",
        negatives: str = "implicit",
        weight: str = "w",
        weight_per: str = "sample",
        temperatures: tuple[float, ...] = PAPER,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        self.layout = Layout(layout)
        self.loop = tuple(loop.split())
        for axis in self.loop:
            one_of("an axis of loop", axis, ("label", "vector"))
            if axis in self.layout:
                raise FormError(f"loop has the axis {axis}, which layout {layout!r} has as well")
        for what, value in (("over_labels", over_labels), ("over_vectors", over_vectors)):
            one_of(what, value, ("mean", "sum"))
        one_of("negatives", negatives, NEGATIVES)
        one_of("weight", weight, WEIGHTS)
        one_of("weight_per", weight_per, ("sample", "label"))
        self.over = {"label": over_labels, "vector": over_vectors}
        self.negatives, self.weight, self.weight_per = negatives, weight, weight_per
        self.temperatures = tuple(temperatures)
        self.given = "unconditional" if self.takes("unconditional") else "negative"
        if negatives != "implicit" and not self.takes(self.given):
            raise FormError(f"negatives is {negatives!r}, and {self.place} takes none")
        self.empty: str = "None"

    def loss(self, case: Any, setting: Any) -> dict[str, Any]:
        """The loss of the case and its gradients, as the fields of ``LossObservation``."""
        shape = case.generated.shape
        gradient = np.zeros(shape)
        labels = range(shape[0]) if "label" in self.loop else [slice(None)]
        vectors = range(shape[2]) if "vector" in self.loop else [slice(None)]
        parts: list[tuple[Any, Any, Any, float]] = []
        for label in labels:
            for vector in vectors:
                first, second = _one(label), _one(vector)
                answer, share = self._part(case, first, second, setting, shape)
                parts.append((first, second, answer, share))
        others: dict[str, float] = {}
        total, listed = 0.0, np.zeros(shape[0])
        per_label = "label" in self.loop
        for label, vector, answer, share in parts:
            values, slopes = answer
            total += share * float(values.sum())
            gradient[label, :, vector] = self._own(slopes, gradient[label, :, vector].shape)
            for role, slope in slopes.items():
                if role != "generated":
                    largest = float(np.abs(slope).max()) if slope.size else 0.0
                    name = "unconditional" if role == "negative" else role
                    # Not max(), which would lose a NaN.
                    others[name] = float(np.maximum(others.get(name, 0.0), largest))
            split = self._by_label(values, shape, vector, share)
            if split is not None:
                per_label = True
                listed[label] += split
        lone = shape[0] if self.over["label"] == "mean" else 1
        observed = {"loss": total, "gradient": gradient, "other_gradients": others}
        if per_label:
            observed["per_label"] = listed * lone
        return observed

    def _own(self, slopes: dict[str, Any], shape: tuple[int, ...]) -> Any:
        return self.layout.unpack(slopes["generated"], shape)

    def _by_label(self, values: Any, shape: Any, vector: Any, share: float) -> Any:
        """The shares of the labels as far as the values tell; None if they do not."""
        if "label" in self.loop:
            return share * values.sum()
        if values.ndim == 0 or "label" not in self.layout:
            return None
        axes = self._axes_of(values, shape)
        return None if axes is None else share * values.reshape(axes).sum(axis=1)

    def _axes_of(self, values: Any, shape: Any) -> tuple[int, int] | None:
        """[label, vector] of a value that lists labels, in this order."""
        if values.size == shape[0]:
            return shape[0], 1
        batch = self.layout.batch()
        return (shape[0], shape[2]) if batch == ("label", "vector") else None

    def _part(
        self, case: Any, label: Any, vector: Any, setting: Any, shape: Any
    ) -> tuple[Any, float]:
        """One call: its value and gradients, and the share of its sum in the loss."""
        cut = SimpleNamespace(
            generated=case.generated[label, :, vector],
            positive=case.positive[label, :, vector],
            unconditional=_cut(case.unconditional, label, vector),
            unconditional_weight=_cut(case.unconditional_weight, label),
            generated_weight=_cut(case.generated_weight, label),
            positive_weight=_cut(case.positive_weight, label),
        )
        temperatures = tuple(float(value) for value in case.temperatures)
        inputs: dict[str, Any] = {
            "generated": self.layout.pack(cut.generated),
            "positive": self.layout.pack(cut.positive),
        }
        self._add_unconditional(inputs, cut)
        for role in ("generated_weight", "positive_weight"):
            weight = getattr(cut, role)
            if weight is not None:
                if not self.takes(role):
                    raise NotTaken(f"the code takes no {role}")
                inputs[role] = self._per_sample(weight, cut.generated.shape[2])
        self._add_temperatures(inputs, temperatures)
        facts = {
            **self.example(), "temperatures": temperatures, "channels": shape[3],
        }  # fmt: skip
        # The share is only known with the shape of the value: a first guess, put right after.
        share = self._share(cut.generated.shape, shape, None)
        value, slopes = self.ask(inputs, facts, setting, share * setting.upstream)
        known = self._share(cut.generated.shape, shape, value)
        if known != share:
            slopes = {role: slope * (known / share) for role, slope in slopes.items()}
        return (value, slopes), known

    def _share(self, part: Any, whole: Any, value: Any) -> float:
        """What the sum over a value is multiplied by in the loss of the case."""
        share = 1.0
        for axis, place in (("label", 0), ("vector", 2)):
            if axis in self.loop and self.over[axis] == "mean":
                share /= whole[place]
        if value is None or value.ndim == 0:
            return share
        batch = self.layout.batch()
        sizes = {"label": part[0], "vector": part[2]}
        forms = {tuple(sizes[axis] for axis in batch): batch}
        forms.setdefault((int(np.prod([sizes[axis] for axis in batch])),), batch)
        forms.setdefault((part[0],), ("label",))
        if value.shape not in forms:
            wanted = ", ".join(map(str, forms))
            raise FormError(
                f"{self.place} returned the shape {value.shape} for samples in the layout "
                f"{self.layout.text!r}, {part[0]} labels, {part[1]} generated and {part[2]} "
                f"vectors: expected a scalar or {wanted}"
            )
        for axis in forms[value.shape]:
            if self.over[axis] == "mean":
                share /= sizes[axis]
        return share

    def _add_unconditional(self, inputs: dict[str, Any], cut: Any) -> None:
        others, weight = cut.unconditional, cut.unconditional_weight
        if others is not None and not self.takes(self.given):
            raise NotTaken("the code takes no unconditional samples")
        if self.negatives != "implicit":
            parts = [cut.generated] if others is None else [cut.generated, others]
            together = np.concatenate(parts[:: -1 if self.negatives == "real first" else 1], axis=1)
            inputs[self.given] = self.layout.pack(together)
        elif others is not None:
            inputs[self.given] = self.layout.pack(others)
        elif self.takes(self.given) and not self.signature.optional(self.given):
            inputs[self.given] = self._nothing(cut.generated)
        if others is not None:
            self._add_weight(inputs, cut, weight)
        elif self.takes("unconditional_weight"):
            self._add_no_weight(inputs, cut)

    def _nothing(self, generated: Any) -> Any:
        if self.empty == "none at all":
            raise NotTaken("the code needs unconditional samples")
        return None if self.empty == "None" else self.layout.pack(generated[:, :0])

    def _add_no_weight(self, inputs: dict[str, Any], cut: Any) -> None:
        if self.signature.optional("unconditional_weight"):
            return
        if self.weight_per == "label":
            none = {"w": 0.0, "alpha": 1.0, "log w": -np.inf}[self.weight]
            inputs["unconditional_weight"] = self._per_label(np.full(len(cut.generated), none), cut)
        else:
            inputs["unconditional_weight"] = None

    def _add_weight(self, inputs: dict[str, Any], cut: Any, weight: Any) -> None:
        count, others = cut.generated.shape[1], cut.unconditional.shape[1]
        if not self.takes("unconditional_weight"):
            if weight is None or np.all(weight == 1):
                return
            raise NotTaken("the code takes no weight of the unconditional samples")
        if weight is None:
            weight = np.ones(cut.unconditional.shape[:2])
        if self.weight == "alpha":
            if count < 2:
                raise NotTaken("the code takes alpha, which says nothing of one generated sample")
            weight = 1 + weight * others / (count - 1)
        elif self.weight == "log w":
            with np.errstate(divide="ignore"):
                weight = np.log(weight)
        if self.weight_per == "label":
            value = self._per_label(constant(weight, self.weight), cut)
        else:
            if self.negatives != "implicit":
                own = np.full((len(weight), count), 0.0 if self.weight == "log w" else 1.0)
                order = (weight, own) if self.negatives == "real first" else (own, weight)
                weight = np.concatenate(order, axis=1)
            value = self._per_sample(weight, cut.generated.shape[2])
        inputs["unconditional_weight"] = value

    def _per_label(self, values: Any, cut: Any) -> Any:
        """One number for each label, a plain one where the code has no labels."""
        if "label" in self.layout:
            group = next(group for group in self.layout.groups if "label" in group)
            return np.repeat(values, cut.generated.shape[2]) if len(group) > 1 else values
        if len(values) != 1:
            raise NotTaken(f"the code takes one label, and the case has {len(values)}")
        return float(values[0])

    def _per_sample(self, weight: Any, vectors: int) -> Any:
        """Weights [label, sample] as the code has its samples; repeated where vectors are rows."""
        if any(set(group) == {"label", "vector"} for group in self.layout.groups):
            wide = np.broadcast_to(weight[:, :, None], (*weight.shape, vectors))
            return self.layout.pack(np.array(wide), ("label", "sample", "vector"))
        return self.layout.pack(weight, ("label", "sample"))

    def _add_temperatures(self, inputs: dict[str, Any], temperatures: tuple[float, ...]) -> None:
        if self.takes("temperatures"):
            inputs["temperatures"] = temperatures
        elif self.takes("temperature"):
            if len(temperatures) != 1:
                raise NotTaken(f"the code takes one temperature, and the case has {temperatures}")
            inputs["temperature"] = temperatures[0]
        elif not self.covers("temperatures") and temperatures != self.temperatures:
            raise NotTaken(f"the code has its own temperatures, {self.temperatures}")

    @staticmethod
    def sizes(*, labels: bool, vectors: bool) -> tuple[int, int]:
        """How many labels and vectors a small case has."""
        return 2 if labels else 1, 3 if vectors else 1

    def small(self, *, others: bool, sizes: tuple[int, int] | None = None) -> SimpleNamespace:
        """A small case, all of whose sizes differ, with unconditional samples or without."""
        random = np.random.default_rng(1)
        axes = (*self.loop, *self.layout.axes)
        labels, vectors = sizes or self.sizes(labels="label" in axes, vectors="vector" in axes)
        draws = [random.normal(size=(labels, count, vectors, 7)) for count in (4, 5, 6)]
        one = self.takes("temperature") and not self.takes("temperatures")
        return SimpleNamespace(
            generated=draws[0], positive=draws[1], unconditional=draws[2] if others else None,
            unconditional_weight=np.full((labels, 6), 0.5 if self._weighs() else 1.0)
            if others else None,
            generated_weight=None, positive_weight=None,
            temperatures=(0.2,) if one else self.temperatures,
        )  # fmt: skip

    def _weighs(self) -> bool:
        return self.takes("unconditional_weight")

    def _tried(self) -> list[Any]:
        answers: list[Any] = []
        if self.takes(self.given):
            answers += self._shown(self.loss(self.small(others=True), plain_setting(self)))
        for self.empty in ("None", "no rows", "none at all"):
            try:
                return answers + self._shown(
                    self.loss(self.small(others=False), plain_setting(self))
                )
            except NotTaken:
                if not answers:
                    raise
                return answers
            except FormError:
                raise
            except Exception:
                if not self.takes(self.given) or self.negatives != "implicit":
                    raise
        return answers

    def _shown(self, observed: dict[str, Any]) -> list[Any]:
        if not np.any(observed["gradient"]):
            raise FormError(
                f"{self.place} returned a loss without a gradient in the generated samples: they "
                "must not be detached, and the value must be a tensor of the loss"
            )
        return [observed["loss"], observed["gradient"]]

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        usual = {"negatives": "implicit", "weight": "w", "weight_per": "sample"}
        return written("loss", function, {
            "layout": self.layout.text, "loop": " ".join(self.loop), "names": renamed(self),
            **{key: getattr(self, key) for key, was in usual.items() if getattr(self, key) != was},
            "returns": self.returns,
        })  # fmt: skip


def _one(place: Any) -> Any:
    return slice(place, place + 1) if isinstance(place, int) else place


def _cut(array: Any, label: Any, vector: Any = None) -> Any:
    if array is None:
        return None
    return array[label] if vector is None else array[label, :, vector]


# The call form of a loss over many features: dicts or lists of them, with configuration objects.

RAW = ("generated_samples", "positive_samples", "unconditional_samples")


class FeatureForm(Form):
    """The loss over many features: ``function({key: gen}, {key: pos}, …) → loss``.

    ``features``: whether they come as a ``dict`` or a ``list`` (in the order of the keys).
    ``layout``: of each of them; ``weight`` and ``weight_per`` as for the loss of one feature. Raw
    samples [label, sample, …] for the vanilla term go to arguments such as ``generated_samples``;
    their weight, and temperatures, may go into what is ``derived``.
    """

    method = "feature_loss"
    roles = (
        *("generated", "positive", "unconditional", "negative", "temperatures", *RAW),
        *("unconditional_weight", "raw_weight"),
    )
    needed = ("generated", "positive")

    def __init__(
        self,
        function: Any,
        *,
        features: str = "dict",
        layout: str = "label sample vector channel",
        weight: str = "w",
        weight_per: str = "label",
        temperatures: tuple[float, ...] = PAPER,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        self.layout = Layout(layout)
        for what, value, known in (
            ("features", features, ("dict", "list")),
            ("weight", weight, WEIGHTS),
            ("weight_per", weight_per, ("sample", "label")),
        ):
            one_of(what, value, known)
        self.features, self.weight, self.weight_per = features, weight, weight_per
        self.temperatures = tuple(temperatures)
        self.given = "unconditional" if self.takes("unconditional") else "negative"

    def feature_loss(self, case: Any, setting: Any) -> dict[str, Any]:
        """The loss of the case and its gradients, as the fields of ``FeatureObservation``."""
        temperatures = tuple(float(value) for value in case.temperatures)
        inputs: dict[str, Any] = {
            "generated": self._packed(case.generated),
            "positive": self._packed(case.positive),
        }
        if case.unconditional is not None:
            if not self.takes(self.given):
                raise NotTaken("the code takes no unconditional samples")
            inputs[self.given] = self._packed(case.unconditional)
            self._add_weight(inputs, case)
        else:
            for role in (self.given, "unconditional_weight"):
                if self.takes(role) and not self.signature.optional(role):
                    inputs[role] = None
        self._add_raw(inputs, case)
        if self.takes("temperatures"):
            inputs["temperatures"] = temperatures
        elif not self.covers("temperatures") and temperatures != self.temperatures:
            raise NotTaken(f"the code has its own temperatures, {self.temperatures}")
        first = next(iter(case.generated.values()))
        facts = {
            "temperatures": temperatures, "channels": first.shape[-1],
            "raw_weight": float(case.raw_weight),
        }  # fmt: skip
        value, slopes = self.ask(inputs, facts, setting, setting.upstream)
        if value.ndim:
            raise FormError(
                f"{self.place} returned the shape {value.shape}, expected a scalar: the loss over "
                "all features"
            )
        own = slopes["generated"]
        keys = list(case.generated)
        listed = [own[key] for key in keys] if isinstance(own, dict) else own
        observed: dict[str, Any] = {
            "loss": float(value),
            "gradients": {
                key: self.layout.unpack(slope, case.generated[key].shape)
                for key, slope in zip(keys, listed)  # noqa: B905 -- Python 3.9 has no strict
            },
        }
        if case.generated_samples is not None:
            observed["raw_gradient"] = slopes["generated_samples"].reshape(
                case.generated_samples.shape
            )
        return observed

    def _packed(self, arrays: Any) -> Any:
        packed = {key: self.layout.pack(array) for key, array in arrays.items()}
        return packed if self.features == "dict" else list(packed.values())

    def _add_raw(self, inputs: dict[str, Any], case: Any) -> None:
        for role in RAW:
            value = getattr(case, role)
            if value is None:
                if self.takes(role) and not self.signature.optional(role):
                    raise NotTaken(f"the code needs {role}")
                continue
            if not self.takes(role):
                raise NotTaken("the code has no vanilla term of raw samples")
            if "label" not in self.layout and len(value) == 1:
                value = value[0]
            inputs[role] = np.ascontiguousarray(value)
        if self.takes("raw_weight"):
            inputs["raw_weight"] = float(case.raw_weight)
        elif not self.covers("raw_weight") and case.raw_weight != 1.0:
            raise NotTaken("the code takes no weight of the vanilla term")

    def _add_weight(self, inputs: dict[str, Any], case: Any) -> None:
        weight = case.unconditional_weight
        if not self.takes("unconditional_weight"):
            if weight is None or np.all(weight == 1):
                return
            raise NotTaken("the code takes no weight of the unconditional samples")
        first = next(iter(case.generated.values()))
        labels, count = first.shape[:2]
        others = next(iter(case.unconditional.values())).shape[1]
        weight = np.ones(labels) if weight is None else np.asarray(weight)
        weight = np.array(np.broadcast_to(weight.reshape(labels, -1), (labels, others)))
        if self.weight == "alpha":
            if count < 2:
                raise NotTaken("the code takes alpha, which says nothing of one generated sample")
            weight = 1 + weight * others / (count - 1)
        elif self.weight == "log w":
            with np.errstate(divide="ignore"):
                weight = np.log(weight)
        if self.weight_per == "sample":
            inputs["unconditional_weight"] = self.layout.pack(weight, ("label", "sample"))
            return
        values = constant(weight, self.weight)
        lone = "label" not in self.layout
        if lone and labels != 1:
            raise NotTaken(f"the code takes one label, and the case has {labels}")
        inputs["unconditional_weight"] = float(values[0]) if lone else values

    def _tried(self) -> list[Any]:
        random = np.random.default_rng(1)
        labels = 2 if "label" in self.layout else 1
        wide = {"a": 3, "b": 2} if "vector" in self.layout else {"a": 1, "b": 1}
        draws = [
            {key: random.normal(size=(labels, count, size, 7)) for key, size in wide.items()}
            for count in (4, 5, 6)
        ]
        raw = [random.normal(size=(labels, count, 2, 3, 3)) for count in (4, 5, 6)]
        takes_raw = self.takes("generated_samples")
        shown: list[Any] = []
        for others in (True, False):
            case = SimpleNamespace(
                generated=draws[0], positive=draws[1],
                unconditional=draws[2] if others else None,
                unconditional_weight=np.full(labels, 0.5 if self.takes("unconditional_weight")
                                             else 1.0) if others else None,
                generated_samples=raw[0] if takes_raw else None,
                positive_samples=raw[1] if takes_raw else None,
                unconditional_samples=raw[2] if takes_raw and others else None,
                raw_weight=1.0, temperatures=self.temperatures,
            )  # fmt: skip
            try:
                observed = self.feature_loss(case, plain_setting(self))
            except NotTaken:
                if not others and not shown:
                    raise
                continue
            slopes = list(observed["gradients"].values())
            if not all(np.any(slope) for slope in slopes):
                raise FormError(f"{self.place} returned a loss without a gradient in a feature")
            shown += [observed["loss"], *slopes]
        return shown

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        return written("features", function, {
            "features": self.features, "layout": self.layout.text, "names": renamed(self),
            "returns": self.returns,
        })  # fmt: skip


# The other side of ``command:``: an adapter that answers the judge over ``spec/PROTOCOL.md``.

PROTOCOL = 1
VARIABLE = "DRIFTING_PARITY_FD"
LONGEST_HEADER = 1 << 24
MOST_BYTES = 1 << 31
ARRAY_TYPES = ("<f8", "<i8", "|b1")


def field(function: Any, **options: Any) -> Form:
    """V by Algorithm 2, ``f(x, y_pos, y_neg, T, …)``; options of :class:`FieldForm`."""
    return FieldForm(function, **options)


def loss(function: Any, **options: Any) -> Form:
    """The loss of one feature; options of :class:`LossForm`."""
    return LossForm(function, **options)


def class_loss(function: Any, layout: str = "sample vector channel", **options: Any) -> Form:
    """The loss of one class, ``f(x[N, L, C], pos, …)`` or with ``x[N, D]``."""
    return LossForm(function, layout=layout, **options)


def features(function: Any, **options: Any) -> Form:
    """The loss over many features; options of :class:`FeatureForm`."""
    return FeatureForm(function, **options)


def module(kind: Any, layout: str = "sample channel 1 1", **options: Any) -> Form:
    """A module on images [N, C, H, W]: a class (built once with ``build``) or an object."""
    return LossForm(kind, layout=layout, **options)


class Case(dict):  # pyright: ignore[reportMissingTypeArgument] -- what JSON holds
    """A case: its inputs as attributes, its mappings as those of Python."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the case has no {name}: {', '.join(self)}") from None


def serve(*forms: Form, name: str = "", **methods: Any) -> None:
    """Answer the judge until it has gone.

    ``forms``: what :func:`field`, :func:`loss` and so on return. ``methods``: further ones by the
    names of the protocol, each a function that takes its arguments and returns what it answers;
    it raises :class:`NotTaken` for what it cannot take.
    """
    number = os.environ.get(VARIABLE)
    if number is None:
        command = " ".join(sys.argv)
        raise SystemExit(
            f"{VARIABLE} is not set: this is run by the judge, as in drifting-parity report "
            f"--implementation 'command:python {command}'"
        )
    judge = socket.socket(fileno=int(number))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=judge.close)
    try:
        _Server(judge, forms, name, methods).run()
    except (EOFError, OSError):
        return


class _Server:
    def __init__(
        self, judge: socket.socket, forms: tuple[Form, ...], name: str, methods: dict[str, Any]
    ) -> None:
        self._judge = judge
        self._forms = forms
        self._name = name or (forms[0].name if forms else "unnamed")
        self._methods: dict[str, Any] = dict(methods)
        for form in forms:
            self._methods[form.method] = _without_readings(getattr(form, form.method))

    def run(self) -> None:
        """The introduction, then one answer for each call."""
        request, _ = receive(self._judge)
        self._judge.sendall(message({"id": 0, **self._introduction(request)}, []))
        while True:
            request, arrays = receive(self._judge)
            body, results = self._answer(request, arrays)
            self._judge.sendall(message({"id": request["id"], **body}, results))

    def _introduction(self, request: Any) -> dict[str, Any]:
        if request.get("protocol") != PROTOCOL:
            asked = f"the judge speaks protocol {request.get('protocol')}"
            mine = f"drifting_parity_serve.py speaks {PROTOCOL}"
            return {"problem": f"{asked}, and {mine}: take the judge's own copy of it"}
        try:
            for form in self._forms:
                form.smoke()
                form.conduct()
        except Exception as problem:
            return {"problem": _described(problem)}
        first = self._forms[0] if self._forms else None
        return {
            "protocol": PROTOCOL,
            "name": self._name,
            "configurable": False,
            "dtypes": list(first.dtypes if first else ("float64", "float32")),
            "devices": list(first.devices if first else ("cpu",)),
            "offers": list(self._methods),
        }

    def _answer(self, request: Any, arrays: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        results: list[Any] = []
        kept = [array.tobytes() for array in arrays]
        try:
            arguments = [unpacked(item, arrays) for item in request["arguments"].values()]
            answer = packed(self._methods[request["call"]](*arguments), results)
            body: dict[str, Any] = {"result": answer}
        except NotTaken as reason:
            body, results = {"not_observable": str(reason)}, []
        except Exception as problem:
            body, results = {"raised": _described(problem)}, []
        except BaseException as problem:
            body, results = {"raised": _described(problem), "left": True}, []
        body["conduct"] = [["inputs", what] for form in self._forms for what in form.conduct()]
        if any(old != new.tobytes() for old, new in zip(kept, arrays)):  # noqa: B905 -- Python 3.9
            body["conduct"].append(["inputs", "changed its inputs in place"])
        return body, results


def _without_readings(function: Any) -> Any:
    def called(case: Any, readings: Any, setting: Any) -> Any:
        del readings
        return function(case, setting)

    return called


def _described(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    here = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""  # noqa: PTH119 -- a name alone
    return f"{type(problem).__name__}: {problem}{here}"


# Messages.


def unpacked(tree: Any, arrays: list[Any]) -> Any:
    """Arguments as they came, with their arrays."""
    if isinstance(tree, dict):
        if list(tree) == ["array"] and isinstance(tree["array"], int):
            return arrays[tree["array"]]
        return Case({key: unpacked(item, arrays) for key, item in tree.items()})
    if isinstance(tree, list):
        return [unpacked(item, arrays) for item in tree]
    return tree


def packed(value: Any, arrays: list[Any]) -> Any:
    """What was answered, ready for JSON; its arrays go to ``arrays``."""
    if isinstance(value, dict):
        return {str(key): packed(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [packed(item, arrays) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    array = np.asarray(value)
    if isinstance(value, np.generic):
        return value.item()
    kind = {"f": "<f8", "i": "<i8", "u": "<i8", "b": "|b1"}.get(array.dtype.kind)
    if kind is None:
        raise TypeError(f"{type(value).__name__} is no answer: numbers, arrays and text are")
    arrays.append(np.array(array, kind, order="C"))
    return {"array": len(arrays) - 1}


def message(body: Any, arrays: list[Any]) -> bytes:
    """One message."""
    listed = [[array.dtype.str, list(array.shape)] for array in arrays]
    header = json.dumps({"arrays": listed, "body": body}).encode()
    return struct.pack("<Q", len(header)) + header + b"".join(item.tobytes() for item in arrays)


def receive(source: socket.socket) -> tuple[Any, list[Any]]:
    """Read one message; ``EOFError`` when the judge is gone, ``OSError`` for what is none."""
    (length,) = struct.unpack("<Q", _exactly(source, 8))
    if length > LONGEST_HEADER:
        raise OSError(f"a header of {length} bytes")
    header = json.loads(_exactly(source, length).decode())
    arrays: list[Any] = []
    for kind, shape in header["arrays"]:
        size = np.dtype(kind).itemsize * int(np.prod([int(side) for side in shape], dtype=object))
        if kind not in ARRAY_TYPES or not 0 <= size <= MOST_BYTES:
            raise OSError(f"an array of {kind!r} and shape {shape}")
        arrays.append(np.frombuffer(_exactly(source, size), kind).reshape(shape))
    return header["body"], arrays


def _exactly(source: socket.socket, count: int) -> bytearray:
    read = bytearray()
    while len(read) < count:
        part = source.recv(min(count - len(read), 1 << 20))
        if not part:
            raise EOFError
        read += part
    return read
