"""What is shared over the batch, on a GPU: S, λ and the loss of several features (A.6).

Two small kernels, one program a feature, add up what the other kernels left for every group, in
float64 and always in the same order. A cell is what shares a statistic: the whole feature, or a
label, or a vector, or a group, by the readings. With a process group each is launched twice: for
the sums of this process (``ADDING``) and then with the sums of all (``GIVEN``).
"""

# Triton's language is typed by its compiler.
# pyright: basic, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from drifting_torch.kernels.gpu.segments import COUNTS, number, pick, row_of


@triton.jit
def _layout(labels, vectors, BATCH: tl.constexpr, SHARED: tl.constexpr):
    """Cells of a feature, their step among its groups, a cell's groups, and their step."""
    if BATCH:
        if SHARED:
            return 1, 0, labels * vectors, 1
        return vectors, 1, labels, vectors
    if SHARED:
        return labels, vectors, vectors, 1
    return labels * vectors, 1, 1, 0


@triton.jit
def _gathered(values, at, within, own_step, members, member_step,
              CELLS: tl.constexpr, MEMBERS: tl.constexpr):  # fmt: skip
    """Sums [CELLS] of float64 values over the groups of each of the cells ``at``."""
    found = tl.zeros((CELLS, MEMBERS), tl.float64)
    for first in range(0, members, MEMBERS):
        m = first + tl.arange(0, MEMBERS)
        places = values + at.to(tl.int64)[:, None] * own_step + m[None, :] * member_step
        found += tl.load(places, mask=within[:, None] & (m < members)[None, :], other=0.0)
    return tl.sum(found, 1)


@triton.jit
def _reciprocal(values):
    """Reciprocal with 1/0 := 0."""
    return tl.where(values == 0, 0.0, 1.0 / tl.where(values == 0, 1.0, values))


@triton.jit(do_not_specialize=COUNTS)
def scale(
    sums, totals, feature_scale, units, bases, vectors, cell_firsts, groups, cells,
    labels, channels, least, least_unit,
    S: tl.constexpr, CELLS: tl.constexpr, MEMBERS: tl.constexpr, BATCH: tl.constexpr,
    SHARED: tl.constexpr, ADDING: tl.constexpr, GIVEN: tl.constexpr,
):  # fmt: skip
    """S of every cell, and the reciprocals [2, cells] that distances and coordinates take.

    ``totals`` holds, feature after feature, weighted distances and weights [2, cells]. ``least``
    is the least divisor of the coordinates, ``least_unit`` that of the distances.

    =================  =============================================================
    read               pointers to float64
    ``sums``           [2, groups]: distances times weights, features' unit; weights
    ``totals``         see above; written with ``ADDING``, None without it or ``GIVEN``
    written            pointers to float32, None with ``ADDING``
    ``feature_scale``  S [cells], features' unit
    ``units``          [2, cells], 1/S for distances and for coordinates, 1/unit
    numbers, [S]       as ``told``
    ``bases``          the first group of each segment
    ``vectors``        its vectors V
    ``cell_firsts``    its first cell
    numbers
    ``groups``         groups of all segments; ``cells`` their cells
    ``labels``         L; ``channels`` C
    compiled for
    ``S``              segments, padding included
    ``CELLS MEMBERS``  sizes of the tiles: cells, and groups of each
    ``BATCH``          whether all labels share S
    ``SHARED``         whether all vectors of a feature do
    ``ADDING``         whether ``totals`` are written and no more
    ``GIVEN``          whether they are read in place of ``sums``
    =================  =============================================================
    """
    segment = tl.program_id(0)
    width, base = number(vectors, segment, S), number(bases, segment, S)
    first = number(cell_firsts, segment, S)
    own, own_step, members, member_step = _layout(labels, width, BATCH, SHARED)
    sums += base
    if ADDING or GIVEN:
        totals += 2 * first
    for start in range(0, own, CELLS):
        at = start + tl.arange(0, CELLS)
        within = at < own
        if GIVEN:
            total = tl.load(totals + at, mask=within, other=0.0)
            pairs = tl.load(totals + own + at, mask=within, other=0.0)
        else:
            total = _gathered(sums, at, within, own_step, members, member_step, CELLS, MEMBERS)
            pairs = _gathered(sums + groups, at, within, own_step, members, member_step,
                              CELLS, MEMBERS)  # fmt: skip
        if ADDING:
            tl.store(totals + at, total, mask=within)
            tl.store(totals + own + at, pairs, mask=within)
        else:
            root = tl.sqrt(tl.full((1,), channels, tl.float64))
            found = total * _reciprocal(pairs) / root
            tl.store(feature_scale + first + at, found.to(tl.float32), mask=within)
            of_distance = _reciprocal(tl.maximum(found, least_unit))
            of_coordinate = _reciprocal(tl.maximum(found, least))
            tl.store(units + first + at, of_distance.to(tl.float32), mask=within)
            tl.store(units + cells + first + at, of_coordinate.to(tl.float32), mask=within)


