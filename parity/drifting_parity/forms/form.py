"""What every call form does: bring a case to code as it wants it, and read what it answers.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from drifting_parity.forms.arrays import NumpyArrays, framework, kind_of, to_numpy
from drifting_parity.forms.layout import FormError, NotTaken
from drifting_parity.forms.signature import Signature, place

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
