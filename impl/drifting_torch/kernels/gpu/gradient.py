"""The gradient on a GPU: one product of all coefficients with the targets (A6-order)."""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.affinities import (
    Affinities,
    How,
    coefficients,
    group_anew,
    temperature_of,
)
from drifting_torch.kernels.gpu.correlate import AT_A_TIME, nothing
from drifting_torch.kernels.gpu.segments import (
    COUNTS,
    GENERATED,
    POSITIVES,
    UNCONDITIONAL,
    cell_of,
    group_of,
    load_tile,
    number,
    pick,
    product,
    reference_of,
    samples_of,
    segment_of,
)


@triton.jit
def _move(tiles, samples, group, means, c, SETS: tl.constexpr, EXACT: tl.constexpr):
    """Coefficients times a block of the targets' channels."""
    reference = reference_of(means, c, group.channels)
    found = tl.zeros((group.rows.shape[0], c.shape[0]), tl.float32)
    for SET in tl.static_range(SETS):
        y = load_tile(
            samples[SET], group.columns[SET], c, group.sizes[SET], group.channels, reference
        )  # fmt: skip
        found = product(tiles[SET], y, found, EXACT=EXACT)
    return found


@triton.jit
def _add(tiles, group, given, how, temperature, SETS: tl.constexpr):
    """Add one temperature's coefficients to the tiles of the three sets."""
    k_p, k_x, k_u = tiles
    here = group_anew(group, temperature.rate)
    n, i, j = here.rows, here.columns[POSITIVES], here.columns[UNCONDITIONAL]
    k_p += coefficients(here, given, how, temperature, n, i, SET=POSITIVES)
    k_x += coefficients(here, given, how, temperature, n, n, SET=GENERATED)
    if SETS > UNCONDITIONAL:
        k_u += coefficients(here, given, how, temperature, n, j, SET=UNCONDITIONAL)
    return k_p, k_x, k_u


@triton.jit
def _moved_by_all(
    moved, samples, c, reference, group, given, how, inverses, own, scale,
    T: tl.constexpr, SET: tl.constexpr,
):  # fmt: skip
    """Go on with Σ V_τ/λ_τ over one set of targets, a few at a time."""
    n, size = group.rows, group.sizes[SET]
    for first in range(0, size, AT_A_TIME):
        m = first + tl.arange(0, AT_A_TIME)
        r = tl.zeros((n.shape[0], AT_A_TIME), tl.float32)
        for t in range(T):
            of_t = temperature_of(group, given, t, scale * tl.load(inverses + t * own), T=T)
            r += coefficients(group, given, how, of_t, n, m, SET=SET)
        y = load_tile(samples, m, c, size, group.channels, reference)
        moved = product(r, y, moved, EXACT=how.EXACT)
    return moved


