"""Micro-batches against the whole batch: ``python -m benchmarks.micro_batches`` from ``impl``.

For 1, 2, 4 and 8 micro-batches: the relative difference of the gradients from the whole batch's,
and the most bytes that autograd kept at once, counted tensor by tensor with its own hooks, so that
the figures are the same on every machine. ``--width``, ``--labels``, ``--samples`` set the size.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from drifting_torch import (
    FeatureVectorizationConfig,
    GroupedDriftStepConfig,
    MAEResNetEncoder,
    extract_features,
    grouped_drift_training_step,
)

PARTS = (1, 2, 4, 8)


@dataclass
class SavedBytes:
    """Bytes of the storages that autograd keeps, each counted once: now, and at most."""

    now: int = 0
    peak: int = 0
    _held: dict[int, int] = field(default_factory=dict[int, int])

    def pack(self, tensor: Tensor) -> Saved:
        """Count a tensor that autograd is about to keep."""
        return Saved(tensor, self)

    def add(self, key: int, size: int) -> None:
        """Count a storage, unless it is kept already."""
        if not self._held.get(key):
            self.now += size
            self.peak = max(self.peak, self.now)
        self._held[key] = self._held.get(key, 0) + 1

    def remove(self, key: int, size: int) -> None:
        """Stop counting a storage that nobody keeps any more."""
        self._held[key] -= 1
        if not self._held[key]:
            self.now -= size


class Saved:
    """A tensor that autograd keeps; it is no longer counted once dropped."""

    def __init__(self, tensor: Tensor, counter: SavedBytes) -> None:
        storage = tensor.untyped_storage()
        self.tensor, self._counter = tensor, counter
        self._key, self._size = storage.data_ptr(), storage.nbytes()
        counter.add(self._key, self._size)

    def __del__(self) -> None:
        self._counter.remove(self._key, self._size)


class SmallGenerator(nn.Module):
    """Three convolutions; the class and α are channel shifts."""

    def __init__(self, channels: int = 4, hidden: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)
        self.classes = nn.Embedding(10, hidden)
        self.alpha = nn.Linear(1, hidden)

    def forward(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        """Samples [B, channels, H, W]."""
        shift = self.classes(labels) + self.alpha(alpha[:, None])
        x = torch.tanh(self.first(noise) + shift[:, :, None, None])
        return self.last(torch.tanh(self.middle(x)))


@dataclass(frozen=True)
class Run:
    """What one number of micro-batches gave."""

    parts: int
    gradient: Tensor
    saved: int


def measured(parts: int, width: int, labels: int, samples: int, dtype: torch.dtype) -> Run:
    """One step with ``parts`` micro-batches, from the same start whatever their number."""
    torch.manual_seed(0)
    generator = SmallGenerator().to(dtype)
    encoder = MAEResNetEncoder(width).to(dtype).eval().requires_grad_(False)
    side = (4, 32, 32)
    inputs = (
        torch.randn(labels, samples, *side, dtype=dtype),
        torch.arange(labels) % 10,
        1.0 + torch.rand(labels, dtype=dtype),
        torch.randn(labels, samples, *side, dtype=dtype),
        torch.randn(labels, 2, *side, dtype=dtype),
    )
    counter = SavedBytes()
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda saved: saved.tensor):
        grouped_drift_training_step(
            generator,
            *inputs,
            optimizer=torch.optim.SGD(generator.parameters(), lr=0.0),
            encoder=encoder,
            config=GroupedDriftStepConfig(gradient_clip=None, micro_batches=parts),
        )
    found = [each.grad for each in generator.parameters()]
    flat = torch.cat([each.flatten() for each in found if each is not None])
    return Run(parts, flat, counter.peak)


def feature_bytes(width: int, count: int, dtype: torch.dtype) -> int:
    """Bytes of all features of ``count`` samples: held whatever the number of micro-batches."""
    encoder = MAEResNetEncoder(width).to(dtype).eval().requires_grad_(False)
    one = torch.zeros(1, 4, 32, 32, dtype=dtype)
    found = extract_features(encoder, one, FeatureVectorizationConfig())
    return count * sum(each.numel() for each in (*found.values(), one)) * one.element_size()


def main() -> None:
    """Print one line for each number of micro-batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=8, help="width of the encoder")
    parser.add_argument("--labels", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8, help="samples for each label")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    options = parser.parse_args()
    dtype = torch.float64 if options.dtype == "float64" else torch.float32
    size = options.width, options.labels, options.samples
    print(f"width {size[0]}, {size[1]} labels of {size[2]} samples, 32×32×4, {options.dtype}")
    print("micro-batches  gradient difference  kept by autograd  of the whole batch's")
    whole: Run | None = None
    for parts in PARTS:
        run = measured(parts, *size, dtype)
        whole = whole or run
        difference = float((run.gradient - whole.gradient).norm() / whole.gradient.norm())
        mib, share = run.saved / 2**20, run.saved / whole.saved
        print(f"{parts:13d}  {difference:19.1e}  {mib:12.1f} MiB  {share:19.1%}")
    held = feature_bytes(size[0], size[1] * size[2], dtype) / 2**20
    print(f"all features and samples of the batch: {held:.1f} MiB, once, and once their gradient")


if __name__ == "__main__":
    main()
