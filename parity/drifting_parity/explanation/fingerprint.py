"""The fingerprint of an implementation: from probes to an :class:`Explanation`."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from drifting_parity.adapters.base import Adapter
from drifting_parity.adapters.capabilities import Capabilities, learn
from drifting_parity.cases import FieldCase, LossCase, Setting
from drifting_parity.explanation.answers import LOOSE, TIGHT
from drifting_parity.explanation.confirmation import Trial, confirmed, words
from drifting_parity.explanation.data import (
    DeviationStatement,
    DialStatement,
    Explanation,
    RangeStatement,
    ReadingStatement,
    Unexplained,
)
from drifting_parity.explanation.dials import measure
from drifting_parity.explanation.features import settle_features
from drifting_parity.explanation.hypothesis import Hypothesis, Option
from drifting_parity.explanation.matrix import EXACT, KERNEL, NO_KERNEL, read, weights_of
from drifting_parity.explanation.model import Model, own_direction
from drifting_parity.explanation.probes import STAGES, Probe, entries, field_probes, loss_probes
from drifting_parity.explanation.search import WIDER, Scored, Search
from drifting_parity.explanation.stages import (
    FACTORS,
    SAME_KERNEL,
    STAGE_AXES,
    all_options,
    between_temperatures,
    options,
)
from drifting_parity.explanation.statements import (
    Alternatives,
    deviation_statements,
    reading_statements,
    simplified,
)
from drifting_parity.explanation.stock import Stock, take_stock
from drifting_parity.explanation.subject import Subject
from drifting_parity.explanation.vectors import settle_vectors
from drifting_parity.plain import plain
from drifting_parity.suspects import ALL
from drifting_spec import AXES, PAPER, Readings

REOPENED = 6
"""How many of the nearest hypotheses get the options of every stage."""

ATTEMPTS = 3
"""How often fresh cases are drawn: what the first bring out is searched once more."""

FEW = 2
"""How many changes are believed where a later stage is not explained."""

NO_COMBINATION = 1e3 * EXACT
"""The part of a gradient from which on it is plainly no combination of the samples."""

TUNED = 40
"""How many hypotheses have their sizes fitted to extreme probes."""


@dataclass
class _Track:
    """What the probes of the loss, or of the field, gave.

    ``hypotheses`` explain every stage that is ``settled``; ``unexplained`` says where it ended;
    ``left`` is the size of what a loose fit leaves; ``usable`` are the probes on which the first
    of the hypotheses holds.
    """

    probes: list[Probe]
    hypotheses: list[Hypothesis]
    settled: list[str] = field(default_factory=list[str])
    unexplained: list[Unexplained] = field(default_factory=list[Unexplained])
    ranges: list[RangeStatement] = field(default_factory=list[RangeStatement])
    dials: tuple[DialStatement, ...] = ()
    left: float = 0.0

    @property
    def usable(self) -> list[Probe]:
        """The probes that the first hypothesis explains in full."""
        if self.unexplained:
            return [probe for probe in self.probes if probe.stage in self.settled]
        failing = {item.probe for item in self.ranges if not item.holds}
        return [p for p in self.probes if p.name not in failing and p.view == "whole"]


def fingerprint(
    adapter: Adapter,
    readings: Readings = PAPER,
    setting: Setting | None = None,
    *,
    name: str = "",
    seed: int = 0,
    probes: Sequence[Probe] | None = None,
    capabilities: Capabilities | None = None,
) -> Explanation:
    """Say what the adapter's implementation computes, held to ``readings``.

    ``setting`` is how it is run (float64 on the CPU by default, or the first dtype it offers);
    ``seed`` draws the fresh cases of the confirmation; ``name`` is what the implementation is
    called, the adapter's own name by default; ``probes`` are asked in place of all;
    ``capabilities`` is what it takes, found out by trying if it is None. Never raises for what the
    implementation does.
    """
    with np.errstate(all="ignore"):  # what is no number is looked for, not warned of
        return _fingerprint(
            adapter, readings, setting, name or adapter.name, seed, probes, capabilities
        )


def _fingerprint(
    adapter: Adapter,
    readings: Readings,
    setting: Setting | None,
    name: str,
    seed: int,
    probes: Sequence[Probe] | None,
    capabilities: Capabilities | None,
) -> Explanation:
    started = time.perf_counter()
    if setting is None:
        dtype = "float64" if "float64" in adapter.dtypes else adapter.dtypes[0]
        setting = Setting(dtype=dtype)
    subject = Subject(adapter, readings, setting)
    asked_of = (*loss_probes(), *field_probes()) if probes is None else tuple(probes)
    if capabilities is None:
        capabilities = learn(adapter, readings, setting)
    stock = take_stock(subject, asked_of, capabilities)
    dtype = "float32" if stock.single else setting.dtype
    if stock.unsteady:
        return _stopped(subject, stock, name, time.perf_counter() - started)
    search = Search(subject, Model(dtype), TIGHT[dtype], readings, stock.probes)
    of_loss = [probe for probe in stock.probes if isinstance(probe.case, LossCase)]
    loss = _explained(search, of_loss, [Hypothesis(readings)])
    trial = _tried(search, loss, seed, stock)
    bare = [probe for probe in stock.probes if isinstance(probe.case, FieldCase)]
    of_field = _field_track(search, bare, loss)
    main = loss if loss.probes else of_field
    hypothesis = main.hypotheses[0]
    features = settle_features(search, hypothesis)
    statements, deviations = _said(search, loss, of_field)
    square = _square_mask(subject, asked_of)
    # A mask that is always square masks other points too, where they are as many.
    deviations = (*square, *(item for item in deviations if not square or item.key != "D02"))
    unexplained = [*loss.unexplained, *trial.unexplained, *of_field.unexplained]
    if not main.unexplained:
        statements |= features.statements
        unexplained += features.unexplained
        deviations += deviation_statements(
            Alternatives(search, features.hypothesis, ()), of=features.added(hypothesis)
        )
    taken = _taken(readings, statements)
    vectors = settle_vectors(adapter, taken, readings, setting, LOOSE[dtype])
    statements |= vectors.statements
    unexplained += vectors.unexplained
    reasons = {*vectors.refusals, *features.refusals, *subject.refusals.values()}
    answered = bool(main.probes or vectors.answered or features.answered)
    if not answered and subject.failures:
        # It takes what it is asked and answers none of it.
        unexplained.append(Unexplained("call", next(iter(subject.failures)), math.inf))
    return Explanation(
        implementation=name,
        asked=readings,
        taken=_taken(readings, statements),
        explained=answered and not unexplained,
        dtype=dtype,
        readings=tuple(statements.get(axis) or _unseen(axis, readings, reasons) for axis in AXES),
        deviations=deviations,
        dials=(*loss.dials, *trial.limits.values()),
        unexplained=tuple(unexplained),
        range=(*loss.ranges, *of_field.ranges),
        confirmation=trial.confirmation,
        not_seen=tuple(axis for axis in AXES if axis not in statements),
        notes=(*_left(loss), *_left(of_field), *stock.notes, *_raised(subject)),
        calls=subject.calls if answered else 0,
        seconds=time.perf_counter() - started,
    )


def _stopped(subject: Subject, stock: Stock, name: str, seconds: float) -> Explanation:
    """Of code that answers one question in two ways nothing else can be said."""
    return Explanation(
        implementation=name,
        asked=subject.asked,
        taken=subject.asked,
        explained=False,
        dtype=subject.setting.dtype,
        readings=tuple(_unseen(axis, subject.asked, {stock.unsteady}) for axis in AXES),
        unexplained=(Unexplained("state", stock.unsteady, stock.moved),),
        not_seen=tuple(AXES),
        notes=stock.notes,
        calls=subject.calls,
        seconds=seconds,
    )


def _left(track: _Track) -> list[str]:
    """What a loose fit leaves open."""
    if not track.left:
        return []
    return [f"a difference of {track.left:.0e} is left: an epsilon, or how it rounds"]


def _raised(subject: Subject) -> list[str]:
    """What it raised, each message once with the first probe that brought it out."""
    messages: dict[str, list[str]] = {}
    for probe, text in subject.failures.items():
        messages.setdefault(re.sub(r"\d+", "…", text), []).append(probe)
    return [
        f"raises {plain(text, 160)} on {probes[0]}"
        + (f" and {len(probes) - 1} more" if probes[1:] else "")
        for text, probes in messages.items()
    ]


def _square_mask(subject: Subject, probes: Sequence[Probe]) -> tuple[DeviationStatement, ...]:
    """D03: it raises about sizes wherever there is another number of negatives than samples."""
    raising = [probe for probe in probes if probe.name in subject.failures]
    answered = [probe for probe in probes if probe.name in subject.answers]
    about_sizes = all(
        re.search("size|shape|broadcast", subject.failures[probe.name]) for probe in raising
    )
    kinds = _more_negatives(raising), _more_negatives(answered)
    if not raising or not about_sizes or kinds != ({True}, {False}):
        return ()
    suspect = ALL["D03"]
    return (
        DeviationStatement(
            id=suspect.id,
            title=suspect.deviation.title,
            stage="field",
            key=suspect.key,
            clauses=tuple(suspect.clauses),
            effect="raises where there are unconditional samples",
            mend=suspect.deviation.mend,
        ),
    )


def _more_negatives(probes: Sequence[Probe]) -> set[bool]:
    kinds: set[bool] = set()
    for probe in probes:
        case = probe.case
        if isinstance(case, FieldCase):
            kinds.add(len(case.negative) != len(case.x))
        else:
            kinds.add(case.unconditional is not None)
    return kinds


def _explained(search: Search, probes: list[Probe], starts: list[Hypothesis]) -> _Track:
    """Stage after stage, then the extremes, then without what explains nothing."""
    track = _staged(search, probes, starts)
    if not track.unexplained:
        best, track.ranges = _ranged(search, track.hypotheses, probes)
        if not all(item.holds for item in track.ranges):
            best, track.ranges = _without_fitted(search, best, track)
        best = simplified(search, best, track.usable)
        track.hypotheses = [best, *(item for item in track.hypotheses if item != best)]
    return track


def _without_fitted(
    search: Search, best: Hypothesis, track: _Track
) -> tuple[Hypothesis, list[RangeStatement]]:
    """Without sizes that extreme probes alone show, where these are not all explained by them.

    A size can be fitted to some of what something else does.
    """
    ordinary = [probe for probe in track.probes if probe.stage != "range"]
    for use in best.uses:
        simpler = best.without(use.key)
        if use.suspect.parameters and search.fits(simpler, ordinary):
            best = simpler
    extreme = _of_stage(track.probes, "range")
    return best, [
        RangeStatement(probe.name, search.misfit(best, probe) <= search.tolerance)
        for probe in extreme
    ]


def _tried(search: Search, loss: _Track, seed: int, stock: Stock) -> Trial:
    """Fresh cases; what they bring out is searched once more, and tried on others then."""
    if loss.unexplained or not loss.probes:
        return Trial()
    trial = confirmed(search, loss.hypotheses[0], seed, stock.fit)
    for attempt in range(1, ATTEMPTS):
        if not trial.missed or not math.isfinite(min(size for _, size in trial.missed)):
            break
        probe = Probe(words(trial.smallest), "range", trial.smallest)
        if search.subject.ask(probe) is None:
            break
        mended, _ = search.settle(loss.hypotheses[:1], [probe], all_options(), depth=2)
        mended = [item for item in mended if search.fits(item, loss.usable)]
        if not mended:
            break
        loss.probes.append(probe)
        loss.hypotheses = [simplified(search, mended[0], loss.usable)]
        trial = confirmed(search, loss.hypotheses[0], seed + attempt * 2**16, stock.fit)
    return trial


def _field_track(search: Search, probes: list[Probe], loss: _Track) -> _Track:
    """The field on its own probes; what the loss computes is where its search starts."""
    asked = Hypothesis(search.asked)
    if not loss.probes:
        return _explained(search, probes, [asked])
    alone = [_without_loss(item) for item in loss.hypotheses] if not loss.unexplained else []
    if alone and search.fits(alone[0], probes):
        # The field has nothing of its own to say.
        ranges = [RangeStatement(probe.name, True) for probe in _of_stage(probes, "range")]
        return _Track(probes, alone[:1], ranges=ranges)
    for start in dict.fromkeys([*alone, asked]):
        track = _explained(search, probes, [start])
        if not track.unexplained and track.hypotheses[0] == start:
            return track
    return _explained(search, probes, list(dict.fromkeys([*alone[:1], asked])))


def _without_loss(hypothesis: Hypothesis) -> Hypothesis:
    """Without the suspects that a bare field does not have."""
    for use in hypothesis.uses:
        if "loss" in use.suspect.needs:
            hypothesis = hypothesis.without(use.key)
    return hypothesis


def _said(
    search: Search, loss: _Track, of_field: _Track
) -> tuple[dict[str, ReadingStatement], tuple[DeviationStatement, ...]]:
    """What may be said of readings and deviations from the two tracks."""
    main = loss if loss.probes else of_field
    statements: dict[str, ReadingStatement] = {}
    deviations: tuple[DeviationStatement, ...] = ()
    alternatives = Alternatives(search, main.hypotheses[0], main.usable)
    if main.probes:
        sharing = main.hypotheses if main.unexplained else main.hypotheses[:1]
        statements = reading_statements(alternatives, sharing[1:])
    many = main.hypotheses[0].changes(search.asked) > FEW
    if main.unexplained and many:
        statements = {}
    elif main is loss and main.unexplained:
        statements = {
            axis: item
            for axis, item in statements.items()
            if _long_before(axis, main.unexplained[0].stage)
        }
    if not main.unexplained:
        deviations = deviation_statements(alternatives, main.hypotheses[1:])
    elif main.settled and not many:
        # What all share that explain the stages before the one that nothing explains. Many changes
        # explain early stages together without one of them being there.
        shared = [
            use
            for use in main.hypotheses[0].uses
            if all(use in item.uses for item in main.hypotheses)
        ]
        deviations = deviation_statements(alternatives, of=shared)
    if main.unexplained or main.dials:
        deviations = tuple(
            replace(item, alike=(*item.alike, *SAME_KERNEL.get(item.key, ())))
            for item in deviations
        )
    if main is of_field or of_field.unexplained or not of_field.probes:
        return statements, deviations
    # What the loss does not show, or shows nothing of, the field may.
    in_field = Alternatives(search, of_field.hypotheses[0], of_field.usable)
    beside = reading_statements(in_field)
    for axis, statement in beside.items():
        if axis not in statements:
            statements[axis] = statement
        elif statement.reading not in {statements[axis].reading, *statements[axis].alike}:
            if statements[axis].reading not in statement.alike:
                deviations += (_otherwise(statement, statements[axis]),)
        elif statement.reading != statements[axis].reading or statement.alike:
            statements[axis] = _narrowed(statements[axis], statement)
    known = {item.key for item in deviations}
    others = [
        item
        for item in deviation_statements(in_field)
        if item.key not in known and not _is_the_mask(item, statements.get("self_mask"))
    ]
    return statements, (*deviations, *(_alone(item) for item in others))


def _is_the_mask(item: DeviationStatement, mask: ReadingStatement | None) -> bool:
    """Whether a size added to a sample's own pair is the mask that was seen, but for an epsilon."""
    added = {"add_100": 100.0, "add_1e6": 1e6}
    sizes = [added[name] for name in (mask.reading, *mask.alike) if name in added] if mask else []
    return item.id == "D05" and any(
        isinstance(value, float) and abs(value / size - 1) < 1e-4
        for value in item.parameters.values()
        for size in sizes
    )


