"""Laws and arithmetic of Sec. 4, A.2, A.3, A.7, A.8: PB-40, PB-42, PB-43 and printed numbers.

Of what the adapter offers, the laws of α are asked for. The other clauses speak of the paper:
the reference's laws are held to quadrature, exact sums, a simulated queue, and to the numbers
that the clauses print.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
from scipy.integrate import quad

from drifting_parity.checks.core import Check, Context, Property, Yield
from drifting_parity.checks.paper.identifiability import absolute
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement, compare, necessary, within
from drifting_reference import alpha_laws, arithmetic, guidance, mae

LAWS = (
    # Name, exponent, atom, N_unc; mean, variance, median and mean weight as printed.
    ("ablation", 3, 0.0, 16, 1.6, 0.397428, 1.371989, 2.3625),
    ("B/2", 5, 0.0, 32, 1.3176471, 0.146159, 1.188049, 0.625368),
    ("L/2", 3, 0.5, 32, 1.3, None, 1.0, 0.590625),
)
DIST = ("A7-alpha-dist",)
MEANS = ("T8-alpha-p",)
EXACT = absolute(1e-12, "closed forms of numbers of order one")


def printed(digits: int) -> float:
    """Half a unit of the last of ``digits`` decimals: what a printed number allows."""
    return 0.5000001 * 10.0**-digits


def _integral(function: Callable[[float], float], high: float) -> float:
    """The integral from 1 to ``high``."""
    return float(quad(function, 1.0, high, epsabs=1e-13, epsrel=1e-12)[0])


def _power(exponent: int) -> Callable[[float], float]:
    return lambda t: t**exponent


def _alpha_moments(ctx: Context) -> Iterator[Yield]:
    """Normalisers and moments by quadrature of α^{k−n}, and the printed numbers."""
    del ctx
    for n, closed in ((3, 15 / 32), (5, 255 / 1024)):
        integral = _integral(_power(-n), 4.0)
        value = alpha_laws.alpha_normalizer(n)
        yield compare(MEANS, "Z_n", f"n={n}", value, integral, EXACT)
        yield compare(MEANS, "Z_n, printed", f"n={n}", value, closed, EXACT)
    for near, n, atom, unconditional, mean, variance, median, weight in LAWS:
        for k in (1, 2):

            def weighed(t: float, k: int = k, n: int = n) -> float:
                return t**k * float(alpha_laws.alpha_density(t, n))

            integral = atom + (1.0 - atom) * _integral(weighed, 4.0)
            moment = alpha_laws.alpha_moment(k, n, atom)
            yield compare(MEANS, f"E α^{k}", near, moment, integral, EXACT)
        got = alpha_laws.alpha_moment(1, n, atom)
        yield within(MEANS, "E α, printed", near, abs(got - mean), printed(7))
        if variance is not None:
            error = abs(alpha_laws.alpha_variance(n, atom) - variance)
            yield within(MEANS, "Var α, printed", near, error, printed(6))
        error = abs(float(alpha_laws.alpha_icdf(0.5, n, atom)) - median)
        yield within(MEANS, "median of α, printed", near, error, printed(6))
        # w is affine in α, so that its mean is the weight of the mean.
        error = abs(guidance.cfg_alpha_to_weight(got, 64, unconditional) - weight)
        yield within(MEANS, "E w, printed", near, error, printed(6))


def _alpha_sampled(ctx: Context) -> Iterator[Yield]:
    """Midpoints u of a fine grid: the samples' mean, and how many of them are the atom."""
    count = 20_000
    u = (np.arange(count) + 0.5) / count
    for near, n, atom, _, mean, *_ in LAWS:
        alpha = ctx.adapter.guidance_alpha(u, n, atom)
        share = float(np.mean(alpha == 1.0))
        yield compare(DIST, "share of α = 1", near, share, atom, EXACT)
        # The midpoint rule is off by α''/(24 count²), at most 4e3/(24·4e8).
        yield within(DIST, "mean of sampled α", near, abs(float(np.mean(alpha)) - mean), 1e-6)


def _alpha_draw(draw: Draw) -> tuple[float, str, int, float]:
    name, n, atom, *_ = draw.choice(LAWS)
    return draw.number(0.0, 1.0), name, n, atom


def _alpha(ctx: Context, u: float, n: int, atom: float) -> float:
    """The adapter's α at one u, within [0, 1] whatever rounding did to it."""
    return float(ctx.adapter.guidance_alpha(np.array([min(max(u, 0.0), 1.0)]), n, atom)[0])


