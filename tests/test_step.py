"""The grouped training step of A.9: what it composes, logs, updates and refuses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_step import CLASSES, Toy, ToyEncoder, ToyGenerator, distance, toy

from drifting_spec import RELEASE
from drifting_torch import (
    FeatureDriftingConfig,
    GroupedDriftStepConfig,
    LinearWarmup,
    MovingAverage,
    cfg_alpha_to_weight,
    drifting_loss,
    extract_feature_maps,
    feature_space_drifting_loss,
    group_by_label,
    grouped_drift_training_step,
    vectorize_feature_maps,
)


def composed(given: Toy, weight: float = 1.0) -> tuple[Any, dict[str, Tensor]]:
    """The same step put together from the package's parts."""
    labels, count = given.noise.shape[:2]
    owners = given.labels.repeat_interleave(count)
    alpha = given.alpha.repeat_interleave(count)
    samples = given.generator(given.noise.flatten(0, 1), owners, alpha)
    config = given.config.feature_config
    assert config is not None

    def features(images: Tensor) -> dict[str, Tensor]:
        maps = extract_feature_maps(given.encoder, images)
        vectors = vectorize_feature_maps(maps, config.vectorization, images)
        return group_by_label(
            vectors, torch.arange(labels).repeat_interleave(len(images) // labels)
        )

    found = feature_space_drifting_loss(
        features(samples),
        features(given.positive.flatten(0, 1)),
        features(given.unconditional.flatten(0, 1)),
        cfg_alpha_to_weight(given.alpha, count, given.unconditional.shape[1]),
        generated_samples=samples.unflatten(0, (labels, count)),
        positive_samples=given.positive,
        unconditional_samples=given.unconditional,
        config=config,
    )
    given.generator.zero_grad()
    found.loss.backward()
    gradients = {name: each.grad.clone() for name, each in given.generator.named_parameters()}
    return found, gradients


def test_a_step_is_its_parts() -> None:
    given = toy()
    out = given.step()
    got = {name: each.grad.clone() for name, each in given.generator.named_parameters()}
    wanted, gradients = composed(given)
    for name in ("loss", "feature_loss", "raw_loss"):
        torch.testing.assert_close(getattr(out, name), getattr(wanted, name).detach())
    assert distance(got, gradients) < 1e-14
    norm = math.sqrt(sum(float(each.square().sum()) for each in gradients.values()))
    assert float(out.gradient_norm) == pytest.approx(norm, rel=1e-12)
    assert set(out.drift_energy) == {*wanted.terms, "(samples)"}
    for key, term in wanted.terms.items():
        torch.testing.assert_close(out.drift_energy[key], term.drift_energy)
        torch.testing.assert_close(out.feature_scale[key], term.feature_scale)
        torch.testing.assert_close(out.drift_scale[key], term.drift_scale)


def test_the_weight_of_the_vanilla_term() -> None:
    config = FeatureDriftingConfig(
        raw_drift_loss_weight=2.5, readings=toy().config.feature_config.readings
    )
    out = toy().configured(feature_config=config).step()
    assert float(out.loss) == pytest.approx(float(out.feature_loss + 2.5 * out.raw_loss))
    off = FeatureDriftingConfig(include_raw_drift_loss=False, readings=config.readings)
    out = toy().configured(feature_config=off).step()
    assert out.raw_loss is None
    assert torch.equal(out.loss, out.feature_loss)
    assert "(samples)" not in out.drift_energy


def test_the_vanilla_loss_alone() -> None:
    given = toy().but(encoder=None).configured(feature_config=None, temperatures=(0.1,))
    out = given.step()
    assert out.feature_loss is None
    assert torch.equal(out.loss, out.raw_loss)
    samples = given.generator(
        given.noise.flatten(0, 1),
        given.labels.repeat_interleave(4),
        given.alpha.repeat_interleave(4),
    )

    def flat(value: Tensor) -> Tensor:
        return value.flatten(2).unsqueeze(2)

    wanted = drifting_loss(
        flat(samples.unflatten(0, (2, 4))),
        flat(given.positive),
        flat(given.unconditional),
        cfg_alpha_to_weight(given.alpha, 4, 2),
        temperatures=(0.1,),
    )
    assert float(out.loss) == pytest.approx(float(wanted.loss.detach()), rel=1e-14)


def test_alpha_reaches_generator_and_weight() -> None:
    given, seen = toy(labels=3), []
    inner = given.generator

    def recording(noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        seen.append((noise, labels, alpha))
        return inner(noise, labels, alpha)

    optimizer = torch.optim.SGD(inner.parameters(), lr=0.0)
    out = given.but(generator=recording).step(optimizer=optimizer)
    ((noise, labels, alpha),) = seen
    assert torch.equal(noise, given.noise.flatten(0, 1))
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(alpha, given.alpha.repeat_interleave(4))
    torch.testing.assert_close(out.unconditional_weight, (given.alpha - 1) * 3 / 2)
    assert torch.equal(out.alpha, given.alpha)


def test_logs_are_plain_numbers() -> None:
    out = toy(dtype=torch.float32).step()
    logs = out.logs()
    assert all(isinstance(value, float) and math.isfinite(value) for value in logs.values())
    assert logs["loss"] == pytest.approx(logs["feature_loss"] + logs["raw_loss"])
    energies = [
        value
        for name, value in logs.items()
        if name.startswith("drift_energy/") and "tau=" not in name
    ]
    # Seven statistics of the 4×4 map, five of the 2×2 map, x², the vanilla term.
    assert len(energies) == len(out.drift_energy) == 14
    assert logs["drift_energy"] == pytest.approx(sum(energies))
    for key, energy in out.drift_energy.items():
        assert logs[f"drift_energy/{key}"] == pytest.approx(float(energy.mean())), key
    assert logs["alpha_mean"] == pytest.approx(float(out.alpha.mean()))
    assert logs["alpha_min"] <= logs["alpha_mean"] <= logs["alpha_max"]
    scales = torch.cat([each.flatten() for each in out.drift_scale.values()])
    assert logs["drift_scale_min"] == pytest.approx(float(scales.min()))
    assert logs["drift_scale_max"] == pytest.approx(float(scales.max()))
    scales = torch.cat([each.flatten() for each in out.feature_scale.values()])
    assert logs["feature_scale_min"] == pytest.approx(float(scales.min()))
    assert logs["feature_scale_max"] == pytest.approx(float(scales.max()))
    assert logs["stepped"] == 1.0


def test_nothing_shown_holds_a_graph() -> None:
    out = toy().step()
    shown = [out.loss, out.feature_loss, out.raw_loss, out.gradient_norm, out.alpha]
    shown += [*out.drift_energy.values(), *out.feature_scale.values(), *out.drift_scale.values()]
    assert not any(each.requires_grad for each in shown)


def test_an_encoder_may_return_vectors_or_a_sequence() -> None:
    class Vectors(ToyEncoder):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            maps = super().forward(images)
            return {"stem": maps["stem"], "flat": maps["deeper"].flatten(1).unsqueeze(1)}

    given = toy()
    out = given.but(encoder=Vectors().double().eval()).step()
    assert {"stem.loc", "input.x2", "flat", "(samples)"} <= set(out.drift_energy)
    out = given.but(encoder=lambda images: [images * 2.0, images[:, :1] + 1.0]).step()
    assert {"map0.loc", "map1.loc"} <= set(out.drift_energy)


def test_only_the_generator_gets_gradients() -> None:
    given = toy()
    given.encoder.requires_grad_(True)
    for parts in (1, 3):
        given.configured(micro_batches=parts).step()
        assert all(each.grad is None for each in given.encoder.parameters())
        assert all(each.grad is not None for each in given.generator.parameters())


# The frozen decoder.


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 3, 2, stride=2)

    def forward(self, latents: Tensor) -> Tensor:
        return self.up(latents)


def decoded() -> tuple[Toy, Decoder]:
    torch.manual_seed(4)
    given = toy()
    decoder = Decoder().double().eval().requires_grad_(False)
    return given.but(encoder=ToyEncoder(3).double().eval()), decoder


@pytest.mark.parametrize("parts", [1, 3])
def test_a_frozen_decoder_passes_gradients(parts: int) -> None:
    given, decoder = decoded()
    config = FeatureDriftingConfig(include_raw_drift_loss=False)
    given = given.configured(feature_config=config, micro_batches=parts)
    got = given.gradients(decoder=decoder)
    images = given.but(
        generator=nn.Sequential(),  # replaced below: the decoder as part of the generator
        positive=decoder(given.positive.flatten(0, 1)).unflatten(0, (2, 3)),
        unconditional=decoder(given.unconditional.flatten(0, 1)).unflatten(0, (2, 2)),
    )
    inner = given.generator
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.0)
    images.but(generator=lambda *inputs: decoder(inner(*inputs))).step(optimizer=optimizer)
    wanted = {name: each.grad for name, each in inner.named_parameters()}
    assert min(float(each.abs().max()) for each in got.values()) > 0
    assert distance(got, wanted) < 1e-13


