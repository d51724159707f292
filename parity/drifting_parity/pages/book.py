"""What the pages of the paper hold, by id, and where each id stands.

Read from the spec, from the sources by syntax and from what was measured beforehand: NumPy, SciPy
and PyTorch are not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from drifting_parity.catalogue import effects, sources
from drifting_parity.catalogue.check_index import IndexedCheck, indexed
from drifting_parity.catalogue.curves import (
    Shipped,
    ShippedExample,
    shipped_curves,
    shipped_effects,
    shipped_examples,
    shipped_reading_effects,
)
from drifting_parity.catalogue.sources import Marked
from drifting_parity.pages.plots import Layer, Mark, plot
from drifting_spec import PRESETS
from drifting_spec.registry import (
    Axis,
    Clause,
    Delta,
    Deviation,
    ReadingNote,
    Result,
    Spec,
    Symbol,
    Witness,
    load,
    preset_readings,
)

if TYPE_CHECKING:
    from markupsafe import Markup

PAGES: Final[Mapping[str, str]] = {
    "index.html": "The paper, clause by clause",
    "readings.html": "Readings",
    "contradictions.html": "Contradictions inside the paper",
    "release.html": "The authors' release against the paper",
    "seed.html": "The seed repository against the paper",
    "deviations.html": "Deviations in real code",
    "symbols.html": "Symbols",
    "checks.html": "Checks",
}
"""The pages beside those of the sections, by file name."""

KINDS: Final[Mapping[str, str]] = {
    "paper": "contradictions.html",
    "release": "release.html",
    "seed": "seed.html",
}
"""The page of each kind of delta."""

GREEK: Final[Mapping[str, str]] = {
    "α": "alpha",
    "γ": "gamma",
    "ε": "epsilon",
    "θ": "theta",
    "λ": "lambda",
    "ξ": "xi",
    "π": "pi",
    "σ": "sigma",
    "Σ": "sum",
    "τ": "tau",
    "φ": "phi",
    "√": "sqrt root",
    "‖": "norm",
}
"""What a symbol is called by who has no key for it."""

ALSO: Final[Mapping[str, str]] = {
    "several": "multiple",
    "guidance": "cfg",
    "epsilon": "eps",
    "each label": "per-label",
    "whole batch": "global",
    "frozen": "stopgrad stop-gradient detach sg",
    "constant in the gradient": "stopgrad stop-gradient detach sg",
    "stop-gradient": "stopgrad detach",
    "moving average": "ema",
    "root mean square": "rms",
    "mean squared error": "mse",
    "distance": "cdist",
    "generated samples": "fake",
    "positives": "real",
}
"""What an entry that says the one is looked for by as well."""


@dataclass(frozen=True)
class Reading:
    """One reading of an axis: what it means, which presets take it, what it changes.

    ``effect`` is against the paper's reading, empty for that and for what no loss shows.
    """

    name: str
    meaning: str
    presets: tuple[str, ...]
    effect: str


@dataclass(frozen=True)
class Measured:
    """A measured effect of a delta as it ships: the witness and its number."""

    witness: Witness
    number: str


@dataclass(frozen=True)
class Entry:
    """What search and the plain index know of an id."""

    id: str
    title: str
    kind: str
    href: str
    words: str


def section_file(section: str) -> str:
    """Name the page of a section: ``A.6`` → ``a6.html``, ``Alg. 1`` → ``alg1.html``."""
    bare = re.sub(r"[^a-z0-9]", "", section.lower())
    return f"{'sec' if bare[0].isdigit() else ''}{bare}.html"


def section_name(section: str) -> str:
    """Name a section as a reader does: ``Sec. 3.1``, ``A.6``, ``Table 8``."""
    return f"Sec. {section}" if section[0].isdigit() else section


class Book:
    """Everything on the pages of the paper, with a link for every id."""

    def __init__(self, spec: Spec | None = None) -> None:
        self.spec = load() if spec is None else spec
        self.reference = sources.every("drifting_reference")
        self.implementation = sources.every("drifting_torch")
        self.checks = indexed()

    @cached_property
    def places(self) -> Mapping[str, str]:
        """Where each id stands: ``EQ-21`` → ``a6.html#EQ-21``."""
        spec = self.spec
        places = {item.id: section_file(item.section) for item in spec.clauses.values()}
        places |= dict.fromkeys(spec.axes, "readings.html")
        places |= {item.id: KINDS[item.kind] for item in spec.deltas.values()}
        places |= {item.id: KINDS[spec.deltas[item.delta].kind] for item in spec.witnesses.values()}
        places |= dict.fromkeys(spec.deviations, "deviations.html")
        places |= dict.fromkeys(spec.misprints, "contradictions.html")
        places |= {item.id: "checks.html" for item in self.checks if item.id not in places}
        return {identifier: f"{file}#{identifier}" for identifier, file in places.items()}

    @cached_property
    def _mentions(self) -> re.Pattern[str]:
        # Axes without an underscore are words of the language.
        known = [name for name in self.places if "_" in name or not name.islower()]
        ids = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        sections = "|".join(re.escape(name) for name in self.spec.sections if not name[0].isdigit())
        return re.compile(
            rf"(?<![\w.-])(?P<id>{ids})(?![\w-])"
            rf"|(?<![\w.-])(?P<section>{sections})(?![\w-])"
            r"|Sec\. (?P<numbered>\d(?:\.\d)?)(?![\d.]\d)"
            r"|Algorithm (?P<algorithm>[12])(?!\w)"
        )

    def linked(self, text: str, here: str = "") -> Markup:
        """Escape a text, set what stands in backquotes as code, link the ids that it names.

        ``here`` is the id on whose entry the text stands: it does not link to itself.
        """
        from markupsafe import Markup, escape

        pieces: list[str] = []
        end = 0
        for match in self._mentions.finditer(text):
            href = self._href(match)
            if href and match[0] != here:
                pieces += (str(escape(text[end : match.start()])), f'<a href="{escape(href)}">')
                pieces += (str(escape(match[0])), "</a>")
                end = match.end()
        pieces.append(str(escape(text[end:])))
        return Markup(re.sub(r"`([^`<>]+)`", r"<code>\1</code>", "".join(pieces)))

    def _href(self, match: re.Match[str]) -> str:
        if match["id"]:
            return self.places[match["id"]]
        section = match["section"] or match["numbered"]
        if match["algorithm"]:
            section = f"Alg. {match['algorithm']}"
        return section_file(section) if section in self.spec.sections else ""

    def clauses_of(self, section: str) -> list[Clause]:
        """The clauses of a section, in the order of the spec."""
        return [item for item in self.spec.clauses.values() if item.section == section]

    def deltas_of(self, clause: Clause) -> list[Delta]:
        """The deltas that touch a clause, whichever of the two names the other."""
        return [
            item
            for item in self.spec.deltas.values()
            if clause.id in item.clauses or item.id in clause.deltas
        ]

    def deviations_of(self, clause: Clause) -> list[Deviation]:
        """The deviations that break a clause."""
        return [item for item in self.spec.deviations.values() if clause.id in item.clauses]

    def checks_of(self, clause: Clause) -> list[IndexedCheck]:
        """The checks that may speak for a clause."""
        return [item for item in self.checks if clause.id in item.clauses]

    def needed_by(self, clause: Clause) -> list[Clause]:
        """The clauses that rest on this one."""
        return [item for item in self.spec.clauses.values() if clause.id in item.depends_on]

    def readings_of(self, axis: str) -> list[Reading]:
        """The readings of an axis with the presets that take each."""
        return [self._reading(axis, note) for note in self.spec.axes[axis].readings]

    def _reading(self, axis: str, note: ReadingNote) -> Reading:
        taken = preset_readings(axis)
        takers = tuple(name for name in PRESETS if taken[name] == note.reading)
        effect = shipped_reading_effects().get((axis, note.reading), "")
        return Reading(note.reading, note.meaning, takers, effect)

    def presets_by_reading(self, axis: str) -> dict[str, list[str]]:
        """The readings of an axis that some preset takes, with those presets."""
        by_reading: dict[str, list[str]] = {}
        for preset, reading in preset_readings(axis).items():
            by_reading.setdefault(reading, []).append(preset)
        return by_reading

    def reasons_of(self, axis: Axis) -> Iterator[tuple[str, str, str]]:
        """For each preset: its name, the reading that it takes, and why."""
        taken = preset_readings(axis.id)
        for name in PRESETS:
            yield name, taken[name], getattr(axis, f"why_{name}")

    def deltas_on(self, axis: Axis) -> list[Delta]:
        """The deltas that live on an axis."""
        return [item for item in self.spec.deltas.values() if axis.id in item.axes]

    def taken(self, delta: Delta) -> Iterator[tuple[str, str]]:
        """For each preset: its name, and what it takes of a delta's readings, and why."""
        for name in PRESETS:
            yield name, getattr(delta.takes, name)

    def deltas(self, kind: str) -> list[Delta]:
        """The deltas of one kind."""
        return [item for item in self.spec.deltas.values() if item.kind == kind]

    @cached_property
    def _numbers(self) -> Mapping[str, str]:
        return effects.measured(self.spec.witnesses)

    def measured(self, delta: Delta) -> list[Measured]:
        """The measured effects of a delta."""
        return [Measured(self.spec.witnesses[name], self._numbers[name]) for name in delta.witness]

    def plots(self, identifier: str) -> list[tuple[Markup, str]]:
        """The plots of a delta or a deviation, and the sentence beside each."""
        curves = (item for item in shipped_curves() if item.id == identifier)
        return [(_drawn(item), item.says) for item in curves]

    def examples(self, section: str) -> list[ShippedExample]:
        """The examples of a section, to follow by hand."""
        return [item for item in shipped_examples() if item.section == section]

    def effects_of(self, deviation: Deviation) -> tuple[tuple[str, str], ...]:
        """What a deviation does at Table 8's sizes: (variant, what it does); () if unmeasured."""
        return shipped_effects().get(deviation.id, ())

    def deviations_by_stage(self) -> dict[str, list[Deviation]]:
        """The deviations by the stage at which they show, in the order of the catalogue."""
        stages: dict[str, list[Deviation]] = {}
        for item in self.spec.deviations.values():
            stages.setdefault(item.stage, []).append(item)
        return stages

    def holding(self, symbol: Symbol) -> list[Clause]:
        """The clauses whose formula holds a symbol."""
        where = symbol.sections or tuple(self.spec.sections)
        return [
            item
            for item in self.spec.clauses.values()
            if item.section in where and _holds(item.tex, symbol.core)
        ]

    def symbols_of(self, section: str) -> list[Symbol]:
        """The symbols in the formulas of a section."""
        return [
            item
            for item in self.spec.symbols.values()
            if any(clause.section == section for clause in self.holding(item))
        ]

    def results_of(self, clause: Clause) -> list[Result]:
        """The numbers that the paper reports in a table of results."""
        return [item for item in self.spec.results if item.table == clause.id]

    def words(self, clause: Clause) -> str:
        """What a clause is found by on its page."""
        others = (*self.deltas_of(clause), *self.deviations_of(clause))
        said = (clause.title, clause.statement, clause.formula, *clause.axes)
        return _spoken(" ".join((*said, *(f"{item.id} {item.title}" for item in others))))

    def entries(self) -> Iterator[Entry]:
        """Everything that can be searched for, clauses first."""
        spec = self.spec
        for clause in spec.clauses.values():
            label = spec.rows[clause.id].label if clause.id in spec.rows else ""
            words = (clause.statement, clause.formula, section_name(clause.section), label)
            yield self._entry(clause.id, clause.title, "clause", words)
        for name, title in spec.sections.items():
            yield Entry(section_name(name), title, "section", section_file(name), "")
        for axis in spec.axes.values():
            notes = (f"{note.reading} {note.meaning}" for note in axis.readings)
            yield self._entry(axis.id, axis.question, "readings", notes)
        for delta in spec.deltas.values():
            yield self._entry(delta.id, delta.title, "difference", (delta.statement, delta.effect))
        for item in spec.deviations.values():
            words = (item.looks_like, item.mend, item.stage)
            yield self._entry(item.id, item.title, "deviation", words)
        for symbol in spec.symbols.values():
            words = f"{symbol.id} {symbol.meaning}"
            href = f"symbols.html#{symbol.id}"
            yield Entry(symbol.name, symbol.meaning, "symbol", href, _spoken(words))
        for check in self.checks:
            if self.places[check.id].startswith("checks.html"):
                yield self._entry(check.id, check.title, "check", check.clauses)

    def _entry(self, identifier: str, title: str, kind: str, words: Iterable[str]) -> Entry:
        return Entry(
            identifier, title, kind, self.places[identifier], _spoken(" ".join((title, *words)))
        )

    def location(self, item: Marked) -> str:
        """Name the file of a function within its package, and its line."""
        package = item.module.partition(".")[0]
        inside = item.path.parts[len(item.path.parts) - 1 - item.path.parts[::-1].index(package) :]
        return f"{'/'.join(inside)}, line {item.line}"


def _drawn(curve: Shipped) -> Markup:
    layers = [Layer(label, x, y) for label, x, y in curve.series]
    marks = [Mark(label, x=x) for label, x in curve.marks]
    return plot(
        curve.title, layers, x=curve.x, y=curve.y,
        log_x=curve.log_x, log_y=curve.log_y, marks=marks,
    )  # fmt: skip


def _holds(tex: str, core: str) -> bool:
    """Whether a formula holds the TeX of a symbol, outside the words in it."""
    if not core.startswith("\\operatorname") and "mathrm" not in core:
        tex = re.sub(r"\\(?:text|operatorname|mathrm)\{[^{}]*\}", " ", tex)
    bare = not core.startswith("\\tilde")
    behind = r"(?<![A-Za-z\\])" + (r"(?<!\\tilde\{)" if bare else "")
    return re.search(rf"{behind}{re.escape(core)}(?![A-Za-z])", tex) is not None


def _spoken(text: str) -> str:
    """A text with the names of its signs and other words for what it says added, each once."""
    names = (name for said, name in {**GREEK, **ALSO}.items() if said in text)
    return f"{' '.join(text.split())} {' '.join(names)}".strip()
