"""What the harness asks of an implementation: the adapter.

An adapter speaks NumPy and overrides the methods for what its implementation offers; whatever
it leaves out is reported as *not observable*, never as passed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

from drifting_parity.adapters.conduct import Conduct
from drifting_parity.cases import (
    Array,
    DType,
    EncodedLossCase,
    EncoderCase,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    GeneratorCase,
    GeneratorObservation,
    LossCase,
    LossObservation,
    Setting,
    StepCase,
    StepObservation,
    VectorizeCase,
)
from drifting_spec import Readings


class NotObservable(Exception):  # noqa: N818 -- no error: an answer that an adapter may give
    """The implementation does not show this, or cannot take this case; the message says why."""


class ImplementationError(Exception):
    """What the implementation did in place of answering, in words.

    Raised for code that runs in a process of its own, where its exceptions stay.
    """


class QueueSubject(Protocol):
    """A sample queue under test: samples are numbers, NumPy in and out."""

    def push(self, samples: Array, labels: Sequence[int]) -> None:
        """Push samples [B, ...] with their classes."""
        ...

    def positive(self, labels: Sequence[int], count: int, seed: int) -> Array:
        """Draw [L, count, ...] of the labels' classes; raises where a class has too few."""
        ...

    def unconditional(self, labels: int, count: int, seed: int) -> Array:
        """Draw [labels, count, ...] of the global queue; raises where it has too few."""
        ...

    def content(self, label: int) -> Array:
        """Samples held of a class, the oldest first; empty if there are none."""
        ...

    def global_content(self) -> Array:
        """Samples of the global queue, likewise."""
        ...


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

    # For the harness.

    def offers(self, method: str) -> bool:
        """Whether the adapter overrides ``method``."""
        return getattr(type(self), method) is not getattr(Adapter, method)

    def conduct(self) -> list[Conduct]:
        """What the implementation did beside answering since this was last asked."""
        return []

    def close(self) -> list[Conduct]:
        """End whatever it runs in; what is left to tell of its conduct."""
        return self.conduct()

    # For the implementation: whatever it has.

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

    def encoder_maps(
        self, case: EncoderCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The tapped maps [B, C, H, W] of A.3's encoder by the names of A5-taps."""
        raise NotObservable("the adapter offers no encoder")

    def reconstruct(
        self, case: EncoderCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """What the autoencoder makes of the masked images: ``output`` [B, C0, H0, W0].

        Beside it the steps of the decoder as far as they show: ``bridge``, ``up1`` …, ``grid``.
        """
        raise NotObservable("the adapter offers no autoencoder")

    def reconstruction_loss(
        self, images: Array, reconstruction: Array, mask: Array, setting: Setting
    ) -> float:
        """The loss on latents [B, C, H, W] hidden where ``mask`` [B, H, W] is 1 (A3-loss)."""
        raise NotObservable("the adapter offers no reconstruction loss")

    def masks(self, count: int, side: int, seed: int) -> Array:
        """``count`` masks [count, side, side] as drawn in training, 1 where hidden (A3-mask)."""
        raise NotObservable("the adapter offers no masks")

    def classification_weight(self, step: int) -> float:
        """λ at a step of the fine-tuning (A3-cls-lambda)."""
        raise NotObservable("the adapter offers no classification weight")

    def patchify(self, images: Array, side: int) -> Array:
        """[B, C, H, W] → [B, side²·C, H/side, W/side] (A3-enc-in)."""
        raise NotObservable("the adapter offers no patches")

    def unpatchify(self, grid: Array, side: int) -> Array:
        """Put patches back to images, the inverse of ``patchify`` (A3-dec-head)."""
        raise NotObservable("the adapter offers no patches")

    def parameter_counts(
        self, width: int, in_channels: int, patch_size: int, readings: Readings
    ) -> Mapping[str, int]:
        """How many parameters ``encoder`` and ``decoder`` have, with [3, 4, 6, 3] blocks."""
        raise NotObservable("the adapter counts no parameters")

    def slot_inventory(
        self, width: int, input_shape: tuple[int, int, int], patch_size: int, readings: Readings
    ) -> Mapping[str, tuple[int, int]]:
        """Key → (vectors, channels) for images of channels, rows, columns (A5-total)."""
        raise NotObservable("the adapter offers no inventory")

    def generate(self, case: GeneratorCase, setting: Setting) -> GeneratorObservation:
        """Samples of A.2's generator, the steps to them that show, and its gradients.

        An implementation that has no place for some of the case's parameters (one codebook for
        all style tokens, say: P-36) raises :class:`NotObservable` and says which.
        """
        raise NotObservable("the adapter offers no generator")

    def drawn_style(self, count: int, tokens: int, entries: int, seed: int) -> Array:
        """Style indices as drawn for ``count`` samples, [count, tokens] (A2-style-random)."""
        raise NotObservable("the adapter draws no style indices")

    def generator_parameters(self, column: str) -> int:
        """How many parameters the generator of a column of Table 8 has (A2-params)."""
        raise NotObservable("the adapter counts no parameters of a generator")

    def generator_multiply_adds(self, column: str) -> int:
        """How many multiply-adds its matrix products take for one sample (A2-flops)."""
        raise NotObservable("the adapter counts no multiply-adds of a generator")

    def guidance_alpha(self, u: Array, exponent: float, atom: float) -> Array:
        """α at uniform u, density ∝ α^{−exponent} on [1, 4], an atom at 1 (A7-alpha-dist)."""
        raise NotObservable("the adapter offers no distribution of alpha")

    def drawn_alpha(self, count: int, exponent: float, atom: float, seed: int) -> Array:
        """``count`` draws of α as made in training (A9-2)."""
        raise NotObservable("the adapter draws no alpha")

    def sample_queue(
        self, classes: int, class_capacity: int, global_capacity: int, push_size: int
    ) -> QueueSubject:
        """An empty queue of real samples (A.8)."""
        raise NotObservable("the adapter offers no sample queue")

    def encoded_loss(
        self, case: EncodedLossCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The whole loss of images; ``raw_gradient`` is that of ``loss`` in the images."""
        raise NotObservable("the adapter offers no loss of images through an encoder")

    def training_step(
        self, case: StepCase, readings: Readings, setting: Setting
    ) -> StepObservation:
        """One step of A.9 on a linear generator."""
        raise NotObservable("the adapter offers no training step")

    def moving_average(self, start: Array, values: Array, decay: float) -> Array:
        """The average of parameters [n] from ``start`` after the steps ``values`` [steps, n]."""
        raise NotObservable("the adapter offers no moving average")

    def clipped(self, gradients: Mapping[str, Array], limit: float) -> Mapping[str, Array]:
        """Gradients of several parameters after clipping their common norm (T8-clip)."""
        raise NotObservable("the adapter offers no gradient clipping")


def fixed(adapter: Adapter) -> Adapter:
    """The same adapter, declared to take the readings it takes and no others."""
    if not adapter.configurable:
        return adapter
    held = copy.copy(adapter)
    held.configurable = False
    return held
