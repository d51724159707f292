"""The spec as typed data: clauses, axes, deltas, witnesses, deviations, tolerances, tables.

``load()`` reads and checks every file of ``data/`` once. A file that breaks the schema
(:mod:`drifting_spec.schema`) raises :class:`SpecError` with the file, the entry's id and what
would be right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, cast

from drifting_spec.parsing import Documents, SpecError, converted, documents, entries, entry, listed
from drifting_spec.readings import AXES, PRESETS
from drifting_spec.schema import (
    Axis,
    Clause,
    ClauseKind,
    Delta,
    DeltaKind,
    Deviation,
    Misprint,
    Paper,
    Place,
    ReadingNote,
    Result,
    Symbol,
    TableRow,
    Takes,
    Tolerance,
    Witness,
)

__all__ = [
    "Axis",
    "Clause",
    "ClauseKind",
    "Delta",
    "DeltaKind",
    "Deviation",
    "Misprint",
    "Paper",
    "Place",
    "ReadingNote",
    "Result",
    "Spec",
    "SpecError",
    "Symbol",
    "TableRow",
    "Takes",
    "Tolerance",
    "UnknownIdError",
    "Witness",
    "build",
    "load",
    "preset_readings",
]


class UnknownIdError(KeyError):
    """The spec has no tolerance of this name; the message lists those that it has."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Spec:
    """Everything the data files hold, by id: clauses by section, the rest as in the files."""

    paper: Paper
    clauses: Mapping[str, Clause]
    axes: Mapping[str, Axis]
    deltas: Mapping[str, Delta]
    witnesses: Mapping[str, Witness]
    deviations: Mapping[str, Deviation]
    tolerances: Mapping[str, Tolerance]
    misprints: Mapping[str, Misprint]
    rows: Mapping[str, TableRow]
    symbols: Mapping[str, Symbol] = field(default_factory=dict[str, Symbol])
    results: tuple[Result, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict[str, str])

    def ids(self) -> Iterator[str]:
        """The ids of clauses, axes, deltas and deviations."""
        for table in (self.clauses, self.axes, self.deltas, self.deviations):
            yield from table

    def tolerance(self, quantity: str, dtype: str) -> Tolerance:
        """Return a quantity's tolerance in a dtype; :class:`UnknownIdError` if there is none."""
        key = f"{quantity}.{dtype}"
        if key not in self.tolerances:
            raise UnknownIdError(f"no tolerance for {key!r}; known: {', '.join(self.tolerances)}")
        return self.tolerances[key]


def _sections(parsed: Documents) -> dict[str, str]:
    sections: dict[str, str] = {}
    for name, document in parsed.items():
        table: Any = document.get("sections", {})
        if not isinstance(table, dict):
            raise SpecError(f"{name}: sections is {table!r}, expected a table")
        for key, title in cast("dict[str, Any]", table).items():
            sections[key] = converted(title, str, f"{name}: sections.{key}")
    return sections


def _in_order(clauses: dict[str, Clause], sections: Mapping[str, str]) -> dict[str, Clause]:
    # The files sort by name; readers expect the paper's order.
    place = {section: position for position, section in enumerate(sections)}
    ordered = sorted(clauses.values(), key=lambda clause: place.get(clause.section, len(place)))
    return {clause.id: clause for clause in ordered}


_TOP_LEVEL = (
    "paper", "sections", "clause", "axis", "delta", "witness", "deviation", "tolerance",
    "misprint", "row", "result", "symbol",
)  # fmt: skip


def build(parsed: Documents) -> Spec:
    """Make a :class:`Spec` of parsed TOML documents (file name → tables), checking everything."""
    for name, document in parsed.items():
        for key in document:
            if key not in _TOP_LEVEL:
                raise SpecError(f"{name}: unknown table {key!r}; known: {', '.join(_TOP_LEVEL)}")
    papers = [(name, doc["paper"]) for name, doc in parsed.items() if "paper" in doc]
    if len(papers) != 1:
        raise SpecError(f"expected one [paper] table, found {len(papers)}")
    sections = _sections(parsed)
    axes = entries(Axis, "axis", parsed)
    witnesses = entries(Witness, "witness", parsed)
    deltas = entries(Delta, "delta", parsed)
    clauses = _in_order(entries(Clause, "clause", parsed), sections)
    spec = Spec(
        paper=entry(Paper, papers[0][1], f"{papers[0][0]}: paper"),
        clauses={key: _raising(clause, axes) for key, clause in clauses.items()},
        axes=axes,
        deltas={key: _witnessed(delta, witnesses) for key, delta in deltas.items()},
        witnesses=witnesses,
        deviations=entries(Deviation, "deviation", parsed),
        tolerances=entries(Tolerance, "tolerance", parsed),
        misprints=entries(Misprint, "misprint", parsed),
        rows=entries(TableRow, "row", parsed),
        symbols=entries(Symbol, "symbol", parsed),
        results=tuple(result for _, result in listed(Result, "result", parsed)),
        sections=sections,
    )
    _check_references(spec)
    _check_witnesses(spec)
    _check_deltas(spec)
    _check_tables(spec)
    return replace(spec, deltas={key: _completed(item, axes) for key, item in spec.deltas.items()})


def _known(where: str, ids: tuple[str, ...], *tables: Mapping[str, Any]) -> None:
    for identifier in ids:
        if not any(identifier in table for table in tables):
            raise SpecError(f"{where} refers to {identifier!r}, which the spec does not hold")


