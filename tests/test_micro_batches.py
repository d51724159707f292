"""Micro-batches give the whole batch's gradients: S and λ stay those of the batch (D70)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_step import Toy, distance, toy

from drifting_torch import (
    FeatureDriftingConfig,
    MicroBatches,
    cfg_alpha_to_weight,
    extract_features,
    feature_space_drifting_loss,
)
from drifting_torch.training.micro_batches import even_slices


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8])
def test_gradients_of_the_whole_batch(parts: int) -> None:
    whole = toy().gradients()
    assert distance(toy().configured(micro_batches=parts).gradients(), whole) < 1e-13


def test_losses_and_logs_of_the_whole_batch() -> None:
    whole, parted = toy().step().logs(), toy().configured(micro_batches=3).step().logs()
    assert parted == pytest.approx(whole, rel=1e-12)


def test_summing_the_parts_losses_is_something_else() -> None:
    given = toy(labels=1, samples=8)
    whole = given.gradients()
    halves = [given.but(noise=given.noise[:, part]) for part in (slice(0, 4), slice(4, 8))]
    first, second = (half.gradients() for half in halves)
    summed = {name: (first[name] + second[name]) / 2 for name in whole}
    assert distance(summed, whole) > 0.1


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_dropout_is_replayed(parts: int) -> None:
    given = toy(dropout=0.4).configured(micro_batches=parts)
    torch.manual_seed(11)
    got = given.gradients()
    torch.manual_seed(11)
    assert distance(got, _with_one_graph(given, parts)) < 1e-13
    torch.manual_seed(12)
    assert distance(given.gradients(), got) > 0.05  # the masks do matter


def _with_one_graph(given: Toy, parts: int) -> dict[str, Tensor]:
    """The parts' features with their graphs, one loss over all of them."""
    config = given.config.feature_config
    assert config is not None
    noise, labels = given.noise.flatten(0, 1), given.labels.repeat_interleave(4)
    alpha = given.alpha.repeat_interleave(4)
    samples = torch.cat(
        [
            given.generator(noise[part], labels[part], alpha[part])
            for part in even_slices(len(noise), parts)
        ]
    )

    def features(images: Tensor) -> dict[str, Tensor]:
        flat = extract_features(given.encoder, images, config.vectorization)
        return {key: each.unflatten(0, (2, -1)) for key, each in flat.items()}

    loss = feature_space_drifting_loss(
        features(samples),
        features(given.positive.flatten(0, 1)),
        features(given.unconditional.flatten(0, 1)),
        cfg_alpha_to_weight(given.alpha, 4, 2),
        generated_samples=samples.unflatten(0, (2, 4)),
        positive_samples=given.positive,
        unconditional_samples=given.unconditional,
        config=config,
    ).loss
    given.generator.zero_grad()
    loss.backward()
    return {name: each.grad for name, each in given.generator.named_parameters()}


def test_random_numbers_go_on_as_after_one_pass() -> None:
    given = toy(dropout=0.4).configured(micro_batches=4)
    torch.manual_seed(3)
    given.step()
    after = torch.rand(3)
    torch.manual_seed(3)
    for part in even_slices(8, 4):
        given.generator(
            given.noise.flatten(0, 1)[part], torch.zeros(2, dtype=torch.int64), torch.ones(2)
        )
    assert torch.equal(after, torch.rand(3))


