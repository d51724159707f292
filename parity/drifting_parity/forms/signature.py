"""Which argument of a function stands for what: by the names that people give them.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drifting_parity.forms.layout import FormError

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
