"""Generators broken by hand, each with the checks and clauses it must turn red.

Most misread what the text says or leave out a part; each is a few lines on one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import drifting_torch
from drifting_parity.adapters import torch_generator
from drifting_torch import DriftingTransformer, DriftingTransformerConfig
from drifting_torch.generator import layers, release, transformer

REAL_CONFIG = DriftingTransformerConfig
REAL_GENERATE = torch_generator.generate
REAL_CONDITION = DriftingTransformer.condition
REAL_SEQUENCE = DriftingTransformer.sequence
REAL_TURNS = DriftingTransformer._turns  # pyright: ignore[reportPrivateUsage]


def chosen(**changes: Any) -> Callable[..., DriftingTransformerConfig]:
    """The configuration with other choices, whatever is asked for."""

    def config(**fields: Any) -> DriftingTransformerConfig:
        return REAL_CONFIG(**(fields | changes))

    config.of_table8 = lambda column, **given: REAL_CONFIG.of_table8(  # type: ignore[attr-defined]
        column, **(given | changes)
    )
    return config


# Blocks.


def layer_norm(self: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], self.weight, None, layers.NORM_EPS)


def no_weight(self: Any, x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], None, layers.NORM_EPS)


class NoQKNorm(layers.Attention):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.query_norm.forward = self.key_norm.forward = lambda x: x  # type: ignore[method-assign]


class NormAfterTurning(layers.Attention):
    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind(0)
        queries, keys = self.rotation(queries, keys, turns)
        queries, keys = self.query_norm(queries), self.key_norm(keys)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).flatten(2))


class HeadsFirst(layers.Attention):
    """Splits the 3h outputs by heads, then into queries, keys and values."""

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        queries, keys, values = heads.unbind(0)
        queries, keys = self.query_norm(queries), self.key_norm(keys)
        queries, keys = self.rotation(queries, keys, turns)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).flatten(2))


def interleaved(x: Tensor, turns: Tensor) -> Tensor:
    first, second = x[..., 0::2], x[..., 1::2]
    cosines, sines = turns[0], turns[1]
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.stack(turned, dim=-1).flatten(-2)


def from_the_first_patch(self: DriftingTransformer, device: torch.device) -> Tensor:
    turns = REAL_TURNS(self, device).clone()
    prefix = self.config.prefix_tokens
    turns[0, :prefix], turns[1, :prefix] = 1.0, 0.0
    return turns


def not_turned(self: DriftingTransformer, device: torch.device) -> Tensor:
    turns = REAL_TURNS(self, device)
    return torch.stack([torch.ones_like(turns[0]), torch.zeros_like(turns[1])])


def silu_on_both(self: Any, x: Tensor) -> Tensor:
    return self.out(functional.silu(self.gate(x)) * functional.silu(self.value(x)))


def gelu(self: Any, x: Tensor) -> Tensor:
    return self.out(functional.gelu(self.gate(x)) * self.value(x))


def gate_exchanged(self: Any, x: Tensor) -> Tensor:
    return self.out(self.gate(x) * functional.silu(self.value(x)))


class PostNorm(layers.Block):
    def forward(self, x: Tensor, condition: Tensor, turns: Tensor) -> Tensor:
        parts = self.modulation(condition)[:, None].chunk(6, dim=-1)
        inner = self.attention(layers.modulated(x, *parts[:2]), turns)
        x = x + parts[2] * self.attention_norm(inner)
        inner = self.feed_forward(layers.modulated(x, *parts[3:5]))
        return x + parts[5] * self.feed_forward_norm(inner)


class Parallel(layers.Block):
    """Attention and feed-forward beside each other, both of the block's input."""

    def forward(self, x: Tensor, condition: Tensor, turns: Tensor) -> Tensor:
        parts = self.modulation(condition)[:, None].chunk(6, dim=-1)
        attended = self.attention(
            layers.modulated(self.attention_norm(x), parts[0], parts[1]), turns
        )
        fed = self.feed_forward(layers.modulated(self.feed_forward_norm(x), parts[3], parts[4]))
        return x + parts[2] * attended + parts[5] * fed


