"""Small generators drawn at random, and which clauses each of their steps speaks for (A.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, GeneratorCase, Manifest
from drifting_parity.checks.core import Context, Property
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement
from drifting_spec.generator import GeneratorSizes, parameter_shapes
from drifting_spec.registry import Tolerance

EXACT = Tolerance("exact", "exact", "any", 0.0, 0.0, "equal or not")
SHOWS = 1e-4
"""Least change, in units of the samples' norm, that something which counts must cause."""

AS_RELEASED = "where the text is silent as in the release: J-22, J-23, P-36, P-37"
"""What a comparison of values must say of its oracle: the text leaves much of A.2 open."""

ROOT = "LightningDiT_0"

STEPS: Mapping[str, tuple[str, ...]] = {
    "class_embedding": ("A2-cond",),
    "cond": ("A2-cond", "A2-style"),
    "patch_tokens": ("A2-io",),
    "prefix_projection": ("A2-incontext",),
    "sequence": ("A2-incontext",),
    "samples": ("EQ-A2", "A2-io", "A2-unpatch"),
}
"""The clauses of each step by its name; see :func:`clauses_of` for those of blocks."""


def clauses_of(step: str) -> tuple[str, ...]:
    """Which clauses a step speaks for, as locally as it can."""
    if step.endswith("adaln") or step.startswith(("alpha", "final/")):
        return ("A2-cond",)
    return ("A2-blocks",) if step.startswith("blocks_") else STEPS[step]


def comparable(steps: Mapping[str, Array], sizes: GeneratorSizes) -> dict[str, Array]:
    """The steps without what does not reach the samples, which code may do otherwise.

    Queries and keys by their products: a shift of all places changes only these themselves. Of the
    last layer the patches alone: in-context tokens may be cut off before it.
    """
    held: dict[str, Array] = {}
    for name, each in steps.items():
        root = name.removesuffix("/q")
        if name.endswith("/q") and f"{root}/k" in steps:
            held[f"{root}/q·k"] = np.einsum("bihe,bjhe->bhij", each, steps[f"{root}/k"])
        elif name.startswith("final/") and each.ndim == 3:
            held[name] = each[:, -sizes.patch_tokens :]
        elif not name.endswith(("/q", "/k")):
            held[name] = each
    return held


def needs_single_precision(context: Context) -> None:
    """Activations of many layers are not comparable in less than single precision."""
    if context.setting.dtype not in {"float64", "float32"}:
        raise NotObservable(f"activations are not comparable in {context.setting.dtype}")


def drawn_parameters(rng: np.random.Generator, sizes: GeneratorSizes) -> dict[str, Array]:
    """Matrices that keep the size of what passes, norms about 1; nothing is zero by accident."""
    drawn: dict[str, Array] = {}
    for name, shape in parameter_shapes(sizes).items():
        value = rng.standard_normal(shape)
        if name.endswith("kernel"):
            drawn[name] = value / np.sqrt(shape[0])
        elif name.endswith("weight"):
            drawn[name] = 1.0 + 0.2 * value
        else:
            drawn[name] = 0.5 * value
    return drawn


def make_case(name: str, rng: np.random.Generator, sizes: GeneratorSizes) -> GeneratorCase:
    """Three samples: noise, labels (one repeated), α, style indices, parameters, a direction."""
    batch, side = 3, sizes.input_size
    shape = (batch, sizes.channels, side, side)
    labels = rng.integers(sizes.classes, size=batch)
    labels[1] = labels[0]
    what = (
        f"{name}: {side}×{side}×{sizes.channels}, patches {sizes.patch_size}, width {sizes.width}, "
        f"depth {sizes.depth}, heads {sizes.heads}, {sizes.prefix_tokens} in-context tokens"
    )
    return GeneratorCase(
        Manifest(what),
        sizes=sizes,
        noise=rng.standard_normal(shape),
        labels=labels,
        alpha=rng.uniform(1.0, 4.0, size=batch),
        style=rng.integers(sizes.style_entries, size=(batch, sizes.style_tokens)),
        parameters=drawn_parameters(rng, sizes),
        direction=rng.standard_normal(shape),
    )


def draw_sizes(draw: Draw) -> GeneratorSizes:
    """Sizes with several patches, heads and in-context tokens; d and h may differ."""
    heads = draw.integer(1, 3)
    patch = draw.integer(1, 3)
    return GeneratorSizes(
        input_size=patch * draw.integer(2, 4),
        channels=draw.integer(1, 4),
        patch_size=patch,
        width=heads * draw.choice((4, 8, 12)),
        depth=draw.integer(1, 3),
        heads=heads,
        classes=4,
        condition_width=draw.choice((12, 16, 20)),
        prefix_tokens=draw.integer(2, 5),
        style_tokens=draw.integer(2, 5),
        style_entries=7,
    )


def draw_case(draw: Draw) -> GeneratorCase:
    """A generator of drawn sizes and parameters, and inputs for it."""
    sizes = draw_sizes(draw)
    return make_case("drawn", generator(draw), sizes)


def at_full_input(column: str, sizes: GeneratorSizes) -> GeneratorCase:
    """A column's noise, patches and tokens on a narrow generator of one block."""
    narrow = replace(sizes, width=8, depth=1, heads=1, classes=4, condition_width=8)
    return make_case(column, np.random.default_rng(5), narrow)


# Parameters of a case with something switched off.


def without(case: GeneratorCase, *endings: str) -> GeneratorCase:
    """The case with every parameter set to 0 whose name ends so."""
    held = case.parameters or {}
    return case.with_parameters(
        {name: np.zeros_like(each) for name, each in held.items() if name.endswith(endings)}
    )


def modulations(case: GeneratorCase, leaf: str) -> tuple[str, ...]:
    """Names of every modulation's kernel or bias, in the blocks and in the last layer."""
    blocks = (f"blocks_{number}" for number in range(case.sizes.depth))
    return tuple(f"{place}/TorchLinear_0/Dense_0/{leaf}" for place in (*blocks, "FinalLayer_0"))


def ungated(case: GeneratorCase) -> GeneratorCase:
    """The case with both gates of every block closed, so that a block returns its input."""
    h, changes = case.sizes.width, dict[str, Array]()
    for number in range(case.sizes.depth):
        for leaf in ("kernel", "bias"):
            name = f"{ROOT}/blocks_{number}/TorchLinear_0/Dense_0/{leaf}"
            value = (case.parameters or {})[name].copy()
            value[..., 2 * h : 3 * h] = value[..., 5 * h :] = 0.0
            changes[name] = value
    return case.with_parameters(changes)


def change(context: Context, case: GeneratorCase, other: GeneratorCase) -> float:
    """How far the samples of ``other`` are from the case's, relative to these."""
    before, after = (
        context.generate(each.changed(direction=None)).samples for each in (case, other)
    )
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


Measure = Callable[[Context, Any], Iterator[Measurement]]


def drawn_property(
    name: str, title: str, clauses: tuple[str, ...], measure: Measure, draw: Any = draw_case
) -> Property[Any]:
    """A property over drawn generators; only the closed form has the reference as its oracle."""
    independent = name != "generator.closed_form"
    return Property(name, title, clauses, draw, measure, independent=independent, examples=6)
