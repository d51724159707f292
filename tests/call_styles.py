"""Eight styles in which people write the drifting loss, each with the paper's own meaning.

All of them are thin shells around one plain Algorithm 2, so that a form that puts a case wrongly
shows as a difference from the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PAPER = (0.02, 0.05, 0.2)


def affinities(distance: Tensor, own: Tensor, temperature: Tensor | float,
               weight: Tensor | float = 1.0) -> Tensor:  # fmt: skip
    logit = (-distance / temperature).masked_fill(own, -torch.inf)
    w = torch.as_tensor(weight, dtype=distance.dtype)
    row, column = (logit + w.log()).softmax(-1), logit.softmax(-2).nan_to_num()
    return (w * row * column).sqrt()


def drift(x: Tensor, pos: Tensor, neg: Tensor, near: Tensor, far: Tensor) -> Tensor:
    near, far = near * far.sum(-1, keepdim=True), far * near.sum(-1, keepdim=True)
    origin = pos[..., :1, :]
    return near @ (pos - origin) - far @ (neg - origin)


def distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


# Style 1: the pseudo-code, negatives explicit, generated samples first.
def compute_V(x: Tensor, y_pos: Tensor, y_neg: Tensor, T: float, mask_self: bool = True) -> Tensor:
    y = torch.cat([y_pos, y_neg], dim=-2)
    own = torch.zeros(x.shape[-2], y.shape[-2], dtype=torch.bool)
    if mask_self:
        own[:, y_pos.shape[-2] :].fill_diagonal_(True)
    a = affinities(distances(x, y), own, T)
    count = y_pos.shape[-2]
    return drift(x, y_pos, y_neg, a[..., :count], a[..., count:])


# Style 2: negatives implicit, the affinities returned as well.
def drifting_field(gen: Tensor, pos: Tensor, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.cat([pos, gen], dim=-2)
    own = torch.zeros(gen.shape[-2], y.shape[-2], dtype=torch.bool)
    own[:, pos.shape[-2] :].fill_diagonal_(True)
    a = affinities(distances(gen, y), own, tau)
    near, far = a[..., : pos.shape[-2]], a[..., pos.shape[-2] :]
    return drift(gen, pos, gen, near, far), near, far


# Style 3: a leading batch axis, real samples first among the negatives.
def batched_field(x: Tensor, pos: Tensor, neg: Tensor, temperature: float) -> Tensor:
    y = torch.cat([pos, neg], dim=-2)
    own = torch.zeros(x.shape[-2], y.shape[-2], dtype=torch.bool)
    own[:, -x.shape[-2] :].fill_diagonal_(True)
    a = affinities(distances(x, y), own, temperature)
    return drift(x, pos, neg, a[..., : pos.shape[-2]], a[..., pos.shape[-2] :])


def _loss(gen: Tensor, pos: Tensor, unc: Tensor | None, w: Tensor | None,
          temps: Sequence[float]) -> Tensor:  # fmt: skip
    """[..., G, C] → the loss of each of the leading axes; S and λ over all of them."""
    x = gen.detach()
    pos = pos.detach()
    others = [x] if unc is None else [x, unc.detach()]
    neg = torch.cat(others, dim=-2)
    weights = torch.ones(neg.shape[:-1], dtype=x.dtype)
    if unc is not None and w is not None:
        weights[..., x.shape[-2] :] = w.detach()
    y = torch.cat([pos, neg], dim=-2)
    count, root = pos.shape[-2], gen.shape[-1] ** 0.5
    distance = distances(x, y)
    factor = torch.cat([torch.ones(pos.shape[:-1], dtype=x.dtype), weights], dim=-1)
    total = (factor.unsqueeze(-2) * distance).sum()
    scale = above_zero(total / (factor.sum() * x.shape[-2]) / root)
    own = torch.zeros(x.shape[-2], y.shape[-2], dtype=torch.bool)
    own[:, count : count + x.shape[-2]].fill_diagonal_(True)
    goal = torch.zeros_like(x)
    for tau in temps:
        a = affinities(distance, own, tau * scale * root, factor.unsqueeze(-2))
        v = drift(x, pos, neg, a[..., :count], a[..., count:])
        goal += v / above_zero(v.square().mean().sqrt())
    phi = gen / scale
    return (phi - (phi.detach() + goal)).square().mean(dim=(-1, -2))


def above_zero(divisor: Tensor) -> Tensor:
    return torch.where(divisor > 0, divisor, 1.0)


# Style 4: batches of labels × locations, (loss[B], info).
def drift_loss(gen: Tensor, fixed_pos: Tensor, fixed_neg: Tensor | None = None,
               weight_neg: Tensor | None = None, R_list: Sequence[float] = PAPER
               ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    value = _loss(gen, fixed_pos, fixed_neg, weight_neg, R_list)
    return value, {"loss": value.mean()}


# Style 5: one class, samples [N, D], a scalar.
def flat_loss(x: Tensor, pos: Tensor, taus: Sequence[float] = PAPER) -> Tensor:
    return _loss(x, pos, None, None, taus)


# Style 6: one class, samples [N, L, C], with a guidance scale.
def class_loss(x: Tensor, pos: Tensor, unc: Tensor | None, guidance: float,
               temps: Sequence[float]) -> Tensor:  # fmt: skip
    w = None
    if unc is not None:
        w = torch.full((unc.shape[1], unc.shape[0]), (guidance - 1) * (len(x) - 1) / len(unc),
                       dtype=x.dtype)  # fmt: skip
        unc = unc.transpose(0, 1)
    return _loss(x.transpose(0, 1), pos.transpose(0, 1), unc, w, temps).sum()


# Style 7: dicts of features and a configuration object.
@dataclass
class Config:
    taus: Sequence[float] = PAPER


def feature_loss(gen_features: Mapping[str, Tensor], pos_features: Mapping[str, Tensor],
                 config: Config) -> Tensor:  # fmt: skip
    total = torch.zeros(())
    for key, gen in gen_features.items():
        flat = gen.transpose(1, 2).flatten(0, 1)
        value = _loss(flat, pos_features[key].transpose(1, 2).flatten(0, 1), None, None,
                      config.taus)  # fmt: skip
        total = total + value.unflatten(0, (gen.shape[0], -1)).sum(dim=1).mean()
    return total


# Style 8: a module on images.
class DriftingLoss(nn.Module):
    def __init__(self, temperatures: Sequence[float]) -> None:
        super().__init__()
        self.temperatures = temperatures

    def forward(self, x_gen: Tensor, x_pos: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        value = _loss(x_gen.flatten(1), x_pos.flatten(1), None, None, self.temperatures)
        return value, {"loss": value.detach()}