def test_random_numbers_of_the_loss_stay_drawn() -> None:
    """What the loss draws between the passes is not drawn once more after the step."""
    line = nn.Linear(3, 2)

    def loss(values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        drawn = torch.rand(5)
        return values["x"].square().sum() * drawn.sum(), drawn

    def forward(part: slice) -> dict[str, Tensor]:
        return {"x": line(torch.randn(part.stop - part.start, 3))}

    torch.manual_seed(2)
    drawn = MicroBatches(forward, loss, torch.device("cpu")).backward(4, 2, [line.weight])
    after = torch.rand(5)
    torch.manual_seed(2)
    torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(drawn, torch.rand(5))
    assert torch.equal(after, torch.rand(5))


@pytest.mark.parametrize("where", ["its own generator", "NumPy's", "a counter"])
def test_a_second_pass_that_gives_something_else_is_refused(where: str) -> None:
    """Random numbers that are not replayed would make the gradient one of another batch."""
    given, calls = toy(), [0]
    inner, own = given.generator, torch.Generator().manual_seed(0)
    numpy = np.random.default_rng(0)

    def restless(noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        calls[0] += 1
        shift = {
            "its own generator": lambda: float(torch.rand((), generator=own)),
            "NumPy's": lambda: float(numpy.uniform()),
            "a counter": lambda: float(calls[0]),
        }[where]()
        return inner(noise, labels, alpha) + shift

    optimizer = torch.optim.SGD(inner.parameters(), lr=1.0)
    before = [each.detach().clone() for each in inner.parameters()]
    moved = given.but(generator=restless).configured(micro_batches=4)
    message = "something else for the samples 0 to 1 the second time, relative difference"
    with pytest.raises(ValueError, match=message):
        moved.step(optimizer=optimizer)
    assert all(map(torch.equal, before, inner.parameters()))
    assert moved.configured(micro_batches=1).step(optimizer=optimizer).stepped


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_in_micro_batches(dtype: torch.dtype) -> None:
    """The parts cast the same weights to the same values, and keep their graphs."""

    def gradients(parts: int) -> dict[str, Tensor]:
        given = toy(dtype=torch.float32).configured(autocast=dtype, micro_batches=parts)
        return given.gradients(scaler=torch.amp.GradScaler("cpu", init_scale=256.0))

    # Each part rounds its share of a weight's gradient to the narrow dtype.
    assert distance(gradients(4), gradients(1)) < 4 * torch.finfo(dtype).eps


def test_an_autocast_region_around_the_step_changes_nothing() -> None:
    """Its cache of cast weights, filled without a graph, must not cut the graphs of the parts."""
    given = toy(dtype=torch.float32).configured(autocast=torch.bfloat16, micro_batches=4)
    alone = given.gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert distance(given.gradients(), alone) == 0.0
    exact = toy(dtype=torch.float32).configured(micro_batches=4)
    alone = exact.gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert distance(exact.gradients(), alone) == 0.0


def test_memory_is_that_of_one_part() -> None:
    """Bytes that autograd keeps at once, counted by its own hooks."""

    def peak(parts: int) -> int:
        given = toy(samples=16, dtype=torch.float32).configured(micro_batches=parts)
        return peak_saved_bytes(given)

    one, eight = peak(1), peak(8)
    assert eight < one / 4


def peak_saved_bytes(given: Toy) -> int:
    class Held:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            self.size = tensor.numel() * tensor.element_size()
            counts["now"] += self.size
            counts["peak"] = max(counts["peak"], counts["now"])

        def __del__(self) -> None:
            counts["now"] -= self.size

    counts = {"now": 0, "peak": 0}
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        given.step()
    return counts["peak"]


def test_parts_differ_by_one_at_most() -> None:
    for size in range(1, 20):
        for parts in range(1, size + 1):
            slices = list(even_slices(size, parts))
            lengths = [part.stop - part.start for part in slices]
            assert sum(lengths) == size
            assert max(lengths) - min(lengths) <= 1
            assert min(lengths) >= 1
            assert slices[0].start == 0
            assert all(a.stop == b.start for a, b in pairwise(slices))


def test_any_loss_of_the_batch() -> None:
    """The engine alone: a loss that mixes the samples, with an output handed through."""
    torch.manual_seed(0)
    line, points = nn.Linear(3, 2).double(), torch.randn(7, 3, dtype=torch.float64)

    def loss(values: Mapping[str, Tensor]) -> tuple[Tensor, str]:
        return torch.pdist(values["x"]).square().sum() / values["y"].norm(), "handed through"

    def forward(part: slice) -> dict[str, Tensor]:
        found = line(points[part])
        return {"x": found, "y": torch.sin(found)}

    found: list[Tensor] = []
    for parts in (1, 3, 7):
        line.zero_grad()
        batches = MicroBatches(forward, loss, torch.device("cpu"))
        assert batches.backward(7, parts, list(line.parameters())) == "handed through"
        found.append(line.weight.grad.clone())
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_is_replayed_on_a_gpu() -> None:
    given = toy(dropout=0.4)
    moved = given.but(
        generator=given.generator.cuda(),
        encoder=given.encoder.cuda(),
        noise=given.noise.cuda(),
        labels=given.labels.cuda(),
        alpha=given.alpha.cuda(),
        positive=given.positive.cuda(),
        unconditional=given.unconditional.cuda(),
    ).configured(micro_batches=4)
    torch.manual_seed(5)
    got = moved.gradients()
    torch.manual_seed(5)
    assert distance(got, _with_one_graph(moved, 4)) < 1e-12


def test_the_vanilla_loss_alone_in_parts() -> None:
    whole = toy().but(encoder=None).configured(feature_config=None)
    parted = toy().but(encoder=None).configured(feature_config=None, micro_batches=4)
    assert distance(parted.gradients(), whole.gradients()) < 1e-13


def test_features_without_the_vanilla_term_in_parts() -> None:
    readings = FeatureDriftingConfig().readings.with_reading("patch_remainder", "skip")
    config = FeatureDriftingConfig(include_raw_drift_loss=False, readings=readings)
    whole = toy().configured(feature_config=config)
    parted = toy().configured(feature_config=config, micro_batches=4)
    assert distance(parted.gradients(), whole.gradients()) < 1e-13
