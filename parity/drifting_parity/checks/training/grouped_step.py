"""The training step (A.9) on a linear generator, and what Table 8 puts around it (PB-50, PB-51).

The generator x = W ε + E_c + α·a is linear and so are its features, so that the chain from the
implementation's own loss of features to its parameters has a closed form; a wrong S or λ is left to
the loss's own checks. In several parts the step must be that of the whole batch (D70).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import (
    Array,
    FeatureCase,
    FeatureObservation,
    Manifest,
    StepCase,
    rounded,
)
from drifting_parity.checks.core import Check, Context, Property, Yield
from drifting_parity.checks.paper.identifiability import absolute
from drifting_parity.draw import Draw, Rejected, generator
from drifting_parity.measure import Measurement, compare, within

INPUTS = ("A9-2", "A9-3", "A7-alpha-cond")
SHAPE = (2, 2, 3)
"""Channels, rows, columns of a sample."""


def made(name: str, seed: int, *, guided: bool, parts: int = 1, clip: float = 1e9) -> StepCase:
    """Three labels, two of them equal, four noises each, five positives, two others."""
    random = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))

    def samples(count: int, shift: float) -> Array:
        return random.normal(size=(3, count, *SHAPE)) + shift

    return StepCase(
        Manifest(name),
        noise=random.normal(size=(3, 4, size)),
        labels=np.array([1, 0, 1]),
        alpha=np.array([1.5, 1.0, 3.25]) if guided else np.ones(3),
        positive=samples(5, 0.5),
        unconditional=samples(2, -0.5) if guided else None,
        weights=random.normal(size=(size, size)) / np.sqrt(size),
        classes=random.normal(size=(2, size)),
        guidance=random.normal(size=size) / 2,
        encoder=random.normal(size=(3, SHAPE[0])),
        clip=clip,
        parts=parts,
    )


def as_given(case: StepCase, ctx: Context) -> StepCase:
    """The case as an implementation in the setting's dtype receives it."""
    names = ("noise", "alpha", "positive", "weights", "classes", "guidance", "encoder")
    values = {name: rounded(getattr(case, name), ctx.setting.dtype) for name in names}
    others = case.unconditional
    held = None if others is None else rounded(others, ctx.setting.dtype)
    return StepCase(
        case.manifest,
        labels=case.labels,
        unconditional=held,
        clip=case.clip,
        rate=case.rate,
        parts=case.parts,
        **values,
    )


def generated(case: StepCase) -> Array:
    """X = W ε + E_c + α·a for every label and noise: [L, N, C, H, W]."""
    shift = case.classes[case.labels] + case.alpha[:, None] * case.guidance
    x = case.noise @ case.weights.T + shift[:, None]
    return x.reshape(*x.shape[:2], *SHAPE)


def located(case: StepCase, samples: Array) -> Array:
    """The map's location vectors [L, ·, H·W, K] of samples [L, ·, C, H, W]."""
    maps = np.einsum("kc,lnchw->lnhwk", case.encoder, samples)
    return maps.reshape(*maps.shape[:2], -1, maps.shape[-1])


def loss_of(ctx: Context, case: StepCase, x: Array) -> FeatureObservation:
    """The implementation's own loss of these features, the reference's if it shows none."""
    others, key = case.unconditional, "map0.loc"
    weight = None
    if others is not None:
        weight = (case.alpha - 1.0) * (x.shape[1] - 1) / others.shape[1]
    posed = FeatureCase(
        case.manifest,
        {key: located(case, x)},
        {key: located(case, case.positive)},
        None if others is None else {key: located(case, others)},
        weight,
        x,
        case.positive,
        others,
    )
    try:
        return ctx.feature_loss(posed)
    except NotObservable:
        return ctx.expected_feature_loss(posed)


