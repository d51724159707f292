"""Table 1's factors, V⁺ and V⁻ apart, S or λ left out, τ's of the vanilla term (T1, P-29).

Against a dense float64 formula written here, differentiated by PyTorch with its target detached.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from drifting_reference.ablations import asymmetric_drift
from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import (
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    drifting_field,
    drifting_fields,
    drifting_loss,
    feature_space_drifting_loss,
)
from drifting_torch.kernels import available
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.weights import TargetWeights

PAIRS = [(1.0, 1.0), (1.5, 1.0), (1.0, 1.5), (2.0, 1.0), (1.0, 2.0), (1.0, 0.0), (0.0, 1.0)]
"""Table 1's six rows, and repulsion alone."""

TEMPERATURES = {"paper": (0.02, 0.05, 0.2), "one": (0.3,), "no powers": (0.3, 0.07)}


def samples(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fields(x: Tensor, y: Tensor, w: Tensor, positives: int, tau: float) -> tuple[Tensor, Tensor]:
    """V⁺ and V⁻ [L, V, N, C] of Algorithm 2, each relative to x, its N samples after the positives.

    x [L, V, N, C], y [L, V, M, C], w [L, 1, 1, M].
    """
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).sqrt()
    count = x.shape[-2]
    hidden = torch.zeros(apart.shape[-2:], dtype=torch.bool)
    hidden[:, positives : positives + count] = torch.eye(count, dtype=torch.bool)
    logits = (-apart / tau).masked_fill(hidden, -math.inf)
    rows = torch.softmax(logits + w.log(), -1) / w
    columns = torch.softmax(logits, -2)
    a = ((rows * columns).sqrt() * w).nan_to_num(0.0)
    mine, other = a[..., :positives], a[..., positives:]
    w_pos = mine * other.sum(-1, keepdim=True)
    w_neg = other * mine.sum(-1, keepdim=True)
    to = y.unsqueeze(-3) - x.unsqueeze(-2)
    v_pos = (w_pos.unsqueeze(-1) * to[..., :positives, :]).sum(-2)
    v_neg = (w_neg.unsqueeze(-1) * to[..., positives:, :]).sum(-2)
    return v_pos, v_neg


def dense(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor,
    weight: Tensor,
    temperatures: tuple[float, ...],
    factors: tuple[float, float] = (1.0, 1.0),
    *,
    with_scale: bool = True,
    with_lambda: bool = True,
) -> Tensor:
    """A.6 by its formulas, on everything at once."""
    root, positives = math.sqrt(generated.shape[-1]), positive.shape[1]
    with torch.no_grad():
        x = generated.transpose(1, 2)
        y = torch.cat([positive, generated, unconditional], 1).transpose(1, 2)
        ones = torch.ones(len(x), y.shape[2] - weight.shape[1], dtype=torch.float64)
        w = torch.cat([ones, weight], 1)[:, None, None, :]
        apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).sqrt()
        scale = (apart * w).sum() / (w.expand_as(apart)).sum() / root if with_scale else 1.0
        total = torch.zeros_like(x)
        for tau in temperatures:
            v_pos, v_neg = fields(x / scale, y / scale, w, positives, tau * root)
            v = factors[0] * v_pos - factors[1] * v_neg
            total += v / v.square().mean().sqrt() if with_lambda else v
        target = x / scale + total
    squares = (generated.transpose(1, 2) / scale - target).square()
    return squares.mean((2, 3)).sum(1).mean()


