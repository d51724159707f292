"""What the loss costs on many GPUs, by arithmetic: ``python -m benchmarks.many_gpus``.

Prints the tables of MANY_GPUS.md from Table 8's sizes; ``--write`` puts them there. Nothing here
is measured: bytes, operations and messages are counted, rates are the cards' nominal ones.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("MANY_GPUS.md")
BEGIN, END = "<!-- printed by many_gpus.py -->\n", "<!-- end -->\n"

GPUS = (8, 16, 32, 64, 128)
TEMPERATURES = 3
STATISTICS = 7
"""loc, mean, std, mean2, std2, mean4, std4: each a feature with one S and one λ per τ."""
MAPS = ((32, 1, 3), (16, 2, 3), (8, 4, 4), (4, 8, 2))
"""Side, channels in widths, tapped maps of each stage, as the release taps them (12 maps)."""

# One H100 SXM: memory, matrix rate in TF32 (three passes give float32-grade results) and bfloat16.
MEMORY_RATE, TF32_RATE, BF16_RATE = 3.35e12, 495e12, 989e12
# A message costs two trips through a tree of the GPUs, and its bytes. Assumed: the latency of one
# hop within a machine of eight and between machines, and the slowest link's rate.
HOP_INSIDE, HOP_BETWEEN, LINK_RATE, MACHINE = 3e-6, 10e-6, 50e9, 8


@dataclass(frozen=True)
class Column:
    """One column of Table 8."""

    name: str
    width: int
    labels: int
    generated: int
    positive: int
    unconditional: int
    raw_channels: int
    x2_channels: int
    parameters: float

    @property
    def targets(self) -> int:
        """M, the targets of each generated sample."""
        return self.generated + self.positive + self.unconditional

    @property
    def features(self) -> int:
        """How many features have an S: the statistics of each map, the mean of x², the samples."""
        return STATISTICS * sum(maps for _, _, maps in MAPS) + 2

    @property
    def vectors(self) -> int:
        """ΣV over the features."""
        return sum(maps * _vectors(side) for side, _, maps in MAPS) + 2

    @property
    def entries(self) -> int:
        """ΣVC over the features: the numbers of one sample."""
        maps = sum(maps * _vectors(side) * factor * self.width for side, factor, maps in MAPS)
        return maps + self.raw_channels + self.x2_channels

    @property
    def input_bytes(self) -> int:
        """Bytes of one label's features of all samples, in bfloat16."""
        return 2 * self.targets * self.entries

    @property
    def slope_bytes(self) -> int:
        """Bytes of one label's gradient in float32, all that the backward pass keeps."""
        return 4 * self.generated * self.entries

    @property
    def between_bytes(self) -> int:
        """Bytes of one label between the messages: distances, then a drift for each τ."""
        distances = 4 * self.vectors * self.generated * self.targets
        return max(distances, TEMPERATURES * self.slope_bytes)

    @property
    def operations(self) -> int:
        """Operations of one label: distances, and a product with the targets for each τ."""
        return (1 + TEMPERATURES) * 2 * self.generated * self.targets * self.entries


def _vectors(side: int) -> int:
    """A5-count: vectors of a map."""
    return side**2 + 2 + 2 * (side // 2) ** 2 + 2 * (side // 4) ** 2


COLUMNS = (
    Column("ablation", 256, 64, 64, 64, 16, 32 * 32 * 4, 4, 133e6),
    Column("B/2 latent", 640, 128, 64, 128, 32, 32 * 32 * 4, 4, 133e6),
    Column("L/2 latent", 640, 128, 64, 64, 32, 32 * 32 * 4, 4, 463e6),
    Column("L/16 pixel, MAE alone", 640, 128, 64, 128, 32, 256 * 256 * 3, 192, 464e6),
)


def message_bytes(features: int) -> tuple[int, int]:
    """Bytes of the two messages: float64 sums for S, then for λ, the loss and the labels."""
    products = TEMPERATURES * (TEMPERATURES - 1) // 2
    return 8 * 2 * features, 8 * (TEMPERATURES + 1 + products + 1) * features


def message_seconds(size: float, gpus: int) -> float:
    """Time of one all-reduce."""
    inside, between = min(gpus, MACHINE), math.ceil(gpus / MACHINE)
    hops = math.log2(inside) * HOP_INSIDE + math.log2(between) * HOP_BETWEEN
    return 2 * hops + 2 * size / LINK_RATE


def seconds(column: Column, labels: int) -> tuple[float, float]:
    """Floors of one GPU's loss: two readings and one gradient; and its products, by 3×TF32."""
    traffic = labels * (2 * column.input_bytes + column.slope_bytes / 2)
    return traffic / MEMORY_RATE, 3 * labels * column.operations / TF32_RATE


def sizes() -> list[str]:
    """The table of what one label and one batch are."""
    lines = [
        "| column of Table 8 | labels | features | vectors per label | numbers per sample | "
        "features of one label (bfloat16) | gradient of one label (float32) | "
        "kept of one label between the messages | TFLOP of one label | messages, bytes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in COLUMNS:
        first, second = message_bytes(each.features)
        lines.append(
            f"| {each.name} | {each.labels} | {each.features} | {each.vectors:,} | "
            f"{each.entries:,} | {each.input_bytes / 1e9:.2f} GB | {each.slope_bytes / 1e9:.2f} GB "
            f"| {each.between_bytes / 1e9:.2f} GB | {each.operations / 1e12:.3f} | "
            f"{first:,} + {second:,} |"
        )
    return lines


def costs() -> list[str]:
    """The table of what a step's loss costs on each number of GPUs."""
    lines = [
        "| column of Table 8 | GPUs | labels on each | features there (bfloat16) | memory floor | "
        "products, 3×TF32 | 2 messages | 2 per feature, streamed | averaging the gradients |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in COLUMNS:
        for gpus in (count for count in GPUS if count <= each.labels):
            labels = math.ceil(each.labels / gpus)
            traffic, products = seconds(each, labels)
            together = sum(message_seconds(size, gpus) for size in message_bytes(each.features))
            streamed = each.features * sum(message_seconds(s, gpus) for s in message_bytes(1))
            average = message_seconds(4 * each.parameters, gpus)
            lines.append(
                f"| {each.name} | {gpus} | {labels} | "
                f"{labels * each.input_bytes / 1e9:.1f} GB | {1e3 * traffic:.1f} ms | "
                f"{1e3 * products:.1f} ms | {1e3 * together:.2f} ms | {1e3 * streamed:.1f} ms | "
                f"{1e3 * average:.0f} ms |"
            )
    return lines


def tables() -> str:
    """Both tables in Markdown."""
    return "\n".join([*sizes(), "", *costs()]) + "\n"


def main() -> None:
    """Print the tables, or put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into MANY_GPUS.md")
    if not parser.parse_args().write:
        print(tables(), end="")
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + tables() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
