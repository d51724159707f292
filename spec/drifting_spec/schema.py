"""What the spec's data files hold: one frozen dataclass for each kind of entry.

The fields are the keys of the TOML tables; :mod:`drifting_spec.registry` reads and checks them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ClauseKind = Literal["equation", "algorithm", "requirement", "table", "result"]
Subject = Literal["implementation", "paper"]
DeltaKind = Literal["paper", "seed", "release"]
Stage = Literal[
    "vectors",
    "field",
    "scale",
    "temperature",
    "drift scale",
    "aggregation",
    "weights",
    "labels",
    "locations",
    "reductions",
    "vanilla term",
    "gradient",
    "training",
    "call",
]
"""Where in the computation something shows: from the vectors to the gradient of the loss; beside
them the training loop (``training``) and code that cannot be called as it stands (``call``)."""


AxisStage = Literal[
    "field", "scale", "drift scale", "aggregation", "labels", "locations", "weights", "range"
]
"""Where a reading shows when a loss is explained stage by stage; ``range``: on extreme inputs."""


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

    ``statement`` is in our own words, ``formula`` readable in a terminal, ``tex`` the same in
    plain LaTeX with amsmath, for pages; a clause has both or neither. ``axes`` are those the
    clause raises (an implementation may conform to it under another reading of them); the axes
    name their clauses, so that the data files say it once.
    ``executable = false`` needs a ``reason``. ``subject`` says what a check of it judges: an
    implementation, or the paper itself (a theorem, an identity, arithmetic), computed with the
    reference and the spec's data alone.
    """

    id: str
    title: str
    section: str
    kind: ClauseKind
    statement: str
    formula: str = ""
    tex: str = ""
    depends_on: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    deltas: tuple[str, ...] = ()
    executable: bool = True
    reason: str = ""
    subject: Subject = "implementation"


@dataclass(frozen=True)
class ReadingNote:
    """What one reading of an axis, or of a contradiction, means."""

    reading: str
    meaning: str


@dataclass(frozen=True)
class Axis:
    """One question that the text leaves open, its readings, and why each preset takes its own.

    Which one it takes lives in :mod:`drifting_spec.readings` and nowhere else. ``stages``: where
    in the computation of one feature's loss the readings show, and no sooner; none for an axis
    that shows elsewhere.
    """

    id: str
    question: str
    clauses: tuple[str, ...]
    readings: tuple[ReadingNote, ...]
    why_paper: str
    why_release: str
    why_seed: str
    observable: str
    stages: tuple[AxisStage, ...] = ()


@dataclass(frozen=True)
class Place:
    """A place of the text, or of a code base, and what it says there."""

    where: str
    says: str


@dataclass(frozen=True)
class Takes:
    """What each preset takes of a delta's readings, and why."""

    paper: str = ""
    release: str = ""
    seed: str = ""


@dataclass(frozen=True)
class Delta:
    """A known difference: in the paper (P-), of the seed repository (R-), of the release (J-).

    ``places`` are those that disagree (one, where a place leaves something open). ``readings``
    and ``takes`` of a delta that lives on axes may be left out of the data file: they are the
    axes' own then. ``witness`` holds the ids of the measurements of its effect, gathered from the
    witnesses that name it; where no number can decide, ``undecidable`` says why. A delta has
    exactly one of the two.
    """

    id: str
    title: str
    kind: DeltaKind
    statement: str
    places: tuple[Place, ...] = ()
    effect: str = ""
    readings: tuple[ReadingNote, ...] = ()
    takes: Takes = Takes()
    witness: tuple[str, ...] = ()
    undecidable: str = ""
    clauses: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Witness:
    """A number measured on the reference that shows the effect of a delta, and its band.

    ``measures`` says what the number is, ``why`` why the band [``low``, ``high``] is just that
    wide. The function of the same id stands in ``drifting_parity.witnesses``.
    """

    id: str
    delta: str
    title: str
    unit: str
    low: float
    high: float
    measures: str
    why: str

    def holds(self, effect: float) -> bool:
        """Whether ``effect`` lies in the band; never for NaN."""
        return self.low <= effect <= self.high

    @property
    def band(self) -> str:
        """The band for a reader: ``0.2359 … 0.2456``; one number where only rounding is allowed."""
        low, high = f"{self.low:.5g}", f"{self.high:.5g}"
        return low if low == high else f"{low} … {high}"


@dataclass(frozen=True)
class Deviation:
    """A catalogued difference from the paper met in real code, mostly a mistake.

    A few are readings that the paper's preset does not take; ``exposed_by`` or ``mend`` says so.
    ``black_box``: visible in value, gradient or field alone. ``stage``: where in the computation
    it shows. ``looks_like``: what the code usually says, in words or short pseudo-code. ``mend``:
    one sentence that says how to put it right.
    """

    id: str
    title: str
    clauses: tuple[str, ...]
    exposed_by: str
    black_box: bool
    stage: Stage
    looks_like: str
    mend: str


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
class Misprint:
    """An artefact of the scan: what it shows, and how it is read."""

    id: str
    where: str
    shows: str
    read_as: str


@dataclass(frozen=True)
class TableRow:
    """One row of Table 8, its clause's id, and its value in each of the five columns.

    ``field`` is the field of :class:`drifting_spec.table8.Column` that it fills. Where the table
    prints something else, ``printed`` holds that for each column and ``marks`` the ids of the
    misprints (O-) or contradictions (P-) by which it was resolved.
    """

    id: str
    field: str
    label: str
    values: tuple[object, ...]
    printed: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Symbol:
    """A symbol of the paper: ``tex`` as it is typeset, what it means, the clauses that define it.

    ``core`` is the TeX by which a formula is known to hold it, in ``sections`` alone if there are
    any: a letter with two meanings is two symbols.
    """

    id: str
    tex: str
    core: str
    name: str
    meaning: str
    shape: str
    clauses: tuple[str, ...]
    sections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A number that the paper reports: its table's clause, what was run, the metric, the value."""

    table: str
    configuration: str
    metric: str
    value: float
