"""From the hypothesis that explains everything to what may be said: no more than was seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Final

import numpy as np
from scipy import optimize

from drifting_parity.cases import LossCase
from drifting_parity.explanation.answers import Answer, relative, value_error, whole_error
from drifting_parity.explanation.data import DeviationStatement, ReadingStatement
from drifting_parity.explanation.hypothesis import DIALS, LOSS_AXES, Hypothesis, Use
from drifting_parity.explanation.model import Model
from drifting_parity.explanation.probes import Probe, entries, loss_case
from drifting_parity.explanation.search import Search
from drifting_parity.explanation.stages import FACTORS, all_options, stage_of
from drifting_parity.explanation.vectors import evidence
from drifting_parity.suspects import ALL
from drifting_spec import AXES, Readings

APART: Final = 10
"""Two hypotheses are told apart where they differ by this many tolerances."""

GUIDANCE: Final = 4.0
"""The guidance scale α of the words about weights, the largest of Table 8."""

NEARLY: Final = 1e-3
"""A misfit up to which other sizes of the same suspects are worth a try."""


def simplified(search: Search, hypothesis: Hypothesis, probes: Sequence[Probe]) -> Hypothesis:
    """Without the changes that explain nothing, or nothing that other sizes do not explain."""
    for use in hypothesis.uses:
        simpler = _fitting(search, hypothesis.without(use.key), probes)
        hypothesis = simpler or hypothesis
    for axis in search.asked.differing(hypothesis.readings):
        changed = hypothesis.with_reading(axis, getattr(search.asked, axis))
        if changed is None or changed.changes(search.asked) >= hypothesis.changes(search.asked):
            continue
        simpler = _fitting(search, changed, probes)
        hypothesis = simpler or hypothesis
    return _merged(search, hypothesis, probes)


def _fitting(search: Search, hypothesis: Hypothesis, probes: Sequence[Probe]) -> Hypothesis | None:
    """The hypothesis if it explains the probes, as it is or at other sizes of its suspects."""
    if search.fits(hypothesis, probes):
        return hypothesis
    if not any(use.suspect.parameters for use in hypothesis.uses):
        return None
    if max(search.misfit(hypothesis, probe) for probe in probes) > NEARLY:
        return None
    tuned = search.tune(hypothesis, probes)
    return tuned if tuned is not None and search.fits(tuned, probes) else None


def _merged(search: Search, hypothesis: Hypothesis, probes: Sequence[Probe]) -> Hypothesis:
    """Two changes in one, where one does the same."""
    for pair in itertools.combinations(_changes(search, hypothesis), 2):
        rest = _without(search, hypothesis, pair)
        if rest is None or rest.changes(search.asked) > hypothesis.changes(search.asked) - 2:
            continue
        for option in all_options():
            merged = option.apply(rest)
            if merged is None or merged.changes(search.asked) >= hypothesis.changes(search.asked):
                continue
            if search.fits(merged, probes):
                return _merged(search, merged, probes)
    return hypothesis


def _changes(search: Search, hypothesis: Hypothesis) -> list[str]:
    """What leads from the readings asked for to the hypothesis, by the options' names."""
    differing = search.asked.differing(hypothesis.readings)
    readings = [f"{axis}={getattr(hypothesis.readings, axis)}" for axis in differing]
    return [*(use.key for use in hypothesis.uses), *readings]


def _without(search: Search, hypothesis: Hypothesis, names: Sequence[str]) -> Hypothesis | None:
    """The hypothesis without some of its changes, None where the readings contradict then."""
    rest: Hypothesis | None = hypothesis
    for name in names:
        axis, _, reading = name.partition("=")
        if rest is not None and reading:
            rest = rest.with_reading(axis, getattr(search.asked, axis))
        elif rest is not None:
            rest = rest.without(name)
    return rest


