"""The checks of the field and of guidance kill the deviations that their titles name.

The miniatures here are Algorithm 2 and the loss of one feature in a few lines of NumPy, with one
flaw each, as met in public code (ids of the deviations catalogue). A check that names a deviation
must turn red on its miniature, and every check must pass on the one without a flaw.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from drifting_parity.adapters.base import Adapter
from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import Array, FieldCase, LossCase, LossObservation, Setting, rounded
from drifting_parity.checks import checks_of
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.training import guidance as guidance_properties
from drifting_parity.checks.vectors import by_hand as golden_values
from drifting_parity.judging.verdicts import run_check
from drifting_spec import PRESETS, Readings
from drifting_spec.registry import load

CHECKS: dict[str, Check] = {
    check.id: check
    for check in (
        *golden_values.CHECKS,
        *checks_of("field"),
        *(item.check() for item in guidance_properties.PROPERTIES),
    )
}
NAMED = re.compile(r"\bD\d\d\b")
PAPER = PRESETS["paper"]


def distances(x: Array, y: Array, flaw: str) -> Array:
    if flaw == "D18":
        square = np.sum(x**2, 1)[:, None] + np.sum(y**2, 1)[None] - 2 * x @ y.T
        return np.sqrt(np.maximum(square, 0))
    if flaw == "D21":
        size = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None]
        return 1 - x @ y.T / size
    if flaw == "D21-dimension":
        return np.linalg.norm(x[:, None] - y[None], axis=-1) / np.sqrt(x.shape[1])
    if flaw == "D21-l1":
        return np.sum(np.abs(x[:, None] - y[None]), axis=-1)
    if flaw == "D19":
        return np.sum((x[:, None] - y[None]) ** 2, axis=-1)
    return np.linalg.norm(x[:, None] - y[None], axis=-1)


def softmax(logits: Array, axis: int, flaw: str) -> Array:
    top = 0.0 if flaw == "D17" else np.max(logits, axis=axis, keepdims=True)
    if flaw != "D08":
        top = np.where(np.isneginf(top), 0.0, top)
    terms = np.exp((logits - top).astype(logits.dtype))
    total = np.sum(terms, axis=axis, keepdims=True)
    if flaw == "D08":
        return terms / total
    return np.divide(terms, total, out=np.zeros_like(terms), where=total > 0)


def affinity(logits: Array, weight: Array, count: int, flaw: str) -> Array:
    """A [N, P + M], the weights counted as copies unless the flaw says otherwise."""
    if flaw == "D55":
        weight = np.ones_like(weight)
    with np.errstate(divide="ignore"):
        inside = logits + np.log(weight)
    column = softmax(logits, 0, flaw)
    if flaw == "D10":
        row = np.concatenate([softmax(p, 1, flaw) for p in np.split(inside, [count], 1)], 1)
    elif flaw == "D53":
        return weight * np.sqrt(softmax(logits, 1, flaw) * column)
    else:
        row = softmax(inside, 1, flaw)
    if flaw == "D11":
        return row
    if flaw == "D12":
        return row * column
    if flaw == "D52":
        return np.sqrt(row * column)
    epsilon = {"D16": 1e-12, "D16-8": 1e-8, "D16-6": 1e-6}.get(flaw, 0.0)
    floor = 1e-6 if flaw == "D06" else 0.0
    # row·column·w: a copy's affinity times the number of copies.
    return np.sqrt(np.maximum(row * column * weight + epsilon, floor))


def field(case: FieldCase, flaw: str, dtype: str = "float64") -> Array:
    kind = np.dtype(dtype)
    x, positive, negative = (a.astype(kind) for a in (case.x, case.positive, case.negative))
    n, m, count = len(x), len(negative), len(positive)
    to_negative = distances(x, negative, flaw)
    masked = case.mask_self
    if flaw == "D01":
        masked = masked and m == n
    if flaw == "D02":
        masked = m == n
    if flaw == "D03":
        to_negative = to_negative + np.eye(n, dtype=kind) * 1e6
        masked = False
    if masked:
        to_negative[np.arange(n), np.arange(n)] += 100.0 if flaw == "D05" else np.inf
    logits = -np.concatenate([distances(x, positive, flaw), to_negative], 1) / case.temperature
    weight = np.ones(count + m)
    if case.negative_weight is not None:
        weight[count:] = case.negative_weight
    A = affinity(logits.astype(kind), weight.astype(kind), count, flaw)
    attraction, repulsion = A[:, :count], A[:, count:]
    pull = attraction * np.sum(repulsion, 1, keepdims=True)
    push = repulsion * np.sum(pull if flaw == "D15" else attraction, 1, keepdims=True)
    drift = pull @ positive - push @ negative
    return (-drift if flaw == "sign" else drift).astype(np.float64)


def loss(case: LossCase, flaw: str) -> LossObservation:
    """A.6 for V = 1 under the paper's readings."""
    labels, n, _, channels = case.generated.shape
    x, positive = case.generated[:, :, 0], case.positive[:, :, 0]
    total = count = 0.0
    for label in range(labels):
        y, weight = [positive[label], x[label]], [np.ones(len(positive[label]) + n)]
        if case.unconditional is not None and case.unconditional_weight is not None:
            y.append(case.unconditional[label, :, 0])
            given = case.unconditional_weight[label]
            weight.append(np.ones_like(given) if flaw == "D36" else given)
        omega = np.concatenate(weight)
        total += float(np.sum(distances(x[label], np.concatenate(y), "") @ omega))
        count += n * float(np.sum(omega))
    scale = total / count / np.sqrt(channels)
    fields = np.zeros((len(case.temperatures), *x.shape))
    for label in range(labels):
        negative, weight = x[label - 1 if flaw == "D58" else label], np.ones(n)
        if case.unconditional is not None and case.unconditional_weight is not None:
            negative = np.concatenate([negative, case.unconditional[label, :, 0]])
            weight = np.concatenate([weight, case.unconditional_weight[label]])
        for position, tau in enumerate(case.temperatures):
            item = FieldCase(
                case.manifest,
                x[label] / scale,
                positive[label] / scale,
                negative / scale,
                tau * np.sqrt(channels),
                negative_weight=weight,
            )
            fields[position, label] = field(item, flaw)
    lam = np.sqrt(np.mean(fields**2, axis=(1, 2, 3), keepdims=True))
    if flaw == "D26":
        lam = np.sqrt(np.mean(np.sum(fields, 0) ** 2)) * np.ones_like(lam)
    if flaw == "D28":
        lam = lam / np.sqrt(channels) if channels > 1 else lam * 2
    drift = np.sum(fields / lam, axis=0) / (len(fields) if flaw == "D25" else 1)
    value = float(np.mean(drift**2))
    if flaw == "D24":
        value = float(np.sum(np.mean((fields / lam) ** 2, axis=(1, 2, 3))))
    gradient = -2.0 * drift / (drift.size * scale)
    if flaw == "D61":
        # As if the mean of the negatives were not detached.
        gradient = gradient - np.mean(gradient, axis=1, keepdims=True)
    return LossObservation(
        value,
        gradient[:, :, None],
        feature_scale=np.array([[scale]]),
        drift_scale=lam.reshape(-1, 1, 1) if flaw != "D28" else None,
    )


