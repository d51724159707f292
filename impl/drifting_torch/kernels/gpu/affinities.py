"""From kept distances to the drift's coefficients on a GPU (Algorithm 2, EQ-22).

Two normalisers and two masses make every entry of a temperature's coefficients by itself.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.segments import (
    GENERATED,
    POSITIVES,
    UNCONDITIONAL,
    Group,
    kept_tile,
    pick,
)


class Affinities(NamedTuple):
    """What a group's affinities and coefficients are made of."""

    distances: Any
    """Pointer to the group's distances [N+1, M], in the features' unit."""
    weight: Any
    """Pointer to the kernel weights of its label [M], numbers; None where all are 1."""
    normalizers: Any
    """Pointer to what :func:`normalize` keeps [T, 3N + M], numbers."""
    unit: Any
    """1/S: what distances are multiplied by."""
    rates: Any
    """1/τ of each temperature, √C included where the readings have it."""
    mask: Any
    """What is added to a sample's distance from itself, in S."""


class How(NamedTuple):
    """What a kernel is compiled for where affinities are made and multiplied.

    It is made where it is handed on: an assignment would turn its entries into values that are
    known only when running.
    """

    WEIGHTED: Any
    """Whether there are weights."""
    EXCLUDED: Any
    """Whether a sample is no target of itself, whatever ``mask`` is."""
    FLOOR: Any
    """The least affinity, 0 for none."""
    EXACT: Any
    """Whether products of tiles are exact to float32's digits, else to TF32's."""


class Temperature(NamedTuple):
    """What differs between temperatures where coefficients are made."""

    rate: Any
    """Its entry of ``rates``."""
    known: Any
    """Pointer to what :func:`normalize` keeps of it [3N + M]."""
    scale: Any
    """What its coefficients are multiplied by."""


@triton.jit
def temperature_of(group, given, t, scale, T: tl.constexpr):
    """The temperature of number ``t``."""
    known = given.normalizers + t * (3 * group.count + group.targets)
    return Temperature(pick(given.rates, t, T), known, scale)


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
def group_anew(group, rate):
    """The group with its places :func:`anew`."""
    n = anew(group.rows, rate)
    return Group(
        count=group.count,
        targets=group.targets,
        channels=group.channels,
        sizes=group.sizes,
        starts=group.starts,
        rows=n,
        columns=(anew(group.columns[0], rate), n, anew(group.columns[2], rate)),
    )


@triton.jit
def _logits(group, given, how, rate, n, m, SET: tl.constexpr):
    """Logits −d·rate/S of a tile, −∞ in its padding; a sample's own less the mask's, or −∞."""
    size, unmasked = group.sizes[SET], rate * given.unit
    valid = (n < group.count)[:, None] & (m < size)[None, :]
    found = -unmasked * kept_tile(
        given.distances, group.starts[SET], n, m, group.count, size, group.targets
    )  # fmt: skip
    if SET == GENERATED:
        own = float("-inf") if how.EXCLUDED else found - given.mask * rate
        found = tl.where(n[:, None] == m[None, :], own, found)
    return tl.where(valid, found, float("-inf"))


@triton.jit
def _weights(group, given, how, m, SET: tl.constexpr):
    """Kernel weights of a set's columns and their logarithms."""
    return weights_of(
        given.weight, group.starts[SET], m, group.sizes[SET], WEIGHTED=how.WEIGHTED
    )  # fmt: skip


@triton.jit
def _fold(top, sums, group, given, how, rate, SET: tl.constexpr, INSIDE: tl.constexpr):
    """Go on with the rows' greatest logits and sums of exponentials, over one more set."""
    m = group.columns[SET]
    logits = _logits(group, given, how, rate, group.rows, m, SET=SET)
    if INSIDE:
        _, logarithm = _weights(group, given, how, m, SET=SET)
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
def _mass(group, given, how, known, rate, row, SET: tl.constexpr):
    """Sums of the rows of affinities with one set; its columns' normalisers are kept."""
    n, size = group.rows, group.sizes[SET]
    m = anew(group.columns[SET], rate * given.unit)
    if SET == GENERATED:
        logits = _logits(group, given, how, rate, m, m, SET=SET)
        m = n
    else:
        logits = _logits(group, given, how, rate, n, m, SET=SET)
    top = tl.max(logits, 0)
    column = _normalizer(top, tl.sum(tl.exp(logits - _finite(top)[None, :]), 0))
    tl.store(known + 3 * group.count + group.starts[SET] + m, column, mask=m < size)
    values, _ = _weights(group, given, how, m, SET=SET)
    valid = (n < group.count)[:, None] & (m < size)[None, :]
    return tl.sum(_affinity(logits, row, column, values, valid, FLOOR=how.FLOOR), 1)


@triton.jit
def normalize(group, given, how, temperature, SETS: tl.constexpr, INSIDE: tl.constexpr):
    """Keep what makes affinities and coefficients of the logits at one temperature [3N + M].

    They are the rows' normalisers, the affinities with positives and with negatives that each row
    sums up to, and the columns' normalisers: with them coefficients are made entry by entry.
    With ``INSIDE`` the weights count in the rows' normalisers.
    """
    n, count = group.rows, group.count
    known, rate = temperature.known, temperature.rate
    top = tl.full((n.shape[0],), float("-inf"), tl.float32)
    sums = tl.zeros((n.shape[0],), tl.float32)
    for SET in tl.static_range(SETS):
        top, sums = _fold(top, sums, group, given, how, rate, SET=SET, INSIDE=INSIDE)
    row = _normalizer(top, sums)
    repelling = _mass(group, given, how, known, rate, row, SET=GENERATED)
    if SETS > UNCONDITIONAL:
        repelling += _mass(group, given, how, known, rate, row, SET=UNCONDITIONAL)
    attracting = _mass(group, given, how, known, rate, row, SET=POSITIVES)
    tl.store(known + n, row, mask=n < count)
    tl.store(known + count + n, attracting, mask=n < count)
    tl.store(known + 2 * count + n, repelling, mask=n < count)


@triton.jit
def coefficients(group, given, how, temperature, n, m, SET: tl.constexpr):
    """A tile of the drift's coefficients, for rows ``n`` and the columns ``m`` of one set."""
    count, size, known = group.count, group.sizes[SET], temperature.known
    logits = _logits(group, given, how, temperature.rate, n, m, SET=SET)
    row = tl.load(known + n, mask=n < count, other=0.0)
    column = tl.load(known + 3 * count + group.starts[SET] + m, mask=m < size, other=0.0)
    values, _ = _weights(group, given, how, m, SET=SET)
    valid = (n < count)[:, None] & (m < size)[None, :]
    found = _affinity(logits, row, column, values, valid, FLOOR=how.FLOOR)
    opposite = 2 if SET == POSITIVES else 1
    other = tl.load(known + opposite * count + n, mask=n < count, other=0.0)
    factor = other * temperature.scale if SET == POSITIVES else -other * temperature.scale
    return found * factor[:, None]