def _long_before(axis: str, stage: str) -> bool:
    """Whether an axis shows in the field alone, or well before the stage that is not explained.

    What is not explained may be what makes another reading look like this one.
    """
    shows = [STAGES.index(name) for name, axes in STAGE_AXES.items() if axis in axes]
    latest, open_at = max(shows, default=0), STAGES.index(stage)
    return latest < open_at and (latest == 0 or latest + 1 < open_at)


def _otherwise(of_field: ReadingStatement, of_loss: ReadingStatement) -> DeviationStatement:
    """The field takes another reading than the loss."""
    return DeviationStatement(
        id=of_field.axis,
        title=f"The field takes {of_field.axis}={of_field.reading}, the loss {of_loss.reading}",
        stage="field",
        key=f"{of_field.axis}={of_field.reading}",
        parameters={"seen in": "the field"},
        alike=of_field.alike,
    )


def _alone(item: DeviationStatement) -> DeviationStatement:
    """A deviation that the field has and the loss was not seen to have."""
    return replace(item, parameters={**item.parameters, "seen in": "the field"})


def _narrowed(one: ReadingStatement, other: ReadingStatement) -> ReadingStatement:
    """What both allow: each tells apart what the other does not."""
    both = {one.reading, *one.alike} & {other.reading, *other.alike}
    reading = one.reading if one.reading in both else other.reading
    return replace(one, reading=reading, alike=tuple(sorted(both - {reading})))


