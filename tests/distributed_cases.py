"""What each process of tests/test_distributed.py runs: every case on its labels of the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import (
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    drifting_loss,
    feature_space_drifting_loss,
    stream_drifting_loss,
)
from drifting_torch.loss import distributed as distributed_loss

LABELS = 5
SHARDS = {1: (5,), 2: (4, 1), 4: (1, 2, 1, 1)}
"""Labels of each process, by the number of processes."""

READINGS: dict[str, Readings] = {
    "paper": PAPER,
    "release": RELEASE,
    "seed": SEED,
    "per temperature": replace(PAPER, temperature_aggregation="per_temperature_mse"),
    "mean over temperatures": replace(PAPER, temperature_aggregation="per_temperature_mse_mean"),
    "sum over labels": replace(PAPER, label_reduction="sum", channel_reduction="sum"),
    "each location": replace(PAPER, location_sharing="none"),
    "all pairs": replace(PAPER, location_sharing="all_pairs", scale_self_pairs="without"),
    "mean over locations, positives": replace(
        PAPER, location_reduction="mean", scale_samples="positives"
    ),
    "raw vanilla term": replace(RELEASE, vanilla_term="raw"),
}
OWN = {"seed"}
"""Readings by which labels share nothing: processes share the value of the loss alone."""

SHAPES = {"one": (3, 4), "two": (1, 6), "three": (4, 2)}
"""Vectors and channels of each feature."""


def drawn(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    # Labels of very different spread: their own statistics are far from those of the batch.
    spread = torch.logspace(-1, 1, LABELS, dtype=torch.float64)
    made = torch.randn(LABELS, *shape, generator=source, dtype=torch.float64)
    return made * spread.view(-1, *[1] * len(shape))


def batch(shard: slice) -> dict[str, Any]:
    """All inputs of the labels in ``shard``."""
    sets: dict[str, Any] = {}
    for index, (name, count) in enumerate(
        (("generated", 6), ("positive", 5), ("unconditional", 3))
    ):
        features = {
            key: drawn(10 * index + place, count, *shape)[shard]
            for place, (key, shape) in enumerate(SHAPES.items())
        }
        sets[name] = features
        sets[f"{name}_samples"] = drawn(50 + index, count, 2, 3)[shard]
    source = torch.Generator().manual_seed(7)
    sets["weight"] = torch.rand(LABELS, 3, generator=source, dtype=torch.float64)[shard] + 0.5
    return sets


def shard_of(rank: int, world: int) -> slice:
    first = sum(SHARDS[world][:rank])
    return slice(first, first + SHARDS[world][rank])


def config_of(readings: Readings, group: Any) -> FeatureDriftingConfig:
    vectorization = FeatureVectorizationConfig(readings=readings)
    return FeatureDriftingConfig(
        vectorization=vectorization,
        raw_drift_loss_weight=0.5,
        readings=readings,
        process_group=group,
    )


def features_case(
    shard: slice, readings: Readings, group: Any, *, bare: bool = False, streamed: bool = False
) -> dict[str, Any]:
    """Loss, statistics and gradients of all features and the vanilla term.

    ``bare`` says that the last label has no unconditional samples: a process that holds it alone
    passes none, any other gives them weight 0.
    """
    inputs = batch(shard)
    config = config_of(readings, group)
    leaves = {key: value.requires_grad_() for key, value in inputs["generated"].items()}
    samples = inputs["generated_samples"].requires_grad_()
    unconditional, weight = inputs["unconditional"], inputs["weight"]
    options = {
        "generated_samples": samples,
        "positive_samples": inputs["positive_samples"],
        "unconditional_samples": inputs["unconditional_samples"],
        "config": config,
    }
    if bare and shard.start == LABELS - 1:
        unconditional = weight = options["unconditional_samples"] = None
    elif bare and shard.stop == LABELS:
        weight = torch.cat([weight[:-1], torch.zeros_like(weight[-1:])])
    if streamed:
        taps = (
            (key, leaf, inputs["positive"][key], unconditional and unconditional[key])
            for key, leaf in leaves.items()
        )
        found = stream_drifting_loss(taps, weight, gradient=3.0, **options)
    else:
        found = feature_space_drifting_loss(
            leaves, inputs["positive"], unconditional, weight, **options
        )
        (3.0 * found.loss).backward(retain_graph=True)
    assert found.raw_term is not None
    terms = {**found.terms, "raw": found.raw_term}
    return {
        "loss": found.loss.detach(),
        "per_label": torch.stack([term.per_label.detach() for term in terms.values()], 1),
        "scales": [
            part for term in terms.values() for part in (term.feature_scale, term.drift_scale)
        ],
        "gradients": [*(leaf.grad for leaf in leaves.values()), samples.grad]
        + ([] if streamed else bent(3.0 * found.loss, [*leaves.values(), samples])),
    }


def bent(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The Hessian times the leaves themselves."""
    slopes = torch.autograd.grad(loss, leaves, create_graph=True)
    return [*torch.autograd.grad(slopes, leaves, [leaf.detach() for leaf in leaves])]


