"""Products of two temperatures' drifts on a GPU: what λ and the loss need (EQ-25, A6-mse).

Only distances and inner products are kept, coefficients are made where they are multiplied.
"""

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
    normalize,
    temperature_of,
)
from drifting_torch.kernels.gpu.segments import (
    COUNTS,
    GENERATED,
    POSITIVES,
    UNCONDITIONAL,
    cell_of,
    group_of,
    kept_tile,
    load_tile,
    number,
    product,
    reference_of,
    row_of,
    samples_of,
    segment_of,
)

AT_A_TIME = tl.constexpr(16)
"""Targets whose coefficients are made at a time: the fewest that a product of tiles takes."""


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
def nothing(group, SETS: tl.constexpr):
    """Tiles for the three sets to add to; the third is never read where there are two."""
    n, i, j = group.rows, group.columns[POSITIVES], group.columns[UNCONDITIONAL]
    k_p = tl.zeros((n.shape[0], i.shape[0]), tl.float32)
    k_x = tl.zeros((n.shape[0], n.shape[0]), tl.float32)
    k_u = k_x
    if SETS > UNCONDITIONAL:
        k_u = tl.zeros((n.shape[0], j.shape[0]), tl.float32)
    return k_p, k_x, k_u


@triton.jit
def _along(
    sums, group, given, how, gram, temperature, m, norms_n,
    SET: tl.constexpr, SETS: tl.constexpr,
):  # fmt: skip
    """Go on with ``sums``, R·G for the three sets and the rows of |R|·norms, over targets ``m``.

    The targets are of one set, G are inner products and R coefficients.
    """
    q_p, q_x, q_u, terms = sums
    distances, n, count, targets = given.distances, group.rows, group.count, group.targets
    i, j = group.columns[POSITIVES], group.columns[UNCONDITIONAL]
    positives, others = group.sizes[POSITIVES], group.sizes[UNCONDITIONAL]
    at, last, size = group.starts[SET], group.starts[UNCONDITIONAL], group.sizes[SET]
    rest = positives + others
    from_mean = distances + count * targets
    norms = _norms(from_mean, at, m, size)
    r = coefficients(group, given, how, temperature, n, m, SET=SET)
    terms += tl.sum(tl.abs(r) * norms[None, :], 1)
    if SET == GENERATED:
        norms_i = _norms(from_mean, 0, i, positives)
        tile = _inner(
            distances, 0, norms, norms_i, m, i, count, positives, targets, 1, OWN=False
        )  # fmt: skip
        q_p = product(r, tile, q_p, EXACT=how.EXACT)
        tile = _inner(
            distances, positives, norms, norms_n, m, n, count, count, targets, 1, OWN=True
        )  # fmt: skip
        q_x = product(r, tile, q_x, EXACT=how.EXACT)
        if SETS > UNCONDITIONAL:
            norms_j = _norms(from_mean, last, j, others)
            tile = _inner(
                distances, last, norms, norms_j, m, j, count, others, targets, 1, OWN=False
            )  # fmt: skip
            q_u = product(r, tile, q_u, EXACT=how.EXACT)
    else:
        if SET == POSITIVES:
            tile = kept_tile(gram, 0, m, i, positives, positives, rest)
        else:
            tile = _tile_across(gram, positives, m, i, others, positives, rest)
        q_p = product(r, tile, q_p, EXACT=how.EXACT)
        tile = _inner(distances, at, norms, norms_n, m, n, size, count, 1, targets, OWN=False)
        q_x = product(r, tile, q_x, EXACT=how.EXACT)
        if SETS > UNCONDITIONAL:
            first = positives if SET == POSITIVES else positives * rest + positives
            tile = kept_tile(gram, first, m, j, size, others, rest)
            q_u = product(r, tile, q_u, EXACT=how.EXACT)
    return q_p, q_x, q_u, terms


