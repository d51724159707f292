"""Nothing is made on the default device that belongs where the arguments are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_step import toy

from drifting_spec import PAPER, RELEASE, Readings
from drifting_torch import (
    AlphaDistribution,
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    MAEResNetEncoder,
    MaskedAutoencoder,
    MovingAverage,
    SampleQueue,
    cfg_alpha_to_weight,
    clip_gradient_norm,
    drifting_field,
    drifting_loss,
    extract_features,
    feature_space_drifting_loss,
    group_by_label,
    load_release_parameters,
    sample_alpha,
    sample_mask,
    stream_drifting_loss,
    vectorize_feature_maps,
)
from drifting_torch.features.encoder import release_name

READINGS = {
    "paper": PAPER,
    "release": RELEASE,
    "all pairs": replace(PAPER, location_sharing="all_pairs"),
    "own pairs apart": replace(PAPER, scale_self_pairs="without", statistics_scope="label"),
    "one softmax": replace(PAPER, softmax_axes="y", self_mask="exclude"),
    "no softmax": replace(PAPER, softmax_axes="none"),
    "apart": replace(PAPER, softmax_axes="y", kernel_normalization="separate"),
    "mean over temperatures": replace(PAPER, temperature_aggregation="per_temperature_mse_mean"),
}


@contextmanager
def by_setting() -> Iterator[None]:
    before = torch.get_default_device()
    torch.set_default_device("meta")
    try:
        yield
    finally:
        # "cpu" would stay in force as a mode, None is how it was.
        torch.set_default_device(None if before.type == "cpu" else before)


ELSEWHERE = {"a context": lambda: torch.device("meta"), "a setting": by_setting}


def _random(*shape: int, seed: int = 0, **options: Any) -> Tensor:
    rng = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=rng, device="cpu", **options)


def _losses(readings: Readings, temperatures: tuple[float, ...], channels: int) -> list[Tensor]:
    x = _random(2, 6, 3, channels).requires_grad_()
    y, u = _random(2, 5, 3, channels, seed=1), _random(2, 4, 3, channels, seed=2)
    out = drifting_loss(
        x, y, u, _random(2, seed=3).abs(), temperatures=temperatures, readings=readings
    )
    out.loss.backward()
    assert x.grad is not None
    return [out.loss, out.feature_scale, out.drift_scale, out.drift_energy, out.degenerate, x.grad]


def _units() -> list[Tensor]:
    x = (_random(2, 6, 3, 4) * 2.0**-110).requires_grad_()
    out = drifting_loss(x, _random(2, 5, 3, 4, seed=1) * 2.0**-110)
    out.loss.backward()
    assert x.grad is not None
    return [out.loss, x.grad]


def _field() -> list[Tensor]:
    x, y = _random(2, 6, 4), _random(2, 5, 4, seed=1)
    weight = _random(2, 6, seed=2).abs()
    return [drifting_field(x, y, x, 0.3, mask_self=True, negative_weight=weight)]


def _features() -> list[Tensor]:
    def maps(seed: int) -> dict[str, Tensor]:
        config = FeatureVectorizationConfig()
        images = _random(6, 3, 16, 16, seed=seed + 9)
        found = vectorize_feature_maps({"a": _random(6, 5, 8, 8, seed=seed)}, config, images)
        return group_by_label(found, torch.tensor([0, 0, 0, 4, 4, 4], device="cpu"))

    x = {name: each.detach().requires_grad_() for name, each in maps(0).items()}
    y, u, weight = maps(1), maps(2), cfg_alpha_to_weight(_random(2).abs() + 1, 3, 3)
    raw = [_random(2, 3, 3, 4, 4, seed=seed) for seed in range(3)]
    for name, each in zip(("generated", "positive", "unconditional"), raw, strict=True):
        each.requires_grad_(name == "generated")
    names = ("generated_samples", "positive_samples", "unconditional_samples")
    samples: dict[str, Any] = dict(zip(names, raw, strict=True))
    config = FeatureDriftingConfig(include_raw_drift_loss=True)
    at_once = feature_space_drifting_loss(x, y, u, weight, config=config, **samples)
    at_once.loss.backward()
    taps = ((name, each, y[name], u[name]) for name, each in x.items())
    streamed = stream_drifting_loss(taps, weight, config=config, gradient=2.0, **samples)
    return [
        at_once.loss,
        streamed.loss,
        *(each.grad for each in x.values() if each.grad is not None),
    ]


def _queue() -> list[Tensor]:
    queue = SampleQueue(3, class_capacity=4, global_capacity=9)
    labels = torch.tensor([0, 0, 1, 1, 2, 2], device="cpu")
    queue.push(_random(6, 4), labels)
    queue.push(_random(6, 4, seed=1), labels)
    other = SampleQueue(3, class_capacity=4, global_capacity=9)
    other.load_state_dict(queue.state_dict())
    rng = torch.Generator("cpu").manual_seed(1)
    return [
        queue.counts,
        queue.content(1),
        queue.global_content(),
        other.sample_positive(labels[:2], 2, generator=rng),
        other.sample_unconditional(2, 3, generator=rng),
    ]


def _guidance() -> list[Tensor]:
    rng = torch.Generator("cpu").manual_seed(1)
    atom = AlphaDistribution(low=1.0, high=3.0, exponent=1.0, atom=1.0)
    table = AlphaDistribution.of_table8("ablation")
    return [
        sample_alpha(5, table, generator=rng),
        sample_alpha((2, 3), atom, generator=rng),
        cfg_alpha_to_weight(sample_alpha(5, table, generator=rng), 8, 3),
        sample_mask(2, 4, 4, generator=rng).float(),
    ]


def _encoder() -> list[Tensor]:
    with torch.device("cpu"):
        torch.manual_seed(0)
        autoencoder = MaskedAutoencoder(MAEResNetEncoder(8, 3, blocks=(1, 1)))
    encoder = autoencoder.encoder
    given = {
        release_name(name): (each.detach() + 0.125)
        .numpy()
        .transpose((2, 3, 1, 0) if each.dim() == 4 else range(each.dim()))
        for name, each in encoder.named_parameters()
    }
    load_release_parameters(encoder, given)
    images = _random(2, 3, 16, 16)
    loss = autoencoder.loss(images, generator=torch.Generator("cpu").manual_seed(0))
    loss.backward()
    norm = clip_gradient_norm(autoencoder.parameters(), 1.0)
    found = extract_features(encoder.eval(), images, FeatureVectorizationConfig())
    return [loss.detach(), norm, *found.values(), *encoder.parameters()]


def _steps(micro_batches: int) -> list[Tensor]:
    with torch.device("cpu"):
        made = toy().configured(micro_batches=micro_batches, gradient_clip=1.0)
    average = MovingAverage(made.generator, (0.9, 0.5))
    out = made.step(0.1)
    average.update()
    average.load_state_dict(average.state_dict())
    return [out.loss, *made.generator.parameters(), *average.averages(0.9).values()]


CALLS: dict[str, Callable[[], list[Tensor]]] = {
    **{
        f"{name}, {channels} channels, {len(temperatures)} temperatures": (
            lambda readings=readings, temperatures=temperatures, channels=channels: _losses(
                readings, temperatures, channels
            )
        )
        for name, readings in READINGS.items()
        for temperatures in ((0.02, 0.05, 0.2), (0.07,))
        for channels in (4, 80)
    },
    "features in a small unit": _units,
    "field": _field,
    "features": _features,
    "queue": _queue,
    "guidance": _guidance,
    "encoder": _encoder,
    "step": lambda: _steps(1),
    "micro-batches": lambda: _steps(3),
}


@pytest.mark.parametrize("elsewhere", ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_another_default_device_changes_nothing(
    call: Callable[[], list[Tensor]], elsewhere: Callable[[], Any]
) -> None:
    torch.manual_seed(7)
    expected = call()
    torch.manual_seed(7)
    with elsewhere():
        found = call()
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == "cpu"
        assert torch.equal(one, other)


def test_a_queue_made_elsewhere_is_used_here() -> None:
    with torch.device("meta"):
        queue = SampleQueue(2)
    queue.push(_random(4, 3), torch.tensor([0, 1, 1, 0]))
    assert torch.equal(queue.counts, torch.tensor([2, 2]))
    assert torch.equal(queue.content(1), _random(4, 3)[1:3])
