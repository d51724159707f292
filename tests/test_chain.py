"""Generator, encoder, vectorisation and loss together: against the reference, and per precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy_step import Toy, ToyGenerator, distance, toy

import drifting_reference as reference
from drifting_torch import (
    FeatureDriftingConfig,
    GroupedDriftStepConfig,
    MAEResNetEncoder,
    MovingAverage,
    cfg_alpha_to_weight,
    extract_feature_maps,
)

Array = NDArray[np.float64]


def reference_features(given: Toy, images: torch.Tensor, labels: int) -> dict[str, Array]:
    """The reference's vectors [L, N, V, C] of the encoder's maps, and the samples themselves."""
    config = given.config.feature_config
    assert config is not None
    with torch.no_grad():
        maps = extract_feature_maps(given.encoder, images)
    vectors = reference.vectorize_feature_maps(
        {name: each.numpy() for name, each in maps.items()},
        include_input_x2_mean=True,
        inputs=images.detach().numpy(),
        readings=config.readings,
    )
    return {key: each.reshape(labels, -1, *each.shape[1:]) for key, each in vectors.items()}


def frozen_objective(
    given: Toy, step: float, names: Sequence[str]
) -> tuple[float, list[tuple[str, int, float]]]:
    """The reference's loss, and its central differences in some parameters, targets held fixed."""
    labels, count = given.noise.shape[:2]
    config = given.config.feature_config
    assert config is not None
    weight = cfg_alpha_to_weight(given.alpha, count, given.unconditional.shape[1])

    def samples() -> torch.Tensor:
        with torch.no_grad():
            return given.generator(
                given.noise.flatten(0, 1),
                given.labels.repeat_interleave(count),
                given.alpha.repeat_interleave(count),
            )

    images = samples()
    found = reference.feature_space_drifting_loss(
        reference_features(given, images, labels),
        reference_features(given, given.positive.flatten(0, 1), labels),
        reference_features(given, given.unconditional.flatten(0, 1), labels),
        weight.numpy(),
        generated_samples=images.unflatten(0, (labels, count)).numpy(),
        positive_samples=given.positive.numpy(),
        unconditional_samples=given.unconditional.numpy(),
        readings=config.readings,
    )
    raw = found.raw_term
    assert raw is not None

    def objective() -> float:
        moved = samples()
        features: Mapping[str, Array] = reference_features(given, moved, labels)
        terms = sum(found.terms[key].frozen_target(each) for key, each in features.items())
        return terms + raw.frozen_target(moved.reshape(labels, count, 1, -1).numpy())

    differences: list[tuple[str, int, float]] = []
    random = np.random.default_rng(0)
    for name, each in given.generator.named_parameters():
        if names and name not in names:
            continue
        index = int(random.integers(each.numel()))
        if name == "classes.weight":
            index %= 6 * labels  # a class of the batch
        flat, values = each.data.view(-1), []
        for sign in (1.0, -1.0):
            flat[index] += sign * step
            values.append(objective())
            flat[index] -= sign * step
        differences.append((name, index, (values[0] - values[1]) / (2.0 * step)))
    return found.loss, differences


def check_chain(
    given: Toy, tolerance: float, step: float = 1e-6, names: Sequence[str] = ()
) -> None:
    out = given.step()
    loss, differences = frozen_objective(given, step, names)
    assert float(out.loss) == pytest.approx(loss, rel=1e-10)
    gradients = dict(given.generator.named_parameters())
    largest = max(abs(value) for *_, value in differences)
    errors = {
        name: abs(float(gradients[name].grad.flatten()[index]) - difference) / largest
        for name, index, difference in differences
    }
    print(f"loss {abs(float(out.loss) / loss - 1.0):.1e}, gradient {max(errors.values()):.1e}")
    assert all(error < tolerance for error in errors.values()), errors


@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_against_finite_differences_with_the_target_frozen(parts: int) -> None:
    check_chain(toy(samples=3).configured(micro_batches=parts), 1e-6)


def test_the_same_through_the_encoder_of_the_paper() -> None:
    """The MAE's ResNet at width 8 on latents; short steps, for its ReLUs have kinks."""
    given, shape = toy(samples=2), (4, 32, 32)
    torch.manual_seed(1)
    given = given.but(
        generator=ToyGenerator(4).double(),
        encoder=MAEResNetEncoder(8, blocks=(1, 1, 1, 1)).double().eval().requires_grad_(False),
        noise=torch.randn(2, 2, *shape, dtype=torch.float64),
        positive=torch.randn(2, 2, *shape, dtype=torch.float64) + 0.3,
        unconditional=torch.randn(2, 1, *shape, dtype=torch.float64),
        config=GroupedDriftStepConfig(FeatureDriftingConfig(), gradient_clip=None),
    )
    check_chain(given, 1e-6, step=1e-7, names=("alpha.weight", "last.weight"))


# Precision: float64 is the truth, the others are measured against it.


