"""A.5 counted: which maps of the encoder are tapped, and which vectors they give.

Plain arithmetic: nothing is run, and nothing but the standard library is loaded. The names of
maps and keys are those that ``drifting_torch`` uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, SupportsIndex

from drifting_spec.implements import implements
from drifting_spec.readings import PAPER, Readings, Taps

BLOCKS: Final = (3, 4, 6, 3)
"""Residual blocks of the four stages (A3-stages)."""

STATISTICS: Final = ("loc", "global", "patch2", "patch4", "x2", "vanilla")
"""A.5 (a) to (d), the x² vector of the encoder's input, the vanilla term's raw sample."""

VANILLA: Final = "samples"
"""Key of the flattened raw sample."""

Statistic = Literal["loc", "global", "patch2", "patch4", "x2", "vanilla"]


class Slots(NamedTuple):
    """How many vectors of how many channels stand under one key."""

    vectors: int
    channels: int


class InputShape(NamedTuple):
    """What the encoder is given: rows, columns and channels, and the side of its patches."""

    height: int
    width: int
    channels: int
    patch_size: int = 1


LATENT: Final = InputShape(32, 32, 4)
PIXEL: Final = InputShape(256, 256, 3, 8)

PRESETS: Final[dict[str, tuple[int, InputShape]]] = {
    "ablation": (256, LATENT),
    "latent-B/2": (640, LATENT),
    "latent-L/2": (640, LATENT),
    "pixel-B/16": (640, PIXEL),
    "pixel-L/16": (640, PIXEL),
}
"""Base width and input of Table 8's columns (T8-width, T8-enc-in)."""


@implements("A5-taps")
def tapped_maps(blocks: Sequence[int] = BLOCKS, taps: Taps = "union") -> tuple[str, ...]:
    """Names of the tapped maps, in the order in which the encoder forms them.

    After every second block of a stage ``stage{i}.block{k}``, its final output ``stage{i}.final``.
    ``union`` takes a final output that is also an even block once, as that block;
    ``coincident_twice`` twice; ``network_output`` the last stage's final output alone;
    ``release`` every final output, which there is normalised once more, and the ``stem``.
    """
    names = ["stem"] if taps == "release" else []
    for stage, count in enumerate(blocks, start=1):
        names += [f"stage{stage}.block{block}" for block in range(2, count + 1, 2)]
        coincides = count % 2 == 0
        if taps == "network_output":
            final = stage == len(blocks) and not coincides
        else:
            final = taps != "union" or not coincides
        names += [f"stage{stage}.final"] if final else []
    return tuple(names)


def check_encoder(width: int, blocks: Sequence[int], input_shape: InputShape) -> None:
    """Raise ``ValueError`` for a width, blocks or an input that no encoder can have.

    ``TypeError`` for numbers that are no integers.
    """
    for name, number in (("width", width), *(("blocks", count) for count in blocks)):
        if not isinstance(number, SupportsIndex):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name} holds {number!r}, expected an integer")
    if width < 1:
        raise ValueError(f"width is {width}, expected at least 1")
    if not blocks or min(blocks) < 1:
        raise ValueError(f"blocks is {tuple(blocks)}, expected at least one block in every stage")
    height, columns, channels, patch_size = input_shape
    if min(input_shape) < 1:
        raise ValueError(f"input_shape is {tuple(input_shape)}, expected positive numbers")
    if height % patch_size or columns % patch_size:
        raise ValueError(
            f"input_shape is {height}×{columns}×{channels}, expected sides that are multiples of "
            f"patch_size {patch_size}"
        )