def _alpha_law(ctx: Context, inputs: tuple[float, str, int, float]) -> Iterator[Measurement]:
    """F∘icdf = id, icdf∘F = id, F = ∫p, the printed inverse, support [1, 4]."""
    u, name, n, atom = inputs
    near = f"{name} u={u:.4f}"
    alpha = _alpha(ctx, u, n, atom)
    cdf = float(alpha_laws.alpha_cdf(alpha, n, atom))
    yield compare(DIST, "F(α(u)) = max(u, atom)", near, cdf, max(u, atom), EXACT)
    # F is flat at α = 4, by p(4) = 1/255 for n = 5, so that α(F) has 255 times F's rounding.
    back = _alpha(ctx, cdf, n, atom)
    yield compare(DIST, "α(F(α)) = α", near, back, alpha, absolute(1e-11, "rounding over p(4)"))
    v = max(u - atom, 0.0) / (1.0 - atom)
    wanted = (1 - 15 * v / 16) ** -0.5 if n == 3 else (1 - 255 * v / 256) ** -0.25
    yield compare(DIST, "α(u), printed form", near, alpha, wanted, absolute(1e-11, "as above"))
    outside = max(1.0 - alpha, alpha - 4.0, 0.0)
    yield within(DIST, "α outside [1, 4]", near, outside, 1e-11)
    mass = _integral(lambda t: float(alpha_laws.alpha_density(t, n)), min(alpha, 4.0))
    total = atom + (1.0 - atom) * mass
    yield compare(DIST, "F(α) = ∫ p", near, cdf, total, absolute(1e-10, "error of quad"))


def _ramp(ctx: Context) -> Iterator[Yield]:
    """λ(t) at the printed steps, along the ramp, on the plateau; the total loss affine in λ."""
    del ctx
    clause, exact = ("A3-cls-lambda",), absolute(1e-15, "one rounding")
    for step, wanted in ((0, 0.0), (500, 0.05), (1000, 0.1), (2999, 0.1)):
        weight = mae.classification_weight(step)
        yield compare(clause, "λ, printed", f"t={step}", weight, wanted, exact)
    got = np.array([mae.classification_weight(step) for step in range(3000)])
    wanted = np.array([min(step, 1000) / 10_000 for step in range(3000)])
    tolerance = absolute(1e-13, "a rounding for each of 3000 steps")
    yield compare(clause, "λ, t = 0 … 2999", "every step", got, wanted, tolerance)
    for step in (0, 250, 1000):
        weight = min(step, 1000) / 10_000
        total = mae.fine_tuning_loss(3.0, 0.5, step)
        wanted_total = 0.5 + weight * (3.0 - 0.5)
        yield compare(clause, "λ L_cls + (1−λ) L_recon", f"t={step}", total, wanted_total, exact)


def _mask_law(ctx: Context) -> Iterator[Yield]:
    """Moments of Binomial(256, ½) from its exact probabilities, and as printed."""
    del ctx
    clause, near = ("A3-mask",), "256 cells, p=½"
    mean, deviation = mae.mask_count_moments(256, 0.5)
    odds = [Fraction(comb(256, k), 2**256) for k in range(257)]
    first = sum(k * p for k, p in enumerate(odds))
    spread = sum((k - first) ** 2 * p for k, p in enumerate(odds))
    yield compare(clause, "mean number masked", near, mean, float(first), EXACT)
    yield compare(clause, "sd of the number masked", near, deviation**2, float(spread), EXACT)
    yield compare(clause, "mean, printed", near, mean, 128.0, EXACT)
    yield compare(clause, "sd, printed", near, deviation, 8.0, EXACT)
    cells = (np.arange(256.0).reshape(16, 16) + 0.5) / 256.0
    count = float(np.sum(mae.mask_from_uniform(cells, 0.5)))
    yield compare(clause, "positions masked by equidistributed u", near, count, 4.0 * 128, EXACT)


def _mask_draw(draw: Draw) -> tuple[int, int, int, np.random.Generator]:
    return draw.integer(1, 4), draw.integer(1, 4), draw.integer(1, 3), generator(draw)


def _masking(
    ctx: Context, inputs: tuple[int, int, int, np.random.Generator]
) -> Iterator[Measurement]:
    """A mask is constant on 2×2 cells; masked entries are 0 in all channels, others untouched."""
    del ctx
    rows, columns, channels, random = inputs
    u = random.uniform(size=(rows, columns))
    x = random.normal(size=(2 * rows, 2 * columns, channels))
    near, clause, exact = f"{x.shape}", ("A3-mask",), absolute(0.0, "equal or not")
    mask = mae.mask_from_uniform(u, 0.5)
    wanted = np.asarray(np.kron(u < 0.5, np.ones((2, 2))), dtype=np.float64)
    yield compare(clause, "mask of 2×2 cells", near, mask.astype(np.float64), wanted, exact)
    zeroed = x * (1.0 - wanted)[:, :, None]
    yield compare(clause, "masked input", near, mae.masked_input(x, mask), zeroed, exact)


