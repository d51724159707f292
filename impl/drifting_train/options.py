"""Settings as dataclasses: each field is a flag, a key of a configuration, and a checked value."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from drifting_train.errors import TrainError, nearest

Settings = TypeVar("Settings")


def option(
    default: object, text: str, *, least: float | None = None, most: float | None = None
) -> Any:
    """A field of a settings dataclass: what it is for, and the range of its numbers."""
    return field(default=default, metadata={"text": text, "least": least, "most": most})  # pyright: ignore[reportCallIssue, reportArgumentType]


def positional(default: object, text: str) -> Any:
    """A field that is given without a flag, after the command."""
    metadata = {"text": text, "least": None, "most": None, "bare": True}
    return field(default=default, metadata=metadata)  # pyright: ignore[reportCallIssue, reportArgumentType]


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Say the problem in one line."""
        raise TrainError(f"{message} (see {self.prog} --help)")


def add_flags(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """One flag for each field; those not given do not appear among the parsed values."""
    group = parser.add_argument_group("settings", "flags, or keys of the file of --config")
    hints = get_type_hints(kind)
    for item in fields(kind):
        text = str(item.metadata["text"]).replace("%", "%%")
        default = _shown(item)
        options: dict[str, Any] = {
            "dest": item.name,
            "default": argparse.SUPPRESS,
            "help": f"{text} (default: {default})" if default else text,
        }
        if item.metadata.get("bare"):
            parser.add_argument(
                item.name,
                nargs="?",
                default=argparse.SUPPRESS,
                metavar=item.name.upper(),
                help=text,
            )
            continue
        bare, _ = _without_none(hints[item.name])
        if bare is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif get_origin(bare) is tuple:
            options |= {"nargs": "+", "metavar": _metavar(get_args(bare)[0])}
        elif get_origin(bare) is Literal:
            options["metavar"] = "{" + ",".join(map(str, get_args(bare))) + "}"
        else:
            options["metavar"] = _metavar(bare)
        group.add_argument(flag_of(item.name), **options)


def flag_of(name: str) -> str:
    """The flag of a field, or the key of a configuration without its dashes."""
    return "--" + name.replace("_", "-")


def read_config(path: Path) -> dict[str, object]:
    """The keys and values of a TOML file; :class:`TrainError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            held = tomllib.load(file)
    except OSError as problem:
        raise TrainError(f"--config {path}: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise TrainError(f"--config {path} is no TOML file: {problem}") from problem
    return {key.replace("-", "_"): value for key, value in held.items()}


def settings_of(
    kind: type[Settings], values: Mapping[str, object], origin: str = "flags"
) -> Settings:
    """Settings with these values; :class:`TrainError` names a key or value that does not fit."""
    hints = get_type_hints(kind)
    items = {item.name: item for item in fields(kind)}  # pyright: ignore[reportArgumentType]
    held: dict[str, object] = {}
    for name, value in values.items():
        if name not in items:
            known = [each.replace("_", "-") for each in items]
            shown = name.replace("_", "-")
            raise TrainError(f"{origin}: unknown key {shown!r}{nearest(shown, known)}")
        held[name] = _converted(items[name], hints[name], value, origin)
    return kind(**held)


def as_plain(settings: Any) -> dict[str, object]:
    """The settings as JSON holds them, so that they can be compared with those of a checkpoint."""
    values = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(settings).items()
    }
    return json.loads(json.dumps(values))


def _shown(item: Field[Any]) -> str:
    if item.default is MISSING or item.default is None:
        return ""
    if isinstance(item.default, tuple):
        return " ".join(map(str, item.default))
    if isinstance(item.default, bool):
        return "on" if item.default else "off"
    return str(item.default)


def _metavar(kind: object) -> str:
    return {int: "N", float: "X", Path: "PATH"}.get(kind, "NAME")  # pyright: ignore[reportArgumentType, reportCallIssue]


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type that a hint asks for, and whether None is allowed beside it."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [each for each in get_args(hint) if each is not type(None)]
        return rest[0], True
    return hint, False


def _converted(item: Field[Any], hint: Any, value: object, origin: str) -> object:
    bare, optional = _without_none(hint)
    if value is None and optional:
        return None
    where = flag_of(item.name) if origin == "flags" else f"{origin}: {flag_of(item.name)[2:]}"
    if get_origin(bare) is tuple:
        entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if not entries:
            raise TrainError(f"{where} is empty, expected at least one value")
        return tuple(_single(item, get_args(bare)[0], each, where) for each in entries)
    return _single(item, bare, value, where)


def _single(item: Field[Any], kind: Any, value: object, where: str) -> object:
    if get_origin(kind) is Literal:
        choices = [str(each) for each in get_args(kind)]
        if str(value) not in choices:
            raise TrainError(
                f"{where} is {value!r}, expected one of {', '.join(choices)}"
                f"{nearest(str(value), choices)}"
            )
        return get_args(kind)[choices.index(str(value))]
    if kind is bool:
        if not isinstance(value, bool):
            raise TrainError(f"{where} is {value!r}, expected true or false")
        return value
    if kind in (int, float):
        return _number(item, kind, value, where)
    if not isinstance(value, str):
        raise TrainError(f"{where} is {value!r}, expected a text")
    return Path(value) if kind is Path else value


def _number(item: Field[Any], kind: type[int] | type[float], value: object, where: str) -> float:
    expected = "a whole number" if kind is int else "a number"
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError
        number = kind(value)  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError) as problem:
        raise TrainError(f"{where} is {value!r}, expected {expected}") from problem
    least, most = item.metadata["least"], item.metadata["most"]
    if least is not None and number < least:
        raise TrainError(f"{where} is {number}, expected {expected} of at least {least}")
    if most is not None and number > most:
        raise TrainError(f"{where} is {number}, expected {expected} of at most {most}")
    return number
