"""The reference's smaller parts: Sec. 3.1–3.2, guidance (A.7), feature vectors (A.5), sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from drifting_reference import (
    alpha_to_gamma,
    antisymmetry_defect,
    cfg_alpha_to_weight,
    compute_V,
    drifting_loss,
    eq11_field,
    evolve,
    feature_space_drifting_loss,
    feature_training_loss,
    gamma_to_alpha,
    guided_distribution,
    input_x2,
    maps_per_side,
    mixed_negatives,
    multi_feature_training_loss,
    pushforward,
    total_vector_count,
    training_loss,
    training_loss_gradient,
    training_step,
    vanilla_drifting_loss,
    vector_count,
    vectorize_feature_maps,
    weight_to_alpha,
    weight_to_gamma,
    weighted_negatives,
)
from drifting_spec import PAPER, SEED


def close(got: object, expected: object, rtol: float = 1e-13, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, atol=atol)


def cloud(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parity_clause("EQ-1", "EQ-2", "EQ-4", "EQ-5")
def test_particles_move_along_the_drift() -> None:
    noise = cloud(1, 20, 2)

    def generator(e: np.ndarray) -> np.ndarray:
        return 0.1 * e + 3

    def drift(x: np.ndarray) -> np.ndarray:
        return compute_V(x, noise[:10], x, 0.5, mask_self=True)

    x = pushforward(generator, noise)
    close(evolve(x, drift) - x, drift(x), atol=1e-14)
    assert np.abs(drift(x)).max() > 0.01


@pytest.mark.parity_clause("EQ-4", "EQ-5")
def test_particles_on_the_positives_stay() -> None:
    x = cloud(1, 20, 2)

    def drift(points: np.ndarray) -> np.ndarray:
        return compute_V(points, x, points, 0.5, mask_self=False)

    close(evolve(x, drift), x, atol=1e-14)


@pytest.mark.parity_clause("EQ-2")
@pytest.mark.parametrize("start", [-3.0, 0.0, 3.0])
def test_particles_reach_two_modes(start: float) -> None:
    """The toy of Figs. 3-4: from one side, the middle or the other, ‖V‖² falls."""
    modes = np.array([[-2.0, 0.0], [2.0, 0.0]])
    y_pos = np.repeat(modes, 16, axis=0) + 0.1 * cloud(20, 32, 2)
    x = 0.1 * cloud(21, 32, 2) + [start, 0.0]

    def drift(points: np.ndarray) -> np.ndarray:
        return compute_V(points, y_pos, points, 1.0, mask_self=True)

    energy = np.mean(drift(x) ** 2)
    for _ in range(40):
        x = evolve(x, drift)
    assert np.mean(drift(x) ** 2) < 0.05 * energy


@pytest.mark.parity_clause("EQ-3")
@pytest.mark.parametrize("axes", ["xy", "y", "none"])
def test_antisymmetry_without_the_mask(axes: str) -> None:
    readings = PAPER.with_reading("softmax_axes", axes)

    def field(x: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return compute_V(x, p, q, 0.6, mask_self=False, readings=readings)

    x, p, q = cloud(2, 4, 3), cloud(3, 5, 3), cloud(4, 2, 3)
    close(antisymmetry_defect(field, x, p, q), np.zeros((4, 3)), atol=1e-14)
    close(field(x, p, p[::-1]), np.zeros((4, 3)), atol=1e-14)


@pytest.mark.parity_clause("EQ-6", "EQ-13", "EQ-14", "ALG1-6")
def test_objectives() -> None:
    x, y_pos = cloud(5, 4, 3), cloud(6, 5, 3)
    V = compute_V(x, y_pos, x, 0.5, mask_self=True)
    close(training_loss(x, x + V), np.mean(np.sum(V**2, axis=1)))
    step = training_step(lambda e: e, x, y_pos, 0.5)
    close(step.loss * 3, training_loss(x, x + V))
    close(step.gradient * 3, training_loss_gradient(V), atol=1e-15)
    h, moved = 1e-6, x.copy()
    moved[2, 1] += h
    slope = (training_loss(moved, x + V) - training_loss(x, x + V)) / h
    close(slope, training_loss_gradient(V)[2, 1], rtol=1e-4)

    def field(feature: np.ndarray) -> np.ndarray:
        return -feature

    close(feature_training_loss(lambda a: 2 * a, x, field), 4 * np.mean(np.sum(x**2, axis=1)))
    phis = [lambda a: 2 * a, lambda a: a[:, :1]]
    parts = [feature_training_loss(phi, x, field) for phi in phis]
    close(multi_feature_training_loss(phis, x, [field, field]), sum(parts))


@pytest.mark.parity_clause("A7-w", "EQ-A7gamma", "EQ-A7alpha")
@pytest.mark.parametrize("alpha", [1.0, 1.1, 2.0, 4.0, 10.0])
def test_guidance_round_trip(alpha: float) -> None:
    weight = cfg_alpha_to_weight(alpha, 64, 16)
    close(gamma_to_alpha(weight_to_gamma(weight, 64, 16)), alpha)
    close(weight_to_alpha(weight, 64, 16), alpha)
    close(gamma_to_alpha(alpha_to_gamma(alpha)), alpha)
    close(cfg_alpha_to_weight(2.0, 64, 16), 3.9375, rtol=0)
    close(cfg_alpha_to_weight(2.0, 64, 32), 1.96875, rtol=0)
    with pytest.raises(ValueError, match=r"alpha is 0\.5"):
        cfg_alpha_to_weight(0.5, 64, 16)


@pytest.mark.parity_clause("EQ-15", "EQ-16", "EQ-A7q")
def test_guided_distribution_is_an_equilibrium() -> None:
    """PB-35: with q of EQ-16 the mixed negatives are p_data(·|c), so weighted EQ-11 vanishes."""
    points, alpha = cloud(7, 4, 2), 1.5
    p_class, p_all = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.25, 0.25, 0.25, 0.25])
    q = guided_distribution(p_class, p_all, alpha)
    assert (q > 0).all()
    negatives = mixed_negatives(q, p_all, alpha_to_gamma(alpha))
    close(negatives, p_class)
    weight = cfg_alpha_to_weight(alpha, 9, 4)
    close(weighted_negatives(q, p_all, weight, 9, 4), p_class)
    V = eq11_field(
        cloud(8, 3, 2), points, points, 0.7, positive_weight=p_class, negative_weight=negatives
    )
    close(V, np.zeros((3, 2)), atol=1e-15)


@pytest.mark.parity_clause("A5-count", "A5-total")
def test_vector_counts() -> None:
    assert [vector_count(side) for side in (32, 16, 8, 4)] == [1666, 418, 106, 28]
    assert total_vector_count({32: 2, 16: 2, 8: 3, 4: 2}) == 4542
    totals = {"union": 4542, "coincident_twice": 5066, "network_output": 2876, "release": 6732}
    for taps, total in totals.items():
        assert total_vector_count(maps_per_side(PAPER.with_reading("taps", taps))) == total
    for side in (4, 8, 16, 32):
        vectors = vectorize_feature_maps({"m": np.zeros((1, 2, side, side))})
        assert sum(v.shape[1] for v in vectors.values()) == vector_count(side)


@pytest.mark.parity_clause("A5-a", "A5-b", "A5-c", "A5-d", "A5-identities")
def test_feature_vectors() -> None:
    m = cloud(9, 2, 3, 8, 4)
    v = vectorize_feature_maps({"m": m})
    assert list(v) == [f"m.{s}" for s in ["loc", "mean", "std", "mean2", "std2", "mean4", "std4"]]
    close(v["m.loc"][:, 5], m[:, :, 1, 1])
    close(v["m.mean"][:, 0], m.reshape(2, 3, -1).mean(axis=-1))
    close(v["m.std"][:, 0], m.reshape(2, 3, -1).std(axis=-1))
    close(v["m.mean2"][:, 3], m[:, :, 2:4, 2:4].mean(axis=(2, 3)))
    close(v["m.std4"][:, 1], m[:, :, 4:8, :].std(axis=(2, 3)))
    close(v["m.mean2"].mean(axis=1), v["m.mean"][:, 0], atol=1e-14)
    total = (v["m.std2"] ** 2).mean(axis=1) + v["m.mean2"].var(axis=1)
    close(total, v["m.std"][:, 0] ** 2)
    unbiased = vectorize_feature_maps({"m": m}, readings=replace(PAPER, std="unbiased"))
    close(unbiased["m.std2"], v["m.std2"] * np.sqrt(4 / 3))
    eps = vectorize_feature_maps({"m": 0 * m}, readings=replace(PAPER, std="population_eps"))
    close(eps["m.std"], np.full((2, 1, 3), 1e-3))
    grouped = vectorize_feature_maps({"m": m}, readings=SEED)
    assert list(grouped) == ["m.loc", "m.global", "m.patch2", "m.patch4"]
    close(grouped["m.patch2"], np.concatenate([v["m.mean2"], v["m.std2"]], axis=1))


def test_patch_remainders() -> None:
    maps = {"m": cloud(10, 1, 2, 6, 3)}
    with pytest.raises(ValueError, match="multiples of 2"):
        vectorize_feature_maps(maps)
    skipped = vectorize_feature_maps(maps, readings=replace(PAPER, patch_remainder="skip"))
    assert list(skipped) == ["m.loc", "m.mean", "m.std"]
    cropped = vectorize_feature_maps(maps, readings=replace(PAPER, patch_remainder="crop"))
    assert cropped["m.mean2"].shape == (1, 3, 2)
    assert "m.mean4" not in cropped


@pytest.mark.parity_clause("A5-x2")
def test_input_x2() -> None:
    image = cloud(11, 2, 3, 4, 4)
    x2 = vectorize_feature_maps({}, include_input_x2_mean=True, inputs=image)["input.x2"]
    close(x2[:, 0], (image**2).reshape(2, 3, -1).mean(axis=-1))
    rms = input_x2(image, replace(PAPER, x2_statistic="rms"))
    close(rms, np.sqrt(x2 + 1e-6))
    patched = input_x2(image, replace(PAPER, x2_input="patchified"), input_patch_size=2)
    # Channel 7 of 12 is row 1, column 0, channel 1.
    close(patched[:, 0, 7], (image[:, 1, 1::2, 0::2] ** 2).mean(axis=(1, 2)))
    close(patched.reshape(2, 4, 3).mean(axis=1), x2[:, 0])
    with pytest.raises(ValueError, match="inputs is None"):
        vectorize_feature_maps({}, include_input_x2_mean=True)


@pytest.mark.parity_clause("A5-sum", "A5-vanilla", "A6-sum-features")
def test_features_are_summed() -> None:
    g = {"a": cloud(12, 2, 4, 3, 5), "b": cloud(13, 2, 4, 1, 2)}
    p = {"a": cloud(14, 2, 3, 3, 5), "b": cloud(15, 2, 3, 1, 2)}
    raw = {"generated_samples": cloud(16, 2, 4, 3, 2), "positive_samples": cloud(17, 2, 3, 3, 2)}
    out = feature_space_drifting_loss(g, p, **raw, temperatures=(0.2,), raw_drift_loss_weight=0.5)
    close([out.feature_loss, out.raw_loss, out.loss], [4.0, 1.0, 4.5])
    assert list(out.terms) == ["a", "b"]
    assert out.raw_term is not None
    assert out.raw_term.gradient.shape == (2, 4, 1, 6)
    alone = feature_space_drifting_loss(g, p, temperatures=(0.2,), include_raw_drift_loss=False)
    close(alone.loss, 4.0)
    with pytest.raises(ValueError, match="generated_samples"):
        feature_space_drifting_loss(g, p)


@pytest.mark.parity_clause("A5-vanilla")
def test_raw_vanilla_term() -> None:
    x, y_pos, taus = cloud(18, 2, 3, 2, 2), cloud(19, 2, 4, 2, 2), (0.5, 2.0)
    out = vanilla_drifting_loss(
        x, y_pos, temperatures=taus, readings=replace(PAPER, vanilla_term="raw")
    )
    fields = np.array(
        [
            [
                compute_V(g, p, g, tau, mask_self=True)
                for g, p in zip(x.reshape(2, 3, 4), y_pos.reshape(2, 4, 4), strict=True)
            ]
            for tau in taus
        ]
    )
    close(out.loss, np.mean(fields**2))
    close(out.gradient[:, :, 0], -2 * fields.mean(axis=0) / (2 * 3 * 4), atol=1e-15)
    moved, h = out.frozen_target, 1e-6
    flat = x.reshape(2, 3, 1, 4)
    step = np.zeros(flat.shape)
    step[1, 2, 0, 3] = h
    close((moved(flat + step) - moved(flat - step)) / (2 * h), out.gradient[1, 2, 0, 3], rtol=1e-6)


def test_arguments_that_do_not_fit() -> None:
    x, y_pos = np.zeros((2, 3, 1, 4)), np.ones((2, 3, 1, 4))
    with pytest.raises(ValueError, match="unconditional_weight is None"):
        drifting_loss(x, y_pos, y_pos)
    with pytest.raises(ValueError, match=r"unconditional_weight has shape \(3,\), expected \(2,\)"):
        drifting_loss(x, y_pos, y_pos, np.ones(3))
    with pytest.raises(ValueError, match="positive has shape"):
        drifting_loss(x, y_pos[:, :, :, :3])
    with pytest.raises(ValueError, match="temperatures are"):
        drifting_loss(x, y_pos, temperatures=(0.1, -1.0))
    with pytest.raises(ValueError, match="generated has entries that are not finite"):
        drifting_loss(x * np.nan, y_pos)
    with pytest.raises(ValueError, match="mask_self is True"):
        compute_V(x[0, :, 0], y_pos[0, :, 0], y_pos[0, :, 0], 1.0, mask_self=True)
