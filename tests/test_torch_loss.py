"""The implementation's own promises: gradients, dtypes, layouts, memory, exact scale invariance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, RELEASE, SEED
from drifting_torch import (
    DriftingLossOutput,
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    drifting_field,
    drifting_loss,
    extract_feature_maps,
    feature_space_drifting_loss,
    group_by_label,
    vectorize_feature_maps,
)


def samples(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.to(dtype)


def solved(
    generated: Tensor, *, upstream: float = 1.0, **options: Any
) -> tuple[DriftingLossOutput, Tensor]:
    """The loss and its gradient for positives that fit ``generated``."""
    labels, _, vectors, channels = generated.shape
    positive = samples(labels, 6, vectors, channels, seed=99, dtype=generated.dtype) + 0.3
    leaf = generated.detach().clone().requires_grad_()
    found = drifting_loss(leaf, positive, **options)
    (found.loss * upstream).backward()
    assert leaf.grad is not None
    return found, leaf.grad


def test_the_gradient_has_the_dtype_of_the_features() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        found, gradient = solved(samples(2, 5, 3, 8, seed=1, dtype=dtype))
        assert gradient.dtype == dtype
        assert found.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_scaling_by_powers_of_two_is_exact() -> None:
    for dtype, powers in ((torch.float64, range(-60, 61, 12)), (torch.float32, range(-14, 15, 4))):
        base = samples(2, 5, 3, 16, seed=2, dtype=dtype)
        positive = samples(2, 6, 3, 16, seed=3, dtype=dtype)
        outputs = []
        for factor in (1.0, *(2.0**power for power in powers)):
            leaf = (base * factor).requires_grad_()
            found = drifting_loss(leaf, positive * factor)
            found.loss.backward()
            assert leaf.grad is not None
            outputs.append((found.loss.detach(), leaf.grad * factor, found.feature_scale / factor))
        for other in outputs[1:]:
            for one, two in zip(outputs[0], other, strict=True):
                assert torch.equal(one, two)


def test_per_label_is_differentiable_too() -> None:
    leaf = samples(3, 5, 2, 4, seed=4).requires_grad_()
    found = drifting_loss(leaf, samples(3, 4, 2, 4, seed=5))
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (found.per_label * weights).sum().backward(retain_graph=True)
    weighted = leaf.grad
    leaf.grad = None
    found.loss.backward()
    assert weighted is not None
    assert leaf.grad is not None
    assert torch.allclose(weighted, 3 * leaf.grad * weights[:, None, None, None], rtol=1e-14)


def test_statistics_carry_no_gradient() -> None:
    found, _ = solved(samples(2, 5, 3, 8, seed=6))
    for value in (found.feature_scale, found.drift_scale, found.drift_energy, found.degenerate):
        assert not value.requires_grad


def test_strided_inputs_and_inference_agree_with_contiguous_training() -> None:
    wide = samples(2, 3, 5, 16, seed=7)
    view = wide.transpose(1, 2)[..., ::2]
    found, gradient = solved(view)
    expected, wanted = solved(view.contiguous())
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(gradient, wanted)
    with torch.no_grad():
        positive = samples(2, 6, 3, 8, seed=99) + 0.3
        assert torch.equal(drifting_loss(view, positive).loss, expected.loss.detach())


def test_inputs_are_not_modified() -> None:
    tensors = [samples(2, count, 3, 8, seed=count) for count in (5, 4, 3)]
    before = [each.clone() for each in tensors]
    for readings in PRESETS.values():
        weight = torch.rand(2, 3)
        kept = weight.clone()
        drifting_loss(*tensors, weight, readings=readings)
        assert torch.equal(weight, kept)
    assert all(torch.equal(one, two) for one, two in zip(tensors, before, strict=True))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from drifting_torch.eager import chunks

    base = samples(3, 5, 7, 6, seed=8)
    whole, gradient = solved(base)
    for entries in (1, 120, 500):
        monkeypatch.setitem(chunks._CHUNK_ENTRIES, "cpu", entries)
        found, other = solved(base)
        torch.testing.assert_close(found.loss, whole.loss, rtol=1e-14, atol=0)
        torch.testing.assert_close(other, gradient, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("channels", [8, 300])
def test_a_sample_that_weighs_nothing_may_lie_anywhere(channels: int) -> None:
    """It is as absent in float32 as well, where to measure from it would cost the others digits."""
    leaf = samples(2, 6, 1, channels, seed=1, dtype=torch.float32).requires_grad_()
    positive = samples(2, 5, 1, channels, seed=2, dtype=torch.float32) + 0.3
    extra = samples(2, 3, 1, channels, seed=3, dtype=torch.float32)
    weight = torch.tensor([[0.0, 1.0, 2.0]]).expand(2, 3)
    gradients: list[Tensor] = []
    for shift in (0.0, 1e6):
        extra[:, 0] += shift
        (found,) = torch.autograd.grad(drifting_loss(leaf, positive, extra, weight).loss, leaf)
        gradients.append(found)
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 5e-6


def test_a_drift_near_the_least_float64_has_a_finite_loss() -> None:
    """λ ≈ 1e-156: its square is under the range, the normalised drift is not."""
    x = torch.tensor([0.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1)
    readings = replace(
        PAPER,
        softmax_axes="none",
        temperature_scaling="raw",
        temperature_aggregation="per_temperature_mse",
    )
    found = drifting_loss(x, x + 1.5, temperatures=(0.02 / 3,), readings=readings)
    assert 0 < float(found.drift_scale) < 1e-150
    torch.testing.assert_close(found.loss, torch.ones_like(found.loss), rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", [32, 400], ids=["drifts", "coefficients"])
def test_no_tensor_of_all_pairs_and_channels_is_kept(channels: int) -> None:
    """The backward pass keeps one tensor of the generated samples' size, or one of the targets'."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    leaf = samples(2, 16, 9, channels, seed=9).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        drifting_loss(leaf, samples(2, 16, 9, channels, seed=10))
    scale, size = 8, 8 * leaf.numel()
    coefficients = 8 * 2 * 9 * 16 * 32
    assert sum(kept) == scale + (size if channels == 32 else coefficients + 2 * size)


