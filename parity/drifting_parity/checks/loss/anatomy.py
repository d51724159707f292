"""What one call of the loss says of its parts: kernel, temperature, S, λ, and the error's weight.

A gradient −2κab/S'·V̂ points along the drift V̂ whatever S', λ and the error's weight are, so its
direction is held to Algorithm 2's with the *effective temperature left free*: what the kernel is,
and at which temperature, come apart. A value κab² and the gradient's size ab/s are two numbers for
three factors: a of the squared error, b of the normalised drift, s of the feature scale; the
effective temperature, a scale that is shown, or the plainest case that fits says which is meant.
Where none does nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.reference_adapter import as_seen
from drifting_parity.cases import Array, FieldCase, LossCase, LossObservation, Manifest
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.field.closed_forms import affinities
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.checks.loss import worlds as loss_worlds
from drifting_parity.checks.loss.closed_forms import observe_as_given, unit
from drifting_parity.checks.loss.worlds import Shape
from drifting_parity.checks.predicates import no_floors
from drifting_parity.draw import Draw, Rejected
from drifting_parity.measure import Measurement, Stage, necessary, whole, within
from drifting_spec import Readings

FACTORS: Final = np.exp(np.linspace(np.log(1 / 40), np.log(40), 61))
"""Factors of the temperature that are tried before the best is refined."""

STEEP: Final = 0.02
"""Least change of a direction for each factor e of the temperature for which that can be read."""

LINES: Final = ("ALG2-3", "ALG2-4", "ALG2-5", "ALG2-6", "ALG2-8", "ALG2-9", "ALG2-10", "EQ-12")
"""What the direction of the drift proves where no field is offered."""


# The drift of the paper at another temperature


def _group(case: LossCase, scale: float, temperature: float, *, masked: bool) -> FieldCase:
    """Algorithm 2's inputs for the only label and vector, in units of S."""
    x, weight = case.generated[0, :, 0] / scale, [np.ones(case.generated.shape[1])]
    negative = [x]
    if case.generated_weight is not None:
        weight = [case.generated_weight[0]]
    if case.unconditional is not None:
        negative.append(case.unconditional[0, :, 0] / scale)
        given = case.unconditional_weight
        count = case.unconditional.shape[1]
        weight.append(np.ones(count) if given is None else np.broadcast_to(given[0], (count,)))
    return FieldCase(
        Manifest(case.manifest.id),
        x,
        case.positive[0, :, 0] / scale,
        np.concatenate(negative),
        temperature,
        masked,
        np.concatenate(weight),
    )


def _field(case: FieldCase, readings: Readings) -> Array:
    """V [N, C] by ALG2-8 … 10, about the positives' mean."""
    attraction, repulsion = affinities(case, readings)
    centre = np.mean(case.positive, axis=0)
    pull = attraction * np.sum(repulsion, axis=1, keepdims=True)
    push = repulsion * np.sum(attraction, axis=1, keepdims=True)
    return pull @ (case.positive - centre) - push @ (case.negative - centre)


@dataclass(frozen=True)
class _Paper:
    """The normalised drift under the context's readings, at ``factor`` times the temperatures."""

    context: Context
    case: LossCase
    scale: float

    def drifts(self, factor: float, *, masked: bool = True, normalized: bool = True) -> Array:
        """Ṽ_τ [T, N, C], each of mean square 1; V_τ where they are not ``normalized``."""
        readings, channels = self.context.readings, self.case.generated.shape[-1]
        root = np.sqrt(channels) if readings.temperature_scaling == "sqrt_channels" else 1.0
        fields: list[Array] = []
        for temperature in self.case.temperatures:
            at = _group(self.case, self.scale, factor * temperature * root, masked=masked)
            with np.errstate(all="ignore"):
                field = _field(at, readings)
            size = float(np.sqrt(np.mean(field**2)))
            fields.append(field / size if size > 0.0 and normalized else field)
        return np.stack(fields)

    def direction(self, factor: float, *, masked: bool = True, normalized: bool = True) -> Array:
        """The direction of their sum, [N, C]."""
        drifts = self.drifts(factor, masked=masked, normalized=normalized)
        return unit(np.sum(drifts, axis=0))


