"""Distances on a GPU, and what the feature scale S is the ratio of (EQ-19, EQ-21).

A group's targets come as three tiles (positives, generated samples, unconditional samples), padded
to powers of two; channels are streamed in blocks, read in place through the features' strides and
measured from the mean of the group's generated samples, so that a common mean costs no digits.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.affinities import weights_of
from drifting_torch.kernels.gpu.segments import (
    COUNTS,
    GENERATED,
    POSITIVES,
    UNCONDITIONAL,
    centred_tile,
    group_of,
    load_tile,
    number,
    product,
    samples_of,
    segment_of,
)


@triton.jit
def _exact(x, y, group, SET: tl.constexpr):
    """Squared distances from differences, channel after channel."""
    n, m = group.rows, group.columns[SET]
    found = tl.zeros((n.shape[0], m.shape[0]), tl.float32)
    x_start = x.start + n.to(tl.int64) * x.of_sample
    y_start = y.start + m.to(tl.int64) * y.of_sample
    for channel in range(group.channels):
        one = tl.load(x_start + channel * x.of_channel, mask=n < group.count, other=0.0)
        two = tl.load(y_start + channel * y.of_channel, mask=m < group.sizes[SET], other=0.0)
        apart = one.to(tl.float32)[:, None] - two.to(tl.float32)[None, :]
        found += apart * apart
    return found


@triton.jit
def _distances(
    product, x_squares, y_squares, x, y, group, floor, SET: tl.constexpr, THRESHOLD: tl.constexpr
):  # fmt: skip
    """Distances of a tile from its Gram matrix, near pairs from differences, own ones 0."""
    n, m = group.rows, group.columns[SET]
    both = x_squares[:, None] + y_squares[None, :]
    squared = both - 2.0 * product
    valid = (n < group.count)[:, None] & (m < group.sizes[SET])[None, :]
    near = valid & (squared <= THRESHOLD * both)
    if SET == GENERATED:
        near = near & (n[:, None] != m[None, :])
    if tl.sum(near.to(tl.int32)) > 0:
        exact = _exact(x, y, group, SET=SET)
        squared = tl.where(near, exact, squared)
    if SET == GENERATED:
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
    values, _ = weights_of(weight, at, m, size, WEIGHTED=WEIGHTED)
    columns = tl.sum(found, 0).to(tl.float64)
    return tl.sum(columns * values.to(tl.float64)), tl.sum(values.to(tl.float64))


@triton.jit(do_not_specialize=COUNTS)
def measure(
    generated, positive, unconditional, strides, firsts, vectors,
    weight, distances, gram, means, sums,
    groups, count, positives, others, channels, floor,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    ALIGNED: tl.constexpr, GRAM: tl.constexpr, WEIGHTED: tl.constexpr,
    ATTRACTING: tl.constexpr, REPELLING: tl.constexpr, OWN: tl.constexpr,
    THRESHOLD: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Distances [groups, N+1, M], inner products, and what S is the ratio of [2, groups].

    The last row are the targets' distances from the mean of the generated samples, from which the
    inner products of positives and unconditional samples [groups, P+U, P+U] are measured, and
    which is left in ``means`` [groups, C].

    =================  =============================================================
    read               pointers; ``unit`` is that of the features
    ``generated``      [S], to samples [L, N, V, C] of the features' dtype, unit
    ``positive``       [S], to samples [L, P, V, C], unit
    ``unconditional``  [S], to samples [L, U, V, C], unit; None where there are none
    ``weight``         float32 [L, M], numbers; None where all are 1
    written            pointers
    ``distances``      float32 [groups, N+1, M], unit
    ``gram``           float32 [groups, P+U, P+U], unit²; None without ``GRAM``
    ``means``          float32 [groups, C], unit
    ``sums``           float64 [2, groups]: distances times weights, unit; weights
    numbers, [S]       as ``told``
    ``strides``        of each set, steps of label, sample, vector and channel
    ``firsts``         the first program of each segment
    ``vectors``        its vectors V
    numbers
    ``groups``         groups Σ L·V, one program each
    ``count``          generated samples N; ``positives`` P, ``others`` U
    ``channels``       C
    ``floor``          the least distance, unit
    compiled for
    ``S``              segments, padding included
    ``N P U C``        sizes of the tiles; U is 0 without unconditional samples
    ``ALIGNED``        whether channels lie side by side, in sixteens
    ``GRAM``           whether inner products are kept
    ``WEIGHTED``       whether there are weights
    ``ATTRACTING``     whether positives count in S
    ``REPELLING``      whether negatives do
    ``OWN``            whether a sample's distance from itself does
    ``THRESHOLD``      the part of ‖x‖² + ‖y‖² below which differences are taken
    ``EXACT``          whether products are exact to float32's digits
    =================  =============================================================
    """
    group = tl.program_id(0).to(tl.int64)
    segment = segment_of(group, firsts, S)
    width = number(vectors, segment, S)
    place = group - number(firsts, segment, S)
    label, vector = place // width, place % width
    x = samples_of(generated, strides[0], label, vector, segment, S=S, ALIGNED=ALIGNED)
    p = samples_of(positive, strides[1], label, vector, segment, S=S, ALIGNED=ALIGNED)
    SETS: tl.constexpr = 3 if U > 0 else 2
    sizes = group_of(count, positives, others, channels, N=N, P=P, U=U)
    n, i, j = sizes.rows, sizes.columns[POSITIVES], sizes.columns[UNCONDITIONAL]
    u = x
    with_x, with_p = tl.zeros((N, N), tl.float32), tl.zeros((N, P), tl.float32)
    xx, pp = tl.zeros((N,), tl.float32), tl.zeros((P,), tl.float32)
    with_u, uu = with_x, xx
    if GRAM:
        p_p = tl.zeros((P, P), tl.float32)
    if U > 0:
        u = samples_of(unconditional, strides[2], label, vector, segment, S=S, ALIGNED=ALIGNED)
        with_u, uu = tl.zeros((N, U), tl.float32), tl.zeros((U,), tl.float32)
        if GRAM:
            p_u, u_u = tl.zeros((P, U), tl.float32), tl.zeros((U, U), tl.float32)
    for first in range(0, channels, C):
        c = first + tl.arange(0, C)
        a, reference = centred_tile(x, n, c, count, channels)
        tl.store(means + group * channels + c, reference, mask=c < channels)
        b = load_tile(p, i, c, positives, channels, reference)
        with_x = product(a, tl.trans(a), with_x, EXACT=EXACT)
        with_p = product(a, tl.trans(b), with_p, EXACT=EXACT)
        xx += tl.sum(a * a, 1)
        pp += tl.sum(b * b, 1)
        if GRAM:
            p_p = product(b, tl.trans(b), p_p, EXACT=EXACT)
        if U > 0:
            d = load_tile(u, j, c, others, channels, reference)
            with_u = product(a, tl.trans(d), with_u, EXACT=EXACT)
            uu += tl.sum(d * d, 1)
            if GRAM:
                p_u = product(b, tl.trans(d), p_u, EXACT=EXACT)
                u_u = product(d, tl.trans(d), u_u, EXACT=EXACT)
    if GRAM:
        rest = positives + others
        gram += group * rest * rest
        _store(gram, p_p, i, i, positives, positives, rest)
        if U > 0:
            _store(gram + positives, p_u, i, j, positives, others, rest)
            _store(gram + positives * rest + positives, u_u, j, j, others, others, rest)
    targets = sizes.targets
    distances += group * (count + 1) * targets
    from_mean = distances + count * targets
    tl.store(from_mean + i, tl.sqrt(pp), mask=i < positives)
    tl.store(from_mean + positives + n, tl.sqrt(xx), mask=n < count)
    if U > 0:
        tl.store(from_mean + positives + count + j, tl.sqrt(uu), mask=j < others)
    if WEIGHTED:
        weight += label * targets
    total = tl.zeros((), tl.float64)
    pairs = tl.zeros((), tl.float64)
    into = distances
    samples, products, squares = (p, x, u), (with_p, with_x, with_u), (pp, xx, uu)
    for SET in tl.static_range(SETS):
        at, size, m = sizes.starts[SET], sizes.sizes[SET], sizes.columns[SET]
        found = _distances(
            products[SET], xx, squares[SET], x, samples[SET], sizes, floor,
            SET=SET, THRESHOLD=THRESHOLD,
        )  # fmt: skip
        _store(into, found, n, m, count, size, targets)
        into += size
        if ATTRACTING if SET == POSITIVES else REPELLING:
            rows = count
            if SET == GENERATED and not OWN:
                found = tl.where(n[:, None] == n[None, :], 0.0, found)
                rows = count - 1
            more, each = _weighted(found, weight, at, m, size, WEIGHTED=WEIGHTED)
            total, pairs = total + more, pairs + rows * each
    tl.store(sums + group, total)
    tl.store(sums + groups + group, pairs)