def test_the_field_is_detached_and_batched() -> None:
    x, positive = samples(2, 3, 5, 4, seed=13), samples(2, 3, 6, 4, seed=14)
    x.requires_grad_()
    batched = drifting_field(x, positive, x, 0.8, mask_self=True)
    assert not batched.requires_grad
    for first in range(2):
        for second in range(3):
            one = x[first, second].detach()
            alone = drifting_field(one, positive[first, second], one, 0.8, mask_self=True)
            torch.testing.assert_close(batched[first, second], alone, rtol=1e-12, atol=1e-15)


def test_the_config_has_one_home_for_each_choice() -> None:
    config = FeatureDriftingConfig(
        temperature_aggregation="per_temperature_mse",
        scale_temperature_by_sqrt_channels=False,
        share_location_normalization=False,
    )
    assert config.readings == replace(
        PAPER,
        temperature_aggregation="per_temperature_mse",
        temperature_scaling="raw",
        location_sharing="none",
    )
    assert config.vectorization.readings == config.readings
    assert FeatureDriftingConfig.paper() == FeatureDriftingConfig()
    assert FeatureDriftingConfig.release().readings == RELEASE
    seed = FeatureDriftingConfig.seed()
    assert seed.readings == SEED
    assert seed.temperatures == (0.05,)
    assert not seed.include_raw_drift_loss
    assert not seed.vectorization.include_input_x2_mean


def test_from_images_to_gradients() -> None:
    """The whole chain on an ordinary module, labels grouped, the vanilla term on."""
    torch.manual_seed(0)
    encoder = torch.nn.Conv2d(3, 4, 3, padding=1).double().requires_grad_(False).eval()
    config = FeatureDriftingConfig()
    labels = torch.arange(2).repeat_interleave(5)

    def features(images: Tensor) -> dict[str, Tensor]:
        maps = extract_feature_maps(encoder, images)
        vectors = vectorize_feature_maps(maps, config.vectorization, images)
        return group_by_label(vectors, labels)

    images = samples(10, 3, 8, 8, seed=15).requires_grad_()
    real = samples(10, 3, 8, 8, seed=16)
    found = feature_space_drifting_loss(
        features(images),
        features(real),
        generated_samples=images.unflatten(0, (2, 5)),
        positive_samples=real.unflatten(0, (2, 5)),
        config=config,
    )
    found.loss.backward()
    assert found.raw_loss is not None
    assert len(found.terms) == 8
    torch.testing.assert_close(found.loss, found.feature_loss + found.raw_loss)
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad.flatten(1).norm(dim=1) > 0).all()


def test_constant_maps_have_finite_gradients_under_every_std() -> None:
    for std in ("population", "unbiased", "population_eps"):
        config = FeatureVectorizationConfig(
            include_input_x2_mean=False, readings=replace(PAPER, std=std)
        )
        constant = torch.full((2, 3, 4, 4), 0.4, dtype=torch.float64, requires_grad=True)
        vectors = vectorize_feature_maps({"a": constant}, config)
        torch.cat([each.flatten() for each in vectors.values()]).sum().backward()
        assert constant.grad is not None
        assert constant.grad.isfinite().all()
        expected = 1e-3 if std == "population_eps" else 0.0
        torch.testing.assert_close(
            vectors["a.std2"], torch.full_like(vectors["a.std2"], expected), atol=1e-12, rtol=1e-9
        )
