"""The weight matrix that one gradient shows, and what it says of kernel, mask, rows and columns.

With more channels than samples these are linearly independent: at one temperature every
coefficient of W⁺ and W⁻ follows from the gradient by a pseudo-inverse, up to one factor. S, λ
and factors of the loss only scale it. No search and no guess: see :func:`read`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize

from drifting_parity.cases import Array, LossCase
from drifting_parity.explanation.answers import Answer
from drifting_parity.explanation.data import DialStatement

Distance = Callable[[Array, Array], Array]

KERNEL: Final = "(row + column exponent) over T"
"""The name of the dial that says with which distance the weights fall."""

NO_KERNEL: Final = "the weights take no notice of the distances"
"""The law of the dial where no kernel is there at all."""

ROUNDING: Final = 1e-12
"""The largest difference between logarithms of weights that is none."""

EXACT: Final = 1e-6
"""How well a kernel fits the logarithms of the weights before it is named."""


def _gaps(x: Array, y: Array) -> Array:
    return x[:, None] - y[None]


def _sphere(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


DISTANCES: Final[Mapping[str, Distance]] = {
    "the Euclidean distance": lambda x, y: np.linalg.norm(_gaps(x, y), axis=-1),
    "its square": lambda x, y: np.square(_gaps(x, y)).sum(-1),
    "the sum of absolute differences": lambda x, y: np.abs(_gaps(x, y)).sum(-1),
    "the largest difference": lambda x, y: np.abs(_gaps(x, y)).max(-1),
    "1 − cosine": lambda x, y: 1 - _sphere(x) @ _sphere(y).T,
    "the distance on the unit sphere": lambda x, y: np.linalg.norm(
        _gaps(_sphere(x), _sphere(y)), axis=-1
    ),
}


@dataclass(frozen=True)
class Weights:
    """W⁺ [N, P] and W⁻ [N, N] up to one common factor; ``residual``: what they leave of it."""

    positive: Array
    negative: Array
    residual: float


def weights_of(case: LossCase, observed: Answer) -> Weights | None:
    """The weights behind a gradient of one label, one vector and one temperature.

    None where the samples are not linearly independent: C must be at least N + P.
    """
    labels, count, vectors, channels = case.generated.shape
    targets = np.concatenate([case.positive[0, :, 0], case.generated[0, :, 0]])
    if labels > 1 or vectors > 1 or case.unconditional is not None or len(targets) > channels:
        return None
    gradient = -observed.direction[0, :, 0]
    coefficients = gradient @ np.linalg.pinv(targets)
    residual = float(np.linalg.norm(coefficients @ targets - gradient))
    first = len(targets) - count
    return Weights(coefficients[:, :first], -coefficients[:, first:], residual)


def read(case: LossCase, observed: Answer) -> list[DialStatement]:
    """What the weights say; nothing where the gradient is no combination of the samples."""
    weights = weights_of(case, observed)
    if weights is None:
        return []
    if weights.residual > EXACT:
        name = "part of the gradient that is no combination of the samples"
        return [DialStatement(name, "gradient", weights.residual)]
    off = ~np.eye(len(weights.negative), dtype=bool)
    dials = [_balance(weights)]
    if not (np.all(weights.positive > 0) and np.all(weights.negative[off] > 0)):
        share = float(
            np.mean([np.mean(weights.positive <= 0), np.mean(weights.negative[off] <= 0)])
        )
        return [*dials, DialStatement("share of weights that are not positive", "field", share)]
    dials.append(_self_pairs(weights))
    return [*dials, *_kernel(case, weights, off)]


def _balance(weights: Weights) -> DialStatement:
    ratio = weights.positive.sum(-1) / weights.negative.sum(-1)
    spread = float(np.ptp(ratio))
    law = "attraction and repulsion balance in every row" if spread < EXACT else "differs by row"
    return DialStatement("attraction over repulsion", "field", float(ratio.mean()), law)


def _self_pairs(weights: Weights) -> DialStatement:
    own = np.abs(np.diag(weights.negative))
    others = weights.negative[~np.eye(len(own), dtype=bool)]
    share = float(own.max() / others.mean())
    law = "masked" if share < EXACT else "not masked"
    return DialStatement("weight of a sample in its own repulsion", "field", share, law)


def _kernel(case: LossCase, weights: Weights, off: Array) -> list[DialStatement]:
    """Fit log W_ij = r±_i + c_j − s·d_ij for every distance that there is."""
    x, y = case.generated[0, :, 0], case.positive[0, :, 0]
    fits: list[tuple[float, str, float, Array]] = []
    for name, distance in DISTANCES.items():
        d = np.concatenate([distance(x, y), distance(x, x)], axis=1)
        misfit, slope, columns = _fit(weights, d, off)
        fits.append((misfit, name, slope, columns))
    misfit, name, slope, columns = min(fits, key=lambda item: item[0])
    if misfit > EXACT:
        return [DialStatement("misfit of every kernel exp(−d/T)", "field", misfit)]
    distance = DISTANCES[name]
    present = np.concatenate([np.ones((len(x), len(y)), dtype=bool), off], axis=1)
    d = np.concatenate([distance(x, y), distance(x, x)], axis=1)
    if abs(slope) * float(np.ptp(d)) < ROUNDING:
        return [DialStatement(KERNEL, "field", 0.0, NO_KERNEL)]
    law = f"the kernel falls with {name}"
    shape = DialStatement(KERNEL, "field", slope, law)
    return [shape, *_exponents(d, present, len(y), slope, columns)]


def _exponents(
    d: Array, present: Array, positives: int, slope: float, columns: Array
) -> list[DialStatement]:
    """The exponents a and b of the two softmaxes: W ∝ row^a · column^b.

    Then s = (a + b)/T and the columns' part is −b log Σ_i exp(−d_ij/T): T is what makes it so.
    """

    def left(factor: float) -> tuple[float, float]:
        kernel = np.where(present, np.exp(-slope * factor * d), 0.0)
        sums = np.log(kernel.sum(0))
        # Positives and negatives apart: a common factor of one set is the rows'.
        parts = (slice(0, positives), slice(positives, None))
        pairs = np.concatenate(
            [
                np.stack([sums[part] - sums[part].mean(), columns[part] - columns[part].mean()])
                for part in parts
            ],
            axis=1,
        )
        exponent = float(pairs[0] @ pairs[1] / (pairs[0] @ pairs[0]))
        return float(np.linalg.norm(pairs[1] - exponent * pairs[0])), -exponent

    if float(np.ptp(columns[:positives])) < EXACT and float(np.ptp(columns[positives:])) < EXACT:
        return [DialStatement("exponent of the column softmax", "field", 0.0)]
    grid = np.geomspace(0.4, 3.0, 60)
    start = min(map(float, grid), key=lambda item: left(item)[0])

    def misfit_of(item: float) -> float:
        return left(item)[0]

    bounds, exact = (start / 1.05, start * 1.05), {"xatol": 1e-12}
    factor = float(
        optimize.minimize_scalar(misfit_of, bounds=bounds, method="bounded", options=exact).x  # pyright: ignore[reportAttributeAccessIssue] -- OptimizeResult
    )
    misfit, column = left(factor)
    if misfit > 1e-4:
        return []
    return [
        DialStatement("exponent of the column softmax", "field", column),
        DialStatement("exponent of the row softmax", "field", 1 / factor - column),
    ]


def _fit(weights: Weights, d: Array, off: Array) -> tuple[float, float, Array]:
    """Root mean square misfit, slope s and the columns' part of log W."""
    count, positives = weights.positive.shape
    rows: list[Array] = []
    logs: list[float] = []
    columns = positives + count
    whole = np.concatenate([weights.positive, weights.negative], axis=1)
    for i in range(count):
        for j in range(columns):
            if j >= positives and not off[i, j - positives]:
                continue
            row = np.zeros(2 * count + columns + 1)
            row[i if j < positives else count + i] = 1
            row[2 * count + j] = 1
            row[-1] = -d[i, j]
            rows.append(row)
            logs.append(float(np.log(whole[i, j])))
    matrix, target = np.stack(rows), np.array(logs)
    found = np.linalg.lstsq(matrix, target, rcond=None)[0]
    misfit = float(np.sqrt(np.mean(np.square(matrix @ found - target))))
    return misfit, float(found[-1]), np.asarray(found[2 * count : -1], dtype=np.float64)
