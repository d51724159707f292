"""Several features in one launch compute what each alone does: interpreted on the CPU.

Run by ``test_torch_triton.py``, as ``triton_cases`` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton_cases import (
    DEVICE,
    RELEASE,
    Failing,
    captures_without_synchronisation,
    kernels,  # noqa: F401 -- a fixture
    on_gpu,
    samples,
)

from drifting_spec import PAPER, Readings
from drifting_torch import (
    FeatureDriftingConfig,
    drifting_loss,
    feature_space_drifting_loss,
    stream_drifting_loss,
)
from drifting_torch.kernels import available, gpu, launches
from drifting_torch.kernels import solve as kernels_solve
from drifting_torch.loss.output import DriftingLossOutput, outputs_of
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.wanted import KernelsUnavailableWarning
from drifting_torch.problem.weights import TargetWeights


@pytest.fixture(autouse=True)
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter goes over all that a launch may have."""
    monkeypatch.setattr(launches, "MOST", 2)
    monkeypatch.setattr(kernels_solve, "MOST", 2)


KERNELS = ["measure", "scale", "correlate", "drift", "gradient"]

STATISTICS = {"loc": 3, "mean": 1, "std": 1, "mean2": 2, "std2": 2, "mean4": 1, "std4": 1}
"""Vectors of the features of a map."""

Sets = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor] | None]


def tap(
    vectors: Mapping[str, int] = STATISTICS,
    counts: tuple[int, int, int] = (4, 5, 3),
    channels: int = 9,
    labels: int = 2,
    dtype: torch.dtype = torch.float32,
) -> Sets:
    """Generated, positive and unconditional features by their names."""
    sets: list[dict[str, Tensor]] = [{}, {}, {}]
    for seed, (name, width) in enumerate(vectors.items()):
        for index, (found, count) in enumerate(zip(sets, counts, strict=True)):
            if count:
                drawn = samples(labels, count, width, channels, seed=10 * seed + index)
                found[name] = (drawn + 0.3 * (index == 1)).to(dtype)
    return sets[0], sets[1], sets[2] if counts[2] else None


def weight(labels: int = 2, others: int = 3) -> Tensor:
    return torch.linspace(0, 2, others, device=DEVICE).expand(labels, -1)


def leaves(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.detach().clone().requires_grad_() for name, each in features.items()}


def config(readings: Readings, **options: Any) -> FeatureDriftingConfig:
    options = {"temperatures": (0.05, 0.2), "include_raw_drift_loss": False} | options
    return FeatureDriftingConfig(readings=readings, **options)


Backward = Callable[[dict[str, DriftingLossOutput]], Tensor]


def whole(terms: dict[str, DriftingLossOutput]) -> Tensor:
    return 3 * torch.stack([each.loss for each in terms.values()]).sum()


def solved(
    sets: Sets,
    readings: Readings,
    backward: Backward = whole,
    still: Iterable[str] = (),
    **options: Any,
) -> tuple[dict[str, DriftingLossOutput], dict[str, Tensor | None]]:
    """Terms and gradients; ``still`` names the features that require none."""
    generated = leaves(sets[0])
    for name in still:
        generated[name].requires_grad_(False)
    own = None
    if sets[2] is not None:
        first = next(iter(sets[2].values()))
        own = weight(first.shape[0], first.shape[1]).to(first.device)
    found = feature_space_drifting_loss(
        generated, sets[1], sets[2], own, config=config(readings, **options)
    )
    backward(found.terms).backward()
    return found.terms, {name: each.grad for name, each in generated.items()}


def doubled(sets: Sets) -> Sets:
    wide = [None if each is None else {k: v.double() for k, v in each.items()} for each in sets]
    return tuple(wide)  # pyright: ignore[reportReturnType]


def agree(sets: Sets, readings: Readings, limit: float = 5e-6, **options: Any) -> None:
    """Kernels on all features at once against the eager path in float64."""
    found, gradients = solved(sets, readings, **options)
    exact, others = solved(doubled(sets), readings, **options)
    assert list(found) == list(exact)
    for name, term in found.items():
        allowed = {"loss": 1, "per_label": 1, "feature_scale": 1, "drift_scale": 2}
        for part, times in allowed.items():
            one, two = getattr(term, part), getattr(exact[name], part)
            torch.testing.assert_close(one.double(), two, rtol=times * limit, atol=1e-30)
        gradient, other = gradients[name], others[name]
        assert (gradient is None) == (other is None)
        if gradient is not None and other is not None:
            rounding = 0.0 if gradient.dtype == torch.float32 else torch.finfo(gradient.dtype).eps
            apart = float((gradient.double() - other).norm())
            assert apart <= (limit + rounding) * float(other.norm())


