"""From kept distances to the drift's coefficients on a GPU (Algorithm 2, EQ-22).

Two normalisers and two masses make every entry of a temperature's coefficients by itself.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.segments import kept_tile


@triton.jit
def weights_of(weight, at, m, size, WEIGHTED: tl.constexpr):
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
def anew(places, rate):
    """The same places, for all the compiler knows others at each rate (they are above 0).

    Else it works out every tile's offsets and masks before the loop over temperatures, and keeps
    them in registers that there are not.
    """
    return places + (rate < 0).to(tl.int32)


@triton.jit
def _logits(
    distances, at, n, m, count, size, targets, rate, mask,
    OWN: tl.constexpr, EXCLUDED: tl.constexpr,
):  # fmt: skip
    """Logits −d·rate of a tile, −∞ in its padding; a sample's own less ``mask``, or −∞."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    found = -rate * kept_tile(distances, at, n, m, count, size, targets)
    if OWN:
        own = float("-inf") if EXCLUDED else found - mask
        found = tl.where(n[:, None] == m[None, :], own, found)
    return tl.where(valid, found, float("-inf"))


@triton.jit
def _fold(top, sums, logits, weight, at, m, size, WEIGHTED: tl.constexpr, INSIDE: tl.constexpr):
    """Go on with the rows' greatest logits and sums of exponentials, over one more tile."""
    if INSIDE:
        _, logarithm = weights_of(weight, at, m, size, WEIGHTED)
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
    values, _ = weights_of(weight, at, m, size, WEIGHTED)
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.sum(_affinity(logits, row, column, values, valid, FLOOR), 1)


@triton.jit
def normalize(
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
    n_again = anew(n, rate)
    logits = _logits(
        distances, positives, n_again, n_again, count, count, targets, rate, mask, True, EXCLUDED
    )  # fmt: skip
    repelling = _mass(
        logits, row, columns, weight, positives, n, n, count, count, WEIGHTED, FLOOR
    )  # fmt: skip
    if U > 0:
        j = anew(j, rate)
        logits = _logits(distances, at, n, j, count, others, targets, rate, mask, False, EXCLUDED)
        repelling += _mass(logits, row, columns, weight, at, n, j, count, others, WEIGHTED, FLOOR)
    i = anew(i, rate)
    logits = _logits(distances, 0, n, i, count, positives, targets, rate, mask, False, EXCLUDED)
    attracting = _mass(logits, row, columns, weight, 0, n, i, count, positives, WEIGHTED, FLOOR)
    tl.store(into + n, row, mask=n < count)
    tl.store(into + count + n, attracting, mask=n < count)
    tl.store(into + 2 * count + n, repelling, mask=n < count)


@triton.jit
def coefficients(
    distances, weight, known, at, rate, scale, mask, n, m, count, size, targets,
    POSITIVE: tl.constexpr, OWN: tl.constexpr, WEIGHTED: tl.constexpr,
    EXCLUDED: tl.constexpr, FLOOR: tl.constexpr,
):  # fmt: skip
    """A tile of the drift's coefficients, times ``scale``, by what is ``known`` [3N + M]."""
    logits = _logits(distances, at, n, m, count, size, targets, rate, mask, OWN, EXCLUDED)
    row = tl.load(known + n, mask=n < count, other=0.0)
    column = tl.load(known + 3 * count + at + m, mask=m < size, other=0.0)
    values, _ = weights_of(weight, at, m, size, WEIGHTED)
    valid = (n < count)[:, None] & (m < size)[None, :]
    found = _affinity(logits, row, column, values, valid, FLOOR)
    other = tl.load(known + (2 if POSITIVE else 1) * count + n, mask=n < count, other=0.0)
    factor = other * scale if POSITIVE else -other * scale
    return found * factor[:, None]