def _fitted(
    paper: _Paper, shown: Array, *, masked: bool = True, normalized: bool = True
) -> tuple[float, float, float]:
    """Factor of the temperature, what it leaves of the direction, and how steeply it shows."""

    def direction(factor: float) -> Array:
        return paper.direction(factor, masked=masked, normalized=normalized)

    def away(factor: float) -> float:
        return float(np.linalg.norm(direction(factor) - shown))

    best = min([1.0, *FACTORS], key=away)
    slope = np.zeros_like(shown)
    for _ in range(8):
        step = 1e-4
        ahead, behind = direction(best * np.exp(step)), direction(best * np.exp(-step))
        slope = (ahead - behind) / (2 * step)
        steepness = float(np.sum(slope**2))
        if steepness < STEEP**2:
            break
        rest = direction(best) - shown
        move = -float(np.sum(rest * slope)) / steepness
        changed = best * np.exp(np.clip(move, -0.2, 0.2))
        if away(changed) >= away(best):
            break
        best = changed
    return best, away(best), float(np.linalg.norm(slope))


# What a call says


@dataclass(frozen=True)
class Anatomy:
    """Factors against the paper's: 1 where the part is right, None where nothing tells.

    ``residual`` is what the best temperature leaves of the direction, ``unmasked`` the same without
    the self-mask, ``summed`` where drifts of several temperatures are added without λ;
    ``temperature`` the factor of the effective temperature, S included; ``scale``
    s of S, ``drift`` b of the normalised drift, ``error`` a of the squared error; ``value`` the
    whole value over the paper's, which is ``expected`` per vector. ``room`` is what rounding may do
    to a direction, ``steepness`` how much of it a factor e of the temperature turns.
    """

    residual: float
    unmasked: float
    summed: float
    temperature: float
    steepness: float
    value: float
    size: float
    expected: float
    room: float
    scale: float | None = None
    drift: float | None = None
    error: float | None = None

    @property
    def kernel(self) -> bool:
        """Whether the direction is that of the paper's kernel at some temperature."""
        return self.residual <= self.room

    @property
    def known(self) -> float:
        """How well the factors are known, relatively."""
        return 10.0 * self.room / min(max(self.steepness, STEEP), 1.0)

    def near(self, one: float, other: float) -> bool:
        """Whether two factors agree as well as they are known."""
        return abs(one / other - 1.0) <= self.known


def dissect(context: Context, case: LossCase) -> Anatomy:
    """Take a case of one label and one vector apart."""
    if case.generated.shape[0] != 1 or case.generated.shape[2] != 1:
        case = case.changed(**_first(case))
    seen = observe_as_given(context, case)
    paper = _Paper(
        context,
        as_seen(case, context.setting.dtype),
        loss_forms.feature_scale(context, case).item(),
    )
    if not (np.isfinite(seen.loss) and np.all(np.isfinite(seen.gradient))):
        raise NotObservable(f"loss or gradient is not finite on {case.manifest.id}")
    shown = unit(-seen.gradient[0, :, 0])
    if not shown.any():
        raise NotObservable(f"the gradient is zero on {case.manifest.id}")
    factor, residual, steepness = _fitted(paper, shown)
    room = 20.0 * context.tolerance("identity").rtol
    unmasked = summed = residual
    if residual > room:
        unmasked = _fitted(paper, shown, masked=False)[1]
        if len(case.temperatures) > 1:
            summed = _fitted(paper, shown, normalized=False)[1]
    elif steepness < STEEP:
        raise Rejected
    drifts = paper.drifts(factor)
    expected = _value(context.readings, drifts)
    share = loss_forms.error_share(context.readings, case) * case.generated.size
    drift = loss_forms.drift_of(context.readings, case, seen.gradient, np.full((1, 1), paper.scale))
    anatomy = Anatomy(
        residual,
        unmasked,
        summed,
        factor,
        steepness,
        value=seen.loss / (share * expected),
        size=_rms(drift) / _rms(np.sum(drifts, axis=0)),
        expected=expected,
        room=room,
    )
    return _told_apart(anatomy, seen, paper.scale, len(case.temperatures))


