"""Measuring what the plots of a report show: a few small cases, the reference beside the code.

Nothing here decides a verdict. The cases are asked after all checks, within the limits of any
other call, and end at the first that is not answered or when the time for them is spent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from drifting_parity.adapters.base import Adapter, ImplementationError, NotObservable
from drifting_parity.adapters.capabilities import Capabilities
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import Array, FieldCase, LossCase, Manifest, Setting
from drifting_parity.draw import Rejected
from drifting_parity.explanation.answers import Answer, direction_error, value_error
from drifting_parity.plain import described, plain
from drifting_parity.report.pictures import Drift, Pictures, Sweep
from drifting_spec import Readings

SECONDS: Final = 2.5
"""After this no further case is asked."""

PLANE: Final = 16
"""Channels in which the plane of the drift's picture lies."""

COUNT: Final = 12
TAU: Final = 0.2
TAUS: Final = tuple(float(value) for value in np.geomspace(0.01, 10.0, 13))
CHANNELS: Final = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
SAMPLES: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


Drawn = TypeVar("Drawn")


class _OverError(Exception):
    """The time for pictures is spent."""


@dataclass
class _Asking:
    """The judged code, asked beside the reference, until the time is spent."""

    adapter: Adapter
    readings: Readings
    setting: Setting
    capabilities: Capabilities
    reference: ReferenceAdapter = field(default_factory=ReferenceAdapter)
    started: float = field(default_factory=time.perf_counter)

    def both(self, case: LossCase) -> tuple[Answer, Answer, tuple[float, ...]]:
        """What the code answers to a case, what the reference does, and at which temperatures."""
        self._in_time()
        fitted = self.capabilities.fitted_loss(case)
        observed = self.adapter.loss(fitted, self.readings, self.setting)
        expected = self.reference.loss(fitted, self.readings, self.setting)
        answer = Answer(np.asarray(observed.gradient, dtype=np.float64), float(observed.loss))
        if answer.array.shape != expected.gradient.shape:
            shapes = f"{answer.array.shape}, expected {expected.gradient.shape}"
            raise ValueError(f"the gradient has shape {shapes}")
        return answer, Answer(expected.gradient, expected.loss), fitted.temperatures

    def fields(self, case: FieldCase) -> tuple[Array, Array]:
        """The fields of both."""
        self._in_time()
        observed = np.asarray(
            self.adapter.field(case, self.readings, self.setting), dtype=np.float64
        )
        expected = self.reference.field(case, self.readings, self.setting)
        if observed.shape != expected.shape:
            raise ValueError(f"the field has shape {observed.shape}, expected {expected.shape}")
        return observed, expected

    def _in_time(self) -> None:
        if time.perf_counter() - self.started > SECONDS:
            raise _OverError


def draw(
    adapter: Adapter, readings: Readings, setting: Setting, capabilities: Capabilities
) -> Pictures:
    """Measure what can be drawn of an adapter's loss, or of its field where it has no loss.

    The reference is held to ``readings`` and given the inputs as ``setting`` rounds them. Never
    raises for what the implementation does.
    """
    asking = _Asking(adapter, readings, setting, capabilities)
    held = str(readings)
    notes: list[str] = []
    drift = _kept(lambda: _drift(asking), "the drift", notes)
    if drift is None:
        nothing = "neither a loss of one feature nor a field is offered: nothing is drawn"
        return Pictures(held, notes=tuple(notes) or (nothing,))
    if drift.what == "field":
        return Pictures(held, drift, notes=("sizes are drawn of a loss, and none is offered",))
    temperature = None
    if capabilities.temperatures is not None:
        notes.append("it takes its own temperatures, so that nothing is drawn against τ")
    else:
        cases = ((tau, _case(COUNT, PLANE, tau)) for tau in TAUS)
        temperature = _kept(lambda: _sweep(asking, cases), "the direction against τ", notes)
    by_channels = ((float(count), _case(8, count, TAU)) for count in CHANNELS)
    channels = _kept(lambda: _sweep(asking, by_channels), "the size against C", notes)
    samples = None
    by_samples = ((float(count), _case(count, PLANE, TAU)) for count in SAMPLES)
    samples = _kept(lambda: _sweep(asking, by_samples), "the size against N", notes)
    return Pictures(held, drift, temperature, channels, samples, tuple(notes))


