"""``drifting-parity explain ID``: what an id that a report prints stands for.

Of a clause: what the paper says there, how it is read, where it is code, what checks it.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from drifting_parity.catalogue import effects, sources
from drifting_parity.catalogue.check_index import IndexedCheck, indexed
from drifting_parity.errors import CommandError
from drifting_parity.golden import GoldenManifest, manifests
from drifting_spec import AXES, PRESETS
from drifting_spec.nearest import bare, nearest
from drifting_spec.registry import (
    Axis,
    Clause,
    Delta,
    Deviation,
    Spec,
    Witness,
    load,
    preset_readings,
)

WIDTH = 100
"""Columns of running text, fewer on a narrower terminal."""

_GREEK = str.maketrans({"τ": "tau", "γ": "gamma", "α": "alpha", "λ": "lambda"})


@dataclass
class _Page:
    """Text put together line by line; headings are bold on a terminal."""

    bold: bool
    width: int
    lines: list[str] = field(default_factory=list[str])

    def title(self, text: str) -> None:
        self.lines.append(f"\x1b[1m{text}\x1b[0m" if self.bold else text)

    def heading(self, text: str) -> None:
        self.lines.append("")
        self.title(text)

    def text(self, text: str, indent: int = 2, hang: int = 0) -> None:
        first, rest = " " * indent, " " * (indent + hang)
        for paragraph in text.splitlines() or [""]:
            self.lines += textwrap.wrap(
                paragraph, self.width, initial_indent=first, subsequent_indent=rest,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip

    def verbatim(self, text: str, indent: int = 2) -> None:
        self.lines += textwrap.indent(text.strip("\n"), " " * indent).splitlines()


def explain(identifier: str) -> str:
    """Write the page on one id; :class:`CommandError` with the nearest ids if there is none."""
    spec = load()
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size((WIDTH, 24)).columns
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    page = _Page(bold=terminal and not plain, width=max(40, min(columns, WIDTH)))
    _write(page, spec, _find(spec, identifier))
    return "\n".join(page.lines) + "\n"


Entry = Clause | Axis | Delta | Deviation | Witness | IndexedCheck | GoldenManifest
"""What has an id of its own and a page."""


@dataclass(frozen=True)
class _Words:
    """A quantity or a case as a report calls it, and where the checks do."""

    text: str
    places: list[sources.Phrase]


def _write(page: _Page, spec: Spec, entry: Entry | _Words | str) -> None:
    match entry:
        case Clause():
            _clause(page, spec, entry)
        case Axis():
            _axis(page, spec, entry)
        case Delta():
            _delta(page, spec, entry)
        case Deviation():
            _deviation(page, spec, entry)
        case Witness():
            _effect(page, spec, entry)
        case IndexedCheck():
            _check(page, spec, entry)
        case GoldenManifest():
            _case(page, entry)
        case _Words():
            _words(page, entry)
        case preset:
            _preset(page, spec, preset)


def _find(spec: Spec, identifier: str) -> Entry | _Words | str:
    """Look up what a report prints: an id of any kind, a preset, a reading, a quantity, a case.

    Ids are known in any case and without their punctuation: ``eq11`` is EQ-11.
    """
    wanted = identifier.strip().translate(_GREEK).lower()
    entries = _entries_by_id(spec)
    if wanted in entries:
        return entries[wanted]
    if wanted in PRESETS:
        return wanted
    axes = {f"{axis}={reading}".lower(): axis for axis in AXES for reading in AXES[axis]}
    if wanted in axes:
        return spec.axes[axes[wanted]]
    having = [axis for axis, readings in AXES.items() if wanted in map(str.lower, readings)]
    if len(having) == 1:
        return spec.axes[having[0]]
    if having:
        which = ", ".join(f"{axis}={wanted}" for axis in having)
        raise CommandError(f"{identifier!r} is a reading of several axes: {which}")
    alike = [entry for key, entry in entries.items() if bare(key) == bare(wanted)]
    if len(alike) == 1 and bare(wanted):
        return alike[0]
    if places := sources.phrases(identifier.strip()):
        return _Words(identifier.strip(), places)
    known = [*spec.ids(), *PRESETS, *axes, *(entry.id for entry in entries.values())]
    hint = nearest(wanted, known, "see `drifting-parity list clauses`")
    raise CommandError(f"unknown id {identifier!r}; {hint}")


def _entries_by_id(spec: Spec) -> dict[str, Entry]:
    """Everything that has an id, by the id in lower case; the spec's own go first."""
    tables = (spec.clauses, spec.axes, spec.deltas, spec.deviations, spec.witnesses)
    listed = [entry for table in tables for entry in table.values()]
    entries: dict[str, Entry] = {}
    for entry in (*listed, *indexed(), *manifests()):
        entries.setdefault(entry.id.lower(), entry)
    return entries