def _first(case: LossCase) -> dict[str, Array | None]:
    cut = {"generated": case.generated, "positive": case.positive}
    arrays: dict[str, Array | None] = {key: a[:1, :, :1] for key, a in cut.items()}
    if case.unconditional is not None and case.unconditional_weight is not None:
        arrays["unconditional"] = case.unconditional[:1, :, :1]
        arrays["unconditional_weight"] = case.unconditional_weight[:1]
    return arrays


def _rms(array: Array) -> float:
    return float(np.sqrt(np.mean(array**2)))


def _value(readings: Readings, drifts: Array) -> float:
    """The value of normalised drifts [T, N, C], for an error weight of one entry each."""
    if readings.temperature_aggregation == "sum_drifts_then_mse":
        return _rms(np.sum(drifts, axis=0)) ** 2
    total = float(np.sum(np.mean(drifts**2, axis=(1, 2))))
    mean = readings.temperature_aggregation == "per_temperature_mse_mean"
    return total / len(drifts) if mean else total


def _told_apart(
    anatomy: Anatomy, seen: LossObservation, scale: float, temperatures: int
) -> Anatomy:
    """Give s, b and a where value, size and what else is known settle them."""
    if not (anatomy.value > 0.0 and anatomy.size > 0.0):
        return anatomy
    if temperatures > 1 and not anatomy.kernel:
        return anatomy  # what the value would be is unknown
    implied = float(np.sqrt(anatomy.value)) / anatomy.size  # s/√a
    factor = anatomy.temperature
    if seen.feature_scale is not None:
        s = float(seen.feature_scale.ravel()[0]) / scale
    elif anatomy.kernel and anatomy.near(factor, 1.0):
        whole_value = anatomy.near(anatomy.value, 1.0)
        s = implied if whole_value else 1.0
    elif anatomy.kernel and anatomy.near(implied, factor):
        s = factor
    elif anatomy.near(implied, 1.0):
        s = 1.0
    elif anatomy.near(anatomy.value, 1.0):
        s = implied
    else:
        return anatomy
    told = replace(
        anatomy,
        scale=s,
        drift=anatomy.value / (anatomy.size * s),
        error=(anatomy.size * s) ** 2 / anatomy.value,
    )
    if temperatures == 1 or anatomy.near(anatomy.value, 1.0):
        return told
    # With several temperatures the value has more ways to differ than these two factors: one of
    # them has to be right.
    assert told.drift is not None
    assert told.error is not None
    alone = anatomy.near(told.drift, 1.0) or anatomy.near(told.error, 1.0)
    return told if alone else replace(told, drift=None, error=None)


# The checks


def draw_plain(draw: Draw) -> LossCase:
    """One label, one vector, one temperature, 5 to 24 channels."""
    temperature = draw.choice((0.2, 0.1, 0.5))
    shape = Shape((1, 1), (1, 1), (4, 7), (5, 24))
    return loss_worlds.ordinary(draw, shape, temperatures=(temperature,), name="one call")


def draw_weighted(draw: Draw) -> LossCase:
    """The same with two or three unconditional samples of one weight, as α gives it."""
    shape = Shape((1, 1), (1, 1), (4, 7), (5, 24))
    case = loss_worlds.ordinary(
        draw, shape, temperatures=(0.2,), unconditional=True, name="one guided call"
    )
    assert case.unconditional is not None
    alpha, count = draw.choice((1.5, 2.0, 4.0)), case.unconditional.shape[1]
    weight = (alpha - 1.0) * (case.generated.shape[1] - 1) / count
    return case.changed(unconditional_weight=np.full((1, count), weight))


def _saturated(gradient: Array) -> bool:
    """Whether several entries, or the lengths of several rows, are equal to the largest."""
    sizes, lengths = np.abs(gradient).ravel(), np.linalg.norm(gradient[0, :, 0], axis=-1)
    return any(
        int(np.count_nonzero(values > (1.0 - 1e-9) * values.max())) > 1
        for values in (sizes, lengths)
    )


