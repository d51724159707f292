"""A file of expectations: what an implementation declares, read from TOML and checked."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from drifting_parity.commands.output import read_file
from drifting_parity.errors import CommandError, nearest
from drifting_spec import AXES
from drifting_spec.registry import load

SCHEMA: Final = 1


@dataclass(frozen=True)
class Reading:
    """``[[reading]]``: on this axis the implementation takes another reading than asked for."""

    axis: str
    reading: str
    reason: str


@dataclass(frozen=True)
class Deviation:
    """``[[deviation]]``: the clause fails, with a headroom (observed ÷ allowed) in the band."""

    clause: str
    verdict: str
    low: float
    high: float
    reason: str


@dataclass(frozen=True)
class Unseen:
    """``[[not_observable]]``: the implementation does not show this clause."""

    clause: str
    reason: str


@dataclass(frozen=True)
class Effect:
    """``[[delta]]``: the witness of a delta has its effect in the band."""

    id: str
    low: float
    high: float
    reason: str


@dataclass(frozen=True)
class Expectations:
    """Everything that one file declares, by axis, clause or witness."""

    implementation: str
    readings: str
    reading: Mapping[str, Reading]
    deviation: Mapping[str, Deviation]
    not_observable: Mapping[str, Unseen]
    delta: Mapping[str, Effect]


TABLES: Final[Mapping[str, type[Any]]] = {
    "reading": Reading,
    "deviation": Deviation,
    "not_observable": Unseen,
    "delta": Effect,
}
VERDICTS: Final = ("deviates", "raises")


def read_expectations(path: Path) -> Expectations:
    """Read a file; :class:`CommandError` (status 2) names the entry and what would be right."""
    try:
        document = tomllib.loads(read_file(path))
    except OSError as problem:
        raise _refusal(f"{path} cannot be read: {problem.strerror}") from problem
    except RecursionError as problem:
        raise _refusal(f"{path} is nested too deeply to be read") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise _refusal(f"{path} is no TOML: {problem}") from problem
    try:
        return _checked(document)
    except CommandError as problem:
        raise _refusal(f"{path}: {problem}") from problem


def _refusal(text: str) -> CommandError:
    return CommandError(f"--expectations: {text}")


def _checked(document: Mapping[str, Any]) -> Expectations:
    known = ("schema", "implementation", "readings", *TABLES)
    for key in document:
        if key not in known:
            raise CommandError(f"unknown key {key!r}; {nearest(key, known, _listed(known))}")
    if document.get("schema") != SCHEMA:
        raise CommandError(f"schema is {document.get('schema')!r}, expected {SCHEMA}")
    for key in ("implementation", "readings"):
        if not isinstance(document.get(key), str):
            raise CommandError(f"{key} is {document.get(key)!r}, expected a string")
    tables = {name: _table(name, document.get(name, [])) for name in TABLES}
    return Expectations(document["implementation"], document["readings"], **tables)


def _listed(names: tuple[str, ...]) -> str:
    return f"known: {', '.join(names)}"


def _table(name: str, tables: Any) -> dict[str, Any]:
    if not isinstance(tables, list):
        raise CommandError(f"{name} is no array of tables: write [[{name}]]")
    found: dict[str, Any] = {}
    for position, values in enumerate(cast("list[Any]", tables)):
        where = f"[[{name}]] number {position + 1}"
        if not isinstance(values, dict):
            raise CommandError(f"{where} is no table: write [[{name}]]")
        entry = _entry(TABLES[name], cast("dict[str, Any]", values), where)
        identifier = next(iter(vars(entry).values()))
        if identifier in found:
            raise CommandError(f"{where}: {identifier} is declared twice")
        found[identifier] = entry
    return found


def _entry(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    hints = kind.__annotations__
    first = next(iter(hints))
    where = f"{where}, {values.get(first, '?')}"
    for key in values:
        if key not in hints:
            hint = nearest(key, hints, _listed(tuple(hints)))
            raise CommandError(f"{where}: unknown key {key!r}; {hint}")
    for key, hint in hints.items():
        if key not in values:
            raise CommandError(f"{where}: {key} is missing")
        # Annotations are strings here: "str" or "float".
        fits = isinstance(values[key], str) if hint == "str" else _is_number(values[key])
        if not fits:
            expected = "a string" if hint == "str" else "a number"
            raise CommandError(f"{where}: {key} is {values[key]!r}, expected {expected}")
    if not values["reason"].strip():
        raise CommandError(f"{where}: reason is empty, expected why this is accepted")
    if "low" in values and not values["low"] <= values["high"]:
        raise CommandError(f"{where}: low {values['low']} is not below high {values['high']}")
    if "low" in values and not _bounded(values["low"], values["high"]):
        raise CommandError(
            f"{where}: the band {values['low']} to {values['high']} has no end, expected two "
            "finite numbers, or twice inf for an error that is infinite"
        )
    for problem in _unknown(kind, values):
        raise CommandError(f"{where}: {problem}")
    return kind(**values)


def _bounded(low: float, high: float) -> bool:
    """Whether a band can be left; an infinite headroom is a band of its own."""
    return (math.isfinite(low) and math.isfinite(high)) or low == high == math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _unknown(kind: type[Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Say what matches nothing in the spec."""
    spec = load()
    known = {Reading: AXES, Effect: spec.witnesses}.get(kind, spec.clauses)
    key, identifier = next(iter(values.items()))
    key = next(iter(kind.__annotations__))
    identifier = values[key]
    if identifier not in known:
        hint = nearest(identifier, known, "see `drifting-parity list`")
        yield f"{key} {identifier!r} matches nothing; {hint}"
    elif kind is Reading and values["reading"] not in AXES[identifier]:
        yield f"reading is {values['reading']!r}, expected one of {', '.join(AXES[identifier])}"
    elif kind is Deviation and values["verdict"] not in VERDICTS:
        yield f"verdict is {values['verdict']!r}, expected one of {', '.join(VERDICTS)}"