@dataclass(frozen=True)
class Alternatives:
    """What explains the probes as well as a hypothesis does: found once, for all that is said."""

    search: Search
    hypothesis: Hypothesis
    probes: Sequence[Probe]

    @cached_property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """For each factor in use the other factors, up to three, that multiply to the same.

        A factor is replaced alone or together with a second one; what replaces it has no part
        that would be enough.
        """
        if not self.probes:
            return {}
        used = [name for name in _changes(self.search, self.hypothesis) if name in FACTORS]
        alike: dict[str, tuple[str, ...]] = {}
        for count in (1, 2):
            for names in itertools.combinations(used, count):
                rest = _without(self.search, self.hypothesis, names)
                texts = () if rest is None else tuple(self._multiplied(rest, used))
                for name in names:
                    alike[name] = (*alike.get(name, ()), *texts)
        return alike

    def _multiplied(self, rest: Hypothesis, used: Sequence[str]) -> Iterator[str]:
        """Sets of factors, none in use, that make of ``rest`` what explains the probes."""
        cheap = sorted(self.probes, key=lambda probe: (probe.view != "whole", entries(probe)))
        options = [item for item in all_options() if item.name in FACTORS and item.name not in used]
        enough: list[set[str]] = []
        for count in (1, 2, 3):
            for chosen in itertools.combinations(options, count):
                keys = {item.name for item in chosen}
                if any(smaller <= keys for smaller in enough):
                    continue
                changed: Hypothesis | None = rest
                for item in chosen:
                    changed = None if changed is None else item.apply(changed)
                if changed is None or not self.search.fits(changed, cheap):
                    continue
                enough.append(keys)
                if count > 1:  # a single one is listed with the suspects
                    yield " with ".join(item.name for item in chosen)

    @cached_property
    def replacements(self) -> dict[Use, list[tuple[str, Hypothesis]]]:
        """For each suspect in use what explains everything in its place, and the hypothesis so."""
        return {use: list(self._replacing(use)) for use in self.hypothesis.uses}

    def _replacing(self, use: Use) -> Iterator[tuple[str, Hypothesis]]:
        if not self.probes or use.key in DIALS:
            return
        rest = self.hypothesis.without(use.key)
        for option in all_options():
            other = option.apply(rest)
            if other is None or option.name == use.key:
                continue
            if self.search.fits(other, self.probes):
                yield option.name, other
                continue
            tuned = _tuned(self.search, use, other, self.probes, option.name)
            if tuned is not None:
                yield option.name, tuned

    def beside_another(self, axis: str) -> Iterator[str]:
        """Readings that explain everything as well where another suspect, or none, is in use."""
        swaps = [
            (use, other)
            for use, replacing in self.replacements.items()
            if use.key not in DIALS
            for other in (self.hypothesis.without(use.key), *(item for _, item in replacing))
        ]
        for reading in AXES[axis]:
            if reading == getattr(self.hypothesis.readings, axis):
                continue
            for use, swap in swaps:
                other = swap.with_reading(axis, reading)
                # A floor: beside another one an epsilon may have another size.
                resized = axis == "affinity_floor" and "combination" in use.suspect.steps
                if other is not None and self._explains(other, resized=resized):
                    yield reading
                    break

    def _explains(self, other: Hypothesis, *, resized: bool) -> bool:
        if resized:
            return _fitting(self.search, other, self.probes) is not None
        return self.search.fits(other, self.probes)


# Readings.


def reading_statements(
    alternatives: Alternatives, others: Sequence[Hypothesis] = ()
) -> dict[str, ReadingStatement]:
    """The axes that show on the probes, with the reading that all hypotheses share.

    ``others`` are further hypotheses that are as good.
    """
    statements: dict[str, ReadingStatement] = {}
    search, best, probes = alternatives.search, alternatives.hypothesis, alternatives.probes
    factors = {} if others else alternatives.factors
    hypotheses = (best, *others)
    for axis in LOSS_AXES:
        if len({getattr(item.readings, axis) for item in hypotheses}) > 1:
            continue
        statement = _seen(search, best, axis, probes)
        if statement is None:
            continue
        asked = getattr(search.asked, axis)
        alike = (
            *statement.alike,
            *alternatives.beside_another(axis),
            *factors.get(f"{axis}={statement.reading}", ()),
            *(text for texts in factors.values() for text in texts if f"{axis}=" in text),
        )
        statement = replace(statement, alike=tuple(dict.fromkeys(alike)))
        if statement.reading != asked and len(hypotheses) == 1:
            suspects = tuple(_instead(search, best, axis, asked, probes))
            statement = replace(
                statement,
                alike=(*statement.alike, *suspects),
                effect=reading_effect(best, search.asked, axis),
            )
        statements[axis] = statement
    return statements


