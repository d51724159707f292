"""The spec as typed data: clauses, axes, deltas, deviations and tolerances, loaded from TOML.

``load()`` reads and checks every file of ``data/`` once. A file that breaks the schema raises
:class:`SpecError` with the file, the entry's id and what would be right.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from drifting_spec.readings import AXES, PRESETS

ClauseKind = Literal["equation", "algorithm", "requirement", "table"]
DeltaKind = Literal["paper", "seed", "release"]


class SpecError(ValueError):
    """A data file of the spec does not follow its schema."""


class UnknownIdError(KeyError):
    """No clause, axis, delta or deviation has this id; the message suggests the nearest."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Paper:
    """The pinned text: which paper, which version, which scan."""

    title: str
    authors: str
    arxiv: str
    url: str
    scan: str
    scan_sha256: str


@dataclass(frozen=True)
class Clause:
    """One statement of the paper, testable or explicitly not.

    ``statement`` is in our own words, ``formula`` readable in a terminal. ``axes`` are those the
    clause raises (an implementation may conform to it under another reading of them).
    ``executable = false`` needs a ``reason``.
    """

    id: str
    title: str
    section: str
    kind: ClauseKind
    statement: str
    formula: str = ""
    depends_on: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    deltas: tuple[str, ...] = ()
    executable: bool = True
    reason: str = ""


@dataclass(frozen=True)
class ReadingNote:
    """What one reading of an axis means."""

    reading: str
    meaning: str


@dataclass(frozen=True)
class Axis:
    """One question that the text leaves open, its readings, and what each preset takes.

    ``why`` gives for each preset the reason; the values themselves live in
    :mod:`drifting_spec.readings` and nowhere else.
    """

    id: str
    question: str
    clauses: tuple[str, ...]
    readings: tuple[ReadingNote, ...]
    why_paper: str
    why_release: str
    why_seed: str
    observable: str


@dataclass(frozen=True)
class Delta:
    """A known difference: in the paper (P-), of the seed repository (R-), of the release (J-)."""

    id: str
    title: str
    kind: DeltaKind
    statement: str
    clauses: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    effect: str = ""


@dataclass(frozen=True)
class Deviation:
    """A catalogued mistake met in real code; no reading of the text supports it."""

    id: str
    title: str
    clauses: tuple[str, ...]
    exposed_by: str
    black_box: bool


@dataclass(frozen=True)
class Tolerance:
    """How far a quantity may be off, and why just so far.

    ``quantity`` names what is compared (``field``, ``loss``, ``gradient`` …), ``dtype`` the
    arithmetic of the implementation. An error is the norm of the difference; allowed is
    ``atol + rtol × size``, where ``size`` is the norm of the expected array. Never scaled with
    the number of entries. ``derivation`` says in words where the numbers come from.
    """

    id: str
    quantity: str
    dtype: str
    rtol: float
    atol: float
    derivation: str


@dataclass(frozen=True)
class Spec:
    """Everything the data files hold, by id: clauses by section, the rest as in the files."""

    paper: Paper
    clauses: Mapping[str, Clause]
    axes: Mapping[str, Axis]
    deltas: Mapping[str, Delta]
    deviations: Mapping[str, Deviation]
    tolerances: Mapping[str, Tolerance]
    sections: Mapping[str, str] = field(default_factory=dict[str, str])

    def find(self, identifier: str) -> Clause | Axis | Delta | Deviation:
        """Look up any id, case-insensitively; :class:`UnknownIdError` suggests the nearest ones."""
        for table in (self.clauses, self.axes, self.deltas, self.deviations):
            for key, entry in table.items():
                if key.lower() == identifier.lower():
                    return entry
        names = {key.upper(): key for key in self.ids()}
        near = difflib.get_close_matches(identifier.upper(), list(names), n=4, cutoff=0.4)
        meant = ", ".join(names[name] for name in near)
        hint = f"did you mean {meant}?" if meant else "see `drifting-parity list clauses`"
        raise UnknownIdError(f"unknown id {identifier!r}: {hint}")

    def ids(self) -> Iterator[str]:
        """Every id that :meth:`find` knows."""
        for table in (self.clauses, self.axes, self.deltas, self.deviations):
            yield from table

    def tolerance(self, quantity: str, dtype: str) -> Tolerance:
        """Return a quantity's tolerance in a dtype; :class:`UnknownIdError` if there is none."""
        key = f"{quantity}.{dtype}"
        if key not in self.tolerances:
            raise UnknownIdError(f"no tolerance for {key!r}; known: {', '.join(self.tolerances)}")
        return self.tolerances[key]


_Entry = TypeVar("_Entry")


