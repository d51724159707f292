"""The loss of one feature on a GPU in three kernels (A.6, Algorithm 2), one program a group.

A group is one label and one vector. Its targets come as three tiles (positives, generated samples,
unconditional samples), padded to powers of two; channels are streamed in blocks, read in place
through the features' strides and measured from the group's first positive, so that a common mean
costs no digits. Only distances are kept, [L·V, N, M]; affinities are formed anew where needed.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(pointer, at_sample, at_channel, size, channels, stride_n, stride_c, reference):
    """A tile [samples, channels] in float32, measured from ``reference``; padding is 0."""
    places = pointer + at_sample[:, None] * stride_n + at_channel[None, :] * stride_c
    inside = (at_sample < size)[:, None] & (at_channel < channels)[None, :]
    values = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, values - reference[None, :], 0.0)


@triton.jit
def _reference(pointer, at_channel, channels, stride_c):
    """The first positive's channels, from which a group is measured."""
    inside = at_channel < channels
    return tl.load(pointer + at_channel * stride_c, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _exact(x, y, n, m, count, size, channels, x_n, x_c, y_n, y_c):
    """Squared distances from differences, channel after channel."""
    found = tl.zeros((n.shape[0], m.shape[0]), tl.float32)
    for channel in range(channels):
        one = tl.load(x + n * x_n + channel * x_c, mask=n < count, other=0.0).to(tl.float32)
        two = tl.load(y + m * y_n + channel * y_c, mask=m < size, other=0.0).to(tl.float32)
        apart = one[:, None] - two[None, :]
        found += apart * apart
    return found


@triton.jit
def _distances(
    product, x_squares, y_squares, x, y, n, m, count, size, channels, x_n, x_c, y_n, y_c,
    floor, own, THRESHOLD: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """Distances of a tile from its Gram matrix, near pairs from differences, own ones 0."""
    both = x_squares[:, None] + y_squares[None, :]
    squared = both - 2.0 * product
    valid = (n < count)[:, None] & (m < size)[None, :]
    near = valid & (squared <= THRESHOLD * both)
    if OWN:
        near = near & (own == 0)
    if tl.sum(near.to(tl.int32)) > 0:
        exact = _exact(x, y, n, m, count, size, channels, x_n, x_c, y_n, y_c)
        squared = tl.where(near, exact, squared)
    if OWN:
        squared = tl.where(own != 0, 0.0, squared)
    found = tl.maximum(tl.sqrt(tl.maximum(squared, 0.0)), floor)
    return tl.where(valid, found, 0.0)


@triton.jit
def measure(
    x, p, u, distances, columns, count, positives, others, vectors, channels,
    x_l, x_n, x_v, x_c, p_l, p_n, p_v, p_c, u_l, u_n, u_v, u_c, floor,
    N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    THRESHOLD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Distances [L·V, N, M] and their sums over the generated samples [L·V, M]."""
    group = tl.program_id(0).to(tl.int64)
    label, vector = group // vectors, group % vectors
    x += label * x_l + vector * x_v
    p += label * p_l + vector * p_v
    n, i = tl.arange(0, N), tl.arange(0, P)
    with_x, with_p = tl.zeros((N, N), tl.float32), tl.zeros((N, P), tl.float32)
    xx, pp = tl.zeros((N,), tl.float32), tl.zeros((P,), tl.float32)
    if U > 0:
        u += label * u_l + vector * u_v
        j = tl.arange(0, U)
        with_u, uu = tl.zeros((N, U), tl.float32), tl.zeros((U,), tl.float32)
    for first in range(0, channels, C):
        c = first + tl.arange(0, C)
        reference = _reference(p, c, channels, p_c)
        a = _load(x, n, c, count, channels, x_n, x_c, reference)
        b = _load(p, i, c, positives, channels, p_n, p_c, reference)
        with_x = tl.dot(a, tl.trans(a), with_x, input_precision=PRECISION)
        with_p = tl.dot(a, tl.trans(b), with_p, input_precision=PRECISION)
        xx += tl.sum(a * a, 1)
        pp += tl.sum(b * b, 1)
        if U > 0:
            d = _load(u, j, c, others, channels, u_n, u_c, reference)
            with_u = tl.dot(a, tl.trans(d), with_u, input_precision=PRECISION)
            uu += tl.sum(d * d, 1)
    targets = positives + count + others
    distances += group * count * targets
    columns += group * targets
    rows = (n * targets)[:, None]
    row = (n < count)[:, None]
    found = _distances(
        with_p, xx, pp, x, p, n, i, count, positives, channels, x_n, x_c, p_n, p_c,
        floor, with_p, THRESHOLD, False,
    )  # fmt: skip
    tl.store(distances + rows + i[None, :], found, mask=row & (i < positives)[None, :])
    tl.store(columns + i, tl.sum(found, 0), mask=i < positives)
    own = (n[:, None] == n[None, :]).to(tl.int32)
    found = _distances(
        with_x, xx, xx, x, x, n, n, count, count, channels, x_n, x_c, x_n, x_c,
        floor, own, THRESHOLD, True,
    )  # fmt: skip
    at = positives + n
    tl.store(distances + rows + at[None, :], found, mask=row & (n < count)[None, :])
    tl.store(columns + at, tl.sum(found, 0), mask=n < count)
    if U > 0:
        found = _distances(
            with_u, xx, uu, x, u, n, j, count, others, channels, x_n, x_c, u_n, u_c,
            floor, with_u, THRESHOLD, False,
        )  # fmt: skip
        at = positives + count + j
        tl.store(distances + rows + at[None, :], found, mask=row & (j < others)[None, :])
        tl.store(columns + at, tl.sum(found, 0), mask=j < others)


@triton.jit
def _logits(distances, at, n, m, count, size, targets, rate):
    """Logits −d·rate of a tile, −∞ in its padding."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    places = distances + n[:, None] * targets + at + m[None, :]
    found = tl.load(places, mask=valid, other=0.0)
    return tl.where(valid, -found * rate, float("-inf"))


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
def _normalizer(logits):
    """Logarithm of the sums over a tile's rows, for each column."""
    top = _finite(tl.max(logits, 0))
    sums = tl.sum(tl.exp(logits - top[None, :]), 0)
    return tl.where(sums > 0, top + tl.log(tl.maximum(sums, 1e-37)), 0.0)


@triton.jit
def _affinity(logits, row, weights, n, m, count, size, FLOOR: tl.constexpr):
    """Affinities of a tile, weights included, from its logits and its rows' normalisers."""
    found = tl.exp(logits - 0.5 * row[:, None] - 0.5 * _normalizer(logits)[None, :])
    if FLOOR > 0:
        found = tl.maximum(found, FLOOR)
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.where(valid & (weights > 0)[None, :], found * weights[None, :], 0.0)


@triton.jit
def _coefficients(
    distances, weight, rate, scale, mask, n, i, j, count, positives, others,
    U: tl.constexpr, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """The drift's coefficients at one temperature: tiles for the three sets."""
    targets = positives + count + others
    to_p = _logits(distances, 0, n, i, count, positives, targets, rate)
    to_x = _logits(distances, positives, n, n, count, count, targets, rate)
    to_x = tl.where(n[:, None] == n[None, :], to_x - mask, to_x)
    w_p, log_p = _weights(weight, 0, i, positives, WEIGHTED)
    w_x, log_x = _weights(weight, positives, n, count, WEIGHTED)
    in_p, in_x = to_p, to_x
    if INSIDE:
        in_p, in_x = to_p + log_p[None, :], to_x + log_x[None, :]
    top = tl.maximum(tl.max(in_p, 1), tl.max(in_x, 1))
    if U > 0:
        to_u = _logits(distances, positives + count, n, j, count, others, targets, rate)
        w_u, log_u = _weights(weight, positives + count, j, others, WEIGHTED)
        in_u = to_u
        if INSIDE:
            in_u = to_u + log_u[None, :]
        top = tl.maximum(top, tl.max(in_u, 1))
    top = _finite(top)
    sums = tl.sum(tl.exp(in_p - top[:, None]), 1) + tl.sum(tl.exp(in_x - top[:, None]), 1)
    if U > 0:
        sums += tl.sum(tl.exp(in_u - top[:, None]), 1)
    row = tl.where(sums > 0, top + tl.log(tl.maximum(sums, 1e-37)), 0.0)
    of_p = _affinity(to_p, row, w_p, n, i, count, positives, FLOOR)
    of_x = _affinity(to_x, row, w_x, n, n, count, count, FLOOR)
    attracting, repelling = tl.sum(of_p, 1), tl.sum(of_x, 1)
    of_u = of_x
    if U > 0:
        of_u = _affinity(to_u, row, w_u, n, j, count, others, FLOOR)
        repelling += tl.sum(of_u, 1)
        of_u *= (-attracting * scale)[:, None]
    return of_p * (repelling * scale)[:, None], of_x * (-attracting * scale)[:, None], of_u


@triton.jit
def _move(r_p, r_x, r_u, x, p, u, n, i, j, c, count, positives, others, channels,
          x_n, x_c, p_n, p_c, u_n, u_c, U: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Coefficients times a block of the targets' channels."""
    reference = _reference(p, c, channels, p_c)
    b = _load(p, i, c, positives, channels, p_n, p_c, reference)
    a = _load(x, n, c, count, channels, x_n, x_c, reference)
    found = tl.dot(r_p, b, input_precision=PRECISION)
    found = tl.dot(r_x, a, found, input_precision=PRECISION)
    if U > 0:
        d = _load(u, j, c, others, channels, u_n, u_c, reference)
        found = tl.dot(r_u, d, found, input_precision=PRECISION)
    return found


@triton.jit
def correlate(
    x, p, u, distances, weight, rates, scales, masks, products, pairs, groups,
    count, positives, others, vectors, channels,
    x_l, x_n, x_v, x_c, p_l, p_n, p_v, p_c, u_l, u_n, u_v, u_c,
    N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    PAIRS: tl.constexpr, SAME: tl.constexpr, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr,
    FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of two temperatures' drifts, summed over samples and channels [pairs, L·V].

    ``pairs`` [PAIRS, 2] holds temperatures; with ``SAME`` it is every one with itself.
    """
    group, pair = tl.program_id(0).to(tl.int64) // PAIRS, tl.program_id(0) % PAIRS
    label, vector = group // vectors, group % vectors
    x += label * x_l + vector * x_v
    p += label * p_l + vector * p_v
    n, i = tl.arange(0, N), tl.arange(0, P)
    j = n
    if U > 0:
        u += label * u_l + vector * u_v
        j = tl.arange(0, U)
    targets = positives + count + others
    distances += group * count * targets
    if WEIGHTED:
        weight += label * targets
    scale = tl.load(scales + group)
    first, second = pair, pair
    if not SAME:
        first, second = tl.load(pairs + 2 * pair), tl.load(pairs + 2 * pair + 1)
    rate, mask = tl.load(rates + first * groups + group), tl.load(masks + first)
    a_p, a_x, a_u = _coefficients(
        distances, weight, rate, scale, mask, n, i, j, count, positives, others,
        U, WEIGHTED, INSIDE, FLOOR,
    )  # fmt: skip
    if not SAME:
        rate, mask = tl.load(rates + second * groups + group), tl.load(masks + second)
        b_p, b_x, b_u = _coefficients(
            distances, weight, rate, scale, mask, n, i, j, count, positives, others,
            U, WEIGHTED, INSIDE, FLOOR,
        )  # fmt: skip
    found = tl.zeros((N,), tl.float32)
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        one = _move(a_p, a_x, a_u, x, p, u, n, i, j, c, count, positives, others, channels,
                    x_n, x_c, p_n, p_c, u_n, u_c, U, PRECISION)  # fmt: skip
        two = one
        if not SAME:
            two = _move(b_p, b_x, b_u, x, p, u, n, i, j, c, count, positives, others, channels,
                        x_n, x_c, p_n, p_c, u_n, u_c, U, PRECISION)  # fmt: skip
        found += tl.sum(one * two, 1)
    tl.store(products + pair * groups + group, tl.sum(found, 0))


@triton.jit
def gradient(
    x, p, u, distances, weight, rates, scales, masks, inverses, slopes, squares, out, groups,
    count, positives, others, vectors, channels,
    x_l, x_n, x_v, x_c, p_l, p_n, p_v, p_c, u_l, u_n, u_v, u_c,
    N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr,
    FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Ṽ = Σ V_τ/λ_τ: its squares [L·V], and its product with the slopes [L·V, N, C]."""
    group = tl.program_id(0).to(tl.int64)
    label, vector = group // vectors, group % vectors
    x += label * x_l + vector * x_v
    p += label * p_l + vector * p_v
    n, i = tl.arange(0, N), tl.arange(0, P)
    j = n
    if U > 0:
        u += label * u_l + vector * u_v
        j = tl.arange(0, U)
    targets = positives + count + others
    distances += group * count * targets
    if WEIGHTED:
        weight += label * targets
    scale = tl.load(scales + group)
    k_p, k_x = tl.zeros((N, P), tl.float32), tl.zeros((N, N), tl.float32)
    k_u = k_x
    if U > 0:
        k_u = tl.zeros((N, U), tl.float32)
    for t in range(T):
        rate, mask = tl.load(rates + t * groups + group), tl.load(masks + t)
        inverse = tl.load(inverses + t * groups + group)
        r_p, r_x, r_u = _coefficients(
            distances, weight, rate, scale, mask, n, i, j, count, positives, others,
            U, WEIGHTED, INSIDE, FLOOR,
        )  # fmt: skip
        k_p += inverse * r_p
        k_x += inverse * r_x
        if U > 0:
            k_u += inverse * r_u
    slope = tl.load(slopes + group)
    out += group * count * channels
    found = tl.zeros((N,), tl.float32)
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        moved = _move(k_p, k_x, k_u, x, p, u, n, i, j, c, count, positives, others, channels,
                      x_n, x_c, p_n, p_c, u_n, u_c, U, PRECISION)  # fmt: skip
        found += tl.sum(moved * moved, 1)
        inside = (n < count)[:, None] & (c < channels)[None, :]
        tl.store(out + n[:, None] * channels + c[None, :], moved * slope, mask=inside)
    tl.store(squares + group, tl.sum(found, 0))