@implements("EQ-A3enc", "A3-stages", "A3-enc-in")
def map_shapes(
    width: int,
    input_shape: InputShape = LATENT,
    blocks: Sequence[int] = BLOCKS,
    taps: Taps = "union",
) -> dict[str, tuple[int, int, int]]:
    """Rows, columns and channels of every tapped map.

    The stem and stage 1 keep the sides of the (patchified) input; each further stage halves them,
    rounding up, and doubles the channels. ``ValueError`` for an encoder that cannot be.
    """
    check_encoder(width, blocks, input_shape)
    height, columns = (side // input_shape.patch_size for side in input_shape[:2])
    shapes: dict[str, tuple[int, int, int]] = {}
    for name in tapped_maps(blocks, taps):
        found = re.match(r"stage(\d+)\.", name)
        doubling = 2 ** (int(found[1]) - 1) if found else 1
        shapes[name] = (-(-height // doubling), -(-columns // doubling), width * doubling)
    return shapes


@implements("A5-count", "A5-total")
def slot_inventory(
    width: int,
    input_shape: InputShape = LATENT,
    *,
    blocks: Sequence[int] = BLOCKS,
    statistics: Sequence[Statistic] = STATISTICS,
    readings: Readings = PAPER,
) -> dict[str, Slots]:
    """Key → (vectors, channels) of everything that a loss is computed for.

    Parameters
    ----------
    width
        The encoder's base width C.
    input_shape
        What the encoder is given.
    blocks
        Residual blocks of each stage.
    statistics
        Those wanted of A.5; ``vanilla`` is the raw sample, key ``samples``.
    readings
        Read: ``taps``, ``statistics_grouping``, ``patch_remainder``, ``x2_input``.

    Raises
    ------
    ValueError
        For an encoder that cannot be, an unknown statistic, and sides that patches do not divide
        under ``patch_remainder='error'``.
    """
    unknown = [name for name in statistics if name not in STATISTICS]
    if unknown:
        raise ValueError(f"statistics holds {unknown}, expected some of {', '.join(STATISTICS)}")
    found: dict[str, Slots] = {}
    for name, shape in map_shapes(width, input_shape, blocks, readings.taps).items():
        found.update(_map_slots(name, shape, statistics, readings))
    height, columns, channels, patch_size = input_shape
    if "x2" in statistics:
        cells = patch_size**2 if readings.x2_input == "patchified" else 1
        found["input.x2"] = Slots(1, cells * channels)
    if "vanilla" in statistics:
        found[VANILLA] = Slots(1, height * columns * channels)
    return found


def _map_slots(
    name: str, shape: tuple[int, int, int], statistics: Sequence[Statistic], readings: Readings
) -> dict[str, Slots]:
    height, columns, channels = shape
    found: dict[str, Slots] = {}
    if "loc" in statistics:
        found[f"{name}.loc"] = Slots(height * columns, channels)
    patches: dict[str, int] = {"": 1} if "global" in statistics else {}
    for side in (2, 4):
        if f"patch{side}" in statistics:
            count = _patches(name, height, columns, side, readings)
            patches.update({str(side): count} if count else {})
    for suffix, count in patches.items():
        if readings.statistics_grouping == "mean_with_std":
            merged = f"patch{suffix}" if suffix else "global"
            found[f"{name}.{merged}"] = Slots(2 * count, channels)
        else:
            found[f"{name}.mean{suffix}"] = Slots(count, channels)
            found[f"{name}.std{suffix}"] = Slots(count, channels)
    return found


def _patches(name: str, height: int, columns: int, side: int, readings: Readings) -> int:
    if (height % side or columns % side) and readings.patch_remainder != "crop":
        if readings.patch_remainder == "skip":
            return 0
        raise ValueError(
            f"map {name!r} has {height}×{columns} locations, expected multiples of {side} for the "
            f"{side}×{side} patches (patch_remainder is 'error'; 'skip' and 'crop' exist)"
        )
    return (height // side) * (columns // side)


def total(slots: dict[str, Slots]) -> int:
    """Vectors of all keys together."""
    return sum(each.vectors for each in slots.values())


def release_key(key: str) -> str:
    """Translate a key into the release's name for it, as ``stage1.block2.std4``.

    It calls the stem ``conv1``, stages ``layer1`` …, blocks ``layer1_blk2``, a stage's final
    output by the stage's name alone, location vectors by the map's name alone, the x² vector
    ``norm_x`` and the raw sample ``global``.
    """
    if key in (VANILLA, "input.x2"):
        return "global" if key == VANILLA else "norm_x"
    name, _, statistic = key.rpartition(".")
    stage, _, block = name.partition(".")
    theirs = "conv1" if stage == "stem" else stage.replace("stage", "layer")
    if block.startswith("block"):
        theirs += block.replace("block", "_blk")
    if statistic == "loc":
        return theirs
    return theirs + re.sub(
        r"^(mean|std)(\d?)$", lambda m: f"_{m[1]}" + f"_{m[2]}" * bool(m[2]), statistic
    )