def _of_stage(probes: Sequence[Probe], stage: str) -> list[Probe]:
    return [probe for probe in probes if probe.stage == stage]


def _staged(search: Search, probes: list[Probe], starts: list[Hypothesis]) -> _Track:
    """Settle the ordinary stages one after the other, until one is not explained."""
    track = _Track(probes, starts)
    done: list[Probe] = []
    for stage in STAGES[:-1]:
        of_stage = _of_stage(probes, stage)
        if not of_stage:
            continue
        starts = _starts(search, track.hypotheses, of_stage)
        if stage == "field" and any(dial.law == NO_KERNEL for dial in _matrix(search, of_stage)):
            # Limits of many a kernel come near; none of them is there.
            track.dials += _matrix(search, of_stage)
            track.unexplained.append(_open(search, track.hypotheses, of_stage, stage))
            break
        options_here = _options(stage, of_stage)
        fitting, nearest = search.settle(starts, of_stage, options_here, done=done)
        if not fitting:
            # What showed nothing at its own stage may show here.
            starts = [*track.hypotheses, *(item.hypothesis for item in nearest[:REOPENED])]
            reopened, _ = search.settle(
                list(dict.fromkeys(starts)), of_stage, all_options(), depth=1
            )
            fitting = [item for item in reopened if search.fits(item, done)]
        if not fitting:
            wide = _pairs(search, track.hypotheses, of_stage, (*options_here, *options("range")))
            fitting = [item for item in wide if search.fits(item, done)]
        if not fitting:
            fitting = _loosely(search, track, nearest, (*done, *of_stage))
        if not fitting:
            fitting = _dialled(search, track, done, of_stage, stage)
        if not fitting:
            track.unexplained.append(_open(search, track.hypotheses, of_stage, stage))
            break
        track.hypotheses = fitting
        track.settled.append(stage)
        done += of_stage
    return track


