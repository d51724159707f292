"""Where correct formulas come out wrong: large means, coincident samples, narrow dtypes, strides.

Every check runs in each dtype that the implementation offers and that is no wider than the one
asked for, and compares values and gradients with the reference on the inputs as it rounds them.
One case that is refused or raises does not void the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Conditioning, DType, FieldCase, LossCase, Manifest
from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.checks.field.closed_forms import rounding
from drifting_parity.checks.loss.closed_forms import loss_tolerance
from drifting_parity.checks.loss.conditioning import relative_bound
from drifting_parity.checks.predicates import from_differences, vanishes_exactly
from drifting_parity.draw import Rejected
from drifting_parity.measure import Measurement, compare, necessary, whole, within

LOSS = ("EQ-26", "A6-mse")
WIDE: tuple[DType, ...] = ("float64", "float32")
NARROW: tuple[DType, ...] = ("bfloat16", "float16")


def _gaussian(
    name: str,
    seed: int,
    *,
    labels: int = 2,
    samples: tuple[int, int, int] = (8, 8, 4),
    vectors: int = 2,
    channels: int = 32,
    mean: float = 0.0,
) -> LossCase:
    """Gaussian features of unit spread around a common mean, with guidance if there are any."""
    source = np.random.default_rng(seed)
    generated, positive, unconditional = (
        source.normal(size=(labels, count, vectors, channels)) + mean for count in samples
    )
    weight = source.uniform(0.5, 2.0, size=(labels, samples[2]))
    manifest = Manifest(name, name, seed=seed)
    if samples[2] == 0:
        return LossCase(manifest, generated, positive)
    return LossCase(manifest, generated, positive, unconditional, weight)


def _compared(context: Context, case: LossCase, conditioning: Conditioning) -> list[Measurement]:
    """Loss and gradient against the reference, at the tolerance of the case's conditioning.

    Where the inputs determine the drift less well than the spec's tolerance asks (κ small, as
    under the raw temperatures of another reading), what they allow is allowed.
    """
    case = context.capabilities.fitted_loss(case)
    suffix = "" if conditioning == "ordinary" else f"_{conditioning}"
    expected, seen = context.expected_loss(case), context.loss(case)
    name = f"{case.manifest.id}, {context.setting.dtype}"
    bound = relative_bound(case, context.readings, context.setting.dtype)
    note = f"conditioning alone allows {bound:.1e} relative"
    pairs = (("loss", seen.loss, expected.loss), ("gradient", seen.gradient, expected.gradient))
    found: list[Measurement] = []
    for quantity, got, wanted in pairs:
        tolerance = loss_tolerance(context, f"{quantity}{suffix}")
        tolerance = replace(tolerance, rtol=max(tolerance.rtol, bound))
        item = compare(LOSS, f"{quantity}{suffix}", name, got, wanted, tolerance, note)
        found.append(whole(item, "gradient"))
    return found


class _Attempts:
    """Calls one of which may be refused or raise without voiding the others."""

    def __init__(self) -> None:
        self.measured = False
        self._refusal: NotObservable | None = None
        self._error: Exception | None = None

    def __call__(self, ask: Callable[[], Iterable[Measurement]]) -> list[Measurement]:
        """What ``ask`` measures; nothing where it is refused or raises."""
        try:
            found = list(ask())
        except Rejected:
            return []
        except NotObservable as answer:
            self._refusal = answer
            return []
        except Exception as problem:
            self._error = self._error or problem
            return []
        self.measured = self.measured or bool(found)
        return found

    def conclude(self) -> None:
        """Raise the first error, or the refusal if nothing was measured."""
        if self._error is not None:
            raise self._error
        if not self.measured:
            raise self._refusal or NotObservable("no case that the adapter takes serves this")


def large_mean(context: Context) -> Iterator[Yield]:
    """More than 25 samples around a mean of 100 spreads; kills D18, expanded squares."""
    attempts = _Attempts()
    for at in context.offered(WIDE):
        yield from attempts(partial(_offset_loss, at))
        yield from attempts(partial(_offset_field, at))
    attempts.conclude()


def _offset_loss(context: Context) -> Iterator[Measurement]:
    """The loss around a mean of 100 spreads, if it is right around 0: what is left is distances."""
    for mean in (0.0, 100.0):
        name = f"mean of {mean:g} spreads"
        case = _gaussian(name, 31, samples=(30, 28, 6), mean=mean)
        found = _compared(context, case, "offset" if mean else "ordinary")
        if not mean and not all(item.passed for item in found):
            raise NotObservable("the loss is wrong without a common mean already")
        for item in found:
            alone = replace(item, clauses=("EQ-12", *LOSS), refutes=("EQ-12",))
            yield replace(alone, end_to_end=False, stage="field")


def _offset_field(context: Context) -> Iterator[Measurement]:
    """The field around 1e3, if it is right around 0: else the offset is not what is wrong."""
    source, flat = np.random.default_rng(32), context.tolerance("gradient_offset")
    x, positive = source.normal(size=(30, 6)), source.normal(size=(27, 6))
    clauses, found = ("EQ-12", "ALG2-1", "ALG2-2"), list[Measurement]()
    for offset in (0.0, 1e3):
        points = FieldCase(Manifest("offset"), x + offset, positive + offset, x + offset, 1.0)
        seen, expected = context.field(points), context.expected_field(points)
        # As printed, the last line multiplies coordinates of this size by the weights.
        allowed = rounding(points, context.readings, context.setting.dtype).atol
        tolerance = replace(flat, atol=max(flat.atol, allowed))
        case = f"offset of {offset:g}, 30 samples, {context.setting.dtype}"
        found.append(compare(clauses, "field, offset", case, seen, expected, tolerance))
    if found[0].passed:
        yield from found


def _all_equal(channels: int) -> LossCase:
    """A zero-initialised generator: every generated sample is the same point."""
    case = _gaussian(f"all generated equal, C = {channels}", 41, channels=channels)
    return case.changed(generated=np.broadcast_to(case.generated[:, :1], case.generated.shape) * 1)


def _generated_equal_positives(channels: int) -> LossCase:
    case = _gaussian(f"generated equal to positives, C = {channels}", 42, channels=channels)
    return case.changed(positive=case.generated[:, ::-1].copy())


def _duplicated(channels: int) -> LossCase:
    case = _gaussian(f"duplicated samples, C = {channels}", 43, channels=channels)
    generated = np.concatenate([case.generated[:, :4], case.generated[:, :4]], axis=1)
    positive = np.concatenate([case.positive[:, :4], case.positive[:, :4]], axis=1)
    return case.changed(generated=generated, positive=positive)


def _nearly_equal(channels: int) -> LossCase:
    case = _gaussian(f"generated within 1e-3 of one another, C = {channels}", 44, channels=channels)
    centre = case.generated[:, :1]
    return case.changed(generated=centre + 1e-3 * (case.generated - centre))


MILD = (0.05, 0.2)
"""Temperatures at which the softmaxes stay inside of float32 where half of all samples coincide:
with all distances from positives twice their mean or more, 0.02 takes e^(−d/τ) out of it."""

COINCIDENCES = (_all_equal, _generated_equal_positives, _duplicated, _nearly_equal)
"""Ways for samples to coincide, each for a number of channels."""


def coincident(context: Context) -> Iterator[Yield]:
    """Samples that coincide, as all generated ones do at the start of training.

    Kills distances from a Gram matrix, even a centred one, that turn a distance of 0 into √eps·R.
    Under the release's floors that is what its own code does: such samples are not asked about.
    """
    attempts = _Attempts()
    for at in context.offered(WIDE):
        for made in COINCIDENCES:
            for channels in (8, 64, 256) if not context.quick else (64,):
                yield from attempts(partial(_coincident, at, made(channels)))
    attempts.conclude()


def _coincident(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Coincident samples; where the loss of others is right, it is a distance of 0 that is not."""
    channels = case.generated.shape[-1]
    apart = _compared(context, _gaussian("samples apart", 45, channels=channels), "ordinary")
    right = all(item.passed for item in apart)
    for item in _compared(context, case.changed(temperatures=MILD), "coincident"):
        if right:
            alone = replace(item, clauses=("EQ-12", *LOSS), refutes=("EQ-12",))
            yield replace(alone, end_to_end=False, stage="field")
        else:
            yield item