@triton.jit
def _by_traces(
    group, given, how, gram, scale, products, groups,
    T: tl.constexpr, CROSSED: tl.constexpr, CANCELLED: tl.constexpr, SETS: tl.constexpr,
):  # fmt: skip
    """⟨V_a, V_b⟩ = tr(R_a G R_bᵀ), without any channel; whether some ⟨V_a, V_a⟩ cancelled.

    R_a·G grows over a few targets at a time: registers hold it and little besides.
    """
    cancelled = 0
    for a in range(T):
        of_a = temperature_of(group, given, a, scale, T=T)
        here = group_anew(group, of_a.rate)
        from_mean = given.distances + here.count * here.targets
        norms_n = _norms(from_mean, here.starts[GENERATED], here.rows, here.count)
        q_p, q_x, q_u = nothing(here, SETS=SETS)
        terms = tl.zeros((here.rows.shape[0],), tl.float32)
        # Where there are no unconditional samples, the last loop does not begin.
        for SET in tl.static_range(3):
            for first in range(0, here.sizes[SET], AT_A_TIME):
                q_p, q_x, q_u, terms = _along(
                    (q_p, q_x, q_u, terms), here, given, how, gram, of_a,
                    first + tl.arange(0, AT_A_TIME), norms_n, SET=SET, SETS=SETS,
                )  # fmt: skip
        # Where all coincides there is nothing to cancel.
        most = tl.sum(terms * terms, 0)
        least = tl.where(most > 0, CANCELLED * most, -1.0)
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            of_b = temperature_of(group, given, b, scale, T=T)
            there = group_anew(group, of_b.rate)
            n, q = there.rows, (q_p, q_x, q_u)
            rows = tl.sum(
                q_p * coefficients(there, given, how, of_b, n, there.columns[0], SET=0), 1
            )
            for SET in tl.static_range(1, SETS):
                r = coefficients(there, given, how, of_b, n, there.columns[SET], SET=SET)
                rows += tl.sum(q[SET] * r, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            cancelled += ((step == 0) & (found <= least)).to(tl.int32)
            tl.store(products + row_of(a, b, T=T) * groups, found)
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
    moved, samples, c, reference, group, given, how, of_a, of_b, SET: tl.constexpr
):  # fmt: skip
    """Go on with two temperatures' scaled drifts over one set of targets, a few at a time."""
    n, size = group.rows, group.sizes[SET]
    for first in range(0, size, AT_A_TIME):
        m = first + tl.arange(0, AT_A_TIME)
        r = coefficients(group, given, how, of_a, n, m, SET=SET)
        if of_b.scale != 0:
            r += coefficients(group, given, how, of_b, n, m, SET=SET)
        y = load_tile(samples, m, c, size, group.channels, reference)
        moved = product(r, y, moved, EXACT=how.EXACT)
    return moved


