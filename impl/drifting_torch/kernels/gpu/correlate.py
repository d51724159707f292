"""Products of two temperatures' drifts on a GPU: what λ and the loss need (EQ-25, A6-mse).

Only distances and inner products are kept, coefficients are made where they are multiplied.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.affinities import anew, coefficients, normalize
from drifting_torch.kernels.gpu.segments import (
    COUNTS,
    cell_of,
    kept_tile,
    load_tile,
    number,
    pick,
    product,
    reference_of,
    row_of,
    samples_of,
    segment_of,
)


@triton.jit
def _tile_across(tiles, at, n, m, count, size, row):
    """A tile that is kept the other way round."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.load(tiles + n[:, None] + at + m[None, :] * row, mask=valid, other=0.0)


@triton.jit
def _inner(distances, at, norms_n, norms_m, n, m, count, size, step_n, step_m, OWN: tl.constexpr):
    """Inner products of two sets, one of them the generated samples, from distances and norms."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    places = distances + at + n[:, None] * step_n + m[None, :] * step_m
    found = tl.load(places, mask=valid, other=0.0)
    if OWN:
        found = tl.where(n[:, None] == m[None, :], 0.0, found)
    squares = norms_n[:, None] * norms_n[:, None] + norms_m[None, :] * norms_m[None, :]
    return 0.5 * (squares - found * found)


@triton.jit
def _norms(distances, at, m, size):
    """Distances of one set from the generated samples' mean; ``distances`` is that row."""
    found = tl.load(distances + at + m, mask=m < size, other=0.0)
    return tl.where(m < size, found, 0.0)  # said twice: fewer registers spill


@triton.jit
def nothing(N: tl.constexpr, P: tl.constexpr, U: tl.constexpr):
    """Tiles for the three sets to add to."""
    k_p, k_x = tl.zeros((N, P), tl.float32), tl.zeros((N, N), tl.float32)
    k_u = k_x
    if U > 0:
        k_u = tl.zeros((N, U), tl.float32)
    return k_p, k_x, k_u


