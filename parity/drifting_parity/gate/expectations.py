"""A file of expectations: what an implementation declares, read from TOML and checked."""

from __future__ import annotations

import fnmatch
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from drifting_parity.commands.output import read_file
from drifting_parity.errors import CommandError
from drifting_spec import AXES
from drifting_spec.nearest import nearest
from drifting_spec.parsing import SpecError, entry
from drifting_spec.registry import load

SCHEMA: Final = 2

Excepted = Literal["deviates", "raises", "not observable"]
"""Verdicts that an exception accepts."""

Band = tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """``[[reading]]``: on this axis the implementation takes another reading than asked for."""

    axis: str
    reading: str
    reason: str


@dataclass(frozen=True)
class Deviation:
    """``[[deviation]]``: the implementation has this catalogued deviation.

    ``sizes`` gives a band [low, high] for each of its parameters that has a number, in the
    parameter's own unit. Clauses that the deviation breaks need no entry of their own.
    """

    id: str
    reason: str
    sizes: object = field(default_factory=dict[str, object])

    @property
    def bands(self) -> Mapping[str, Band]:
        """The bands, once the file was checked."""
        return cast("Mapping[str, Band]", self.sizes)


@dataclass(frozen=True)
class Unexplained:
    """``[[unexplained]]``: from this stage on the implementation is not explained."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Exemption:
    """``[[exception]]``: these clauses get this verdict, and that is accepted.

    ``clauses`` are ids or patterns (``A5-*``). ``low`` and ``high`` bound what the worst
    measurement of any of them observes, in the measured quantity's own unit.
    """

    clauses: tuple[str, ...]
    verdict: Excepted
    reason: str
    low: float = 0.0
    high: float = math.inf

    def covers(self, clause: str) -> bool:
        """Whether a clause is one of them."""
        return any(fnmatch.fnmatchcase(clause, pattern) for pattern in self.clauses)


@dataclass(frozen=True)
class Expectations:
    """Everything that one file declares."""

    implementation: str
    readings: str
    reading: Mapping[str, Reading]
    deviation: Mapping[str, Deviation]
    unexplained: Mapping[str, Unexplained]
    exception: tuple[Exemption, ...]


TABLES: Final[Mapping[str, type[Any]]] = {
    "reading": Reading,
    "deviation": Deviation,
    "unexplained": Unexplained,
    "exception": Exemption,
}


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
    except (CommandError, SpecError) as problem:
        raise _refusal(f"{path}: {problem}") from problem


def _refusal(text: str) -> CommandError:
    return CommandError(f"--expectations: {text}")


def _checked(document: Mapping[str, Any]) -> Expectations:
    if document.get("schema") != SCHEMA:
        raise CommandError(
            f"schema is {document.get('schema')!r}, expected {SCHEMA}: "
            "`drifting-parity gate --write` drafts such a file"
        )
    known = ("schema", "implementation", "readings", *TABLES)
    for key in document:
        if key not in known:
            hint = nearest(key, known, f"known: {', '.join(known)}")
            raise CommandError(f"unknown key {key!r}; {hint}")
    for key in ("implementation", "readings"):
        if not isinstance(document.get(key), str):
            raise CommandError(f"{key} is {document.get(key)!r}, expected a string")
    entries = {name: _entries(name, document.get(name, [])) for name in TABLES}
    return Expectations(
        document["implementation"],
        document["readings"],
        _by("axis", entries["reading"]),
        _by("id", entries["deviation"]),
        _by("stage", entries["unexplained"]),
        tuple(entries["exception"]),
    )


def _entries(name: str, tables: Any) -> list[Any]:
    if not isinstance(tables, list):
        raise CommandError(f"{name} is no array of tables: write [[{name}]]")
    entries: list[Any] = []
    for position, table in enumerate(cast("list[Any]", tables)):
        where = f"[[{name}]] number {position + 1}"
        if isinstance(table, dict):
            first = next(iter(TABLES[name].__dataclass_fields__))
            where += f", {cast('dict[str, Any]', table).get(first, '?')}"
        declared = entry(TABLES[name], table, where)
        if not declared.reason:
            raise CommandError(f"{where}: reason is empty, expected why this is accepted")
        _check(declared, where)
        entries.append(declared)
    return entries


def _by(key: str, entries: Iterable[Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for item in entries:
        name = getattr(item, key)
        if name in table:
            raise CommandError(f"{key} {name} is declared twice")
        table[name] = item
    return table


def _check(declared: Any, where: str) -> None:
    """Refuse what matches nothing in the spec, and bands that cannot be left."""
    spec = load()
    match declared:
        case Reading():
            _known("axis", declared.axis, AXES, where)
            if declared.reading not in AXES[declared.axis]:
                choices = ", ".join(AXES[declared.axis])
                text = f"reading is {declared.reading!r}, expected one of {choices}"
                raise CommandError(f"{where}: {text}")
        case Deviation():
            _known("id", declared.id, spec.deviations, where)
            _check_sizes(declared.sizes, where)
        case Exemption():
            if not declared.clauses:
                raise CommandError(f"{where}: clauses is empty, expected ids or patterns")
            for pattern in declared.clauses:
                if not any(fnmatch.fnmatchcase(name, pattern) for name in spec.clauses):
                    _known("clause", pattern, spec.clauses, where)
            if not declared.low <= declared.high:
                raise CommandError(f"{where}: low {declared.low} is not below high {declared.high}")
            if (declared.low, declared.high) != (0.0, math.inf) and not (
                (math.isfinite(declared.low) and math.isfinite(declared.high))
                or declared.low == declared.high == math.inf
            ):
                raise CommandError(
                    f"{where}: the band {declared.low} to {declared.high} has no end, expected "
                    "two finite numbers, or twice inf for an error that is infinite"
                )
            if declared.verdict == "not observable" and declared.low < declared.high < math.inf:
                raise CommandError(f"{where}: what is not observable has no band")
        case _:
            pass


def _known(key: str, name: str, known: Iterable[str], where: str) -> None:
    listed = list(known)
    if name not in listed:
        hint = nearest(name, listed, "see `drifting-parity list`")
        raise CommandError(f"{where}: {key} {name!r} matches nothing; {hint}")


def _check_sizes(sizes: object, where: str) -> None:
    if not isinstance(sizes, dict):
        raise CommandError(f"{where}: sizes is {sizes!r}, expected a table of bands [low, high]")
    for name, band in cast("dict[str, Any]", sizes).items():
        numbers = isinstance(band, list) and all(
            isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end)
            for end in cast("list[Any]", band)
        )
        if not numbers or len(band) != 2 or not band[0] <= band[1]:
            raise CommandError(
                f"{where}: sizes.{name} is {band!r}, expected two finite numbers [low, high]"
            )
