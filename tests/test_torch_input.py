"""Bad input to the implementation: every error names the argument, its value and what is right."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import drifting_torch
from drifting_spec import PAPER, RELEASE, ReadingsError
from drifting_torch import (
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    MAEResNetEncoder,
    cfg_alpha_to_weight,
    drifting_field,
    drifting_loss,
    extract_feature_maps,
    extract_features,
    feature_space_drifting_loss,
    group_by_label,
    vectorize_feature_maps,
)
from drifting_torch.problem import weights as weights_module
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.weights import TargetWeights


def samples(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


G, P, U = samples(2, 4, 3, 5), samples(2, 3, 3, 5, seed=1), samples(2, 2, 3, 5, seed=2)
W = torch.ones(2)


def with_entry(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed[(1,) + (0,) * (tensor.dim() - 1)] = value
    return changed


LOSS_ERRORS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "rank": ({"generated": G[0]}, ValueError, r"generated has shape \(4, 3, 5\), expected 4 dim"),
    "list": ({"generated": [1.0]}, TypeError, "generated is list, expected a tensor"),
    "integers": ({"generated": G.long()}, TypeError, "generated has dtype torch.int64"),
    "no-positives": ({"positive": P[:, :0]}, ValueError, "at least one along N"),
    "labels": ({"positive": P[:1]}, ValueError, r"positive has shape \(1, 3, 3, 5\), expected \(2"),
    "channels": ({"positive": P[..., :4]}, ValueError, r"expected \(2, 3, 3, 5\)"),
    "vectors": ({"positive": P[:, :, :2]}, ValueError, r"expected \(2, 3, 3, 5\)"),
    "dtypes": ({"positive": P.double()}, TypeError, "positive has dtype torch.float64, expected"),
    "nan": (
        {"generated": with_entry(G, float("nan"))},
        ValueError,
        r"generated\[1, 0, 0, 0\] is nan",
    ),
    "inf": (
        {"positive": with_entry(P, float("inf"))},
        ValueError,
        r"positive\[1, 0, 0, 0\] is inf",
    ),
    "no-weight": ({"unconditional": U}, ValueError, "unconditional_weight is None, expected"),
    "weight-alone": ({"unconditional_weight": W}, ValueError, "without unconditional samples"),
    "weight-shape": (
        {"unconditional": U, "unconditional_weight": torch.ones(3)},
        ValueError,
        r"unconditional_weight has shape \(3,\), expected \(2,\): one weight per label",
    ),
    "weight-samples": (
        {"unconditional": U, "unconditional_weight": torch.ones(2, 3)},
        ValueError,
        r"unconditional_weight has shape \(2, 3\), expected \(2, 2\)",
    ),
    "weight-negative": (
        {"unconditional": U, "unconditional_weight": torch.tensor([1.0, -2.0])},
        ValueError,
        r"unconditional_weight\[1\] is -2.0, expected weights of at least 0",
    ),
    "weight-nan": (
        {"unconditional": U, "unconditional_weight": torch.tensor([1.0, float("nan")])},
        ValueError,
        r"unconditional_weight\[1\] is nan",
    ),
    "weight-number": (
        {"unconditional": U, "unconditional_weight": 2.0},
        TypeError,
        "unconditional_weight is float, expected a tensor",
    ),
    "generated-weight": (
        {"generated_weight": torch.ones(2, 3)},
        ValueError,
        r"generated_weight has shape \(2, 3\), expected \(2, 4\)",
    ),
    "temperature-zero": ({"temperatures": (0.1, 0.0)}, ValueError, "temperatures holds 0.0"),
    "temperature-none": ({"temperatures": ()}, ValueError, "temperatures is empty"),
    "temperature-number": ({"temperatures": 0.1}, TypeError, "temperatures is 0.1, expected a seq"),
    "temperature-text": ({"temperatures": ("a",)}, TypeError, "temperatures holds 'a'"),
    "readings": ({"readings": "paper"}, TypeError, "readings is 'paper', expected a drifting_spec"),
    "device": ({"positive": P.to("meta")}, ValueError, "positive is on meta, expected cpu"),
}


@pytest.mark.parametrize("name", LOSS_ERRORS)
def test_the_loss_refuses(name: str) -> None:
    changes, error, message = LOSS_ERRORS[name]
    arguments: dict[str, Any] = {"generated": G, "positive": P, **changes}
    with pytest.raises(error, match=message):
        drifting_loss(**arguments)


X, Y = samples(4, 3), samples(5, 3, seed=1)
FIELD_ERRORS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "channels": ({"positive": Y[:, :2]}, ValueError, "positive has shape"),
    "few-negatives": ({"negative": X[:2]}, ValueError, "negative has 2 samples, expected at least"),
    "other-negatives": ({"negative": Y}, ValueError, "first 4 of negative are not x"),
    "temperature": ({"temperature": -1.0}, ValueError, "temperature holds -1.0"),
    "weights": (
        {"negative_weight": torch.ones(3)},
        ValueError,
        r"negative_weight has shape \(3,\)",
    ),
    "negative": ({"negative_weight": -torch.ones(4)}, ValueError, r"negative_weight\[0\] is -1.0"),
    "vector": ({"x": X[0]}, ValueError, "x is"),
    "nan": ({"positive": with_entry(Y, float("nan"))}, ValueError, r"positive\[1, 0\] is nan"),
}


@pytest.mark.parametrize("name", FIELD_ERRORS)
def test_the_field_refuses(name: str) -> None:
    changes, error, message = FIELD_ERRORS[name]
    arguments: dict[str, Any] = {
        "x": X,
        "positive": Y,
        "negative": X,
        "temperature": 1.0,
        **changes,
    }
    with pytest.raises(error, match=message):
        drifting_field(**arguments, mask_self=True)


def test_the_feature_loss_names_the_feature_and_what_is_missing() -> None:
    features, others = {"a.loc": G}, {"a.loc": P}
    with pytest.raises(ValueError, match="generated_samples is None, expected the raw samples"):
        feature_space_drifting_loss(features, others)
    config = FeatureDriftingConfig(include_raw_drift_loss=False)
    with pytest.raises(ValueError, match=r"\['b.loc'\] are in one of them alone"):
        feature_space_drifting_loss(features, {"a.loc": P, "b.loc": P}, config=config)
    with pytest.raises(ValueError, match="holds no features"):
        feature_space_drifting_loss({}, {}, config=config)
    with pytest.raises(ValueError, match=r"feature 'a\.loc': positive has shape"):
        feature_space_drifting_loss(features, {"a.loc": P[:1]}, config=config)
    with pytest.raises(ValueError, match="unconditional_samples is None"):
        feature_space_drifting_loss(
            features,
            others,
            {"a.loc": U},
            W,
            generated_samples=samples(2, 4, 6),
            positive_samples=samples(2, 3, 6),
        )
    with pytest.raises(ValueError, match=r"generated_samples has shape \(2, 4\)"):
        feature_space_drifting_loss(
            features, others, generated_samples=samples(2, 4), positive_samples=samples(2, 3, 6)
        )


FEATURE_TYPES: dict[str, tuple[dict[str, Any], str]] = {
    "generated": ({"generated": G}, "generated is Tensor, expected a mapping from names to feat"),
    "positive": ({"positive": P}, "positive is Tensor, expected a mapping"),
    "unconditional": ({"unconditional": U}, "unconditional is Tensor, expected a mapping"),
    "config": ({"config": PAPER}, r"config is Readings\(.*, expected a FeatureDriftingConfig"),
    "samples": ({"generated_samples": [1.0]}, "generated_samples is list, expected a tensor"),
    "others": ({"positive_samples": P.numpy()}, "positive_samples is ndarray, expected a tensor"),
}


@pytest.mark.parametrize("name", FEATURE_TYPES)
def test_the_feature_loss_names_what_is_of_a_wrong_type(name: str) -> None:
    changed, message = FEATURE_TYPES[name]
    given: dict[str, Any] = {
        "generated": {"a": G},
        "positive": {"a": P},
        "generated_samples": samples(2, 4, 6),
        "positive_samples": samples(2, 3, 6),
    }
    with pytest.raises(TypeError, match=message):
        feature_space_drifting_loss(**given | changed)


def test_a_feature_may_not_be_called_the_vanilla_term() -> None:
    with pytest.raises(ValueError, match="feature 'the vanilla term', expected another name"):
        feature_space_drifting_loss({"the vanilla term": G}, {"the vanilla term": P})


def test_a_weight_that_overflows_in_the_features_dtype_is_refused() -> None:
    huge = torch.full((2,), 1e300, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"unconditional_weight\[0\] is inf"):
        drifting_loss(G, P, U, huge)


def test_the_configs_refuse() -> None:
    with pytest.raises(ValueError, match="raw_drift_loss_weight is inf, expected a finite"):
        FeatureDriftingConfig(raw_drift_loss_weight=float("inf"))
    with pytest.raises(TypeError, match="raw_drift_loss_weight is '1', expected a number"):
        FeatureDriftingConfig(raw_drift_loss_weight="1")  # pyright: ignore[reportArgumentType] -- the wrong type is what is tried
    with pytest.raises(ReadingsError, match="temperature_aggregation is 'sum'"):
        FeatureDriftingConfig(temperature_aggregation="sum")
    with pytest.raises(ReadingsError, match="contradicts softmax_axes"):
        type(PAPER)(kernel_normalization="separate")
    with pytest.raises(ValueError, match="raw_drift_loss_weight is -1"):
        FeatureDriftingConfig(raw_drift_loss_weight=-1.0)
    with pytest.raises(ValueError, match="input_patch_size is 0"):
        FeatureVectorizationConfig(input_patch_size=0)


def test_the_vectorisation_refuses() -> None:
    config = FeatureVectorizationConfig(include_input_x2_mean=False)
    with pytest.raises(ValueError, match="7×7 locations, expected multiples of 2"):
        vectorize_feature_maps({"a": samples(2, 3, 7, 7)}, config)
    with pytest.raises(ValueError, match=r"map 'a' has shape \(2, 3\)"):
        vectorize_feature_maps({"a": samples(2, 3)}, config)
    with pytest.raises(ValueError, match="inputs is None, expected the encoder's inputs"):
        vectorize_feature_maps({"a": samples(2, 3, 4, 4)}, FeatureVectorizationConfig())
    with pytest.raises(ValueError, match=r"map .a. has shape .*, expected 3 samples as images"):
        vectorize_feature_maps(
            {"a": samples(2, 3, 4, 4)}, FeatureVectorizationConfig(), samples(3, 3, 4, 4)
        )
    with pytest.raises(TypeError, match="maps is list, expected a mapping from names to maps"):
        vectorize_feature_maps([samples(2, 3, 4, 4)], config)
    with pytest.raises(TypeError, match=r"config is FeatureDriftingConfig, .* its \.vectorization"):
        vectorize_feature_maps({"a": samples(2, 3, 4, 4)}, FeatureDriftingConfig())


def test_squares_of_half_precision_are_taken_in_single() -> None:
    """300² is beyond float16, its root is not."""
    config = FeatureVectorizationConfig(readings=RELEASE)
    images = torch.full((1, 1, 8, 8), 300.0, dtype=torch.float16)
    images[..., ::2] = 100.0
    found = vectorize_feature_maps({"a": images}, config, images)
    assert float(found["input.x2"]) == pytest.approx(50000**0.5, rel=1e-3)
    assert float(found["a.std"]) == 100.0
    assert {each.dtype for each in found.values()} == {torch.float16}


def test_the_encoder_must_return_maps() -> None:
    images = samples(2, 3, 8, 8)
    with pytest.raises(ValueError, match="returned nothing, expected at least one map"):
        extract_feature_maps(lambda x: [], images)
    with pytest.raises(ValueError, match="map 'map0' has shape"):
        extract_feature_maps(lambda x: x.flatten(1), images)
    with pytest.raises(ValueError, match="expected 2 samples as images"):
        extract_feature_maps(lambda x: {"a": x[:1]}, images)
    for found, what in ((None, "NoneType"), (3.0, "float"), ("map", "str")):
        with pytest.raises(TypeError, match=f"the encoder returned {what}, expected a tensor, a"):
            extract_feature_maps(lambda x, found=found: found, images)
    with pytest.raises(TypeError, match="the encoder's 'map1' is list, expected a tensor"):
        extract_feature_maps(lambda x: [x, [x]], images)


def test_an_encoder_in_training_mode_is_refused_as_a_step_refuses_it() -> None:
    images = samples(2, 3, 8, 8)
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Dropout())
    encoder = encoder.to(images)
    config = FeatureVectorizationConfig(include_patch4_stats=False)
    message = r"is in training mode, expected eval mode: call encoder.eval\(\)"
    for refused in (encoder, lambda x: encoder(x)):
        with pytest.raises(ValueError, match=rf"encoder('s 'encoder')? {message}"):
            extract_feature_maps(refused, images)
        with pytest.raises(ValueError, match=message):
            extract_features(refused, images, config)
    encoder.eval()[1].train()
    with pytest.raises(ValueError, match="encoder's '1' is in training mode"):
        extract_feature_maps(encoder, images)
    assert extract_feature_maps(encoder.eval(), images)["map0"].shape == (2, 4, 8, 8)
    assert extract_features(encoder, images, config)["map0.loc"].shape == (2, 64, 4)


def test_x2_is_that_of_the_encoder_s_own_patches() -> None:
    """Under ``patchified`` a config for another patch size would take x² of something else."""
    images = samples(2, 3, 64, 64)
    encoder = MAEResNetEncoder(4, 3, patch_size=8, blocks=(1,)).eval()
    config = FeatureVectorizationConfig(readings=RELEASE)
    with pytest.raises(ValueError, match="input_patch_size is 1, expected 8 as the encoder's"):
        extract_features(encoder, images, config)
    found = extract_features(encoder, images, replace(config, input_patch_size=8))
    assert found["input.x2"].shape == (2, 1, 192)
    assert "input.x2" not in extract_features(
        encoder, images, replace(config, include_input_x2_mean=False)
    )
    # The paper's x² is that of the image, whatever the encoder makes of it.
    for size in (1, 8):
        paper = FeatureVectorizationConfig(input_patch_size=size)
        assert extract_features(encoder, images, paper)["input.x2"].shape == (2, 1, 3)


def test_labels_must_be_label_major_and_equally_many() -> None:
    features = {"a": samples(4, 3, 5)}
    with pytest.raises(ValueError, match="are not label-major"):
        group_by_label(features, torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"come \[3, 1\] times each"):
        group_by_label(features, torch.tensor([0, 0, 0, 1]))
    with pytest.raises(ValueError, match="has 4 samples, expected 2"):
        group_by_label(features, torch.tensor([0, 0]))
    with pytest.raises(TypeError, match="expected an integer tensor"):
        group_by_label(features, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    grouped = group_by_label(features, torch.tensor([7, 7, 3, 3]))["a"]
    assert torch.equal(grouped, features["a"].view(2, 2, 3, 5))


def test_guidance_refuses() -> None:
    for arguments, message in (
        ((0.5, 8, 4), "alpha is 0.5, expected"),
        ((2.0, 1, 4), "n_generated is 1, expected at least 2"),
        ((2.0, 8, 0), "n_unconditional is 0, expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            cfg_alpha_to_weight(*arguments)
    with pytest.raises(ValueError, match=re.escape("alpha holds [1.0, 0.25]")):
        cfg_alpha_to_weight(torch.tensor([1.0, 0.25]), 8, 4)


def test_value_checks_can_be_left_out() -> None:
    spoiled = with_entry(G, float("nan"))
    assert drifting_loss(spoiled, P, validate=False).loss.isnan()


def test_every_public_name_is_documented() -> None:
    for name in drifting_torch.__all__:
        assert getattr(drifting_torch, name).__doc__, name


def test_features_share_the_weights_of_one_call_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights of equal shapes do not stand in for one another, and are looked at once."""
    looked: list[str] = []
    check = weights_module.check_not_negative
    monkeypatch.setattr(
        weights_module,
        "check_not_negative",
        lambda name, value: [looked.append(name), check(name, value)],
    )
    x, y = torch.randn(2, 3, 1, 4), torch.randn(2, 5, 1, 4)
    one, two = (TargetWeights(torch.full((2,), value)) for value in (0.5, 2.0))

    def weight(weights: TargetWeights, others: Tensor) -> Tensor:
        found = problem_of(x, y, others, weights, temperatures=(0.1,), readings=PAPER).weight
        assert found is not None
        return found

    assert weight(one, y) is weight(one, x.repeat(1, 2, 1, 1)[:, :5])
    assert torch.equal(weight(one, y), torch.tensor([[1.0] * 8 + [0.5] * 5]).expand(2, -1))
    assert torch.equal(weight(two, y), torch.tensor([[1.0] * 8 + [2.0] * 5]).expand(2, -1))
    assert torch.equal(weight(two, x), torch.tensor([[1.0] * 8 + [2.0] * 3]).expand(2, -1))
    assert looked == ["unconditional_weight"] * 3
