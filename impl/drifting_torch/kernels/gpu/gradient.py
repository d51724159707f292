"""The gradient on a GPU: one product of all coefficients with the targets (A6-order)."""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.affinities import anew, coefficients
from drifting_torch.kernels.gpu.correlate import nothing
from drifting_torch.kernels.gpu.segments import (
    COUNTS,
    cell_of,
    load_tile,
    number,
    pick,
    product,
    reference_of,
    samples_of,
    segment_of,
)


@triton.jit
def _move(r_p, r_x, r_u, x, p, u, means, n, i, j, c, count, positives, others, channels,
          x_n, x_c, p_n, p_c, u_n, u_c, U: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """Coefficients times a block of the targets' channels."""
    reference = reference_of(means, c, channels)
    b = load_tile(p, i, c, positives, channels, p_n, p_c, reference)
    found = product(r_p, b, tl.zeros((n.shape[0], c.shape[0]), tl.float32), EXACT)
    a = load_tile(x, n, c, count, channels, x_n, x_c, reference)
    found = product(r_x, a, found, EXACT)
    if U > 0:
        d = load_tile(u, j, c, others, channels, u_n, u_c, reference)
        found = product(r_u, d, found, EXACT)
    return found


@triton.jit
def _add(
    k_p, k_x, k_u, distances, weight, known, rate, unit, scale, mask, n, i, j,
    count, positives, others,
    U: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """Add one temperature's coefficients, times ``scale``, to tiles for the three sets."""
    targets, at = positives + count + others, positives + count
    n, i, j = anew(n, rate), anew(i, rate), anew(j, rate)
    k_p += coefficients(
        distances, weight, known, 0, rate * unit, scale, mask * rate, n, i, count, positives,
        targets, True, False, WEIGHTED, EXCLUDED, FLOOR,
    )  # fmt: skip
    k_x += coefficients(
        distances, weight, known, positives, rate * unit, scale, mask * rate, n, n, count, count,
        targets, False, True, WEIGHTED, EXCLUDED, FLOOR,
    )  # fmt: skip
    if U > 0:
        k_u += coefficients(
            distances, weight, known, at, rate * unit, scale, mask * rate, n, j, count, others,
            targets, False, False, WEIGHTED, EXCLUDED, FLOOR,
        )  # fmt: skip
    return k_p, k_x, k_u


@triton.jit
def _moved_by_all(
    moved, samples, c, channels, stride_n, stride_c, reference, distances, weight, normalizers,
    inverses, own, rates, unit, scale, mask, n, at, count, size, targets,
    K: tl.constexpr, T: tl.constexpr, POSITIVE: tl.constexpr, OWN: tl.constexpr,
    WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Go on with Σ V_τ/λ_τ over one set of targets, ``K`` at a time."""
    for first in range(0, size, K):
        m = first + tl.arange(0, K)
        r = tl.zeros((n.shape[0], K), tl.float32)
        for t in range(T):
            rate = pick(rates, t, T)
            r += coefficients(
                distances, weight, normalizers + t * (3 * count + targets), at, rate * unit,
                scale * tl.load(inverses + t * own), mask * rate, n, m, count, size, targets,
                POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
        y = load_tile(samples, m, c, size, channels, stride_n, stride_c, reference)
        moved = product(r, y, moved, EXACT)
    return moved


@triton.jit(do_not_specialize=COUNTS)
def gradient(
    xs, ps, us, strides, outs, firsts, bases, vectors, weight, distances, means, normalizers, units,
    rates,
    inverses, of_loss, of_label, given, shares, cells, cell_firsts,
    count, positives, others, channels, mask, factor,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, WHOLE: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr,
    SHARED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """−2Ṽ·``factor``/S times what arrives: one product of all that multiplies the targets.

    ``of_loss`` and ``of_label`` hold the gradients arriving at a feature's loss and at its labels,
    ``given`` for each segment (its place in the bucket, whether there is the one, the step of the
    other, 0 for all the same, −1 for none, its cells). With
    ``WHOLE`` all coefficients stay in registers, else they are made for each block of channels.
    """
    program = tl.program_id(0).to(tl.int64)
    segment = segment_of(program, firsts, S)
    width = number(vectors, segment, S)
    place = program - number(firsts, segment, S)
    group = place + number(bases, segment, S)
    label, vector = place // width, place % width
    x, x_n, x_c = samples_of(xs, strides, 0, label, vector, segment, S, ALIGNED)
    p, p_n, p_c = samples_of(ps, strides, 4, label, vector, segment, S, ALIGNED)
    out, out_n, out_c = samples_of(outs, strides, 12, label, vector, segment, S, ALIGNED)
    n, i = tl.arange(0, N), tl.arange(0, P)
    u, u_n, u_c, j = x, x_n, x_c, n
    if U > 0:
        u, u_n, u_c = samples_of(us, strides, 8, label, vector, segment, S, ALIGNED)
        j = tl.arange(0, U)
    targets = positives + count + others
    distances += group * (count + 1) * targets
    means += group * channels
    if WEIGHTED:
        weight += label * targets
    first = number(cell_firsts, segment, S)
    cell = cell_of(label, vector, width, segment, cell_firsts, S, BATCH, SHARED)
    unit, scale = tl.load(units + cell), tl.load(units + cells + cell)
    step = number(given[2], segment, S)
    arriving = tl.load(pick(of_loss, segment, S), mask=number(given[1], segment, S) > 0, other=0.0)
    arriving *= tl.load(shares + number(given[0], segment, S))
    at = label * tl.maximum(step, 0)
    arriving += tl.load(pick(of_label, segment, S) + at, mask=step >= 0, other=0.0)
    slope = -2.0 * pick(factor, segment, S) * scale * arriving
    normalizers += group * T * (3 * count + targets)
    own = number(given[3], segment, S)
    inverses += T * first + cell - first
    k_p, k_x, k_u = nothing(N, P, U)
    if WHOLE:
        for t in range(T):
            k_p, k_x, k_u = _add(
                k_p, k_x, k_u, distances, weight, normalizers + t * (3 * count + targets),
                pick(rates, t, T), unit, scale * tl.load(inverses + t * own), mask, n, i, j,
                count, positives, others, U, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        if WHOLE:
            moved = _move(k_p, k_x, k_u, x, p, u, means, n, i, j, c, count, positives, others,
                          channels, x_n, x_c, p_n, p_c, u_n, u_c, U, EXACT)  # fmt: skip
        else:
            reference = reference_of(means, c, channels)
            moved = tl.zeros((N, C), tl.float32)
            moved = _moved_by_all(
                moved, p, c, channels, p_n, p_c, reference, distances, weight, normalizers,
                inverses, own, rates, unit, scale, mask, n, 0, count, positives, targets,
                16, T, True, False, WEIGHTED, EXCLUDED, FLOOR, EXACT,
            )  # fmt: skip
            moved = _moved_by_all(
                moved, x, c, channels, x_n, x_c, reference, distances, weight, normalizers,
                inverses, own, rates, unit, scale, mask, n, positives, count, count, targets,
                16, T, False, True, WEIGHTED, EXCLUDED, FLOOR, EXACT,
            )  # fmt: skip
            moved = _moved_by_all(
                moved, u, c, channels, u_n, u_c, reference, distances, weight, normalizers,
                inverses, own, rates, unit, scale, mask, n, positives + count, count, others,
                targets, 16, T, False, False, WEIGHTED, EXCLUDED, FLOOR, EXACT,
            )  # fmt: skip
        moved *= slope
        inside = (n < count)[:, None] & (c < channels)[None, :]
        into = out + n.to(tl.int64)[:, None] * out_n + c[None, :] * out_c
        tl.store(into, moved.to(out.dtype.element_ty), mask=inside)
