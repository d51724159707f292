"""A.2 counted: the parameters of the generator and its multiply-adds.

Plain arithmetic: nothing is run, and nothing but the standard library is loaded. Parameters go by
the names of the authors' release, matrices laid out [in, out]. What the text leaves open (J-22,
J-23, P-36, P-37) is as in the release.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from drifting_spec.implements import implements
from drifting_spec.table8 import load_table8

HEAD_WIDTH: Final = 64
"""Table 8 gives no heads; the release's are 64 wide in both sizes."""

ALPHA_FEATURES: Final = 256
"""Numbers that stand for α before its network (J-22)."""

CLASSES: Final = 1000


@dataclass(frozen=True)
class GeneratorSizes:
    """Sizes of a generator whose noise and samples are [B, channels, input_size, input_size].

    ``condition_width`` is that of the conditioning vector; of the style indices there are
    ``style_tokens``, each below ``style_entries`` and with a table of its own.
    """

    input_size: int
    channels: int
    patch_size: int
    width: int
    depth: int
    heads: int
    classes: int
    condition_width: int
    prefix_tokens: int
    style_tokens: int
    style_entries: int

    @property
    def patch_tokens(self) -> int:
        """Tokens that come from the noise."""
        return (self.input_size // self.patch_size) ** 2

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.patch_size**2 * self.channels

    @property
    def feed_forward_width(self) -> int:
        """8/3 of the width, cut to an integer, up to the next multiple of 32 (J-23)."""
        return -(-int(8 * self.width / 3) // 32) * 32


@implements("A2-params", "T8-hidden", "T8-depth", "T8-register", "T8-style")
def sizes_of_table8(column: str) -> GeneratorSizes:
    """Sizes of a column of Table 8; 64 entries of each style table, as A.2 says."""
    held = load_table8()[column]
    return GeneratorSizes(
        input_size=held.input_shape[0],
        channels=held.input_shape[2],
        patch_size=held.patch,
        width=held.hidden,
        depth=held.depth,
        heads=held.hidden // HEAD_WIDTH,
        classes=CLASSES,
        condition_width=held.hidden,
        prefix_tokens=held.register_tokens,
        style_tokens=held.style_tokens,
        style_entries=64,
    )


Shape = tuple[int, ...]


def _linear(shapes: dict[str, Shape], name: str, inputs: int, outputs: int) -> None:
    shapes[f"{name}/Dense_0/kernel"] = (inputs, outputs)
    shapes[f"{name}/Dense_0/bias"] = (outputs,)


@implements("A2-params")
def parameter_shapes(sizes: GeneratorSizes) -> dict[str, Shape]:
    """Shape of every parameter by the release's name."""
    h, d = sizes.width, sizes.condition_width
    root = "LightningDiT_0"
    shapes: dict[str, Shape] = {"Embed_0/embedding": (sizes.classes, d), "RMSNorm_0/weight": (d,)}
    for token in range(sizes.style_tokens):
        shapes[f"noise_embeds_{token}/embedding"] = (sizes.style_entries, d)
    _linear(shapes, "TimestepEmbedder_0/TorchLinear_0", ALPHA_FEATURES, d)
    _linear(shapes, "TimestepEmbedder_0/TorchLinear_1", d, d)
    _linear(shapes, f"{root}/TorchLinear_0", sizes.patch_width, h)
    shapes[f"{root}/pos_embed"] = (1, sizes.patch_tokens, h)
    if sizes.prefix_tokens:
        _linear(shapes, f"{root}/TorchLinear_1", d, h)
        shapes[f"{root}/cls_embed"] = (1, sizes.prefix_tokens, h)
    for number in range(sizes.depth):
        _block(shapes, f"{root}/blocks_{number}", sizes)
    _linear(shapes, f"{root}/FinalLayer_0/TorchLinear_0", d, 2 * h)
    _linear(shapes, f"{root}/FinalLayer_0/TorchLinear_1", h, sizes.patch_width)
    shapes[f"{root}/FinalLayer_0/RMSNorm_0/weight"] = (h,)
    return shapes


def _block(shapes: dict[str, Shape], name: str, sizes: GeneratorSizes) -> None:
    h, m = sizes.width, sizes.feed_forward_width
    _linear(shapes, f"{name}/TorchLinear_0", sizes.condition_width, 6 * h)
    _linear(shapes, f"{name}/Attention_0/TorchLinear_0", h, 3 * h)
    _linear(shapes, f"{name}/Attention_0/TorchLinear_1", h, h)
    for place, (inputs, outputs) in enumerate(((h, m), (h, m), (m, h))):
        _linear(shapes, f"{name}/SwiGLUFFN_0/TorchLinear_{place}", inputs, outputs)
    for norm in ("RMSNorm_0", "RMSNorm_1"):
        shapes[f"{name}/{norm}/weight"] = (h,)
    for norm in ("q_norm", "k_norm"):
        shapes[f"{name}/Attention_0/{norm}/weight"] = (h // sizes.heads,)


@implements("A2-params")
def parameter_count(sizes: GeneratorSizes) -> int:
    """Count the generator's parameters."""
    return sum(prod(shape) for shape in parameter_shapes(sizes).values())


@implements("A2-flops")
def multiply_adds(sizes: GeneratorSizes) -> int:
    """Multiplications, each with its addition, of all matrix products for one sample (P-49).

    Linear layers multiply every entry of their matrix once for each token that they see: one for
    those of the conditioning vector. Attention forms T² logits and T² weighted sums for each
    entry of a token.
    """
    tokens = sizes.prefix_tokens + sizes.patch_tokens
    once = ("TimestepEmbedder_0/", "LightningDiT_0/TorchLinear_1/")
    total = 2 * sizes.depth * tokens**2 * sizes.width
    for name, shape in parameter_shapes(sizes).items():
        if not name.endswith("kernel"):
            continue
        modulation = "TorchLinear_0/" in name and ("blocks_" in name or "FinalLayer" in name)
        modulation = modulation and "Attention" not in name and "SwiGLU" not in name
        if modulation or name.startswith(once):
            seen = 1
        elif name.startswith("LightningDiT_0/TorchLinear_0/"):
            seen = sizes.patch_tokens
        else:
            seen = tokens
        total += seen * prod(shape)
    return total
