"""Arguments at the ends of what is allowed, and options shown to be obeyed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import drifting_reference
from drifting_reference import guidance as literal
from drifting_spec import PAPER, Readings
from drifting_torch import (
    AlphaDistribution,
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    MAEResNetEncoder,
    SampleQueue,
    cfg_alpha_to_weight,
    drifting_field,
    drifting_loss,
    extract_features,
    feature_space_drifting_loss,
    sample_alpha,
    sample_mask,
    slot_inventory,
    stream_drifting_loss,
    weight_to_gamma,
)
from drifting_torch.training.micro_batches import _check_repeated
from drifting_torch.training.queue import _Ring

# Guidance.


@pytest.mark.parametrize("weight_of", [cfg_alpha_to_weight, literal.cfg_alpha_to_weight])
def test_the_fewest_samples_that_can_be_guided(weight_of: Any) -> None:
    assert weight_of(3.0, 2, 1) == 2.0
    assert weight_of(1.0, 2, 1) == 0.0
    for counts, name in (((1, 1), "n_generated"), ((2, 0), "n_unconditional")):
        with pytest.raises(ValueError, match=name):
            weight_of(3.0, *counts)


def test_the_fewest_samples_that_mix() -> None:
    assert weight_to_gamma(1.0, 2, 1) == literal.weight_to_gamma(1.0, 2, 1) == 0.5
    for counts, name in (((1, 1), "n_generated"), ((2, 0), "n_unconditional")):
        with pytest.raises(ValueError, match=name):
            weight_to_gamma(1.0, *counts)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("atom", [0.0, 0.25])
def test_power_laws_that_begin_elsewhere_than_at_1(exponent: float, atom: float) -> None:
    law = AlphaDistribution(exponent, atom, low=1.5, high=6.0)
    u = torch.linspace(0, 1, 41, dtype=torch.float64)
    found = law.inverse_cdf(u)
    assert found[0] == 1.5
    assert found[-1] == pytest.approx(6.0, abs=1e-12)

    def mass(top: Tensor) -> Tensor:
        """∫ α^−n from ``low``, by hand."""
        if exponent == 1:
            return (top / 1.5).log()
        return (1.5 ** (1 - exponent) - top ** (1 - exponent)) / (exponent - 1)

    share = atom + (1 - atom) * mass(found) / mass(torch.tensor(6.0, dtype=torch.float64))
    torch.testing.assert_close(share, u.clamp(min=atom), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("exponent", [1.0, 3.0])
def test_an_atom_of_one_leaves_its_value_alone(exponent: float) -> None:
    law = AlphaDistribution(exponent, 1.0, low=1.5, high=6.0)
    found = law.inverse_cdf(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert found.tolist() == [1.5, 1.5, 1.5]


# Where things are put.


def test_device_is_obeyed() -> None:
    rng = torch.Generator().manual_seed(0)
    law = AlphaDistribution(1.0)
    assert sample_alpha(3, law, generator=rng, device="meta").device.type == "meta"
    assert sample_alpha(3, law, generator=rng).device.type == "cpu"
    assert sample_mask(2, 4, 4, device="meta").device.type == "meta"
    assert sample_mask(2, 4, 4).device.type == "cpu"


def test_a_state_is_loaded_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = SampleQueue(2)
    queue.push(torch.ones(2, 3), torch.tensor([0, 1]))
    state, pushed = queue.state_dict(), list[str]()
    # Nothing can be put in place by its index on the meta device.
    monkeypatch.setattr(_Ring, "push", lambda self, samples, _: pushed.append(samples.device.type))
    queue.load_state_dict(state, device="meta")
    queue.load_state_dict(state)
    assert pushed == ["meta", "meta", "cpu", "cpu", "cpu", "cpu"]  # labels stay on the host


# Whether values are looked at.


def _features() -> dict[str, Any]:
    rng = torch.Generator().manual_seed(0)

    def of(count: int) -> dict[str, Tensor]:
        shape = (2, count, 3, 4)
        return {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name in "ab"}

    return {"generated": of(5), "positive": of(4), "unconditional": of(3)}


def _raw(**more: Any) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(1)
    names = {"generated_samples": 5, "positive_samples": 4, "unconditional_samples": 3}
    made = {
        name: torch.randn(2, count, 6, generator=rng, dtype=torch.float64)
        for name, count in names.items()
    }
    return made | more


WEIGHT = torch.tensor([0.5, 2.0], dtype=torch.float64)
KINDS = ("generated", "positive", "unconditional", "raw", "weight")


def _spoiled(kind: str, worse: Any) -> tuple[dict[str, Any], dict[str, Any], Tensor]:
    features, raw, weight = _features(), _raw(), WEIGHT.clone()
    if kind == "raw":
        raw["positive_samples"][1, 2, 3] = worse
    elif kind == "weight":
        weight[1] = worse
    else:
        features[kind]["b"][1, 2, 0, 1] = worse
    return features, raw, weight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_validate_is_obeyed(kind: str, streamed: bool) -> None:
    features, raw, weight = _spoiled(kind, torch.nan)

    def solve(**options: Any) -> Tensor:
        if not streamed:
            return feature_space_drifting_loss(*features.values(), weight, **raw, **options).loss
        taps = [(name, *(each[name] for each in features.values())) for name in "ab"]
        return stream_drifting_loss(taps, weight, **raw, **options).loss

    named = {"raw": "positive", "weight": "unconditional_weight"}.get(kind, kind)
    for options in ({}, {"validate": True}):
        with pytest.raises(ValueError, match=named):
            solve(**options)
    solve(validate=False)


@pytest.mark.parametrize("name", ["generated_weight", "positive_weight", "unconditional_weight"])
def test_negative_weights_are_not_looked_at_unasked(name: str) -> None:
    x, y, u = (each["a"] for each in _features().values())
    given: dict[str, Any] = {"unconditional_weight": WEIGHT}
    sizes = {"generated_weight": 5, "positive_weight": 4, "unconditional_weight": 3}
    given[name] = -torch.ones(2, sizes[name], dtype=torch.float64)
    with pytest.raises(ValueError, match=name):
        drifting_loss(x, y, u, **given)
    drifting_loss(x, y, u, **given, validate=False)


# Streaming.


@pytest.mark.parametrize("gradient", [3.0, 3, torch.tensor(3.0), torch.tensor(3.0).double()])
def test_a_gradient_may_be_a_number_or_a_tensor(gradient: Any) -> None:
    def gradients(given: Any) -> list[Tensor]:
        features, raw = _features(), _raw()
        leaves = [*features["generated"].values(), raw["generated_samples"]]
        for leaf in leaves:
            leaf.requires_grad_()
        taps = [(name, *(each[name] for each in features.values())) for name in "ab"]
        stream_drifting_loss(taps, WEIGHT, **raw, gradient=given)
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    once, found = gradients(1.0), gradients(gradient)
    assert len(found) == 3
    for one, other in zip(once, found, strict=True):
        torch.testing.assert_close(other, 3 * one, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gradient", [torch.ones(1), "1", None, True])
def test_any_other_gradient_is_refused(gradient: Any) -> None:
    with pytest.raises(TypeError, match="gradient is"):
        stream_drifting_loss([], gradient=gradient)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("vanilla", [True, False])
def test_samples_that_are_lists_are_refused_by_name(place: int, vanilla: bool) -> None:
    features = _features()
    samples: list[Any] = [each["a"] for each in features.values()]
    samples[place] = samples[place].tolist()
    name = ("generated", "positive", "unconditional")[place]
    config = FeatureDriftingConfig(include_raw_drift_loss=vanilla)
    with pytest.raises(TypeError, match=rf"feature 'a': {name} is list"):
        stream_drifting_loss([("a", *samples)], WEIGHT, **_raw(), config=config)


# Micro-batches.


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        # Sizes 30 and 40, together 50: 2.5 is the limit, whichever of the two changes.
        ((2.4, 0.0), False), ((2.6, 0.0), True), ((0.0, 2.4), False), ((0.0, 2.6), True),
        ((1.7, 1.7), False), ((1.8, 1.8), True), ((0.0, 0.0), False),
    ],
)  # fmt: skip
def test_a_second_pass_is_judged_on_all_values_together(
    changes: tuple[float, float], refused: bool
) -> None:
    sizes = (30.0, 40.0)
    first = {name: torch.tensor([size, 0.0]) for name, size in zip("ab", sizes, strict=True)}
    second = {
        name: torch.tensor([size, change])
        for name, size, change in zip("ab", sizes, changes, strict=True)
    }
    if not refused:
        return _check_repeated(slice(2, 5), first, second)
    with pytest.raises(
        ValueError, match=r"samples 2 to 4 the second time, relative difference 0\.05"
    ):
        _check_repeated(slice(2, 5), first, second)
    return None


# Queue.


def _state(counts: list[int], capacity: int = 4) -> tuple[SampleQueue, dict[str, Any]]:
    queue = SampleQueue(3, class_capacity=capacity, global_capacity=20)
    queue.push(torch.arange(6.0)[:, None], torch.tensor([0, 1, 2, 0, 1, 2]))
    state = queue.state_dict()
    state["counts"] = torch.tensor(counts)
    state["samples"] = torch.arange(float(sum(counts)))[:, None]
    return queue, state


@pytest.mark.parametrize("counts", [[5, 3, 4], [3, 5, 4], [4, 3, 5], [12, 0, 0]])
def test_a_state_with_one_class_over_and_another_under_is_refused(counts: list[int]) -> None:
    queue, state = _state(counts)
    before = queue.counts
    with pytest.raises(ValueError, match=f"the state has {max(counts)} samples of a class"):
        queue.load_state_dict(state)
    assert torch.equal(queue.counts, before)


@pytest.mark.parametrize("counts", [[4, 4, 4], [4, 0, 3], [0, 4, 4]])
def test_a_state_of_full_classes_loads(counts: list[int]) -> None:
    queue, state = _state(counts)
    queue.load_state_dict(state)
    assert queue.counts.tolist() == counts
    start = 0
    for label, count in enumerate(counts):
        if count:
            expected = [float(start + each) for each in range(count)]
            assert queue.content(label).flatten().tolist() == expected
        start += count


# Features of odd sides.


@pytest.mark.parametrize("remainder", ["crop", "skip"])
@pytest.mark.parametrize("shape", [(3, 10, 14), (3, 22, 12), (3, 20, 26), (3, 16, 18)], ids=str)
def test_vectors_of_odd_sides_are_counted_as_they_are_made(
    shape: tuple[int, int, int], remainder: str
) -> None:
    readings = PAPER.with_reading("patch_remainder", remainder)
    config = FeatureVectorizationConfig(readings=readings)
    torch.manual_seed(0)
    options: dict[str, Any] = {"blocks": (1, 1, 1), "patch_size": 2}
    encoder = MAEResNetEncoder(8, 3, readings=readings, **options).eval()
    made = extract_features(encoder, torch.randn(2, *shape), replace(config, input_patch_size=2))
    counted = slot_inventory(8, config, input_shape=shape, **options)
    assert {name: tuple(each.shape[1:]) for name, each in made.items()} == {
        name: tuple(each) for name, each in counted.items()
    }
    patched = any(name.endswith("mean2") for name in counted)
    assert patched or remainder == "skip"


# The reference's shapes.


@pytest.mark.parametrize("axis", [0, 2, 3])
@pytest.mark.parametrize("name", ["positive", "unconditional"])
def test_the_reference_refuses_samples_of_other_shapes(name: str, axis: int) -> None:
    given = {"generated": (2, 4, 3, 5), "positive": (2, 6, 3, 5), "unconditional": (2, 7, 3, 5)}
    rng = np.random.default_rng(0)
    arrays = {each: rng.normal(size=shape) for each, shape in given.items()}
    weight = np.ones(2)
    drifting_reference.drifting_loss(*arrays.values(), weight)
    for change in (-1, 1):
        shape = list(given[name])
        shape[axis] += change
        broken = arrays | {name: rng.normal(size=shape)}
        with pytest.raises(ValueError, match=name):
            drifting_reference.drifting_loss(*broken.values(), weight)


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 6), (2, 8), (3, 7), (2, 7, 1)], ids=str)
def test_the_reference_refuses_unconditional_weights_of_other_shapes(
    shape: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(0)
    x, y, u = (rng.normal(size=(2, count, 3, 5)) for count in (4, 6, 7))
    drifting_reference.drifting_loss(x, y, u, np.ones((2, 7)))
    with pytest.raises(ValueError, match="unconditional_weight"):
        drifting_reference.drifting_loss(x, y, u, np.ones(shape))


# Low temperatures in single precision.

FAR = {
    "none": replace(PAPER, softmax_axes="none"),
    "product": replace(PAPER, softmax_combination="product"),
    "raw": replace(PAPER, temperature_scaling="raw"),
}


@pytest.mark.parametrize("temperature", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("readings", FAR.values(), ids=FAR.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_low_temperatures_in_few_digits(
    dtype: torch.dtype, readings: Readings, temperature: float
) -> None:
    rng = torch.Generator().manual_seed(6)
    # The positives lie beyond the other samples: next to those their affinities are all but gone.
    x = (0.3 * torch.randn(2, 6, 2, 16, generator=rng)).to(dtype)
    y = (0.3 * torch.randn(2, 5, 2, 16, generator=rng) + 1.0).to(dtype)

    def solved(kind: torch.dtype) -> tuple[Tensor, Tensor]:
        leaf = x.to(kind, copy=True).requires_grad_()
        found = drifting_loss(leaf, y.to(kind), temperatures=(temperature,), readings=readings)
        found.loss.backward()
        assert leaf.grad is not None
        return found.loss.detach().double(), leaf.grad.double()

    (loss, gradient), (wide_loss, wide_gradient) = solved(dtype), solved(torch.float64)
    assert wide_loss > 0.1
    torch.testing.assert_close(loss, wide_loss, rtol=1e-5, atol=0)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-2
    assert (gradient - wide_gradient).norm() < tolerance * wide_gradient.norm()


def test_a_product_of_softmaxes_far_from_all_positives_in_single_precision() -> None:
    """Each factor fits into float32, their product does not: a drift of 0 would be wrong."""
    rng = torch.Generator().manual_seed(6)
    x = 0.3 * torch.randn(2, 6, 2, 16, generator=rng)
    y = 0.3 * torch.randn(2, 5, 2, 16, generator=rng) + 3.0
    gradients: list[Tensor] = []
    for dtype in (torch.float32, torch.float64):
        leaf = x.to(dtype, copy=True).requires_grad_()
        out = drifting_loss(leaf, y.to(dtype), temperatures=(0.01,), readings=FAR["product"])
        assert out.loss.item() == pytest.approx(2.0, rel=1e-5)
        out.loss.backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double())
    assert (gradients[0] - gradients[1]).norm() < 1e-6 * gradients[1].norm()


@pytest.mark.parametrize("kind", ["none", "product"])
def test_fields_at_low_temperatures_in_single_precision(kind: str) -> None:
    rng = torch.Generator().manual_seed(6)
    x, y = (torch.randn(count, 2, generator=rng) for count in (6, 5))
    found = drifting_field(x, y, x, 0.04, mask_self=True, readings=FAR[kind])
    expected = drifting_field(
        x.double(), y.double(), x.double(), 0.04, mask_self=True, readings=FAR[kind]
    )
    representable = expected.abs() > 1e-36
    assert bool(representable.any())
    torch.testing.assert_close(
        found.double()[representable], expected[representable], rtol=1e-4, atol=0
    )


# Nothing at all.

EMPTY = {
    "x without samples": ("x", (0, 3), (4, 3), (5, 3)),
    "x without channels": ("x", (6, 0), (4, 0), (5, 0)),
    "x of no batch": ("x", (0, 6, 3), (0, 4, 3), (0, 5, 3)),
    "no positives": ("positive", (6, 3), (0, 3), (5, 3)),
    "no negatives": ("negative", (6, 3), (4, 3), (0, 3)),
    "no negatives of two": ("negative", (2, 6, 3), (2, 4, 3), (2, 0, 3)),
    "no positives of two": ("positive", (2, 6, 3), (2, 0, 3), (2, 5, 3)),
    "x of two without samples": ("x", (2, 0, 3), (2, 4, 3), (2, 5, 3)),
}


@pytest.mark.parametrize("case", EMPTY.values(), ids=EMPTY.keys())
def test_a_field_of_nothing_names_what_is_empty(case: tuple[Any, ...]) -> None:
    name, *shapes = case
    with pytest.raises(ValueError, match=rf"^{name} has shape .*expected at least one along"):
        drifting_field(*(torch.zeros(shape) for shape in shapes), 0.1, mask_self=False)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["generated", "positive", "unconditional"])
def test_a_loss_of_nothing_names_what_is_empty(name: str, axis: int) -> None:
    shapes = {"generated": [2, 4, 3, 5], "positive": [2, 6, 3, 5], "unconditional": [2, 7, 3, 5]}
    shapes[name][axis] = 0
    with pytest.raises(ValueError, match=rf"^{name} has shape"):
        drifting_loss(*(torch.zeros(shape) for shape in shapes.values()), torch.ones(2))


def test_a_queue_of_nothing() -> None:
    queue = SampleQueue(2)
    with pytest.raises(ValueError, match="samples has shape"):
        queue.push(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels has shape"):
        queue.push(torch.zeros(1, 3), torch.zeros(0, dtype=torch.int64))
    rng = torch.Generator()
    for call in (
        lambda: queue.sample_positive(torch.tensor([0]), 1, generator=rng),
        lambda: queue.sample_unconditional(1, 1, generator=rng),
        lambda: queue.content(0),
        queue.global_content,
    ):
        with pytest.raises(ValueError, match=r"pushed|has 0 samples"):
            call()
    assert queue.counts.tolist() == [0, 0]