@pytest.mark.parametrize("parts", [1, 2])
def test_a_decoder_without_gradients_is_refused(parts: int) -> None:
    given, decoder = decoded()
    blocked = torch.no_grad()(decoder.forward)
    with pytest.raises(ValueError, match="no gradient passes from the decoder's images"):
        given.configured(micro_batches=parts).step(decoder=blocked)


def test_a_decoder_in_training_mode_is_refused() -> None:
    given, decoder = decoded()
    for hidden in (decoder.train(), lambda latents: decoder(latents)):
        with pytest.raises(ValueError, match=r"decoder.* is in training mode, .*decoder\.eval\(\)"):
            given.step(decoder=hidden)


# The update.


def test_the_update_is_clipped() -> None:
    given = toy()
    before = {name: each.detach().clone() for name, each in given.generator.named_parameters()}
    raw = given.gradients()
    norm = math.sqrt(sum(float(each.square().sum()) for each in raw.values()))
    limit = norm / 3
    out = given.configured(gradient_clip=limit).step(rate=0.5)
    assert float(out.gradient_norm) == pytest.approx(norm, rel=1e-12)
    for name, each in given.generator.named_parameters():
        torch.testing.assert_close(each.detach(), before[name] - 0.5 * raw[name] / 3)
    assert GroupedDriftStepConfig().gradient_clip == 2.0


