"""What the GPU kernels share: where a program's samples lie.

A program has one group, one label and one vector. The features of one launch are its segments:
they have the same counts of labels, samples and channels, and any numbers of vectors. What differs
between them comes as tuples with one entry a segment, of which a program picks its own.

A group's targets are three sets, in the order of their columns: positives, generated samples,
unconditional samples. What is done to each is written once and run for every SET of them.
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

POSITIVES = tl.constexpr(0)
GENERATED = tl.constexpr(1)
UNCONDITIONAL = tl.constexpr(2)

COUNTS = ["groups", "cells"]
"""Arguments for whose values a kernel must not be compiled."""


def told(values):
    """Whole numbers as a tuple for :func:`number`.

    Whatever ``do_not_specialize`` says, Triton compiles a kernel anew where an entry of a tuple
    becomes 1 or a multiple of 16. Odd numbers from 3 are neither.
    """
    return tuple(2 * value + 5 for value in values)


class Samples(NamedTuple):
    """A group's samples of one set."""

    start: Any
    """Pointer to the first channel of the first sample."""
    of_sample: Any
    """Step from a sample to the next."""
    of_channel: Any
    """Step from a channel to the next."""


class Group(NamedTuple):
    """The sizes of a program's group, and the samples that the entries of its tiles stand for.

    What has an entry for each set of targets is indexed by ``POSITIVES``, ``GENERATED`` and
    ``UNCONDITIONAL``; without unconditional samples their entry is never read.
    """

    count: Any
    """Generated samples N."""
    targets: Any
    """Samples of all sets M = P + N + U."""
    channels: Any
    """Channels C."""
    sizes: Any
    """Samples of each set (P, N, U)."""
    starts: Any
    """Column of each set's first sample among all targets."""
    rows: Any
    """Numbers of the generated samples in a tile's rows, padded [N]."""
    columns: Any
    """Numbers of each set's samples in a tile's columns, padded ([P], [N], [U])."""


@triton.jit
def group_of(
    count, positives, others, channels, N: tl.constexpr, P: tl.constexpr, U: tl.constexpr
):  # fmt: skip
    """The group of a program whose tiles are of sizes ``N``, ``P`` and ``U``, the last may be 0."""
    n, i = tl.arange(0, N), tl.arange(0, P)
    j = n
    if U > 0:
        j = tl.arange(0, U)
    return Group(
        count=count,
        targets=positives + count + others,
        channels=channels,
        sizes=(positives, count, others),
        starts=(0, positives, positives + count),
        rows=n,
        columns=(i, n, j),
    )


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
def samples_of(
    pointers, strides, label, vector, segment, S: tl.constexpr, ALIGNED: tl.constexpr
):  # fmt: skip
    """A group's samples of one set, by its steps [label, sample, vector, channel]."""
    at = label * number(strides[0], segment, S) + vector * number(strides[2], segment, S)
    of_sample = number(strides[1], segment, S)
    if ALIGNED:
        at, of_sample = tl.multiple_of(at, 16), tl.multiple_of(of_sample, 16)
        of_channel = 1
    else:
        of_channel = number(strides[3], segment, S)
    return Samples(pick(pointers, segment, S) + at, of_sample, of_channel)


@triton.jit
def load_tile(samples, at_sample, at_channel, size, channels, reference):
    """A tile [samples, channels] in float32, measured from ``reference``; padding is 0."""
    rows = at_sample.to(tl.int64)[:, None] * samples.of_sample
    inside = (at_sample < size)[:, None] & (at_channel < channels)[None, :]
    places = samples.start + rows + at_channel[None, :] * samples.of_channel
    values = tl.load(places, mask=inside, other=0.0)
    return tl.where(inside, values.to(tl.float32) - reference[None, :], 0.0)


@triton.jit
def centred_tile(samples, at_sample, at_channel, size, channels):
    """The generated samples, all in one tile, measured from their mean, and the mean."""
    rows = at_sample.to(tl.int64)[:, None] * samples.of_sample
    inside = (at_sample < size)[:, None] & (at_channel < channels)[None, :]
    places = samples.start + rows + at_channel[None, :] * samples.of_channel
    values = tl.load(places, mask=inside, other=0.0)
    values = values.to(tl.float32)
    mean = tl.sum(values, 0) / size
    return tl.where(inside, values - mean[None, :], 0.0), mean


@triton.jit
def reference_of(means, at_channel, channels):
    """What a group is measured from: its generated samples' mean."""
    return tl.load(means + at_channel, mask=at_channel < channels, other=0.0)


@triton.jit
def kept_tile(distances, at, n, m, count, size, targets):
    """A tile of distances, 0 in its padding."""
    valid = (n < count)[:, None] & (m < size)[None, :]
    return tl.load(distances + n[:, None] * targets + at + m[None, :], mask=valid, other=0.0)


@triton.jit
def _rounded(values):
    """To the nearest number of 11 digits, which is all that tensor cores read of a float32."""
    digits = values.to(tl.int32, bitcast=True) + 0x1000
    return (digits & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def product(x, y, onto, EXACT: tl.constexpr):
    """``onto`` plus the product of two tiles; ``EXACT`` to float32's digits, else to TF32's.

    A factor is the sum of two roundings to 11 digits; the product of both factors' second ones is
    below float32's last digit. Triton's own ``tf32x3`` cuts digits off where this rounds, which
    adds up over channels; so do an H100's tensor cores where they sum, hence ``onto`` is added
    outside of them.
    """
    if EXACT:
        x_first, y_first = _rounded(x), _rounded(y)
        x_rest, y_rest = _rounded(x - x_first), _rounded(y - y_first)
        found = tl.dot(x_rest, y_first, input_precision="tf32")
        found = tl.dot(x_first, y_rest, found, input_precision="tf32")
        return onto + tl.dot(x_first, y_first, found, input_precision="tf32")
    return tl.dot(x, y, onto, input_precision="tf32")
