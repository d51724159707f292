"""What the harness asks of an implementation: the adapter.

An adapter speaks NumPy and overrides the methods for what its implementation offers; whatever
it leaves out is reported as *not observable*, never as passed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from drifting_parity.cases import (
    Array,
    DType,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
    VectorizeCase,
)
from drifting_spec import Readings


class NotObservable(Exception):  # noqa: N818 -- no error: an answer that an adapter may give
    """The implementation does not show this, or cannot take this case; the message says why."""


class Adapter:
    """Base of every adapter; subclass it and override what the implementation has.

    ``configurable``: the implementation takes its readings as an argument, so that it can be held
    to any of them; otherwise it is held to those asked for, and ``readings`` may be ignored.
    ``by_definition``: the adapter wraps the reference, which proves nothing against itself.
    """

    name: str = "unnamed"
    configurable: bool = False
    by_definition: bool = False
    dtypes: tuple[DType, ...] = ("float64", "float32")
    devices: tuple[str, ...] = ("cpu",)

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        """V [N, C] of Algorithm 2 at the case's inputs."""
        raise NotObservable("the adapter offers no field")

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        """The loss of one feature (A.6) and its gradient."""
        raise NotObservable("the adapter offers no loss of one feature")

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The loss over many features with the vanilla term, and its gradients."""
        raise NotObservable("the adapter offers no feature-space loss")

    def vectorize(
        self, case: VectorizeCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The vectors [B, V, C] of A.5 by key ``<map>.<statistic>``."""
        raise NotObservable("the adapter offers no vectorisation of maps")

    def vectorize_gradient(
        self, case: VectorizeCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """Gradient of the sum of all vectors' entries with respect to each map."""
        raise NotObservable("the adapter offers no gradient of the vectorisation")

    def guidance_weight(self, alpha: float, n_generated: int, n_unconditional: int) -> float:
        """The kernel weight w of the unconditional samples for a guidance scale α (A.7)."""
        raise NotObservable("the adapter offers no map from alpha to w")


def fixed(adapter: Adapter) -> Adapter:
    """The same adapter, declared to take the readings it takes and no others."""
    if not adapter.configurable:
        return adapter
    held = copy.copy(adapter)
    held.configurable = False
    return held