def _pairs(
    search: Search,
    hypotheses: Sequence[Hypothesis],
    probes: Sequence[Probe],
    options_here: Sequence[Option],
) -> list[Hypothesis]:
    """What fits among all pairs of changes, and of the nearest of these with a third.

    The search follows what comes nearer with each change; of two changes neither may come nearer
    alone. What extremes alone bring out in the paper's loss may show beside another change, and
    every stage of the computation in a gradient that runs through it.
    """
    here = tuple({item.name: item for item in options_here}.values())
    base = hypotheses[0]
    singles = [item for option in here if (item := option.apply(base)) is not None]
    starts = list(dict.fromkeys([*hypotheses, *singles]))
    fitting, _ = search.settle(starts, probes, here, depth=2, wider=WIDER)
    attached = [item for item in singles if _attached(item)]
    if fitting or not attached or _kernel_seen(search, probes[0]):
        return fitting
    everything = {item.name: item for item in (*all_options(), *here)}
    fitting, _ = search.settle(attached, probes, tuple(everything.values()), depth=2, wider=WIDER)
    return fitting


def _kernel_seen(search: Search, probe: Probe) -> bool:
    """Whether the weights behind the gradient are those of a kernel: the target is frozen then."""
    return any(dial.name == KERNEL for dial in _matrix(search, [probe]))