def test_old_gradients_do_not_add_up() -> None:
    given = toy()
    first = given.gradients()
    assert distance(given.gradients(), first) == 0.0


def test_average_and_schedule_follow_the_step() -> None:
    given = toy()
    optimizer = torch.optim.SGD(given.generator.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, LinearWarmup(4))
    average = MovingAverage(given.generator, (0.5,))
    wanted = {name: each.detach().clone() for name, each in given.generator.named_parameters()}
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        given.step(optimizer=optimizer, schedule=schedule, average=average)
        # Of the parameters as they are after the step, not before it.
        for name, each in given.generator.named_parameters():
            wanted[name] = (wanted[name] + each.detach()) / 2
            torch.testing.assert_close(average.averages(0.5)[name], wanted[name])
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_frozen_parameters_of_the_optimiser_stay() -> None:
    given = toy()
    optimizer = torch.optim.SGD(given.generator.parameters(), lr=0.1)
    given.generator.first.requires_grad_(False)
    before = {name: each.detach().clone() for name, each in given.generator.named_parameters()}
    for parts in (1, 3):
        assert given.configured(micro_batches=parts).step(optimizer=optimizer).stepped
    for name, each in given.generator.named_parameters():
        assert torch.equal(before[name], each) == name.startswith("first"), name
    given.generator.requires_grad_(False)
    with pytest.raises(ValueError, match="optimizer holds 7 parameters, none of which requires"):
        given.step(optimizer=optimizer)