@triton.jit
def _inverse(energy, entries, least):
    """λ from the drifts' squares, and its reciprocal under the readings' floors."""
    found = tl.sqrt(energy * _reciprocal(entries))
    floored = tl.maximum(found, least)
    return found, _reciprocal(floored)


@triton.jit
def _pair_squares(
    values, crosses, row, inverses, own, at, cell, within, like,
    T: tl.constexpr, CROSSED: tl.constexpr,
):  # fmt: skip
    """‖Σ V_τ/λ_τ‖², or with ``CROSSED`` off Σ ‖V_τ/λ_τ‖², from products of two drifts.

    Each stands ``row`` entries after the last, those of two different ones in ``crosses``.
    """
    found = like
    for a in tl.static_range(T):
        of_a = tl.load(inverses + a * own + cell, mask=within, other=0.0)
        for b in tl.static_range(a + 1):
            if CROSSED or a == b:
                of_b = tl.load(inverses + b * own + cell, mask=within, other=0.0)
                place = (values if a == b else crosses) + row_of(a, b, T) * row + at
                each = tl.load(place, mask=within, other=0.0) * of_a.to(tl.float64) * of_b
                found += each if a == b else 2.0 * each
    return found


@triton.jit(do_not_specialize=COUNTS)
def drift(
    products, totals, drift_scale, inverses, per_label, losses, shares,
    bases, vectors, cell_firsts, total_firsts, groups,
    labels, entries, factor, least, processes,
    S: tl.constexpr, T: tl.constexpr, CELLS: tl.constexpr, MEMBERS: tl.constexpr,
    LABELS: tl.constexpr, VECTORS: tl.constexpr, BATCH: tl.constexpr, SHARED: tl.constexpr,
    CROSSED: tl.constexpr, MEAN: tl.constexpr, ADDING: tl.constexpr, GIVEN: tl.constexpr,
):  # fmt: skip
    """λ and its reciprocal [T, cells], ``per_label`` [S, L], the losses and their gradient.

    ``totals`` holds, feature after feature, the drifts' squares, their entries, the products of
    two, and the labels [T + 1 + T(T−1)/2 + 1, cells]. ``shares`` is what a loss' gradient is
    multiplied by for each label, times the number of processes, over which it is averaged.

    ``bases``, ``vectors``, ``cell_firsts``, ``groups`` and ``labels`` are those of :func:`scale`.

    =================  =============================================================
    read               pointers to float64
    ``products``       [pairs, groups], numbers
    ``totals``         see above; written with ``ADDING``, None without it or ``GIVEN``
    written            pointers to float32, None with ``ADDING``
    ``drift_scale``    λ [T·cells], feature after feature, numbers
    ``inverses``       1/λ [T·cells], numbers
    ``per_label``      [segments, L], numbers
    ``losses``         [segments], numbers
    ``shares``         [segments], numbers
    numbers
    ``total_firsts``   [S], where each segment's totals start, as ``told``
    ``entries``        entries N·C of a group's drift
    ``factor``         [S], 1 over the entries of a label's drift
    ``least``          the least λ to divide by
    ``processes``      processes over which gradients are averaged
    compiled for       as for :func:`scale`, and
    ``T``              temperatures
    ``LABELS VECTORS`` sizes of the tiles in which a label's loss is summed
    ``CROSSED``        whether the loss needs products of two different drifts
    ``MEAN``           whether the loss is a mean over labels, else a sum
    =================  =============================================================
    """
    segment = tl.program_id(0)
    width, base = number(vectors, segment, S), number(bases, segment, S)
    first = number(cell_firsts, segment, S)
    own, own_step, members, member_step = _layout(labels, width, BATCH, SHARED)
    products += base
    if ADDING or GIVEN:
        totals += number(total_firsts, segment, S)
    pairs = T * (T + 1) // 2
    for start in range(0, own, CELLS):
        at = start + tl.arange(0, CELLS)
        within = at < own
        for a in tl.static_range(T):
            for b in tl.static_range(a + 1):
                if ADDING or a == b:
                    place = row_of(a, b, T)
                    if GIVEN:
                        found = tl.load(totals + a * own + at, mask=within, other=0.0)
                        size = tl.load(totals + T * own + at, mask=within, other=0.0)
                    else:
                        found = _gathered(products + place * groups, at, within, own_step,
                                          members, member_step, CELLS, MEMBERS)  # fmt: skip
                        size = (tl.zeros((CELLS,), tl.float64) + entries) * members
                    if ADDING:
                        into = totals + (place + (a != b)) * own + at
                        tl.store(into, found, mask=within)
                        tl.store(totals + T * own + at, size, mask=within)
                    else:
                        rms, inverse = _inverse(found, size, least)
                        into = T * first + a * own + at
                        tl.store(drift_scale + into, rms.to(tl.float32), mask=within)
                        tl.store(inverses + into, inverse.to(tl.float32), mask=within)
        if ADDING:
            there = tl.zeros((CELLS,), tl.float64) + labels
            tl.store(totals + (pairs + 1) * own + at, there, mask=within)
    if not ADDING:
        # What one thread stored others read below.
        tl.debug_barrier()
        inverses += T * first
        loss = tl.zeros((), tl.float64)
        for start in range(0, labels, LABELS):
            label = start + tl.arange(0, LABELS)
            squares = tl.zeros((LABELS, VECTORS), tl.float64)
            for start_of_vectors in range(0, width, VECTORS):
                vector = start_of_vectors + tl.arange(0, VECTORS)
                within = (label < labels)[:, None] & (vector < width)[None, :]
                at = label.to(tl.int64)[:, None] * width + vector[None, :]
                cell = at * 0
                if not BATCH:
                    cell += label[:, None]
                if not SHARED:
                    cell = cell * width + vector[None, :]
                squares = _pair_squares(products, products, groups, inverses, own, at, cell, within,
                                        squares, T, CROSSED)  # fmt: skip
            found = tl.sum(squares, 1) * pick(factor, segment, S)
            tl.store(per_label + segment * labels + label, found.to(tl.float32),
                     mask=label < labels)  # fmt: skip
            loss += tl.sum(found, 0)
        everywhere = tl.zeros((), tl.float64) + labels
        if GIVEN:
            everywhere = tl.load(totals + (pairs + 1) * own)
            found = tl.zeros((CELLS,), tl.float64)
            for start in range(0, own, CELLS):
                at = start + tl.arange(0, CELLS)
                found = _pair_squares(totals, totals + own, own, inverses, own, at, at, at < own,
                                      found, T, CROSSED)  # fmt: skip
            loss = tl.sum(found, 0) * pick(factor, segment, S)
        share = everywhere * 0.0 + processes
        if MEAN:
            loss, share = loss / everywhere, share / everywhere
        tl.store(losses + segment, loss.to(tl.float32))
        tl.store(shares + segment, share.to(tl.float32))