def _clause(page: _Page, spec: Spec, clause: Clause) -> None:
    page.title(f"{clause.id}  {clause.title}")
    page.text(_where(spec, clause.section))
    page.heading("Statement")
    page.text(clause.statement)
    if clause.formula:
        page.heading("Formula")
        page.verbatim(clause.formula)
    if clause.depends_on:
        page.heading("Rests on")
        for name in clause.depends_on:
            page.text(f"{name}  {spec.clauses[name].title}", hang=4)
    _clause_readings(page, spec, clause)
    deltas = {name: spec.deltas[name] for name in clause.deltas}
    deltas |= {key: item for key, item in spec.deltas.items() if clause.id in item.clauses}
    _entries(page, "Deltas", deltas.values())
    _entries(
        page,
        "Deviations met in real code",
        (item for item in spec.deviations.values() if clause.id in item.clauses),
    )
    _code(page, clause)
    _checks(page, clause)


def _where(spec: Spec, section: str) -> str:
    name = f"Sec. {section}" if section[0].isdigit() else section
    return f"{name}, {spec.sections[section]}; {spec.paper.title}, arXiv {spec.paper.arxiv}"


def _entries(page: _Page, heading: str, entries: Iterable[Delta | Deviation]) -> None:
    listed = list(entries)
    if listed:
        page.heading(heading)
        for item in listed:
            page.text(f"{item.id}  {item.title}", hang=4)


def _clause_readings(page: _Page, spec: Spec, clause: Clause) -> None:
    if not clause.axes:
        return
    page.heading("Readings")
    for name in clause.axes:
        page.text(f"{name}: {spec.axes[name].question}", hang=4)
        taken = preset_readings(name)
        for note in spec.axes[name].readings:
            page.text(_reading(note.reading, note.meaning, taken), indent=4, hang=4)


def _reading(reading: str, meaning: str, taken: dict[str, str]) -> str:
    takers = [preset for preset, choice in taken.items() if choice == reading]
    by = f" [{', '.join(takers)}]" if takers else ""
    return f"{reading}{by}: {meaning}"


def _code(page: _Page, clause: Clause) -> None:
    reference = sources.marked("drifting_reference", clause.id)
    if reference:
        page.heading("Reference")
        for item in reference:
            page.text(_location(item))
        page.lines.append("")
        page.verbatim(reference[0].source, indent=4)
    implementation = sources.marked("drifting_torch", clause.id)
    if implementation:
        page.heading("Implementation")
        for item in implementation:
            page.text(_location(item))


def _location(item: sources.Marked) -> str:
    role = "an oracle, " if item.oracle else ""
    return f"{item.module}.{item.name}  ({role}{item.path.name}, line {item.line})"


def _checks(page: _Page, clause: Clause) -> None:
    page.heading("Checks")
    if not clause.executable:
        page.text(f"none: {clause.reason}")
        return
    for item in indexed():
        if clause.id in item.clauses:
            page.text(f"{item.id}  ({item.kind}) {item.title}", hang=4)
    page.text(f"run them: drifting-parity report --clause {clause.id}")


def _axis(page: _Page, spec: Spec, axis: Axis) -> None:
    page.title(f"{axis.id}  (axis)")
    page.text(axis.question)
    page.heading("Readings")
    taken = preset_readings(axis.id)
    for note in axis.readings:
        page.text(_reading(note.reading, note.meaning, taken), hang=4)
    page.heading("Why each preset takes its own")
    for preset, why in _reasons(axis):
        page.text(f"{preset}: {taken[preset]}. {why}", hang=4)
    page.heading("How it shows")
    page.text(axis.observable)
    if axis.clauses:
        page.heading("Clauses that raise it")
        for name in axis.clauses:
            page.text(f"{name}  {spec.clauses[name].title}", hang=4)
    _entries(page, "Deltas", (item for item in spec.deltas.values() if axis.id in item.axes))
    page.heading("Ask for a reading")
    page.text(f"drifting-parity report --readings paper,{axis.id}={axis.readings[-1].reading}")


