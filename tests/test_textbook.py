"""The textbook and the literal reference agree under every reading: two independent texts."""

from __future__ import annotations

import numpy as np
import pytest

from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import (
    Array,
    FeatureCase,
    FieldCase,
    LossCase,
    LossObservation,
    Manifest,
    Setting,
)
from drifting_parity.suspects import Textbook
from drifting_spec import PAPER, PRESETS, Readings
from drifting_spec.readings import AXES

REFERENCE = ReferenceAdapter()
ROUNDING = 2e-12
"""Relative; temperatures of 0.02 multiply the rounding of distances by their logits of 50."""


def drawn(
    seed: int,
    L: int = 2,
    N: int = 4,
    P: int = 5,
    U: int = 3,
    V: int = 2,
    C: int = 3,
    temperatures: tuple[float, ...] = (0.1, 0.3, 1.0),
) -> LossCase:
    """Samples of unlike spread per label, weighted, some weights 0."""
    rng = np.random.default_rng(seed)
    spread = np.linspace(1.0, 3.0, L)[:, None, None, None]

    def samples(count: int, shift: float) -> Array:
        return spread * (rng.normal(size=(L, count, V, C)) + shift)

    def weights(count: int) -> Array:
        return rng.uniform(0.2, 3.0, size=(L, count)) * (rng.uniform(size=(L, count)) > 0.15)

    return LossCase(
        Manifest(f"textbook-{seed}"),
        samples(N, 0.0),
        samples(P, 0.5),
        samples(U, -0.7) if U else None,
        weights(U) if U else None,
        weights(N) + 0.1,
        weights(P) + 0.1,
        temperatures,
    )


def unweighted(case: LossCase) -> LossCase:
    return case.changed(generated_weight=None, positive_weight=None)


def apart(one: Array | float | None, other: Array | float | None) -> float:
    """Relative distance of two arrays; 0 if both are 0."""
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    size = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other)) / size if size else 0.0


def assert_same(case: LossCase, readings: Readings, allowed: float = ROUNDING) -> LossObservation:
    found = Textbook(readings).observe(case, upstream=1.7)
    expected = REFERENCE.loss(case, readings, Setting(upstream=1.7))
    for name in ("loss", "gradient", "per_label", "feature_scale", "drift_scale"):
        error = apart(getattr(found, name), getattr(expected, name))
        assert error <= allowed, f"{name} {error:.2g} apart under {readings}"
    assert found.other_gradients is not None
    assert set(found.other_gradients.values()) <= {0.0}
    return found


def field_case(
    seed: int, N: int, P: int, M: int, C: int, T: float, *, mask_self: bool, weighted: bool
) -> FieldCase:
    rng = np.random.default_rng(seed)
    x, negative = rng.normal(size=(N, C)), rng.normal(size=(M, C))
    if mask_self:
        negative[:N] = x
    return FieldCase(
        Manifest(f"field-{seed}"),
        x,
        rng.normal(size=(P, C)) + 0.5,
        negative,
        T,
        mask_self,
        rng.integers(0, 3, size=M) * 0.7 if weighted else None,
    )


SINGLE = [
    pytest.param(base.with_reading(axis, reading), id=f"{preset}-{axis}={reading}")
    for preset, base in PRESETS.items()
    for axis, readings in AXES.items()
    for reading in readings
    if reading != getattr(base, axis)
]


@pytest.mark.parametrize("readings", SINGLE)
def test_every_reading_on_top_of_every_preset(readings: Readings) -> None:
    assert_same(drawn(1), readings)
    assert_same(drawn(2, L=1, N=3, P=2, U=0, V=1, C=4).scaled(3e-5), readings)
    for mask_self in (True, False):
        for weighted in (True, False):
            case = field_case(3, 5, 4, 7, 3, 0.6, mask_self=mask_self, weighted=weighted)
            expected = REFERENCE.field(case, readings, Setting())
            assert apart(Textbook(readings).observe_field(case), expected) <= ROUNDING


def test_two_hundred_random_triples_of_changes() -> None:
    rng = np.random.default_rng(5)
    axes = list(AXES)
    for number in range(200):
        readings = list(PRESETS.values())[number % 3]
        for axis in rng.choice(axes, size=3, replace=False):
            others = [each for each in AXES[axis] if each != getattr(readings, axis)]
            readings = readings.with_reading(axis, str(rng.choice(others)))
        assert_same(drawn(100 + number, U=number % 4, V=1 + number % 3, C=1 + number % 5), readings)
        case = field_case(
            number, 4, 3, 6, 2, 0.8, mask_self=number % 2 == 0, weighted=number % 3 > 0
        )
        expected = REFERENCE.field(case, readings, Setting())
        assert apart(Textbook(readings).observe_field(case), expected) <= ROUNDING


