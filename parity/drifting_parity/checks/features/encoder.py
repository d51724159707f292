"""The encoder, its taps, mask and decoder (A.3, A5-taps): PB-37 with real maps, PB-43, PB-44.

The release's own activations (B files) are in ``encoder_vectors``. Here the reference's literal
layers are the oracle for small encoders drawn at random, and identities need no oracle: no
coupling between samples, sides and channels, blindness to what is masked, patches put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, EncoderCase, Manifest, VectorizeCase
from drifting_parity.checks.core import Check, Context, Property, Yield
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement, at_least, compare, within
from drifting_reference import decoder_shapes, encoder_shapes
from drifting_spec import AXES, RELEASE
from drifting_spec.inventory import tapped_maps
from drifting_spec.registry import Tolerance

EXACT = Tolerance("exact", "exact", "any", 0.0, 0.0, "equal or not")
STAGES = ("EQ-A3enc", "A3-stages")
STEPS: Mapping[str, tuple[str, ...]] = {
    "bridge": ("A3-dec-bridge",),
    "grid": ("A3-dec-head",),
    "output": ("EQ-A3dec", "A3-dec-head"),
}
"""Which clause each step of the decoder speaks for; the others are upsampling blocks."""

COUNTS = {"union": 9, "coincident_twice": 11, "network_output": 8, "release": 12}
TOTALS = {"union": 4542, "coincident_twice": 5066, "network_output": 2876, "release": 6732}


def clauses_of(name: str) -> tuple[str, ...]:
    """Which clauses a map speaks for, as locally as it can."""
    if name == "stem":
        return ("A3-stem",)
    return (*STAGES, "A3-norm") if name.endswith("final") else STAGES


def drawn_parameters(
    rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Kernels that keep the size of what passes, scales about 1, biases about 0."""
    drawn: dict[str, Array] = {}
    for name, shape in shapes.items():
        value = rng.standard_normal(shape)
        if name.endswith("kernel"):
            drawn[name] = value * np.sqrt(2.0 / np.prod(shape[:3]))
        else:
            drawn[name] = 0.2 * value + (1.0 if name.endswith("scale") else 0.0)
    return drawn


