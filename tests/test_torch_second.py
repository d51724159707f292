"""A gradient of the loss is differentiable again: with its target frozen it is a quadratic."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import drifting_reference
from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import (
    FeatureDriftingConfig,
    drifting_loss,
    feature_space_drifting_loss,
    stream_drifting_loss,
)
from drifting_torch.problem import derivatives
from drifting_torch.problem.derivatives import Curvature, expanded

READINGS: dict[str, Readings] = {
    "paper": PAPER,
    "release": RELEASE,
    "seed": SEED,
    "each temperature": replace(PAPER, temperature_aggregation="per_temperature_mse"),
    "mean over temperatures": replace(PAPER, temperature_aggregation="per_temperature_mse_mean"),
    "own scales": replace(PAPER, statistics_scope="label", location_sharing="none"),
    "sums": replace(PAPER, label_reduction="sum", channel_reduction="sum"),
    "mean over locations": replace(PAPER, location_reduction="mean"),
    "no √C": replace(PAPER, temperature_scaling="raw"),
}


def samples(*shape: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def inputs(labels: int = 2, channels: int = 2) -> tuple[Tensor, Tensor]:
    """Generated [L, 3, 2, C] and positive samples; labels of different spread."""
    spread = torch.linspace(1, 3, labels, dtype=torch.float64).view(-1, 1, 1, 1)
    generated = samples(labels, 3, 2, channels, seed=1) * spread
    return generated, samples(labels, 4, 2, channels, seed=2) * spread


def hessian_of(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    found = torch.autograd.functional.hessian(function, point)
    assert isinstance(found, Tensor)
    return found.reshape(point.numel(), point.numel())


def frozen_hessian(generated: Tensor, positive: Tensor, readings: Readings) -> Tensor:
    """Second differences of the reference's loss with its target frozen: exact of a quadratic."""
    frozen = drifting_reference.drifting_loss(
        generated.numpy(), positive.numpy(), readings=readings
    ).frozen_target
    size = generated.numel()
    steps = torch.eye(size, dtype=torch.float64).view(size, *generated.shape)
    centre = frozen(generated.numpy())
    ones = [frozen((generated + step).numpy()) for step in steps]
    found = torch.empty(size, size, dtype=torch.float64)
    for row, one in enumerate(steps):
        for column, two in enumerate(steps):
            both = frozen((generated + one + two).numpy())
            found[row, column] = both - ones[row] - ones[column] + centre
    return found


@pytest.mark.parametrize("name", READINGS)
def test_the_hessian_is_that_of_the_frozen_target(name: str) -> None:
    generated, positive = inputs()
    found = hessian_of(
        lambda x: drifting_loss(x, positive, readings=READINGS[name]).loss, generated
    )
    expected = frozen_hessian(generated, positive, READINGS[name])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert found.diagonal().min() > 1e-3


def test_the_paper_s_hessian_is_two_over_all_entries_and_the_squared_scale() -> None:
    generated, positive = inputs()
    scale = drifting_loss(generated, positive).feature_scale.item()
    found = hessian_of(lambda x: drifting_loss(x, positive).loss, generated)
    expected = torch.eye(24, dtype=torch.float64) * (2 / (2 * 3 * 2 * scale**2))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("channels", [3, 64], ids=["drifts", "coefficients"])
