"""The checks of A.5 and A.6 on deliberately wrong implementations: each is caught, and where.

Every miniature is Algorithm 2 of the reference under an A.6 written anew here, with one mistake.
The numbers of the mistakes are those of the catalogue (`drifting-parity list deviations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

import drifting_reference as reference
from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import (
    Array,
    FeatureCase,
    FeatureObservation,
    LossCase,
    LossObservation,
    Manifest,
    Setting,
    VectorizeCase,
)
from drifting_parity.checks import comparisons, properties_of
from drifting_parity.checks.core import Context
from drifting_parity.checks.features import vectors as feature_properties
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.checks.loss.worlds import small_drift
from drifting_parity.draw import RandomDraw, Rejected
from drifting_parity.measure import Measurement
from drifting_parity.suspects import compose
from drifting_spec import AXES, PAPER, PRESETS, Readings
from drifting_spec.registry import load

PROPERTIES = (*properties_of("loss"), *feature_properties.PROPERTIES)
CHECKS = (*(item.check() for item in PROPERTIES), *feature_properties.CHECKS)


def divide(array: Array, by: Array) -> Array:
    by = np.broadcast_to(by, array.shape)
    return np.divide(array, by, out=np.zeros_like(array), where=by != 0)


class Miniature(ReferenceAdapter):
    """A.6 by hand; ``mistakes`` names what it does wrong, ``tells`` whether it shows S."""

    by_definition = False
    configurable = False

    def __init__(self, *mistakes: str, tells: bool = True, readings: Readings = PAPER) -> None:
        self.mistakes, self.tells, self.readings = set(mistakes), tells, readings
        self.remembered: Array | None = None

    def vectorize(
        self, case: VectorizeCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        return super().vectorize(case, self.readings, setting)

    def scale(self, x: Array, y: Array, weight: Array) -> Array:
        """S [1 or L, 1 or V]."""
        distance = np.sqrt(np.sum((x[:, :, None] - y[:, None]) ** 2, axis=-1))
        if "mask in S" in self.mistakes:
            n = x.shape[1]
            distance[:, np.arange(n), y.shape[1] - n + np.arange(n)] += 1e6
        weights = np.ones_like(weight) if "S unweighted" in self.mistakes else weight
        counted = np.broadcast_to(weights[:, None, :, None], distance.shape)
        axes = (1, 2)
        axes += () if "S per label" in self.mistakes else (0,)
        axes += () if "S per location" in self.mistakes else (3,)
        total = np.sum(counted * distance, axis=axes, keepdims=True)
        scale = total / np.sum(counted, axis=axes, keepdims=True) / np.sqrt(x.shape[-1])
        scale = scale[:, 0, 0]
        if "S floored" in self.mistakes:
            scale = np.maximum(scale, 1e-2)
        if "S remembered" in self.mistakes:
            before = scale.mean(keepdims=True) if self.remembered is None else self.remembered
            self.remembered = 0.9 * before + 0.1 * scale.mean(keepdims=True)
            scale = self.remembered
        return scale

    def lambdas(self, field: Array) -> Array:
        axes = (1, 3)
        axes += () if "λ per label" in self.mistakes else (0,)
        axes += () if "λ per location" in self.mistakes else (2,)
        found = np.sqrt(np.mean(field**2, axis=axes, keepdims=True))
        if "λ without √C" in self.mistakes:
            found = found / np.sqrt(field.shape[-1])
        return np.ones_like(found) if "no λ" in self.mistakes else found

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        x, positive = case.generated, case.positive
        labels, n, vectors, channels = x.shape
        extra, extra_weight = case.unconditional, case.unconditional_weight
        if extra is None or extra_weight is None:
            extra, extra_weight = x[:, :0], np.ones((labels, 0))
        if "standardised" in self.mistakes:
            sizes = np.concatenate([x, positive], axis=1).std(axis=(0, 1, 2)) + 1e-12
            x, positive, extra = x / sizes, positive / sizes, extra / sizes
        negative = np.concatenate([x, extra], axis=1)
        weight = np.concatenate([np.ones((labels, n)), extra_weight], axis=1)
        everything = np.concatenate([positive, extra, x], axis=1)
        all_weights = np.concatenate(
            [np.ones(positive.shape[:2]), extra_weight, np.ones((labels, n))], axis=1
        )
        scale = self.scale(x, everything, all_weights)
        each = np.broadcast_to(scale, (labels, vectors))
        root = 1.0 if "raw temperature" in self.mistakes else np.sqrt(channels)
        fields = [np.zeros_like(x) for _ in case.temperatures]
        for field, temperature in zip(fields, case.temperatures, strict=True):
            for label, v in np.ndindex(labels, vectors):
                unit = each[label, v] or 1.0
                field[label, :, v] = reference.compute_V(
                    x[label, :, v] / unit,
                    positive[label, :, v] / unit,
                    negative[label, :, v] / unit,
                    temperature * root,
                    mask_self=True,
                    negative_weight=weight[label],
                )
        if "λ after the sum" in self.mistakes:
            fields = [np.sum(fields, axis=0)]
        drifts = [divide(field, self.lambdas(field)) for field in fields]
        total = np.sum(drifts, axis=0)
        return self.finished(case, scale, fields, drifts, total)

    def finished(
        self, case: LossCase, scale: Array, fields: list[Array], drifts: list[Array], total: Array
    ) -> LossObservation:
        labels, n, vectors, channels = case.generated.shape
        share = 1 / (labels * n * channels)
        share *= channels if "sum over channels" in self.mistakes else 1
        share *= 0.5 if "one half" in self.mistakes else 1
        share /= vectors if "mean over locations" in self.mistakes else 1
        apart = self.mistakes & {"an error each", "mean over temperatures"}
        squares = np.sum(np.square(drifts if apart else [total]), axis=0)
        per_label = labels * share * np.sum(squares, axis=(1, 2, 3))
        gradient = divide(-2 * share * total, np.asarray(scale[:, None, :, None]))
        if "mean over temperatures" in self.mistakes:
            per_label, gradient = per_label / len(drifts), gradient / len(drifts)
        if "live target" in self.mistakes:
            gradient = 1e-3 * gradient[:, ::-1]
        if "Huber" in self.mistakes:
            per_label = np.minimum(per_label, 1.5)
        if "0/0" in self.mistakes and not total.any():
            gradient = gradient * np.nan
        shown = np.stack([self.lambdas(field)[:, 0, :, 0] for field in fields])
        tells = self.tells and "λ after the sum" not in self.mistakes
        attached = 1e-3 if "positives attached" in self.mistakes else 0.0
        return LossObservation(
            loss=float(per_label.mean()),
            gradient=gradient,
            per_label=per_label if self.tells else None,
            feature_scale=scale if self.tells else None,
            drift_scale=shown if tells else None,
            other_gradients={"positive": attached},
        )

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        seen = {
            key: self.loss(feature_properties.part(case, key), readings, setting)
            for key in case.generated
        }
        features = sum(one.loss for one in seen.values())
        features /= len(seen) if "mean over features" in self.mistakes else 1
        gradients = {key: one.gradient for key, one in seen.items()}
        if case.generated_samples is None:
            return FeatureObservation(features, gradients, features)
        raw = self.loss(feature_properties.raw_part(case), readings, setting)
        weight = 0.0 if "no vanilla term" in self.mistakes else case.raw_weight
        weight *= 2.0 if "vanilla reweighted" in self.mistakes else 1.0
        return FeatureObservation(
            features + weight * raw.loss,
            gradients,
            features,
            raw_gradient=weight * raw.gradient.reshape(case.generated_samples.shape),
        )


def failures(adapter: ReferenceAdapter, only: str = "", seed: int = 3) -> dict[str, set[str]]:
    """The clauses that each check finds broken, by check; of one check if it is named."""
    context = Context(adapter, PAPER, Setting(), load(), seed=seed)
    found: dict[str, set[str]] = {}
    for check in CHECKS:
        if only not in {"", check.id}:
            continue
        try:
            items = [item for item in check.run(context) if isinstance(item, Measurement)]
        except NotObservable:
            continue
        for item in items:
            assert set(item.clauses) <= set(check.clauses), check.id
            if not item.passed:
                found.setdefault(check.id, set()).update(item.refuted)
    return found


MISTAKES = {
    "D22 raw temperature": ("loss.own_field", "EQ-22"),
    "D24 an error each": ("loss.equal_temperatures", "A6-order"),
    "D25 mean over temperatures": ("loss.temperatures", "EQ-A6tau"),
    "D26 λ after the sum": ("loss.equal_temperatures", "A6-order"),
    "D28 λ without √C": ("loss.anatomy", "EQ-25"),
    "D30 no λ": ("loss.anatomy", "EQ-25"),
    "D31 S remembered": ("loss.no_memory", "A6-S"),
    "D34 mask in S": ("loss.anatomy", "EQ-21"),
    "D36 S unweighted": ("loss.weights_in_scale", "A7-weight-in-scale"),
    "D38 standardised": ("loss.channel_mixing", "EQ-18"),
    "D40 S per label": ("loss.feature_scale", "A6-S"),
    "D40 λ per label": ("loss.collapsed_part", "A6-lambda"),
    "D41 S per location": ("loss.feature_scale", "A6-locshare"),
    "D41 λ per location": ("loss.collapsed_part", "A6-locshare"),
    "D43 mean over locations": ("loss.copies", "A5-sum"),
    "D44 mean over features": ("features.sum", "A6-sum-features"),
    "D45 no vanilla term": ("features.vanilla", "A5-vanilla"),
    "D45 vanilla reweighted": ("features.vanilla", "A5-vanilla"),
    "D60 sum over channels": ("loss.one_temperature", "EQ-26"),
    "D60 one half": ("loss.one_temperature", "EQ-26"),
    "D60 Huber": ("loss.one_temperature", "EQ-26"),
    "D61 live target": ("loss.frozen_target", "S3-sg"),
    "D61 positives attached": ("loss.other_gradients", "S3-sg"),
    "D66 S floored": ("loss.scale_invariance", "A6-tau"),
    "P-34 0/0": ("loss.no_drift", "EQ-23"),
}


@pytest.mark.parametrize("tells", [True, False], ids=["tells", "mute"])
def test_a_faithful_miniature_passes_every_check(tells: bool) -> None:
    assert failures(Miniature(tells=tells)) == {}


@pytest.mark.parametrize("tells", [True, False], ids=["tells", "mute"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught_at_its_clause(mistake: str, tells: bool) -> None:
    check, clause = MISTAKES[mistake]
    found = failures(Miniature(mistake.partition(" ")[2], tells=tells), check)
    assert clause in found.get(check, set()), found


@pytest.mark.parametrize(
    ("readings", "check", "clause"),
    [
        pytest.param({"statistics_grouping": "mean_with_std"}, "closed_form", "A5-b", id="D42"),
        pytest.param({"x2_statistic": "rms"}, "x2", "A5-x2", id="D46"),
        pytest.param({"std": "unbiased"}, "identities", "A5-identities", id="D49-unbiased"),
        pytest.param({"std": "population_eps"}, "closed_form", "A5-b", id="D49-epsilon"),
        pytest.param({"patch_remainder": "skip"}, "remainder", "A5-c", id="D50-skip"),
        pytest.param({"patch_remainder": "crop"}, "remainder", "A5-d", id="D50-crop"),
    ],
)
def test_other_vectors_are_caught(readings: dict[str, str], check: str, clause: str) -> None:
    wrong = replace(PAPER, **readings)  # pyright: ignore[reportArgumentType]
    name = f"vectors.{check}"
    assert clause in failures(Miniature(readings=wrong), name).get(name, set())


@pytest.mark.parametrize("axis", [axis for axis in AXES if axis != "taps"])
def test_the_worlds_of_an_axis_tell_its_readings_apart(axis: str) -> None:
    """Judged as if it had taken the asked reading, every other reading is told apart."""
    context = Context(ReferenceAdapter(), PAPER, Setting(), load())
    for reading in AXES[axis]:
        other = PAPER.with_reading(axis, reading)
        if reading == getattr(PAPER, axis) or reading in {"add_1e6", "separate"}:
            # 1e6 shows at absurd temperatures only; separate is compared with y below.
            continue
        if axis == "patch_remainder":
            continue

        class Other(ReferenceAdapter):
            def field(self, case, readings, setting):
                return super().field(case, other, setting)  # noqa: B023

            def loss(self, case, readings, setting):
                return super().loss(case, other, setting)  # noqa: B023

            def feature_loss(self, case, readings, setting):
                return super().feature_loss(case, other, setting)  # noqa: B023

            def vectorize(self, case, readings, setting):
                return super().vectorize(case, other, setting)  # noqa: B023

        found = comparisons.measure_under(
            [lambda: replace(context, adapter=Other())],
            axis,
            comparisons.worlds_of(axis),
            4,
            ("EQ-13",),
        )
        failed = [item for item in found if isinstance(item, Measurement) and not item.passed]
        assert failed, reading


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("item", PROPERTIES, ids=lambda item: item.id)
def test_a_property_holds_for_the_reference(item, preset: str) -> None:
    readings = PRESETS[preset]
    if not item.applies(readings):
        pytest.skip("no theorem under these readings")
    context = Context(ReferenceAdapter(), readings, Setting(), load())
    source, accepted = RandomDraw(11), 0
    for _ in range(60):
        try:
            measured = list(item.measure(context, item.draw(source)))
        except Rejected:
            continue
        except NotObservable as reason:
            pytest.skip(str(reason))
        assert all(one.passed for one in measured), measured
        accepted += 1
    assert accepted > 20


def test_the_closed_form_of_the_scale_is_that_of_two_points() -> None:
    x = np.array([0.0, 1.0]).reshape(1, 2, 1, 1)
    case = LossCase(Manifest("G-2"), x, np.full((1, 1, 1, 1), 2.0))
    context = Context(ReferenceAdapter(), PAPER, Setting(), load())
    assert loss_forms.feature_scale(context, case) == pytest.approx(5 / 6)


def test_the_small_drift_is_far_below_an_absolute_floor() -> None:
    sizes: list[float] = []
    for seed in range(40):
        mild, low = small_drift(RandomDraw(seed))
        for case in (mild, low):
            assert compose().observe(case).loss == pytest.approx(1.0)
        shown = compose().observe(low).drift_scale
        assert shown is not None
        sizes.append(float(shown.max()))
    assert max(sizes) < 5e-5
    assert min(sizes) > 1e-7