def precision_error(
    given: Toy, precision: torch.dtype | None, parts: int = 1, scale: float = 2.0**10
) -> tuple[float, float]:
    """Relative errors of the loss and of all gradients together; ``given`` in float64."""
    wanted, truth = given.gradients(), float(given.step().loss)
    names = ("noise", "alpha", "positive", "unconditional")
    given = given.but(**{name: getattr(given, name).float() for name in names})
    given.generator.float()
    given.encoder.float()
    given = given.configured(autocast=precision, micro_batches=parts)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=precision is not None)
    optimizer = torch.optim.SGD(given.generator.parameters(), lr=0.0)
    out = given.step(scaler=scaler, optimizer=optimizer)
    assert out.stepped
    got = {name: each.grad.double() for name, each in given.generator.named_parameters()}
    return abs(float(out.loss) / truth - 1.0), distance(got, wanted)


@pytest.mark.parametrize(
    ("precision", "loss", "gradient"),
    [(None, 1e-6, 1e-5), (torch.bfloat16, 3e-3, 0.1), (torch.float16, 4e-4, 0.02)],
    ids=["float32", "bfloat16", "float16"],
)
@pytest.mark.parametrize("parts", [1, 4])
def test_stability_of_the_chain(
    precision: torch.dtype | None, loss: float, gradient: float, parts: int
) -> None:
    found = precision_error(toy(samples=8), precision, parts)
    print(f"{precision}, {parts} parts: loss {found[0]:.1e}, gradient {found[1]:.1e}")
    assert found[0] < loss
    assert found[1] < gradient


@pytest.mark.parametrize(
    ("precision", "loss", "gradient"),
    [(None, 1e-6, 3e-3), (torch.bfloat16, 1e-3, 0.4), (torch.float16, 3e-4, 0.2)],
    ids=["float32", "bfloat16", "float16"],
)
def test_stability_through_the_encoder_of_the_paper(
    precision: torch.dtype | None, loss: float, gradient: float
) -> None:
    """All of its 33 layers, whose rounding τ = 0.02 makes fifty times greater."""
    torch.manual_seed(1)
    given, shape = toy(), (4, 32, 32)
    given = given.but(
        generator=ToyGenerator(4).double(),
        encoder=MAEResNetEncoder(8).double().eval().requires_grad_(False),
        noise=torch.randn(2, 8, *shape, dtype=torch.float64),
        positive=torch.randn(2, 8, *shape, dtype=torch.float64) + 0.3,
        unconditional=torch.randn(2, 2, *shape, dtype=torch.float64),
        config=GroupedDriftStepConfig(gradient_clip=None),
    )
    found = precision_error(given, precision, scale=16.0)
    print(f"{precision}, A.3's encoder: loss {found[0]:.1e}, gradient {found[1]:.1e}")
    assert found[0] < loss
    assert found[1] < gradient


def test_a_scale_too_great_skips_the_step_and_is_lowered() -> None:
    given = toy(dtype=torch.float32).configured(autocast=torch.float16)
    optimizer = torch.optim.SGD(given.generator.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    average = MovingAverage(given.generator, (0.5,))
    with torch.no_grad():
        given.generator.last.bias.add_(1.0)  # so that an update of the average would show
    before = [each.detach().clone() for each in given.generator.parameters()]
    held = average.averages(0.5)["last.bias"].clone()
    out = given.step(optimizer=optimizer, scaler=scaler, average=average)
    assert not out.stepped
    assert torch.equal(average.averages(0.5)["last.bias"], held)
    assert out.logs()["stepped"] == 0.0
    assert all(map(torch.equal, before, given.generator.parameters()))
    assert scaler.get_scale() == 2.0**39
    for _ in range(40):
        out = given.step(optimizer=optimizer, scaler=scaler)
        if out.stepped:
            break
    assert out.stepped
    assert not all(map(torch.equal, before, given.generator.parameters()))


def test_small_gradients_survive_float16_by_the_scaler() -> None:
    """Gradients below float16's least number are lost without a scale, and kept with one."""

    def error(scale: float) -> float:
        given = toy(dtype=torch.float32, samples=8)
        wanted = {name: 1e-8 * each for name, each in given.gradients().items()}
        inner = given.generator
        # The samples' sensitivity to the parameters is 1e-8 of what it was.
        given = given.configured(autocast=torch.float16)

        def damped(noise: torch.Tensor, labels: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
            found = inner(noise, labels, alpha).float()
            return found.detach() + 1e-8 * (found - found.detach())

        optimizer = torch.optim.SGD(inner.parameters(), lr=0.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        out = given.but(generator=damped).step(optimizer=optimizer, scaler=scaler)
        assert out.stepped
        return distance({n: p.grad.double() for n, p in inner.named_parameters()}, wanted)

    assert error(1.0) > 0.3
    assert error(2.0**10) < 0.05


def test_clipping_sees_unscaled_gradients() -> None:
    given = toy(dtype=torch.float32).configured(autocast=torch.float16)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    norm = float(given.step(scaler=scaler).gradient_norm)
    before = [each.detach().clone() for each in given.generator.parameters()]
    out = given.configured(gradient_clip=norm / 2).step(rate=1.0, scaler=scaler)
    assert float(out.gradient_norm) == pytest.approx(norm, rel=1e-6)
    after = given.generator.parameters()
    moved = [(now.detach() - old).flatten() for now, old in zip(after, before, strict=True)]
    assert float(torch.cat(moved).norm()) == pytest.approx(norm / 2, rel=1e-3)
