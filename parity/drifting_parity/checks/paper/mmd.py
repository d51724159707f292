"""C.2, drifting beside MMD: PB-45 and PB-46, EQ-34 to EQ-47, computed with the reference alone.

The clauses speak of the paper, so the adapter is not asked. The oracles are central differences
of losses that are written out here, closed kernels, EQ-10, EQ-11 and the logarithm of a ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from drifting_parity.cases import Array
from drifting_parity.checks.core import Check, Context, Property, Yield
from drifting_parity.checks.paper.identifiability import absolute
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement, at_least, compare
from drifting_reference import eq10_field, eq11_field, mmd

STEP = 1e-5
"""Of central differences, in units of the kernel's length."""


@dataclass(frozen=True)
class Samples:
    """Samples of q and p, further negatives, an arbitrary field, a kernel of some length."""

    x: Array
    y_pos: Array
    y_neg: Array
    V: Array
    jacobian: Array
    kernel: str
    length: float

    @property
    def name(self) -> str:
        """Sizes and kernel."""
        sizes = f"N={len(self.x)} P={len(self.y_pos)} M={len(self.y_neg)} C={self.x.shape[1]}"
        return f"{self.kernel} {sizes} length={self.length:.3g}"

    def radial(self) -> mmd.RadialKernel:
        """The reference's ξ."""
        make = mmd.gaussian_xi if self.kernel == "Gaussian" else mmd.matern_xi
        return make(self.length)

    def xi(self, x: Array, y: Array) -> Array:
        """ξ(x_i, y_m), written out again."""
        r = np.asarray(cdist(x, y), dtype=np.float64)
        if self.kernel == "Gaussian":
            return np.exp(-np.square(r / self.length) / 2.0)
        return self.length * (r + self.length) * np.exp(-r / self.length)

    def induced(self, x: Array, y: Array) -> Array:
        """The closed form of EQ-45's kernel."""
        r = np.asarray(cdist(x, y), dtype=np.float64)
        if self.kernel == "Gaussian":
            return np.exp(-np.square(r / self.length) / 2.0) / self.length**2
        return np.exp(-r / self.length)

    @property
    def height(self) -> float:
        """ξ at distance 0."""
        return 1.0 if self.kernel == "Gaussian" else self.length**2


def _samples(draw: Draw) -> Samples:
    kernel = draw.choice(("Gaussian", "Matérn"))
    generated, positives, negatives = (draw.integer(1, 5) for _ in range(3))
    channels, length = draw.integer(1, 3), 2.0 ** draw.integer(-1, 1)
    random = generator(draw)
    x, y_neg, V = (random.normal(size=(n, channels)) for n in (generated, negatives, generated))
    y_pos = random.normal(size=(positives, channels)) + 0.5
    jacobian = random.normal(size=(generated, channels, 2))
    return Samples(x, y_pos, y_neg, V, jacobian, kernel, length)