def _instead(
    search: Search, hypothesis: Hypothesis, axis: str, asked: str, probes: Sequence[Probe]
) -> Iterator[str]:
    """Suspects that explain everything as well as the reading does."""
    rest = hypothesis.with_reading(axis, asked)
    if rest is None:
        return
    for option in all_options():
        other = option.apply(rest)
        if other is None or other.uses == rest.uses:
            continue
        if search.fits(other, probes):
            yield option.name


def _seen(
    search: Search, hypothesis: Hypothesis, axis: str, probes: Sequence[Probe]
) -> ReadingStatement | None:
    nearest, where, alike = math.inf, "", list[str]()
    for reading in AXES[axis]:
        other = hypothesis.with_reading(axis, reading)
        if other is None:
            continue
        gap, name = _gap(search, hypothesis, other, probes)
        if not name:
            alike.append(reading)
        elif gap <= nearest:
            nearest, where = gap, name
    if not where:
        return None
    reading = getattr(hypothesis.readings, axis)
    text = evidence(nearest, where, tuple(alike))
    return ReadingStatement(axis, reading, True, tuple(alike), text)


def _gap(
    search: Search, one: Hypothesis, other: Hypothesis, probes: Sequence[Probe]
) -> tuple[float, str]:
    """On which probe two hypotheses differ, and by how much: the first where it is plain."""
    best, name = 0.0, ""
    for probe in probes:
        if one.key(probe.case) == other.key(probe.case):
            continue
        answer = search.model.answer(one, probe)
        if probe.view == "dialled direction":
            # What the dial absorbs was not seen.
            gap = search.model.dialled(other, probe, answer)[1]
        else:
            gap = whole_error(search.model.answer(other, probe), answer)
        if gap > APART * search.tolerance and gap > best:
            best, name = gap, probe.name
            if gap > 1e-3:
                break
    return best, name


# Deviations.


def deviation_statements(
    alternatives: Alternatives,
    rivals: Sequence[Hypothesis] = (),
    of: Sequence[Use] | None = None,
) -> tuple[DeviationStatement, ...]:
    """One statement for every suspect in use (or those in ``of``), with what computes the same.

    What matters most at Table 8's sizes comes first.
    """
    hypothesis = alternatives.hypothesis
    return tuple(
        DeviationStatement(
            id=use.suspect.id,
            key=use.key,
            title=_title(use),
            stage=stage_of(use.suspect),
            clauses=tuple(use.suspect.clauses),
            parameters=dict(use.suspect.parameters),
            alike=tuple(
                dict.fromkeys(
                    (
                        *_same_code(use),
                        *(name for name, _ in alternatives.replacements.get(use, ())),
                        *_rivals(hypothesis, use, rivals),
                        *alternatives.factors.get(use.key, ()),
                    )
                )
            ),
            effect=_deviation_effect(hypothesis, use),
            mend=use.suspect.deviation.mend,
        )
        for use in sorted(
            hypothesis.uses if of is None else of,
            key=lambda use: -_prominence(hypothesis, hypothesis.without(use.key)),
        )
        if use.key not in DIALS
    )


def _deviation_effect(hypothesis: Hypothesis, use: Use) -> str:
    """What the suspect does beside all the others."""
    rest = hypothesis.without(use.key)
    text = effect(hypothesis, rest)
    of_weights = "unconditional weights" in use.suspect.needs or use.suspect.id in ("D52", "D53")
    return _with_guidance(text, hypothesis, rest) if of_weights else text


def _same_code(use: Use) -> Iterator[str]:
    """Other catalogued suspects that are this one at another size."""
    for key, item in ALL.items():
        if item.change is use.suspect.change and item.id != use.suspect.id:
            yield key


def _title(use: Use) -> str:
    title, variant = use.suspect.deviation.title, use.suspect.variant.replace("-", " ")
    return f"{title} ({variant})" if variant else title


def _tuned(
    search: Search, use: Use, other: Hypothesis, probes: Sequence[Probe], key: str
) -> Hypothesis | None:
    """Another suspect of the same stage, at a size at which it computes the same."""
    instead = next((item.suspect for item in other.uses if item.key == key), None)
    if instead is None or not instead.parameters or not use.suspect.parameters:
        return None
    if instead.change is use.suspect.change or stage_of(instead) != stage_of(use.suspect):
        return None
    tuned = search.tune(other, probes)
    return tuned if tuned is not None and search.fits(tuned, probes) else None


