"""What can be asked of an adapter in another process: its methods, and the types that pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

import numpy as np

from drifting_parity.adapters.base import Adapter, QueueSubject
from drifting_parity.adapters.process.wire import AnyArray, Tree, Unfit, packer, unpacker

QUEUE: Final = "sample_queue"
"""The method that gives an object to be asked further; a number stands for it."""


@dataclass(frozen=True)
class Call:
    """One method: the types of its parameters by name, in order, and of what it returns."""

    method: str
    parameters: Mapping[str, Any]
    returns: Any

    def pack_arguments(self, given: Sequence[Any]) -> tuple[Tree, list[AnyArray]]:
        """Arguments in the order of the parameters, as a message holds them."""
        arrays: list[AnyArray] = []
        pairs = zip(self.parameters.items(), given, strict=True)
        return {name: packer(hint)(value, arrays) for (name, hint), value in pairs}, arrays

    def unpack_arguments(self, tree: Tree, arrays: Sequence[AnyArray]) -> list[Any]:
        """The arguments in order."""
        return [unpacker(hint)(tree[name], arrays) for name, hint in self.parameters.items()]

    def pack_result(self, value: Any) -> tuple[Tree, list[AnyArray]]:
        """What was returned; ``Unfit`` if it is not what the method promises."""
        arrays: list[AnyArray] = []
        try:
            return packer(self.returns)(value, arrays), arrays
        except Unfit as problem:
            said = str(problem)
            where = "what {} returned: {}" if said[0] in ".[" else "{} returned {}"
            raise Unfit(where.format(self.method, said)) from None


def _call(owner: type[Any], name: str, method: str) -> Call:
    hints = get_type_hints(getattr(owner, name))
    returns = hints.pop("return")
    return Call(method, hints, int if returns is QueueSubject else returns)


def _public(owner: type[Any]) -> list[str]:
    return [
        name for name in vars(owner) if not name.startswith("_") and callable(vars(owner)[name])
    ]


OF_THE_HARNESS: Final = frozenset({"offers", "conduct", "close"})
"""Methods of :class:`Adapter` that ask nothing of the implementation."""

METHODS: Final[Mapping[str, Call]] = {
    name: _call(Adapter, name, name) for name in _public(Adapter) if name not in OF_THE_HARNESS
}
QUEUE_METHODS: Final[Mapping[str, Call]] = {
    name: _call(QueueSubject, name, f"{QUEUE}.{name}") for name in _public(QueueSubject)
}
CALLS: Final[Mapping[str, Call]] = {
    **METHODS,
    **{call.method: call for call in QUEUE_METHODS.values()},
}


def case_name(arguments: Sequence[Any]) -> str:
    """The id of the case among the arguments, empty where there is none."""
    for value in arguments:
        inner = getattr(value, "encoder", value)
        manifest = getattr(inner, "manifest", None) or getattr(value, "manifest", None)
        if manifest is not None:
            return str(manifest.id)
    return ""


def inputs(names: Sequence[str], arguments: Sequence[Any]) -> dict[str, AnyArray]:
    """Every array among the arguments by the name an implementer knows it by."""
    listed: dict[str, AnyArray] = {}
    for name, value in zip(names, arguments, strict=True):
        _collect(name, value, listed, top=True)
    return listed


def _collect(name: str, value: Any, listed: dict[str, AnyArray], *, top: bool = False) -> None:
    if isinstance(value, np.ndarray):
        listed[name] = value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _collect(f"{name}[{key!r}]", item, listed)
    elif hasattr(value, "__dataclass_fields__"):
        for key, item in vars(value).items():
            _collect(key if top else f"{name}.{key}", item, listed)