def test_a_penalty_on_the_gradient(channels: int) -> None:
    """Its gradient is twice Hessian times gradient, however the gradient was kept."""
    generated, positive = inputs(channels=channels)
    leaf = generated.clone().requires_grad_()
    found = drifting_loss(leaf, positive)
    factor = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(factor * found.loss, leaf, create_graph=True)
    bent, by_factor = torch.autograd.grad(slope.square().sum(), (leaf, factor), create_graph=True)
    curvature = 2 / (2 * 3 * channels * found.feature_scale.item() ** 2)
    torch.testing.assert_close(bent, 2 * 3 * curvature * slope, rtol=1e-12, atol=0)
    size = slope.square().sum() / 9  # of the gradient without the factor
    torch.testing.assert_close(by_factor, 2 * 3 * size, rtol=1e-12, atol=0)
    # Third derivatives: by the factor, of what is linear in it, and by the samples once more.
    thirds = torch.autograd.grad(bent.sum(), (leaf, factor))
    torch.testing.assert_close(
        thirds[0], torch.full_like(leaf, 2 * (3 * curvature) ** 2), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(thirds[1], 2 * bent.sum() / 3, rtol=1e-12, atol=0)


def test_labels_have_their_own_derivatives() -> None:
    """What arrives at each label's loss, and the mixed derivative with it."""
    generated, positive = inputs(labels=3)
    leaf = generated.clone().requires_grad_()
    found = drifting_loss(leaf, positive)
    arriving = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(found.per_label, leaf, arriving, create_graph=True)
    direction = samples(*leaf.shape, seed=3)
    bent, mixed = torch.autograd.grad((slope * direction).sum(), (leaf, arriving))
    curvature = 2 / (3 * 2 * found.feature_scale.item() ** 2)
    weighted = direction * arriving.detach().view(-1, 1, 1, 1)
    torch.testing.assert_close(bent, curvature * weighted, rtol=1e-12, atol=0)
    ones = torch.autograd.grad(drifting_loss(leaf, positive).per_label.sum(), leaf)[0]
    torch.testing.assert_close(mixed, (ones * direction).sum((1, 2, 3)), rtol=1e-12, atol=1e-15)


def test_the_second_derivative_holds_at_every_size() -> None:
    """Squares of 1/S leave float32's range where curvature times direction does not."""
    generated, positive = (each.float() * 1e-13 for each in inputs())
    leaf = generated.requires_grad_()
    found = drifting_loss(leaf, positive)
    (slope,) = torch.autograd.grad(found.loss, leaf, create_graph=True)
    (bent,) = torch.autograd.grad(slope, leaf, torch.full_like(slope, 1e-20))
    expected = 1e-20 * 2 / (2 * 3 * 2 * found.feature_scale.double().square())
    torch.testing.assert_close(bent.double(), expected.expand_as(bent), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_has_the_dtype_of_the_features(dtype: torch.dtype) -> None:
    leaf, positive = (each.to(dtype) for each in inputs())
    leaf = leaf.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    found = drifting_loss(leaf, positive)
    (slope,) = torch.autograd.grad(found.loss, leaf, create_graph=True)
    (bent,) = torch.autograd.grad(slope.sum(), leaf)
    assert bent.dtype == dtype
    expected = 2 / (2 * 3 * 2 * found.feature_scale.square())
    limit = 2 * float(torch.finfo(dtype).eps)
    torch.testing.assert_close(bent.float(), expected.expand_as(bent), rtol=limit, atol=0)


def test_samples_that_coincide_have_none() -> None:
    leaf = torch.ones(1, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(
        drifting_loss(leaf, torch.ones_like(leaf)).loss, leaf, create_graph=True
    )
    (bent,) = torch.autograd.grad(slope.sum(), leaf)
    assert torch.equal(bent, torch.zeros_like(leaf))


@pytest.mark.parametrize("vanilla", ["normalized", "raw"])
def test_all_features_and_the_vanilla_term(vanilla: Any) -> None:
    """A penalty through a network, by features of several shapes, against explicit quadratics."""
    readings = replace(PAPER, vanilla_term=vanilla)
    config = FeatureDriftingConfig(raw_drift_loss_weight=0.5, readings=readings)
    weight, noise = samples(4, 4, seed=4), samples(2, 3, 4, seed=5)
    positive = samples(2, 5, 4, seed=6)

    def features(images: Tensor) -> dict[str, Tensor]:
        return {"sine": images.sin().unflatten(2, (2, 2)), "square": images.square().unsqueeze(2)}

    def penalty(loss: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = weight.clone().requires_grad_()
        value = loss(noise @ leaf)
        (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
        (bent,) = torch.autograd.grad(slope.square().sum(), leaf)
        return bent

    def ours(images: Tensor) -> Tensor:
        return feature_space_drifting_loss(
            features(images),
            features(positive),
            generated_samples=images,
            positive_samples=positive,
            config=config,
        ).loss

    def explicit(images: Tensor) -> Tensor:
        """Each loss by its value, slope and Hessian at the samples."""
        given = {key: value.detach().requires_grad_() for key, value in features(images).items()}
        raw = images.detach().requires_grad_()
        output = feature_space_drifting_loss(
            given,
            features(positive),
            generated_samples=raw,
            positive_samples=positive,
            config=config,
        )
        slopes = torch.autograd.grad(output.loss, [*given.values(), raw])
        terms = [*output.terms.values(), output.raw_term]
        total = output.loss.detach()
        places = [*features(images).values(), images]
        for index, (place, slope, term) in enumerate(zip(places, slopes, terms, strict=True)):
            assert term is not None
            last = index == 2
            size = place.shape[0] * place.shape[1] * place.shape[-1]
            scale = 1.0 if last and vanilla == "raw" else term.feature_scale.item()
            curvature = (0.5 if last else 1.0) * 2 / (size * scale**2)
            change = place - place.detach()
            total = total + (slope * change).sum() + 0.5 * curvature * change.square().sum()
        return total

    torch.testing.assert_close(penalty(ours), penalty(explicit), rtol=1e-10, atol=1e-13)


def test_terms_whose_loss_arrives_with_a_derivative() -> None:
    """The mixed derivative by a weight of one feature is its gradient."""
    generated, positive = inputs()
    leaf = generated.clone().requires_grad_()
    config = FeatureDriftingConfig(include_raw_drift_loss=False)
    found = feature_space_drifting_loss(
        {"one": leaf, "two": 2 * leaf + 1}, {"one": positive, "two": positive}, config=config
    )
    factor = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss = factor * found.terms["one"].loss + found.terms["two"].loss
    (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
    (mixed,) = torch.autograd.grad(slope.sum(), factor)
    (expected,) = torch.autograd.grad(drifting_loss(leaf, positive).loss, leaf)
    torch.testing.assert_close(mixed, expected.sum(), rtol=1e-10, atol=1e-14)


# PyTorch's own forward-mode formulas warn so on loading.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_over_reverse_and_batches_of_directions() -> None:
    generated, positive = inputs()
    expected = frozen_hessian(generated, positive, PAPER)

    def loss(x: Tensor) -> Tensor:
        return drifting_loss(x, positive).loss

    functional = torch.autograd.functional
    for strategy in ("reverse-mode", "forward-mode"):
        found = functional.hessian(
            loss, generated, vectorize=True, outer_jacobian_strategy=strategy
        )
        assert isinstance(found, Tensor)
        torch.testing.assert_close(found.view_as(expected), expected, rtol=1e-9, atol=1e-10)
    direction = samples(*generated.shape, seed=7)
    _, product = functional.hvp(loss, generated, direction)
    assert isinstance(product, Tensor)
    torch.testing.assert_close(product.flatten(), expected @ direction.flatten(), rtol=1e-9, atol=0)
    # Twice backward gives a derivative along a direction, through what arrives.
    _, along = functional.jvp(loss, generated, direction)
    leaf = generated.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(along, (slope * direction).sum(), rtol=1e-12, atol=0)


def test_the_expansion_has_right_derivatives_of_every_order() -> None:
    generated, _ = inputs()
    curvature = Curvature(torch.tensor([[2.0], [0.5]], dtype=torch.float64), 0.3)
    slope, values = samples(*generated.shape, seed=8), samples(2, seed=9)

    def per_label(x: Tensor) -> Tensor:
        change = x - generated
        return values + (slope * change + 0.5 * change * curvature.times(change)).sum((1, 2, 3))

    leaf = generated.clone().requires_grad_()
    assert torch.autograd.gradcheck(per_label, (leaf,))
    assert torch.autograd.gradgradcheck(per_label, (leaf,))
    for mine, plain in (
        (lambda x: expanded(x, values, slope, curvature), per_label),
        (
            lambda x: derivatives.change_of(x).sin().sum((1, 2, 3)),
            lambda x: (x - generated).sum((1, 2, 3)),
        ),
    ):
        jacobians = [torch.autograd.functional.jacobian(each, leaf) for each in (mine, plain)]
        torch.testing.assert_close(*jacobians)


def test_a_stream_refuses_what_it_cannot_differentiate() -> None:
    generated, positive = inputs()
    config = FeatureDriftingConfig(include_raw_drift_loss=False)
    leaf = generated.clone().requires_grad_()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="gradient requires a gradient, expected one that does"):
        stream_drifting_loss([("one", leaf, positive, None)], config=config, gradient=scale)
    found = stream_drifting_loss([("one", leaf, positive, None)], config=config)
    assert leaf.grad is not None
    assert not leaf.grad.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad(found.loss, leaf)


def test_no_features_are_kept_for_a_second_derivative() -> None:
    """From forward to backward the graph holds what the gradient takes, and not the samples."""
    leaf, positive = (each.requires_grad_() for each in inputs())
    features = leaf * 2  # what made them keeps nothing of them
    loss = drifting_loss(features, positive).loss
    gone = weakref.ref(features.untyped_storage())
    del features
    gc.collect()
    assert gone() is None
    loss.backward()
    assert leaf.grad is not None
    assert not leaf.grad.requires_grad


@pytest.mark.filterwarnings("default")
def test_a_compiled_loss_says_that_it_has_no_second_derivative() -> None:
    generated, positive = inputs()
    leaf = generated.clone().requires_grad_()
    torch._dynamo.reset()
    try:
        compiled = torch.compile(
            lambda x: drifting_loss(x, positive).loss, backend="aot_eager", fullgraph=True
        )
        (slope,) = torch.autograd.grad(compiled(leaf), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="does not currently support double backward"):
            slope.square().sum().backward()
    finally:
        torch._dynamo.reset()
