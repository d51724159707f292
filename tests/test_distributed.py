"""Labels spread over processes: the same loss and gradients as in one; features tap by tap."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_cases import (
    LABELS,
    OWN,
    READINGS,
    SHARDS,
    all_cases,
    batch,
    features_case,
    run,
    shard_of,
)
from torch import Tensor, multiprocessing

from drifting_spec import PAPER
from drifting_torch import (
    FeatureDriftingConfig,
    drifting_loss,
    feature_space_drifting_loss,
    stream_drifting_loss,
)

TOLERANCE = 1e-12
CASES = [*READINGS, "no unconditional", "streamed", "one feature", "generator"]


def spread(world: int, folder: Path, *, local: bool = False) -> list[dict[str, Any]]:
    """What each of ``world`` processes found."""
    multiprocessing.spawn(run, args=(world, str(folder), local), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """What one process finds that has all labels."""
    return all_cases(slice(0, LABELS), None)


@pytest.fixture(scope="module", params=sorted(SHARDS))
def processes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    return spread(request.param, tmp_path_factory.mktemp("processes"))


def apart(found: Tensor, expected: Tensor) -> float:
    """Relative distance in the Euclidean norm."""
    return float((found - expected).norm() / expected.norm())


def errors(case: str, found: list[dict[str, Any]], alone: dict[str, dict[str, Any]]) -> float:
    """The worst of loss, statistics and (averaged) gradients over all processes."""
    expected, world = alone[case], len(found)
    worst = [0.0]
    for rank, each in enumerate(found):
        own, shard = each["cases"][case], shard_of(rank, world)
        worst.append(apart(own["loss"], expected["loss"]))
        if case == "generator":
            pairs = zip(own["parameters"], expected["parameters"], strict=True)
            worst += [apart(*pair) for pair in pairs]
            continue
        worst.append(apart(own["per_label"], expected["per_label"][shard]))
        for mine, theirs in zip(own["scales"], expected["scales"], strict=True):
            here = theirs if case not in OWN else theirs[..., shard, :]
            worst.append(apart(mine, here))
        # Averaging over processes divides what this one contributes by their number.
        for mine, theirs in zip(own["gradients"], expected["gradients"], strict=True):
            worst.append(apart(mine / world, theirs[shard]))
    return max(worst)


@pytest.mark.parametrize("case", CASES)
def test_many_processes_find_what_one_finds(
    case: str, processes: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    assert errors(case, processes, alone) <= TOLERANCE


def test_there_are_two_messages_for_all_features(processes: list[dict[str, Any]]) -> None:
    for each in processes:
        assert each["messages"] == {name: 1 if name in OWN else 2 for name in READINGS}


def test_processes_that_disagree_all_say_the_same(processes: list[dict[str, Any]]) -> None:
    said = [each["refusals"] for each in processes]
    assert all(each == said[0] for each in said)
    last = len(said) - 1
    words = {
        "keys": f"ValueError: rank {last} of process_group: positive holds other features",
        "values": f"ValueError: rank {last} of process_group: generated[0, 0, 0, 0] is nan",
        "missing": f"ValueError: rank {last} of process_group: unconditional_weight is None",
        "samples": f"TypeError: rank {last} of process_group: positive_samples is ndarray",
        "word": "ValueError: process_group is 'all', expected 'world' or a ProcessGroup",
        "type": "TypeError: process_group is int",
        "device": "ValueError: rank 0 of process_group: generated is on meta",
    }
    if last:
        words |= {
            "temperatures": "ValueError: the ranks of process_group disagree on the temperatures",
            "readings": "ValueError: the ranks of process_group disagree on the readings",
            "ablation": "ValueError: the ranks of process_group disagree on the ablation: ",
            "channels": "ValueError: the ranks of process_group disagree on the channels C",
            "features": "ValueError: the ranks of process_group disagree on the features: a, b on",
        }
    for name, beginning in words.items():
        assert said[0][name].startswith(beginning), said[0][name]


def test_statistics_of_one_process_would_show(
    tmp_path: Path, alone: dict[str, dict[str, Any]]
) -> None:
    found = spread(2, tmp_path, local=True)
    for case in CASES:
        assert errors(case, found, alone) > 1e-3, case


def test_a_group_needs_torch_distributed() -> None:
    x = torch.randn(1, 3, 1, 2)
    with pytest.raises(RuntimeError, match=r"torch\.distributed is not initialised"):
        drifting_loss(x, x + 1, process_group="world")


def test_a_stream_equals_all_at_once() -> None:
    everything = slice(0, LABELS)
    whole = features_case(everything, PAPER, None)
    streamed = features_case(everything, PAPER, None, streamed=True)
    assert torch.equal(whole["loss"], streamed["loss"])
    first = whole["gradients"][: len(streamed["gradients"])]  # no second derivatives of a stream
    for one, two in zip(first, streamed["gradients"], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-15, atol=0)


def test_a_stream_holds_one_tap() -> None:
    """All that a tap brought and left is gone when the next one is asked for."""
    alive: list[weakref.ref[Tensor]] = []
    maps = torch.randn(4, 2, 6, 8, 5, dtype=torch.float64, requires_grad=True)
    before = tensors()

    def taps() -> Iterator[tuple[str, Tensor, Tensor, Tensor | None]]:
        for index in range(4):
            assert not [each for each in alive if each() is not None]
            # One tap's loss, scales and energies are small; its features are not.
            assert sum(tensors().values()) - sum(before.values()) <= 40 * index
            generated = maps[index] * 1.5
            positive = torch.randn(2, 6, 8, 5, dtype=torch.float64)
            alive.extend((weakref.ref(generated), weakref.ref(positive)))
            yield f"map{index}", generated, positive, None
            del generated, positive

    stream_drifting_loss(taps(), config=FeatureDriftingConfig(include_raw_drift_loss=False))
    assert maps.grad is not None
    assert bool((maps.grad.flatten(1).norm(dim=1) > 0).all())


def tensors() -> dict[int, int]:
    """Entries of every live tensor storage but the encoder's maps and their gradient."""
    gc.collect()
    found = [each for each in gc.get_objects() if type(each) is Tensor]
    return {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() // 8
        for each in found
        if each.untyped_storage().nbytes() // 8 != 4 * 2 * 6 * 8 * 5
    }


