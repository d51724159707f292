"""The sizes of a generator, and the choices that the text leaves open (A.2, Table 8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args, get_type_hints

from drifting_torch.arguments.tensors import check_integer

StyleCodebooks = Literal["separate", "shared"]
PrefixContent = Literal["one", "own"]
RotaryPositions = Literal["sequence", "patches"]
ZeroInitialized = Literal["gates_and_output", "gates", "nothing"]


@dataclass(frozen=True)
class DriftingTransformerConfig:
    """Sizes and open choices of a :class:`DriftingTransformer`; the defaults are B/2's.

    Attributes
    ----------
    input_size, channels
        Side and channels of the noise and of the samples, [B, channels, input_size, input_size].
    patch_size
        Side of the patches that become tokens: 2 for latents, 16 for pixels.
    width, depth, heads
        Width of a token, blocks, and attention heads; a head's width must be even.
    classes
        Rows of the class table. None of them stands for "no class": α = 1 is without guidance.
    condition_width
        Width of the conditioning vector; None for ``width``.
    prefix_tokens
        In-context tokens in front of the patches (A2-incontext); 0 for none.
    style_tokens, style_entries
        Random indices of a sample and entries of their codebooks (A2-style); 0 tokens for none.
    feed_forward_ratio
        The feed-forward part is 2/3 of this many widths wide, rounded up to a multiple of 32.
    style_codebooks
        ``separate``: each style token has a codebook of its own; ``shared``: one for all (P-36).
    prefix_content
        ``one``: the conditioning vector is projected once, and the in-context tokens differ by
        their positions; ``own``: each has a projection of its own (P-37).
    rotary_positions
        What the rotary embedding turns: the whole ``sequence``, or the ``patches`` alone (P-37).
    zero_initialized
        What starts at zero (P-38, J-24): ``gates_and_output``, so that the first samples are all
        zero; the ``gates``, so that blocks start as the identity; or ``nothing``.
    checkpoint
        Recompute each block's activations in the backward pass instead of keeping them.

    Raises
    ------
    ValueError, TypeError
        For sizes that do not fit each other, naming them.
    """

    input_size: int = 32
    channels: int = 4
    patch_size: int = 2
    width: int = 768
    depth: int = 12
    heads: int = 12
    classes: int = 1000
    condition_width: int | None = None
    prefix_tokens: int = 16
    style_tokens: int = 32
    style_entries: int = 64
    feed_forward_ratio: float = 4.0
    style_codebooks: StyleCodebooks = "separate"
    prefix_content: PrefixContent = "one"
    rotary_positions: RotaryPositions = "sequence"
    zero_initialized: ZeroInitialized = "gates_and_output"
    checkpoint: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if name != "condition_width" or value is not None:
                object.__setattr__(self, name, check_integer(name, value, least))
        for name, choices in _choices().items():
            if getattr(self, name) not in choices:
                expected = " or ".join(repr(each) for each in choices)
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")
        if not 0 < float(self.feed_forward_ratio) < float("inf"):
            raise ValueError(
                f"feed_forward_ratio is {self.feed_forward_ratio}, expected a positive number"
            )
        if self.input_size % self.patch_size:
            raise ValueError(
                f"input_size is {self.input_size}, expected a multiple of the patch_size "
                f"{self.patch_size}"
            )
        if self.width % 4:
            raise ValueError(
                f"width is {self.width}, expected a multiple of 4: sines and cosines of a patch's "
                "row and column"
            )
        if self.width % self.heads or self.head_width % 2:
            raise ValueError(
                f"heads is {self.heads}, expected a divisor of the width {self.width} that leaves "
                "heads of even width"
            )

    @classmethod
    def of_table8(cls, column: str, **changes: object) -> DriftingTransformerConfig:
        """A configuration of Table 8 by its column's name (``"ablation"``, ``"latent-B/2"``, …).

        ``changes`` replace fields. ``ValueError`` for another column; ``TypeError`` for another
        field.
        """
        # Here, so that importing the package reads none of the spec's data.
        from drifting_spec.generator import sizes_of_table8
        from drifting_spec.table8 import COLUMNS

        if column not in COLUMNS:
            raise ValueError(f"column is {column!r}, expected one of {', '.join(COLUMNS)}")
        # The conditioning vector is as wide as a token, whatever the width becomes.
        values = asdict(sizes_of_table8(column)) | {"condition_width": None}
        return cls(**(values | changes))  # pyright: ignore[reportArgumentType]

    @property
    def grid(self) -> int:
        """Tokens on a side."""
        return self.input_size // self.patch_size

    @property
    def patch_tokens(self) -> int:
        """Tokens that come from the noise."""
        return self.grid**2

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.patch_size**2 * self.channels

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.width // self.heads

    @property
    def conditioned(self) -> int:
        """Width of the conditioning vector."""
        return self.width if self.condition_width is None else self.condition_width

    @property
    def feed_forward_width(self) -> int:
        """Width inside the feed-forward part: 2048 for 768, 2752 for 1024 (J-23)."""
        wanted = int(int(self.width * self.feed_forward_ratio) * 2 / 3)
        return -(-wanted // 32) * 32


_LEAST = {
    "input_size": 1,
    "channels": 1,
    "patch_size": 1,
    "width": 1,
    "depth": 1,
    "heads": 1,
    "classes": 1,
    "condition_width": 1,
    "prefix_tokens": 0,
    "style_tokens": 0,
    "style_entries": 1,
}
"""The least value of each whole number."""


def _choices() -> dict[str, tuple[object, ...]]:
    hints = get_type_hints(DriftingTransformerConfig)
    held = {item.name: get_args(hints[item.name]) for item in fields(DriftingTransformerConfig)}
    return {name: args for name, args in held.items() if args and isinstance(args[0], str)}