def _reasons(axis: Axis) -> Iterator[tuple[str, str]]:
    yield from (
        ("paper", axis.why_paper),
        ("release", axis.why_release),
        ("seed", axis.why_seed),
    )


_KINDS = {
    "paper": "inside the paper",
    "seed": "of the seed repository",
    "release": "of the authors' release",
}


def _delta(page: _Page, spec: Spec, delta: Delta) -> None:
    page.title(f"{delta.id}  {delta.title}")
    page.text(f"A delta {_KINDS[delta.kind]}.")
    page.heading("Statement")
    page.text(delta.statement)
    page.heading("Places")
    for place in delta.places:
        page.text(f"{place.where}: {place.says}", hang=4)
    if delta.readings:
        page.heading("Readings")
        for note in delta.readings:
            page.text(f"{note.reading}: {note.meaning}", hang=4)
    page.heading("What is taken, and why")
    for preset in PRESETS:
        page.text(f"{preset}: {getattr(delta.takes, preset)}", hang=4)
    if delta.effect:
        page.heading("Effect")
        page.text(delta.effect)
    _measured(page, spec, delta)
    if delta.undecidable:
        page.heading("No number decides it")
        page.text(delta.undecidable)
    _touched(page, spec, delta.clauses)
    if delta.axes:
        page.heading("Axes")
        for name in delta.axes:
            page.text(f"{name}: {spec.axes[name].question}", hang=4)


def _measured(page: _Page, spec: Spec, delta: Delta) -> None:
    if not delta.witness:
        return
    page.heading("Measured on the reference")
    for name, number in effects.measured(delta.witness).items():
        item = spec.witnesses[name]
        page.text(f"{name}: {number} {item.unit}, expected {item.band}", hang=4)
        page.text(item.measures, indent=6)


def _effect(page: _Page, spec: Spec, witness: Witness) -> None:
    page.title(f"{witness.id}  {witness.title}")
    page.text("An effect of a delta, measured on the reference.")
    page.heading("What it is")
    page.text(witness.measures)
    page.heading("Measured on the reference")
    number = effects.measured([witness.id])[witness.id]
    page.text(f"{number} {witness.unit}, expected {witness.band}")
    page.heading("Delta")
    page.text(f"{witness.delta}  {spec.deltas[witness.delta].title}", hang=4)


def _check(page: _Page, spec: Spec, check: IndexedCheck) -> None:
    page.title(f"{check.id}  {check.title}")
    page.text(f"A check of the kind {check.kind}.")
    _touched(page, spec, check.clauses)
    page.heading("Run it")
    page.text(f"drifting-parity report --clause {check.clauses[0]}")


def _case(page: _Page, case: GoldenManifest) -> None:
    page.title(f"{case.id}  (a recorded case)")
    page.text(case.exercises)
    page.heading("Where it comes from")
    page.text(f"{case.source} (set {case.set}, conditioning {case.conditioning})")


def _words(page: _Page, words: _Words) -> None:
    page.title(words.text)
    page.text("A quantity that checks measure, or a case on which they do, as a report calls it.")
    page.heading("Checks that write it")
    for place in words.places:
        page.text(f"{place.module}.{place.name}  (line {place.line})", hang=4)
        if place.summary:
            page.text(place.summary, indent=6)


def _deviation(page: _Page, spec: Spec, deviation: Deviation) -> None:
    page.title(f"{deviation.id}  {deviation.title}")
    page.text("A deviation from the paper, met in real code.")
    page.heading("Exposed by")
    page.text(deviation.exposed_by)
    seen = "It shows from outside" if deviation.black_box else "It does not show from outside"
    page.text(f"{seen}, from inputs, values and gradients alone.")
    page.heading("What the code looks like")
    page.text(deviation.looks_like)
    page.heading("How to mend it")
    page.text(deviation.mend)
    page.heading("Where it shows")
    page.text(deviation.stage)
    _touched(page, spec, deviation.clauses)


def _touched(page: _Page, spec: Spec, clauses: tuple[str, ...]) -> None:
    if clauses:
        page.heading("Clauses")
        for name in clauses:
            page.text(f"{name}  {spec.clauses[name].title}", hang=4)


def _preset(page: _Page, spec: Spec, preset: str) -> None:
    page.title(f"{preset}  (a set of readings)")
    for axis in spec.axes.values():
        taken = preset_readings(axis.id)[preset]
        page.text(f"{axis.id} = {taken}: {dict(_reasons(axis))[preset]}", hang=4)
