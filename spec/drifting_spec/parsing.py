"""TOML tables into the schema's dataclasses, each value checked against its field's type."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

Documents = Mapping[str, dict[str, Any]]
"""Parsed TOML files by name."""

_Entry = TypeVar("_Entry")


class SpecError(ValueError):
    """A data file of the spec does not follow its schema."""


def documents(folder: Traversable) -> dict[str, dict[str, Any]]:
    """Parse every TOML file of a folder, in the order of their names."""
    parsed: dict[str, dict[str, Any]] = {}
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".toml"):
            try:
                parsed[item.name] = tomllib.loads(item.read_text(encoding="utf-8"))
            except tomllib.TOMLDecodeError as error:
                raise SpecError(f"{item.name}: {error}") from error
    return parsed


def converted(value: Any, hint: Any, where: str) -> Any:
    """Check a TOML value against a field's type; lists become tuples, tables become dataclasses."""
    if hint is object:
        return value
    origin = get_origin(hint)
    if origin is tuple:
        return _tuple(value, get_args(hint), where)
    if origin is Literal:
        if value not in get_args(hint):
            raise SpecError(f"{where} is {value!r}, expected one of {get_args(hint)}")
        return value
    if hasattr(hint, "__dataclass_fields__"):
        return entry(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise SpecError(f"{where} is {value!r}, expected {hint.__name__}")
    return value.strip() if isinstance(value, str) else value


def _tuple(value: Any, inner: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise SpecError(f"{where} is {value!r}, expected a list")
    items = cast("list[Any]", value)
    hints = [inner[0]] * len(items) if inner[-1] is Ellipsis else list(inner)
    if len(items) != len(hints):
        raise SpecError(f"{where} is {value!r}, expected {len(hints)} entries")
    return tuple(converted(item, hint, where) for item, hint in zip(items, hints, strict=True))


@cache
def hints_of(kind: type[Any]) -> dict[str, Any]:
    """Resolve a dataclass's annotations once: for every entry anew would take most of loading."""
    return get_type_hints(kind)


def entry(kind: type[_Entry], table: Any, where: str) -> _Entry:
    """Make one dataclass of a TOML table, refusing unknown and missing keys."""
    if not isinstance(table, dict):
        raise SpecError(f"{where} is {table!r}, expected a table")
    hints = hints_of(kind)
    known = {item.name: item for item in fields(cast("Any", kind))}
    for key in cast("dict[str, Any]", table):
        if key not in known:
            raise SpecError(f"{where} has an unknown key {key!r}; known: {', '.join(known)}")
    for name, item in known.items():
        if item.default is MISSING and item.default_factory is MISSING and name not in table:
            raise SpecError(f"{where} lacks {name!r}")
    values = {key: converted(value, hints[key], f"{where}.{key}") for key, value in table.items()}
    return kind(**values)


def listed(kind: type[_Entry], key: str, parsed: Documents) -> list[tuple[str, _Entry]]:
    """All entries of the arrays of tables ``[[key]]``, each with what to call it in an error."""
    found: list[tuple[str, _Entry]] = []
    for name, document in parsed.items():
        tables: Any = document.get(key, [])
        if not isinstance(tables, list):
            raise SpecError(f"{name}: {key} is no array of tables: write [[{key}]]")
        for table in cast("list[Any]", tables):
            known = cast("dict[str, Any]", table) if isinstance(table, dict) else {}
            where = f"{name}: {key} {known.get('id', '?')}"
            found.append((where, entry(kind, table, where)))
    return found


def entries(kind: type[_Entry], key: str, parsed: Documents) -> dict[str, _Entry]:
    """The entries ``[[key]]`` by id; an id that stands twice is refused."""
    found: dict[str, _Entry] = {}
    for where, item in listed(kind, key, parsed):
        identifier = cast("Any", item).id
        if identifier in found:
            raise SpecError(f"{where} stands twice in the spec")
        found[identifier] = item
    return found