def make_case(
    name: str,
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    width: int,
    blocks: tuple[int, ...],
    patch_size: int = 1,
) -> EncoderCase:
    """Images of ``shape``, parameters of encoder and decoder, and a mask of 2×2 cells."""
    batch, channels, height, columns = shape
    grid = (batch, height // patch_size // 2, columns // patch_size // 2)
    cells = (rng.uniform(size=grid) < 0.5).astype(np.float64)
    inside = channels * patch_size**2
    shapes = encoder_shapes(width, inside, blocks, RELEASE)
    shapes |= decoder_shapes(width, inside, len(blocks))
    return EncoderCase(
        Manifest(f"{name}, {shape} images, width {width}, blocks {blocks}, patches {patch_size}"),
        images=rng.standard_normal(shape),
        parameters=drawn_parameters(rng, shapes),
        width=width,
        blocks=blocks,
        patch_size=patch_size,
        mask=cells.repeat(2, axis=1).repeat(2, axis=2),
    )


def draw_case(draw: Draw) -> EncoderCase:
    """Three stages of one to four blocks on a grid of 16 (or 16×24), latent or patchified."""
    blocks = (draw.integer(1, 4), draw.integer(1, 3), draw.integer(1, 2))
    # Widths with one and with several channels in a group: 6 → 6 groups, 34 → 17 of two.
    width, patch_size = draw.choice((6, 8, 34)), draw.choice((1, 2))
    height, columns = draw.choice(((16, 16), (16, 24)))
    shape = (2, draw.integer(1, 3), height * patch_size, columns * patch_size)
    return make_case("drawn", generator(draw), shape, width, blocks, patch_size)


def needs_single_precision(context: Context) -> None:
    """Activations of many layers are not comparable in less than single precision."""
    if context.setting.dtype not in {"float64", "float32"}:
        raise NotObservable(f"activations are not comparable in {context.setting.dtype}")


def _closed_form(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    """Every tapped map against the reference. Kills wrong strides, groups, shortcuts, taps."""
    needs_single_precision(context)
    found, expected = context.encoder_maps(case), context.expected_encoder_maps(case)
    near, tolerance = case.manifest.id, context.tolerance("encoder")
    yield within("A5-taps", "maps missing or too many", near, len(set(found) ^ set(expected)), 0)
    for name, array in expected.items():
        if name in found:
            clauses = clauses_of(name)
            if case.patch_size > 1 and name == next(iter(expected)):
                clauses = (*clauses, "A3-enc-in")
            yield compare(clauses, name, near, found[name], array, tolerance)


def _uncoupled(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    """f(x_1, x_2)_1 = f(x_1), and twice the same. Kills BatchNorm, dropout, a random mask."""
    needs_single_precision(context)
    both = context.encoder_maps(case)
    other = context.encoder_maps(case.changed(images=np.stack([case.images[0], -case.images[1]])))
    again = context.encoder_maps(case)
    near, tolerance = case.manifest.id, context.tolerance("encoder")
    for name, array in both.items():
        what = f"{name} beside another sample"
        yield compare("A3-norm", what, near, other.get(name, np.empty(0))[:1], array[:1], tolerance)
        what = f"{name} once more"
        yield compare("A3-enc-only", what, near, again[name], array, tolerance)


def _unmasked(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    """Every position of the input counts. Kills an encoder that is fed a masked input."""
    needs_single_precision(context)
    before = context.encoder_maps(case)
    first = next(iter(before))
    rng = np.random.default_rng(0)
    for _ in range(4):
        row, column = (int(rng.integers(side)) for side in case.images.shape[2:])
        images = case.images.copy()
        images[:, :, row, column] += 3.0
        change = np.abs(context.encoder_maps(case.changed(images=images))[first] - before[first])
        near = f"{case.manifest.id}, position {row}, {column}"
        yield at_least("A3-enc-only", f"change of {first}", near, float(change.max()), 1e-3)


def _shapes(context: Context) -> Iterator[Yield]:
    """PB-37 with real taps: names, sides, channels and vectors, on 32×32 latents and on images."""
    for case in (
        make_case("latent", np.random.default_rng(1), (1, 4, 32, 32), 4, (3, 4, 6, 3)),
        make_case("pixel", np.random.default_rng(2), (1, 3, 256, 256), 2, (3, 4, 6, 3), 8),
    ):
        for taps in AXES["taps"]:
            if taps != context.readings.taps and not context.adapter.configurable:
                continue
            yield from _shapes_under(context.under(taps=taps), case)


def _shapes_under(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    taps, maps = context.readings.taps, context.encoder_maps(case)
    near = f"{case.manifest.id}, taps {taps}"
    wanted = tapped_maps(case.blocks, taps)
    yield within("A5-taps", "maps missing or too many", near, len(set(maps) ^ set(wanted)), 0)
    yield within("A5-taps", "number of maps off by", near, abs(len(maps) - COUNTS[taps]), 0)
    for name in wanted:
        stage = 0 if name == "stem" else int(name[5]) - 1
        side, channels = 32 // 2**stage, case.width * 2**stage
        got = np.asarray(maps[name].shape if name in maps else (0, 0, 0, 0), dtype=np.float64)
        expected = np.asarray((1, channels, side, side), dtype=np.float64)
        clauses = ("A3-stem",) if name == "stem" else (*STAGES, "A3-width")
        yield compare((*clauses, "A3-enc-in"), f"shape of {name}", near, got, expected, EXACT)
    if not wanted or set(maps) != set(wanted):
        return
    statistics = ("loc", "global", "patch2", "patch4")
    vectors = context.vectorize(VectorizeCase(case.manifest, maps, statistics=statistics))
    count = sum(array.shape[1] for array in vectors.values())
    yield within("A5-total", "number of vectors off by", near, abs(count - TOTALS[taps]), 0)


def _decoder(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    """Every step against the reference. Kills another skip, a fourth doubling, nearest ×2."""
    needs_single_precision(context)
    found, expected = context.reconstruct(case), context.expected_reconstruct(case)
    near, tolerance = case.manifest.id, context.tolerance("encoder")
    for name, array in expected.items():
        if name in found:
            clauses = STEPS.get(name, ("A3-dec-up",))
            yield compare(clauses, name, near, found[name], array, tolerance)


def _decoder_shapes(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    """The output has the input's shape, the bridge the coarsest side, then each side twice it."""
    found, near = context.reconstruct(case), case.manifest.id
    grid = [side // case.patch_size for side in case.images.shape[2:]]
    coarsest = 2 ** (len(case.blocks) - 1)
    for name, array in found.items():
        doublings = {"bridge": 0, "grid": len(case.blocks) - 1}
        if name == "output":
            wanted = case.images.shape[2:]
        else:
            steps = doublings.get(name, int(name[2:]) if name.startswith("up") else 0)
            wanted = [side // coarsest * 2 ** min(steps, len(case.blocks) - 1) for side in grid]
        clauses, what = STEPS.get(name, ("A3-dec-up",)), f"sides of {name}"
        got = np.asarray(array.shape[2:], dtype=np.float64)
        yield compare(clauses, what, near, got, np.asarray(wanted, dtype=np.float64), EXACT)
    got = np.asarray(found["output"].shape, dtype=np.float64)
    expected = np.asarray(case.images.shape, dtype=np.float64)
    yield compare(STEPS["output"], "shape of output", near, got, expected, EXACT)


def _hidden(context: Context, case: EncoderCase) -> Iterator[Measurement]:
    """What is masked does not count, in no channel; what is visible does. Kills a wrong grid."""
    needs_single_precision(context)
    assert case.mask is not None
    mask = case.mask.copy()
    mask[:, :2, :2], mask[:, :2, 2:4] = 1.0, 0.0
    case = case.changed(mask=mask)
    pixels = mask.repeat(case.patch_size, axis=1).repeat(case.patch_size, axis=2)[:, None]
    before, near = context.reconstruct(case)["output"], case.manifest.id
    other = np.random.default_rng(3).standard_normal(case.images.shape)
    unseen = case.changed(images=np.where(pixels > 0, other, case.images))
    what, tolerance = "reconstruction, masked entries changed", context.tolerance("encoder")
    yield compare("A3-mask", what, near, context.reconstruct(unseen)["output"], before, tolerance)
    seen = case.changed(images=np.where(pixels > 0, case.images, other))
    change = float(np.abs(context.reconstruct(seen)["output"] - before).max())
    yield at_least("A3-mask", "reconstruction, visible entries changed", near, change, 1e-3)


def _masks(context: Context, seed: int) -> Iterator[Measurement]:
    """PB-43: cells of 2×2, each a fair coin of its own. Kills a fixed number, one mask for all.

    Everything is a count of fair coins; six standard deviations are left.
    """
    count, near = 400, f"400 masks, seed {seed}"
    masks = context.adapter.masks(count, 32, seed)
    cells = masks[:, ::2, ::2]
    blocks = cells.repeat(2, axis=1).repeat(2, axis=2)
    yield compare("A3-mask", "mask of 2×2 cells", near, masks, blocks, EXACT)
    coins = 2.0 * cells.reshape(count, -1) - 1.0
    total = abs(float(coins.sum()))
    yield within("A3-mask", "cells masked, beside half", near, total, 6.0 * np.sqrt(coins.size))
    # The number masked of each sample is binomial: its variance is 256/4, known to √(2/400).
    spread = float(np.var(cells.reshape(count, -1).sum(axis=1)))
    yield within("A3-mask", "variance of the number, beside 64", near, abs(spread - 64.0), 28.0)
    # χ² of the cells' pairs: neighbours in the grid, and the same cell of the next sample.
    for what, left, right in (
        ("neighbours in a row", cells[:, :, :-1], cells[:, :, 1:]),
        ("neighbours in a column", cells[:, :-1], cells[:, 1:]),
        ("one cell of two samples", cells[:-1], cells[1:]),
    ):
        product = (2.0 * left - 1.0) * (2.0 * right - 1.0)
        chi = float(product.sum()) ** 2 / product.size
        yield within("A3-mask", f"χ² of {what}", near, chi, 36.0)


def _draw_seed(draw: Draw) -> int:
    return draw.integer(0, 2**31 - 1)


def _draw_loss(draw: Draw) -> tuple[Array, Array, Array]:
    """Latents, a reconstruction and a mask with at least one cell of each kind."""
    rng, channels = generator(draw), draw.integer(1, 4)
    images, output = rng.standard_normal((2, 3, channels, 8, 12))
    cells = (rng.uniform(size=(3, 4, 6)) < 0.5).astype(np.float64)
    cells[:, 0, 0], cells[:, 0, 1] = 1.0, 0.0
    return images, output, cells.repeat(2, axis=1).repeat(2, axis=2)


def _loss(context: Context, drawn: tuple[Array, Array, Array]) -> Iterator[Measurement]:
    """Quadratic, on masked positions alone, as one of P-41's means; 0 where none is masked.

    Kills a loss over everything, an absolute error, 0/0.
    """
    needs_single_precision(context)
    images, output, mask = drawn
    adapter, setting, near = context.adapter, context.setting, f"{images.shape} latents"
    tolerance = context.tolerance("loss")
    loss = adapter.reconstruction_loss(images, output, mask, setting)
    hidden = mask[:, None] > 0
    other = np.where(hidden, output, -3.0 * output)
    found = adapter.reconstruction_loss(images, other, mask, setting)
    yield compare("A3-loss", "loss, visible entries changed", near, found, loss, tolerance)
    doubled = adapter.reconstruction_loss(images, 2.0 * output - images, mask, setting)
    yield compare("A3-loss", "loss, errors doubled", near, doubled, 4.0 * loss, tolerance)
    squares = np.where(hidden, (images - output) ** 2, 0.0)
    by_sample = np.mean(squares.sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2)))
    channels = images.shape[1]
    means = np.asarray([by_sample, by_sample / channels, squares.sum() / mask.sum() / channels])
    nearest = float(means[np.argmin(np.abs(means - loss))])
    yield compare("A3-loss", "loss, the nearest of P-41's", near, loss, nearest, tolerance)
    nothing = adapter.reconstruction_loss(images, output, np.zeros_like(mask), setting)
    yield compare("A3-loss", "loss, nothing masked", near, nothing, 0.0, EXACT)


def _patches(context: Context, drawn: tuple[Array, int]) -> Iterator[Measurement]:
    """PB-44: patches go where they came from, row by row, the channels innermost."""
    images, side = drawn
    near, adapter = f"{images.shape} images, patches {side}", context.adapter
    grid = adapter.patchify(images, side)
    cells = [images[:, :, row::side, column::side] for row in range(side) for column in range(side)]
    expected = np.concatenate(cells, axis=1)
    yield compare("A3-enc-in", "patches", near, grid, expected, EXACT)
    back = adapter.unpatchify(expected, side)
    yield compare("A3-dec-head", "patches put back", near, back, images, EXACT)


def _draw_images(draw: Draw) -> tuple[Array, int]:
    side = draw.choice((1, 2, 3, 8, 16))
    shape = (draw.integer(1, 2), draw.integer(1, 3))
    sides = (side * draw.integer(1, 3), side * draw.integer(1, 3))
    return generator(draw).standard_normal((*shape, *sides)), side


def _ramp(context: Context) -> Iterator[Yield]:
    """λ rises to 0.1 over 1000 steps and stays. Kills a ramp that starts at 0.1 or ends at 3000."""
    printed = Tolerance("ramp", "ramp", "any", 1e-15, 0.0, "one product")
    for step, value in ((0, 0.0), (1, 1e-4), (500, 0.05), (1000, 0.1), (2999, 0.1)):
        got = context.adapter.classification_weight(step)
        yield compare("A3-cls-lambda", "λ", f"step {step}", got, value, printed)


def _property(
    name: str, title: str, clauses: tuple[str, ...], measure: Any, draw: Any, examples: int = 6
) -> Property[Any]:
    independent = name not in {"encoder.closed_form", "decoder.closed_form"}
    return Property(name, title, clauses, draw, measure, independent=independent, examples=examples)


DECODER = ("EQ-A3dec", "A3-dec-bridge", "A3-dec-up", "A3-dec-head")

PROPERTIES: tuple[Property[Any], ...] = (
    _property(
        "encoder.closed_form",
        "small encoders with drawn parameters, map by map",
        (*STAGES, "A3-stem", "A3-norm", "A3-enc-in", "A5-taps"),
        _closed_form,
        draw_case,
    ),
    _property(
        "encoder.uncoupled",
        "a sample's maps do not depend on the others, nor on chance",
        ("A3-norm", "A3-enc-only"),
        _uncoupled,
        draw_case,
        4,
    ),
    _property(
        "encoder.unmasked",
        "every position of the input counts for the maps",
        ("A3-enc-only",),
        _unmasked,
        draw_case,
        3,
    ),
    _property(
        "decoder.closed_form",
        "small decoders with drawn parameters, step by step",
        DECODER,
        _decoder,
        draw_case,
    ),
    _property(
        "decoder.sides",
        "the decoder doubles the coarsest side until the input's shape is back",
        DECODER,
        _decoder_shapes,
        draw_case,
        4,
    ),
    _property(
        "autoencoder.hidden",
        "masked entries do not count for the reconstruction, visible ones do",
        ("A3-mask",),
        _hidden,
        draw_case,
        4,
    ),
    _property(
        "autoencoder.masks",
        "PB-43: masks of 2×2 cells, each a fair coin of its own",
        ("A3-mask",),
        _masks,
        _draw_seed,
        3,
    ),
    _property(
        "autoencoder.loss",
        "the reconstruction loss is quadratic and sees masked positions alone",
        ("A3-loss",),
        _loss,
        _draw_loss,
    ),
    _property(
        "encoder.patches",
        "PB-44: patches are put back where they came from",
        ("A3-enc-in", "A3-dec-head"),
        _patches,
        _draw_images,
    ),
)

CHECKS: tuple[Check, ...] = (
    Check(
        "encoder.taps",
        "PB-37: names, sides, channels and vectors of the maps of [3, 4, 6, 3] blocks",
        (*STAGES, "A3-stem", "A3-enc-in", "A3-width", "A5-taps", "A5-total"),
        "property",
        _shapes,
    ),
    Check(
        "autoencoder.ramp",
        "PB-42: λ of the implementation's fine-tuning",
        ("A3-cls-lambda",),
        "golden value",
        _ramp,
    ),
)