READINGS = {
    "paper": PAPER,
    "release": RELEASE,
    "each label": replace(PAPER, statistics_scope="label"),
    "each vector": replace(RELEASE, location_sharing="none"),
    "each group": replace(PAPER, location_sharing="none", statistics_scope="label"),
    "sums": replace(PAPER, label_reduction="sum", channel_reduction="sum"),
}


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.usefixtures("kernels")
def test_readings(name: str) -> None:
    agree(tap({"one": 1, "two": 2}), READINGS[name])


@pytest.mark.parametrize(
    ("counts", "channels"), [((4, 5, 3), 40), ((26, 7, 0), 8), ((1, 2, 17), 16)], ids=str
)
@pytest.mark.usefixtures("kernels")
def test_sizes(counts: tuple[int, int, int], channels: int) -> None:
    agree(tap({"one": 2, "two": 1}, counts, channels), RELEASE, temperatures=(0.05, 0.1, 0.2))


@pytest.mark.usefixtures("kernels")
def test_more_features_than_a_launch_takes() -> None:
    agree(tap({"a": 1, "b": 2, "c": 1}, channels=4, labels=1), PAPER)


@pytest.mark.usefixtures("kernels")
def test_strides_of_each_feature() -> None:
    """A map's locations with its channels first, its mean as it comes, some that skip samples."""
    sets = tap({"loc": 2, "mean": 1, "skipped": 2}, labels=1)
    for each in sets:
        assert each is not None
        each["loc"] = each["loc"].permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
        each["skipped"] = each["skipped"].repeat_interleave(2, 1)[:, ::2]
    agree(sets, PAPER)


@pytest.mark.usefixtures("kernels")
def test_kinds_that_share_no_launch() -> None:
    """Channels and dtypes side by side, in the order in which they came."""
    one, two = tap({"a": 1, "c": 2}, labels=1), tap({"b": 2}, channels=6, labels=1)
    low = tap({"d": 1}, dtype=torch.bfloat16, labels=1)
    sets = [{**a, **b, **c} for a, b, c in zip(one, two, low, strict=True) if a and b and c]
    agree((sets[0], sets[1], sets[2]), PAPER)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.usefixtures("kernels")
def test_features_of_low_precision(dtype: torch.dtype) -> None:
    agree(tap({"one": 1, "two": 1}, dtype=dtype), PAPER)


