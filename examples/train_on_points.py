"""Train a generator of points in the plane with the drifting loss: seconds on a CPU."""

import torch

from drifting_torch import drifting_loss

torch.manual_seed(0)
generator = torch.nn.Sequential(
    torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
    torch.nn.Linear(64, 2),
)  # fmt: skip
optimizer = torch.optim.AdamW(generator.parameters(), lr=5e-3)
corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])

for step in range(301):
    real = corners[torch.randint(4, (96,))] + 0.1 * torch.randn(96, 2)
    generated = generator(torch.randn(96, 2))
    # Features [labels, samples, vectors, channels]: one label, each point is its one vector.
    out = drifting_loss(generated[None, :, None], real[None, :, None])
    optimizer.zero_grad()
    out.loss.backward()
    optimizer.step()
    if step % 100 == 0:
        near = torch.cdist(generated.detach(), corners).min(dim=1).values
        energy = out.drift_energy.mean().item()  # the loss itself hardly moves
        print(f"{step}: loss {out.loss.item():.2f}, drift energy {energy:.4f}, "
              f"{(near < 0.4).float().mean().item():.0%} of the points near a corner")  # fmt: skip