def _schedule(ctx: Context) -> Iterator[Yield]:
    """Iterations for an epoch and epochs for a run, as exact fractions and as printed."""
    del ctx
    images = 1_281_167
    for batch, wanted in ((4096, 312.8), (8192, 156.4)):
        got, near = arithmetic.iterations_per_epoch(batch), f"B={batch}"
        exact = float(Fraction(images, batch))
        yield compare(("S4-epoch",), "N_data/B", near, got, exact, absolute(1e-12 * exact, "u"))
        error = abs(got - wanted)
        yield within(("S4-epoch",), "iterations per epoch, printed", near, error, printed(1))
    runs = (
        (("S4-epoch",), 30_000, 4096, 95.9),
        (("S4-epoch", "A3-epochs"), 200_000, 8192, 1278.8),
        (("S4-epoch",), 100_000, 8192, 639.4),
        (("A3-epochs",), 30_000, 8192, 191.8),
    )
    for clauses, steps, batch, wanted in runs:
        got, near = arithmetic.epochs(steps, batch), f"{steps} steps, B={batch}"
        exact = float(Fraction(steps * batch, images))
        yield compare(clauses, "steps·B/N_data", near, got, exact, absolute(1e-12 * exact, "u"))
        yield within(clauses, "epochs, printed", near, abs(got - wanted), printed(1))


def _sizes(ctx: Context) -> Iterator[Yield]:
    """B = N_c·N_neg for Table 8 and Table 2, the number of tokens, as printed."""
    del ctx
    exact = absolute(0.0, "counts")
    pairs = ((64, 64, 4096), (128, 64, 8192), (512, 8, 4096), (256, 16, 4096), (128, 32, 4096))
    for labels, generated, wanted in pairs:
        got, near = arithmetic.batch_size(labels, generated), f"N_c={labels} N_neg={generated}"
        # Code whose labels leak into one another has batches of the same size.
        yield necessary(compare(("S4-batch",), "B", near, got, wanted, exact))
    for side, patch, wanted in ((32, 2, 256), (256, 16, 256), (32, 16, 4)):
        got, near = arithmetic.token_count(side, patch), f"side {side}, patch {patch}"
        yield compare(("A2-tokens",), "tokens", near, got, wanted, exact)
    whole = arithmetic.token_count(32, 2) + 16
    yield compare(("A2-tokens",), "length of the sequence", "32×32, 16 in front", whole, 272, exact)


def _queue(ctx: Context) -> Iterator[Yield]:
    """Steps to renew the queues, against first-in-first-out queues pushed until renewed."""
    del ctx
    clause, exact = ("A8-refresh",), absolute(0.0, "counts")
    near = "128 for each of 1000 classes, 64 pushes"
    steps = arithmetic.class_queue_refresh(128, 1000, 64)
    yield compare(clause, "class queues, printed", near, steps, 2000.0, exact)
    yield compare(clause, "class queues, simulated", near, steps, _simulated(128, 1000, 64), exact)
    shared = arithmetic.global_queue_refresh(1000, 64)
    yield compare(clause, "global queue, printed", "1000, 64 pushes", shared, 15.625, exact)
    whole = float(np.ceil(shared))
    yield compare(
        clause, "global queue, simulated", "whole steps", whole, _simulated(1000, 1, 64), exact
    )
    for labels, positives, wanted in ((64, 64, 64.0), (128, 64, 128.0), (128, 128, 256.0)):
        drawn = arithmetic.drawn_per_pushed(labels, positives, 64)
        near = f"N_c={labels} N_pos={positives}"
        yield compare(clause, "positives drawn per push", near, drawn, wanted, exact)


def _simulated(capacity: int, classes: int, pushes: int) -> float:
    """Steps until no queue holds an old sample, pushing to the classes in turn."""
    queues = [deque([False] * capacity, maxlen=capacity) for _ in range(classes)]
    old, pushed, steps = capacity * classes, 0, 0
    while old > 0:
        for _ in range(pushes):
            queue = queues[pushed % classes]
            old -= not queue[0]
            queue.append(True)
            pushed += 1
        steps += 1
    return float(steps)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-40",
        "α laws: F∘icdf = id, the printed inverses, support, F = ∫ p (a wrong factor or atom)",
        DIST,
        _alpha_draw,
        _alpha_law,
    ),
    Property(
        "PB-43",
        "A.3: a mask cell covers 2×2 positions and all channels, visible entries stay",
        ("A3-mask",),
        _mask_draw,
        _masking,
        examples=8,
    ),
)


def _golden(identifier: str, title: str, clauses: tuple[str, ...], run: Any) -> Check:
    return Check(identifier, title, clauses, "golden value", run)


CHECKS: tuple[Check, ...] = (
    _golden(
        "A7-alpha-moments", "α laws: moments by quadrature and as printed", MEANS, _alpha_moments
    ),
    _golden(
        "A7-alpha-samples",
        "α laws: sampled mean, an atom of one half for L/2",
        DIST,
        _alpha_sampled,
    ),
    _golden("PB-42", "A.3: the ramp of λ and the loss it mixes", ("A3-cls-lambda",), _ramp),
    _golden(
        "A3-mask-law", "A.3: masked cells are binomial, mean 128, sd 8", ("A3-mask",), _mask_law
    ),
    _golden(
        "S4-schedule",
        "Steps, epochs and iterations as printed (P-44)",
        ("S4-epoch", "A3-epochs"),
        _schedule,
    ),
    _golden("S4-sizes", "Batch sizes and tokens as printed", ("S4-batch", "A2-tokens"), _sizes),
    _golden("A8-arithmetic", "How long the queues keep samples (P-35)", ("A8-refresh",), _queue),
)
