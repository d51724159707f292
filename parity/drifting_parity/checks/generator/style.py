"""Style embeddings: summed into the conditioning vector, their indices drawn anew (A2-style)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from drifting_parity.cases import GeneratorCase
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.generator.drawn import (
    EXACT,
    SHOWS,
    change,
    drawn_property,
    needs_single_precision,
    without,
)
from drifting_parity.draw import Draw
from drifting_parity.measure import Measurement, at_least, compare, within


def _style(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """The embeddings of all tokens are summed into the conditioning vector, each of its table."""
    needs_single_precision(context)
    assert case.style is not None
    near, held, tokens = case.manifest.id, case.parameters or {}, case.sizes.style_tokens
    tables = [f"noise_embeds_{token}/embedding" for token in range(tokens)]
    other = case.changed(style=(case.style + 1) % case.sizes.style_entries)
    moved = change(context, case, other)
    yield at_least("A2-style", "other indices", near, moved, SHOWS)
    off = without(case, *tables), without(other, *tables)
    yield within("A2-style", "other indices, empty tables", near, change(context, *off), 1e-12)
    for token in range(tokens):
        style = case.style.copy()
        style[:, token] = (style[:, token] + 3) % case.sizes.style_entries
        moved = change(context, case, case.changed(style=style))
        yield at_least("A2-style", f"another index of token {token}", near, moved, SHOWS)
    # Tables and indices in another order: the same sum.
    order = np.roll(np.arange(tokens), 1)
    swapped = {tables[place]: held[tables[source]] for place, source in enumerate(order)}
    both = case.with_parameters(swapped).changed(style=case.style[:, order])
    yield within("A2-style", "tokens with their tables", near, change(context, case, both), 1e-5)
    # What one token adds another takes away, whatever the index: a sum, and no mean of norms.
    shift = np.linspace(-1.0, 1.0, case.sizes.condition_width)
    moved_tables = {tables[0]: held[tables[0]] + shift, tables[1]: held[tables[1]] - shift}
    moved = change(context, case, case.with_parameters(moved_tables))
    yield within("A2-style", "added to one table, taken from another", near, moved, 1e-4)
    classes = {"Embed_0/embedding": held["Embed_0/embedding"] - shift}
    moved_tables = {tables[0]: held[tables[0]] + shift}
    moved = change(context, case, case.with_parameters(moved_tables | classes))
    yield within("A2-style", "added to one table, taken from the classes", near, moved, 1e-4)
    sequence = context.generate(case).steps.get("sequence")
    if sequence is not None:
        off_by = abs(sequence.shape[1] - case.sizes.prefix_tokens - case.sizes.patch_tokens)
        yield within("A2-style", "tokens in the sequence off by", near, off_by, 0)


def _drawn_style(context: Context, seed: int) -> Iterator[Measurement]:
    """Indices are uniform and independent over tokens, samples and values: χ² of their counts."""
    count, tokens, entries = 3000, 32, 64
    drawn = context.adapter.drawn_style(count, tokens, entries, seed)
    near = f"{count} samples, seed {seed}"
    yield within(
        "A2-style-random",
        "indices out of range or no integers",
        near,
        int(((drawn < 0) | (drawn >= entries) | (drawn != np.floor(drawn))).sum()),
        0,
    )
    wanted = np.asarray((count, tokens), dtype=np.float64)
    got = np.asarray(drawn.shape, dtype=np.float64)
    yield compare("A2-style-random", "shape of the indices", near, got, wanted, EXACT)
    if drawn.shape != (count, tokens):
        return
    # Twelve standard deviations of χ², each √(2·degrees), on either side of its mean.
    for what, pairs, cells in (
        ("value", drawn.ravel(), entries),
        ("two tokens", (drawn[:, :-1] * entries + drawn[:, 1:]).ravel(), entries**2),
        ("two samples", (drawn[:-1] * entries + drawn[1:]).ravel(), entries**2),
    ):
        counts = np.bincount(pairs.astype(np.int64) % cells, minlength=cells)
        expected = pairs.size / cells
        chi = float(np.sum((counts - expected) ** 2) / expected)
        # Pairs that overlap are not independent, which adds as much again to the spread.
        beside = abs(chi - (cells - 1))
        limit = 12 * np.sqrt(2 * (cells - 1))
        yield within("A2-style-random", f"χ² of {what}, beside {cells - 1}", near, beside, limit)


def _fresh(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """Without indices handed in, samples of the same noise differ, in a batch and between calls."""
    needs_single_precision(context)
    noise = np.repeat(case.noise[:1], len(case.noise), axis=0)
    same = case.changed(
        noise=noise,
        labels=np.repeat(case.labels[:1], len(noise)),
        alpha=np.repeat(case.alpha[:1], len(noise)),
        direction=None,
    )
    assert same.style is not None
    given = same.changed(style=np.repeat(same.style[:1], len(noise), axis=0))
    first, again = context.generate(given).samples, context.generate(given).samples
    near, tolerance = case.manifest.id, context.tolerance("generator")
    clause = "A2-style-random"
    yield compare(clause, "the same noise and indices, once more", near, again, first, tolerance)
    yield compare(clause, "the same, in a batch", near, first[1:], first[:-1], tolerance)
    calls = [context.generate(same.changed(style=None)).samples for _ in range(4)]
    spread = max(float(np.linalg.norm(each - calls[0])) for each in calls[1:])
    size = float(np.linalg.norm(calls[0]))
    yield at_least(clause, "indices drawn anew in each call", near, spread / size, SHOWS)
    inside = max(float(np.linalg.norm(each[1:] - each[:-1])) for each in calls)
    yield at_least(clause, "indices drawn for each sample", near, inside / size, SHOWS)


def _draw_seed(draw: Draw) -> int:
    return draw.integer(0, 2**31 - 1)


PROPERTIES: tuple[Property[Any], ...] = (
    drawn_property(
        "generator.style",
        "style embeddings are summed into the conditioning vector, each of its token's table",
        ("A2-style",),
        _style,
    ),
    drawn_property(
        "generator.drawn_style",
        "style indices are uniform and independent",
        ("A2-style-random",),
        _drawn_style,
        _draw_seed,
    ),
    drawn_property(
        "generator.fresh",
        "style indices are drawn anew for every sample and call",
        ("A2-style-random",),
        _fresh,
    ),
)