@pytest.mark.usefixtures("kernels")
def test_gradients_that_differ_between_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another at each loss, one at labels alone, none at all, and a feature that requires none."""

    def backward(terms: dict[str, DriftingLossOutput]) -> Tensor:
        labels = torch.tensor([1.0, -2.0]).to(terms["both"].per_label)
        both = 2 * terms["both"].loss + (labels * terms["both"].per_label).sum()
        return both - 3 * terms["loss"].loss + terms["labels"].per_label.sum() + terms["still"].loss

    monkeypatch.setattr(launches, "MOST", 5)
    monkeypatch.setattr(kernels_solve, "MOST", 5)
    vectors = {"still": 1, "both": 2, "none": 1, "loss": 1, "labels": 2}
    agree(tap(vectors), RELEASE, backward=backward, still=["still"])


@pytest.mark.usefixtures("kernels")
def test_the_graph_can_be_kept() -> None:
    sets = tap({"one": 1, "two": 2}, labels=1)
    _, once = solved(sets, PAPER)

    def twice(terms: dict[str, DriftingLossOutput]) -> Tensor:
        whole(terms).backward(retain_graph=True)
        return whole(terms)

    _, found = solved(sets, PAPER, backward=twice)
    for name, gradient in once.items():
        assert gradient is not None
        torch.testing.assert_close(found[name], 2 * gradient, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("kernels")
def test_inputs_changed_before_the_backward_pass() -> None:
    sets = tap({"one": 1})

    def changed(terms: dict[str, DriftingLossOutput]) -> Tensor:
        sets[1]["one"].add_(1)
        return whole(terms)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        solved(sets, PAPER, backward=changed)


@pytest.mark.usefixtures("kernels")
def test_a_tap_of_mappings() -> None:
    """All features of a map at once, as one after the other and as all maps at once."""
    sets = {
        name: tap({"loc": 2, "mean": 1}, channels=size, labels=1)
        for name, size in (("a", 5), ("b", 6))
    }

    def taps(generated: Mapping[str, Mapping[str, Tensor]], *, whole: bool) -> Iterator[Any]:
        for name, (_, positive, other) in sets.items():
            assert other is not None
            if whole:
                yield name, generated[name], positive, other
            else:
                for key, each in generated[name].items():
                    yield f"{name}.{key}", each, positive[key], other[key]

    results: list[tuple[Tensor, list[str], list[Tensor]]] = []
    for at_once in (True, False):
        generated = {name: leaves(each[0]) for name, each in sets.items()}
        found = stream_drifting_loss(
            taps(generated, whole=at_once), weight(1), config=config(PAPER), gradient=2.0
        )
        gradients = [leaf.grad for each in generated.values() for leaf in each.values()]
        assert all(each is not None for each in gradients)
        results.append((found.loss, list(found.terms), gradients))  # pyright: ignore[reportArgumentType]
    assert results[0][1] == ["a.loc", "a.mean", "b.loc", "b.mean"] == results[1][1]
    torch.testing.assert_close(results[0][0], results[1][0])
    for one, two in zip(results[0][2], results[1][2], strict=True):
        torch.testing.assert_close(one, two)


class Operators(TorchDispatchMode):
    """Counts the operators that start work on a device: all but views and empty memory."""

    STILL = ("empty", "detach", "alias", "view", "split", "unbind", "select", "expand")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if not name.strip("_").startswith(self.STILL):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def launches_of(
    readings: Readings, maps: int, monkeypatch: pytest.MonkeyPatch, temperatures: tuple[float, ...]
) -> list[str]:
    """What a streamed loss over ``maps`` maps starts, kernels by their names."""
    sets = tap(channels=4)
    found = Operators()
    monkeypatch.setattr(launches, "MOST", 8)
    monkeypatch.setattr(kernels_solve, "MOST", 8)

    class Counted:
        """Stands for a kernel; what it would compute does not matter here."""

        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: Any) -> Any:
            def launch(*arguments: Any, **named: Any) -> None:
                found.names.append(self.name)

            return launch

    with monkeypatch.context() as patched:
        for name in KERNELS:
            patched.setattr(gpu, name, Counted(name))
        generated = [leaves(sets[0]) for _ in range(maps)]
        taps = ((f"{index}", each, sets[1], sets[2]) for index, each in enumerate(generated))
        own = weight().contiguous()
        chosen = config(readings, temperatures=temperatures)
        with found:
            stream_drifting_loss(taps, own, config=chosen, validate=False)
    return found.names


@pytest.mark.parametrize("readings", [PAPER, RELEASE], ids=["paper", "release"])
@pytest.mark.usefixtures("kernels")
def test_five_launches_a_tap(readings: Readings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, all seven statistics of a map; what all taps share is done once."""
    launches_of(readings, 1, monkeypatch, (0.05, 0.2))  # what a process does once is not counted
    one = launches_of(readings, 1, monkeypatch, (0.05, 0.2))
    two = launches_of(readings, 2, monkeypatch, (0.05, 0.2))
    assert [name for name in one if name in KERNELS] == KERNELS
    assert [name for name in two if name in KERNELS] == 2 * KERNELS
    assert len(two) - len(one) == 5, (one, two)
    # Beside them the weights of all targets, what arrives at the losses, and the sum of these.
    assert sorted(set(one) - set(KERNELS)) == ["cat", "full_like", "new_ones", "stack", "sum"]