def _attached(hypothesis: Hypothesis) -> bool:
    return any("attached" in use.suspect.steps for use in hypothesis.uses)


def _no_combination(search: Search, probe: Probe) -> bool:
    """Whether the gradient of a probe has a part that no weights of the samples explain."""
    observed = search.subject.ask(probe)
    if not isinstance(probe.case, LossCase) or observed is None or not observed.finite:
        return False
    weights = weights_of(probe.case, observed)
    return weights is not None and weights.residual > NO_COMBINATION


def _starts(
    search: Search, hypotheses: Sequence[Hypothesis], probes: Sequence[Probe]
) -> list[Hypothesis]:
    """Where a stage's search starts.

    A gradient that is no combination of the samples has what gives gradients a direction of their
    own: such suspects are where the search starts, however far off they are alone.
    """
    starts = list(hypotheses)
    if probes[0].stage != "field" or any(search.fits(item, probes) for item in hypotheses):
        return starts
    if not _no_combination(search, probes[0]):
        return starts
    for option in _options("field", probes):
        changed = [item for base in hypotheses if (item := option.apply(base)) is not None]
        starts += [item for item in changed if own_direction(item)]
    return list(dict.fromkeys(starts))


def _loosely(
    search: Search, track: _Track, nearest: Sequence[Scored], probes: Sequence[Probe]
) -> list[Hypothesis]:
    """What explains the structure and leaves a small difference: the tolerance is loose then."""
    loose = LOOSE[search.model.dtype]
    if search.tolerance >= loose:
        return []
    search.tolerance, tight = loose, search.tolerance
    fitting = [item.hypothesis for item in nearest if search.fits(item.hypothesis, probes)]
    if not fitting:
        search.tolerance = tight
        return []
    fitting.sort(key=lambda item: item.changes(search.asked))
    track.left = max(search.misfit(fitting[0], probe) for probe in probes)
    return fitting


