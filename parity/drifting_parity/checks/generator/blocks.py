"""What the norms of a block take away, what its gate passes on, and that places count (A2-blocks).

Identities alone: no oracle takes part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from drifting_parity.cases import Array, GeneratorCase
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.generator.drawn import (
    ROOT,
    SHOWS,
    change,
    drawn_property,
    needs_single_precision,
    without,
)
from drifting_parity.measure import Measurement, at_least, within


def _scaled(case: GeneratorCase, place: int, factor: float) -> GeneratorCase:
    """Queries (0), keys (1) or values (2) of every block times ``factor``."""
    h, changes = case.sizes.width, dict[str, Array]()
    for number in range(case.sizes.depth):
        for leaf in ("kernel", "bias"):
            name = f"{ROOT}/blocks_{number}/Attention_0/TorchLinear_0/Dense_0/{leaf}"
            changes[name] = (case.parameters or {})[name].copy()
            changes[name][..., place * h : (place + 1) * h] *= factor
    return case.with_parameters(changes)


def _feed_forward(case: GeneratorCase, gate: float, value: float, out: float) -> GeneratorCase:
    """W₁ and its bias, W₃ and its, and W₂ alone times a factor in every block."""
    changes: dict[str, Array] = {}
    for number in range(case.sizes.depth):
        root = f"{ROOT}/blocks_{number}/SwiGLUFFN_0"
        for place, factor in enumerate((gate, value, out)):
            for leaf in ("kernel", "bias") if place < 2 else ("kernel",):
                name = f"{root}/TorchLinear_{place}/Dense_0/{leaf}"
                changes[name] = (case.parameters or {})[name] * factor
    return case.with_parameters(changes)


def _blocks(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """Scales that QK-Norm takes away and that the gate's linear half passes on; positions count."""
    needs_single_precision(context)
    near, big = case.manifest.id, 300.0
    # ε of the norms is 1e-6 beside a mean square of some tenths, more where a head's entries are
    # small: scaled up it is gone, so the two differ by about ε/2 of the smallest.
    for place, what in enumerate(("queries", "keys")):
        moved = change(context, case, _scaled(case, place, big))
        yield within("A2-blocks", f"{what} times {big:g}", near, moved, 1e-4)
    moved = change(context, case, _scaled(case, 2, 2.0))
    yield at_least("A2-blocks", "values doubled", near, moved, 10 * SHOWS)
    moved = change(context, case, _feed_forward(case, 1.0, 4.0, 0.25))
    yield within("A2-blocks", "W₃ times 4, W₂ a quarter", near, moved, 1e-5)
    moved = change(context, case, _feed_forward(case, 4.0, 1.0, 0.25))
    yield at_least("A2-blocks", "W₁ times 4, W₂ a quarter", near, moved, SHOWS)
    yield from _rotary(context, case)


def _rotary(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """Without the table of positions, places still count: the rotary embedding."""
    case = without(case, "pos_embed").changed(direction=None)
    side, patch = case.sizes.input_size, case.sizes.patch_size
    shifted = np.roll(case.noise, patch, axis=3)
    before = np.roll(context.generate(case).samples, patch, axis=3)
    after = context.generate(case.changed(noise=shifted)).samples
    moved = float(np.linalg.norm(after - before) / np.linalg.norm(before))
    what = f"patches in another order, {side // patch} on a side, no table of positions"
    yield at_least("A2-blocks", what, case.manifest.id, moved, SHOWS)


PROPERTIES: tuple[Property[Any], ...] = (
    drawn_property(
        "generator.blocks",
        "QK-Norm takes scales away, the gate's linear half passes them on, places count",
        ("A2-blocks",),
        _blocks,
    ),
)