def gradients(ctx: Context, case: StepCase, found: FeatureObservation) -> dict[str, Array]:
    """The loss's gradient in W, E and a, by the chain rule."""
    assert found.raw_gradient is not None
    loc = found.gradients["map0.loc"]
    loc = loc.reshape(*loc.shape[:2], *SHAPE[1:], loc.shape[-1])
    arriving = np.einsum("kc,lnhwk->lnchw", case.encoder, loc) + found.raw_gradient
    arriving = arriving.reshape(*arriving.shape[:2], -1) / ctx.setting.upstream
    classes = np.zeros_like(case.classes)
    for label, share in zip(case.labels, arriving.sum(axis=1), strict=True):
        classes[label] += share
    return {
        "weights": np.einsum("lnd,lne->de", arriving, case.noise),
        "classes": classes,
        "guidance": np.einsum("l,lnd->d", case.alpha, arriving),
    }


def _step(ctx: Context, case: StepCase) -> Iterator[Measurement]:
    case, near = as_given(case, ctx), case.manifest.id
    seen = ctx.adapter.training_step(case, ctx.readings, ctx.setting)
    count = case.noise.shape[1]
    exact = absolute(0.0, "handed through")
    for name, wanted, clauses in (
        ("noise", case.noise.reshape(-1, case.noise.shape[-1]), ("A9-3",)),
        ("labels", np.repeat(case.labels, count).astype(np.float64), ("A9-3",)),
        ("alpha", np.repeat(case.alpha, count), ("A9-2", "A7-alpha-cond")),
    ):
        yield compare(
            clauses, f"{name} given to the generator", near, seen.seen[name], wanted, exact
        )
    found = loss_of(ctx, case, generated(case))
    tolerance = ctx.tolerance("loss")
    for clause, quantity, got, wanted in (
        ("A9-5", "feature loss", seen.feature_loss, found.feature_loss),
        ("A9-6", "vanilla loss", seen.raw_loss, found.raw_loss),
        ("A9-6", "loss of the step", seen.loss, found.loss),
    ):
        if wanted is not None:
            yield compare((clause,), quantity, near, got, wanted, tolerance)
    wanted = gradients(ctx, case, found)
    norm = float(np.sqrt(sum(np.sum(each**2) for each in wanted.values())))
    tolerance = ctx.tolerance("gradient")
    yield compare(("A9-7",), "norm of the gradient", near, seen.gradient_norm, norm, tolerance)
    factor = min(1.0, case.clip / norm)
    # All parameters as one vector: an update that is small beside the others is as well known.
    got = np.concatenate([seen.updates[name].ravel() for name in wanted])
    whole = np.concatenate([each.ravel() for each in wanted.values()])
    yield compare(("A9-7",), "update of the parameters", near, got / factor, whole, tolerance)


def _steps(ctx: Context) -> Iterator[Yield]:
    """Guided and unguided, whole and in parts, clipped and not."""
    yield from _step(ctx, made("α of 1.5, 1 and 3.25", 11, guided=True))
    yield from _step(ctx, made("without unconditional samples", 12, guided=False))
    yield from _step(ctx, made("five parts of twelve samples", 13, guided=True, parts=5))
    yield from _step(ctx, made("clipped at 2", 14, guided=True, clip=2.0))


def _drawn(ctx: Context) -> Iterator[Yield]:
    """One α for each label, of the law asked for, repeatable by its seed alone."""
    exact, count = absolute(0.0, "equal or not"), 4000
    for exponent, atom, mean, variance in (
        (3.0, 0.5, 1.3, 0.288714),
        (5.0, 0.0, 1.3176471, 0.146159),
    ):
        near = f"{count} labels, n = {exponent:g}, atom {atom:g}"
        draw = ctx.adapter.drawn_alpha
        alpha = draw(count, exponent, atom, ctx.seed)
        yield compare(("A9-2",), "number of α", near, float(alpha.size), float(count), exact)
        again = draw(count, exponent, atom, ctx.seed)
        yield compare(("A9-2",), "α by the same seed", near, alpha, again, exact)
        # Independent draws: seven standard deviations for the mean, and for how many are 1.
        allowed = 7.0 * np.sqrt(variance / count)
        error = abs(float(alpha.mean()) - mean)
        yield within(("A9-2",), "mean α of a batch", near, error, float(allowed))
        share = abs(float(np.mean(alpha == 1.0)) - atom)
        yield within(("A9-2",), "share of α = 1", near, share, 7.0 * 0.5 / np.sqrt(count))
        distinct = len(np.unique(alpha)) / count
        yield within(("A9-2",), "labels that share an α > 1", near, 1 - atom - distinct, 0.1)