def _converted(value: Any, hint: Any, where: str) -> Any:
    """Check a TOML value against a field's type; lists become tuples, tables become dataclasses."""
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise SpecError(f"{where} is {value!r}, expected a list")
        inner = get_args(hint)[0]
        return tuple(_converted(item, inner, where) for item in cast("list[Any]", value))
    if origin is Literal:
        if value not in get_args(hint):
            raise SpecError(f"{where} is {value!r}, expected one of {get_args(hint)}")
        return value
    if hasattr(hint, "__dataclass_fields__"):
        return _entry(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise SpecError(f"{where} is {value!r}, expected {hint.__name__}")
    return value.strip() if isinstance(value, str) else value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    # Resolving annotations for every entry anew would take most of the loading time.
    return get_type_hints(kind)


def _entry(kind: type[_Entry], table: Any, where: str) -> _Entry:
    if not isinstance(table, dict):
        raise SpecError(f"{where} is {table!r}, expected a table")
    hints = _hints(kind)
    known = {item.name: item for item in fields(cast("Any", kind))}
    for key in cast("dict[str, Any]", table):
        if key not in known:
            raise SpecError(f"{where} has an unknown key {key!r}; known: {', '.join(known)}")
    for name, item in known.items():
        if item.default is MISSING and item.default_factory is MISSING and name not in table:
            raise SpecError(f"{where} lacks {name!r}")
    values = {key: _converted(value, hints[key], f"{where}.{key}") for key, value in table.items()}
    return kind(**values)


def _entries(
    kind: type[_Entry], key: str, documents: Mapping[str, dict[str, Any]]
) -> dict[str, _Entry]:
    found: dict[str, _Entry] = {}
    for name, document in documents.items():
        tables: Any = document.get(key, [])
        if not isinstance(tables, list):
            raise SpecError(f"{name}: {key} is no array of tables: write [[{key}]]")
        for table in cast("list[Any]", tables):
            known = cast("dict[str, Any]", table) if isinstance(table, dict) else {}
            entry = _entry(kind, table, f"{name}: {key} {known.get('id', '?')}")
            identifier = cast("Any", entry).id
            if identifier in found:
                raise SpecError(f"{name}: {key} {identifier} stands twice in the spec")
            found[identifier] = entry
    return found


def _documents(folder: Traversable) -> dict[str, dict[str, Any]]:
    documents: dict[str, dict[str, Any]] = {}
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".toml"):
            try:
                documents[item.name] = tomllib.loads(item.read_text(encoding="utf-8"))
            except tomllib.TOMLDecodeError as error:
                raise SpecError(f"{item.name}: {error}") from error
    return documents


def _sections(documents: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    sections: dict[str, str] = {}
    for name, document in documents.items():
        table: Any = document.get("sections", {})
        if not isinstance(table, dict):
            raise SpecError(f"{name}: sections is {table!r}, expected a table")
        for key, title in cast("dict[str, Any]", table).items():
            sections[key] = _converted(title, str, f"{name}: sections.{key}")
    return sections


def _in_order(clauses: dict[str, Clause], sections: Mapping[str, str]) -> dict[str, Clause]:
    # The files sort by name; readers expect the paper's order.
    place = {section: position for position, section in enumerate(sections)}
    ordered = sorted(clauses.values(), key=lambda clause: place.get(clause.section, len(place)))
    return {clause.id: clause for clause in ordered}


def build(documents: Mapping[str, dict[str, Any]]) -> Spec:
    """Make a :class:`Spec` of parsed TOML documents (file name → tables), checking everything."""
    top_level = ("paper", "sections", "clause", "axis", "delta", "deviation", "tolerance")
    for name, document in documents.items():
        for key in document:
            if key not in top_level:
                raise SpecError(f"{name}: unknown table {key!r}; known: {', '.join(top_level)}")
    papers = [(name, doc["paper"]) for name, doc in documents.items() if "paper" in doc]
    if len(papers) != 1:
        raise SpecError(f"expected one [paper] table, found {len(papers)}")
    sections = _sections(documents)
    spec = Spec(
        paper=_entry(Paper, papers[0][1], f"{papers[0][0]}: paper"),
        clauses=_in_order(_entries(Clause, "clause", documents), sections),
        axes=_entries(Axis, "axis", documents),
        deltas=_entries(Delta, "delta", documents),
        deviations=_entries(Deviation, "deviation", documents),
        tolerances=_entries(Tolerance, "tolerance", documents),
        sections=sections,
    )
    _check_references(spec)
    return spec


def _check_references(spec: Spec) -> None:
    def known(where: str, ids: tuple[str, ...], table: Mapping[str, Any]) -> None:
        for identifier in ids:
            if identifier not in table:
                raise SpecError(f"{where} refers to {identifier!r}, which the spec does not hold")

    if set(spec.axes) != set(AXES):
        raise SpecError(
            f"axes in the data and fields of Readings differ: {sorted(set(spec.axes) ^ set(AXES))}"
        )
    for clause in spec.clauses.values():
        known(f"clause {clause.id}.depends_on", clause.depends_on, spec.clauses)
        known(f"clause {clause.id}.axes", clause.axes, spec.axes)
        known(f"clause {clause.id}.deltas", clause.deltas, spec.deltas)
        known(f"clause {clause.id}.section", (clause.section,), spec.sections)
        if clause.executable == bool(clause.reason):
            raise SpecError(
                f"clause {clause.id} has executable = {str(clause.executable).lower()} and reason "
                f"{clause.reason!r}: a reason is given exactly when a clause is not executable"
            )
    for axis in spec.axes.values():
        known(f"axis {axis.id}.clauses", axis.clauses, spec.clauses)
        if tuple(note.reading for note in axis.readings) != AXES[axis.id]:
            raise SpecError(f"axis {axis.id} lists other readings than Readings: {AXES[axis.id]}")
    for delta in spec.deltas.values():
        known(f"delta {delta.id}.clauses", delta.clauses, spec.clauses)
        known(f"delta {delta.id}.axes", delta.axes, spec.axes)
    for deviation in spec.deviations.values():
        known(f"deviation {deviation.id}.clauses", deviation.clauses, spec.clauses)
    for tolerance in spec.tolerances.values():
        if tolerance.id != f"{tolerance.quantity}.{tolerance.dtype}":
            raise SpecError(f"tolerance {tolerance.id} must be called quantity.dtype")


def preset_readings(axis: str) -> dict[str, str]:
    """For each preset, the reading it takes on ``axis``."""
    return {name: getattr(readings, axis) for name, readings in PRESETS.items()}


@cache
def load() -> Spec:
    """Load the spec that ships with this package, once; later calls return the same object."""
    return build(_documents(resources.files("drifting_spec").joinpath("data")))
