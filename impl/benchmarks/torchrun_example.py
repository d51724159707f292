"""Training on many processes: ``torchrun --nproc-per-node 2 impl/benchmarks/torchrun_example.py``.

Each process holds its own labels; ``process_group="world"`` makes S and λ those of the whole batch
(A.6), and DistributedDataParallel averages the gradients. Here 5 labels on any number of processes
up to 5, on CPUs by gloo or on GPUs by NCCL. The first step is held to one process's.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from drifting_spec import RELEASE
from drifting_torch import (
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    cfg_alpha_to_weight,
    feature_space_drifting_loss,
    group_by_label,
    vectorize_feature_maps,
)

LABELS, GENERATED, POSITIVE, UNCONDITIONAL = 5, 16, 16, 4
VECTORS = FeatureVectorizationConfig(readings=RELEASE)


class Generator(nn.Module):
    """Noise [B, 8] to images [B, 2, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 128))

    def forward(self, noise: Tensor) -> Tensor:
        """Generate."""
        return self.layers(noise).unflatten(1, (2, 8, 8))


def features(encoder: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Features [L, N, V, C] of images [L, N, 2, 8, 8]."""
    labels = torch.arange(len(images)).repeat_interleave(images.shape[1])
    flat = images.flatten(0, 1)
    return group_by_label(vectorize_feature_maps({"map": encoder(flat)}, VECTORS, flat), labels)


def loss_of(
    generator: nn.Module, encoder: nn.Module, step: int, labels: slice, group: str | None
) -> Tensor:
    """The loss of one step on some labels of the batch; all processes draw the same batch."""
    source = torch.Generator().manual_seed(step)
    device = next(generator.parameters()).device
    noise = torch.randn(LABELS, GENERATED, 8, generator=source)[labels].to(device)
    positive = torch.randn(LABELS, POSITIVE, 2, 8, 8, generator=source)[labels].to(device)
    everything = torch.randn(LABELS, UNCONDITIONAL, 2, 8, 8, generator=source)[labels].to(device)
    alpha = 1.0 + 2.0 * torch.rand(LABELS, generator=source)[labels].to(device)
    images = generator(noise.flatten(0, 1)).unflatten(0, noise.shape[:2])
    return feature_space_drifting_loss(
        features(encoder, images),
        features(encoder, positive),
        features(encoder, everything),
        cfg_alpha_to_weight(alpha, GENERATED, UNCONDITIONAL),
        generated_samples=images,
        positive_samples=positive,
        unconditional_samples=everything,
        config=FeatureDriftingConfig(readings=RELEASE, process_group=group),
    ).loss


def main() -> None:
    """Train for a few steps, after holding the first gradient to one process's."""
    cuda = torch.cuda.is_available()
    distributed.init_process_group("nccl" if cuda else "gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    if world > LABELS:
        raise SystemExit(f"{world} processes, expected at most {LABELS}: a label is never split")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    mine = slice(rank * LABELS // world, (rank + 1) * LABELS // world)
    torch.manual_seed(0)
    generator, encoder = Generator().to(device), nn.Conv2d(2, 12, 3, padding=1).to(device)
    alone = loss_of(generator, encoder, 0, slice(0, LABELS), None)
    expected = torch.autograd.grad(alone, list(generator.parameters()))
    parallel = DistributedDataParallel(generator)
    optimizer = torch.optim.AdamW(parallel.parameters(), lr=1e-2)
    for step in range(5):
        optimizer.zero_grad()
        loss = loss_of(parallel, encoder, step, mine, "world")
        loss.backward()
        if step == 0:
            pairs = zip(generator.parameters(), expected, strict=True)
            apart = max(
                float((p.grad - e).norm() / e.norm()) for p, e in pairs if p.grad is not None
            )
            print(
                f"rank {rank}: labels {mine.start} to {mine.stop - 1}, loss {loss.item():.6f} "
                f"(one process: {alone.item():.6f}), gradient apart by {apart:.1e}",
                flush=True,
            )
        optimizer.step()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
