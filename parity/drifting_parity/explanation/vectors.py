"""The axes of A.3 and A.5, each seen on a probe of its own: vectors and taps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import (
    Array,
    EncoderCase,
    Manifest,
    Setting,
    VectorizeCase,
)
from drifting_parity.explanation.answers import relative
from drifting_parity.explanation.data import ReadingStatement, Unexplained
from drifting_parity.plain import plain
from drifting_reference import encoder_shapes
from drifting_spec import AXES, RELEASE, Readings, ReadingsError

Shown = Mapping[str, Array]
Ask = Callable[[Adapter, Readings, Setting], Shown]


@dataclass(frozen=True)
class VectorProbe:
    """What is asked of an adapter and of the reference alike, and which axes show in it."""

    name: str
    axes: tuple[str, ...]
    ask: Ask
    stage: str = "vectors"


@dataclass
class VectorFindings:
    """The readings of the axes of vectors, and what is left open."""

    readings: Readings
    statements: dict[str, ReadingStatement] = field(default_factory=dict[str, ReadingStatement])
    unexplained: list[Unexplained] = field(default_factory=list[Unexplained])
    refusals: list[str] = field(default_factory=list[str])
    answered: int = 0


def settle_vectors(
    adapter: Adapter, taken: Readings, asked: Readings, setting: Setting, tolerance: float
) -> VectorFindings:
    """Put every probe of A.3 and A.5 to the adapter; find the readings that agree, axis by axis."""
    findings = VectorFindings(taken)
    for probe in vector_probes():
        try:
            shown = probe.ask(adapter, asked, setting)
        except NotObservable as reason:
            findings.refusals.append(plain(str(reason)))
            continue
        except Exception as problem:
            shown = {"raised " + type(problem).__name__: np.zeros(0)}
        findings.answered += 1
        _settle(probe, shown, findings, asked, replace(setting, upstream=1.0), tolerance)
    return findings


def _settle(
    probe: VectorProbe,
    shown: Shown,
    findings: VectorFindings,
    asked: Readings,
    setting: Setting,
    tolerance: float,
) -> None:
    axes = tuple(axis for axis in probe.axes if axis not in findings.statements)
    expected = {
        readings: _expected(probe, readings, setting)
        for readings in _combinations(findings.readings, axes)
    }
    misfits = {readings: distance(shown, answer) for readings, answer in expected.items()}
    fitting = [readings for readings, misfit in misfits.items() if misfit <= tolerance]
    if not fitting:
        findings.unexplained.append(Unexplained(probe.stage, probe.name, min(misfits.values())))
        return
    best = min(fitting, key=lambda readings: len(asked.differing(readings)))
    findings.readings = best
    for axis in axes:
        others = {getattr(readings, axis): readings for readings in _combinations(best, (axis,))}
        gaps = {
            name: distance(expected[best], expected[other])
            for name, other in others.items()
            if other != best
        }
        alike = tuple(name for name, gap in gaps.items() if gap <= tolerance)
        apart = [gap for gap in gaps.values() if gap > tolerance]
        if not apart:
            continue
        findings.statements[axis] = ReadingStatement(
            axis, getattr(best, axis), True, alike, evidence(min(apart), probe.name, alike)
        )


def evidence(nearest: float, probe: str, alike: tuple[str, ...]) -> str:
    """How a reading was seen, in words."""
    away = f"{nearest:.1e} away" if math.isfinite(nearest) else "of another shape"
    text = f"the nearest other reading is {away} on {probe}"
    return f"{text}; {', '.join(alike)} computes the same there" if alike else text


def distance(one: Shown, other: Shown) -> float:
    """The worst relative distance of two answers; infinite where they hold other things."""
    if set(one) != set(other):
        return math.inf
    return max((relative(one[key], other[key]) for key in other), default=0.0)


def _expected(probe: VectorProbe, readings: Readings, setting: Setting) -> Shown:
    try:
        return probe.ask(ReferenceAdapter(), readings, setting)
    except ValueError:
        return {"raised ValueError": np.zeros(0)}


def _combinations(base: Readings, axes: tuple[str, ...]) -> Iterator[Readings]:
    for choice in itertools.product(*(AXES[axis] for axis in axes)):
        changes = dict(zip(axes, choice, strict=True))
        try:
            yield replace(base, **changes)  # pyright: ignore[reportArgumentType] -- axes' readings
        except ReadingsError:
            continue


# The probes.


def _vectors(case: VectorizeCase) -> Ask:
    return lambda adapter, readings, setting: adapter.vectorize(case, readings, setting)


def _maps(adapter: Adapter, readings: Readings, setting: Setting) -> Shown:
    return adapter.encoder_maps(_encoder(), readings, setting)


def _encoder() -> EncoderCase:
    """Stages of one, two and three blocks: every reading of the taps has a set of its own."""
    source = np.random.default_rng(5)
    shapes = encoder_shapes(4, 3, (1, 2, 3), RELEASE)
    parameters = {name: 0.5 * source.normal(size=shape) for name, shape in shapes.items()}
    images = source.normal(size=(1, 3, 16, 16))
    return EncoderCase(Manifest("encoder"), images, parameters, 4, (1, 2, 3))


def vector_probes() -> tuple[VectorProbe, ...]:
    """The probes, those first that settle what later ones also show."""
    source = np.random.default_rng(3)
    flat = 1.0 + 1e-3 * source.normal(size=(2, 3, 8, 8))
    maps = {"map0": source.normal(size=(2, 3, 8, 8)), "flat": flat}
    odd = VectorizeCase(Manifest("odd-map"), {"map0": source.normal(size=(2, 3, 7, 7))})
    x2 = VectorizeCase(
        Manifest("x2"),
        {"map0": maps["map0"][..., :4, :4]},
        inputs=source.normal(size=(2, 3, 8, 8)),
        statistics=("x2",),
        input_patch_size=2,
    )
    statistics = ("std", "statistics_grouping")
    return (
        VectorProbe("8×8 maps, one nearly constant", statistics,
                    _vectors(VectorizeCase(Manifest("maps"), maps))),
        VectorProbe("an encoder", ("taps",), _maps),
        VectorProbe("a 7×7 map", ("patch_remainder", *statistics), _vectors(odd)),
        VectorProbe("the encoder's input", ("x2_statistic", "x2_input"), _vectors(x2)),
    )  # fmt: skip
