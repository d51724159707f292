"""The generator of ``drifting_torch`` behind the adapter interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import drifting_torch
from drifting_parity.adapters.torch_adapter import (
    DTYPES,
    autocast,
    gradient_of,
    leaf,
    to_array,
    to_tensor,
)
from drifting_parity.cases import Array, GeneratorCase, GeneratorObservation, Setting
from drifting_torch.generator.layers import Block

Kept = Callable[[tuple[Tensor, ...], object], Mapping[str, Tensor]]
"""From a module's inputs and output to the steps that they are."""


def generate(case: GeneratorCase, setting: Setting) -> GeneratorObservation:
    """Samples, the steps to them seen by hooks, and gradients where the case has a direction."""
    generator = loaded_generator(case).to(setting.device, DTYPES[setting.dtype])
    # Without gradients as at inference, where style indices are drawn as well.
    generator.train(case.direction is not None)
    steps: dict[str, Array] = {}
    _watch(generator, steps)
    noise = leaf(to_tensor(case.noise, setting))
    labels = torch.tensor(case.labels, device=setting.device)
    alpha = to_tensor(case.alpha, setting)
    style = None if case.style is None else torch.tensor(case.style, device=setting.device)
    with autocast(setting):
        samples = generator(noise, labels, alpha, style)
    gradients: dict[str, Array] = {}
    if case.direction is not None:
        direction = to_tensor(case.direction, setting)
        ((samples * direction).sum() * setting.upstream).backward()
        gradients = {"noise": gradient_of(noise)} | _gradients(generator)
    return GeneratorObservation(to_array(samples), steps, gradients)


def loaded_generator(case: GeneratorCase) -> drifting_torch.DriftingTransformer:
    """The case's generator with its parameters, in double precision."""
    config = drifting_torch.DriftingTransformerConfig(**asdict(case.sizes))
    generator = drifting_torch.DriftingTransformer(config).double()
    if case.parameters is not None:
        drifting_torch.load_release_parameters(generator, case.parameters)
    return generator


def _gradients(generator: drifting_torch.DriftingTransformer) -> dict[str, Array]:
    """Gradients by the release's names, in its layout: those of the views, taken of gradients."""
    mirror = drifting_torch.DriftingTransformer(generator.config).to(
        generator.patches.weight.device, torch.float64
    )
    with torch.no_grad():
        pairs = zip(mirror.parameters(), generator.parameters(), strict=True)
        for place, parameter in pairs:
            place.copy_(torch.zeros_like(place) if parameter.grad is None else parameter.grad)
    return {name: to_array(view) for name, view in mirror.release_parameters().items()}


def _watch(generator: drifting_torch.DriftingTransformer, steps: dict[str, Array]) -> None:
    """Let ``steps`` be filled with what passes through the modules."""

    def watch(module: nn.Module, kept: Kept) -> None:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            del module
            steps.update({name: to_array(each) for name, each in kept(inputs, output).items()})

        module.register_forward_hook(keep)

    def output_of(module: nn.Module, name: str) -> None:
        def kept(inputs: tuple[Tensor, ...], output: object) -> Mapping[str, Tensor]:
            del inputs
            return {name: output} if isinstance(output, Tensor) else {}

        watch(module, kept)

    def input_of(module: nn.Module, name: str) -> None:
        watch(module, lambda inputs, output: {name: inputs[0]})

    output_of(generator.classes, "class_embedding")
    output_of(generator.guidance.second, "alpha_mlp")
    input_of(generator.guidance.first, "alpha_features")
    output_of(generator.guidance.norm, "alpha_normed")
    output_of(generator.patches, "patch_tokens")
    if generator.prefix is not None:
        input_of(generator.prefix, "cond")
        output_of(generator.prefix, "prefix_projection")
    input_of(generator.blocks[0], "sequence")
    for number, block in enumerate(generator.blocks):
        if isinstance(block, Block):
            _watch_block(block, f"blocks_{number}", watch, output_of, input_of)
    output_of(generator.final.norm, "final/norm")
    output_of(generator.final.modulation, "final/adaln")
    output_of(generator.final, "final/tokens")


def _watch_block(
    block: Block,
    name: str,
    watch: Callable[[nn.Module, Kept], None],
    output_of: Callable[[nn.Module, str], None],
    input_of: Callable[[nn.Module, str], None],
) -> None:
    def turned(inputs: tuple[Tensor, ...], output: object) -> Mapping[str, Tensor]:
        del inputs
        assert isinstance(output, tuple)
        # [B, H, T, E] → [B, T, H, E]
        return {
            f"{name}/{key}": each.transpose(1, 2) for key, each in zip("qk", output, strict=True)
        }

    output_of(block, name)
    output_of(block.modulation, f"{name}/adaln")
    output_of(block.attention_norm, f"{name}/norm1")
    input_of(block.attention, f"{name}/attention_in")
    output_of(block.attention.qkv, f"{name}/qkv")
    watch(block.attention.rotation, turned)
    output_of(block.attention, f"{name}/attention")
    output_of(block.feed_forward_norm, f"{name}/norm2")
    input_of(block.feed_forward, f"{name}/ffn_in")
    input_of(block.feed_forward.out, f"{name}/ffn_hidden")
    output_of(block.feed_forward, f"{name}/ffn")


def drawn_style(count: int, tokens: int, entries: int, seed: int) -> Array:
    """Style indices by ``draw_style``."""
    config = drifting_torch.DriftingTransformerConfig(
        width=8, depth=1, heads=1, style_tokens=tokens, style_entries=entries
    )
    generator = drifting_torch.DriftingTransformer(config)
    random = torch.Generator().manual_seed(seed)
    return to_array(generator.draw_style(count, generator=random))


def parameters(column: str) -> int:
    """Parameters, on a module without storage."""
    with torch.device("meta"):
        config = drifting_torch.DriftingTransformerConfig.of_table8(column)
        generator = drifting_torch.DriftingTransformer(config)
    return sum(each.numel() for each in generator.parameters())


def multiply_adds(column: str) -> int:
    """Multiply-adds of one sample: blocks are alike, and going through all takes seconds."""
    config = drifting_torch.DriftingTransformerConfig.of_table8(column)
    one, two = (_multiply_adds(replace(config, depth=depth)) for depth in (1, 2))
    return one + (config.depth - 1) * (two - one)


def _multiply_adds(config: drifting_torch.DriftingTransformerConfig) -> int:
    side = config.input_size
    with torch.device("meta"):
        generator = drifting_torch.DriftingTransformer(config)
        noise, labels = torch.empty(1, config.channels, side, side), torch.empty(1).long()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            generator(noise, labels, 1.0)
    return counter.get_total_flops() // 2
