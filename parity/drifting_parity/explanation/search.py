"""The search: stage after stage, the hypotheses that explain what the probes of it show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.explanation.answers import Answer, direction_error, whole_error
from drifting_parity.explanation.hypothesis import Hypothesis, Option
from drifting_parity.explanation.model import Model, fit, own_direction
from drifting_parity.explanation.probes import Probe
from drifting_parity.explanation.subject import Subject
from drifting_parity.suspects import ALL
from drifting_spec import Readings

DEPTH = 3
"""The most changes in one stage."""

WIDTH = 10
"""How many hypotheses go on where none fits."""

CLOSER = 14
"""How many of a layer are looked at in full."""

TUNED = 6
"""How many of a layer have their sizes fitted."""

BUDGET = 4000
"""Evaluations of the textbook, about 2 ms each, after which a stage tries nothing more."""

WIDER = 5
"""By how much a search that found nothing is widened: bases, those looked at, and budget."""

KEPT = 8
"""How many that fit go on to the next stage."""


@dataclass
class Scored:
    """A hypothesis with its misfit on the probes of a stage, in the order of the probes."""

    hypothesis: Hypothesis
    misfits: list[float]

    @property
    def worst(self) -> float:
        """The largest misfit; what cannot be computed is infinite."""
        return max(self.misfits, default=0.0)

    @property
    def score(self) -> float:
        """The mean logarithm of the misfits: how near it comes, less spoilt by one probe."""
        logs = [math.log(min(max(item, 1e-13), 10.0)) for item in self.misfits]
        return sum(logs) / max(1, len(logs))


@dataclass
class Search:
    """A search on one subject: model, tolerance, and what was scored already."""

    subject: Subject
    model: Model
    tolerance: float
    asked: Readings
    probes: tuple[Probe, ...] = ()
    _scores: dict[tuple[str, object], float] = field(
        default_factory=dict[tuple[str, object], float]
    )
    _limit: int = 0

    def probes_of(self, stage: str) -> list[Probe]:
        """The probes of a stage that the subject answers."""
        return [probe for probe in self.probes if probe.stage == stage]

    @property
    def exhausted(self) -> bool:
        """Whether the stage has had its budget."""
        return self.model.evaluations > self._limit

    def misfit(self, hypothesis: Hypothesis, probe: Probe) -> float:
        """How far the hypothesis is from the subject's answer to the probe, as the probe looks."""
        observed = self.subject.ask(probe)
        if observed is None:
            return 0.0
        key = (probe.stage + probe.name, hypothesis.key(probe.case))
        if key not in self._scores:
            self._scores[key] = self._misfit(hypothesis, probe, observed)
        return self._scores[key]

    def _misfit(self, hypothesis: Hypothesis, probe: Probe, observed: Answer) -> float:
        if probe.view == "dialled direction":
            factor, miss = 1.0, direction_error(observed, self.model.answer(hypothesis, probe))
            if not miss <= self.tolerance:
                factor, miss = self.model.dialled(hypothesis, probe, observed)
            flat = miss <= self.tolerance and self._flat(hypothesis, probe, factor)
            return math.inf if flat else miss
        expected = self.model.answer(hypothesis, probe)
        if probe.view == "direction":
            return direction_error(observed, expected)
        return whole_error(observed, expected)

    def _flat(self, hypothesis: Hypothesis, probe: Probe, factor: float) -> bool:
        """Whether the temperature is so high that ten times as much computes the same.

        The weights take no notice of it then: a code of which they do not either was not seen to
        have a temperature, nor what else the hypothesis says of its kernel.
        """
        here, higher = self.model.directions(hypothesis, probe, [factor, 10 * factor])
        return here.shape == higher.shape and bool(np.linalg.norm(higher - here) <= self.tolerance)

    def quick(
        self, hypothesis: Hypothesis, probes: Sequence[Probe], factor: float | None = None
    ) -> float:
        """A cheap guess at the score, from the first probe alone; ``factor`` is worth a try."""
        probe = probes[0]
        observed = self.subject.ask(probe)
        if observed is None or probe.view != "dialled direction":
            return self.misfit(hypothesis, probe)
        return self.model.nearest(hypothesis, probe, observed, factor)[1]

    def score(self, hypothesis: Hypothesis, probes: Sequence[Probe]) -> Scored:
        """Misfits on the probes, no further than the first two once it is clear it does not fit."""
        misfits: list[float] = []
        for probe in probes:
            misfits.append(self.misfit(hypothesis, probe))
            if len(misfits) >= 2 and max(misfits) > self.tolerance:
                break
        return Scored(hypothesis, misfits)

    def fits(self, hypothesis: Hypothesis, probes: Iterable[Probe]) -> bool:
        """Whether it explains every probe that the subject answers."""
        probes = list(probes)
        near = all(self.misfit(hypothesis, probe) <= self.tolerance for probe in probes)
        return near and not self._drowned(hypothesis, probes)

    def settle(
        self,
        starts: Sequence[Hypothesis],
        probes: Sequence[Probe],
        options: Sequence[Option],
        depth: int = DEPTH,
        done: Sequence[Probe] = (),
        wider: int = 1,
    ) -> tuple[list[Hypothesis], list[Scored]]:
        """Hypotheses that fit the probes with the fewest changes, and the nearest if none does.

        ``done`` are the probes that the starts fit: they go on fitting them at other sizes.
        ``wider`` multiplies how many are followed and looked at.
        """
        self._limit = self.model.evaluations + wider * BUDGET
        layer = [self.score(start, probes) for start in starts]
        if not any(item.worst <= self.tolerance for item in layer):
            layer += self._resized(starts, probes, done)
        known = {item.hypothesis for item in layer}
        nearest = list(layer)
        fitting = self._fitting(layer, probes)
        width = len(starts) if wider > 1 else WIDTH
        for _ in range(depth):
            if fitting or self.exhausted:
                break
            layer.sort(key=lambda item: item.score)
            fresh = self._changed(
                [item.hypothesis for item in layer[:width]], options, probes, known
            )
            layer = self._scored(fresh, probes, wider * CLOSER)
            nearest += layer
            width = WIDTH
            fitting = self._fitting(layer, probes)
        nearest.sort(key=lambda item: item.score)
        fitting += self._variants(fitting, probes)
        fitting.sort(key=lambda item: (item.changes(self.asked), len(item.uses)))
        return _distinct(fitting)[:KEPT], nearest[:WIDTH]

    def _fitting(self, layer: Sequence[Scored], probes: Sequence[Probe]) -> list[Hypothesis]:
        near = [item.hypothesis for item in layer if item.worst <= self.tolerance]
        return [item for item in near if not self._drowned(item, probes)]

    def _variants(self, fitting: Sequence[Hypothesis], probes: Sequence[Probe]) -> list[Hypothesis]:
        """Other variants of the deviations in use that fit as well: a later stage tells them apart.

        Of a layer only the nearest are looked at in full, and one variant may crowd another out.
        """
        variants: list[Hypothesis] = []
        for item in fitting[:KEPT]:
            for use in item.uses:
                rest = item.without(use.key)
                for key, suspect in ALL.items():
                    alike = suspect.id == use.suspect.id and key != use.key
                    other = rest.with_suspect(key) if alike and suspect.reading is None else None
                    if other is None or suspect.raises or other in fitting:
                        continue
                    if self.fits(other, probes):
                        variants.append(other)
        return variants

    def _resized(
        self, starts: Sequence[Hypothesis], probes: Sequence[Probe], done: Sequence[Probe]
    ) -> list[Scored]:
        """The starts at the sizes that these probes show: directions do not show every size."""
        sized = [item for item in starts if _sizes(item)] if done else []
        tuned = [self.tune(item, probes) for item in sized[:TUNED]]
        fresh = dict.fromkeys(item for item in tuned if item is not None and item not in starts)
        return [self.score(item, probes) for item in fresh if self.fits(item, done)]

    def _changed(
        self,
        bases: Sequence[Hypothesis],
        options: Sequence[Option],
        probes: Sequence[Probe],
        known: set[Hypothesis],
    ) -> list[tuple[Hypothesis, float | None]]:
        """What one more option makes of the bases, as far as it can show on the probes.

        Beside each the factor of the temperature that its base had.
        """
        fresh: list[tuple[Hypothesis, float | None]] = []
        for hypothesis in bases:
            factor = self._factor(hypothesis, probes[0])
            keys = [hypothesis.key(probe.case) for probe in probes]
            for option in options:
                changed = option.apply(hypothesis)
                if changed is None or changed in known:
                    continue
                known.add(changed)
                if any(changed.key(p.case) != key for p, key in zip(probes, keys, strict=True)):
                    fresh.append((changed, factor))
        return fresh

    def _factor(self, hypothesis: Hypothesis, probe: Probe) -> float | None:
        """The factor of the temperature that fits the first probe best, where it is free."""
        observed = self.subject.ask(probe)
        if observed is None or probe.view != "dialled direction":
            return None
        return self.model.dialled(hypothesis, probe, observed)[0]

    def _scored(
        self,
        fresh: Sequence[tuple[Hypothesis, float | None]],
        probes: Sequence[Probe],
        closer: int,
    ) -> list[Scored]:
        """The ``closer`` most promising of a layer in full, sizes of some fitted."""
        guesses: list[tuple[float, int]] = []
        for index, (item, factor) in enumerate(fresh):
            if self.exhausted:
                break
            guesses.append((self.quick(item, probes, factor), index))
        guesses.sort()
        dialled = bool(probes) and probes[0].view == "dialled direction"
        chosen = guesses[:closer] if dialled else guesses
        if dialled:
            # Their guesses are the rougher ones.
            rough = [pair for pair in guesses[closer:] if own_direction(fresh[pair[1]][0])]
            chosen += rough[: closer // 2]
        scored = [self.score(fresh[index][0], probes) for _, index in chosen]
        scored.sort(key=lambda item: item.score)
        sized = [item for item in scored if _sizes(item.hypothesis) and item.worst > self.tolerance]
        near = sum(item.worst < 1e-3 for item in sized)
        for item in sized[: max(TUNED, min(near, 2 * TUNED))]:
            if self.exhausted:
                break
            tuned = self.tune(item.hypothesis, probes)
            if tuned is not None and tuned != item.hypothesis:
                scored.append(self.score(tuned, probes))
        return scored

    # Sizes.

    def tune(self, hypothesis: Hypothesis, probes: Sequence[Probe]) -> Hypothesis | None:
        """The hypothesis with the sizes that fit the probe best on which it is worst."""
        visible = [
            probe
            for probe in probes
            if _measurable(self.subject.ask(probe))
            and any(use.suspect.can_show(probe.case, hypothesis.readings)
                    for use in hypothesis.uses if use.suspect.parameters)
        ]  # fmt: skip
        if not visible:
            return None
        visible.sort(key=lambda item: self._finite_misfit(hypothesis, item), reverse=True)
        tuned: Hypothesis | None = None
        for probe in visible[:2]:
            observed = self.subject.ask(probe)
            if observed is None:
                continue
            changed = hypothesis
            sizes = _sizes(hypothesis)
            for key, name in sizes:
                changed = self._from_grid(changed, key, name, probe)
            tuned = self._fitted(changed, sizes, probe, observed)
            if self.misfit(tuned, probe) <= self.tolerance:
                break
        return tuned

    def _drowned(self, hypothesis: Hypothesis, probes: Iterable[Probe]) -> bool:
        """Whether a size of what fits is so large that ten times as much fits as well.

        It drowns what it is added to, or is the floor of: what fits then is another computation,
        which has no such size. A mask of a sample's own pair is meant to.
        """
        probes = list(probes)
        for key, name in _sizes(hypothesis):
            if not name.startswith(("added", "least")) or "self" in name:
                continue
            without = hypothesis.without(key)
            larger = hypothesis.tuned(key, name, 10 * _size(hypothesis, key, name))
            shown = [probe for probe in probes if not self.misfit(without, probe) <= self.tolerance]
            if shown and all(self.misfit(larger, probe) <= self.tolerance for probe in shown):
                return True
        return False

    def _finite_misfit(self, hypothesis: Hypothesis, probe: Probe) -> float:
        misfit = self.misfit(hypothesis, probe)
        return misfit if math.isfinite(misfit) else 0.0

    def _from_grid(self, hypothesis: Hypothesis, key: str, name: str, probe: Probe) -> Hypothesis:
        """The size from a grid around the usual one."""
        usual = _size(hypothesis, key, name)
        sign = -1.0 if usual < 0 else 1.0
        if "power" in name:
            grid = [-1.0, -0.5, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
        else:
            grid = [sign * abs(usual) * 10.0**power for power in range(-6, 7)]
        trials = [hypothesis, *(hypothesis.tuned(key, name, value) for value in grid)]
        factor = self._factor(hypothesis, probe)
        return min(trials, key=lambda item: self.quick(item, [probe], factor))

    def _fitted(
        self,
        hypothesis: Hypothesis,
        sizes: Sequence[tuple[str, str]],
        probe: Probe,
        observed: Answer,
    ) -> Hypothesis:
        """Gauss-Newton on all sizes at once, with the temperature where it is free."""
        start = [abs(_size(hypothesis, key, name)) for key, name in sizes]
        signs = [-1.0 if _size(hypothesis, key, name) < 0 else 1.0 for key, name in sizes]

        def at(values: Sequence[float]) -> Hypothesis:
            changed = hypothesis
            for (key, name), sign, value in zip(sizes, signs, values, strict=False):
                # Nobody writes other powers: one that fits better fits what it does not explain.
                power = "power" in name and key in ALL
                size = round(4.0 * value) / 4.0 if power else value
                changed = changed.tuned(key, name, sign * size)
            return changed

        if probe.view == "dialled direction":
            factor = self.model.dialled(hypothesis, probe, observed)[0]
            fitted, _ = fit(
                lambda values: self.model.directions(at(values), probe, [values[-1]])[0],
                observed.direction,
                [*start, factor],
                rounds=14,
            )
            fitted = fitted[:-1]
        else:
            whole = probe.view == "whole"
            target = _vector(observed, observed, whole=whole)
            fitted, _ = fit(
                lambda values: _vector(
                    self.model.compute(at(values), probe.case, probe.name), observed, whole=whole
                ),
                target,
                start,
                rounds=14,
            )
        exact = at(fitted)
        round_sizes = at([nice(value) for value in fitted])
        misfits = self.misfit(exact, probe), self.misfit(round_sizes, probe)
        return round_sizes if misfits[1] <= max(self.tolerance, 2 * misfits[0]) else exact


def _distinct(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Each computation once: a suspect and a size may go by several keys."""
    known: set[object] = set()
    distinct: list[Hypothesis] = []
    for item in hypotheses:
        uses = frozenset(
            (use.suspect.change, tuple(sorted(use.suspect.parameters.items()))) for use in item.uses
        )
        if (item.readings, uses) not in known:
            known.add((item.readings, uses))
            distinct.append(item)
    return distinct


def _measurable(answer: Answer | None) -> bool:
    """Whether an answer holds numbers, and not zeros alone."""
    return answer is not None and answer.finite and bool(answer.array.any())


def nice(value: float) -> float:
    """The nearest simple number, if one is near; else three digits fewer than all."""
    if not (value and math.isfinite(value)):
        return value
    for digits in (1, 2, 3):
        simple = float(f"{value:.{digits - 1}e}")
        if abs(simple / value - 1) < 10.0 ** (-digits - 2):
            return simple
    return value


def _vector(answer: Answer, unit: Answer, *, whole: bool) -> Array:
    """Direction, or gradient and value in units of those observed."""
    if not whole:
        return answer.direction
    largest = float(np.abs(unit.array).max()) or 1.0
    length = float(np.linalg.norm(unit.array / largest)) or 1.0
    size = abs(unit.value) or 1.0
    return np.append(answer.array.ravel() / largest / length, answer.value / size)


def _sizes(hypothesis: Hypothesis) -> list[tuple[str, str]]:
    return [(use.key, name) for use in hypothesis.uses for name in use.suspect.parameters]


def _size(hypothesis: Hypothesis, key: str, name: str) -> float:
    (use,) = (use for use in hypothesis.uses if use.key == key)
    return use.suspect.parameters[name]