@pytest.mark.parametrize("preset", PRESETS)
def test_odd_sizes_and_places(preset: str) -> None:
    readings = PRESETS[preset]
    case = drawn(7)
    # More samples than a library's switch to expanded squares; one sample; one channel.
    assert_same(drawn(8, L=1, N=30, P=27, U=5, V=1, C=2), readings)
    assert_same(drawn(9, L=3, N=2, P=1, U=1, V=1, C=1), readings)
    single = drawn(10, N=1, U=2)
    assert_same(single, readings)
    far = case.changed(generated=case.generated + 1e3, positive=case.positive + 1e3)
    assert case.unconditional is not None
    assert_same(far.changed(unconditional=case.unconditional + 1e3), readings, 1e-8)
    assert_same(case.changed(temperatures=(0.02, 0.05, 0.2)), readings, 1e-11)
    assert_same(case.changed(temperatures=(0.05,)), readings)
    assert_same(case.changed(temperatures=(40.0, 2e4, 0.5, 0.5, 3.0)), readings, 1e-11)
    zero = np.zeros_like(case.unconditional_weight)
    assert_same(case.changed(unconditional_weight=zero), readings)
    assert_same(case.changed(unconditional_weight=np.array([0.0, 2.5])[:, None] + zero), readings)


def test_one_generated_sample_does_not_drift_without_unconditional_samples() -> None:
    found = assert_same(drawn(11, N=1, U=0), PAPER)
    assert found.loss == 0
    assert not found.gradient.any()


@pytest.mark.parametrize("preset", PRESETS)
def test_coincident_samples(preset: str) -> None:
    case = drawn(12)
    doubled = case.generated.copy()
    doubled[:, 1] = doubled[:, 0]
    near = case.positive.copy()
    near[:, 0] = doubled[:, 0]
    assert_same(case.changed(generated=doubled, positive=near), PRESETS[preset])
    same = np.broadcast_to(case.generated[:1, :1, :1], case.generated.shape)
    collapsed = case.changed(
        generated=same, positive=same, unconditional=None, unconditional_weight=None
    ).changed(generated_weight=None, positive_weight=None)
    found = assert_same(collapsed, PRESETS[preset])
    if preset == "paper":
        assert found.loss == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_sizes_of_table_8(preset: str) -> None:
    case = unweighted(drawn(13, L=2, N=64, P=64, U=16, V=1, C=64, temperatures=(0.02, 0.05, 0.2)))
    alpha = np.array([1.0, 4.0])
    weight = np.repeat(((alpha - 1) * 63 / 16)[:, None], 16, axis=1)
    assert_same(case.changed(unconditional_weight=weight), PRESETS[preset], 1e-11)


def test_many_channels_and_vectors_of_table_8() -> None:
    case = unweighted(drawn(14, L=1, N=64, P=128, U=32, V=3, C=640))
    assert_same(case.changed(temperatures=(0.02, 0.05, 0.2)), PAPER, 1e-11)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dtype_follows_the_inputs(dtype: str) -> None:
    case, setting = drawn(15), Setting(dtype="float64" if dtype == "float64" else "float32")
    found = Textbook().observe(case, setting=setting)
    expected = REFERENCE.loss(case, PAPER, setting)
    assert apart(found.gradient, expected.gradient) <= (1e-13 if dtype == "float64" else 1e-5)
    assert (apart(found.gradient, expected.gradient) > 1e-12) == (dtype == "float32")


def test_weights_per_label_are_weights_of_each_sample() -> None:
    import torch

    case = drawn(16)
    arrays = [torch.tensor(each) for each in (case.generated, case.positive, case.unconditional)]
    per_label = torch.tensor([0.5, 2.0], dtype=torch.float64)
    book = Textbook()
    one = book.loss(*arrays, per_label)
    assert one == book.loss(*arrays, per_label[:, None].expand(2, 3).clone())
    with pytest.raises(ValueError, match=r"unconditional_weight has shape \(3,\), expected"):
        book.loss(*arrays, torch.ones(3))
    with pytest.raises(ValueError, match="positive has shape"):
        book.loss(arrays[0], arrays[1][..., :2])
    with pytest.raises(ValueError, match="go together"):
        book.loss(*arrays)


@pytest.mark.parametrize("vanilla", ["normalized", "raw"])
@pytest.mark.parametrize("preset", PRESETS)
def test_many_features_with_the_vanilla_term(preset: str, vanilla: str) -> None:
    readings = PRESETS[preset].with_reading("vanilla_term", vanilla)
    one, two, raw = drawn(17, V=2, C=3), drawn(18, V=1, C=5), drawn(19, V=3, C=2)
    features = {"a": one, "b": two}
    assert raw.unconditional is not None
    case = FeatureCase(
        Manifest("features"),
        {key: each.generated for key, each in features.items()},
        {key: each.positive for key, each in features.items()},
        {
            key: each.unconditional
            for key, each in features.items()
            if each.unconditional is not None
        },
        one.unconditional_weight,
        raw.generated,
        raw.positive,
        raw.unconditional,
        raw_weight=0.7,
        temperatures=(0.3, 1.0),
    )
    for each in (case, case.changed(generated_samples=None)):
        found = Textbook(readings).observe_features(each, Setting(upstream=1.7))
        expected = REFERENCE.feature_loss(each, readings, Setting(upstream=1.7))
        assert apart(found.loss, expected.loss) <= ROUNDING
        for key, gradient in expected.gradients.items():
            assert apart(found.gradients[key], gradient) <= ROUNDING
        if each.generated_samples is not None:
            assert apart(found.raw_gradient, expected.raw_gradient) <= ROUNDING
