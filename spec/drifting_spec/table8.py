"""Table 8 as typed data: the five configurations, one :class:`Column` each.

The values stand row by row in ``data/table8.toml``, as the table has them; here they are turned
into columns, each value checked against its field's type. Misprints are resolved: what the scan
prints instead is kept in the row's ``printed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Final, Literal

from drifting_spec.parsing import SpecError, converted, hints_of
from drifting_spec.registry import load
from drifting_spec.schema import TableRow

COLUMNS: Final = ("ablation", "latent-B/2", "latent-L/2", "pixel-B/16", "pixel-L/16")
"""The columns' names, left to right; the keys of :func:`load_table8`."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Column:
    """One configuration of Table 8. Shapes are height, width, channels.

    ``alpha_law`` is (n, a): α = 1 with probability a, otherwise of density ∝ α⁻ⁿ on
    ``alpha_range``. ``classification_steps`` is 0 where no fine-tuning is done, ``batch`` counts
    generated samples.
    """

    architecture: Literal["DiT-B/2", "DiT-L/2", "DiT-B/16", "DiT-L/16"]
    input_shape: Shape
    patch: int
    hidden: int
    depth: int
    register_tokens: int
    style_tokens: int
    encoders: tuple[Literal["ResNet", "ConvNeXt-V2"], ...]
    pretraining: Literal["latent-MAE", "pixel-MAE"]
    encoder_input: Shape
    first_stride: int
    width: int
    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, int, int, int]
    sides: tuple[int, int, int, int]
    mask_ratio: float
    mae_epochs: int
    classification_steps: int
    betas: tuple[float, float]
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    gradient_clip: float
    steps: int
    epochs: int
    ema_decays: tuple[float, ...]
    labels: int
    positives: int
    generated: int
    batch: int
    temperatures: tuple[float, ...]
    alpha_range: tuple[float, float]
    alpha_law: tuple[float, float]
    unconditional: int
    inference_alpha: tuple[float, float]


def columns(rows: Mapping[str, TableRow]) -> dict[str, Column]:
    """Turn rows into columns; :class:`SpecError` names a row that is missing or of a wrong type."""
    names = [item.name for item in fields(Column)]
    held = [row.field for row in rows.values()]
    if sorted(held) != sorted(names):
        odd = sorted(set(held) ^ set(names)) or [name for name in names if held.count(name) > 1]
        raise SpecError(f"rows of Table 8 and fields of Column differ: {odd}")
    hints = hints_of(Column)
    read: dict[str, dict[str, object]] = {name: {} for name in COLUMNS}
    for row in rows.values():
        for name, printed in (("values", row.values), ("printed", row.printed)):
            if len(printed) != len(COLUMNS) and (name == "values" or printed):
                raise SpecError(f"row {row.id}.{name} has {len(printed)} entries, expected 5")
        if bool(row.printed) != bool(row.marks):
            raise SpecError(f"row {row.id} needs printed and marks together, or neither")
        for name, value in zip(COLUMNS, row.values, strict=True):
            where = f"row {row.id}, column {name}"
            read[name][row.field] = converted(value, hints[row.field], where)
    return {name: Column(**values) for name, values in read.items()}  # pyright: ignore[reportArgumentType]


@cache
def load_table8() -> Mapping[str, Column]:
    """Return the five configurations by name; read once, later calls return the same object."""
    return columns(load().rows)
