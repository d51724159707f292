"""The reference against Algorithm 2 and A.6 worked out again with 50 digits, reading by reading.

The oracle below shares nothing with the reference: Python loops over mpmath numbers, kernels by
``exp`` directly (nothing underflows), drifts as the double sum of EQ-17.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mpmath import exp, mp, mpf, sqrt

from drifting_reference import compute_V, drifting_loss
from drifting_spec import AXES, PAPER, RELEASE, SEED, Readings

mp.dps = 50
L, N, P, U, V, C = 2, 3, 2, 2, 2, 3
FLOORS = {"none": mpf(0), "1e-6": mpf(10) ** -6, "1e-12": mpf(10) ** -12}


def exact(array: Any) -> Any:
    """Nested lists of mpmath numbers, equal to the float64 entries to the last bit."""
    return [exact(item) for item in array] if np.ndim(array) else mpf(float(array))


def norm(a: Any, b: Any) -> Any:
    return sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def oracle_affinity(d: Any, w: Any, T: Any, positives: int, masked: bool, r: Readings) -> Any:
    """A [rows][columns] for distances d, the mask (if any) added or left out here."""
    rows, columns = range(len(d)), range(len(w))

    def kernel(i: int, m: int) -> Any:
        if masked and m == positives + i:
            return mpf(0) if r.self_mask == "exclude" else exp(-d[i][m] / T)
        return exp(-d[i][m] / T)

    e = [[kernel(i, m) for m in columns] for i in rows]
    inside = r.unconditional_weight != "after_softmaxes"
    floor = FLOORS[r.affinity_floor]
    A = [[mpf(0) for _ in columns] for _ in rows]
    for i in rows:
        for m in columns:
            own = [k for k in columns if (k < positives) == (m < positives)]
            over = own if r.kernel_normalization == "separate" else columns
            R = sum((w[k] if inside else 1) * e[i][k] for k in over)
            row, column = (e[i][m] / R if R else mpf(0)), mpf(0)
            if sum(e[k][m] for k in rows):
                column = e[i][m] / sum(e[k][m] for k in rows)
            if r.softmax_axes == "none":
                A[i][m] = w[m] * e[i][m]
            elif r.softmax_axes == "y":
                A[i][m] = w[m] * row
            else:
                logged = r.unconditional_weight == "log_in_softmaxes"
                product = max(row * column * (w[m] if logged else 1), floor)
                root = product if r.softmax_combination == "product" else sqrt(product)
                A[i][m] = root if logged else w[m] * root
    return A


def oracle_field(
    d: Any, y: Any, w: Any, T: Any, positives: int, masked: bool, r: Readings, unit: Any
) -> Any:
    """EQ-17's double sum over positives and negatives."""
    extra = {"exclude": mpf(0), "add_1e6": mpf(10) ** 6, "add_100": 100 * unit}[r.self_mask]
    d = [
        [d[i][m] + (extra if masked and m == positives + i else 0) for m in range(len(w))]
        for i in range(len(d))
    ]
    A = oracle_affinity(d, w, T, positives, masked, r)
    channels = range(len(y[0]))
    return [
        [
            sum(
                A_i[j] * A_i[m] * (y[j][c] - y[m][c])
                for j in range(positives)
                for m in range(positives, len(w))
            )
            for c in channels
        ]
        for A_i in A
    ]


def divided(a: Any, b: Any) -> Any:
    return a / b if b else mpf(0)


def oracle_scale(g: Any, y: Any, w: Any, r: Readings) -> Any:
    """D = mean distance, by (label, location)."""
    floor = mpf(10) ** -8 if r.floors == "release" else mpf(0)
    sums = {}
    for label in range(L):
        for v in range(V):
            top, bottom = mpf(0), mpf(0)
            for i in range(N):
                for m in range(P + N + U):
                    for u in range(V) if r.location_sharing == "all_pairs" else [v]:
                        if r.scale_samples == "positives" and m >= P:
                            continue
                        if r.scale_samples == "negatives" and m < P:
                            continue
                        if r.scale_self_pairs == "without" and m == P + i and u == v:
                            continue
                        distance = norm(g[label][i][v], y[label][m][u])
                        top += w[label][m] * sqrt(max(distance**2, floor))
                        bottom += w[label][m]
            sums[label, v] = (top, bottom)
    return pooled(sums, r)


def pooled(sums: Any, r: Readings) -> Any:
    def scope(label: int, v: int) -> Any:
        return [
            sums[a, b]
            for a in range(L)
            for b in range(V)
            if (r.statistics_scope == "batch" or a == label)
            and (r.location_sharing != "none" or b == v)
        ]

    return {
        key: divided(sum(s[0] for s in scope(*key)), sum(s[1] for s in scope(*key))) for key in sums
    }