class Miniature(Adapter):
    """The paper's readings, fixed, and one flaw."""

    def __init__(self, flaw: str) -> None:
        self.flaw = flaw

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        with np.errstate(all="ignore"):
            return field(case, self.flaw, setting.dtype)

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        return loss(case, self.flaw)

    def guidance_weight(self, alpha: float, n_generated: int, n_unconditional: int) -> float:
        if self.flaw == "D55":
            return float(alpha > 1.0)
        return (alpha - 1.0) * (n_generated - 1) / n_unconditional


def context(
    adapter: Adapter, readings: Readings = PAPER, dtype: str = "float64", *, quick: bool = False
) -> Context:
    setting = Setting(dtype=dtype)  # pyright: ignore[reportArgumentType]
    return Context(adapter, readings, setting, load(), seed=3, quick=quick)


def red(check: Check, adapter: Adapter, dtype: str = "float64") -> bool:
    outcome = run_check(check, context(adapter, dtype=dtype))
    return bool(outcome.error) or any(not item.passed for item in outcome.measurements)


PAIRS = [
    (identifier, flaw)
    for identifier, check in CHECKS.items()
    if check.applies(PAPER) and not (identifier.endswith("separate") or identifier == "PB-02")
    for flaw in NAMED.findall(check.title)
]
VARIANTS = [
    ("ALG2-6-isolated", "D16-8"),
    ("ALG2-6-isolated", "D16-6"),
    ("ALG2-spokes", "D21-dimension"),
    ("ALG2-1-idle-channels", "D21-dimension"),
    ("PB-09", "D21-l1"),
    ("EQ-2-particles", "sign"),
    ("EQ-2-one-particle", "sign"),
]