def _rivals(hypothesis: Hypothesis, use: Use, rivals: Sequence[Hypothesis]) -> Iterator[str]:
    """Other sets of as many changes that fit and have not this suspect."""
    for rival in rivals:
        if any(item.key == use.key for item in rival.uses):
            continue
        changes = [item.key for item in rival.uses if item not in hypothesis.uses]
        changes += [
            f"{axis}={getattr(rival.readings, axis)}"
            for axis in hypothesis.readings.differing(rival.readings)
        ]
        if len(changes) > 1:
            yield " with ".join(changes)


# Effects.


@cache
def table8_case() -> LossCase:
    """The case on which effects are measured: of Table 8's sizes, but for the number of labels."""
    sizes, temperatures = (2, 64, 64, 16, 2, 320), (0.02, 0.05, 0.2)
    return loss_case("table-8", 8, sizes, temperatures, spread=1.5, weight="label")


@cache
def _table8() -> Probe:
    return Probe("Table 8's sizes", "confirmation", table8_case())


@cache
def effect_size(one: Hypothesis, other: Hypothesis) -> tuple[float, float]:
    """How far gradient and value of one are from the other's at Table 8's sizes."""
    probe, model = _table8(), Model()
    observed, expected = model.answer(one, probe), model.answer(other, probe)
    return relative(observed.array, expected.array), value_error(observed, expected)


def effect(one: Hypothesis, other: Hypothesis) -> str:
    """How far the gradient of one is from the other's at Table 8's sizes, in words."""
    gradient, value = effect_size(one, other)
    if not (math.isfinite(gradient) and math.isfinite(value)):
        return "not a number at Table 8's sizes"
    if gradient >= 1e-4:
        return f"gradient {percent(gradient)} off at Table 8's sizes"
    if value >= 1e-4:
        return f"value {percent(value)} off at Table 8's sizes, the gradient is right"
    return "below 0.01 % at Table 8's sizes"


def _prominence(one: Hypothesis, other: Hypothesis) -> float:
    """What statements are ordered by: the larger of both errors, no number before all numbers."""
    sizes = effect_size(one, other)
    return max(sizes) if all(map(math.isfinite, sizes)) else math.inf


@cache
def guidance(one: Hypothesis, other: Hypothesis) -> str:
    """Which guidance scale under the other hypothesis does what α = 4 does under one, in words.

    Empty where none comes near, or where it is 4.
    """
    case = _table8().case
    assert isinstance(case, LossCase)
    assert case.unconditional is not None
    model, per_scale = Model(), (case.generated.shape[1] - 1) / case.unconditional.shape[1]

    def at(hypothesis: Hypothesis, scale: float) -> Answer:
        weight = np.full(case.unconditional.shape[:2], per_scale * (scale - 1.0))  # pyright: ignore[reportOptionalMemberAccess]
        return model.compute(hypothesis, case.changed(unconditional_weight=weight))

    observed = at(one, GUIDANCE)

    def miss(scale: float) -> float:
        return relative(at(other, scale).array, observed.array)

    bounds, exact = (1.0, 3.0 * GUIDANCE), {"xatol": 1e-3}
    scale = float(
        optimize.minimize_scalar(miss, bounds=bounds, method="bounded", options=exact).x  # pyright: ignore[reportAttributeAccessIssue] -- OptimizeResult
    )
    left = miss(scale)
    without = miss(GUIDANCE)
    if not left < 0.6 * without or abs(scale - GUIDANCE) < 0.05:
        return ""
    verb = "acts as" if left < 0.1 * without else "acts most like"
    return f"α = {GUIDANCE:g} {verb} {scale:.3g}"


def _with_guidance(text: str, one: Hypothesis, other: Hypothesis) -> str:
    said = guidance(one, other)
    return f"{text} · {said}" if said else text


def percent(size: float) -> str:
    """A relative error in per cent, or as a factor where it is large."""
    if size >= 10:
        return f"by a factor of {size:.0f}"
    return f"{100 * size:.3g} %"


def reading_effect(hypothesis: Hypothesis, asked: Readings, axis: str) -> str:
    """The effect of one reading against the one asked for."""
    other = hypothesis.with_reading(axis, getattr(asked, axis))
    if other is None:
        return ""
    text = effect(hypothesis, other)
    return _with_guidance(text, hypothesis, other) if axis == "unconditional_weight" else text


__all__ = [
    "Alternatives",
    "deviation_statements",
    "effect",
    "percent",
    "reading_effect",
    "reading_statements",
    "simplified",
    "table8_case",
]