def _options(stage: str, probes: Sequence[Probe]) -> tuple[Option, ...]:
    """A stage's options, and where only several temperatures are taken what weighs them."""
    case = probes[0].case
    if stage != "field" or not isinstance(case, LossCase) or len(case.temperatures) == 1:
        return options(stage)
    return (*options(stage), *between_temperatures())


def _dialled(
    search: Search, track: _Track, done: Sequence[Probe], of_stage: Sequence[Probe], stage: str
) -> list[Hypothesis]:
    """What a dial with a law explains; a measurement without one is kept as that."""
    if stage == "field":
        track.dials += _matrix(search, of_stage)
        return []
    plain: tuple[DialStatement, ...] = ()
    if not isinstance(of_stage[0].case, LossCase):
        return []
    for hypothesis in track.hypotheses[:3]:
        measured = measure(search, hypothesis, stage)
        plain = plain or measured.dials
        if measured.hypothesis is None:
            continue
        if search.fits(measured.hypothesis, (*done, *of_stage)):
            catalogued = _two_factors(search, hypothesis, (*done, *of_stage))
            if catalogued is not None:
                return [catalogued]
            track.dials += measured.dials
            return [measured.hypothesis]
    track.dials += plain
    return []


def _two_factors(
    search: Search, hypothesis: Hypothesis, probes: Sequence[Probe]
) -> Hypothesis | None:
    """Two catalogued factors that together are what a dial measures as one."""
    factors = [item for item in all_options() if item.name in FACTORS]
    for one, two in itertools.combinations(factors, 2):
        first = one.apply(hypothesis)
        both = None if first is None else two.apply(first)
        if both is not None and search.fits(both, probes):
            return both
    return None


