"""Checks: library functions that put clauses to an adapter and return measurements.

A check never asserts and never knows pytest. :class:`Context` is what it may use: the adapter,
the readings asked for, the setting, the reference as oracle, the tolerances.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Generic, Literal, TypeVar

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.capabilities import Capabilities, Feature
from drifting_parity.adapters.reference_adapter import ReferenceAdapter, as_seen
from drifting_parity.cases import (
    Array,
    DType,
    EncoderCase,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    GeneratorCase,
    GeneratorObservation,
    LossCase,
    LossObservation,
    Setting,
    VectorizeCase,
)
from drifting_parity.checks.predicates import always
from drifting_parity.draw import Draw, RandomDraw, Rejected
from drifting_parity.measure import Figure, Measurement, Stage
from drifting_spec import Readings
from drifting_spec.registry import Spec, Tolerance

Inputs = TypeVar("Inputs")
Yield = Measurement | Figure
Kind = Literal["property", "comparison", "golden value", "vector", "real data", "headline"]
Applies = Callable[[Readings], bool]

EXACT = Setting()
"""How the reference runs: float64 on the CPU, contiguous, upstream gradient 1."""


WIDTH: Final[dict[DType, int]] = {"float64": 64, "float32": 32, "bfloat16": 16, "float16": 16}
"""Bits of each dtype."""


@dataclass(frozen=True)
class Context:
    """What a check is run with.

    ``readings`` are those the adapter is held to. ``quick`` asks for fewer cases. ``seed`` feeds
    every random draw. ``capabilities`` are what the adapter takes; ``about_mask`` marks checks of
    the mask itself, which are put to a field that masks otherwise than it was asked to.
    """

    adapter: Adapter
    readings: Readings
    setting: Setting
    spec: Spec
    seed: int = 0
    quick: bool = False
    oracle: ReferenceAdapter = field(default_factory=ReferenceAdapter)
    capabilities: Capabilities = field(default_factory=Capabilities)
    about_mask: bool = False

    def tolerance(self, quantity: str) -> Tolerance:
        """The tolerance of ``quantity`` in the dtype the adapter runs in."""
        return self.spec.tolerance(quantity, self.setting.dtype)

    def under(self, **changes: str) -> Context:
        """The same context under other readings; needs an adapter whose readings can be set."""
        readings = replace(self.readings, **changes)  # pyright: ignore[reportArgumentType]
        return self.with_readings(readings)

    def with_readings(self, readings: Readings) -> Context:
        """The same context under ``readings``; :class:`NotObservable` if they cannot be set."""
        if readings == self.readings:
            return self
        if not self.adapter.configurable:
            raise NotObservable(f"needs readings {readings}, and the adapter's cannot be set")
        return replace(self, readings=readings)

    def at(self, **changes: object) -> Context:
        """The same context with another setting (dtype, upstream gradient, strides …)."""
        return replace(self, setting=replace(self.setting, **changes))  # pyright: ignore[reportArgumentType]

    def takes(self, *features: Feature) -> bool:
        """Whether the adapter takes all of this."""
        return not self.capabilities.lacking(features)

    @property
    def offers_field(self) -> bool:
        """Whether the adapter shows Algorithm 2 on its own."""
        return self.takes("a field") and type(self.adapter).field is not Adapter.field

    def needs(self, *features: Feature) -> None:
        """Raise :class:`NotObservable` where the adapter does not take this."""
        if reason := self.capabilities.lacking(features):
            raise NotObservable(reason)

    def offered(self, dtypes: Iterable[DType]) -> list[Context]:
        """The context in each of these dtypes that the adapter offers, none wider than asked for.

        Raises :class:`NotObservable` if there is none.
        """
        asked = WIDTH[self.setting.dtype]
        kept = [
            self.at(dtype=dtype)
            for dtype in dtypes
            if dtype in self.adapter.dtypes and WIDTH[dtype] <= asked
        ]
        if not kept:
            raise NotObservable(
                f"the adapter offers none of {', '.join(dtypes)} within {self.setting.dtype}"
            )
        return kept

    # What the adapter shows, and what the reference says, under the same readings.

    def field(self, case: FieldCase) -> Array:
        """The adapter's V [N, C]."""
        reason = "" if self.about_mask else self.capabilities.unsuited(case)
        if reason:
            raise NotObservable(reason)
        return self.adapter.field(case, self.readings, self.setting)

    def loss(self, case: LossCase) -> LossObservation:
        """The adapter's loss and gradient."""
        if reason := self.capabilities.unfit(case):
            raise NotObservable(reason)
        return self.adapter.loss(case, self.readings, self.setting)

    def feature_loss(self, case: FeatureCase) -> FeatureObservation:
        """The adapter's feature-space loss and gradients."""
        return self.adapter.feature_loss(case, self.readings, self.setting)

    def vectorize(self, case: VectorizeCase) -> dict[str, Array]:
        """The adapter's vectors by key."""
        return dict(self.adapter.vectorize(case, self.readings, self.setting))

    def encoder_maps(self, case: EncoderCase) -> dict[str, Array]:
        """The adapter's tapped maps by name."""
        return dict(self.adapter.encoder_maps(case, self.readings, self.setting))

    def reconstruct(self, case: EncoderCase) -> dict[str, Array]:
        """The adapter's autoencoder: ``output`` and the steps that it shows."""
        return dict(self.adapter.reconstruct(case, self.readings, self.setting))

    def generate(self, case: GeneratorCase) -> GeneratorObservation:
        """The adapter's samples, steps and gradients of a generator."""
        return self.adapter.generate(case, self.setting)

    def expected_field(self, case: FieldCase) -> Array:
        """The reference's V on the inputs as the setting's dtype rounds them."""
        return self.oracle.field(case, self.readings, self._exact())

    def expected_loss(self, case: LossCase) -> LossObservation:
        """The reference's loss on the inputs as the setting's dtype rounds them."""
        return self.oracle.loss(case, self.readings, self._exact())

    def textbook_loss(self, case: LossCase) -> LossObservation:
        """The same by the batched textbook, for sizes at which the reference is too slow."""
        from drifting_parity.suspects.textbook import Textbook

        exact = as_seen(case, self.setting.dtype)
        return Textbook(self.readings).observe(exact, upstream=self.setting.upstream)

    def textbook_field(self, case: FieldCase) -> Array:
        """The reference's V by the batched textbook, likewise. The inputs must fit the dtype."""
        from drifting_parity.suspects.textbook import Textbook

        return Textbook(self.readings).observe_field(case)

    def expected_feature_loss(self, case: FeatureCase) -> FeatureObservation:
        """The reference's feature-space loss, likewise."""
        return self.oracle.feature_loss(case, self.readings, self._exact())

    def expected_vectors(self, case: VectorizeCase) -> dict[str, Array]:
        """The reference's vectors, likewise."""
        return dict(self.oracle.vectorize(case, self.readings, self._exact()))

    def expected_encoder_maps(self, case: EncoderCase) -> dict[str, Array]:
        """The reference's maps, likewise."""
        return dict(self.oracle.encoder_maps(case, self.readings, self._exact()))

    def expected_reconstruct(self, case: EncoderCase) -> dict[str, Array]:
        """The reference's autoencoder, likewise."""
        return dict(self.oracle.reconstruct(case, self.readings, self._exact()))

    def expected_generate(self, case: GeneratorCase) -> GeneratorObservation:
        """The reference's samples and steps, likewise."""
        return self.oracle.generate(case, self._exact())

    def _exact(self) -> Setting:
        # The reference rounds its inputs as the setting says and then computes in float64.
        return replace(EXACT, dtype=self.setting.dtype, upstream=self.setting.upstream)


