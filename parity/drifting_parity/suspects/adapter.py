"""A textbook with suspects on it behind the adapter interface: something for the judge to catch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from drifting_parity.adapters.base import Adapter
from drifting_parity.adapters.reference_adapter import as_seen, weight_dtype
from drifting_parity.cases import (
    Array,
    DType,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
    rounded,
)
from drifting_parity.suspects.registry import Suspect, compose
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import Readings


class SuspectAdapter(Adapter):
    """Field, loss and loss of several features of the textbook with suspects on it.

    ``readings``: those that it takes whatever it is asked for; without them it takes those asked
    for. What a suspect remembers between calls it remembers for each set of readings. In float32
    inputs and results are rounded and the arithmetic is float64's: what shows is the suspect alone.
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
        dtype, weight = setting.dtype, case.negative_weight
        seen = case.changed(
            x=rounded(case.x, dtype),
            positive=rounded(case.positive, dtype),
            negative=rounded(case.negative, dtype),
            negative_weight=None if weight is None else rounded(weight, weight_dtype(dtype)),
        )
        return rounded(self.book(readings).observe_field(seen, _exact(setting)), dtype)

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        """The loss of one feature and its gradient, S and λ beside it."""
        dtype = setting.dtype
        shown = self.book(readings).observe(as_seen(case, dtype), setting=_exact(setting))
        return replace(
            shown, loss=_rounded(shown.loss, dtype), gradient=rounded(shown.gradient, dtype)
        )

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The loss over many features with the vanilla term."""
        dtype = setting.dtype

        def every(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {key: rounded(array, dtype) for key, array in arrays.items()}

        def given(array: Array | None, kind: DType = dtype) -> Array | None:
            return None if array is None else rounded(array, kind)

        seen = case.changed(
            generated=every(case.generated),
            positive=every(case.positive),
            unconditional=None if case.unconditional is None else every(case.unconditional),
            unconditional_weight=given(case.unconditional_weight, weight_dtype(dtype)),
            generated_samples=given(case.generated_samples),
            positive_samples=given(case.positive_samples),
            unconditional_samples=given(case.unconditional_samples),
        )
        shown = self.book(readings).observe_features(seen, _exact(setting))
        return replace(
            shown,
            loss=_rounded(shown.loss, dtype),
            gradients=every(shown.gradients),
            raw_gradient=given(shown.raw_gradient),
        )


def _exact(setting: Setting) -> Setting:
    return replace(setting, dtype="float64")


def _rounded(value: float, dtype: DType) -> float:
    return float(rounded(np.asarray(value), dtype))