def degenerate(context: Context) -> Iterator[Yield]:
    """Nothing to tell apart: 0/0 is 0, in loss and gradient; kills D08 and NaN in general."""
    attempts = _Attempts()
    point = np.full((2, 4, 3, 5), 0.7)
    same = LossCase(Manifest("all samples equal"), point, point[:, :3])
    lone = _gaussian("N = 1", 51, samples=(1, 6, 0))
    for at in context.offered(WIDE):
        for case in (same, lone):
            yield from attempts(partial(_vanishing, at, case))
    attempts.conclude()


def _vanishing(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Loss and gradient are exactly 0. Wrong code of another kind gives that too: no proof."""
    case = context.capabilities.fitted_loss(case)
    seen = context.loss(case)
    name = f"{case.manifest.id}, {context.setting.dtype}"
    size = abs(seen.loss) + float(np.abs(seen.gradient).max())
    clauses = ("EQ-23", "EQ-25", "A6-lambda")
    item = within(clauses, "loss and gradient of a vanishing drift", name, size, 0.0)
    if case.generated.shape[1] == 1:
        # A sample alone has no drift because it is masked.
        item = whole(item, "drift scale", clauses)
    yield necessary(item, "EQ-23")
    if seen.degenerate is not None:
        unsaid = float((~seen.degenerate).sum())
        yield within(clauses, "temperatures not called degenerate", name, unsaid, 0.0)


def smallest(context: Context) -> Iterator[Yield]:
    """One positive, two generated, one channel, no unconditional samples; kills D67."""
    shapes = {
        "one positive": (5, 1, 0, 16),
        "two generated": (2, 4, 3, 16),
        "no unconditional samples": (6, 6, 0, 16),
        "one unconditional sample": (6, 6, 1, 16),
        "one channel": (6, 5, 2, 1),
    }
    attempts = _Attempts()
    for at in context.offered(WIDE):
        for name, (count, positives, extra, channels) in shapes.items():
            case = _gaussian(
                name, 61, samples=(count, positives, extra), channels=channels, vectors=3
            )
            case = case.changed(temperatures=(0.5, 1.0)) if channels == 1 else case
            yield from attempts(partial(_compared, at, case, "ordinary"))
    attempts.conclude()


def strides_and_upstream(context: Context) -> Iterator[Yield]:
    """Non-contiguous inputs, and upstream gradients other than 1."""
    attempts = _Attempts()
    for at in context.offered(WIDE):
        case = _gaussian("non-contiguous inputs", 71, samples=(7, 6, 3), vectors=3, channels=16)
        yield from attempts(partial(_compared, at.at(strided=True), case, "ordinary"))
        for upstream in (3.7, -0.25):
            named = case.changed(manifest=Manifest(f"upstream gradient {upstream}"))
            under = at.at(upstream=upstream)
            yield from attempts(partial(_compared, under, named, "ordinary"))
    attempts.conclude()


def stateless(context: Context) -> Iterator[Yield]:
    """The same call twice gives the same, whatever came between; kills D31, running averages."""
    fit = context.capabilities.fitted_loss
    case, other = fit(_gaussian("first", 81)), fit(_gaussian("between", 82).scaled(5.0))
    first = context.loss(case)
    context.loss(other)
    again = context.loss(case)
    clauses, tolerance = ("A6-S", "A6-lambda"), context.tolerance("identity")
    # Sums may be taken in another order: the same up to rounding, not to the bit.
    allowed = replace(tolerance, atol=0.0)
    for what, got, expected in (
        ("change of the loss", again.loss, first.loss),
        ("change of the gradient", again.gradient, first.gradient),
    ):
        yield necessary(compare(clauses, what, "called again", got, expected, allowed))


def narrow(context: Context) -> Iterator[Yield]:
    """bfloat16 and float16 features: statistics in float32, only the gradient is rounded."""
    attempts = _Attempts()
    for at in context.offered(NARROW):
        case = _gaussian(f"{at.setting.dtype} features", 91, samples=(12, 10, 4), channels=64)
        yield from attempts(partial(_compared, at, case, "ordinary"))
    attempts.conclude()


def autocast(context: Context) -> Iterator[Yield]:
    """float32 features under autocast come out as without it."""
    if not set(NARROW) & set(context.adapter.dtypes):
        raise NotObservable("the adapter offers no narrow dtype, hence no autocast")
    at = context.at(dtype="float32", autocast="bfloat16")
    yield from _compared(at, _gaussian("under bfloat16 autocast", 95, channels=64), "ordinary")


def _check(name: str, title: str, run: Callable[[Context], Iterator[Yield]]) -> Check:
    return Check(f"numerics.{name}", title, LOSS, "comparison", run, independent=False)


CHECKS = (
    Check(
        "numerics.offset",
        "features with a large common mean",
        (*LOSS, "EQ-12", "ALG2-1", "ALG2-2"),
        "comparison",
        large_mean,
        applies=from_differences,
        independent=False,
    ),
    Check(
        "numerics.coincident",
        "samples that coincide",
        (*LOSS, "EQ-12"),
        "comparison",
        coincident,
        applies=from_differences,
        independent=False,
    ),
    Check(
        "numerics.degenerate",
        "drifts that vanish altogether",
        ("EQ-23", "EQ-25", "A6-lambda"),
        "property",
        degenerate,
        applies=vanishes_exactly,
    ),
    _check("smallest", "the smallest shapes", smallest),
    _check("inputs", "non-contiguous inputs and upstream gradients", strides_and_upstream),
    Check(
        "numerics.stateless",
        "calls do not remember one another",
        ("A6-S", "A6-lambda"),
        "property",
        stateless,
    ),
    _check("narrow", "bfloat16 and float16 features", narrow),
    _check("autocast", "float32 features under autocast", autocast),
)
