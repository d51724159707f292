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
    centred_tile,
    load_tile,
    number,
    product,
    samples_of,
    segment_of,
)


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
    values, _ = weights_of(weight, at, m, size, WEIGHTED)
    columns = tl.sum(found, 0).to(tl.float64)
    return tl.sum(columns * values.to(tl.float64)), tl.sum(values.to(tl.float64))


@triton.jit(do_not_specialize=COUNTS)
def measure(
    xs, ps, us, strides, firsts, vectors, weight, distances, gram, means, sums,
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
    ``ATTRACTING`` and ``REPELLING`` say whether positives and negatives count in S, ``OWN``
    whether a sample's distance from itself does.
    """
    group = tl.program_id(0).to(tl.int64)
    segment = segment_of(group, firsts, S)
    width = number(vectors, segment, S)
    place = group - number(firsts, segment, S)
    label, vector = place // width, place % width
    x, x_n, x_c = samples_of(xs, strides, 0, label, vector, segment, S, ALIGNED)
    p, p_n, p_c = samples_of(ps, strides, 4, label, vector, segment, S, ALIGNED)
    n, i = tl.arange(0, N), tl.arange(0, P)
    with_x, with_p = tl.zeros((N, N), tl.float32), tl.zeros((N, P), tl.float32)
    xx, pp = tl.zeros((N,), tl.float32), tl.zeros((P,), tl.float32)
    if GRAM:
        p_p = tl.zeros((P, P), tl.float32)
    if U > 0:
        u, u_n, u_c = samples_of(us, strides, 8, label, vector, segment, S, ALIGNED)
        j = tl.arange(0, U)
        with_u, uu = tl.zeros((N, U), tl.float32), tl.zeros((U,), tl.float32)
        if GRAM:
            p_u, u_u = tl.zeros((P, U), tl.float32), tl.zeros((U, U), tl.float32)
    for first in range(0, channels, C):
        c = first + tl.arange(0, C)
        a, reference = centred_tile(x, n, c, count, channels, x_n, x_c)
        tl.store(means + group * channels + c, reference, mask=c < channels)
        b = load_tile(p, i, c, positives, channels, p_n, p_c, reference)
        with_x = product(a, tl.trans(a), with_x, EXACT)
        with_p = product(a, tl.trans(b), with_p, EXACT)
        xx += tl.sum(a * a, 1)
        pp += tl.sum(b * b, 1)
        if GRAM:
            p_p = product(b, tl.trans(b), p_p, EXACT)
        if U > 0:
            d = load_tile(u, j, c, others, channels, u_n, u_c, reference)
            with_u = product(a, tl.trans(d), with_u, EXACT)
            uu += tl.sum(d * d, 1)
            if GRAM:
                p_u = product(b, tl.trans(d), p_u, EXACT)
                u_u = product(d, tl.trans(d), u_u, EXACT)
    if GRAM:
        rest = positives + others
        gram += group * rest * rest
        _store(gram, p_p, i, i, positives, positives, rest)
        if U > 0:
            _store(gram + positives, p_u, i, j, positives, others, rest)
            _store(gram + positives * rest + positives, u_u, j, j, others, others, rest)
    targets = positives + count + others
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