def one_feature_case(shard: slice, group: Any, **ablation: Any) -> dict[str, Any]:
    """``drifting_loss`` with one temperature and every kind of weight."""
    inputs = batch(shard)
    leaf = inputs["generated"]["one"].requires_grad_()
    found = drifting_loss(
        leaf,
        inputs["positive"]["one"],
        inputs["unconditional"]["one"],
        inputs["weight"],
        positive_weight=inputs["weight"][:, :1].expand(-1, 5) * 0.7,
        temperatures=(0.1,),
        process_group=group,
        **ablation,
    )
    (3.0 * found.loss).backward(retain_graph=True)
    return {
        "loss": found.loss.detach(),
        "per_label": found.per_label.detach(),
        "scales": [found.feature_scale, found.drift_scale],
        "gradients": [leaf.grad, *bent(3.0 * found.loss, [leaf])],
    }


def generator_case(shard: slice, group: Any) -> dict[str, Any]:
    """The gradient that a tiny generator's parameters get, by DistributedDataParallel."""
    torch.manual_seed(3)
    net: torch.nn.Module = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 12)
    ).double()
    parameters = list(net.parameters())
    if group is not None:
        net = DistributedDataParallel(net)
    noise = drawn(90, 6, 6)[shard]
    inputs = batch(shard)
    made = net(noise.flatten(0, 1)).unflatten(0, (-1, 6)).unflatten(-1, (3, 4))
    found = feature_space_drifting_loss(
        {"one": made},
        {"one": inputs["positive"]["one"]},
        config=FeatureDriftingConfig(include_raw_drift_loss=False),
        process_group=group,
    )
    found.loss.backward()
    return {
        "loss": found.loss.detach(),
        "parameters": [each.grad for each in parameters],
    }


def all_cases(shard: slice, group: Any) -> dict[str, dict[str, Any]]:
    """Every case on the labels in ``shard``."""
    cases = {name: features_case(shard, each, group) for name, each in READINGS.items()}
    cases["no unconditional"] = features_case(shard, PAPER, group, bare=True)
    cases["streamed"] = features_case(shard, PAPER, group, streamed=True)
    cases["one feature"] = one_feature_case(shard, group)
    cases["scaled apart"] = one_feature_case(shard, group, attraction=1.5, repulsion=0.5)
    cases["without S"] = one_feature_case(shard, group, feature_normalization=False)
    cases["generator"] = generator_case(shard, group)
    return cases


def refusals(rank: int) -> dict[str, str]:
    """What processes say whose arguments do not fit together."""
    last = rank == distributed.get_world_size() - 1
    x, y = drawn(1, 4, 2, 3)[:1], drawn(2, 4, 2, 3)[:1]
    cut = x[..., :2] if last else x
    broken = x.clone()
    broken[0, 0, 0, 0] = float("nan") if last else 0.0
    names = {"a": x, "z": x} if last else {"a": x, "b": x}
    off = FeatureDriftingConfig(include_raw_drift_loss=False)
    calls: dict[str, Any] = {
        "temperatures": lambda: drifting_loss(
            x, y, temperatures=(0.1,) if last else (0.2,), process_group="world"
        ),
        "readings": lambda: drifting_loss(
            x, y, readings=RELEASE if last else PAPER, process_group="world"
        ),
        "ablation": lambda: drifting_loss(
            x, y, repulsion=0.5 if last else 1.0, process_group="world"
        ),
        "channels": lambda: drifting_loss(cut, y[..., : cut.shape[-1]], process_group="world"),
        "features": lambda: feature_space_drifting_loss(
            names, names, config=off, process_group="world"
        ),
        "keys": lambda: feature_space_drifting_loss(
            {"a": x}, names if last else {"a": x}, config=off, process_group="world"
        ),
        "values": lambda: drifting_loss(broken, y, process_group="world"),
        "missing": lambda: drifting_loss(
            x, y, y, None if last else y[:, :, 0, 0].abs(), process_group="world"
        ),
        "samples": lambda: feature_space_drifting_loss(
            {"a": x},
            {"a": x},
            generated_samples=x,
            positive_samples=x.numpy() if last else x,  # pyright: ignore[reportArgumentType] -- the wrong type is what is tried
            process_group="world",
        ),
        "word": lambda: drifting_loss(x, y, process_group="all"),
        "type": lambda: drifting_loss(x, y, process_group=3),  # pyright: ignore[reportArgumentType] -- the wrong type is what is tried
        "device": lambda: drifting_loss(x.to("meta"), y.to("meta"), process_group="world"),
    }
    said: dict[str, str] = {}
    for name, call in calls.items():
        try:
            call()
            said[name] = "nothing"
        except (TypeError, ValueError) as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def messages(shard: slice, readings: Readings) -> int:
    """How many reductions one call over all features makes."""
    count, reduce = 0, distributed.all_reduce

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return reduce(*arguments, **options)

    distributed.all_reduce = counted
    try:
        features_case(shard, readings, "world")
    finally:
        distributed.all_reduce = reduce
    return count


def run(rank: int, world: int, folder: str, local: bool) -> None:
    """One process: solve every case, or with ``local`` each as if there were no others."""
    torch.set_num_threads(1)
    store = Path(folder) / "store"
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    try:
        if local:
            distributed_loss._reduced = lambda group, sums: dict(sums)
        shard = shard_of(rank, world)
        found: dict[str, Any] = {"cases": all_cases(shard, "world")}
        if not local:
            found["messages"] = {name: messages(shard, each) for name, each in READINGS.items()}
            found["refusals"] = refusals(rank)
        torch.save(found, Path(folder) / f"{rank}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