def _matrix(search: Search, probes: Sequence[Probe]) -> tuple[DialStatement, ...]:
    """What the weight matrix of the first probe says that has channels enough."""
    for probe in probes:
        observed = search.subject.ask(probe)
        if isinstance(probe.case, LossCase) and observed is not None and observed.finite:
            dials = read(probe.case, observed)
            if dials:
                return tuple(dials)
    return ()


def _open(
    search: Search, hypotheses: Sequence[Hypothesis], probes: Sequence[Probe], stage: str
) -> Unexplained:
    """The smallest probe of the stage that what was settled before does not explain."""
    best = hypotheses[0]
    misfits = [(probe, search.misfit(best, probe)) for probe in probes]
    failing = [pair for pair in misfits if not pair[1] <= search.tolerance]
    probe, size = min(failing, key=lambda pair: entries(pair[0]))
    return Unexplained(stage, probe.name, size)


def _ranged(
    search: Search, hypotheses: Sequence[Hypothesis], probes: Sequence[Probe]
) -> tuple[Hypothesis, list[RangeStatement]]:
    """Of all that fits ordinary probes what holds on most extreme ones, and where it holds."""
    extreme = _of_stage(probes, "range")
    ordinary = [probe for probe in probes if probe.stage != "range"]

    def held(hypothesis: Hypothesis) -> int:
        return sum(search.misfit(hypothesis, probe) <= search.tolerance for probe in extreme)

    best, bases, known = max(hypotheses, key=held), list(hypotheses), set(hypotheses)
    for _ in range(3):
        failing = [p for p in extreme if not search.misfit(best, p) <= search.tolerance]
        if not failing:
            break
        changed = [
            item
            for base in _with_and_without(bases[:4])
            for option in options("range")
            if (item := option.apply(base)) is not None and item not in known
        ]
        known.update(changed)
        tuned = [
            item
            for base in changed
            if base.uses and (item := search.tune(base, failing)) is not None and item != base
        ]
        better = [
            item for item in (*changed, *tuned) if held(item) > held(best) and
            search.fits(item, ordinary)
        ]  # fmt: skip
        if not better:
            break
        bases = sorted(better, key=held, reverse=True)
        best = bases[0]
    statements = [
        RangeStatement(probe.name, search.misfit(best, probe) <= search.tolerance)
        for probe in extreme
    ]
    return best, statements


def _with_and_without(bases: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Hypotheses, and each without one of its sizes, in whose place another may stand."""
    fewer = [base.without(use.key) for base in bases for use in base.uses if use.suspect.parameters]
    return list(dict.fromkeys([*bases, *fewer]))


def _taken(asked: Readings, statements: dict[str, ReadingStatement]) -> Readings:
    changes = {axis: item.reading for axis, item in statements.items()}
    return replace(asked, **changes)  # pyright: ignore[reportArgumentType] -- axes' readings


def _unseen(axis: str, asked: Readings, reasons: set[str]) -> ReadingStatement:
    text = "; ".join(sorted(reasons)) or "moot, or the readings differ by less than rounding"
    return ReadingStatement(axis, getattr(asked, axis), False, (), text)