def _kept(measure: Callable[[], Drawn], what: str, notes: list[str]) -> Drawn | None:
    """What was measured, or None with the reason among the notes."""
    try:
        with np.errstate(all="ignore"):
            return measure()
    except _OverError:
        notes.append(f"{what} is not drawn: the time for plots was spent")
    except NotObservable as reason:
        notes.append(f"{what} is not drawn: {plain(str(reason))}")
    except ImplementationError as problem:
        notes.append(f"{what} is not drawn: {plain(str(problem))}")
    except Rejected:
        notes.append(f"{what} is not drawn: it does not take such cases")
    except Exception as problem:
        notes.append(f"{what} is not drawn: {described(problem)}")
    return None


def _plane() -> Array:
    """Two orthonormal directions [2, C] that no axis is special to."""
    basis, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(PLANE, 2)))
    return np.ascontiguousarray(basis.T)


def _points() -> tuple[Array, Array]:
    """Generated points and positives in the plane: a blob beside two."""
    source = np.random.default_rng(11)
    x = source.normal(size=(COUNT, 2)) * 0.55
    centres = np.where(np.arange(COUNT)[:, None] % 2, [1.9, 1.0], [1.5, -1.3])
    return x, centres + 0.35 * source.normal(size=(COUNT, 2))


def _case(count: int, channels: int, tau: float) -> LossCase:
    """As many positives as generated samples, one label, one vector."""
    source = np.random.default_rng([7, count, channels])
    generated = source.normal(size=(1, count, 1, channels))
    positive = 1.2 * source.normal(size=(1, count, 1, channels)) + 0.4
    return LossCase(
        Manifest(f"N={count}, C={channels}, τ={tau:.3g}"), generated, positive, temperatures=(tau,)
    )


def _drift(asking: _Asking) -> Drift | None:
    plane = _plane()
    x, positive = _points()
    inside, targets = x @ plane, positive @ plane
    case = LossCase(
        Manifest("points in a plane"), inside[None, :, None], targets[None, :, None],
        temperatures=(TAU,),
    )  # fmt: skip
    if asking.adapter.offers("loss"):
        answer, reference, temperatures = asking.both(case)
        observed, expected = -answer.array[0, :, 0], -reference.array[0, :, 0]
        error, what = direction_error(answer, reference), "loss"
    elif asking.adapter.offers("field"):
        spread = float(np.linalg.norm(inside[:, None] - targets[None], axis=-1).mean())
        own = FieldCase(Manifest("points in a plane"), inside, targets, inside, TAU * spread)
        fitted = asking.capabilities.fitted_field(own)
        observed, expected = asking.fields(fitted)
        error, what = direction_error(Answer(observed), Answer(expected)), "field"
        temperatures = (fitted.temperature,)
    else:
        return None
    if not np.isfinite(observed).all():
        raise ValueError("it is not finite")
    lengths = [float(np.linalg.norm(array)) for array in (observed, expected)]
    longer = lengths[0] / lengths[1] if lengths[1] > 0 else math.inf
    # The longest of the reference's arrows as long as the points lie apart, seen on the page.
    longest = float(np.linalg.norm(expected, axis=-1).max())
    scale = 1.2 / longest if longest > 0 else 1.0
    near = 1 / 3 <= longer <= 3
    own_scale = scale if near or not 0 < longer < math.inf else scale / longer
    within = observed @ plane.T
    share = 0.0
    if lengths[0] > 0:
        share = float(np.linalg.norm(observed - within @ plane)) / lengths[0]
    return Drift(
        what,
        PLANE,
        temperatures,
        _pairs(x),
        _pairs(positive),
        _pairs(scale * (expected @ plane.T)),
        _pairs(own_scale * within),
        1.0 if near else longer,
        share,
        error,
    )


def _pairs(array: Array) -> tuple[tuple[float, float], ...]:
    return tuple((float(one), float(other)) for one, other in array)


def _sweep(asking: _Asking, cases: Iterable[tuple[float, LossCase]]) -> Sweep:
    rows = list(_rows(asking, cases))
    at, direction, gradient, value = zip(*rows, strict=True)
    return Sweep(at, direction, gradient, value)


def _rows(
    asking: _Asking, cases: Iterable[tuple[float, LossCase]]
) -> Iterator[tuple[float, float, float, float]]:
    for at, case in cases:
        observed, expected, _ = asking.both(case)
        size, right = (float(np.linalg.norm(item.array)) for item in (observed, expected))
        value = observed.value / expected.value if expected.value else math.nan
        if value_error(observed, expected) == math.inf:
            value = math.nan
        yield at, direction_error(observed, expected), size / right if right else math.nan, value
