"""Train a class-conditional generator with queues, guidance and averages: seconds on a CPU.

The images are stripes: lying ones of class 0, standing ones of class 1.
"""

import torch

from drifting_torch import (
    AlphaDistribution,
    GroupedDriftStepConfig,
    MAEResNetEncoder,
    MovingAverage,
    SampleQueue,
    grouped_drift_training_step,
    sample_alpha,
)

CLASSES, LABELS, N, P, N_UNC, SIDE = 2, 2, 16, 16, 4, 8  # of Table 8: 64 labels, N = P = 64, 16


class Generator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.classes = torch.nn.Embedding(CLASSES, 16)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(16 + 16 + 1, 128), torch.nn.SiLU(), torch.nn.Linear(128, SIDE**2)
        )

    def forward(self, noise, labels, alpha):  # [B, 16], [B], [B] → images [B, 1, SIDE, SIDE]
        held = torch.cat([noise, self.classes(labels), alpha[:, None]], dim=1)
        return self.layers(held).unflatten(1, (1, SIDE, SIDE))


def batch(size):
    labels = torch.randint(CLASSES, (size,), generator=rng)
    phase = 6.3 * torch.rand(size, 1, 1, 1, generator=rng)
    rows = torch.sin(1.6 * torch.arange(SIDE).view(SIDE, 1) + phase).expand(-1, 1, SIDE, SIDE)
    return torch.where(labels.view(-1, 1, 1, 1) == 0, rows, rows.transpose(2, 3)), labels


torch.manual_seed(0)
rng = torch.Generator().manual_seed(0)
generator = Generator()
# Untrained here; MaskedAutoencoder(encoder) pre-trains one. Its map has sides of 8: 4 divides them.
encoder = MAEResNetEncoder(8, in_channels=1, blocks=(1,)).eval().requires_grad_(False)
optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-2)
average = MovingAverage(generator, (0.95,))
law, queue = AlphaDistribution.of_table8("ablation"), SampleQueue(CLASSES)
config = GroupedDriftStepConfig(classes=CLASSES)

for step in range(151):
    queue.push(*batch(16))
    if queue.counts.min() < P or queue.global_count < N_UNC:  # a draw repeats no sample
        print(f"{step}: the queue is filling, {queue.counts.tolist()} of {P} samples a class")
        continue
    labels = torch.randint(CLASSES, (LABELS,), generator=rng)
    out = grouped_drift_training_step(
        generator,
        torch.randn(LABELS, N, 16, generator=rng),
        labels,
        sample_alpha(LABELS, law, generator=rng),
        queue.sample_positive(labels, P, generator=rng),
        queue.sample_unconditional(LABELS, N_UNC, generator=rng),
        optimizer=optimizer, encoder=encoder, config=config, average=average,
    )  # fmt: skip
    if step % 25 == 0:
        print(f"{step}: drift energy {out.logs()['drift_energy']:.3f}")

with average.applied(0.95) as averaged, torch.no_grad():
    labels = torch.arange(CLASSES).repeat_interleave(64)
    images = averaged(torch.randn(len(labels), 16, generator=rng), labels, torch.ones(len(labels)))
along, down = (images.diff(dim=each).square().mean(dim=(1, 2, 3)) for each in (3, 2))
right = ((along < down) == (labels == 0)).float().mean().item()
print(f"{right:.0%} of the images lie or stand as their class does")
