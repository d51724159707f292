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
def _logits(distances, at, n, m, count, size, targets, rate):
    """Logits −d·rate of a tile, −∞ in its padding."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    found = _tile(distances, at, n, m, count, size, targets)
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
    distances, weight, unit, rate, scale, mask, n, i, j, count, positives, others,
    U: tl.constexpr, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr,
):  # fmt: skip
    """The drift's coefficients at one temperature: tiles for the three sets.

    ``rate`` is the temperature's inverse on distances times ``unit``, which ``mask`` is added to
    for a sample's own.
    """
    own_mask = mask * rate
    rate *= unit
    targets = positives + count + others
    to_p = _logits(distances, 0, n, i, count, positives, targets, rate)
    to_x = _logits(distances, positives, n, n, count, count, targets, rate)
    own = float("-inf") if EXCLUDED else to_x - own_mask
    to_x = tl.where(n[:, None] == n[None, :], own, to_x)
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
def _inner(distances, at, norms_n, norms_m, n, m, count, size, targets, OWN: tl.constexpr):
    """Inner products of generated samples and others, from their distances and norms."""
    found = _tile(distances, at, n, m, count, size, targets)
    if OWN:
        found = tl.where(n[:, None] == m[None, :], 0.0, found)
    return 0.5 * (norms_n[:, None] * norms_n[:, None] + norms_m[None, :] * norms_m[None, :]
                  - found * found)  # fmt: skip


@triton.jit
def _along(r_p, r_x, r_u, to_p, to_x, to_u, U: tl.constexpr, PRECISION: tl.constexpr):
    """Coefficients times the inner products of all targets with one set."""
    found = tl.dot(r_p, to_p, input_precision=PRECISION)
    found = tl.dot(r_x, to_x, found, input_precision=PRECISION)
    if U > 0:
        found = tl.dot(r_u, to_u, found, input_precision=PRECISION)
    return found


@triton.jit
def _norms(distances, at, m, size, OWN: tl.constexpr):
    """Distances of one set from the first generated sample."""
    found = tl.load(distances + at + m, mask=m < size, other=0.0)
    if OWN:
        found = tl.where(m == 0, 0.0, found)
    return found


@triton.jit
def _by_traces(
    distances, gram, weight, rates, unit, scale, mask, products, groups,
    n, i, j, count, positives, others,
    U: tl.constexpr, T: tl.constexpr, CROSSED: tl.constexpr, WEIGHTED: tl.constexpr,
    INSIDE: tl.constexpr, EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
    CANCELLED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """⟨V_a, V_b⟩ = tr(R_a G R_bᵀ), without any channel; whether some ⟨V_a, V_a⟩ cancelled."""
    targets, rest = positives + count + others, positives + others
    norms_p = _norms(distances, 0, i, positives, False)
    norms_x = _norms(distances, positives, n, count, True)
    norms_u = norms_x
    if U > 0:
        norms_u = _norms(distances, positives + count, j, others, False)
    cancelled = 0
    for a in range(T):
        r_p, r_x, r_u = _coefficients(
            distances, weight, unit, pick(rates, a, T), scale, mask, n, i, j,
            count, positives, others, U, WEIGHTED, INSIDE, EXCLUDED, FLOOR,
        )  # fmt: skip
        terms = tl.sum(tl.abs(r_p) * norms_p[None, :], 1)
        terms += tl.sum(tl.abs(r_x) * norms_x[None, :], 1)
        x_p = _inner(distances, 0, norms_x, norms_p, n, i, count, positives, targets, False)
        x_x = _inner(distances, positives, norms_x, norms_x, n, n, count, count, targets, True)
        p_p = _tile(gram, 0, i, i, positives, positives, rest)
        x_u, u_p, u_x = x_x, x_x, x_x
        if U > 0:
            terms += tl.sum(tl.abs(r_u) * norms_u[None, :], 1)
            at = positives + count
            x_u = _inner(distances, at, norms_x, norms_u, n, j, count, others, targets, False)
            p_u = _tile(gram, positives, i, j, positives, others, rest)
            u_p, u_x = tl.trans(p_u), tl.trans(x_u)
        q_p = _along(r_p, r_x, r_u, p_p, x_p, u_p, U, PRECISION)
        q_x = _along(r_p, r_x, r_u, tl.trans(x_p), x_x, u_x, U, PRECISION)
        q_u = q_x
        if U > 0:
            u_u = _tile(gram, positives * rest + positives, j, j, others, others, rest)
            q_u = _along(r_p, r_x, r_u, p_u, x_u, u_u, U, PRECISION)
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            r_p, r_x, r_u = _coefficients(
                distances, weight, unit, pick(rates, b, T), scale, mask, n, i, j,
                count, positives, others, U, WEIGHTED, INSIDE, EXCLUDED, FLOOR,
            )  # fmt: skip
            rows = tl.sum(q_p * r_p, 1) + tl.sum(q_x * r_x, 1)
            if U > 0:
                rows += tl.sum(q_u * r_u, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            most = tl.sum((terms * terms).to(tl.float64), 0)
            cancelled += ((step == 0) & (found <= CANCELLED * most) & (most > 0)).to(tl.int32)
            tl.store(products + row_of(a, b, T) * groups, found)
    return cancelled


@triton.jit
def _directly(
    x, p, u, distances, weight, rates, unit, scale, mask, products, groups,
    n, i, j, count, positives, others, channels, x_n, x_c, p_n, p_c, u_n, u_c,
    U: tl.constexpr, C: tl.constexpr, T: tl.constexpr, SLOTS: tl.constexpr,
    CROSSED: tl.constexpr, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr,
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """⟨V_a, V_b⟩ from squares over all channels: first ‖V_a‖², then ‖V_a/‖V_a‖ + V_b/‖V_b‖‖².

    So there is one matrix of coefficients at a time, and a product is as exact as its factors'
    norms allow.
    """
    slots = tl.arange(0, SLOTS)
    squares = tl.zeros((SLOTS,), tl.float64)
    for a in range(T):
        for step in range(a + 1 if CROSSED else 1):
            b = a - step
            one = tl.sum(tl.where(slots == a, squares, 0.0), 0)
            two = tl.sum(tl.where(slots == b, squares, 0.0), 0)
            size = tl.sqrt(one * two)
            of_a = tl.where(one > 0, 1.0 / tl.sqrt(tl.where(one > 0, one, 1.0)), 0.0)
            of_b = tl.where(two > 0, 1.0 / tl.sqrt(tl.where(two > 0, two, 1.0)), 0.0)
            factor_a = tl.where(step == 0, 1.0, of_a).to(tl.float32)
            factor_b = tl.where(step == 0, 0.0, of_b).to(tl.float32)
            k_p, k_x, k_u = _coefficients(
                distances, weight, unit, pick(rates, a, T), scale * factor_a, mask, n, i, j,
                count, positives, others, U, WEIGHTED, INSIDE, EXCLUDED, FLOOR,
            )  # fmt: skip
            if step > 0:
                r_p, r_x, r_u = _coefficients(
                    distances, weight, unit, pick(rates, b, T), scale * factor_b, mask, n, i, j,
                    count, positives, others, U, WEIGHTED, INSIDE, EXCLUDED, FLOOR,
                )  # fmt: skip
                k_p += r_p
                k_x += r_x
                if U > 0:
                    k_u += r_u
            rows = tl.zeros((n.shape[0],), tl.float32)
            for start in range(0, channels, C):
                c = start + tl.arange(0, C)
                moved = _move(k_p, k_x, k_u, x, p, u, n, i, j, c, count, positives, others,
                              channels, x_n, x_c, p_n, p_c, u_n, u_c, U, PRECISION)  # fmt: skip
                rows += tl.sum(moved * moved, 1)
            found = tl.sum(rows.to(tl.float64), 0)
            squares = tl.where((slots == a) & (step == 0), found, squares)
            found = tl.where(step == 0, found, 0.5 * size * (found - 2.0))
            tl.store(products + row_of(a, b, T) * groups, found)


@triton.jit(do_not_specialize=COUNTS)
def correlate(
    xs, ps, us, strides, firsts, vectors, weight, distances, gram, units, rates, products,
    groups, cells, cell_firsts, count, positives, others, channels, mask,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, SLOTS: tl.constexpr, CROSSED: tl.constexpr, ALIGNED: tl.constexpr,
    GRAM: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr, WEIGHTED: tl.constexpr,
    INSIDE: tl.constexpr, EXCLUDED: tl.constexpr, FLOORED: tl.constexpr, FLOOR: tl.constexpr,
    CANCELLED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of two temperatures' drifts over samples and channels [pairs, groups].

    Every one with itself, and with ``CROSSED`` with all others. With ``GRAM`` they are traces,
    unless these cancel or the release's floor under the distances shows (``FLOORED``) since their
    mean is not far above.
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
    direct = 1
    if GRAM:
        gram += group * (positives + others) * (positives + others)
        direct = _by_traces(
            distances, gram, weight, rates, unit, scale, mask, products, groups,
            n, i, j, count, positives, others,
            U, T, CROSSED, WEIGHTED, INSIDE, EXCLUDED, FLOOR, CANCELLED, PRECISION,
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
            x, p, u, distances, weight, rates, unit, scale, mask, products, groups,
            n, i, j, count, positives, others, channels, x_n, x_c, p_n, p_c, u_n, u_c,
            U, C, T, SLOTS, CROSSED, WEIGHTED, INSIDE, EXCLUDED, FLOOR, PRECISION,
        )  # fmt: skip


@triton.jit(do_not_specialize=COUNTS)
def gradient(
    xs, ps, us, strides, outs, firsts, bases, vectors, weight, distances, units, rates, inverses,
    of_loss, of_label, given, shares, cells, cell_firsts,
    count, positives, others, channels, mask, factor, always,
    S: tl.constexpr, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr,
    WEIGHTED: tl.constexpr, INSIDE: tl.constexpr, EXCLUDED: tl.constexpr,
    FLOOR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """−2Ṽ·``factor``/S times what arrives: one product of all that multiplies the targets.

    ``of_loss`` and ``of_label`` hold the gradients arriving at a feature's loss and at its labels,
    ``given`` for each segment (its place in the bucket, whether there is the one, the step of the
    other, 0 for all the same, −1 for none); ``always`` arrives at every label.
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
    k_p, k_x = tl.zeros((N, P), tl.float32), tl.zeros((N, N), tl.float32)
    k_u = k_x
    if U > 0:
        k_u = tl.zeros((N, U), tl.float32)
    own = number(given[3], segment, S)
    for t in range(T):
        inverse = tl.load(inverses + T * first + t * own + cell - first)
        r_p, r_x, r_u = _coefficients(
            distances, weight, unit, pick(rates, t, T), scale * inverse, mask, n, i, j,
            count, positives, others, U, WEIGHTED, INSIDE, EXCLUDED, FLOOR,
        )  # fmt: skip
        k_p += r_p
        k_x += r_x
        if U > 0:
            k_u += r_u
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        moved = slope * _move(k_p, k_x, k_u, x, p, u, n, i, j, c, count, positives, others,
                              channels, x_n, x_c, p_n, p_c, u_n, u_c, U, PRECISION)  # fmt: skip
        inside = (n < count)[:, None] & (c < channels)[None, :]
        into = out + n.to(tl.int64)[:, None] * out_n + c[None, :] * out_c
        tl.store(into, moved.to(out.dtype.element_ty), mask=inside)