def _premises(context: Context, case: LossCase) -> Iterator[Measurement]:
    """What must hold before a gradient can be taken for a drift: a square, a frozen target.

    Where the target is frozen value and squared gradient of one temperature are in one proportion,
    S²/4κ, whatever the drift, λ and S are.
    """
    name, seen, first = case.manifest.id, observe_as_given(context, case), case.temperatures[0]
    rows = seen.gradient[0, :, 0]
    if rows.any() and np.allclose(rows, rows[0], rtol=1e-9, atol=0.0):
        raise NotObservable("the gradient is the same for all samples: it is that of no drift")
    cut = float(_saturated(seen.gradient))
    what, note = "entries or rows of the gradient that are cut off", "a Huber error or a clamp"
    item = within(("EQ-26", "A6-mse"), what, name, cut, 0.0, note if cut else "")
    yield necessary(replace(item, stage="reductions", premise=True))
    if cut or len(case.temperatures) > 1 or not context.takes("other temperatures"):
        return
    warmer = observe_as_given(context, case.changed(temperatures=(2.5 * first,)))
    ratios = [
        one.loss / size if (size := float(np.sum(one.gradient**2))) else np.inf
        for one in (seen, warmer)
    ]
    moved = abs(ratios[1] / ratios[0] - 1.0) if np.isfinite(ratios[0]) else np.inf
    what = "value over squared gradient, at another temperature"
    allowed = 20.0 * context.tolerance("identity").rtol
    item = within(("S3-sg", "ALG1-5", "EQ-6"), what, name, float(moved), allowed)
    yield replace(item, refutes=("S3-sg", "ALG1-5"), stage="gradient", premise=True)


