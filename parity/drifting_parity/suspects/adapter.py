"""A textbook with suspects on it behind the adapter interface: something for the judge to catch."""

from __future__ import annotations

from drifting_parity.adapters.base import Adapter
from drifting_parity.cases import (
    Array,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
)
from drifting_parity.suspects.registry import Suspect, compose
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import Readings


class SuspectAdapter(Adapter):
    """Field, loss and loss of several features of the textbook with suspects on it.

    ``readings``: those that it takes whatever it is asked for; without them it takes those asked
    for. What a suspect remembers between calls it remembers for each set of readings.
    """

    dtypes = ("float64", "float32")

    def __init__(
        self, *suspects: Suspect, readings: Readings | None = None, name: str = ""
    ) -> None:
        self.suspects = suspects
        self.name = name or " + ".join(["textbook", *(item.key for item in suspects)])
        self.configurable = readings is None
        self._readings = readings
        self._books: dict[Readings, Textbook] = {}

    def book(self, readings: Readings) -> Textbook:
        """The textbook that answers when ``readings`` are asked for."""
        taken = self._readings or readings
        if taken not in self._books:
            self._books[taken] = compose(taken, *self.suspects)
        return self._books[taken]

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        """V [N, C]."""
        return self.book(readings).observe_field(case, setting)

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        """The loss of one feature and its gradient, S and λ beside it."""
        return self.book(readings).observe(case, setting=setting)

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The loss over many features with the vanilla term."""
        return self.book(readings).observe_features(case, setting)
