"""How class and α reach the samples: by adaLN, by in-context tokens, each sample its own (A2-cond).

A path is switched off by its parameters, and what remains must or must not change the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from drifting_parity.cases import GeneratorCase
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.generator.drawn import (
    ROOT,
    SHOWS,
    change,
    drawn_property,
    modulations,
    needs_single_precision,
    ungated,
    without,
)
from drifting_parity.measure import Measurement, at_least, compare, within


def _paths(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """(c, α) by adaLN and by in-context tokens, each alone enough, and by nothing else."""
    needs_single_precision(context)
    others = {
        "another class": case.changed(labels=(case.labels + 1) % case.sizes.classes),
        "another α": case.changed(alpha=case.alpha + 1.5),
    }
    prefix = f"{ROOT}/TorchLinear_1/Dense_0/kernel"
    kernels = modulations(case, "kernel")
    for what, other in others.items():
        clauses = ("A2-cond", "S4-cfg-cond") if what == "another α" else ("A2-cond",)
        for way, off in (("adaLN", (prefix,)), ("in-context tokens", kernels), ("both", ())):
            moved = change(context, without(case, *off), without(other, *off))
            # α acts through an embedding of 0.02; without a way to the samples it changes nothing.
            least = SHOWS if what == "another class" else SHOWS / 100
            yield at_least(clauses, f"{what}, by {way}", case.manifest.id, moved, least)
        none = (prefix, *kernels)
        moved = change(context, without(case, *none), without(other, *none))
        yield within("A2-cond", f"{what}, both ways off", case.manifest.id, moved, 1e-12)


def _each_alpha(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """Each sample has a label and an α of its own, in one call."""
    needs_single_precision(context)
    case = case.changed(direction=None)
    together, near = context.generate(case).samples, case.manifest.id
    tolerance = context.tolerance("generator")
    for sample in range(len(case.noise)):
        only = slice(sample, sample + 1)
        alone = case.changed(
            noise=case.noise[only],
            labels=case.labels[only],
            alpha=case.alpha[only],
            style=None if case.style is None else case.style[only],
        )
        clauses = ("EQ-A2", "S4-cfg-cond")
        what = f"sample {sample} alone"
        got = context.generate(alone).samples
        yield compare(clauses, what, near, together[only], got, tolerance)


def _prefix(context: Context, case: GeneratorCase) -> Iterator[Measurement]:
    """Every in-context token counts in the blocks, and none is put out."""
    needs_single_precision(context)
    name = f"{ROOT}/cls_embed"
    positions, near = (case.parameters or {})[name], case.manifest.id
    for place in range(case.sizes.prefix_tokens):
        moved = positions.copy()
        moved[0, place] += np.cos(np.arange(moved.shape[-1]))
        other = case.with_parameters({name: moved})
        what = f"position of token {place}"
        yield at_least("A2-incontext", what, near, change(context, case, other), SHOWS)
        moved = change(context, ungated(case), ungated(other))
        yield within("A2-incontext", f"{what}, blocks closed", near, moved, 1e-12)
    before, after = case, case.with_parameters({name: positions[:, ::-1].copy()})
    what = "positions in another order"
    yield at_least("A2-incontext", what, near, change(context, before, after), SHOWS)


PROPERTIES: tuple[Property[Any], ...] = (
    drawn_property(
        "generator.paths",
        "class and α act by adaLN and by in-context tokens, each alone, and by nothing else",
        ("A2-cond", "S4-cfg-cond"),
        _paths,
    ),
    drawn_property(
        "generator.each",
        "every sample has a noise, a label, an α and indices of its own",
        ("EQ-A2", "S4-cfg-cond"),
        _each_alpha,
    ),
    drawn_property(
        "generator.prefix",
        "every in-context token counts in the blocks, and none is put out",
        ("A2-incontext",),
        _prefix,
    ),
)