@pytest.mark.parametrize(("identifier", "flaw"), [*PAIRS, *VARIANTS])
def test_check_kills_what_its_title_names(identifier: str, flaw: str) -> None:
    assert red(CHECKS[identifier], Miniature(flaw))


@pytest.mark.parametrize(
    ("identifier", "flaw"),
    [("ALG2-1-crowd", "D18"), ("EQ-12-far", "D17"), ("ALG2-6-isolated", "D16")],
)
def test_check_kills_in_single_precision(identifier: str, flaw: str) -> None:
    assert red(CHECKS[identifier], Miniature(flaw), "float32")


@pytest.mark.parametrize("identifier", list(CHECKS))
def test_every_check_passes_without_a_flaw(identifier: str) -> None:
    if CHECKS[identifier].applies(PAPER):
        assert not red(CHECKS[identifier], Miniature(""))


def lines(flaw: str) -> set[str]:
    """The clauses that the spokes find broken."""
    outcome = run_check(CHECKS["ALG2-spokes"], context(Miniature(flaw)))
    failed = [item for item in outcome.measurements if not item.passed and not item.end_to_end]
    return {name for item in failed for name in item.refuted}


@pytest.mark.parametrize(
    ("flaw", "broken", "whole"),
    [
        ("D19", {"ALG2-1", "ALG2-2", "EQ-12"}, {"ALG2-7", "ALG2-8"}),
        ("D12", {"ALG2-6"}, {"ALG2-1", "ALG2-2", "ALG2-4", "ALG2-7", "ALG2-8"}),
        ("D15", {"ALG2-8", "ALG2-9"}, {"ALG2-1", "ALG2-2", "ALG2-4", "ALG2-6", "ALG2-7"}),
        ("D21-dimension", {"EQ-12"}, {"ALG2-1", "ALG2-2", "ALG2-4", "ALG2-7", "ALG2-8"}),
        ("sign", {"ALG2-7"}, set[str]()),
    ],
)
def test_spokes_name_the_line(flaw: str, broken: set[str], whole: set[str]) -> None:
    found = lines(flaw)
    assert broken <= found
    assert not (whole & found)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "adapter", [ReferenceAdapter(), DriftingTorchAdapter()], ids=["reference", "torch"]
)
def test_no_check_is_red_on_ours(preset: str, dtype: str, adapter: Adapter) -> None:
    ctx = context(adapter, PRESETS[preset], dtype, quick=True)
    outcomes = [run_check(c, ctx) for c in CHECKS.values() if c.applies(ctx.readings)]
    failed = [
        f"{outcome.check}: {outcome.error or item.quantity} on {item.case}"
        for outcome in outcomes
        for item in outcome.measurements
        if outcome.error or not item.passed
    ]
    errors = [f"{outcome.check}: {outcome.error}" for outcome in outcomes if outcome.error]
    assert not failed + errors
    # The adapter shows everything, so nothing may go unobserved either.
    assert not [outcome.check for outcome in outcomes if outcome.not_observable]


def test_rounded_inputs_are_exact() -> None:
    value = np.linspace(-1.875, 1.875, 31)
    assert np.array_equal(rounded(value, "bfloat16"), value)