def oracle_loss(g: Any, y: Any, w: Any, temperatures: Any, r: Readings) -> Any:
    """Loss and gradient [L][N][V][C] of A.6."""
    floor2 = mpf(10) ** -8 if r.floors == "release" else mpf(0)
    D = oracle_scale(g, y, w, r)
    least = {"none": mpf(0), "release": mpf(10) ** -3, "seed": mpf(10) ** -8}[r.floors]
    S = {key: max(D[key] / sqrt(C), least) for key in D}
    D = {key: max(D[key], least) if r.floors == "release" else S[key] * sqrt(C) for key in D}
    normalized = []
    for tau in temperatures:
        T = tau * sqrt(C) if r.temperature_scaling == "sqrt_channels" else tau
        field, squares = {}, {}
        for label, v in D:
            x = [g[label][i][v] for i in range(N)]
            t = [[c / S[label, v] for c in y[label][m][v]] for m in range(P + N + U)]
            d = [
                [
                    sqrt(max(norm(x_i, y[label][m][v]) ** 2, floor2)) * sqrt(C) / D[label, v]
                    for m in range(P + N + U)
                ]
                for x_i in x
            ]
            field[label, v] = oracle_field(d, t, w[label], T, P, True, r, sqrt(C))
            squares[label, v] = (sum(c**2 for row in field[label, v] for c in row), mpf(N * C))
        lam = {key: sqrt(value) for key, value in pooled(squares, r).items()}
        small = {"none": mpf(0), "release": mpf(10) ** -4, "seed": mpf(10) ** -8}[r.floors]
        normalized.append(
            {
                key: [[divided(c, max(lam[key], small)) for c in row] for row in field[key]]
                for key in field
            }
        )
    summed = {
        key: [[sum(n[key][i][c] for n in normalized) for c in range(C)] for i in range(N)]
        for key in D
    }
    share = mpf(1) / len(normalized) if r.temperature_aggregation.endswith("_mean") else mpf(1)
    terms = [summed] if r.temperature_aggregation == "sum_drifts_then_mse" else normalized
    kappa = share / N
    kappa /= C if r.channel_reduction == "mean" else 1
    kappa /= V if r.location_reduction == "mean" else 1
    kappa /= L if r.label_reduction == "mean" else 1
    loss = kappa * sum(c**2 for t in terms for rows in t.values() for row in rows for c in row)
    gradient = [
        [
            [[-2 * kappa * c / S[label, v] for c in summed[label, v][i]] for v in range(V)]
            for i in range(N)
        ]
        for label in range(L)
    ]
    return loss, gradient


def single_readings() -> list[Readings]:
    """The presets, and the paper's and the release's readings with each other reading in turn."""
    sets = [PAPER, RELEASE, SEED]
    for base in (PAPER, RELEASE):
        for axis, options in AXES.items():
            sets += [base.with_reading(axis, option) for option in options]
    return list(dict.fromkeys(sets))


def case(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "generated": rng.normal(size=(L, N, V, C)),
        "positive": rng.normal(size=(L, P, V, C)) + 0.5,
        "unconditional": rng.normal(size=(L, U, V, C)) - 0.3,
        "unconditional_weight": rng.uniform(0.2, 3, size=(L, U)),
        "generated_weight": rng.uniform(0.5, 2, size=(L, N)),
        "positive_weight": rng.uniform(0.5, 2, size=(L, P)),
    }


def relative(got: Any, expected: Any) -> float:
    expected = np.array(expected, dtype=object).astype(np.float64)
    return float(np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("readings", single_readings(), ids=str)
def test_whole_loss(readings: Readings) -> None:
    arguments = case(7)
    out = drifting_loss(**arguments, temperatures=(0.05, 0.5), readings=readings)
    targets = ("positive", "generated", "unconditional")
    y = np.concatenate([arguments[name] for name in targets], axis=1)
    w = np.concatenate([arguments[f"{name}_weight"] for name in targets], axis=1)
    taus = [mpf(0.05), mpf(0.5)]
    loss, gradient = oracle_loss(exact(arguments["generated"]), exact(y), exact(w), taus, readings)
    assert abs(out.loss - loss) <= 1e-13 * loss
    assert relative(out.gradient, gradient) <= 1e-12


@pytest.mark.parametrize("mask_self", [True, False])
@pytest.mark.parametrize("weight", ["replication", "after_softmaxes", "log_in_softmaxes"])
@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"softmax_combination": "product"},
        {"affinity_floor": "1e-6"},
        {"softmax_combination": "product", "affinity_floor": "1e-6"},
        {"softmax_axes": "y"},
        {"softmax_axes": "y", "kernel_normalization": "separate"},
        {"softmax_axes": "none"},
        {"self_mask": "add_100"},
        {"self_mask": "add_100", "affinity_floor": "1e-12"},
    ],
    ids=lambda axes: "+".join(axes.values()) or "paper",
)
@pytest.mark.parametrize("T", [0.1, 3.0])
def test_algorithm_2(axes: dict[str, Any], weight: Any, mask_self: bool, T: float) -> None:
    """Algorithm 2 with weights, one of them 0."""
    readings = replace(PAPER, unconditional_weight=weight, **axes)
    rng = np.random.default_rng(11)
    x, y_pos = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    y_neg = np.concatenate([x, rng.normal(size=(3, 3))])
    w_pos, w_neg = rng.uniform(0.3, 2, size=3), rng.uniform(0.3, 3, size=7)
    w_neg[5] = 0.0
    got = compute_V(
        x,
        y_pos,
        y_neg,
        T,
        mask_self=mask_self,
        positive_weight=w_pos,
        negative_weight=w_neg,
        readings=readings,
    )
    y = exact(np.concatenate([y_pos, y_neg]))
    w = exact(np.concatenate([w_pos, w_neg]))
    d = [[norm(a, b) for b in y] for a in exact(x)]
    expected = oracle_field(d, y, w, mpf(T), 3, mask_self, readings, mpf(1))
    assert relative(got, expected) <= 1e-13
