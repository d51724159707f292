"""Which readings an implementation takes: seen from values and gradients alone.

A small battery of cases, chosen so that every axis shows on some of them, is put to the
implementation once. Its answers are compared with the reference under the readings asked for,
then under others: presets first, then whatever single change explains more of the answers, until
all are explained. An axis is reported with the evidence for its reading: how far the nearest
other reading is from what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import (
    Array,
    EncoderCase,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    LossCase,
    LossObservation,
    Manifest,
    VectorizeCase,
)
from drifting_parity.checks.core import Context
from drifting_parity.plain import plain
from drifting_parity.report.data import NO_READING, AxisReport
from drifting_reference import encoder_shapes
from drifting_spec import AXES, PRESETS, RELEASE, Readings, ReadingsError, Traits

Answer = Mapping[str, Array]
"""What one probe shows, by quantity; a refusal is an empty mapping."""

AGREES = {"float64": 1e-8, "float32": 2e-4, "bfloat16": 2e-2, "float16": 5e-3}
"""Relative l2 distance up to which an answer counts as that of a reading. Readings differ by more
than 1e-3 on the battery but for ``affinity_floor=1e-12``, which float64 alone resolves."""


@dataclass(frozen=True)
class Probe:
    """One case of the battery, asked of the implementation and of the reference alike."""

    name: str
    traits: Traits
    ask: Callable[[Context], Answer]


@dataclass
class _Battery:
    """The implementation's answers, and the reference's under any readings, each computed once."""

    context: Context
    refusals: list[str] = field(default_factory=list[str])
    _expected: dict[tuple[str, object], Answer] = field(
        default_factory=dict[tuple[str, object], Answer]
    )

    @cached_property
    def seen(self) -> dict[str, Answer]:
        """The implementation's answers; probes it cannot take are left out."""
        answers: dict[str, Answer] = {}
        for probe in PROBES:
            try:
                answers[probe.name] = probe.ask(self.context)
            except NotObservable as reason:
                self.refusals.append(plain(str(reason)))
            except Exception:
                answers[probe.name] = {}
        return answers

    def expected(self, probe: Probe, readings: Readings) -> Answer:
        """The reference's answer; readings equal up to moot axes share one."""
        key = (probe.name, readings.canonical(probe.traits))
        if key not in self._expected:
            setting = replace(self.context.setting, upstream=1.0)
            oracle = replace(
                self.context, adapter=self.context.oracle, readings=readings, setting=setting
            )
            try:
                self._expected[key] = probe.ask(oracle)
            except ValueError:
                self._expected[key] = {}
        return self._expected[key]

    def distance(self, probe: Probe, readings: Readings) -> float:
        """How far the implementation's answer is from that of ``readings``, the worst quantity."""
        seen, expected = self.seen[probe.name], self.expected(probe, readings)
        if set(seen) != set(expected):
            return math.inf
        return max((_relative(seen[key], expected[key]) for key in seen), default=0.0)

    def mismatches(self, readings: Readings) -> list[str]:
        """Names of the probes that ``readings`` do not explain."""
        limit = AGREES[self.context.setting.dtype]
        return [
            probe.name
            for probe in PROBES
            if probe.name in self.seen and not self.distance(probe, readings) <= limit
        ]


def _relative(seen: Array, expected: Array) -> float:
    if seen.shape != expected.shape:
        return math.inf
    size = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(seen - expected)) / (size or 1.0)
    return error if math.isfinite(error) else math.inf


def observe(context: Context) -> tuple[Readings, list[AxisReport]]:
    """Find the readings the implementation takes, and report every axis.

    Returns those asked for where no combination explains all answers: the implementation then
    deviates, and the clauses' own checks say where.
    """
    battery = _Battery(context)
    found = _explaining(battery, context.readings)
    readings = found if found is not None else context.readings
    return readings, [_axis(battery, axis, readings, found is not None) for axis in AXES]