@dataclass(frozen=True)
class Check:
    """A named check of one or several clauses.

    ``applies`` tells under which readings what it measures is a theorem. ``independent`` is true
    when its oracle is not the reference (a closed form, a vector, an identity), so that it counts
    for the reference as well. ``stage`` is that of measurements that name none; where it is None
    too, that of the clause they speak for. ``about_mask``: see :class:`Context`.
    """

    id: str
    title: str
    clauses: tuple[str, ...]
    kind: Kind
    run: Callable[[Context], Iterable[Yield]]
    applies: Applies = always
    independent: bool = True
    stage: Stage | None = None
    about_mask: bool = False
    reads_drift: bool = False


@dataclass(frozen=True)
class Property(Generic[Inputs]):
    """A statement over drawn inputs: ``draw`` makes them, ``measure`` puts them to the adapter.

    ``measure`` may raise :class:`drifting_parity.draw.Rejected` for inputs outside its domain.
    What is drawn is fitted to what the adapter takes before it is measured; ``needs`` names what
    the statement cannot do without.
    """

    id: str
    title: str
    clauses: tuple[str, ...]
    draw: Callable[[Draw], Inputs]
    measure: Callable[[Context, Inputs], Iterable[Measurement]]
    applies: Applies = always
    independent: bool = True
    examples: int = 20
    needs: tuple[Feature, ...] = ()
    stage: Stage | None = None
    about_mask: bool = False
    reads_drift: bool = False

    def check(self) -> Check:
        """The property as a check on seeded draws, the worst of each measurement kept."""
        return Check(
            id=self.id,
            title=self.title,
            clauses=self.clauses,
            kind="property",
            run=self._run,
            applies=self.applies,
            independent=self.independent,
            stage=self.stage,
            about_mask=self.about_mask,
            reads_drift=self.reads_drift,
        )

    def measured(self, context: Context, source: Draw) -> Iterator[Measurement]:
        """One draw put to the adapter, as far as it takes it.

        Raises :class:`NotObservable` or :class:`Rejected` where it goes no further.
        """
        context.needs(*self.needs)
        inputs = context.capabilities.fitted(self.draw(source))
        if self.about_mask:
            context = replace(context, about_mask=True)
        yield from self.measure(context, inputs)

    def _run(self, context: Context) -> Iterator[Yield]:
        wanted = max(3, self.examples // 4) if context.quick else self.examples
        # Each property draws its own stream, whatever other properties exist.
        source = RandomDraw(context.seed * 2**32 + zlib.crc32(self.id.encode()))
        tally = _Tally()
        for _ in range(20 * wanted):
            tally.add(self.measured(context, source))
            if tally.accepted == wanted or tally.hopeless:
                break
        yield from worst(tally.measurements)
        tally.conclude(self.id, wanted, narrowed=context.capabilities != Capabilities())


@dataclass
class _Tally:
    """What draws of one property gave: one that is refused or raises does not void the rest."""

    measurements: list[Measurement] = field(default_factory=list[Measurement])
    accepted: int = 0
    refusals: list[str] = field(default_factory=list[str])
    errors: list[Exception] = field(default_factory=list[Exception])

    @property
    def hopeless(self) -> bool:
        """Whether draws so far say that there is nothing to see, or that it raises."""
        return len(self.errors) > 2 or (len(self.refusals) >= 12 and not self.accepted)

    def add(self, items: Iterator[Measurement]) -> None:
        before = len(self.measurements)
        try:
            for item in items:
                self.measurements.append(item)
        except Rejected:
            del self.measurements[before:]
            return
        except NotObservable as answer:
            self.refusals.append(str(answer))
        except Exception as problem:
            self.errors.append(problem)
        else:
            self.accepted += 1
            return
        self.accepted += len(self.measurements) > before

    def conclude(self, name: str, wanted: int, *, narrowed: bool) -> None:
        """Raise what the draws raised, or that there was nothing to see."""
        if self.errors:
            raise self.errors[0]
        if self.accepted < wanted and self.refusals and not self.measurements:
            raise NotObservable("; ".join(sorted(set(self.refusals))))
        if self.accepted < wanted and not (self.refusals or (narrowed and self.accepted)):
            if narrowed:
                raise NotObservable("no case that the adapter takes serves this")
            raise RuntimeError(f"{name} accepted {self.accepted} of {20 * wanted} drawn inputs")


def worst(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Of the measurements of the same quantity and clauses the one with the most headroom used."""
    kept: dict[object, Measurement] = {}
    counts: dict[object, int] = {}
    for item in measurements:
        key = (item.clauses, item.refuted, item.quantity, item.stage, item.end_to_end)
        counts[key] = counts.get(key, 0) + item.count
        if key not in kept or item.headroom > kept[key].headroom:
            kept[key] = item
    return [replace(item, count=counts[key]) for key, item in kept.items()]