@triton.jit(do_not_specialize=COUNTS)
def gradient(
    generated, positive, unconditional, strides, outs, firsts, bases, vectors,
    weight, distances, means, normalizers, units, rates, inverses,
    of_loss, of_label, features, with_loss, label_steps, own_cells, shares, cells, cell_firsts,
    count, positives, others, channels, mask, factor,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, WHOLE: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr,
    SHARED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """−2Ṽ·``factor``/S times what arrives: one product of all that multiplies the targets.

    With ``WHOLE`` all coefficients stay in registers, else they are made for each block of
    channels. The segments are those features whose gradients are wanted.

    ``generated``, ``positive``, ``unconditional``, ``strides``, ``firsts``, ``vectors``,
    ``count``, ``positives``, ``others``, ``channels``, ``weight``, ``distances`` and ``means`` are
    those of :func:`measure`, ``normalizers``, ``units``, ``rates``, ``cells`` and ``mask`` those of
    :func:`correlate`, all of them read here.

    ================  ==============================================================
    read              pointers to float32
    ``inverses``      [T·cells], 1/λ, feature after feature, numbers
    ``of_loss``       [S], each to what arrives at a feature's loss, one number
    ``of_label``      [S], each to what arrives at its labels' losses [L]
    ``shares``        one a feature: what a loss' gradient is for each label
    written           pointers
    ``outs``          [S], to gradients [L, N, V, C], 1/unit; steps in ``strides``
    numbers, [S]      all but ``factor`` as ``told``
    ``bases``         the first group of each segment in the bucket
    ``features``      place of each segment in the bucket
    ``with_loss``     1 where something arrives at its loss
    ``label_steps``   step in ``of_label``: 0 for all the same, −1 for none
    ``own_cells``     its cells
    ``cell_firsts``   its first cell in the bucket
    ``factor``        1 over the entries of its drift
    compiled for      as for :func:`correlate`
    ================  ==============================================================
    """
    program = tl.program_id(0).to(tl.int64)
    segment = segment_of(program, firsts, S)
    width = number(vectors, segment, S)
    place = program - number(firsts, segment, S)
    group = place + number(bases, segment, S)
    label, vector = place // width, place % width
    x = samples_of(generated, strides[0], label, vector, segment, S=S, ALIGNED=ALIGNED)
    p = samples_of(positive, strides[1], label, vector, segment, S=S, ALIGNED=ALIGNED)
    out = samples_of(outs, strides[3], label, vector, segment, S=S, ALIGNED=ALIGNED)
    u = x
    if U > 0:
        u = samples_of(unconditional, strides[2], label, vector, segment, S=S, ALIGNED=ALIGNED)
    SETS: tl.constexpr = 3 if U > 0 else 2
    sizes = group_of(count, positives, others, channels, N=N, P=P, U=U)
    samples, n, targets = (p, x, u), sizes.rows, sizes.targets
    distances += group * (count + 1) * targets
    means += group * channels
    if WEIGHTED:
        weight += label * targets
    first = number(cell_firsts, segment, S)
    cell = cell_of(label, vector, width, segment, cell_firsts, S=S, BATCH=BATCH, SHARED=SHARED)
    unit, scale = tl.load(units + cell), tl.load(units + cells + cell)
    step = number(label_steps, segment, S)
    arriving = tl.load(
        pick(of_loss, segment, S), mask=number(with_loss, segment, S) > 0, other=0.0
    )  # fmt: skip
    arriving *= tl.load(shares + number(features, segment, S))
    at = label * tl.maximum(step, 0)
    arriving += tl.load(pick(of_label, segment, S) + at, mask=step >= 0, other=0.0)
    slope = -2.0 * pick(factor, segment, S) * scale * arriving
    normalizers += group * T * (3 * count + targets)
    own = number(own_cells, segment, S)
    inverses += T * first + cell - first
    given = Affinities(
        distances, weight, normalizers, unit, rates, mask
    )  # fmt: skip
    k_p, k_x, k_u = nothing(sizes, SETS=SETS)
    if WHOLE:
        for t in range(T):
            of_t = temperature_of(sizes, given, t, scale * tl.load(inverses + t * own), T=T)
            k_p, k_x, k_u = _add(
                (k_p, k_x, k_u), sizes, given, How(WEIGHTED, EXCLUDED, FLOOR, EXACT), of_t,
                SETS=SETS,
            )  # fmt: skip
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        if WHOLE:
            moved = _move((k_p, k_x, k_u), samples, sizes, means, c, SETS=SETS, EXACT=EXACT)
        else:
            reference = reference_of(means, c, channels)
            moved = tl.zeros((N, C), tl.float32)
            # Where there are no unconditional samples, the last one's loop does not begin.
            for SET in tl.static_range(3):
                moved = _moved_by_all(
                    moved, samples[SET], c, reference, sizes, given,
                    How(WEIGHTED, EXCLUDED, FLOOR, EXACT), inverses, own, scale, T=T, SET=SET,
                )  # fmt: skip
        moved *= slope
        inside = (n < count)[:, None] & (c < channels)[None, :]
        into = out.start + n.to(tl.int64)[:, None] * out.of_sample + c[None, :] * out.of_channel
        tl.store(into, moved.to(out.start.dtype.element_ty), mask=inside)
