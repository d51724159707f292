"""Checks: library functions that put clauses to an adapter and return measurements.

A check never asserts and never knows pytest. :class:`Context` is what it may use: the adapter,
the readings asked for, the setting, the reference as oracle, the tolerances.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import (
    Array,
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
from drifting_parity.draw import Draw, RandomDraw, Rejected
from drifting_parity.measure import Figure, Measurement
from drifting_spec import Readings
from drifting_spec.registry import Spec, Tolerance

Inputs = TypeVar("Inputs")
Yield = Measurement | Figure
Kind = Literal["property", "comparison", "golden value", "vector", "real data", "headline"]
Applies = Callable[[Readings], bool]

EXACT = Setting()
"""How the reference runs: float64 on the CPU, contiguous, upstream gradient 1."""


def always(readings: Readings) -> bool:
    """For checks that hold under every reading, since their oracle takes the readings too."""
    del readings
    return True


@dataclass(frozen=True)
class Context:
    """What a check is run with.

    ``readings`` are those the adapter is held to. ``quick`` asks for fewer cases. ``seed`` feeds
    every random draw.
    """

    adapter: Adapter
    readings: Readings
    setting: Setting
    spec: Spec
    seed: int = 0
    quick: bool = False
    oracle: ReferenceAdapter = field(default_factory=ReferenceAdapter)

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

    # What the adapter shows, and what the reference says, under the same readings.

    def field(self, case: FieldCase) -> Array:
        """The adapter's V [N, C]."""
        return self.adapter.field(case, self.readings, self.setting)

    def loss(self, case: LossCase) -> LossObservation:
        """The adapter's loss and gradient."""
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
    for the reference as well.
    """

    id: str
    title: str
    clauses: tuple[str, ...]
    kind: Kind
    run: Callable[[Context], Iterable[Yield]]
    applies: Applies = always
    independent: bool = True
    headline: str = ""


@dataclass(frozen=True)
class Property(Generic[Inputs]):
    """A statement over drawn inputs: ``draw`` makes them, ``measure`` puts them to the adapter.

    ``measure`` may raise :class:`drifting_parity.draw.Rejected` for inputs outside its domain.
    """

    id: str
    title: str
    clauses: tuple[str, ...]
    draw: Callable[[Draw], Inputs]
    measure: Callable[[Context, Inputs], Iterable[Measurement]]
    applies: Applies = always
    independent: bool = True
    examples: int = 20

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
        )

    def _run(self, context: Context) -> Iterator[Yield]:
        wanted = max(3, self.examples // 4) if context.quick else self.examples
        # Each property draws its own stream, whatever other properties exist.
        source = RandomDraw(context.seed * 2**32 + zlib.crc32(self.id.encode()))
        measurements: list[Measurement] = []
        accepted = 0
        for _ in range(20 * wanted):
            try:
                measurements.extend(self.measure(context, self.draw(source)))
            except Rejected:
                continue
            accepted += 1
            if accepted == wanted:
                break
        if accepted < wanted:
            raise RuntimeError(f"{self.id} accepted {accepted} of {20 * wanted} drawn inputs")
        yield from worst(measurements)


def worst(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Of the measurements of the same quantity and clauses the one with the most headroom used."""
    kept: dict[tuple[tuple[str, ...], str], Measurement] = {}
    counts: dict[tuple[tuple[str, ...], str], int] = {}
    for item in measurements:
        key = (item.clauses, item.quantity)
        counts[key] = counts.get(key, 0) + item.count
        if key not in kept or item.headroom > kept[key].headroom:
            kept[key] = item
    return [replace(item, count=counts[key]) for key, item in kept.items()]