@triton.jit
def _along(
    q_p, q_x, q_u, terms, distances, gram, weight, known, rate, scale, mask, n, i, j, m, at, size,
    norms_n, count, positives, others,
    U: tl.constexpr, POSITIVE: tl.constexpr, OWN: tl.constexpr, WEIGHTED: tl.constexpr,
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Go on with R·G for the three sets, and with the rows of |R|·norms, over some targets ``m``.

    They are positives, the generated samples (``OWN``), or unconditional samples, from ``at``.
    """
    targets, rest, last = positives + count + others, positives + others, positives + count
    from_mean = distances + count * targets
    norms = _norms(from_mean, at, m, size)
    r = coefficients(
        distances, weight, known, at, rate, scale, mask, n, m, count, size, targets,
        POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
    )  # fmt: skip
    terms += tl.sum(tl.abs(r) * norms[None, :], 1)
    if OWN:
        norms_i = _norms(from_mean, 0, i, positives)
        tile = _inner(distances, 0, norms, norms_i, m, i, count, positives, targets, 1, False)
        q_p = product(r, tile, q_p, EXACT)
        tile = _inner(
            distances, positives, norms, norms_n, m, n, count, count, targets, 1, True
        )  # fmt: skip
        q_x = product(r, tile, q_x, EXACT)
        if U > 0:
            norms_j = _norms(from_mean, last, j, others)
            tile = _inner(distances, last, norms, norms_j, m, j, count, others, targets, 1, False)
            q_u = product(r, tile, q_u, EXACT)
    else:
        if POSITIVE:
            tile = kept_tile(gram, 0, m, i, positives, positives, rest)
        else:
            tile = _tile_across(gram, positives, m, i, others, positives, rest)
        q_p = product(r, tile, q_p, EXACT)
        tile = _inner(distances, at, norms, norms_n, m, n, size, count, 1, targets, False)
        q_x = product(r, tile, q_x, EXACT)
        if U > 0:
            first = positives if POSITIVE else positives * rest + positives
            tile = kept_tile(gram, first, m, j, size, others, rest)
            q_u = product(r, tile, q_u, EXACT)
    return q_p, q_x, q_u, terms


@triton.jit
def _by_traces(
    distances, gram, weight, normalizers, rates, unit, scale, mask, products, groups,
    n, i, j, count, positives, others,
    N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, K: tl.constexpr, T: tl.constexpr,
    CROSSED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, CANCELLED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """⟨V_a, V_b⟩ = tr(R_a G R_bᵀ), without any channel; whether some ⟨V_a, V_a⟩ cancelled.

    R_a·G grows over ``K`` targets at a time: registers hold it and little besides.
    """
    targets, at = positives + count + others, positives + count
    wide = 3 * count + targets
    places_n, places_i, places_j = n, i, j
    cancelled = 0
    for a in range(T):
        rate = pick(rates, a, T)
        n, i, j = anew(places_n, rate), anew(places_i, rate), anew(places_j, rate)
        norms_n = _norms(distances + count * targets, positives, n, count)
        known = normalizers + a * wide
        q_p, q_x, q_u = nothing(N, P, U)
        terms = tl.zeros((N,), tl.float32)
        for first in range(0, positives, K):
            q_p, q_x, q_u, terms = _along(
                q_p, q_x, q_u, terms, distances, gram, weight, known, rate * unit, scale,
                mask * rate, n, i, j, first + tl.arange(0, K), 0, positives,
                norms_n, count, positives, others,
                U, True, False, WEIGHTED, EXCLUDED, FLOOR, EXACT,
            )  # fmt: skip
        for first in range(0, count, K):
            q_p, q_x, q_u, terms = _along(
                q_p, q_x, q_u, terms, distances, gram, weight, known, rate * unit, scale,
                mask * rate, n, i, j, first + tl.arange(0, K), positives, count,
                norms_n, count, positives, others,
                U, False, True, WEIGHTED, EXCLUDED, FLOOR, EXACT,
            )  # fmt: skip
        for first in range(0, others, K):
            q_p, q_x, q_u, terms = _along(
                q_p, q_x, q_u, terms, distances, gram, weight, known, rate * unit, scale,
                mask * rate, n, i, j, first + tl.arange(0, K), at, others,
                norms_n, count, positives, others,
                U, False, False, WEIGHTED, EXCLUDED, FLOOR, EXACT,
            )  # fmt: skip
        # Where all coincides there is nothing to cancel.
        most = tl.sum(terms * terms, 0)
        least = tl.where(most > 0, CANCELLED * most, -1.0)
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            rate = pick(rates, b, T)
            n, i, j = anew(places_n, rate), anew(places_i, rate), anew(places_j, rate)
            known = normalizers + b * wide
            r = coefficients(
                distances, weight, known, 0, rate * unit, scale, mask * rate, n, i, count,
                positives, targets, True, False, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
            rows = tl.sum(q_p * r, 1)
            r = coefficients(
                distances, weight, known, positives, rate * unit, scale, mask * rate, n, n, count,
                count, targets, False, True, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
            rows += tl.sum(q_x * r, 1)
            if U > 0:
                r = coefficients(
                    distances, weight, known, at, rate * unit, scale, mask * rate, n, j, count,
                    others, targets, False, False, WEIGHTED, EXCLUDED, FLOOR,
                )  # fmt: skip
                rows += tl.sum(q_u * r, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            cancelled += ((step == 0) & (found <= least)).to(tl.int32)
            tl.store(products + row_of(a, b, T) * groups, found)
    return cancelled


@triton.jit
def _entry(values, slots, at):
    """Entry of a tile at a place that is known only when running."""
    return tl.sum(tl.where(slots == at, values, 0.0), 0)


@triton.jit
def _inverse_norm(squares, slots, at):
    """1/√ of an entry, with 1/0 := 0."""
    square = _entry(squares, slots, at)
    return tl.where(square > 0, tl.rsqrt(tl.where(square > 0, square, 1.0)), 0.0).to(tl.float32)


@triton.jit
def _moved(
    moved, samples, c, channels, stride_n, stride_c, reference, distances, weight, of_a, of_b,
    rate_a, rate_b, scale_a, scale_b, unit, mask, n, at, count, size, targets,
    K: tl.constexpr, POSITIVE: tl.constexpr, OWN: tl.constexpr, WEIGHTED: tl.constexpr,
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Go on with two temperatures' scaled drifts over one set of targets, ``K`` at a time."""
    for first in range(0, size, K):
        m = first + tl.arange(0, K)
        r = coefficients(
            distances, weight, of_a, at, rate_a * unit, scale_a, mask * rate_a, n, m, count, size,
            targets, POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
        )  # fmt: skip
        if scale_b != 0:
            r += coefficients(
                distances, weight, of_b, at, rate_b * unit, scale_b, mask * rate_b, n, m, count,
                size, targets, POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
        y = load_tile(samples, m, c, size, channels, stride_n, stride_c, reference)
        moved = product(r, y, moved, EXACT)
    return moved


@triton.jit
def _directly(
    x, p, u, means, distances, weight, normalizers, rates, unit, scale, mask, products, groups,
    n, count, positives, others, channels, x_n, x_c, p_n, p_c, u_n, u_c,
    C: tl.constexpr, K: tl.constexpr, T: tl.constexpr, SLOTS: tl.constexpr,
    CROSSED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """⟨V_a, V_b⟩ from squares over all channels: first ‖V_a‖², then ‖V_a/‖V_a‖ + V_b/‖V_b‖‖².

    So there is one matrix of coefficients at a time, and a product is as exact as its factors'
    norms allow.
    """
    targets = positives + count + others
    slots = tl.arange(0, SLOTS)
    squares = tl.zeros((SLOTS,), tl.float64)
    for a in range(T):
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            scale_a = scale * tl.where(step == 0, 1.0, _inverse_norm(squares, slots, a))
            scale_b = scale * tl.where(step == 0, 0.0, _inverse_norm(squares, slots, b))
            rate_a, rate_b = pick(rates, a, T), pick(rates, b, T)
            of_a = normalizers + a * (3 * count + targets)
            of_b = normalizers + b * (3 * count + targets)
            rows = tl.zeros((n.shape[0],), tl.float32)
            for start in range(0, channels, C):
                c = start + tl.arange(0, C)
                reference = reference_of(means, c, channels)
                moved = tl.zeros((n.shape[0], C), tl.float32)
                moved = _moved(
                    moved, p, c, channels, p_n, p_c, reference, distances, weight, of_a, of_b,
                    rate_a, rate_b, scale_a, scale_b, unit, mask, n, 0, count, positives,
                    targets, K, True, False, WEIGHTED, EXCLUDED, FLOOR, EXACT,
                )  # fmt: skip
                moved = _moved(
                    moved, x, c, channels, x_n, x_c, reference, distances, weight, of_a, of_b,
                    rate_a, rate_b, scale_a, scale_b, unit, mask, n, positives, count, count,
                    targets, K, False, True, WEIGHTED, EXCLUDED, FLOOR, EXACT,
                )  # fmt: skip
                moved = _moved(
                    moved, u, c, channels, u_n, u_c, reference, distances, weight, of_a, of_b,
                    rate_a, rate_b, scale_a, scale_b, unit, mask, n, positives + count, count,
                    others, targets, K, False, False, WEIGHTED, EXCLUDED, FLOOR, EXACT,
                )  # fmt: skip
                rows += tl.sum(moved * moved, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            squares = tl.where((slots == a) & (step == 0), found, squares)
            size = _entry(squares, slots, a) * _entry(squares, slots, b)
            found = tl.where(step == 0, found, 0.5 * tl.sqrt(size) * (found - 2.0))
            tl.store(products + row_of(a, b, T) * groups, found)


@triton.jit(do_not_specialize=COUNTS)
def correlate(
    xs, ps, us, strides, firsts, vectors, weight, distances, gram, means, normalizers, units, rates,
    products, groups, cells, cell_firsts, count, positives, others, channels, mask,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, SLOTS: tl.constexpr, CROSSED: tl.constexpr, ALIGNED: tl.constexpr,
    GRAM: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr, WEIGHTED: tl.constexpr,
    INSIDE: tl.constexpr, EXCLUDED: tl.constexpr, FLOORED: tl.constexpr, FLOOR: tl.constexpr,
    CANCELLED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Products of two temperatures' drifts over samples and channels [pairs, groups].

    Every one with itself, and with ``CROSSED`` with all others; what :func:`normalize` keeps is
    left for :func:`gradient`. With ``GRAM`` the products are traces, unless these cancel or the
    release's floor under the distances shows (``FLOORED``) since their mean is not far above.
    """
    group = tl.program_id(0).to(tl.int64)
    segment = segment_of(group, firsts, S)
    width = number(vectors, segment, S)
    place = group - number(firsts, segment, S)
    label, vector = place // width, place % width
    n, i = tl.arange(0, N), tl.arange(0, P)
    j = n
    if U > 0:
        j = tl.arange(0, U)
    targets = positives + count + others
    distances += group * (count + 1) * targets
    products += group
    if WEIGHTED:
        weight += label * targets
    cell = cell_of(label, vector, width, segment, cell_firsts, S, BATCH, SHARED)
    unit, scale = tl.load(units + cell), tl.load(units + cells + cell)
    normalizers += group * T * (3 * count + targets)
    for t in range(T):
        rate = pick(rates, t, T)
        into = normalizers + t * (3 * count + targets)
        normalize(
            distances, weight, into, rate * unit, mask * rate, n, i, j, count, positives, others,
            U, WEIGHTED, INSIDE, EXCLUDED, FLOOR,
        )  # fmt: skip
    # What one thread stored others read below.
    tl.debug_barrier()
    direct = 1
    if GRAM:
        gram += group * (positives + others) * (positives + others)
        direct = _by_traces(
            distances, gram, weight, normalizers, rates, unit, scale, mask, products, groups,
            n, i, j, count, positives, others,
            N, P, U, 16, T, CROSSED, WEIGHTED, EXCLUDED, FLOOR, CANCELLED, EXACT,
        )  # fmt: skip
        if FLOORED:
            direct += (unit * unit >= channels).to(tl.int32)
    if direct > 0:
        x, x_n, x_c = samples_of(xs, strides, 0, label, vector, segment, S, ALIGNED)
        p, p_n, p_c = samples_of(ps, strides, 4, label, vector, segment, S, ALIGNED)
        u, u_n, u_c = x, x_n, x_c
        if U > 0:
            u, u_n, u_c = samples_of(us, strides, 8, label, vector, segment, S, ALIGNED)
        _directly(
            x, p, u, means + group * channels, distances, weight, normalizers, rates, unit, scale,
            mask, products, groups,
            n, count, positives, others, channels, x_n, x_c, p_n, p_c, u_n, u_c,
            C, 16, T, SLOTS, CROSSED, WEIGHTED, EXCLUDED, FLOOR, EXACT,
        )  # fmt: skip