def _explaining(battery: _Battery, asked: Readings) -> Readings | None:
    """Readings that explain every answer: the simplest change from those asked for."""
    if not battery.seen or not battery.mismatches(asked):
        return asked
    starts = [asked, *PRESETS.values()]
    for start in sorted(starts, key=lambda each: len(battery.mismatches(each))):
        current = start
        for _ in AXES:
            missing = len(battery.mismatches(current))
            if missing == 0:
                return current
            options = [(len(battery.mismatches(each)), each) for each in _changes(current)]
            best, candidate = min(options, key=lambda option: option[0])
            if best >= missing:
                break
            current = candidate
    return None


def _changes(readings: Readings, axis: str | None = None) -> Iterator[Readings]:
    """All readings one change away (of ``axis`` alone, if given)."""
    for name in AXES if axis is None else (axis,):
        for reading in AXES[name]:
            if reading == getattr(readings, name):
                continue
            try:
                yield readings.with_reading(name, reading)
            except ReadingsError:
                continue


def _axis(battery: _Battery, axis: str, readings: Readings, explained: bool) -> AxisReport:
    expected = getattr(battery.context.readings, axis)
    if not battery.seen:
        reason = "; ".join(sorted(set(battery.refusals)))
        return AxisReport(axis, expected, "not observable", reason)
    if not explained:
        return AxisReport(axis, expected, "not observable", NO_READING)
    taken = getattr(readings, axis)
    nearest, where, alike = math.inf, "", list[str]()
    for other in _changes(readings, axis):
        distance, name = _separation(battery, readings, other)
        if distance == 0.0 or name == "":
            alike.append(getattr(other, axis))
        elif distance <= nearest:
            nearest, where = distance, name
    if not where:
        return AxisReport(axis, expected, "not observable", _unseen(axis, battery))
    if alike and expected in alike:
        taken = expected
    away = f"{nearest:.1e} away" if math.isfinite(nearest) else "of another shape"
    text = f"the nearest other reading is {away} on {where}"
    if alike:
        text += f"; {', '.join(alike)} computes the same there"
    return AxisReport(axis, expected, taken, text)


def _separation(battery: _Battery, taken: Readings, other: Readings) -> tuple[float, str]:
    """On which probe two readings differ most, and by how much; only what can be told apart."""
    limit = AGREES[battery.context.setting.dtype]
    best, name = 0.0, ""
    for probe in PROBES:
        if probe.name not in battery.seen:
            continue
        one, two = battery.expected(probe, taken), battery.expected(probe, other)
        if set(one) != set(two):
            return math.inf, probe.name
        distance = max((_relative(one[key], two[key]) for key in one), default=0.0)
        if distance > limit and distance > best:
            best, name = distance, probe.name
    return best, name


def _unseen(axis: str, battery: _Battery) -> str:
    reasons = sorted(set(battery.refusals))
    return "; ".join(reasons) if reasons else "moot, or the readings differ by less than rounding"


# The battery.


def _loss_probe(name: str, case: LossCase) -> Probe:
    def ask(context: Context) -> Answer:
        return _of_loss(context.loss(case))

    return Probe(name, case.traits(), ask)


def _of_loss(seen: LossObservation) -> Answer:
    return {"loss": np.asarray(seen.loss), "gradient": seen.gradient}


def _field_probe(name: str, case: FieldCase) -> Probe:
    return Probe(name, case.traits(), lambda context: {"field": context.field(case)})


def _feature_probe(name: str, case: FeatureCase) -> Probe:
    def ask(context: Context) -> Answer:
        seen: FeatureObservation = context.feature_loss(case)
        answer: dict[str, Array] = {"loss": np.asarray(seen.loss)}
        if seen.raw_gradient is not None:
            answer["raw gradient"] = seen.raw_gradient
        return answer | {f"gradient of {key}": each for key, each in seen.gradients.items()}

    return Probe(name, case.traits(), ask)


def _vector_probe(name: str, case: VectorizeCase) -> Probe:
    return Probe(name, case.traits(), lambda context: context.vectorize(case))


def _encoder_probe(name: str, case: EncoderCase) -> Probe:
    return Probe(name, case.traits(), lambda context: context.encoder_maps(case))