def _average_draw(draw: Draw) -> tuple[float, int, np.random.Generator]:
    decays = (0.0, 0.5, 0.9, 0.999, 0.9995, 0.9998, 0.9999)
    return draw.choice(decays), draw.integer(1, 12), generator(draw)


def _average(ctx: Context, inputs: tuple[float, int, np.random.Generator]) -> Iterator[Measurement]:
    """θ + dⁿ(θ₀ − θ) for parameters that stay; Σ in general."""
    decay, steps, random = inputs
    start, value = random.normal(size=3), random.normal(size=3)
    near, tolerance = f"d={decay} n={steps}", absolute(1e-12, "a rounding for each step")
    got = ctx.adapter.moving_average(start, np.tile(value, (steps, 1)), decay)
    wanted = value + decay**steps * (start - value)
    yield compare(("T8-ema",), "average of parameters that stay", near, got, wanted, tolerance)
    values = random.normal(size=(steps, 3))
    got = ctx.adapter.moving_average(start, values, decay)
    powers = decay ** np.arange(steps - 1, -1, -1)
    wanted = decay**steps * start + (1.0 - decay) * powers @ values
    yield compare(("T8-ema",), "average of parameters that move", near, got, wanted, tolerance)


def _clip_draw(draw: Draw) -> tuple[float, int, np.random.Generator]:
    return draw.number(-3.0, 3.0), draw.integer(1, 4), generator(draw)


def _clip(ctx: Context, inputs: tuple[float, int, np.random.Generator]) -> Iterator[Measurement]:
    """Norm at most 2 and direction kept; below 2 nothing changes."""
    power, parameters, random = inputs
    given = {
        f"p{index}": 10.0**power * random.normal(size=(2, index + 1)) for index in range(parameters)
    }
    norm = float(np.sqrt(sum(np.sum(each**2) for each in given.values())))
    if abs(norm - 2.0) < 1e-9:
        raise Rejected
    found = ctx.adapter.clipped(given, 2.0)
    near, clause = f"‖g‖={norm:.3g}", ("A9-7",)
    flat = np.concatenate([found[name].ravel() for name in given])
    whole = np.concatenate([each.ravel() for each in given.values()])
    if norm < 2.0:
        tolerance = absolute(0.0, "untouched")
        yield compare(clause, "gradient below the limit", near, flat, whole, tolerance)
        return
    tolerance = absolute(1e-12, "entries of at most 2")
    yield compare(clause, "gradient above the limit", near, flat, whole * (2.0 / norm), tolerance)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-50",
        "Moving average: θ + dⁿ(θ₀ − θ), Σ in general (d and 1 − d swapped, a debiased average)",
        ("T8-ema",),
        _average_draw,
        _average,
    ),
    Property(
        "PB-51",
        "Clipping: norm at most 2 over all parameters, direction kept, identity below (each alone)",
        ("A9-7",),
        _clip_draw,
        _clip,
    ),
)

CHECKS: tuple[Check, ...] = (
    Check(
        "A9-step",
        "A step on a linear generator: inputs, losses, update, whole and in parts (D70)",
        (*INPUTS, "A9-5", "A9-6", "A9-7"),
        "golden value",
        _steps,
    ),
    Check("A9-alpha", "One α for each label of a batch (P-32)", ("A9-2",), "golden value", _drawn),
)