def case(channels: int, labels: int, vectors: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generated = samples(labels, 5, vectors, channels, seed=1)
    positive = samples(labels, 7, vectors, channels, seed=2) + 0.4
    unconditional = samples(labels, 3, vectors, channels, seed=3) + 2
    weight = samples(labels, 3, seed=4).abs() + 0.2
    return generated, positive, unconditional, weight


def both(loss: Any, generated: Tensor) -> tuple[Tensor, Tensor]:
    """A loss's value and gradient."""
    leaf = generated.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("temperatures", TEMPERATURES.values(), ids=TEMPERATURES)
@pytest.mark.parametrize(("channels", "labels"), [(3, 1), (3, 3), (90, 2)])
def test_the_loss_of_scaled_attraction_and_repulsion(
    pair: tuple[float, float], temperatures: tuple[float, ...], channels: int, labels: int
) -> None:
    generated, *others = case(channels, labels)

    def mine(leaf: Tensor) -> Tensor:
        options: dict[str, Any] = {"attraction": pair[0], "repulsion": pair[1]}
        return drifting_loss(leaf, *others, temperatures=temperatures, **options).loss

    found = both(mine, generated)
    wanted = both(lambda leaf: dense(leaf, *others, temperatures, pair), generated)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
    if pair[0] != pair[1]:  # the check would notice factors that do nothing
        plain = both(lambda leaf: dense(leaf, *others, temperatures), generated)
        assert float((plain[1] - found[1]).norm() / plain[1].norm()) > 0.05


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize("with_lambda", [True, False])
@pytest.mark.parametrize("channels", [3, 90])
def test_the_loss_without_its_normalizations(
    with_scale: bool, with_lambda: bool, channels: int
) -> None:
    generated, *others = case(channels, 2)
    generated, *others = 0.3 * generated, 0.3 * others[0], 0.3 * others[1], others[2]
    temperatures = (0.1, 0.4)

    def mine(leaf: Tensor) -> Tensor:
        found = drifting_loss(
            leaf,
            *others,
            temperatures=temperatures,
            feature_normalization=with_scale,
            drift_normalization=with_lambda,
            attraction=1.5,
        )
        assert (found.feature_scale == 1).all() == (not with_scale)
        return found.loss

    found = both(mine, generated)
    options = {"with_scale": with_scale, "with_lambda": with_lambda}
    wanted = both(lambda leaf: dense(leaf, *others, temperatures, (1.5, 1.0), **options), generated)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_twice_both_factors_change_nothing_under_lambda() -> None:
    generated, *others = case(3, 2)
    plain = both(lambda leaf: drifting_loss(leaf, *others).loss, generated)
    twice = both(
        lambda leaf: drifting_loss(leaf, *others, attraction=2.0, repulsion=2.0).loss, generated
    )
    for one, other in zip(plain, twice, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("readings", [PAPER, RELEASE, SEED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_of_one_change_no_bit(readings: Readings, dtype: torch.dtype) -> None:
    generated, *others = (each.to(dtype) for each in case(5, 2))
    plain = both(lambda leaf: drifting_loss(leaf, *others, readings=readings).loss, generated)
    ones = both(
        lambda leaf: (
            drifting_loss(leaf, *others, readings=readings, attraction=1, repulsion=1.0).loss
        ),
        generated,
    )
    for one, other in zip(plain, ones, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_loss_does_not_move_with_the_origin(pair: tuple[float, float]) -> None:
    generated, positive, unconditional, weight = case(3, 2)
    options: dict[str, Any] = {"attraction": pair[0], "repulsion": pair[1]}
    here = both(
        lambda leaf: drifting_loss(leaf, positive, unconditional, weight, **options).loss, generated
    )
    away = both(
        lambda leaf: drifting_loss(leaf, positive + 9, unconditional + 9, weight, **options).loss,
        generated + 9,
    )
    for one, other in zip(here, away, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_compiled_and_transformed_losses_scale_alike() -> None:
    generated, *others = case(3, 2)

    def loss(leaf: Tensor) -> Tensor:
        return drifting_loss(leaf, *others, attraction=1.5, drift_normalization=False).loss

    value, gradient = both(loss, generated)
    compiled = both(torch.compile(loss, backend="eager", fullgraph=True), generated)
    transformed = torch.func.grad_and_value(loss)(generated)
    torch.testing.assert_close(compiled, (value, gradient), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(transformed, (gradient, value), rtol=1e-12, atol=1e-15)


def test_annealed_factors_are_compiled_as_symbols() -> None:
    """Once as constants, once as symbols, whatever values follow."""
    generated, positive, *_ = case(3, 2)
    frames: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        frames.append(inputs)
        return graph

    def loss(leaf: Tensor, attraction: float) -> Tensor:
        return drifting_loss(leaf, positive, attraction=attraction).loss

    def field(leaf: Tensor, attraction: float) -> Tensor:
        points = (leaf[:, :, 0], positive[:, :, 0], positive[:, :, 1])
        return drifting_field(*points, 0.7, mask_self=False, attraction=attraction).square().sum()

    for here in (loss, field):
        frames.clear()
        compiled = torch.compile(here, backend=backend, fullgraph=True)
        for attraction in (1.5, 1.6, 1.7, 0.9, 0.3):
            found = compiled(generated, attraction)
            torch.testing.assert_close(found, here(generated, attraction), rtol=1e-12, atol=0.0)
        assert len(frames) == 2


def test_the_kernels_leave_ablations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "_DEVICES", {"cpu"})
    monkeypatch.setattr(available, "_STATE", {"kernels": available})
    generated, positive, *_ = (each.float() for each in case(3, 2))
    problem = problem_of(
        generated, positive, None, TargetWeights(), temperatures=(0.2,), readings=PAPER
    )
    assert available.kernels_for(problem) is available
    for change in (
        {"attraction": 1.5},
        {"repulsion": 0.0},
        {"feature_normalization": False},
        {"drift_normalization": False},
    ):
        changed = replace(problem, ablation=replace(problem.ablation, **change))
        assert available.kernels_for(changed) is None


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("readings", [PAPER, RELEASE, replace(PAPER, softmax_axes="y")])
def test_fields_against_the_reference(masked: bool, readings: Readings) -> None:
    x, positive, other = samples(5, 3, seed=1), samples(6, 3, seed=2), samples(4, 3, seed=3)
    negative = torch.cat([x, other]) if masked else other
    temperatures = (0.3, 2.0, 0.3)

    def wanted(pair: tuple[float, float], temperature: float) -> Tensor:
        points = (x.numpy(), positive.numpy(), negative.numpy(), temperature)
        options: dict[str, Any] = {"mask_self": masked, "readings": readings}
        return torch.from_numpy(asymmetric_drift(*points, *pair, **options))

    found = drifting_fields(
        x, positive, negative, temperatures, mask_self=masked, readings=readings
    )
    for index, temperature in enumerate(temperatures):
        close: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-13}
        torch.testing.assert_close(found.attraction[index], wanted((1, 0), temperature), **close)
        torch.testing.assert_close(-found.repulsion[index], wanted((0, 1), temperature), **close)
        single: dict[str, Any] = {"mask_self": masked, "readings": readings}
        alone = drifting_field(x, positive, negative, temperature, **single)
        assert torch.equal(found.total[index], alone)
        for pair in PAIRS:
            of_pair: dict[str, Any] = {"attraction": pair[0], "repulsion": pair[1]}
            got = drifting_field(x, positive, negative, temperature, **single, **of_pair)
            torch.testing.assert_close(got, wanted(pair, temperature), **close)


def test_negatives_that_are_not_the_generated_samples() -> None:
    """They come as unconditional samples, and the generated ones weigh nothing."""
    generated, positive, negative, weight = case(3, 1, vectors=1)
    found = drifting_loss(
        generated,
        positive,
        negative,
        weight,
        generated_weight=torch.zeros(1, 5, dtype=torch.float64),
        temperatures=(0.3,),
    )
    points = [
        each[0, :, 0] / float(found.feature_scale) for each in (generated, positive, negative)
    ]
    field = drifting_field(
        points[0],
        points[1],
        points[2],
        0.3 * math.sqrt(3),
        mask_self=False,
        negative_weight=weight[0],
    )
    assert float(found.drift_scale) == pytest.approx(float(field.square().mean().sqrt()), rel=1e-10)


def test_fields_in_batches_and_mapped_and_compiled() -> None:
    x, positive, negative = (
        samples(2, 5, 3, seed=1),
        samples(2, 6, 3, seed=2),
        samples(2, 4, 3, seed=3),
    )
    weight = samples(2, 4, seed=4).abs()

    def fields_of(*each: Tensor) -> Tensor:
        points, of_negatives = each[:3], each[3]
        found = drifting_fields(*points, (0.3, 1.0), mask_self=False, negative_weight=of_negatives)
        return torch.stack([found.attraction, found.repulsion, found.total])

    whole = fields_of(x, positive, negative, weight)
    assert whole.shape == (3, 2, 2, 5, 3)
    mapped = torch.vmap(fields_of, out_dims=2)(x, positive, negative, weight)
    torch.testing.assert_close(mapped, whole, rtol=1e-12, atol=1e-15)
    compiled = torch.compile(fields_of, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, positive, negative, weight), whole)


def test_the_vanilla_term_with_temperatures_of_its_own() -> None:
    generated, positive, *_ = case(3, 2)
    raw, real = samples(2, 5, 4, 2, seed=7), samples(2, 7, 4, 2, seed=8)
    vectorization = FeatureVectorizationConfig(include_input_x2_mean=False)

    def terms(**options: Any) -> tuple[Tensor, Tensor]:
        config = FeatureDriftingConfig((0.2, 0.5), vectorization, **options)
        found = feature_space_drifting_loss(
            {"f": generated},
            {"f": positive},
            generated_samples=raw,
            positive_samples=real,
            config=config,
        )
        assert found.raw_loss is not None
        return found.feature_loss, found.raw_loss

    plain, own = terms(), terms(raw_drift_temperatures=(0.9,), attraction=1.5)
    of_feature = drifting_loss(generated, positive, temperatures=(0.2, 0.5), attraction=1.5).loss
    flat = (each.flatten(2).unsqueeze(2) for each in (raw, real))
    of_samples = drifting_loss(*flat, temperatures=(0.9,), attraction=1.5).loss
    assert torch.equal(own[0], of_feature)
    assert torch.equal(own[1], of_samples)
    assert float((plain[1] - own[1]).abs()) > 1e-3


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"attraction": -1.0}, ValueError, "attraction is -1.0, expected a finite number of at least"),
    ({"repulsion": math.nan}, ValueError, "repulsion is nan, expected a finite number"),
    ({"repulsion": math.inf}, ValueError, "repulsion is inf, expected a finite number"),
    ({"attraction": "1.5"}, TypeError, "attraction is '1.5', expected a number"),
    ({"attraction": True}, TypeError, "attraction is True, expected a number"),
    ({"attraction": 0, "repulsion": 0}, ValueError, "are both 0, expected one of them above 0"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD)
def test_bad_factors(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    generated, positive, *_ = case(3, 2)
    x, y = samples(5, 3, seed=1), samples(6, 3, seed=2)
    with pytest.raises(kind, match=message):
        drifting_loss(generated, positive, **options)
    with pytest.raises(kind, match=message):
        drifting_field(x, y, y, 0.2, mask_self=False, **options)
    with pytest.raises(kind, match=message):
        FeatureDriftingConfig(**options)


def test_bad_switches_and_temperatures() -> None:
    generated, positive, *_ = case(3, 2)
    off: Any = 0
    with pytest.raises(TypeError, match="feature_normalization is 0, expected True or False"):
        drifting_loss(generated, positive, feature_normalization=off)
    with pytest.raises(TypeError, match="drift_normalization is 0, expected True or False"):
        FeatureDriftingConfig(drift_normalization=off)
    with pytest.raises(ValueError, match="raw_drift_temperatures holds -1, expected a finite"):
        FeatureDriftingConfig(raw_drift_temperatures=(-1,))
    x = samples(5, 3, seed=1)
    with pytest.raises(ValueError, match="temperatures is empty"):
        drifting_fields(x, x, x, (), mask_self=True)


def test_a_configuration_can_be_replaced_in_part() -> None:
    config = FeatureDriftingConfig(attraction=2.0, drift_normalization=False)
    other = replace(config, repulsion=0.5)
    assert other.ablation == replace(config.ablation, repulsion=0.5)
    assert other == FeatureDriftingConfig(attraction=2.0, repulsion=0.5, drift_normalization=False)