def _check_references(spec: Spec) -> None:
    if set(spec.axes) != set(AXES):
        raise SpecError(
            f"axes in the data and fields of Readings differ: {sorted(set(spec.axes) ^ set(AXES))}"
        )
    for clause in spec.clauses.values():
        _known(f"clause {clause.id}.depends_on", clause.depends_on, spec.clauses)
        _known(f"clause {clause.id}.deltas", clause.deltas, spec.deltas)
        _known(f"clause {clause.id}.section", (clause.section,), spec.sections)
        if bool(clause.formula) != bool(clause.tex):
            raise SpecError(
                f"clause {clause.id} has formula {clause.formula!r} and tex {clause.tex!r}: "
                "it needs both or neither"
            )
        if clause.executable == bool(clause.reason):
            raise SpecError(
                f"clause {clause.id} has executable = {str(clause.executable).lower()} and reason "
                f"{clause.reason!r}: a reason is given exactly when a clause is not executable"
            )
    for axis in spec.axes.values():
        _known(f"axis {axis.id}.clauses", axis.clauses, spec.clauses)
        if tuple(note.reading for note in axis.readings) != AXES[axis.id]:
            raise SpecError(f"axis {axis.id} lists other readings than Readings: {AXES[axis.id]}")
    for deviation in spec.deviations.values():
        _known(f"deviation {deviation.id}.clauses", deviation.clauses, spec.clauses)
    for tolerance in spec.tolerances.values():
        if tolerance.id != f"{tolerance.quantity}.{tolerance.dtype}":
            raise SpecError(f"tolerance {tolerance.id} must be called quantity.dtype")


def _check_deltas(spec: Spec) -> None:
    for delta in spec.deltas.values():
        where = f"delta {delta.id}"
        _known(f"{where}.clauses", delta.clauses, spec.clauses)
        _known(f"{where}.axes", delta.axes, spec.axes)
        if not delta.places or not delta.effect:
            raise SpecError(f"{where} needs at least one place and an effect")
        if bool(delta.witness) == bool(delta.undecidable):
            raise SpecError(
                f"{where} has witness {list(delta.witness)} and undecidable {delta.undecidable!r}: "
                "exactly one of the two is given"
            )
        taken = (delta.takes.paper, delta.takes.release, delta.takes.seed)
        if not delta.axes and not (delta.readings and all(taken)):
            raise SpecError(f"{where} lives on no axis: it needs readings and what each takes")


def _check_witnesses(spec: Spec) -> None:
    for witness in spec.witnesses.values():
        _known(f"witness {witness.id}.delta", (witness.delta,), spec.deltas)
        if not witness.id.startswith(f"{witness.delta}-"):
            raise SpecError(f"witness {witness.id} must be called {witness.delta}-something")
        if not witness.low <= witness.high:
            raise SpecError(f"witness {witness.id} has the band {witness.low} to {witness.high}")


def _check_tables(spec: Spec) -> None:
    for row in spec.rows.values():
        _known(f"row {row.id}.id", (row.id,), spec.clauses)
        _known(f"row {row.id}.marks", row.marks, spec.misprints, spec.deltas)
    for symbol in spec.symbols.values():
        _known(f"symbol {symbol.id}.clauses", symbol.clauses, spec.clauses)
        _known(f"symbol {symbol.id}.sections", symbol.sections, spec.sections)
    for result in spec.results:
        _known(f"result {result.configuration!r}.table", (result.table,), spec.clauses)


def _raising(clause: Clause, axes: Mapping[str, Axis]) -> Clause:
    # An axis names the clauses that raise it; that a clause knows its axes follows.
    if clause.axes:
        raise SpecError(
            f"clause {clause.id} has axes {list(clause.axes)}, expected none: an axis names its "
            "clauses (axes.toml)"
        )
    return replace(
        clause, axes=tuple(key for key, axis in axes.items() if clause.id in axis.clauses)
    )


def _witnessed(delta: Delta, witnesses: Mapping[str, Witness]) -> Delta:
    # A witness names its delta; that a delta knows its witnesses follows.
    return replace(delta, witness=tuple(w.id for w in witnesses.values() if w.delta == delta.id))


def _completed(delta: Delta, axes: Mapping[str, Axis]) -> Delta:
    """Fill in the readings and takes of a delta that lives on axes: they are the axes' own."""
    several = len(delta.axes) > 1

    def named(axis: str, reading: str) -> str:
        return f"{axis} = {reading}" if several else reading

    notes = tuple(
        ReadingNote(named(axis, note.reading), note.meaning)
        for axis in delta.axes
        for note in axes[axis].readings
    )

    def taken(preset: str) -> str:
        said = (
            f"{named(axis, preset_readings(axis)[preset])}: {getattr(axes[axis], f'why_{preset}')}"
            for axis in delta.axes
        )
        return " ".join(said)

    takes = {name: getattr(delta.takes, name) or taken(name) for name in PRESETS}
    return replace(delta, readings=delta.readings or notes, takes=Takes(**takes))


def preset_readings(axis: str) -> dict[str, str]:
    """For each preset, the reading it takes on ``axis``."""
    return {name: getattr(readings, axis) for name, readings in PRESETS.items()}


@cache
def load() -> Spec:
    """Load the spec that ships with this package, once; later calls return the same object."""
    return build(documents(resources.files("drifting_spec").joinpath("data")))