def test_a_stream_refuses_what_it_cannot_take() -> None:
    x = torch.randn(1, 3, 1, 2)
    off = FeatureDriftingConfig(include_raw_drift_loss=False)
    with pytest.raises(ValueError, match="taps yields 'a' a second time"):
        stream_drifting_loss([("a", x, x + 1, None)] * 2, config=off)
    with pytest.raises(ValueError, match="taps yields no features"):
        stream_drifting_loss([], config=off)
    with pytest.raises(ValueError, match="feature 'a': positive has shape"):
        stream_drifting_loss([("a", x, x[..., :1], None)], config=off)
    with pytest.raises(ValueError, match="generated_samples is None"):
        stream_drifting_loss([("a", x, x + 1, None)])
    leaf = x.clone().requires_grad_()
    with pytest.raises(ValueError, match="generated_samples is None"):
        stream_drifting_loss([("a", leaf, x + 1, None)])
    assert leaf.grad is None  # nothing was differentiated by then
    with pytest.raises(
        ValueError, match=r"generated_samples has shape \(1, 2, 2\), expected \(1, 3"
    ):
        stream_drifting_loss(
            [("a", x, x + 1, None)], generated_samples=x[:, :2, 0], positive_samples=x[:, :, 0]
        )
    with pytest.raises(TypeError, match=r"taps yields tuple, expected tuples \(key, generated"):
        stream_drifting_loss([("a", x, x + 1)], config=off)  # pyright: ignore[reportArgumentType] -- the wrong type is what is tried
    with pytest.raises(TypeError, match="gradient is 'x', expected a number"):
        stream_drifting_loss([("a", x, x + 1, None)], config=off, gradient="x")  # pyright: ignore[reportArgumentType] -- the wrong type is what is tried
    with pytest.raises(TypeError, match="tap 'a' yields dict, Tensor, NoneType, expected all"):
        stream_drifting_loss([("a", {"b": x}, x + 1, None)], config=off)
    with pytest.raises(ValueError, match="tap 'a': positive holds other features"):
        stream_drifting_loss([("a", {"b": x}, {"c": x}, None)], config=off)
    with pytest.raises(ValueError, match=r"feature 'a\.b': positive has shape"):
        stream_drifting_loss([("a", {"b": x}, {"b": x[..., :1]}, None)], config=off)
    with pytest.raises(ValueError, match=r"taps yields 'a\.b' a second time"):
        stream_drifting_loss([("a", {"b": x}, {"b": x + 1}, None)] * 2, config=off)


def test_the_page_on_many_gpus_holds_what_its_script_prints() -> None:
    from benchmarks import many_gpus

    page = many_gpus.PAGE.read_text(encoding="utf-8")
    assert many_gpus.BEGIN + many_gpus.tables() + many_gpus.END in page


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("group", [None, "world"])
def test_a_compiled_step_is_compiled_once(group: str | None, tmp_path: Path) -> None:
    """Values, weights and learning change from step to step; the graph does not."""
    from torch import distributed
    from torch._dynamo.testing import CompileCounterWithBackend

    if group:
        store = f"file://{tmp_path / 'store'}"
        distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    net = torch.nn.Linear(4, 4).double()

    def step(noise: Tensor, inputs: dict[str, Any]) -> Tensor:
        found = feature_space_drifting_loss(
            {"one": net(noise)},
            {"one": inputs["positive"]["one"]},
            {"one": inputs["unconditional"]["one"]},
            inputs["weight"],
            generated_samples=noise,
            positive_samples=inputs["positive"]["one"],
            unconditional_samples=inputs["unconditional"]["one"],
            process_group=group,
        )
        return 2 * found.loss

    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    try:
        compiled = torch.compile(step, backend=counter, fullgraph=group is None)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        graphs: list[int] = []
        for turn in range(4):
            inputs = batch(slice(0, 2))
            noise = torch.randn(2, 6, 3, 4, dtype=torch.float64)
            inputs["weight"] = inputs["weight"] + turn
            gradients: list[Tensor] = []
            for function in (step, compiled):
                optimizer.zero_grad()
                function(noise, inputs).backward()
                gradients += [
                    each.grad.clone() for each in net.parameters() if each.grad is not None
                ]
            torch.testing.assert_close(gradients[:2], gradients[2:], rtol=1e-12, atol=1e-14)
            optimizer.step()
            graphs.append(counter.frame_count)
        assert graphs == [graphs[0]] * 4
    finally:
        torch._dynamo.reset()
        if group:
            distributed.destroy_process_group()
