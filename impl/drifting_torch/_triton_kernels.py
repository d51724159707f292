"""The loss of several features on a GPU in three kernels (A.6, Algorithm 2), one program a group.

A group is one label and one vector. The features of one launch are its segments: they have the
same counts of labels, samples and channels, and any numbers of vectors. What differs between them
comes as tuples with one entry a segment, of which a program picks its own.

A group's targets come as three tiles (positives, generated samples, unconditional samples), padded
to powers of two; channels are streamed in blocks, read in place through the features' strides and
measured from the group's first generated sample, so that a common mean costs no digits. Distances
are kept, [groups, N, M], and with ``GRAM`` the inner products of the other targets among
themselves; affinities are formed anew where needed.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

COUNTS = ["groups", "cells"]
"""Arguments for whose values a kernel must not be compiled."""


def told(values):
    """Whole numbers as a tuple for :func:`number`.

    Whatever ``do_not_specialize`` says, Triton compiles a kernel anew where an entry of a tuple
    becomes 1 or a multiple of 16. Odd numbers from 3 are neither.
    """
    return tuple(2 * value + 5 for value in values)


@triton.jit
def pick(values, segment, S: tl.constexpr):
    """Entry of a tuple at a place that is known only when running."""
    found = values[0]
    for s in tl.static_range(1, S):
        found = tl.where(segment == s, values[s], found)
    return found


@triton.jit
def number(values, segment, S: tl.constexpr):
    """Entry of a tuple that :func:`told` made, at least −1."""
    return (pick(values, segment, S) - 5) // 2


@triton.jit
def segment_of(program, firsts, S: tl.constexpr):
    """The segment of a program, from the first program of each."""
    found = program * 0
    for s in tl.static_range(1, S):
        found += (2 * program + 5 >= firsts[s]).to(tl.int32)
    return found


@triton.jit
def row_of(a, b, T: tl.constexpr):
    """Where the product of two temperatures' drifts stands, a ≥ b: squares come first."""
    return tl.where(a == b, a, T + b * (2 * T - b - 1) // 2 + a - b - 1)


@triton.jit
def cell_of(
    label, vector, vectors, segment, cell_firsts,
    S: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr,
):  # fmt: skip
    """Place of the statistics that a group shares, among those of all segments."""
    cell = label * 0
    if not BATCH:
        cell += label
    if not SHARED:
        cell = cell * vectors + vector
    return cell + number(cell_firsts, segment, S)


@triton.jit
def _samples(pointers, strides, first, label, vector, segment,
             S: tl.constexpr, ALIGNED: tl.constexpr):  # fmt: skip
    """A group's samples of one set: where they start, and the steps of samples and channels."""
    at = label * number(strides[first], segment, S) + vector * number(
        strides[first + 2], segment, S
    )
    of_sample = number(strides[first + 1], segment, S)
    if ALIGNED:
        at, of_sample = tl.multiple_of(at, 16), tl.multiple_of(of_sample, 16)
        of_channel = 1
    else:
        of_channel = number(strides[first + 3], segment, S)
    return pick(pointers, segment, S) + at, of_sample, of_channel


@triton.jit
def _load(pointer, at_sample, at_channel, size, channels, stride_n, stride_c, reference):
    """A tile [samples, channels] in float32, measured from ``reference``; padding is 0."""
    rows = at_sample.to(tl.int64)[:, None] * stride_n
    inside = (at_sample < size)[:, None] & (at_channel < channels)[None, :]
    values = tl.load(pointer + rows + at_channel[None, :] * stride_c, mask=inside, other=0.0)
    return tl.where(inside, values.to(tl.float32) - reference[None, :], 0.0)


@triton.jit
def _reference(pointer, at_channel, channels, stride_c):
    """The first generated sample's channels, from which a group is measured."""
    inside = at_channel < channels
    return tl.load(pointer + at_channel * stride_c, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _exact(x, y, n, m, count, size, channels, x_n, x_c, y_n, y_c):
    """Squared distances from differences, channel after channel."""
    found = tl.zeros((n.shape[0], m.shape[0]), tl.float32)
    x += n.to(tl.int64) * x_n
    y += m.to(tl.int64) * y_n
    for channel in range(channels):
        one = tl.load(x + channel * x_c, mask=n < count, other=0.0).to(tl.float32)
        two = tl.load(y + channel * y_c, mask=m < size, other=0.0).to(tl.float32)
        apart = one[:, None] - two[None, :]
        found += apart * apart
    return found


@triton.jit
def _distances(
    product, x_squares, y_squares, x, y, n, m, count, size, channels, x_n, x_c, y_n, y_c,
    floor, THRESHOLD: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """Distances of a tile from its Gram matrix, near pairs from differences, own ones 0."""
    both = x_squares[:, None] + y_squares[None, :]
    squared = both - 2.0 * product
    valid = (n < count)[:, None] & (m < size)[None, :]
    near = valid & (squared <= THRESHOLD * both)
    if OWN:
        near = near & (n[:, None] != m[None, :])
    if tl.sum(near.to(tl.int32)) > 0:
        exact = _exact(x, y, n, m, count, size, channels, x_n, x_c, y_n, y_c)
        squared = tl.where(near, exact, squared)
    if OWN:
        squared = tl.where(n[:, None] == m[None, :], 0.0, squared)
    found = tl.maximum(tl.sqrt(tl.maximum(squared, 0.0)), floor)
    return tl.where(valid, found, 0.0)


@triton.jit
def _store(into, found, n, m, count, size, row):
    """Keep a tile [n, m]."""
    inside = (n < count)[:, None] & (m < size)[None, :]
    tl.store(into + n[:, None] * row + m[None, :], found, mask=inside)


@triton.jit
def _weighted(found, weight, at, m, size, WEIGHTED: tl.constexpr):
    """Sum of a tile's distances, each column times its weight, and the weights' own sum."""
    values, _ = _weights(weight, at, m, size, WEIGHTED)
    columns = tl.sum(found, 0).to(tl.float64)
    return tl.sum(columns * values.to(tl.float64)), tl.sum(values.to(tl.float64))


@triton.jit(do_not_specialize=COUNTS)
def measure(
    xs, ps, us, strides, firsts, vectors, weight, distances, gram, sums,
    groups, count, positives, others, channels, floor,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    ALIGNED: tl.constexpr, GRAM: tl.constexpr, WEIGHTED: tl.constexpr,
    ATTRACTING: tl.constexpr, REPELLING: tl.constexpr, OWN: tl.constexpr,
    THRESHOLD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Distances [groups, N, M], inner products, and what S is the ratio of [2, groups].

    ``ATTRACTING`` and ``REPELLING`` say whether positives and negatives count in S, ``OWN``
    whether a sample's distance from itself does.
    """
    group = tl.program_id(0).to(tl.int64)
    segment = segment_of(group, firsts, S)
    width = number(vectors, segment, S)
    place = group - number(firsts, segment, S)
    label, vector = place // width, place % width
    x, x_n, x_c = _samples(xs, strides, 0, label, vector, segment, S, ALIGNED)
    p, p_n, p_c = _samples(ps, strides, 4, label, vector, segment, S, ALIGNED)
    n, i = tl.arange(0, N), tl.arange(0, P)
    with_x, with_p = tl.zeros((N, N), tl.float32), tl.zeros((N, P), tl.float32)
    xx, pp = tl.zeros((N,), tl.float32), tl.zeros((P,), tl.float32)
    if GRAM:
        p_p = tl.zeros((P, P), tl.float32)
    if U > 0:
        u, u_n, u_c = _samples(us, strides, 8, label, vector, segment, S, ALIGNED)
        j = tl.arange(0, U)
        with_u, uu = tl.zeros((N, U), tl.float32), tl.zeros((U,), tl.float32)
        if GRAM:
            p_u, u_u = tl.zeros((P, U), tl.float32), tl.zeros((U, U), tl.float32)
    for first in range(0, channels, C):
        c = first + tl.arange(0, C)
        reference = _reference(x, c, channels, x_c)
        a = _load(x, n, c, count, channels, x_n, x_c, reference)
        b = _load(p, i, c, positives, channels, p_n, p_c, reference)
        with_x = tl.dot(a, tl.trans(a), with_x, input_precision=PRECISION)
        with_p = tl.dot(a, tl.trans(b), with_p, input_precision=PRECISION)
        xx += tl.sum(a * a, 1)
        pp += tl.sum(b * b, 1)
        if GRAM:
            p_p = tl.dot(b, tl.trans(b), p_p, input_precision=PRECISION)
        if U > 0:
            d = _load(u, j, c, others, channels, u_n, u_c, reference)
            with_u = tl.dot(a, tl.trans(d), with_u, input_precision=PRECISION)
            uu += tl.sum(d * d, 1)
            if GRAM:
                p_u = tl.dot(b, tl.trans(d), p_u, input_precision=PRECISION)
                u_u = tl.dot(d, tl.trans(d), u_u, input_precision=PRECISION)
    if GRAM:
        rest = positives + others
        gram += group * rest * rest
        _store(gram, p_p, i, i, positives, positives, rest)
        if U > 0:
            _store(gram + positives, p_u, i, j, positives, others, rest)
            _store(gram + positives * rest + positives, u_u, j, j, others, others, rest)
    targets = positives + count + others
    distances += group * count * targets
    if WEIGHTED:
        weight += label * targets
    total = tl.zeros((), tl.float64)
    pairs = tl.zeros((), tl.float64)
    found = _distances(
        with_p, xx, pp, x, p, n, i, count, positives, channels, x_n, x_c, p_n, p_c,
        floor, THRESHOLD, False,
    )  # fmt: skip
    _store(distances, found, n, i, count, positives, targets)
    if ATTRACTING:
        more, each = _weighted(found, weight, 0, i, positives, WEIGHTED)
        total, pairs = total + more, pairs + count * each
    found = _distances(
        with_x, xx, xx, x, x, n, n, count, count, channels, x_n, x_c, x_n, x_c,
        floor, THRESHOLD, True,
    )  # fmt: skip
    _store(distances + positives, found, n, n, count, count, targets)
    if REPELLING:
        if not OWN:
            found = tl.where(n[:, None] == n[None, :], 0.0, found)
        more, each = _weighted(found, weight, positives, n, count, WEIGHTED)
        total, pairs = total + more, pairs + (count if OWN else count - 1) * each
    if U > 0:
        found = _distances(
            with_u, xx, uu, x, u, n, j, count, others, channels, x_n, x_c, u_n, u_c,
            floor, THRESHOLD, False,
        )  # fmt: skip
        _store(distances + positives + count, found, n, j, count, others, targets)
        if REPELLING:
            more, each = _weighted(found, weight, positives + count, j, others, WEIGHTED)
            total, pairs = total + more, pairs + count * each
    tl.store(sums + group, total)
    tl.store(sums + groups + group, pairs)


@triton.jit
def _tile(distances, at, n, m, count, size, targets):
    """A tile of distances, 0 in its padding."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.load(distances + n[:, None] * targets + at + m[None, :], mask=valid, other=0.0)


@triton.jit
def _tile_across(tiles, at, n, m, count, size, row):
    """A tile that is kept the other way round."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.load(tiles + n[:, None] + at + m[None, :] * row, mask=valid, other=0.0)


@triton.jit
def _logits(
    distances, at, n, m, count, size, targets, rate, mask,
    OWN: tl.constexpr, EXCLUDED: tl.constexpr,
):  # fmt: skip
    """Logits −d·rate of a tile, −∞ in its padding; a sample's own less ``mask``, or −∞."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    found = -rate * _tile(distances, at, n, m, count, size, targets)
    if OWN:
        own = float("-inf") if EXCLUDED else found - mask
        found = tl.where(n[:, None] == m[None, :], own, found)
    return tl.where(valid, found, float("-inf"))


@triton.jit
def _weights(weight, at, m, size, WEIGHTED: tl.constexpr):
    """Kernel weights of a tile's columns and their logarithms; padding weighs 0."""
    inside = m < size
    if WEIGHTED:
        values = tl.load(weight + at + m, mask=inside, other=0.0)
    else:
        values = tl.where(inside, 1.0, 0.0)
    logarithm = tl.where(values > 0, tl.log(tl.maximum(values, 1e-37)), float("-inf"))
    return values, logarithm


@triton.jit
def _finite(values):
    """The maximum of an empty softmax must not be −∞."""
    return tl.where(values == float("-inf"), 0.0, values)


@triton.jit
def _anew(places, rate):
    """The same places, for all the compiler knows others at each rate (they are above 0).

    Else it works out every tile's offsets and masks before the loop over temperatures, and keeps
    them in registers that there are not.
    """
    return places + (rate < 0).to(tl.int32)


@triton.jit
def _fold(top, sums, logits, weight, at, m, size, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr):
    """Go on with the rows' greatest logits and sums of exponentials, over one more tile."""
    if INSIDE:
        _, logarithm = _weights(weight, at, m, size, WEIGHTED)
        logits += logarithm[None, :]
    higher = tl.maximum(top, tl.max(logits, 1))
    shift = _finite(higher)
    return higher, sums * tl.exp(top - shift) + tl.sum(tl.exp(logits - shift[:, None]), 1)


@triton.jit
def _normalizer(top, sums):
    """Logarithm of sums of exponentials, 0 where there is nothing to sum."""
    return tl.where(sums > 0, _finite(top) + tl.log(tl.maximum(sums, 1e-37)), 0.0)


@triton.jit
def _affinity(logits, row, column, values, valid, FLOOR: tl.constexpr):
    """Affinities of a tile, weights included, from its logits and both normalisers."""
    found = tl.exp(logits - 0.5 * row[:, None] - 0.5 * column[None, :])
    if FLOOR > 0:
        found = tl.maximum(found, FLOOR)
    return tl.where(valid & (values > 0)[None, :], found * values[None, :], 0.0)


@triton.jit
def _mass(
    logits, row, columns, weight, at, n, m, count, size,
    WEIGHTED: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """Sums of a tile's rows of affinities; its columns' normalisers are kept."""
    top = tl.max(logits, 0)
    column = _normalizer(top, tl.sum(tl.exp(logits - _finite(top)[None, :]), 0))
    tl.store(columns + at + m, column, mask=m < size)
    values, _ = _weights(weight, at, m, size, WEIGHTED)
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.sum(_affinity(logits, row, column, values, valid, FLOOR), 1)


@triton.jit
def _normalize(
    distances, weight, into, rate, mask, n, i, j, count, positives, others,
    U: tl.constexpr, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr,
):  # fmt: skip
    """Keep what makes affinities and coefficients of the logits at one temperature [3N + M].

    They are the rows' normalisers, the affinities with positives and with negatives that each row
    sums up to, and the columns' normalisers: with them coefficients are made entry by entry.
    """
    targets = positives + count + others
    at = positives + count
    top = tl.full((n.shape[0],), float("-inf"), tl.float32)
    sums = tl.zeros((n.shape[0],), tl.float32)
    logits = _logits(distances, 0, n, i, count, positives, targets, rate, mask, False, EXCLUDED)
    top, sums = _fold(top, sums, logits, weight, 0, i, positives, WEIGHTED, INSIDE)
    logits = _logits(
        distances, positives, n, n, count, count, targets, rate, mask, True, EXCLUDED
    )  # fmt: skip
    top, sums = _fold(top, sums, logits, weight, positives, n, count, WEIGHTED, INSIDE)
    if U > 0:
        logits = _logits(distances, at, n, j, count, others, targets, rate, mask, False, EXCLUDED)
        top, sums = _fold(top, sums, logits, weight, at, j, others, WEIGHTED, INSIDE)
    row = _normalizer(top, sums)
    columns = into + 3 * count
    n_again = _anew(n, rate)
    logits = _logits(
        distances, positives, n_again, n_again, count, count, targets, rate, mask, True, EXCLUDED
    )  # fmt: skip
    repelling = _mass(
        logits, row, columns, weight, positives, n, n, count, count, WEIGHTED, FLOOR
    )  # fmt: skip
    if U > 0:
        j = _anew(j, rate)
        logits = _logits(distances, at, n, j, count, others, targets, rate, mask, False, EXCLUDED)
        repelling += _mass(logits, row, columns, weight, at, n, j, count, others, WEIGHTED, FLOOR)
    i = _anew(i, rate)
    logits = _logits(distances, 0, n, i, count, positives, targets, rate, mask, False, EXCLUDED)
    attracting = _mass(logits, row, columns, weight, 0, n, i, count, positives, WEIGHTED, FLOOR)
    tl.store(into + n, row, mask=n < count)
    tl.store(into + count + n, attracting, mask=n < count)
    tl.store(into + 2 * count + n, repelling, mask=n < count)


@triton.jit
def _coefficients(
    distances, weight, known, at, rate, scale, mask, n, m, count, size, targets,
    POSITIVE: tl.constexpr, OWN: tl.constexpr, WEIGHTED: tl.constexpr,
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """A tile of the drift's coefficients, times ``scale``, by what is ``known`` [3N + M]."""
    logits = _logits(distances, at, n, m, count, size, targets, rate, mask, OWN, EXCLUDED)
    row = tl.load(known + n, mask=n < count, other=0.0)
    column = tl.load(known + 3 * count + at + m, mask=m < size, other=0.0)
    values, _ = _weights(weight, at, m, size, WEIGHTED)
    valid = (n < count)[:, None] & (m < size)[None, :]
    found = _affinity(logits, row, column, values, valid, FLOOR)
    other = tl.load(known + (2 if POSITIVE else 1) * count + n, mask=n < count, other=0.0)
    factor = other * scale if POSITIVE else -other * scale
    return found * factor[:, None]


@triton.jit
def _move(r_p, r_x, r_u, x, p, u, n, i, j, c, count, positives, others, channels,
          x_n, x_c, p_n, p_c, u_n, u_c, U: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Coefficients times a block of the targets' channels."""
    reference = _reference(x, c, channels, x_c)
    b = _load(p, i, c, positives, channels, p_n, p_c, reference)
    found = tl.dot(r_p, b, input_precision=PRECISION)
    a = _load(x, n, c, count, channels, x_n, x_c, reference)
    found = tl.dot(r_x, a, found, input_precision=PRECISION)
    if U > 0:
        d = _load(u, j, c, others, channels, u_n, u_c, reference)
        found = tl.dot(r_u, d, found, input_precision=PRECISION)
    return found


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
def _norms(distances, at, m, size, OWN: tl.constexpr):
    """Distances of one set from the first generated sample."""
    found = tl.load(distances + at + m, mask=m < size, other=0.0)
    if OWN:
        found = tl.where(m == 0, 0.0, found)
    return found


@triton.jit
def _along(
    q_p, q_x, q_u, terms, distances, gram, weight, known, rate, scale, mask, n, i, j, m, at, size,
    norms_n, count, positives, others,
    U: tl.constexpr, POSITIVE: tl.constexpr, OWN: tl.constexpr, WEIGHTED: tl.constexpr,
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Go on with R·G for the three sets, and with the rows of |R|·norms, over some targets ``m``.

    They are positives, the generated samples (``OWN``), or unconditional samples, from ``at``.
    """
    targets, rest, last = positives + count + others, positives + others, positives + count
    norms = _norms(distances, at, m, size, OWN)
    r = _coefficients(
        distances, weight, known, at, rate, scale, mask, n, m, count, size, targets,
        POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
    )  # fmt: skip
    terms += tl.sum(tl.abs(r) * norms[None, :], 1)
    if OWN:
        norms_i = _norms(distances, 0, i, positives, False)
        tile = _inner(distances, 0, norms, norms_i, m, i, count, positives, targets, 1, False)
        q_p = tl.dot(r, tile, q_p, input_precision=PRECISION)
        tile = _inner(
            distances, positives, norms, norms_n, m, n, count, count, targets, 1, True
        )  # fmt: skip
        q_x = tl.dot(r, tile, q_x, input_precision=PRECISION)
        if U > 0:
            norms_j = _norms(distances, last, j, others, False)
            tile = _inner(distances, last, norms, norms_j, m, j, count, others, targets, 1, False)
            q_u = tl.dot(r, tile, q_u, input_precision=PRECISION)
    else:
        if POSITIVE:
            tile = _tile(gram, 0, m, i, positives, positives, rest)
        else:
            tile = _tile_across(gram, positives, m, i, others, positives, rest)
        q_p = tl.dot(r, tile, q_p, input_precision=PRECISION)
        tile = _inner(distances, at, norms, norms_n, m, n, size, count, 1, targets, False)
        q_x = tl.dot(r, tile, q_x, input_precision=PRECISION)
        if U > 0:
            first = positives if POSITIVE else positives * rest + positives
            tile = _tile(gram, first, m, j, size, others, rest)
            q_u = tl.dot(r, tile, q_u, input_precision=PRECISION)
    return q_p, q_x, q_u, terms


@triton.jit
def _by_traces(
    distances, gram, weight, normalizers, rates, unit, scale, mask, products, groups,
    n, i, j, count, positives, others,
    N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, K: tl.constexpr, T: tl.constexpr,
    CROSSED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, CANCELLED: tl.constexpr, PRECISION: tl.constexpr,
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
        n, i, j = _anew(places_n, rate), _anew(places_i, rate), _anew(places_j, rate)
        norms_n = _norms(distances, positives, n, count, True)
        known = normalizers + a * wide
        q_p, q_x, q_u = _nothing(N, P, U)
        terms = tl.zeros((N,), tl.float32)
        for first in range(0, positives, K):
            q_p, q_x, q_u, terms = _along(
                q_p, q_x, q_u, terms, distances, gram, weight, known, rate * unit, scale,
                mask * rate, n, i, j, first + tl.arange(0, K), 0, positives,
                norms_n, count, positives, others,
                U, True, False, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
            )  # fmt: skip
        for first in range(0, count, K):
            q_p, q_x, q_u, terms = _along(
                q_p, q_x, q_u, terms, distances, gram, weight, known, rate * unit, scale,
                mask * rate, n, i, j, first + tl.arange(0, K), positives, count,
                norms_n, count, positives, others,
                U, False, True, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
            )  # fmt: skip
        for first in range(0, others, K):
            q_p, q_x, q_u, terms = _along(
                q_p, q_x, q_u, terms, distances, gram, weight, known, rate * unit, scale,
                mask * rate, n, i, j, first + tl.arange(0, K), at, others,
                norms_n, count, positives, others,
                U, False, False, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
            )  # fmt: skip
        # Where all coincides there is nothing to cancel.
        most = tl.sum(terms * terms, 0)
        least = tl.where(most > 0, CANCELLED * most, -1.0)
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            rate = pick(rates, b, T)
            n, i, j = _anew(places_n, rate), _anew(places_i, rate), _anew(places_j, rate)
            known = normalizers + b * wide
            r = _coefficients(
                distances, weight, known, 0, rate * unit, scale, mask * rate, n, i, count,
                positives, targets, True, False, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
            rows = tl.sum(q_p * r, 1)
            r = _coefficients(
                distances, weight, known, positives, rate * unit, scale, mask * rate, n, n, count,
                count, targets, False, True, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
            rows += tl.sum(q_x * r, 1)
            if U > 0:
                r = _coefficients(
                    distances, weight, known, at, rate * unit, scale, mask * rate, n, j, count,
                    others, targets, False, False, WEIGHTED, EXCLUDED, FLOOR,
                )  # fmt: skip
                rows += tl.sum(q_u * r, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            cancelled += ((step == 0) & (found <= least)).to(tl.int32)
            tl.store(products + row_of(a, b, T) * groups, found)
    return cancelled


@triton.jit
def _add(
    k_p, k_x, k_u, distances, weight, known, rate, unit, scale, mask, n, i, j,
    count, positives, others,
    U: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """Add one temperature's coefficients, times ``scale``, to tiles for the three sets."""
    targets, at = positives + count + others, positives + count
    n, i, j = _anew(n, rate), _anew(i, rate), _anew(j, rate)
    k_p += _coefficients(
        distances, weight, known, 0, rate * unit, scale, mask * rate, n, i, count, positives,
        targets, True, False, WEIGHTED, EXCLUDED, FLOOR,
    )  # fmt: skip
    k_x += _coefficients(
        distances, weight, known, positives, rate * unit, scale, mask * rate, n, n, count, count,
        targets, False, True, WEIGHTED, EXCLUDED, FLOOR,
    )  # fmt: skip
    if U > 0:
        k_u += _coefficients(
            distances, weight, known, at, rate * unit, scale, mask * rate, n, j, count, others,
            targets, False, False, WEIGHTED, EXCLUDED, FLOOR,
        )  # fmt: skip
    return k_p, k_x, k_u


@triton.jit
def _nothing(N: tl.constexpr, P: tl.constexpr, U: tl.constexpr):
    """Tiles for the three sets to add to."""
    k_p, k_x = tl.zeros((N, P), tl.float32), tl.zeros((N, N), tl.float32)
    k_u = k_x
    if U > 0:
        k_u = tl.zeros((N, U), tl.float32)
    return k_p, k_x, k_u


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
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Go on with two temperatures' scaled drifts over one set of targets, ``K`` at a time."""
    for first in range(0, size, K):
        m = first + tl.arange(0, K)
        r = _coefficients(
            distances, weight, of_a, at, rate_a * unit, scale_a, mask * rate_a, n, m, count, size,
            targets, POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
        )  # fmt: skip
        if scale_b != 0:
            r += _coefficients(
                distances, weight, of_b, at, rate_b * unit, scale_b, mask * rate_b, n, m, count,
                size, targets, POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
        y = _load(samples, m, c, size, channels, stride_n, stride_c, reference)
        moved = tl.dot(r, y, moved, input_precision=PRECISION)
    return moved


@triton.jit
def _directly(
    x, p, u, distances, weight, normalizers, rates, unit, scale, mask, products, groups,
    n, count, positives, others, channels, x_n, x_c, p_n, p_c, u_n, u_c,
    C: tl.constexpr, K: tl.constexpr, T: tl.constexpr, SLOTS: tl.constexpr,
    CROSSED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, PRECISION: tl.constexpr,
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
                reference = _reference(x, c, channels, x_c)
                moved = tl.zeros((n.shape[0], C), tl.float32)
                moved = _moved(
                    moved, p, c, channels, p_n, p_c, reference, distances, weight, of_a, of_b,
                    rate_a, rate_b, scale_a, scale_b, unit, mask, n, 0, count, positives,
                    targets, K, True, False, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
                )  # fmt: skip
                moved = _moved(
                    moved, x, c, channels, x_n, x_c, reference, distances, weight, of_a, of_b,
                    rate_a, rate_b, scale_a, scale_b, unit, mask, n, positives, count, count,
                    targets, K, False, True, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
                )  # fmt: skip
                moved = _moved(
                    moved, u, c, channels, u_n, u_c, reference, distances, weight, of_a, of_b,
                    rate_a, rate_b, scale_a, scale_b, unit, mask, n, positives + count, count,
                    others, targets, K, False, False, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
                )  # fmt: skip
                rows += tl.sum(moved * moved, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            squares = tl.where((slots == a) & (step == 0), found, squares)
            size = _entry(squares, slots, a) * _entry(squares, slots, b)
            found = tl.where(step == 0, found, 0.5 * tl.sqrt(size) * (found - 2.0))
            tl.store(products + row_of(a, b, T) * groups, found)


@triton.jit(do_not_specialize=COUNTS)
def correlate(
    xs, ps, us, strides, firsts, vectors, weight, distances, gram, normalizers, units, rates,
    products, groups, cells, cell_firsts, count, positives, others, channels, mask,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, SLOTS: tl.constexpr, CROSSED: tl.constexpr, ALIGNED: tl.constexpr,
    GRAM: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr, WEIGHTED: tl.constexpr,
    INSIDE: tl.constexpr, EXCLUDED: tl.constexpr, FLOORED: tl.constexpr, FLOOR: tl.constexpr,
    CANCELLED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of two temperatures' drifts over samples and channels [pairs, groups].

    Every one with itself, and with ``CROSSED`` with all others; what :func:`_normalize` keeps is
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
    distances += group * count * targets
    products += group
    if WEIGHTED:
        weight += label * targets
    cell = cell_of(label, vector, width, segment, cell_firsts, S, BATCH, SHARED)
    unit, scale = tl.load(units + cell), tl.load(units + cells + cell)
    normalizers += group * T * (3 * count + targets)
    for t in range(T):
        rate = pick(rates, t, T)
        into = normalizers + t * (3 * count + targets)
        _normalize(
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
            N, P, U, 16, T, CROSSED, WEIGHTED, EXCLUDED, FLOOR, CANCELLED, PRECISION,
        )  # fmt: skip
        if FLOORED:
            direct += (unit * unit >= channels).to(tl.int32)
    if direct > 0:
        x, x_n, x_c = _samples(xs, strides, 0, label, vector, segment, S, ALIGNED)
        p, p_n, p_c = _samples(ps, strides, 4, label, vector, segment, S, ALIGNED)
        u, u_n, u_c = x, x_n, x_c
        if U > 0:
            u, u_n, u_c = _samples(us, strides, 8, label, vector, segment, S, ALIGNED)
        _directly(
            x, p, u, distances, weight, normalizers, rates, unit, scale, mask, products, groups,
            n, count, positives, others, channels, x_n, x_c, p_n, p_c, u_n, u_c,
            C, 16, T, SLOTS, CROSSED, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
        )  # fmt: skip


@triton.jit
def _moved_by_all(
    moved, samples, c, channels, stride_n, stride_c, reference, distances, weight, normalizers,
    inverses, own, rates, unit, scale, mask, n, at, count, size, targets,
    K: tl.constexpr, T: tl.constexpr, POSITIVE: tl.constexpr, OWN: tl.constexpr,
    WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Go on with Σ V_τ/λ_τ over one set of targets, ``K`` at a time."""
    for first in range(0, size, K):
        m = first + tl.arange(0, K)
        r = tl.zeros((n.shape[0], K), tl.float32)
        for t in range(T):
            rate = pick(rates, t, T)
            r += _coefficients(
                distances, weight, normalizers + t * (3 * count + targets), at, rate * unit,
                scale * tl.load(inverses + t * own), mask * rate, n, m, count, size, targets,
                POSITIVE, OWN, WEIGHTED, EXCLUDED, FLOOR,
            )  # fmt: skip
        y = _load(samples, m, c, size, channels, stride_n, stride_c, reference)
        moved = tl.dot(r, y, moved, input_precision=PRECISION)
    return moved


@triton.jit(do_not_specialize=COUNTS)
def gradient(
    xs, ps, us, strides, outs, firsts, bases, vectors, weight, distances, normalizers, units, rates,
    inverses, of_loss, of_label, given, shares, cells, cell_firsts,
    count, positives, others, channels, mask, factor, always,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, WHOLE: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr,
    SHARED: tl.constexpr, WEIGHTED: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """−2Ṽ·``factor``/S times what arrives: one product of all that multiplies the targets.

    ``of_loss`` and ``of_label`` hold the gradients arriving at a feature's loss and at its labels,
    ``given`` for each segment (its place in the bucket, whether there is the one, the step of the
    other, 0 for all the same, −1 for none, its cells); ``always`` arrives at every label. With
    ``WHOLE`` all coefficients stay in registers, else they are made for each block of channels.
    """
    program = tl.program_id(0).to(tl.int64)
    segment = segment_of(program, firsts, S)
    width = number(vectors, segment, S)
    place = program - number(firsts, segment, S)
    group = place + number(bases, segment, S)
    label, vector = place // width, place % width
    x, x_n, x_c = _samples(xs, strides, 0, label, vector, segment, S, ALIGNED)
    p, p_n, p_c = _samples(ps, strides, 4, label, vector, segment, S, ALIGNED)
    out, out_n, out_c = _samples(outs, strides, 12, label, vector, segment, S, ALIGNED)
    n, i = tl.arange(0, N), tl.arange(0, P)
    u, u_n, u_c, j = x, x_n, x_c, n
    if U > 0:
        u, u_n, u_c = _samples(us, strides, 8, label, vector, segment, S, ALIGNED)
        j = tl.arange(0, U)
    targets = positives + count + others
    distances += group * count * targets
    if WEIGHTED:
        weight += label * targets
    first = number(cell_firsts, segment, S)
    cell = cell_of(label, vector, width, segment, cell_firsts, S, BATCH, SHARED)
    unit, scale = tl.load(units + cell), tl.load(units + cells + cell)
    step = number(given[2], segment, S)
    arriving = tl.load(pick(of_loss, segment, S), mask=number(given[1], segment, S) > 0, other=0.0)
    arriving = always + arriving * tl.load(shares + number(given[0], segment, S))
    at = label * tl.maximum(step, 0)
    arriving += tl.load(pick(of_label, segment, S) + at, mask=step >= 0, other=0.0)
    slope = -2.0 * pick(factor, segment, S) * scale * arriving
    normalizers += group * T * (3 * count + targets)
    own = number(given[3], segment, S)
    inverses += T * first + cell - first
    k_p, k_x, k_u = _nothing(N, P, U)
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
            moved = _move(k_p, k_x, k_u, x, p, u, n, i, j, c, count, positives, others,
                          channels, x_n, x_c, p_n, p_c, u_n, u_c, U, PRECISION)  # fmt: skip
        else:
            reference = _reference(x, c, channels, x_c)
            moved = tl.zeros((N, C), tl.float32)
            moved = _moved_by_all(
                moved, p, c, channels, p_n, p_c, reference, distances, weight, normalizers,
                inverses, own, rates, unit, scale, mask, n, 0, count, positives, targets,
                16, T, True, False, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
            )  # fmt: skip
            moved = _moved_by_all(
                moved, x, c, channels, x_n, x_c, reference, distances, weight, normalizers,
                inverses, own, rates, unit, scale, mask, n, positives, count, count, targets,
                16, T, False, True, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
            )  # fmt: skip
            moved = _moved_by_all(
                moved, u, c, channels, u_n, u_c, reference, distances, weight, normalizers,
                inverses, own, rates, unit, scale, mask, n, positives + count, count, others,
                targets, 16, T, False, False, WEIGHTED, EXCLUDED, FLOOR, PRECISION,
            )  # fmt: skip
        moved *= slope
        inside = (n < count)[:, None] & (c < channels)[None, :]
        into = out + n.to(tl.int64)[:, None] * out_n + c[None, :] * out_c
        tl.store(into, moved.to(out.dtype.element_ty), mask=inside)
