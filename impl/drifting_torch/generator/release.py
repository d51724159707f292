"""The names and layouts that the authors' release gives to a generator's parameters."""

from __future__ import annotations

from torch import Tensor, nn

from drifting_torch.generator.config import DriftingTransformerConfig
from drifting_torch.generator.layers import Block, FinalLayer

ROOT = "LightningDiT_0"
ANCHOR = f"{ROOT}/pos_embed"
"""A parameter that every generator of the release has."""


def linear_views(name: str, layer: nn.Linear) -> dict[str, Tensor]:
    """Kernel [in, out] and bias of a linear layer."""
    return {f"{name}/Dense_0/kernel": layer.weight.t(), f"{name}/Dense_0/bias": layer.bias}


def style_views(config: DriftingTransformerConfig, tables: Tensor) -> dict[str, Tensor]:
    """The codebooks, one after the other, each [entries, D]."""
    parts = tables.split(config.style_entries)
    return {f"noise_embeds_{number}/embedding": part for number, part in enumerate(parts)}


def block_views(number: int, block: Block) -> dict[str, Tensor]:
    """One block's parameters."""
    root = f"{ROOT}/blocks_{number}"
    attention, forward = block.attention, block.feed_forward
    views = linear_views(f"{root}/TorchLinear_0", block.modulation)
    views |= linear_views(f"{root}/Attention_0/TorchLinear_0", attention.qkv)
    views |= linear_views(f"{root}/Attention_0/TorchLinear_1", attention.out)
    for place, layer in enumerate((forward.gate, forward.value, forward.out)):
        views |= linear_views(f"{root}/SwiGLUFFN_0/TorchLinear_{place}", layer)
    return views | {
        f"{root}/RMSNorm_0/weight": block.attention_norm.weight,
        f"{root}/RMSNorm_1/weight": block.feed_forward_norm.weight,
        f"{root}/Attention_0/q_norm/weight": attention.query_norm.weight,
        f"{root}/Attention_0/k_norm/weight": attention.key_norm.weight,
    }


def final_views(final: FinalLayer) -> dict[str, Tensor]:
    """The last layer's parameters."""
    root = f"{ROOT}/FinalLayer_0"
    views = linear_views(f"{root}/TorchLinear_0", final.modulation)
    views |= linear_views(f"{root}/TorchLinear_1", final.out)
    return views | {f"{root}/RMSNorm_0/weight": final.norm.weight}
