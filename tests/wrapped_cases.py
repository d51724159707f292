"""Steps of generators in wrappers: what each process of tests/test_wrapped_modules.py runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from toy_step import CLASSES, Toy, toy

from drifting_torch import MovingAverage, clip_gradient_norm

WRAPPINGS = ("ddp", "fsdp", "fsdp, checkpoints", "ddp, sparse")
PARTS = (1, 3)
LABELS = 4
RATE, LIMIT, DECAY = 0.5, 0.25, 0.5


class Recomputed(nn.Module):
    """A layer that is computed again in the backward pass, by either kind of checkpoint."""

    def __init__(self, layer: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.layer, self.reentrant = layer, reentrant

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.layer, x, use_reentrant=self.reentrant)


def given(wrapping: str, parts: int, labels: slice, group: str | None) -> Toy:
    """The batch's labels in ``labels``, and a generator that is the same on every process."""
    whole = toy(labels=LABELS)
    features = whole.config.feature_config
    assert features is not None
    assert whole.unconditional is not None
    if "sparse" in wrapping:
        torch.manual_seed(5)
        whole.generator.classes = nn.Embedding(CLASSES, 6, sparse=True).double()
    if "checkpoints" in wrapping:
        whole.generator.last = Recomputed(whole.generator.last, reentrant=True)
        whole.encoder.deeper = Recomputed(whole.encoder.deeper, reentrant=True).eval()
    return whole.but(
        noise=whole.noise[labels],
        labels=whole.labels[labels],
        alpha=whole.alpha[labels],
        positive=whole.positive[labels],
        unconditional=whole.unconditional[labels],
    ).configured(
        feature_config=replace(features, process_group=group),
        micro_batches=parts,
        gradient_clip=LIMIT,
    )


def wrapped(generator: nn.Module, wrapping: str) -> nn.Module:
    """The generator as these wrappings hand it to the optimiser."""
    if wrapping.startswith("ddp"):
        return DistributedDataParallel(generator)
    mesh = mesh_of_all()
    fully_shard(generator.get_submodule("first"), mesh=mesh)
    return fully_shard(generator, mesh=mesh)


def mesh_of_all() -> DeviceMesh:
    return init_device_mesh("cpu", (distributed.get_world_size(),))


def trained(toy_of: Toy, module: nn.Module) -> dict[str, Any]:
    """Two steps: parameters, averages and gradients by name, and the norms before clipping."""
    average = MovingAverage(module, (DECAY,))
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    norms = [
        float(toy_of.but(generator=module).step(optimizer=optimizer, average=average).gradient_norm)
        for _ in range(2)
    ]
    state = average.state_dict()["averages"][DECAY]
    return {
        "norms": norms,
        "clipped": float(clip_gradient_norm(module.parameters(), None)),
        "parameters": [entire(each) for each in module.parameters()],
        "averages": {name: entire(each) for name, each in state.items()},
    }


def entire(value: Tensor) -> Tensor:
    """The whole of a tensor that may be spread over processes."""
    return value.detach().full_tensor() if hasattr(value, "full_tensor") else value.detach().clone()  # pyright: ignore[reportAttributeAccessIssue] -- a DTensor's


def run(rank: int, world: int, folder: str) -> None:
    """One process: its half of the labels, by every wrapping."""
    torch.set_num_threads(1)
    store = Path(folder) / "store"
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    mine = slice(rank * LABELS // world, (rank + 1) * LABELS // world)
    try:
        found: dict[str, Any] = {}
        for wrapping in WRAPPINGS:
            for parts in PARTS:
                half = given(wrapping, parts, mine, "world")
                if "checkpoints" in wrapping:  # and an encoder that nobody froze
                    half.encoder = fully_shard(
                        half.encoder.requires_grad_(True), mesh=mesh_of_all()
                    )
                ends = trained(half, wrapped(half.generator, wrapping))
                ends["others"] = [each.grad is None for each in half.encoder.parameters()]
                found[f"{wrapping} {parts}"] = ends
        torch.save(found, Path(folder) / f"{rank}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
