"""Golden values worked by hand, G-1 … G-4, and closed forms small enough to follow on paper.

Each world has a value for several readings. The adapter is put to those that it can be set to,
or that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import FieldCase, LossCase, Manifest
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.field.closed_forms import as_whole, of_reading
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.measure import Measurement, compare, whole, within

_Changes = Mapping[str, str]

BOTH: _Changes = {"kernel_normalization": "joint", "softmax_axes": "xy"}
PRODUCT: _Changes = {**BOTH, "softmax_combination": "product"}
ROOT: _Changes = {**BOTH, "softmax_combination": "sqrt"}
OVER_Y: _Changes = {"kernel_normalization": "joint", "softmax_axes": "y"}
SEPARATE: _Changes = {"kernel_normalization": "separate", "softmax_axes": "y"}
BARE: _Changes = {"kernel_normalization": "joint", "softmax_axes": "none"}


@dataclass(frozen=True)
class Value:
    """What V is under some readings, and the clauses it speaks for."""

    label: str
    readings: _Changes
    field: tuple[object, ...]
    clauses: tuple[str, ...]


def _column(*numbers: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(numbers, dtype=np.float64)[:, None]


def _line(name: str, x: tuple[float, ...], y: tuple[float, ...], T: float = 1.0) -> FieldCase:
    return FieldCase(
        Manifest(name, source="worked by hand"), _column(*x), _column(*y), _column(*x), T
    )


_A = math.exp(-1.0)
_MASKED = math.sqrt(_A) / ((1.0 + 2.0 * _A) * math.sqrt(1.0 + _A))
_MASKED_Y = _A / (1.0 + 2.0 * _A) ** 2

ONE_OF_EACH = _line("x = 0, y⁺ = 1, y⁻ = −1", (0.0,), (1.0,)).changed(
    negative=_column(-1.0), mask_self=False
)
ONE_OF_EACH_VALUES = (
    Value("V, root", ROOT, (1.0,), ("EQ-17", "ALG2-6", "ALG2-10")),
    Value("V, product", PRODUCT, (0.5,), ("EQ-12",)),
    Value("V, softmax over y", OVER_Y, (0.5,), ("EQ-27",)),
    Value("V, no softmax", BARE, (2.0 * math.exp(-2.0),), ("EQ-12", "EQ-27")),
    Value("V of EQ-11", SEPARATE, (2.0,), ("EQ-8", "EQ-9", "EQ-10", "EQ-11")),
)
COINCIDING_MASKED = _line("x = y⁺ = y⁻ = (0, 1), masked", (0.0, 1.0), (0.0, 1.0))
COINCIDING_VALUES = (
    Value("V ≠ 0 with the mask, root", ROOT, (-_MASKED, _MASKED), ("ALG2-3", "ALG1-3")),
    Value("V ≠ 0 with the mask, over y", OVER_Y, (-_MASKED_Y, _MASKED_Y), ("EQ-27",)),
)
G1 = _line("G-1", (0.0, 1.0), (2.0,))
G1_VALUES = (
    Value(
        "V, root",
        ROOT,
        (0.229950196312738, 0.855019636400244),
        ("ALG1-4", "ALG2-3", "ALG2-4", "ALG2-5", "ALG2-6", "ALG2-8", "ALG2-9", "ALG2-10"),
    ),
    Value("V, softmax over y", OVER_Y, (0.196611933241482, 0.5), ("EQ-27",)),
    Value("V of EQ-11", SEPARATE, (1.0, 2.0), ("EQ-8", "EQ-9", "EQ-10", "EQ-11")),
)
G4 = FieldCase(
    Manifest("G-4", source="worked by hand"),
    np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
    np.array([[1.0, 1.0], [2.0, -1.0]]),
    np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
    1.0,
)
G4_VALUES = (
    Value(
        "V, root",
        ROOT,
        (
            (0.30586375935424626, -0.1973370489394622),
            (0.8062611240444723, -0.3161039163340524),
            (0.14425715970403358, 0.14768244804597616),
        ),
        ("EQ-17", "ALG2-1", "ALG2-2", "ALG2-7", "ALG2-10"),
    ),
    Value(
        "V, softmax over y",
        OVER_Y,
        (
            (0.1389476116965959, -0.03595754358508335),
            (0.34397310662585323, -0.06054319243671642),
            (0.16432424075285734, 0.19913504657564407),
        ),
        ("EQ-27",),
    ),
)
G3 = G1.changed(
    manifest=Manifest("G-3: y_unc = −1, α = 3", source="worked by hand"),
    negative=_column(0.0, 1.0, -1.0),
    negative_weight=np.array([1.0, 1.0, 2.0]),
)


def _weighted(label: str, base: _Changes, place: str, first: float, second: float) -> Value:
    clauses = ("A7-w",)
    return Value(label, {**base, "unconditional_weight": place}, (first, second), clauses)


G3_VALUES = (
    _weighted("V, copies", ROOT, "replication", 0.572524256859629, 1.214905239811951),
    _weighted("V, w after", ROOT, "after_softmaxes", 0.814312012986431, 1.403655837890191),
    _weighted("V, log w", ROOT, "log_in_softmaxes", 0.432190637524507, 1.042146333859251),
    _weighted("V over y, copies", OVER_Y, "replication", 0.22703378234504, 0.562141222556484),
    _weighted("V over y, log w", OVER_Y, "log_in_softmaxes", 0.22703378234504, 0.562141222556484),
    _weighted("V over y, after", OVER_Y, "after_softmaxes", 0.459287244768136, 0.750381115943044),
)


def _set(ctx: Context, changes: _Changes) -> Context:
    """Give the context under ``changes``; the mask infinite and floors off, as on paper."""
    usual = {"affinity_floor": "none"}
    if ctx.readings.self_mask == "add_100":
        usual["self_mask"] = "exclude"
    if changes.get("softmax_axes") != "xy":
        # Moot then: leave it as it is, so that an adapter of fixed readings need not change it.
        usual = {name: value for name, value in usual.items() if name == "self_mask"}
    return ctx.under(**{**usual, **changes})


def _values(
    case: FieldCase, values: tuple[Value, ...]
) -> Callable[[Context], Iterator[Measurement]]:
    def run(ctx: Context) -> Iterator[Measurement]:
        reason, seen = "", 0
        for value in values:
            try:
                under = _set(ctx, value.readings)
            except NotObservable as answer:
                reason = str(answer)
                continue
            expected = np.array(value.field, dtype=np.float64).reshape(case.x.shape)
            tolerance, found = under.tolerance("field"), under.field(case)
            seen += 1
            near = case.manifest.id
            item = compare(value.clauses, value.label, near, found, expected, tolerance)
            asked = under.readings == ctx.readings
            yield as_whole(item, case) if asked else of_reading(item, *value.clauses)
        if not seen:
            raise NotObservable(reason)

    return run


G2_TAUS = (0.02, 0.05, 0.2)
G2_FIELDS = (
    (1.050781291523582e-26, 1.2),
    (4.530161452878403e-11, 1.199999999977349),
    (0.002963477198396, 1.198515507890676),
)
G2_SCALES = (0.8485281374238571, 0.8485281374078405, 0.8474810336672884)
G2_GRADIENT = (-4.196167879984226e-03, -5.091163636780215)
G2_LOSSES = {
    "sum_drifts_then_mse": (8.999987772325703, 1.0),
    "per_temperature_mse": (3.0, 1.0),
    "per_temperature_mse_mean": (1.0, 1.0 / 3.0),
}
_A6: _Changes = {
    **ROOT,
    "floors": "none",
    "scale_samples": "all",
    "scale_self_pairs": "with",
}


def _g2(ctx: Context) -> Iterator[Measurement]:
    under = _set(ctx, _A6)
    case = LossCase(
        Manifest("G-2", source="worked by hand"),
        np.array([0.0, 1.0]).reshape(1, 2, 1, 1),
        np.array([2.0]).reshape(1, 1, 1, 1),
        temperatures=G2_TAUS,
    )
    seen = loss_forms.observe_as_given(under, case)
    value, share = G2_LOSSES[under.readings.temperature_aggregation]
    tolerance, near = under.tolerance, case.manifest.id
    clauses = ("EQ-A6tau", "A6-order", "EQ-26", "A6-mse")
    item = compare(clauses, "loss", near, seen.loss, value, tolerance("loss"))
    yield whole(item, "gradient")
    expected = share * np.array(G2_GRADIENT).reshape(case.generated.shape)
    clauses = ("EQ-26", "A6-mse")
    item = compare(clauses, "gradient", near, seen.gradient, expected, tolerance("gradient"))
    yield whole(item, "gradient")
    if seen.feature_scale is not None:
        scale, allowed = (
            seen.feature_scale.reshape(-1),
            loss_forms.statistics_tolerance(under, "feature_scale"),
        )
        yield compare(("EQ-21", "A6-S"), "S", near, scale, np.array([5.0 / 6.0]), allowed)
    if seen.drift_scale is not None:
        drift_scale, allowed = (
            seen.drift_scale.reshape(-1),
            loss_forms.statistics_tolerance(under, "drift_scale"),
        )
        clauses = ("EQ-25", "A6-lambda")
        item = compare(clauses, "λ", near, drift_scale, np.array(G2_SCALES), allowed)
        yield whole(item, "drift scale", clauses)


def _g2_fields(ctx: Context) -> Iterator[Measurement]:
    under = _set(ctx, ROOT)
    for temperature, values in zip(G2_TAUS, G2_FIELDS, strict=True):
        case = _line(f"G-2 τ={temperature}", (0.0, 1.2), (2.4,), temperature)
        expected, near = _column(*values), case.manifest.id
        allowed = under.tolerance("field")
        clauses = ("EQ-12", "ALG2-4")
        item = compare(clauses, "V", near, under.field(case), expected, allowed)
        yield as_whole(item, case)


def _g3_scale(ctx: Context) -> Iterator[Measurement]:
    under = _set(ctx, _A6)
    case = LossCase(
        Manifest("G-3", source="worked by hand"),
        np.array([0.0, 1.0]).reshape(1, 2, 1, 1),
        np.array([2.0]).reshape(1, 1, 1, 1),
        np.array([-1.0]).reshape(1, 1, 1, 1),
        np.array([[2.0]]),
        temperatures=(1.0,),
    )
    seen = under.loss(case)
    if seen.feature_scale is None:
        raise NotObservable("the adapter does not show the feature scale")
    scale, allowed = (
        seen.feature_scale.reshape(-1),
        loss_forms.statistics_tolerance(under, "feature_scale"),
    )
    clauses = ("A7-weight-in-scale", "EQ-21")
    yield compare(clauses, "S", case.manifest.id, scale, np.array([1.1]), allowed)


G3_WEIGHTS = ((3.0, 2, 1, 2.0), (2.0, 64, 16, 3.9375), (2.0, 64, 32, 1.96875), (1.0, 64, 32, 0.0))


def _weights(ctx: Context) -> Iterator[Measurement]:
    for alpha, generated, unconditional, expected in G3_WEIGHTS:
        found = ctx.adapter.guidance_weight(alpha, generated, unconditional)
        near = f"α={alpha} N={generated} U={unconditional}"
        # Exact in float32 as well: every value has few bits.
        error = abs(found - expected)
        yield within(("A7-w", "EQ-A7alpha"), "w", near, error, 1e-6 * expected)


def _field_check(identifier: str, title: str, case: FieldCase, values: tuple[Value, ...]) -> Check:
    clauses = tuple(dict.fromkeys(name for value in values for name in value.clauses))
    return Check(identifier, title, clauses, "golden value", _values(case, values))


CHECKS: tuple[Check, ...] = (
    _field_check(
        "G-0",
        "One of each: a field to work out in the head (D10, D12)",
        ONE_OF_EACH,
        ONE_OF_EACH_VALUES,
    ),
    _field_check(
        "G-0-masked",
        "Samples, positives and negatives the same two points: the mask leaves a field (P-28)",
        COINCIDING_MASKED,
        COINCIDING_VALUES,
    ),
    _field_check("G-1", "Two samples, one positive (D10, D11, D12, D15)", G1, G1_VALUES),
    Check(
        "G-2-field",
        "G-1's points in units of S at the paper's temperatures (D16, D19)",
        ("EQ-12", "ALG2-4"),
        "golden value",
        _g2_fields,
    ),
    Check(
        "G-2",
        "A.6 on G-1's points: S = 5/6, λ, loss and gradient (D24, D25, D26, D28, D61)",
        (
            "EQ-21",
            "EQ-25",
            "EQ-26",
            "EQ-A6tau",
            "A6-S",
            "A6-lambda",
            "A6-order",
            "A6-mse",
        ),
        "golden value",
        _g2,
    ),
    _field_check("G-3", "G-1 with one unconditional sample, α = 3 (D01, D52, D55)", G3, G3_VALUES),
    Check(
        "G-3-scale",
        "The weight counts in S: 1.1 (D36)",
        ("A7-weight-in-scale", "EQ-21"),
        "golden value",
        _g3_scale,
    ),
    Check(
        "G-3-weight",
        "w for the paper's numbers of samples",
        ("A7-w", "EQ-A7alpha"),
        "golden value",
        _weights,
    ),
    _field_check("G-4", "Three samples in the plane, two positives (D12, D15, D19)", G4, G4_VALUES),
)
