"""The generator of A.2 as a module: (ε, c, α) → x in one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from drifting_spec import implements
from drifting_torch.arguments.tensors import check_tensor, is_number, reads_values
from drifting_torch.features.patches import patchify, unpatchify
from drifting_torch.features.release_parameters import beside
from drifting_torch.generator.config import DriftingTransformerConfig
from drifting_torch.generator.layers import (
    Block,
    FinalLayer,
    GuidanceEmbedding,
    at_zero,
    is_autocast,
    linear,
    position_table,
    rotary_turns,
    wide,
)
from drifting_torch.generator.release import (
    ANCHOR,
    ROOT,
    block_views,
    final_views,
    linear_views,
    style_views,
)

EMBEDDING_SPREAD = 0.02
"""Standard deviation of the class table, the codebooks and the prefix's positions at the start."""

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@implements("EQ-A2", "A2-io")
class DriftingTransformer(nn.Module):
    """The generator of A.2: a DiT with SwiGLU, rotary positions, RMSNorm, normalised q and k.

    The noise is cut into patches, one token each. Class and guidance scale, with the embeddings
    of random style indices added (A2-style), modulate every block (adaLN) and make up in-context
    tokens in front of the patches (A2-incontext). What the text leaves open is as in the authors'
    release (J-22, J-23, J-24), or a choice of the configuration.

    It is what ``grouped_drift_training_step`` takes as its generator. Style indices that are not
    handed in are drawn anew in every call, from PyTorch's global generator of the device.

    Parameters
    ----------
    config
        Sizes and choices; ``DriftingTransformerConfig()`` (B/2) if None.
        ``DriftingTransformerConfig.of_table8`` has the paper's.

    Examples
    --------
    >>> config = DriftingTransformerConfig.of_table8("ablation")             # doctest: +SKIP
    >>> generator = DriftingTransformer(config)                              # doctest: +SKIP
    >>> noise = torch.randn(8, 4, 32, 32)                                    # doctest: +SKIP
    >>> generator(noise, torch.arange(8), alpha=1.5).shape                   # doctest: +SKIP
    torch.Size([8, 4, 32, 32])
    """

    def __init__(self, config: DriftingTransformerConfig | None = None) -> None:
        super().__init__()
        config = DriftingTransformerConfig() if config is None else config
        if not isinstance(config, DriftingTransformerConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"config is {config!r}, expected a DriftingTransformerConfig; "
                "DriftingTransformerConfig.of_table8('ablation') is one of the paper's"
            )
        self.config = config
        width, condition = config.width, config.conditioned
        self.classes = nn.Embedding(config.classes, condition)
        self.styles: nn.EmbeddingBag | None = None
        if config.style_tokens:
            codebooks = config.style_tokens if config.style_codebooks == "separate" else 1
            self.styles = nn.EmbeddingBag(codebooks * config.style_entries, condition, mode="sum")
        self.guidance = GuidanceEmbedding(condition)
        self.patches = linear(config.patch_width, width)
        self.patch_positions = nn.Parameter(torch.empty(config.patch_tokens, width))
        self.prefix: nn.Linear | None = None
        if config.prefix_tokens:
            contents = config.prefix_tokens if config.prefix_content == "own" else 1
            self.prefix = linear(condition, contents * width)
        self.prefix_positions = nn.Parameter(torch.empty(config.prefix_tokens, width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.feed_forward_width, condition)
            for _ in range(config.depth)
        )
        self.final = FinalLayer(width, config.patch_width, condition)
        self._initialize()

    @implements("S4-arch")
    @torch.no_grad()
    def _initialize(self) -> None:
        """What does not start as its own kind of layer does."""
        tables = [self.classes.weight, self.prefix_positions]
        tables += [] if self.styles is None else [self.styles.weight]
        for table in tables:
            nn.init.normal_(table, std=EMBEDDING_SPREAD)
        self.patch_positions.copy_(position_table(self.config.grid, self.config.width))
        if self.config.zero_initialized == "nothing":
            return
        for block in self._blocks():
            at_zero(block.modulation)
        at_zero(self.final.modulation)
        if self.config.zero_initialized == "gates_and_output":
            at_zero(self.final.out)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    @implements("A2-io", "A2-tokens", "A2-unpatch", "S4-cfg-cond", "S4-pixel")
    def forward(
        self,
        noise: Tensor,
        labels: Tensor,
        alpha: Tensor | float,
        style: Tensor | None = None,
    ) -> Tensor:
        """Generate a sample for each noise, label and guidance scale.

        Parameters
        ----------
        noise
            Standard normal [B, channels, input_size, input_size], in the parameters' dtype.
        labels
            Classes, integers [B].
        alpha
            Guidance scales [B], or one number for all; 1 is without guidance.
        style
            Integers [B, style_tokens] below style_entries; None draws them (:meth:`draw_style`).

        Returns
        -------
        Tensor
            Samples of the noise's shape; under autocast in the narrow dtype.

        Raises
        ------
        ValueError, TypeError
            For inputs that do not fit, naming them; values on a GPU are not looked at.
        """
        alpha = self._checked(noise, labels, alpha)
        if style is None:
            style = self.draw_style(len(noise))
        else:
            self._check_style(style, len(noise))
        condition = self.condition(labels, alpha, style)
        x = self.sequence(noise, condition)
        active, turns = functional.silu(condition), self._turns(noise.device)
        for block in self.blocks:
            x = self._run(block, x, active, turns)
        tokens = self.final(x, active)[:, self.config.prefix_tokens :]
        grid = tokens.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        return unpatchify(grid, self.config.patch_size)

    @implements("A2-style-random")
    def draw_style(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Style indices of ``count`` samples, independent and uniform: [count, style_tokens].

        On the parameters' device; drawn on the generator's, where one is given.
        """
        device = self.classes.weight.device
        return torch.randint(
            self.config.style_entries,
            (count, self.config.style_tokens),
            generator=generator,
            device=device if generator is None else generator.device,
        ).to(device)

    @torch.no_grad()
    def sample(
        self, labels: Tensor, alpha: Tensor | float, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw noise and style indices for ``labels`` [B], and generate, without gradients.

        ``generator`` makes the result repeatable; without one PyTorch's global ones are used.
        """
        like = self.patches.weight
        side, channels = self.config.input_size, self.config.channels
        noise = torch.randn(
            (len(labels), channels, side, side),
            generator=generator,
            device=like.device if generator is None else generator.device,
            dtype=wide(like.dtype),
        ).to(like)
        style = self.draw_style(len(labels), generator=generator)
        return self(noise, labels, alpha, style)

    @implements("A2-cond", "A2-style")
    def condition(self, labels: Tensor, alpha: Tensor, style: Tensor) -> Tensor:
        """Form the conditioning vectors [B, D]: class, style embeddings and α, added."""
        condition = self.classes(labels.long())
        if self.styles is not None:
            if self.config.style_codebooks == "separate":
                first = torch.arange(self.config.style_tokens, device=style.device)
                style = style + first * self.config.style_entries
            condition = condition + self.styles(style.long())
        return condition + self.guidance(alpha)

    @implements("A2-tokens", "A2-incontext")
    def sequence(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Form the sequence [B, T, C] that enters the first block: in-context tokens, patches."""
        patches = patchify(noise, self.config.patch_size).flatten(2).transpose(1, 2)
        patches = self.patches(patches) + self.patch_positions
        if self.prefix is None:
            return patches
        content = self.prefix(condition).unflatten(1, (-1, self.config.width))
        return torch.cat([content + self.prefix_positions, patches], dim=1)

    def release_parameters(self) -> dict[str, Tensor]:
        """Views of the parameters in the release's layout, by its names."""
        guidance = self.guidance
        views = {"Embed_0/embedding": self.classes.weight}
        views |= {} if self.styles is None else style_views(self.config, self.styles.weight)
        views |= linear_views("TimestepEmbedder_0/TorchLinear_0", guidance.first)
        views |= linear_views("TimestepEmbedder_0/TorchLinear_1", guidance.second)
        views |= {"RMSNorm_0/weight": guidance.norm.weight}
        views |= linear_views(f"{ROOT}/TorchLinear_0", self.patches)
        views |= {f"{ROOT}/pos_embed": self.patch_positions[None]}
        if self.prefix is not None:
            views |= linear_views(f"{ROOT}/TorchLinear_1", self.prefix)
            views |= {f"{ROOT}/cls_embed": self.prefix_positions[None]}
        for number, block in enumerate(self._blocks()):
            views |= block_views(number, block)
        return views | final_views(self.final)

    def release_description(self) -> str:
        """Say which generator this is, for the message that parameters do not fit it."""
        return f"a generator of {self.config}"

    def release_subtree(self, given: dict[str, object]) -> dict[str, object]:
        """Of a checkpoint's parameters the generator's, wherever in it they lie."""
        return beside(given, ANCHOR, "generators")

    def _turns(self, device: torch.device) -> Tensor:
        kind, prefix = wide(self.patches.weight.dtype), self.config.prefix_tokens
        places = torch.arange(prefix + self.config.patch_tokens, device=device, dtype=kind)
        if self.config.rotary_positions == "patches":
            places = (places - prefix).clamp(min=0)  # at place 0 nothing is turned
        return rotary_turns(places, self.config.head_width)

    def _run(self, block: nn.Module, x: Tensor, condition: Tensor, turns: Tensor) -> Tensor:
        if self.config.checkpoint and torch.is_grad_enabled():
            return recomputed(block, x, condition, turns, use_reentrant=False)  # pyright: ignore[reportReturnType]
        return block(x, condition, turns)

    def _checked(self, noise: Tensor, labels: Tensor, alpha: Tensor | float) -> Tensor:
        """Check all but the style; the guidance scales as a tensor [B]."""
        config, weight = self.config, self.patches.weight
        side = config.input_size
        wanted = (len(check_tensor("noise", noise, "B C H W")), config.channels, side, side)
        if tuple(noise.shape) != wanted:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, expected (B, {config.channels}, {side}, "
                f"{side}) as the configuration says"
            )
        if noise.device != weight.device:
            raise ValueError(
                f"noise is on {noise.device}, expected {weight.device} as the parameters are"
            )
        if noise.dtype != weight.dtype and not is_autocast(noise.device):
            raise TypeError(
                f"noise has dtype {noise.dtype}, expected {weight.dtype} as the parameters have"
            )
        _check_indices("labels", labels, (wanted[0],), config.classes, noise.device)
        if is_number(alpha):
            kind = wide(weight.dtype)
            return torch.full((wanted[0],), float(alpha), dtype=kind, device=noise.device)
        if not isinstance(alpha, Tensor) or not alpha.is_floating_point():
            what = f"has dtype {alpha.dtype}" if isinstance(alpha, Tensor) else f"is {alpha!r}"
            raise TypeError(f"alpha {what}, expected a floating tensor ({wanted[0]},) or a number")
        if tuple(alpha.shape) != (wanted[0],) or alpha.device != noise.device:
            raise ValueError(
                f"alpha has shape {tuple(alpha.shape)} on {alpha.device}, expected ({wanted[0]},) "
                f"on {noise.device}: one for each noise"
            )
        return alpha

    def _check_style(self, style: Tensor, count: int) -> None:
        shape = (count, self.config.style_tokens)
        device = self.classes.weight.device
        _check_indices("style", style, shape, self.config.style_entries, device)


def _check_indices(
    name: str, value: Tensor, shape: tuple[int, ...], limit: int, device: torch.device
) -> None:
    """Demand integers of ``shape`` from 0 to ``limit`` − 1, the values on the CPU alone."""
    if not isinstance(value, Tensor) or value.dtype not in INTEGERS:  # pyright: ignore[reportUnnecessaryIsInstance]
        what = f"has dtype {value.dtype}" if isinstance(value, Tensor) else f"is {value!r}"  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} {what}, expected integers of shape {shape}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
    if value.device != device:
        raise ValueError(f"{name} is on {value.device}, expected {device}")
    if value.numel() and reads_values(value, None):
        low, high = int(value.min()), int(value.max())
        if low < 0 or high >= limit:
            bad = low if low < 0 else high
            raise ValueError(f"{name} holds {bad}, expected 0 to {limit - 1}")