def differences(function: Callable[[Array], float], at: Array, step: float) -> Array:
    """Central differences of a function of an array."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        shift = np.zeros_like(at)
        shift[index] = step
        gradient[index] = (function(at + shift) - function(at - shift)) / (2.0 * step)
    return gradient


def _squared_mmd(case: Samples, x: Array) -> float:
    """‖mean embedding of x − that of y⁺‖², a quadratic form of signed weights."""
    both = np.concatenate([x, case.y_pos])
    sign = np.concatenate(
        [np.full(len(x), 1.0 / len(x)), np.full(len(case.y_pos), -1.0 / len(case.y_pos))]
    )
    return float(sign @ case.xi(both, both) @ sign)


def _drifting_loss(ctx: Context, case: Samples) -> Iterator[Measurement]:
    """EQ-34 to EQ-36: value mean ‖V‖², per-sample gradient −2V, the chain rule over θ."""
    del ctx
    near = case.name
    target, size = case.x + case.V, float(np.sum(case.V**2))
    exact = absolute(1e-13 * (1.0 + size), "a few roundings of sums of squares")
    losses = mmd.sample_losses(case.x, target)
    value = float(np.mean(np.sum(case.V**2, axis=1)))
    yield compare(("EQ-34",), "E L(x)", near, mmd.expected_loss(case.x, target), value, exact)
    yield compare(("EQ-34",), "Σ L(x_i)", near, float(np.sum(losses)), size, exact)
    # A quadratic function has exact central differences, up to rounding by the step.
    room = absolute(1e-9 * (1.0 + size), "rounding of a sum of squares divided by the step")
    sloped = differences(lambda x: float(np.sum(mmd.sample_losses(x, target))), case.x, 1e-3)
    field = mmd.drift_of_loss(sloped)
    yield compare(("EQ-36",), "V = −½ ∂L(x)/∂x", near, field, case.V, room)

    def mean_square(theta: Array) -> float:
        moved = case.x + case.jacobian @ theta
        return float(np.mean(np.sum((moved - target) ** 2, axis=1)))

    by_theta = differences(mean_square, np.zeros(2), 1e-3)
    chained = mmd.parameter_gradient(-2.0 * case.V, case.jacobian)
    width = float(np.sum(case.jacobian**2))
    room = absolute(1e-9 * (1.0 + size + width), "as above, with the Jacobian")
    yield compare(("EQ-35",), "∂L/∂θ", near, chained, by_theta, room)


def _mmd(ctx: Context, case: Samples) -> Iterator[Measurement]:
    """EQ-37 to EQ-43: V = −½ N ∂L_MMD²/∂x_i, by central differences of the V-statistic."""
    del ctx
    near, xi, x, count = case.name, case.radial(), case.x, len(case.x)
    # h = 1e-5 lengths: truncation h² = 1e-10, rounding N·u/h = 1e-10, both in units of ξ(0)/length.
    unit = case.height / case.length
    room = absolute(1e-7 * unit, "h² and N·u/h in units of ξ(0)/length, with three orders on top")
    exact = absolute(1e-13 * case.height, "roundings of means of ξ")
    value = mmd.mmd_loss(x, case.y_pos, xi)
    yield compare(("EQ-37",), "L_MMD²", near, value, _squared_mmd(case, x), exact)
    step = STEP * case.length
    slope = count * differences(lambda moved: _squared_mmd(case, moved), x, step)
    gradient = mmd.mmd_sample_gradient(x, case.y_pos, xi)
    yield compare(("EQ-39", "EQ-40"), "N ∂L_MMD²/∂x_i", near, gradient, slope, room)
    field = mmd.mmd_field(x, case.y_pos, x, xi)
    yield compare(("EQ-41",), "V = −½ N ∂L_MMD²/∂x_i", near, field, -0.5 * slope, room)
    by_gradient = mmd.drift_of_loss(gradient)
    yield compare(("EQ-36", "EQ-41"), "V = −½ ∂L_MMD²(x)/∂x", near, field, by_gradient, exact)
    substituted = mmd.radial_mmd_field(x, case.y_pos, x, xi)
    yield compare(("EQ-43",), "V of a radial kernel", near, substituted, -0.5 * slope, room)
    single = mmd.kernel_gradient(x[:1], case.y_pos[:1], xi)[0, 0]
    sloped = differences(lambda at: float(case.xi(at[None], case.y_pos[:1])[0, 0]), x[0], step)
    yield compare(("EQ-42",), "∂ξ/∂x", near, single, sloped, room)
    by_theta = differences(
        lambda theta: _squared_mmd(case, x + case.jacobian @ theta), np.zeros(2), step
    )
    chained = mmd.parameter_gradient(gradient, case.jacobian)
    # Along θ a sample moves up to ‖∂x/∂θ‖ times as far: h² grows with the cube.
    reach = max(1.0, float(np.max(np.abs(case.jacobian)))) ** 3
    wider = absolute(1e-7 * unit * reach, "as above along a direction ‖∂x/∂θ‖ long, cubed")
    yield compare(("EQ-38",), "∂L_MMD²/∂θ", near, chained, by_theta, wider)


def _kernels(ctx: Context, case: Samples) -> Iterator[Measurement]:
    """EQ-44 to EQ-46: the kernel behind a discrepancy, and the normalised one."""
    del ctx
    near, xi, x = case.name, case.radial(), case.x
    k_pos, k_neg = (mmd.mmd_kernel(x, y, xi) for y in (case.y_pos, case.y_neg))
    top = case.height / case.length**2
    exact = absolute(1e-12 * top * (1.0 + case.length), "roundings of exp and of means")
    closed = case.induced(x, case.y_pos)
    yield compare(("EQ-45",), "k̃_MMD = −2ξ'", near, k_pos, closed, exact)
    field = mmd.kernel_field(x, case.y_pos, case.y_neg, k_pos, k_neg)
    induced = mmd.mmd_field(x, case.y_pos, case.y_neg, xi)
    spread = float(np.max(np.abs(np.concatenate([x, case.y_pos, case.y_neg]))))
    exact = absolute(1e-12 * top * (1.0 + spread), "roundings of means of k·(y − x)")
    yield compare(("EQ-44", "EQ-45"), "EQ-44 with k̃_MMD = V_MMD", near, field, induced, exact)
    normal = mmd.normalized_rows(case.induced(x, case.y_pos))
    rows = np.mean(normal, axis=1)
    one = absolute(1e-13, "a mean of a few numbers of size one")
    yield compare(("EQ-46",), "E_y k̃", near, rows, np.ones(len(x)), one)
    negative = mmd.normalized_rows(case.induced(x, case.y_neg))
    drift = mmd.kernel_field(x, case.y_pos, case.y_neg, normal, negative)
    if case.kernel == "Matérn":
        same = eq10_field(x, case.y_pos, case.y_neg, case.length)
        room = absolute(1e-12 * (1.0 + spread), "roundings of weighted means of y − x")
        yield compare(("EQ-44", "EQ-46"), "EQ-44 with EQ-46 = EQ-10", near, drift, same, room)
    else:
        rise = differences(lambda at: float(np.sum(_log_ratio(case, at))), x, STEP * case.length)
        room = absolute(1e-7 * (case.length + spread**3 / case.length**2), "h² times a cumulant")
        clauses, quantity = ("EQ-44", "EQ-46"), "V = σ² ∇ log(E_p k / E_q k)"
        yield compare(clauses, quantity, near, drift, case.length**2 * rise, room)


def _log_ratio(case: Samples, x: Array) -> Array:
    """Log of Σ_j k(x, y⁺_j)/P over Σ_l k(x, y⁻_l)/M, Gaussian. [N]."""
    pos, neg = (
        cdist(x, y, "sqeuclidean") / (2.0 * case.length**2) for y in (case.y_pos, case.y_neg)
    )
    # Nearest ones first, so that exp cannot underflow everywhere.
    near_pos, near_neg = np.min(pos, axis=1), np.min(neg, axis=1)
    top = np.log(np.mean(np.exp(near_pos[:, None] - pos), axis=1)) - near_pos
    return top - np.log(np.mean(np.exp(near_neg[:, None] - neg), axis=1)) + near_neg


def _pairs(ctx: Context, case: Samples) -> Iterator[Measurement]:
    """EQ-47 is EQ-44 for normalised kernels; by how much it is off for others."""
    del ctx
    near, x, y_pos, y_neg = case.name, case.x, case.y_pos, case.y_neg
    k_pos, k_neg = (case.induced(x, y) * case.length**2 / case.height for y in (y_pos, y_neg))
    normal, negative = mmd.normalized_rows(k_pos), mmd.normalized_rows(k_neg)
    spread = float(np.max(np.abs(np.concatenate([x, y_pos, y_neg]))))
    exact = absolute(1e-12 * (1.0 + spread), "roundings of weighted means of y − x")
    single = mmd.kernel_field(x, y_pos, y_neg, normal, negative)
    paired = mmd.paired_kernel_field(y_pos, y_neg, normal, negative)
    yield compare(("EQ-44", "EQ-46", "EQ-47"), "EQ-47 = EQ-44", near, paired, single, exact)
    if case.kernel == "Matérn":
        same = eq11_field(x, y_pos, y_neg, case.length)
        yield compare(("EQ-46", "EQ-47"), "EQ-47 = EQ-11", near, paired, same, exact)
    # E_q k⁻ · E_p[k⁺(y⁺−x)] − E_p k⁺ · E_q[k⁻(y⁻−x)]: what the pairs' mean is for any kernel.
    wanted = np.zeros_like(x)
    for i in range(len(x)):
        pull = np.mean(k_pos[i, :, None] * (y_pos - x[i]), axis=0)
        push = np.mean(k_neg[i, :, None] * (y_neg - x[i]), axis=0)
        wanted[i] = np.mean(k_neg[i]) * pull - np.mean(k_pos[i]) * push
    plain = mmd.paired_kernel_field(y_pos, y_neg, k_pos, k_neg)
    yield compare(("EQ-47",), "EQ-47, any kernel", near, plain, wanted, exact)


def _unnormalized(ctx: Context) -> Iterator[Yield]:
    """Kernels whose means are not 1 make EQ-47 another field than EQ-44."""
    del ctx
    random = np.random.default_rng(46)
    x, y_pos, y_neg = (random.normal(size=(6, 2)) + shift for shift in (0.0, 0.5, -0.5))
    for kernel in (mmd.gaussian_xi(1.0), mmd.matern_xi(1.0)):
        k_pos, k_neg = (mmd.mmd_kernel(x, y, kernel) for y in (y_pos, y_neg))
        single = mmd.kernel_field(x, y_pos, y_neg, k_pos, k_neg)
        apart = float(np.max(np.abs(mmd.paired_kernel_field(y_pos, y_neg, k_pos, k_neg) - single)))
        yield at_least(("EQ-46", "EQ-47"), "EQ-47 − EQ-44, unnormalised", "N=P=M=6", apart, 0.05)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-45-loss",
        "C.2: V is −½ of the per-sample gradient, the loss its mean square (the factor N)",
        ("EQ-34", "EQ-35", "EQ-36"),
        _samples,
        _drifting_loss,
        examples=12,
    ),
    Property(
        "PB-45",
        "C.2: V_MMD = −½ N ∂L_MMD²/∂x_i by central differences (a wrong sign, a factor)",
        ("EQ-36", "EQ-37", "EQ-38", "EQ-39", "EQ-40", "EQ-41", "EQ-42", "EQ-43"),
        _samples,
        _mmd,
        examples=12,
    ),
    Property(
        "PB-45-kernels",
        "C.2: k̃ = −2ξ'; e^{−r/τ} from Matérn 3/2; normalised Gaussian: V = σ²∇ log ratio",
        ("EQ-44", "EQ-45", "EQ-46"),
        _samples,
        _kernels,
        examples=12,
    ),
    Property(
        "PB-46",
        "C.2: the mean over pairs is EQ-44 for kernels of mean 1, and what it is for others",
        ("EQ-44", "EQ-46", "EQ-47"),
        _samples,
        _pairs,
        examples=12,
    ),
)

CHECKS: tuple[Check, ...] = (
    Check(
        "PB-46-unnormalised",
        "C.2: without normalisation EQ-47 is another field than EQ-44",
        ("EQ-46", "EQ-47"),
        "golden value",
        _unnormalized,
    ),
)