@triton.jit
def _directly(
    samples, means, group, given, how, scale, products, groups,
    C: tl.constexpr, T: tl.constexpr, SLOTS: tl.constexpr, CROSSED: tl.constexpr,
):  # fmt: skip
    """⟨V_a, V_b⟩ from squares over all channels: first ‖V_a‖², then ‖V_a/‖V_a‖ + V_b/‖V_b‖‖².

    So there is one matrix of coefficients at a time, and a product is as exact as its factors'
    norms allow. ``samples`` are those of the three sets.
    """
    slots = tl.arange(0, SLOTS)
    squares = tl.zeros((SLOTS,), tl.float64)
    for a in range(T):
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            scale_a = scale * tl.where(step == 0, 1.0, _inverse_norm(squares, slots, a))
            scale_b = scale * tl.where(step == 0, 0.0, _inverse_norm(squares, slots, b))
            of_a = temperature_of(group, given, a, scale_a, T=T)
            of_b = temperature_of(group, given, b, scale_b, T=T)
            rows = tl.zeros((group.rows.shape[0],), tl.float32)
            for start in range(0, group.channels, C):
                c = start + tl.arange(0, C)
                reference = reference_of(means, c, group.channels)
                moved = tl.zeros((group.rows.shape[0], C), tl.float32)
                # Where there are no unconditional samples, the last one's loop does not begin.
                for SET in tl.static_range(3):
                    moved = _moved(
                        moved, samples[SET], c, reference, group, given, how, of_a, of_b, SET=SET,
                    )  # fmt: skip
                rows += tl.sum(moved * moved, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            squares = tl.where((slots == a) & (step == 0), found, squares)
            size = _entry(squares, slots, a) * _entry(squares, slots, b)
            found = tl.where(step == 0, found, 0.5 * tl.sqrt(size) * (found - 2.0))
            tl.store(products + row_of(a, b, T=T) * groups, found)


@triton.jit(do_not_specialize=COUNTS)
def correlate(
    generated, positive, unconditional, strides, firsts, vectors,
    weight, distances, gram, means, normalizers, units, rates,
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

    ``generated``, ``positive``, ``unconditional``, ``strides``, ``firsts``, ``vectors``,
    ``groups``, ``count``, ``positives``, ``others``, ``channels``, ``weight``, ``distances``,
    ``gram`` and ``means`` are those of :func:`measure`, all of them read here.

    ================  ==============================================================
    read              pointers to float32
    ``units``         [2, cells], 1/S for distances and for coordinates, 1/unit
    written           pointers
    ``normalizers``   float32 [groups, T, 3N + M], numbers
    ``products``      float64 [pairs, groups], numbers
    numbers
    ``cells``         cells of all segments
    ``cell_firsts``   [S], the first cell of each segment, as ``told``
    ``rates``         [T], 1/τ, √C included where the readings have it
    ``mask``          what is added to a sample's distance from itself, in S
    compiled for
    ``S`` … ``C``     as for :func:`measure`
    ``T``             temperatures
    ``SLOTS``         the power of two that holds them, at least 2
    ``BATCH``         whether all labels share S and λ
    ``SHARED``        whether all vectors of a feature do
    ``INSIDE``        whether weights count in the softmaxes
    ``CANCELLED``     the part of its terms below which a trace has cancelled
    others            as in :class:`How`
    ================  ==============================================================
    """
    group = tl.program_id(0).to(tl.int64)
    segment = segment_of(group, firsts, S)
    width = number(vectors, segment, S)
    place = group - number(firsts, segment, S)
    label, vector = place // width, place % width
    SETS: tl.constexpr = 3 if U > 0 else 2
    sizes = group_of(count, positives, others, channels, N=N, P=P, U=U)
    targets = sizes.targets
    distances += group * (count + 1) * targets
    products += group
    if WEIGHTED:
        weight += label * targets
    cell = cell_of(label, vector, width, segment, cell_firsts, S=S, BATCH=BATCH, SHARED=SHARED)
    unit, scale = tl.load(units + cell), tl.load(units + cells + cell)
    normalizers += group * T * (3 * count + targets)
    given = Affinities(
        distances, weight, normalizers, unit, rates, mask
    )  # fmt: skip
    for t in range(T):
        of_t = temperature_of(sizes, given, t, scale, T=T)
        normalize(
            sizes, given, How(WEIGHTED, EXCLUDED, FLOOR, EXACT), of_t, SETS=SETS, INSIDE=INSIDE
        )  # fmt: skip
    # What one thread stored others read below.
    tl.debug_barrier()
    direct = 1
    if GRAM:
        gram += group * (positives + others) * (positives + others)
        direct = _by_traces(
            sizes, given, How(WEIGHTED, EXCLUDED, FLOOR, EXACT), gram, scale, products, groups,
            T=T, CROSSED=CROSSED, CANCELLED=CANCELLED, SETS=SETS,
        )  # fmt: skip
        if FLOORED:
            direct += (unit * unit >= channels).to(tl.int32)
    if direct > 0:
        x = samples_of(generated, strides[0], label, vector, segment, S=S, ALIGNED=ALIGNED)
        p = samples_of(positive, strides[1], label, vector, segment, S=S, ALIGNED=ALIGNED)
        u = x
        if U > 0:
            u = samples_of(unconditional, strides[2], label, vector, segment, S=S, ALIGNED=ALIGNED)
        _directly(
            (p, x, u), means + group * channels, sizes, given,
            How(WEIGHTED, EXCLUDED, FLOOR, EXACT), scale, products, groups,
            C=C, T=T, SLOTS=SLOTS, CROSSED=CROSSED,
        )  # fmt: skip
