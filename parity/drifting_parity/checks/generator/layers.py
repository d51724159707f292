"""Small generators against the reference, step by step and in their gradients; patches; the start.

The reference's literal layers are the oracle here; the release's own are in ``vectors``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import GeneratorCase
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.generator.drawn import (
    AS_RELEASED,
    EXACT,
    ROOT,
    clauses_of,
    comparable,
    drawn_property,
    needs_single_precision,
    ungated,
)
from drifting_parity.measure import Measurement, at_least, compare, within
from drifting_spec.registry import Tolerance


def _closed_form(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """Every step that shows, and the samples, against the reference."""
    needs_single_precision(context)
    observed, expected = context.generate(case), context.expected_generate(case)
    near, tolerance = case.manifest.id, context.tolerance("generator")
    steps = comparable(observed.steps, case.sizes)
    for name, array in comparable(expected.steps, case.sizes).items():
        if name in steps:
            yield compare(clauses_of(name), name, near, steps[name], array, tolerance, AS_RELEASED)
    clauses = clauses_of("samples")
    yield compare(
        clauses, "samples", near, observed.samples, expected.samples, tolerance, AS_RELEASED
    )
    if context.setting.dtype == "float64":
        yield from _slopes(context, case, observed.gradients)


def _slopes(
    context: Context, case: GeneratorCase, gradients: Any, step: float = 1e-4
) -> Iterator[Measurement]:
    """Gradients along a direction against the slope of the reference, by central differences."""
    assert case.direction is not None
    rng = np.random.default_rng(7)
    for name in ("noise", *(key for key in gradients if key.startswith(f"{ROOT}/blocks_0/"))):
        if name not in gradients:
            continue
        start = case.noise if name == "noise" else (case.parameters or {})[name]
        along = rng.standard_normal(start.shape)
        along /= np.linalg.norm(along)
        values: list[float] = []
        for sign in (1.0, -1.0):
            moved = start + sign * step * along
            changed = (
                case.changed(noise=moved)
                if name == "noise"
                else case.with_parameters({name: moved})
            )
            samples = context.expected_generate(changed).samples
            values.append(float(np.sum(samples * case.direction)))
        slope = (values[0] - values[1]) / (2 * step) * context.setting.upstream
        # The difference's own error: the third derivative, and rounding over the step.
        size = float(np.linalg.norm(gradients[name]))
        allowed = Tolerance("slope", "slope", "float64", 0.0, 1e-5 * size, "(step)² and rounding")
        clauses = ("A2-io",) if name == "noise" else ("A2-blocks",)
        got = float(np.sum(gradients[name] * along))
        yield compare(
            clauses, f"slope of {name}", case.manifest.id, got, slope, allowed, AS_RELEASED
        )


def _patches(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """With the blocks closed a patch of the noise reaches the same patch of the samples alone."""
    needs_single_precision(context)
    case, side = ungated(case).changed(direction=None), case.sizes.patch_size
    before, near = context.generate(case).samples, case.manifest.id
    grid = case.sizes.input_size // side
    for row, column in ((0, grid - 1), (grid - 1, 0), (grid // 2, grid // 2)):
        place = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        noise = case.noise.copy()
        noise[:, :, *place] *= -1.0
        moved = np.abs(context.generate(case.changed(noise=noise)).samples - before)
        inside = moved[:, :, *place].copy()
        moved[:, :, *place] = 0.0
        where = f"{near}, patch {row}, {column}"
        least = float(inside.max(axis=(0, 1)).min())
        yield at_least("A2-unpatch", "least change inside the patch", where, least, 1e-8)
        yield within("A2-unpatch", "change outside the patch", where, float(moved.max()), 1e-12)


def _start(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """As initialised, every block returns its input (adaLN-zero)."""
    needs_single_precision(context)
    observed, near = context.generate(case.changed(parameters=None, direction=None)), "as it starts"
    if "sequence" not in observed.steps:
        raise NotObservable("the adapter shows no blocks")
    for number in range(case.sizes.depth):
        what = f"blocks_{number}"
        if what in observed.steps:
            got, wanted = observed.steps[what], observed.steps["sequence"]
            yield compare("S4-arch", f"{what}, {near}", case.manifest.id, got, wanted, EXACT)
    got = np.asarray(observed.samples.shape, dtype=np.float64)
    wanted = np.asarray(case.noise.shape, dtype=np.float64)
    yield compare("S4-arch", "shape of the samples", case.manifest.id, got, wanted, EXACT)


PROPERTIES: tuple[Property[Any], ...] = (
    drawn_property(
        "generator.closed_form",
        "small generators with drawn parameters, step by step, and their gradients",
        ("EQ-A2", "A2-io", "A2-blocks", "A2-cond", "A2-incontext", "A2-style", "A2-unpatch"),
        _closed_form,
    ),
    drawn_property(
        "generator.patches",
        "a token's patch comes from and goes to the same place",
        ("A2-unpatch",),
        _patches,
    ),
    drawn_property(
        "generator.start",
        "as initialised, blocks are the identity (adaLN-zero)",
        ("S4-arch",),
        _start,
    ),
)