# Conditioning.


def scale_first(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + shift) + scale


def no_alpha(self: Any, alpha: Tensor) -> Tensor:
    return torch.zeros(len(alpha), len(self.norm.weight)).to(self.norm.weight)


def mean_alpha(self: Any, alpha: Tensor) -> Tensor:
    return REAL_GUIDANCE(self, alpha.mean().expand_as(alpha))


def sines_first(self: Any, alpha: Tensor) -> Tensor:
    angles = alpha[:, None] * layers.frequencies(128, alpha.device, alpha.dtype)
    features = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.first.weight)
    return 0.02 * self.norm(self.second(functional.silu(self.first(features))))


REAL_GUIDANCE = layers.GuidanceEmbedding.forward


def class_by_adaln_alone(self: DriftingTransformer, noise: Tensor, condition: Tensor) -> Tensor:
    return REAL_SEQUENCE(self, noise, torch.zeros_like(condition))


def prefix_behind(self: DriftingTransformer, noise: Tensor, condition: Tensor) -> Tensor:
    sequence, count = REAL_SEQUENCE(self, noise, condition), self.config.prefix_tokens
    return torch.cat([sequence[:, count:], sequence[:, :count]], dim=1)


def first_of_the_prefix_alone(
    self: DriftingTransformer, noise: Tensor, condition: Tensor
) -> Tensor:
    sequence, count = REAL_SEQUENCE(self, noise, condition), self.config.prefix_tokens
    return torch.cat([sequence[:, :1].expand(-1, count, -1), sequence[:, count:]], dim=1)


class NoConditionInBlocks(layers.Block):
    def forward(self, x: Tensor, condition: Tensor, turns: Tensor) -> Tensor:
        return super().forward(x, torch.zeros_like(condition), turns)


# Style.


def mean_style(self: DriftingTransformer, *arguments: Tensor) -> Tensor:
    assert self.styles is not None
    self.styles.mode = "mean"
    return REAL_CONDITION(self, *arguments)


def no_style(self: DriftingTransformer, labels: Tensor, alpha: Tensor, style: Tensor) -> Tensor:
    return self.classes(labels) + self.guidance(alpha)


def first_styles(self: DriftingTransformer, labels: Tensor, alpha: Tensor, style: Tensor) -> Tensor:
    rest = torch.zeros_like(style[:, 1:])
    return REAL_CONDITION(self, labels, alpha, torch.cat([style[:, :1], rest], dim=1))


def shared_style(self: DriftingTransformer, labels: Tensor, alpha: Tensor, style: Tensor) -> Tensor:
    """All tokens look into the first table."""
    assert self.styles is not None
    first = self.styles.weight[: self.config.style_entries]
    return self.classes(labels) + first[style].sum(1) + self.guidance(alpha)


def detached_style(
    self: DriftingTransformer, labels: Tensor, alpha: Tensor, style: Tensor
) -> Tensor:
    rest = self.classes(labels) + self.guidance(alpha)
    return rest + (REAL_CONDITION(self, labels, alpha, style) - rest).detach()