def _encoder() -> EncoderCase:
    """Stages of one, two and three blocks: every reading of the taps has a set of its own."""
    source = np.random.default_rng(5)
    shapes = encoder_shapes(4, 3, (1, 2, 3), RELEASE)
    parameters = {name: 0.5 * source.normal(size=shape) for name, shape in shapes.items()}
    images = source.normal(size=(1, 3, 16, 16))
    return EncoderCase(Manifest("axes-encoder"), images, parameters, 4, (1, 2, 3))


def _samples(seed: int, *sizes: int, weights: bool = True) -> LossCase:
    """Two labels of different spread and α, weighted samples, a few locations."""
    labels, count, positives, extra, vectors, channels = sizes
    source = np.random.default_rng(seed)

    def draw(samples: int) -> Array:
        return source.normal(size=(labels, samples, vectors, channels))

    spread = np.linspace(1.0, 2.0, labels)[:, None, None, None]
    location = np.linspace(1.0, 1.6, vectors)[:, None]
    generated, positive, unconditional = (
        draw(samples) * spread * location for samples in (count, positives, extra)
    )
    weight = source.uniform(0.5, 3.0, size=(labels, extra))
    return LossCase(
        Manifest(f"axes-{seed}", seed=seed),
        generated,
        positive + 0.3,
        unconditional - 0.2 if weights else None,
        weight if weights else None,
    )


def _battery() -> tuple[Probe, ...]:
    guided = _samples(1, 2, 5, 4, 3, 3, 6)
    plain = _samples(2, 1, 5, 4, 0, 1, 6, weights=False)
    source = np.random.default_rng(3)
    points, others = source.normal(size=(4, 3)), source.normal(size=(3, 3))
    field_case = FieldCase(Manifest("axes-field"), points, others + 0.2, points, 0.7)
    extra = np.concatenate([points, source.normal(size=(2, 3))])
    weighted = FieldCase(
        Manifest("axes-field-weighted"),
        points,
        others,
        extra,
        0.7,
        negative_weight=np.array([1.0, 1.0, 1.0, 1.0, 2.5, 0.4]),
    )
    raw = _samples(4, 1, 5, 4, 0, 1, 5, weights=False)
    features = FeatureCase(
        Manifest("axes-vanilla"),
        {"map0.loc": guided.generated[:1]},
        {"map0.loc": guided.positive[:1]},
        generated_samples=raw.generated[:, :, 0] * 0.1,
        positive_samples=raw.positive[:, :, 0] * 0.1,
    )
    flat = 1.0 + 1e-3 * source.normal(size=(2, 3, 8, 8))
    maps = {"map0": source.normal(size=(2, 3, 8, 8)), "flat": flat}
    odd = {"map0": source.normal(size=(2, 3, 7, 7))}
    return (
        _loss_probe("one label, one vector, one temperature", plain.changed(temperatures=(0.2,))),
        _loss_probe("one label, one vector", plain),
        _loss_probe("two labels with guidance", guided.changed(temperatures=(0.05, 0.2))),
        _loss_probe("a very high temperature", plain.changed(temperatures=(40.0,))),
        _loss_probe("features of size 1e-5", plain.scaled(1e-5).changed(temperatures=(0.2,))),
        _loss_probe("features of size 1e-10", plain.scaled(1e-10).changed(temperatures=(0.2,))),
        _field_probe("points", field_case),
        _field_probe("points with weighted negatives", weighted),
        _feature_probe("the vanilla term", features),
        _vector_probe("8×8 maps, one nearly constant", VectorizeCase(Manifest("axes-map"), maps)),
        _encoder_probe("an encoder", _encoder()),
        _vector_probe("a 7×7 map", VectorizeCase(Manifest("axes-odd"), odd)),
        _vector_probe(
            "the encoder's input",
            VectorizeCase(
                Manifest("axes-x2"),
                {"map0": maps["map0"][..., :4, :4]},
                inputs=source.normal(size=(2, 3, 8, 8)),
                statistics=("x2",),
                input_patch_size=2,
            ),
        ),
    )


PROBES = _battery()
