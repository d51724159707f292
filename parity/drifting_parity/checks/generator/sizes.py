"""Shapes of the samples, counts of parameters and of multiply-adds (A2-io, A2-params, A2-flops)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.checks.generator.drawn import EXACT, at_full_input, needs_single_precision
from drifting_parity.measure import compare, within
from drifting_spec.generator import multiply_adds, parameter_count, sizes_of_table8
from drifting_spec.registry import Tolerance
from drifting_spec.table8 import COLUMNS


def _shapes(context: Context) -> Iterator[Yield]:
    """32×32×4 with patches of 2, 256×256×3 with patches of 16: 256 tokens and 16 in front."""
    needs_single_precision(context)
    for column in ("latent-B/2", "pixel-B/16"):
        case = at_full_input(column, sizes_of_table8(column))
        observed = context.generate(case.changed(direction=None))
        clauses = ("EQ-A2", "A2-io", *(("S4-pixel",) if column.startswith("pixel") else ()))
        got = np.asarray(observed.samples.shape, dtype=np.float64)
        wanted = np.asarray(case.noise.shape, dtype=np.float64)
        yield compare(clauses, "shape of the samples", column, got, wanted, EXACT)
        bad = int(np.count_nonzero(~np.isfinite(observed.samples)))
        yield within(clauses, "samples that are not finite", column, bad, 0)
        if "sequence" in observed.steps:
            off_by = abs(observed.steps["sequence"].shape[1] - 272)
            yield within(("A2-io", "A2-incontext"), "tokens beside 272", column, off_by, 0)


PUBLISHED = {"latent-B/2": 133, "latent-L/2": 463, "pixel-B/16": 134, "pixel-L/16": 464}
"""Tables 5 and 6: parameters in millions."""


def _counts(context: Context) -> Iterator[Yield]:
    """Parameters to the unit, and in millions as published."""
    for column in COLUMNS:
        got = float(context.adapter.generator_parameters(column))
        wanted = float(parameter_count(sizes_of_table8(column)))
        yield compare("A2-params", "parameters", column, got, wanted, EXACT)
        if column in PUBLISHED:
            off_by = abs(round(got / 1e6) - PUBLISHED[column])
            yield within("A2-params", "millions, beside those published", column, off_by, 0)


def _multiply_adds(context: Context) -> Iterator[Yield]:
    """P-49: as many as the matrices say, and the published 87G for L/16."""
    # Whether the small products of the conditioning vector are counted is open: 0.1 % of all.
    near = Tolerance("products", "products", "any", 1e-3, 0.0, "what else may be counted")
    for column in ("latent-B/2", "pixel-L/16"):
        got = float(context.adapter.generator_multiply_adds(column))
        wanted = float(multiply_adds(sizes_of_table8(column)))
        yield compare("A2-flops", "multiply-adds of one sample", column, got, wanted, near)
        if column == "pixel-L/16":
            yield within("A2-flops", "billions, beside 87", column, abs(got / 1e9 - 87), 0.5)


CHECKS: tuple[Check, ...] = (
    Check(
        "generator.shapes",
        "samples of 32×32×4 and 256×256×3 from 256 tokens and 16 in front",
        ("EQ-A2", "A2-io", "A2-incontext", "S4-pixel"),
        "property",
        _shapes,
    ),
    Check(
        "generator.counts",
        "parameters of the five columns of Table 8",
        ("A2-params",),
        "golden value",
        _counts,
    ),
    Check(
        "generator.multiply_adds",
        "P-49: multiply-adds of B/2 and L/16",
        ("A2-flops",),
        "golden value",
        _multiply_adds,
    ),
)
