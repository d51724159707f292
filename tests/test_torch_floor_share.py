"""The share of the affinity that is floor, against the reference's affinities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from drifting_reference import drifting_loss as literal_loss
from drifting_reference.algorithm2 import affinities, mask_distances
from drifting_reference.kernels import distances
from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import (
    DriftingLossOutput,
    FeatureDriftingConfig,
    drifting_loss,
    feature_space_drifting_loss,
    stream_drifting_loss,
)

TEMPERATURES = (0.02, 0.05, 0.2)
FLOORED = {
    "1e-6": replace(PAPER, affinity_floor="1e-6"),
    "1e-12": replace(PAPER, affinity_floor="1e-12"),
    "product": replace(PAPER, affinity_floor="1e-6", softmax_combination="product"),
    "weight outside": replace(PAPER, affinity_floor="1e-6", unconditional_weight="after_softmaxes"),
    "weight inside": replace(PAPER, affinity_floor="1e-6", unconditional_weight="log_in_softmaxes"),
    "each vector": replace(PAPER, affinity_floor="1e-6", location_sharing="none"),
    "each label": replace(PAPER, affinity_floor="1e-6", statistics_scope="label"),
}


def _samples(spread: float, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)

    def normal(count: int) -> Tensor:
        return torch.randn(2, count, 3, 2, generator=rng, dtype=torch.float64)

    generated, positive, unconditional = spread * normal(30), normal(9) + 0.5, normal(5)
    return {
        "generated": generated.to(dtype),
        "positive": positive.to(dtype),
        "unconditional": unconditional.to(dtype),
        "unconditional_weight": torch.tensor([0.5, 2.0], dtype=dtype),
    }


def _expected(given: dict[str, Tensor], readings: Readings) -> np.ndarray:
    x, y, u, w = (given[name].double().numpy() for name in given)
    weights = np.repeat(w[:, None], u.shape[1], 1)
    S = literal_loss(x, y, u, weights, temperatures=TEMPERATURES, readings=readings).feature_scale
    labels, count, vectors, channels = x.shape
    S = np.broadcast_to(S, (labels, vectors))
    bare = replace(readings, affinity_floor="none")
    sums = np.zeros((2, 2, len(TEMPERATURES), labels, vectors))
    for t, temperature in enumerate(TEMPERATURES):
        for label in range(labels):
            for v in range(vectors):
                T = temperature * np.sqrt(channels)
                own = x[label, :, v]
                negatives = np.concatenate([own, u[label, :, v]]) / S[label, v]
                own, positives = own / S[label, v], y[label, :, v] / S[label, v]
                d_neg, present = mask_distances(distances(own, negatives), True, readings, 1.0)
                d = np.concatenate([distances(own, positives), d_neg], axis=1)
                present = np.concatenate([np.ones((count, 9), dtype=bool), present], axis=1)
                weight = np.concatenate([np.ones(9 + count), weights[label]])
                for at, under in enumerate((bare, readings)):
                    parts = affinities(-d / T, present, weight, 9, under)
                    for side, A in enumerate(parts):
                        sums[at, side, t, label, v] = A.sum()
    if readings.statistics_scope == "batch":
        sums = sums.sum(-2, keepdims=True)
    if readings.location_sharing != "none":
        sums = sums.sum(-1, keepdims=True)
    return 1 - sums[0] / sums[1]


@pytest.mark.parametrize("spread", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("readings", FLOORED.values(), ids=FLOORED.keys())
def test_the_share_is_that_of_the_literal_affinities(readings: Readings, spread: float) -> None:
    given = _samples(spread)
    out = drifting_loss(**given, temperatures=TEMPERATURES, readings=readings)
    share = out.floor_share
    assert share.shape == (2, *out.drift_scale.shape)
    assert share.dtype == out.drift_scale.dtype
    np.testing.assert_allclose(share.numpy(), _expected(given, readings), rtol=1e-9, atol=1e-12)


def test_the_share_grows_as_samples_coincide() -> None:
    shares = [
        drifting_loss(**_samples(spread), readings=RELEASE).floor_share for spread in (1.0, 1e-4)
    ]
    assert shares[0][0].max() < 0.3
    assert shares[1][0, 0].min() > 0.9
    assert all(bool(((each >= 0) & (each <= 1)).all()) for each in shares)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_share_in_other_dtypes(dtype: torch.dtype) -> None:
    given = _samples(0.1, dtype)
    exact = drifting_loss(
        **{name: each.double() for name, each in given.items()}, readings=RELEASE
    ).floor_share
    found = drifting_loss(**given, readings=RELEASE).floor_share
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


def test_asking_changes_nothing_and_costs_no_graph() -> None:
    given = _samples(0.1)
    given["generated"].requires_grad_()
    out = drifting_loss(**given, readings=RELEASE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = out.floor_share
    assert not first.requires_grad
    out.loss.backward()
    assert torch.equal(first, out.floor_share)


def test_no_floor_keeps_no_samples_and_has_no_share() -> None:
    given = _samples(0.1)
    for readings in (PAPER, replace(SEED, softmax_axes="y", affinity_floor="none")):
        out = drifting_loss(**given, readings=readings)
        assert out.problem is None
        assert out.floor_share.shape == (2, *out.drift_scale.shape)
        assert not bool(out.floor_share.any())


def test_features_of_other_units_have_the_same_share() -> None:
    readings = FLOORED["1e-6"]
    share = drifting_loss(**_samples(0.1, torch.float32), readings=readings).floor_share
    for unit in (2.0**-100, 2.0**100):
        given = _samples(0.1, torch.float32)
        for name in ("generated", "positive", "unconditional"):
            given[name] *= unit
        found = drifting_loss(**given, readings=readings).floor_share
        torch.testing.assert_close(found, share, rtol=1e-4, atol=1e-6)


def _streamed(given: dict[str, Tensor], readings: Readings) -> DriftingLossOutput:
    config = FeatureDriftingConfig(readings=readings, include_raw_drift_loss=False)
    weight = given["unconditional_weight"]
    taps = [("a", given["generated"], given["positive"], given["unconditional"])]
    return stream_drifting_loss(taps, weight, config=config).terms["a"]


def test_each_term_of_many_tells_and_streaming_says_that_it_cannot() -> None:
    given = _samples(0.1)
    alone = drifting_loss(**given, readings=RELEASE).floor_share
    x, y, u = ({"a": given[name]} for name in ("generated", "positive", "unconditional"))
    config = FeatureDriftingConfig(readings=RELEASE, include_raw_drift_loss=False)
    weight = given["unconditional_weight"]
    found = feature_space_drifting_loss(x, y, u, weight, config=config).terms["a"]
    assert torch.equal(found.floor_share, alone)
    streamed = _streamed(given, RELEASE)
    assert streamed.problem is None
    with pytest.raises(RuntimeError, match="floor_share needs the samples, which stream"):
        _ = streamed.floor_share
    assert not bool(_streamed(given, PAPER).floor_share.any())


def test_a_compiled_loss_says_that_it_cannot() -> None:
    compiled = torch.compile(drifting_loss, backend="aot_eager", fullgraph=True)
    given = _samples(0.1)
    out = compiled(**given, readings=RELEASE)
    with pytest.raises(RuntimeError, match=r"torch\.compile do not keep"):
        _ = out.floor_share
    assert not bool(compiled(**given).floor_share.any())