def test_a_disabled_scaler_is_none() -> None:
    """It would say that the gradient is infinite, and let it into the parameters."""
    given = toy(dtype=torch.float32)
    disabled = torch.amp.GradScaler("cpu", enabled=False)
    assert given.step(scaler=disabled).stepped
    with pytest.raises(ValueError, match=r"scaler is disabled, expected a torch.amp.GradScaler"):
        given.configured(autocast=torch.float16).step(scaler=disabled)
    for each in given.generator.parameters():
        each.register_hook(lambda gradient: gradient * math.inf)
    before = [each.detach().clone() for each in given.generator.parameters()]
    with pytest.raises(FloatingPointError, match="expected a finite one; nothing was updated"):
        given.step(rate=1.0, scaler=disabled)
    assert all(map(torch.equal, before, given.generator.parameters()))


class Unreliable(torch.optim.SGD):
    """Raises in the steps that are named."""

    failing = 0

    def step(self, closure: Any = None) -> Any:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("on purpose")
        return super().step(closure)


def scaled_toy() -> tuple[Toy, torch.amp.GradScaler]:
    return toy(dtype=torch.float32), torch.amp.GradScaler("cpu", init_scale=256.0)


def test_a_scaler_survives_an_optimiser_that_raises() -> None:
    given, scaler = scaled_toy()
    optimizer = Unreliable(given.generator.parameters(), lr=0.1)
    wanted = given.gradients()
    optimizer.failing = 2
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            given.step(optimizer=optimizer, scaler=scaler)
        assert scaler.get_scale() == 256.0
    assert distance(given.gradients(scaler=scaler), wanted) < 1e-5  # unscaled, and once only
    before = [each.detach().clone() for each in given.generator.parameters()]
    assert given.step(optimizer=optimizer, scaler=scaler).stepped
    assert not any(map(torch.equal, before, given.generator.parameters()))


def test_a_scaler_survives_clipping_that_raises() -> None:
    given, scaler = scaled_toy()
    strange = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    for _ in range(2):
        with pytest.raises(ValueError, match="no parameter has a gradient"):
            given.step(optimizer=strange, scaler=scaler)
    assert given.step(scaler=scaler).stepped


@pytest.mark.parametrize("parts", [1, 3])
def test_a_scaler_survives_a_backward_pass_that_raises(parts: int) -> None:
    given, scaler = scaled_toy()
    given = given.configured(micro_batches=parts)
    wanted = given.gradients()
    optimizer = torch.optim.SGD(given.generator.parameters(), lr=0.1)

    def broken(gradient: Tensor) -> Tensor:
        raise RuntimeError("on purpose")

    handle = given.generator.first.weight.register_hook(broken)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            given.step(optimizer=optimizer, scaler=scaler)
    handle.remove()
    assert distance(given.gradients(scaler=scaler), wanted) < 1e-5
    assert given.step(optimizer=optimizer, scaler=scaler).stepped