def style_in_training_alone(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    drawn = REAL_STYLE(self, count, **options)
    return drawn if self.training else torch.zeros_like(drawn)


def one_entry_less(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    drawn = REAL_STYLE(self, count, **options)
    return drawn.clamp(max=self.config.style_entries - 2)


def detached_prefix(self: DriftingTransformer, noise: Tensor, condition: Tensor) -> Tensor:
    return REAL_SEQUENCE(self, noise, condition.detach())


def guidance_above_one(self: Any, alpha: Tensor) -> Tensor:
    return REAL_GUIDANCE(self, alpha - 1)


def zero_style(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    return torch.zeros(count, self.config.style_tokens).long()


def style_of_a_seed(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    random = torch.Generator().manual_seed(0)
    shape = (count, self.config.style_tokens)
    return torch.randint(self.config.style_entries, shape, generator=random)


def one_style_for_all(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    return REAL_STYLE(self, 1, **options).expand(count, -1)


def one_index_for_all(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    return REAL_STYLE(self, count, **options)[:, :1].expand(-1, self.config.style_tokens)


def normal_style(self: DriftingTransformer, count: int, **options: Any) -> Tensor:
    drawn = torch.randn(count, self.config.style_tokens, generator=options.get("generator"))
    entries = self.config.style_entries
    return (drawn * entries / 6 + entries / 2).long().clamp(0, entries - 1)


REAL_STYLE = DriftingTransformer.draw_style


# Patches.


def channels_first(images: Tensor, side: int) -> Tensor:
    return functional.pixel_unshuffle(images, side)


def channels_first_back(grid: Tensor, side: int) -> Tensor:
    return functional.pixel_shuffle(grid, side)


def grid_turned(grid: Tensor, side: int) -> Tensor:
    return drifting_torch.unpatchify(grid.transpose(2, 3), side)


def one_for_all(case: Any, setting: Any) -> Any:
    """Every sample is the first one's."""
    observed = REAL_GENERATE(case, setting)
    return replace(observed, samples=observed.samples[:1].repeat(len(case.noise), axis=0))


def wrong_gradient(case: Any, setting: Any) -> Any:
    observed = REAL_GENERATE(case, setting)
    gradients = {name: 1.001 * each for name, each in observed.gradients.items()}
    return replace(observed, gradients=gradients)


def upright(case: Any, setting: Any) -> Any:
    observed = REAL_GENERATE(case, setting)
    return replace(observed, samples=observed.samples.transpose(0, 2, 3, 1))


Wanted = Mapping[str, str]
VECTORS = {"release.G01": "A2-blocks", "release.G02": "A2-blocks", "release.G03": "A2-blocks"}

VARIANTS: dict[str, tuple[Any, str, Any, Wanted]] = {
    # What is replaced, by what, and which clause each check must turn red.
    "eps": (
        layers,
        "NORM_EPS",
        1e-5,
        {"generator.closed_form": "A2-blocks", **VECTORS},
    ),
    "layer-norm": (
        layers.RMSNorm,
        "forward",
        layer_norm,
        {"generator.closed_form": "A2-blocks", **VECTORS},
    ),
    "no-norm-weight": (
        layers.RMSNorm,
        "forward",
        no_weight,
        {"generator.closed_form": "A2-blocks", **VECTORS},
    ),
    "no-qk-norm": (
        layers,
        "Attention",
        NoQKNorm,
        {"generator.blocks": "A2-blocks", **VECTORS},
    ),
    "norm-after-turning": (layers, "Attention", NormAfterTurning, VECTORS),
    "heads-first": (layers, "Attention", HeadsFirst, VECTORS),
    "interleaved": (layers.Rotation, "_turned", staticmethod(interleaved), VECTORS),
    "prefix-not-turned": (DriftingTransformer, "_turns", from_the_first_patch, VECTORS),
    "not-turned": (
        DriftingTransformer,
        "_turns",
        not_turned,
        {"generator.blocks": "A2-blocks", **VECTORS},
    ),
    "gelu": (layers.SwiGLU, "forward", gelu, VECTORS),
    "silu-on-both": (
        layers.SwiGLU,
        "forward",
        silu_on_both,
        {"generator.blocks": "A2-blocks", **VECTORS},
    ),
    "gate-exchanged": (
        layers.SwiGLU,
        "forward",
        gate_exchanged,
        {"generator.blocks": "A2-blocks", **VECTORS},
    ),
    "post-norm": (
        transformer,
        "Block",
        PostNorm,
        {"generator.closed_form": "A2-blocks", **VECTORS},
    ),
    "parallel": (transformer, "Block", Parallel, VECTORS),
    "scale-first": (layers, "modulated", scale_first, VECTORS),
    "no-alpha": (
        layers.GuidanceEmbedding,
        "forward",
        no_alpha,
        {"generator.paths": "S4-cfg-cond", "release.G01": "A2-cond"},
    ),
    "mean-alpha": (
        layers.GuidanceEmbedding,
        "forward",
        mean_alpha,
        {"generator.each": "S4-cfg-cond", "generator.closed_form": "A2-cond"},
    ),
    "sines-first": (
        layers.GuidanceEmbedding,
        "forward",
        sines_first,
        {"release.G01": "A2-cond", "release.G03": "A2-cond"},
    ),
    "alpha-unscaled": (layers, "ALPHA_FACTOR", 1.0, {"release.G01": "A2-cond"}),
    "prefix-without-condition": (
        DriftingTransformer,
        "sequence",
        class_by_adaln_alone,
        {"generator.paths": "A2-cond", "generator.closed_form": "A2-incontext"},
    ),
    "blocks-without-condition": (
        transformer,
        "Block",
        NoConditionInBlocks,
        {"generator.closed_form": "A2-cond", "release.G02": "A2-cond"},
    ),
    "prefix-behind": (
        DriftingTransformer,
        "sequence",
        prefix_behind,
        {"generator.prefix": "A2-incontext", "release.G01": "A2-incontext"},
    ),
    "one-of-the-prefix": (
        DriftingTransformer,
        "sequence",
        first_of_the_prefix_alone,
        {"generator.prefix": "A2-incontext", "release.G03": "A2-incontext"},
    ),
    "mean-style": (
        DriftingTransformer,
        "condition",
        mean_style,
        {"generator.style": "A2-style", "release.G01": "A2-style"},
    ),
    "no-style": (
        DriftingTransformer,
        "condition",
        no_style,
        {
            "generator.style": "A2-style",
            "generator.fresh": "A2-style-random",
            "release.G02": "A2-style",
        },
    ),
    "first-style": (
        DriftingTransformer,
        "condition",
        first_styles,
        {"generator.style": "A2-style"},
    ),
    "shared-style": (
        DriftingTransformer,
        "condition",
        shared_style,
        {"generator.style": "A2-style", "release.G03": "A2-style"},
    ),
    "detached-style": (
        DriftingTransformer,
        "condition",
        detached_style,
        {"release.G01": "A2-style", "release.G02": "A2-style"},
    ),
    "detached-prefix": (
        DriftingTransformer,
        "sequence",
        detached_prefix,
        {"release.G01": "A2-cond", "release.G03": "A2-style"},
    ),
    "alpha-above-1": (
        layers.GuidanceEmbedding,
        "forward",
        guidance_above_one,
        {"generator.closed_form": "A2-cond", "release.G02": "A2-cond"},
    ),
    "style-in-training-alone": (
        DriftingTransformer,
        "draw_style",
        style_in_training_alone,
        {"generator.fresh": "A2-style-random"},
    ),
    "one-entry-less": (
        DriftingTransformer,
        "draw_style",
        one_entry_less,
        {"generator.drawn_style": "A2-style-random"},
    ),
    "zero-style": (
        DriftingTransformer,
        "draw_style",
        zero_style,
        {"generator.drawn_style": "A2-style-random", "generator.fresh": "A2-style-random"},
    ),
    "style-of-a-seed": (
        DriftingTransformer,
        "draw_style",
        style_of_a_seed,
        {"generator.fresh": "A2-style-random"},
    ),
    "one-style": (
        DriftingTransformer,
        "draw_style",
        one_style_for_all,
        {"generator.drawn_style": "A2-style-random", "generator.fresh": "A2-style-random"},
    ),
    "one-index": (
        DriftingTransformer,
        "draw_style",
        one_index_for_all,
        {"generator.drawn_style": "A2-style-random"},
    ),
    "normal-style": (
        DriftingTransformer,
        "draw_style",
        normal_style,
        {"generator.drawn_style": "A2-style-random"},
    ),
    "patch-order": (
        transformer,
        "patchify",
        channels_first,
        {"generator.closed_form": "A2-io", "release.G01": "A2-io", "release.G02": "A2-io"},
    ),
    "patches-back": (
        transformer,
        "unpatchify",
        channels_first_back,
        {"generator.closed_form": "A2-unpatch", "release.G01": "A2-unpatch"},
    ),
    "grid-turned": (
        transformer,
        "unpatchify",
        grid_turned,
        {"generator.patches": "A2-unpatch", "release.G03": "A2-unpatch"},
    ),
    "random-gates": (
        drifting_torch,
        "DriftingTransformerConfig",
        chosen(zero_initialized="nothing"),
        {"generator.start": "S4-arch"},
    ),
    "shared-codebook": (
        drifting_torch,
        "DriftingTransformerConfig",
        chosen(style_codebooks="shared"),
        {"generator.counts": "A2-params", "release.generators": "A2-params"},
    ),
    "contents-of-their-own": (
        drifting_torch,
        "DriftingTransformerConfig",
        chosen(prefix_content="own"),
        {"generator.counts": "A2-params", "release.generators": "A2-params"},
    ),
    "narrow-feed-forward": (
        drifting_torch,
        "DriftingTransformerConfig",
        chosen(feed_forward_ratio=3.5),
        {"generator.multiply_adds": "A2-flops", "generator.counts": "A2-params"},
    ),
    "one-for-all": (
        torch_generator,
        "generate",
        one_for_all,
        {"generator.each": "EQ-A2"},
    ),
    "channels-last": (
        torch_generator,
        "generate",
        upright,
        {"generator.shapes": "S4-pixel", "generator.closed_form": "A2-io"},
    ),
    "gradient": (
        torch_generator,
        "generate",
        wrong_gradient,
        {"generator.closed_form": "A2-io", "release.G01": "A2-io"},
    ),
    "weights-untransposed": (
        release,
        "linear_views",
        lambda name, layer: {
            f"{name}/Dense_0/kernel": layer.weight
            if layer.weight.shape[0] == layer.weight.shape[1]
            else layer.weight.t(),
            f"{name}/Dense_0/bias": layer.bias,
        },
        VECTORS,
    ),
}


# Right, but written otherwise: no check may mind.


class ByHand(layers.Attention):
    """Attention spelt out."""

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        parts = [each.unflatten(-1, (self.heads, -1)) for each in self.qkv(x).chunk(3, dim=-1)]
        queries, keys, values = (each.transpose(1, 2) for each in parts)
        queries, keys = self.rotation(self.query_norm(queries), self.key_norm(keys), turns)
        logits = torch.einsum("bhie,bhje->bhij", queries, keys) * queries.shape[-1] ** -0.5
        mixed = torch.einsum("bhij,bhje->bhie", logits.softmax(-1), values)
        return self.out(mixed.transpose(1, 2).flatten(2))


def places_from_the_first_patch(self: DriftingTransformer, device: torch.device) -> Tensor:
    """The in-context tokens at −K … −1: only differences of places count."""
    prefix, kind = self.config.prefix_tokens, layers.wide(self.patches.weight.dtype)
    places = torch.arange(-prefix, self.config.patch_tokens, device=device, dtype=kind)
    return layers.rotary_turns(places, self.config.head_width)


def token_by_token(
    self: DriftingTransformer, labels: Tensor, alpha: Tensor, style: Tensor
) -> Tensor:
    assert self.styles is not None
    total = self.guidance(alpha)
    for token, table in enumerate(self.styles.weight.split(self.config.style_entries)):
        total = total + table[style[:, token]]
    return total + self.classes(labels)


def cut_before_the_last_layer(self: layers.FinalLayer, x: Tensor, condition: Tensor) -> Tensor:
    """What the last layer makes of in-context tokens reaches no sample: here it is NaN.

    The tests' generators have square grids and fewer in-context tokens than patches.
    """
    prefix = x.shape[1] - max(n for n in (4, 9, 16, 256) if n <= x.shape[1])
    tokens = REAL_FINAL(self, x, condition)
    return torch.cat([torch.full_like(tokens[:, :prefix], torch.nan), tokens[:, prefix:]], dim=1)


REAL_FINAL = layers.FinalLayer.forward

RIGHT: dict[str, tuple[Any, str, Any]] = {
    "by-hand": (layers, "Attention", ByHand),
    "places": (DriftingTransformer, "_turns", places_from_the_first_patch),
    "token-by-token": (DriftingTransformer, "condition", token_by_token),
    "cut-before": (layers.FinalLayer, "forward", cut_before_the_last_layer),
}