def measure_plain(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Kernel, temperature, S, λ and the error's weight of one call, each on its own."""
    for item in _premises(context, case):
        yield item
        if not item.passed:
            return
    for item in _parts(context, case, dissect(context, case)):
        yield replace(item, reads_drift=True)


def _kernel(context: Context, case: LossCase, anatomy: Anatomy) -> Measurement:
    """The direction at its best temperature: the loss's own Algorithm 2."""
    offered = context.offers_field
    lines: tuple[str, ...] = ("ALG1-4",) if offered else (*LINES, "ALG1-4")
    wrong = ("ALG1-4",) if offered else ("ALG2-10", "ALG1-4")
    note = ""
    blind = not context.takes("one temperature")
    if not anatomy.kernel and anatomy.unmasked <= anatomy.room:
        wrong, note, blind = ("ALG2-3",), "it is that of a field without the self-mask", False
    elif not anatomy.kernel and anatomy.summed <= anatomy.room:
        # Without λ (D30), or with λ once for the sum (D26): then the loss is 1 per vector.
        once = anatomy.near(anatomy.value * anatomy.expected, 1.0)
        wrong = ("A6-order", "EQ-A6tau") if once else ("EQ-23", "EQ-24", "EQ-25")
        note, blind = "it is that of drifts added without λ", False
    what = "direction of the drift, its temperature left free"
    item = within(lines, what, case.manifest.id, anatomy.residual, anatomy.room, note)
    if blind:
        # Of several temperatures at once a leak through the target looks like another kernel.
        return whole(item, "gradient")
    # Where a field is offered, its own checks say what is wrong with it.
    return replace(
        item, refutes=wrong, stage="gradient" if offered else "field", end_to_end=offered
    )


def _parts(context: Context, case: LossCase, anatomy: Anatomy) -> Iterator[Measurement]:
    yield _kernel(context, case, anatomy)
    several = len(case.temperatures) > 1
    if several and anatomy.kernel and anatomy.near(anatomy.temperature, 1.0):
        item = _factor(("EQ-A6tau",), "value of the summed drifts", case, anatomy, anatomy.value)
        if anatomy.near(anatomy.size, 1.0):
            wrong = ("A6-order", "EQ-A6tau")
            yield replace(item, refutes=wrong, stage="aggregation")
    if anatomy.scale is None:
        return
    yield from _factors(case, anatomy)


DIVISIONS: Final = frozenset({"EQ-18", "EQ-19", "EQ-23"})
"""Clauses that say what is divided by S or λ, whatever these are."""


def _factors(case: LossCase, anatomy: Anatomy) -> Iterator[Measurement]:
    s = anatomy.scale
    assert s is not None
    target = anatomy.kernel and anatomy.near(anatomy.temperature, 1.0) and not anatomy.near(s, 1.0)
    scales = ("A6-mse",) if target else ("EQ-18", "EQ-19", "EQ-20", "EQ-21")
    rows: list[tuple[Stage, tuple[str, ...], str, float | None]] = [
        ("scale", scales, "S over that of EQ-21", s),
        ("drift scale", ("EQ-23", "EQ-24", "EQ-25"), "Ṽ over that of EQ-25", anatomy.drift),
        ("reductions", ("EQ-26", "A6-mse"), "weight of the squared error", anatomy.error),
    ]
    if anatomy.kernel and not target:
        factor = anatomy.temperature / s
        rows.append(("temperature", ("EQ-22", "A6-tau"), "temperature over τ√C", factor))
    for stage, clauses, what, factor in rows:
        if factor is not None:
            item = _factor(clauses, what, case, anatomy, factor)
            # A wrong number S or λ is divided by all the same (EQ-18, EQ-19, EQ-23).
            refutes = tuple(name for name in clauses if name not in DIVISIONS)
            yield replace(item, stage=stage, refutes=refutes)


def _factor(
    clauses: tuple[str, ...], what: str, case: LossCase, anatomy: Anatomy, factor: float
) -> Measurement:
    """A factor that has to be 1, as well as it is known."""
    error, allowed = abs(factor - 1.0), anatomy.known
    note = f"it is {factor:.6g}" if not error <= allowed else ""
    return within(clauses, what, case.manifest.id, error, allowed, note)


def measure_weighted(context: Context, case: LossCase) -> Iterator[Measurement]:
    """The weight in the kernel and in S, where the same samples without guidance are right."""
    if case.unconditional is None:
        raise Rejected
    plain = case.changed(unconditional=None, unconditional_weight=None)
    before, guided = dissect(context, plain), dissect(context, case)
    if not before.kernel:
        raise NotObservable("the kernel is wrong without guidance already")
    note, wrong = "", ("A7-w", "EQ-A7q", "EQ-15")
    proven = ("A7-w", "EQ-A7q", "A7-selfmask-count")
    if not guided.kernel and guided.unmasked <= guided.room:
        note = "it is that of a field without the self-mask"
        wrong = ("ALG2-3", "A7-selfmask-count")
    if not context.takes("weights"):
        proven, wrong = ("A7-selfmask-count",), ("ALG2-3", "A7-selfmask-count")
    what = "direction of the drift with guidance, its temperature left free"
    name = case.manifest.id
    item = within(proven, what, name, guided.residual, guided.room, note)
    yield replace(item, refutes=wrong, stage="weights")
    if not guided.kernel or not context.takes("weights"):
        return
    factor = guided.temperature / before.temperature
    if guided.scale is not None and before.scale is not None:
        factor = guided.scale / before.scale
    item = _factor(
        ("A7-weight-in-scale",), "S with guidance over that of EQ-21", case, guided, factor
    )
    yield replace(item, stage="weights")


PROPERTIES: tuple[Property[LossCase], ...] = (
    Property(
        "loss.anatomy",
        "kernel, temperature, S, λ and the error's weight, each read off one call",
        (
            *LINES,
            "ALG1-4",
            "ALG1-5",
            "EQ-6",
            "S3-sg",
            "EQ-18",
            "EQ-19",
            "EQ-20",
            "EQ-21",
            "EQ-22",
            "A6-tau",
            "EQ-23",
            "EQ-24",
            "EQ-25",
            "EQ-26",
            "A6-mse",
            "A6-order",
            "EQ-A6tau",
        ),
        draw_plain,
        measure_plain,
        applies=no_floors,
        examples=12,
    ),
    Property(
        "loss.anatomy_of_weights",
        "w in the kernel and in S, read off a call with guidance",
        ("A7-w", "EQ-A7q", "EQ-15", "A7-selfmask-count", "ALG2-3", "A7-weight-in-scale"),
        draw_weighted,
        measure_weighted,
        applies=no_floors,
        examples=8,
        needs=("unconditional samples",),
        reads_drift=True,
    ),
)