class Exchange:
    """Adds up what two processes, each in a thread of its own, hand in."""

    def __init__(self) -> None:
        self.barrier = Barrier(2, timeout=60)
        self.parts: dict[int, Mapping[str, Tensor]] = {}

    def added(self, rank: int, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.parts[rank] = sums
        self.barrier.wait()
        totals = {key: self.parts[0][key] + self.parts[1][key] for key in sums}
        self.barrier.wait()
        return totals


@on_gpu
@pytest.mark.parametrize(("precision", "limit"), [("float32", 1e-5), ("tf32", 2e-2)])
@pytest.mark.parametrize("channels", [64, 256])
def test_on_a_gpu(channels: int, precision: str, limit: float) -> None:
    """By squares and by traces."""
    drawn = tap({"loc": 64, "mean": 1, "mean2": 16}, (64, 64, 16), channels)
    sets = [None if each is None else {k: v.cuda() for k, v in each.items()} for each in drawn]
    agree(tuple(sets), RELEASE, limit=limit, precision=precision)  # pyright: ignore[reportArgumentType]


@on_gpu
def test_many_channels_on_a_gpu() -> None:
    """A GPU's own sums of products cut digits off, which adds up over thousands of channels."""
    drawn = tap({"mean": 1}, (64, 64, 16), 4096)
    sets = [None if each is None else {k: v.cuda() for k, v in each.items()} for each in drawn]
    agree(tuple(sets), RELEASE, limit=3e-6)  # pyright: ignore[reportArgumentType]


@on_gpu
def test_a_tap_captured_in_a_graph_without_synchronisation() -> None:
    drawn = tap({"loc": 16, "mean": 1}, (64, 64, 0), 64)
    features, positive = ({k: v.cuda() for k, v in each.items()} for each in drawn if each)
    generated = leaves(features)

    def step() -> Tensor:
        for each in generated.values():
            each.grad = None
        taps = [("map", generated, positive, None)]
        return stream_drifting_loss(taps, config=config(RELEASE)).loss

    captures_without_synchronisation(step)


SHARDS = {
    "batch": PAPER,
    "floors": replace(PAPER, floors="release"),
    "each vector": replace(PAPER, location_sharing="none"),
    "each label": replace(PAPER, statistics_scope="label"),
    "each temperature": replace(PAPER, temperature_aggregation="per_temperature_mse"),
    "sum": replace(PAPER, label_reduction="sum"),
}


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        *((name, "none") for name in SHARDS),
        *((name, kernel) for name in ("batch", "each label") for kernel in KERNELS),
    ],
)
@pytest.mark.usefixtures("kernels")
def test_two_processes(name: str, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels on two processes, one of which has others' samples, in float64 and by the kernels.

    The first has no unconditional samples; a kernel of the second fails. Their
    average gradient, the loss and the statistics are those of one process with all labels.
    """
    sets = tap({"one": 2}, (4, 5, 3), 9, labels=3)
    generated, positive, other = (each["one"] for each in sets if each is not None)
    own = weight(3).clone()
    own[0] = 0  # as if there were none
    parts = [slice(0, 1), slice(1, 3)]
    readings = SHARDS[name]
    leaf = generated.double().requires_grad_()
    chosen = {"temperatures": (0.05, 0.2), "readings": readings}
    exact = drifting_loss(leaf, positive.double(), other.double(), own.double(), **chosen)
    exact.loss.backward()
    pieces = [generated[part].clone().requires_grad_() for part in parts]
    first = problem_of(pieces[0], positive[parts[0]], None, TargetWeights(), **chosen)
    second = problem_of(
        pieces[1], positive[parts[1]], other[parts[1]], TargetWeights(own[parts[1]]), **chosen
    )
    problems = [replace(first, dtype=torch.float64), second]
    if failing != "none":
        monkeypatch.setattr(gpu, failing, Failing())
        with pytest.warns(KernelsUnavailableWarning):
            found = finished(pieces, problems)
    else:
        found = finished(pieces, problems)
    for each in found:
        torch.testing.assert_close(each.loss.double(), exact.loss, rtol=1e-5, atol=0)
    gradient = torch.cat([each.grad for each in pieces if each.grad is not None]) / 2
    assert leaf.grad is not None
    assert float((gradient - leaf.grad).norm()) <= 1e-5 * float(leaf.grad.norm())


def finished(pieces: list[Tensor], problems: list[Problem]) -> list[DriftingLossOutput]:
    """The outputs of two processes, after their backward passes."""
    exchange = Exchange()
    assert [available.kernels_for(each) is None for each in problems] == [True, False]

    def process(rank: int) -> DriftingLossOutput:
        asked = {"": (pieces[rank], problems[rank])}
        return outputs_of(asked, 2, partial(exchange.added, rank))[""]

    with ThreadPoolExecutor(2) as threads:
        found = [*threads.map(process, range(2))]
    for each in found:
        each.loss.backward()
    return found
