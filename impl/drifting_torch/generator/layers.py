"""The parts of the generator: norm, rotary positions, attention, feed-forward, blocks (A.2).

Shapes use B samples, T tokens of the sequence, H heads, E width of a head, C width of a token,
D width of the conditioning vector. Under autocast norms and rotations are formed in float32 and
products in the narrow dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from drifting_spec import implements

NORM_EPS = 1e-6
BASE = 10000.0
ALPHA_FEATURES = 256
ALPHA_FACTOR = 0.02
"""The paper gives none of them: as in the release (J-22, J-23)."""


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which norms and angles are formed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_autocast(device: torch.device) -> bool:
    """Whether an autocast region of the device's kind is entered; some kinds have none."""
    kind = device.type
    # Compilers of older versions do not trace the first question; they never meet such kinds.
    there = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
    return there and torch.is_autocast_enabled(kind)


def product_dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which a layer of this weight multiplies: autocast's, in its regions."""
    if weight.dtype == torch.float64 or not is_autocast(weight.device):
        return weight.dtype
    return torch.get_autocast_dtype(weight.device.type)


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · weight over the last axis, formed in float32 at least."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same shape, in the dtype of the products that follow."""
        kind = wide(self.weight.dtype)
        weight = self.weight.to(kind)
        normed = functional.rms_norm(x.to(kind), (len(weight),), weight, NORM_EPS)
        return normed.to(product_dtype(self.weight))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with bias, uniform in ±√(6/(inputs + outputs)), the bias 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def at_zero(layer: nn.Linear) -> None:
    """Let a layer start as the constant 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def frequencies(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """10000^(−k/count), k = 0 … count − 1."""
    steps = torch.arange(count, device=device, dtype=dtype)
    return BASE ** (-steps / count)


def position_table(grid: int, width: int) -> Tensor:
    """Sines and cosines of a patch's column, then of its row: [grid², width] (J-23)."""
    places = torch.arange(grid, dtype=torch.float64)
    angles = places[:, None] * frequencies(width // 4, places.device, torch.float64)
    codes = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = codes[None].expand(grid, -1, -1), codes[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1)


@implements("A2-blocks")
def rotary_turns(places: Tensor, width: int) -> Tensor:
    """Cosines and sines, [2, T, width/2], by which places [T] turn a head of ``width``."""
    angles = places[:, None] * frequencies(width // 2, places.device, places.dtype)
    return torch.stack([angles.cos(), angles.sin()])


class Rotation(nn.Module):
    """Rotary positions: entry k of a head turns with entry k + E/2 (J-23)."""

    def forward(self, queries: Tensor, keys: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys [B, H, T, E] by [2, T, E/2]."""
        return self._turned(queries, turns), self._turned(keys, turns)

    @staticmethod
    def _turned(x: Tensor, turns: Tensor) -> Tensor:
        cosines, sines = turns[0], turns[1]
        first, second = x.to(turns.dtype).chunk(2, dim=-1)
        turned = (first * cosines - second * sines, second * cosines + first * sines)
        return torch.cat(turned, dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Softmax attention over all tokens, with normalised and turned queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = linear(width, 3 * width)
        self.query_norm = RMSNorm(width // heads)
        self.key_norm = RMSNorm(width // heads)
        self.rotation = Rotation()
        self.out = linear(width, width)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]; ``turns`` [2, T, E/2]."""
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind(0)
        queries, keys = self.query_norm(queries), self.key_norm(keys)
        queries, keys = self.rotation(queries, keys, turns)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """W₂(SiLU(W₁ x) · (W₃ x)), all with biases."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = linear(width, inner)
        self.value = linear(width, inner)
        self.out = linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        return self.out(functional.silu(self.gate(x)) * self.value(x))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Modulate: x · (1 + scale) + shift, for every token of a sample: [B, T, C] and [B, 1, C]."""
    return x * (1 + scale) + shift


@implements("A2-blocks", "A2-cond", "S4-arch")
class Block(nn.Module):
    """Attention and feed-forward, each of the modulated norm of x, gated and added to x."""

    def __init__(self, width: int, heads: int, inner: int, conditioned: int) -> None:
        super().__init__()
        self.modulation = linear(conditioned, 6 * width)
        self.attention_norm = RMSNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, inner)

    def forward(self, x: Tensor, condition: Tensor, turns: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]; ``condition`` [B, D] has gone through SiLU."""
        parts = self.modulation(condition)[:, None].chunk(6, dim=-1)
        shift, scale, gate = parts[:3]
        x = x + gate * self.attention(modulated(self.attention_norm(x), shift, scale), turns)
        shift, scale, gate = parts[3:]
        return x + gate * self.feed_forward(modulated(self.feed_forward_norm(x), shift, scale))


class FinalLayer(nn.Module):
    """The modulated norm of x, projected to the numbers of a patch."""

    def __init__(self, width: int, patch_width: int, conditioned: int) -> None:
        super().__init__()
        self.modulation = linear(conditioned, 2 * width)
        self.norm = RMSNorm(width)
        self.out = linear(width, patch_width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, T, C] → [B, T, p²·channels]; ``condition`` [B, D] has gone through SiLU."""
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        return self.out(modulated(self.norm(x), shift, scale))


class GuidanceEmbedding(nn.Module):
    """α → sines and cosines → two linear layers → RMSNorm, times 0.02 (J-22)."""

    def __init__(self, conditioned: int) -> None:
        super().__init__()
        self.first = linear(ALPHA_FEATURES, conditioned)
        self.second = linear(conditioned, conditioned)
        self.norm = RMSNorm(conditioned)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, alpha: Tensor) -> Tensor:
        """[B] → [B, D]."""
        kind = self.first.weight.dtype
        precise = alpha.to(wide(kind))
        angles = precise[:, None] * frequencies(ALPHA_FEATURES // 2, precise.device, precise.dtype)
        features = torch.cat([angles.cos(), angles.sin()], dim=1).to(kind)
        return ALPHA_FACTOR * self.norm(self.second(functional.silu(self.first(features))))