def test_a_scaler_survives_an_average_that_raises() -> None:
    given, scaler = scaled_toy()

    class Broken(MovingAverage):
        def update(self) -> None:
            raise RuntimeError("on purpose")

    optimizer = torch.optim.SGD(given.generator.parameters(), lr=0.1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            given.step(optimizer=optimizer, scaler=scaler, average=Broken(given.generator))
    assert given.step(optimizer=optimizer, scaler=scaler).stepped


def test_an_average_that_does_not_fit_is_told_before_the_update() -> None:
    given = toy()
    average = MovingAverage(given.generator)
    given.generator.extra = nn.Linear(1, 1)
    average.update()
    del given.generator.extra
    before = [each.detach().clone() for each in given.generator.parameters()]
    with pytest.raises(ValueError, match=r"gone, or integers now: extra\.weight, extra\.bias"):
        given.step(rate=1.0, average=average)
    assert all(map(torch.equal, before, given.generator.parameters()))


def test_labels_that_an_embedding_lacks_are_told() -> None:
    given = toy().but(labels=torch.tensor([0, CLASSES + 2]))
    with pytest.raises(IndexError, match=r"given labels from 0 to 7; .*classes="):
        given.step()


def test_a_gradient_that_is_not_finite_updates_nothing() -> None:
    given = toy()
    for each in given.generator.parameters():
        each.register_hook(lambda gradient: gradient * math.inf)
    before = [each.detach().clone() for each in given.generator.parameters()]
    with pytest.raises(FloatingPointError, match=r"norm is (inf|nan), expected a finite one"):
        given.step(rate=1.0)
    assert all(map(torch.equal, before, given.generator.parameters()))


# Bad input.


class Normed(ToyGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)

    def forward(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        return super().forward(self.norm(noise), labels, alpha)


def normed_encoder() -> nn.Module:
    class Encoder(ToyEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.batch = nn.BatchNorm2d(2)

    return Encoder().double()


def called(module: nn.Module) -> Any:
    return lambda noise, labels, alpha: module(noise, labels, alpha)


def trained(module: nn.Module, name: str) -> nn.Module:
    module.eval().get_submodule(name).train()
    return module


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (
        lambda t: t.but(generator=lambda n, c, a: t.generator(n, c, a)[:, :1]),
        ValueError,
        r"the generator returned shape \(8, 1, 4, 4\), expected \(8, 2, 4, 4\): one sample for",
    ),
    "fewer": (
        lambda t: t.but(generator=lambda n, c, a: t.generator(n, c, a)[1:]),
        ValueError,
        r"the generator returned shape \(7, 2, 4, 4\), expected \(8, 2, 4, 4\)",
    ),
    "elsewhere": (
        lambda t: t.but(generator=lambda n, c, a: t.generator(n, c, a).to("meta")),
        ValueError,
        "the generator returned samples on meta, expected cpu as positive is",
    ),
    "temperatures that are not read": (
        lambda t: t.configured(temperatures=(0.1,)),
        ValueError,
        r"temperatures is \(0.1,\) and feature_config is given, whose own are read",
    ),
    "readings that are not read": (
        lambda t: t.configured(readings=RELEASE),
        ValueError,
        "readings is release and feature_config is given, whose own are read",
    ),
    "no tensor": (
        lambda t: t.but(generator=lambda n, c, a: [t.generator(n, c, a)]),
        TypeError,
        "the generator returned list, expected a tensor",
    ),
    "detached": (
        lambda t: t.but(generator=lambda n, c, a: t.generator(n, c, a).detach()),
        ValueError,
        "no gradient passes from the generator's samples to the generator: something on the way",
    ),
    "encoder under no_grad": (
        lambda t: t.but(encoder=torch.no_grad()(t.encoder.forward)),
        ValueError,
        "no gradient passes from feature 'stem.loc' to the generator",
    ),
    "alpha below 1": (
        lambda t: t.but(alpha=torch.tensor([1.5, 0.9], dtype=torch.float64)),
        ValueError,
        "alpha holds 0.9, expected finite guidance scales of at least 1",
    ),
    "alpha of each sample": (
        lambda t: t.but(alpha=torch.ones(8, dtype=torch.float64)),
        ValueError,
        r"alpha has shape \(8,\), expected \(2,\): one for each label",
    ),
    "alpha without unconditional": (
        lambda t: t.but(unconditional=None),
        ValueError,
        "and unconditional is None, expected unconditional samples, or 1",
    ),
    "label above": (
        lambda t: t.but(labels=torch.tensor([0, CLASSES])).configured(classes=CLASSES),
        ValueError,
        "labels holds 5, expected labels from 0 to 4",
    ),
    "label below": (
        lambda t: t.but(labels=torch.tensor([0, -1])),
        ValueError,
        "labels holds -1, expected labels of at least 0",
    ),
    "labels floating": (
        lambda t: t.but(labels=torch.tensor([0.0, 1.0])),
        TypeError,
        "labels has dtype torch.float32, expected an integer dtype",
    ),
    "positive of other labels": (
        lambda t: t.but(positive=t.positive[:1]),
        ValueError,
        r"positive has shape \(1, 3, 2, 4, 4\), expected 2 groups along its first axis",
    ),
    "unconditional of another shape": (
        lambda t: t.but(unconditional=t.unconditional[..., :2]),
        ValueError,
        r"expected samples of shape \(2, 4, 4\) as positive has",
    ),
    "unconditional of another dtype": (
        lambda t: t.but(unconditional=t.unconditional.float()),
        TypeError,
        "unconditional has dtype torch.float32, expected torch.float64",
    ),
    "ungrouped noise": (
        lambda t: t.but(noise=torch.zeros(2, 4)),
        ValueError,
        r"noise has shape \(2, 4\), expected \[L, N, ...\]",
    ),
    "encoder in training mode": (
        lambda t: t.but(encoder=ToyEncoder().double()),
        ValueError,
        r"encoder is in training mode, expected eval mode: call encoder.eval\(\)",
    ),
    "a part of it": (
        lambda t: t.but(encoder=trained(ToyEncoder().double(), "norm")),
        ValueError,
        "encoder's 'norm' is in training mode",
    ),
    "batch norm in training mode": (
        lambda t: t.but(encoder=trained(normed_encoder(), "batch")),
        ValueError,
        "encoder has the BatchNorm2d 'batch' in training mode",
    ),
    "micro-batches and batch norm": (
        lambda t: t.but(generator=Normed().double()).configured(micro_batches=2),
        ValueError,
        "generator has the BatchNorm2d 'norm' in training mode",
    ),
    "micro-batches and batch norm in a lambda": (
        lambda t: t.but(generator=called(Normed().double())).configured(micro_batches=2),
        ValueError,
        r"generator has the BatchNorm2d 'module.norm' in training mode.*\(module.eval\(\) freezes",
    ),
    "training mode in a partial function": (
        lambda t: t.but(encoder=partial(ToyEncoder().double())),
        ValueError,
        r"encoder is in training mode, expected eval mode: call encoder.eval\(\)",
    ),
    "noise that is none": (
        lambda t: t.but(noise=[1.0]),
        TypeError,
        r"noise is list, expected a tensor \[L, N, ...\]",
    ),
    "labels that are none": (
        lambda t: t.but(labels=[0, 1]),
        TypeError,
        r"labels is list, expected a tensor \[L\]",
    ),
    "one alpha for all": (
        lambda t: t.but(alpha=1.5),
        TypeError,
        r"alpha is float, expected a tensor \[L\]",
    ),
    "no positives": (
        lambda t: t.but(positive=None),
        TypeError,
        r"positive is NoneType, expected a tensor \[L, P, ...\]",
    ),
    "positives that are not finite": (
        lambda t: t.but(positive=t.positive * math.nan),
        ValueError,
        r"positive\[0, 0, 0, 0\] is nan, expected finite entries",
    ),
    "samples that are not finite": (
        lambda t: t.but(generator=lambda n, c, a: t.generator(n, c, a) * math.nan),
        ValueError,
        r"generated\[0, 0, 0, 0\] is nan, expected finite entries",
    ),
    "the features' config": (
        lambda t: t.but(config=t.config.feature_config),
        TypeError,
        r"config is FeatureDriftingConfig, expected a GroupedDriftStepConfig: Grouped.*\(feature_",
    ),
    "a name for the features' config": (
        lambda t: t.configured(feature_config="paper"),
        TypeError,
        "feature_config is 'paper', expected a FeatureDriftingConfig, or None for the vanilla",
    ),
    "a name for readings": (
        lambda t: t.configured(readings="paper"),
        TypeError,
        "readings is 'paper', expected a drifting_spec.Readings",
    ),
    "a temperature of 0": (
        lambda t: t.configured(temperatures=(0.0,)),
        ValueError,
        "temperatures holds 0.0, expected a finite number above 0",
    ),
    "half a part": (
        lambda t: t.configured(micro_batches=2.5),
        TypeError,
        "micro_batches is 2.5, expected an integer",
    ),
    "a limit in words": (
        lambda t: t.configured(gradient_clip="2"),
        ValueError,
        "gradient_clip is '2', expected a finite number above 0, or None",
    ),
    "more parts than samples": (
        lambda t: t.configured(micro_batches=9),
        ValueError,
        r"micro_batches is 9, expected at most 8: the samples of noise \(2, 4, 2, 4, 4\)",
    ),
    "no encoder": (
        lambda t: t.but(encoder=None),
        ValueError,
        "encoder is None, expected one since feature_config is given",
    ),
    "an encoder for nothing": (
        lambda t: t.configured(feature_config=None),
        ValueError,
        "encoder is given, expected None since feature_config is None",
    ),
    "float16 without a scaler": (
        lambda t: t.configured(autocast=torch.float16),
        ValueError,
        "scaler is None, expected a torch.amp.GradScaler",
    ),
    "another autocast": (
        lambda t: t.configured(autocast=torch.float32),
        ValueError,
        "autocast is torch.float32, expected torch.bfloat16, torch.float16 or None",
    ),
    "limit": (lambda t: t.configured(gradient_clip=0.0), ValueError, "gradient_clip is 0.0"),
    "parts": (lambda t: t.configured(micro_batches=0), ValueError, "micro_batches is 0"),
    "an encoder's list of numbers": (
        lambda t: t.but(encoder=lambda images: [1.0]),
        TypeError,
        "the encoder's 'map0' is float, expected a tensor",
    ),
    "one vector of each sample": (
        lambda t: t.but(encoder=lambda images: images.flatten(1)),
        ValueError,
        r"'map0' has shape \(6, 32\), expected a map \[B, C, H, W\] or vectors \[B, V, C\]",
    ),
    "an encoder's vectors of another batch": (
        lambda t: t.but(encoder=lambda images: images[1:].flatten(2)),
        ValueError,
        r"feature 'map0' has shape \(5, 2, 16\), expected 6 samples",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    change, error, message = BAD[name]
    given = toy()
    before = [each.detach().clone() for each in given.generator.parameters()]
    optimizer = torch.optim.SGD(given.generator.parameters(), lr=1.0)
    with pytest.raises(error, match=message):
        change(given).step(optimizer=optimizer)
    assert all(map(torch.equal, before, given.generator.parameters()))


def test_a_generator_with_batch_norm_may_run_in_one_part() -> None:
    given = toy().but(generator=Normed().double())
    assert given.step().stepped


def test_an_optimiser_is_needed() -> None:
    with pytest.raises(TypeError, match=r"optimizer is Adam, expected a torch.optim.Optimizer"):
        toy().step(optimizer=type("Adam", (), {})())
    strange = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        toy().step(optimizer=strange)


def test_one_sample_for_each_label_needs_no_guidance() -> None:
    given = toy(samples=1)
    with pytest.raises(ValueError, match=r"noise has shape \(2, 1, 2, 4, 4\), expected at least 2"):
        given.step()


def test_the_function_takes_any_samples() -> None:
    """Points in the plane, and an encoder that is an arbitrary function to vectors."""
    torch.manual_seed(0)
    line = nn.Linear(3, 2).double()
    out = grouped_drift_training_step(
        lambda noise, labels, alpha: line(noise) + labels[:, None],
        torch.randn(2, 6, 3, dtype=torch.float64),
        torch.tensor([1, 0]),
        torch.ones(2),
        torch.randn(2, 5, 2, dtype=torch.float64),
        optimizer=torch.optim.SGD(line.parameters(), lr=0.1),
        config=GroupedDriftStepConfig(feature_config=None),
    )
    assert out.stepped
    assert out.unconditional_weight is None


# What other trainers take for granted.


def gradients_of(generator: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in generator.named_parameters()}  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_alone_add_up_over_calls(parts: int) -> None:
    given = toy().configured(micro_batches=parts)
    before = {name: each.clone() for name, each in given.generator.state_dict().items()}
    one = toy().configured(micro_batches=parts)
    wanted_out = one.step()
    wanted = gradients_of(one.generator)
    given.generator.zero_grad()
    out = given.step(optimizer=None)
    assert not out.stepped
    assert distance(gradients_of(given.generator), wanted) < 1e-14
    torch.testing.assert_close(out.gradient_norm, wanted_out.gradient_norm)  # before clipping
    given.step(optimizer=None)
    twice = {name: 2 * value for name, value in wanted.items()}
    assert distance(gradients_of(given.generator), twice) < 1e-14
    for name, value in given.generator.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_needs_an_optimizer_says_so() -> None:
    given = toy()
    average = MovingAverage(given.generator, (0.9,))
    with pytest.raises(ValueError, match="average is given and optimizer is None"):
        given.step(optimizer=None, average=average)
    function = given.but(generator=lambda *inputs: given.generator(*inputs))
    with pytest.raises(TypeError, match="generator is function and optimizer is None"):
        function.step(optimizer=None)
    for each in given.generator.parameters():
        each.requires_grad_(False)
    with pytest.raises(ValueError, match="generator has no parameter that requires a gradient"):
        given.step(optimizer=None)


def test_weights_of_the_callers_own() -> None:
    given = toy()
    count, others = given.noise.shape[1], given.unconditional.shape[1]
    by_alpha = given.step(optimizer=None)
    same = cfg_alpha_to_weight(given.alpha, count, others)
    assert torch.equal(toy().step(optimizer=None, unconditional_weight=same).loss, by_alpha.loss)
    each = torch.linspace(0.5, 3.0, len(same) * others, dtype=same.dtype).view(len(same), others)
    own = toy().step(optimizer=None, unconditional_weight=each)
    assert not torch.equal(own.loss, by_alpha.loss)
    assert own.unconditional_weight is each
    assert own.logs()["unconditional_weight_mean"] == pytest.approx(1.75)
    with pytest.raises(ValueError, match="unconditional_weight"):
        toy().step(optimizer=None, unconditional_weight=-each)
    with pytest.raises(ValueError, match="unconditional is None, expected both"):
        toy().but(unconditional=None, alpha=torch.ones(2)).step(unconditional_weight=each)


def test_logs_tell_each_temperature() -> None:
    out = toy().step()
    logs = out.logs()
    names = [f"tau={temperature:g}" for temperature in out.temperatures]
    assert len(names) == len(next(iter(out.drift_energy.values())))
    for index, name in enumerate(names):
        of_all = sum(float(value[index].mean()) for value in out.drift_energy.values())
        assert logs[f"drift_energy/{name}"] == pytest.approx(of_all)
        least = min(float(value[index].min()) for value in out.drift_scale.values())
        assert logs[f"drift_scale_min/{name}"] == pytest.approx(least)
        assert logs[f"drift_energy/(samples)/{name}"] == pytest.approx(
            float(out.drift_energy["(samples)"][index].mean())
        )
    mean = sum(logs[f"drift_energy/{name}"] for name in names) / len(names)
    assert mean == pytest.approx(logs["drift_energy"])
    assert logs["terms"] == len(out.drift_energy)
    assert logs["gamma_mean"] == pytest.approx(float((1 - 1 / out.alpha).mean()))


def test_logs_tell_the_temperatures_of_the_vanilla_term() -> None:
    plain = toy()
    assert plain.config.feature_config is not None
    features = FeatureDriftingConfig(
        (0.05, 0.2),
        readings=plain.config.feature_config.readings,
        raw_drift_temperatures=(0.2, 0.9, 2.0),
    )
    out = plain.configured(feature_config=features).step()
    logs = out.logs()
    raw = out.drift_energy["(samples)"]
    assert len(raw) == 3
    assert "drift_energy/(samples)/tau=0.05" not in logs
    for index, name in enumerate(("0.2", "0.9", "2")):
        found = logs[f"drift_energy/(samples)/tau={name}"]
        assert found == pytest.approx(float(raw[index].mean()))
    assert logs["drift_energy/tau=0.9"] == pytest.approx(float(raw[1].mean()))
    others = [value for key, value in out.drift_energy.items() if key != "(samples)"]
    assert logs["drift_energy/tau=0.2"] == pytest.approx(
        float(raw[0].mean() + sum(value[1].mean() for value in others))
    )
