"""The literal reference behind the adapter interface: the oracle, and itself open to judgement."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import cast

import numpy as np

import drifting_reference as reference
from drifting_parity.adapters.base import Adapter, NotObservable
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
    rounded,
)
from drifting_reference import alpha_laws
from drifting_spec import Readings, generator


def weight_dtype(dtype: DType) -> DType:
    """Weights are few and are handed over in float32 where the features are narrower."""
    return "float64" if dtype == "float64" else "float32"


def as_seen(case: LossCase, dtype: DType) -> LossCase:
    """The case as an implementation that works in ``dtype`` receives it."""
    weights = weight_dtype(dtype)

    def weight(array: Array | None) -> Array | None:
        return None if array is None else rounded(array, weights)

    return replace(
        case,
        generated=rounded(case.generated, dtype),
        positive=rounded(case.positive, dtype),
        unconditional=None if case.unconditional is None else rounded(case.unconditional, dtype),
        unconditional_weight=weight(case.unconditional_weight),
        generated_weight=weight(case.generated_weight),
        positive_weight=weight(case.positive_weight),
    )


def solved(case: LossCase, readings: Readings) -> reference.DriftingLoss:
    """Everything the reference computes on the way to the loss of a case, in float64.

    The last answers are kept: checks ask for a case's scale, its conditioning and its loss.
    """
    return _solved(pickle.dumps((case, readings)))


@lru_cache(maxsize=64)
def _solved(asked: bytes) -> reference.DriftingLoss:
    case, readings = cast("tuple[LossCase, Readings]", pickle.loads(asked))
    return reference.drifting_loss(
        case.generated,
        case.positive,
        case.unconditional,
        case.unconditional_weight,
        generated_weight=case.generated_weight,
        positive_weight=case.positive_weight,
        temperatures=case.temperatures,
        readings=readings,
    )


class ReferenceAdapter(Adapter):
    """``drifting_reference``: float64 always, on inputs rounded as the setting says."""

    name = "drifting_reference"
    configurable = True
    by_definition = True
    dtypes = ("float64",)

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        """V [N, C] of Algorithm 2."""
        weight = case.negative_weight
        return reference.compute_V(
            rounded(case.x, setting.dtype),
            rounded(case.positive, setting.dtype),
            rounded(case.negative, setting.dtype),
            case.temperature,
            mask_self=case.mask_self,
            negative_weight=None
            if weight is None
            else rounded(weight, weight_dtype(setting.dtype)),
            readings=readings,
        )

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        """The loss of one feature and its gradient."""
        found = solved(as_seen(case, setting.dtype), readings)
        others = ("positive", "unconditional", "unconditional_weight")
        return LossObservation(
            loss=found.loss,
            gradient=found.gradient * setting.upstream,
            per_label=found.per_label,
            feature_scale=found.feature_scale,
            drift_scale=found.drift_scale,
            drift_energy=found.drift_energy,
            degenerate=found.degenerate,
            other_gradients={name: 0.0 for name in others if getattr(case, name) is not None},
        )

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The loss over all features with the vanilla term."""

        def seen(arrays: Mapping[str, Array] | None) -> dict[str, Array] | None:
            if arrays is None:
                return None
            return {key: rounded(array, setting.dtype) for key, array in arrays.items()}

        def raw(array: Array | None) -> Array | None:
            return None if array is None else rounded(array, setting.dtype)

        weight = case.unconditional_weight
        found = reference.feature_space_drifting_loss(
            seen(case.generated) or {},
            seen(case.positive) or {},
            seen(case.unconditional),
            None if weight is None else rounded(weight, weight_dtype(setting.dtype)),
            generated_samples=raw(case.generated_samples),
            positive_samples=raw(case.positive_samples),
            unconditional_samples=raw(case.unconditional_samples),
            include_raw_drift_loss=case.generated_samples is not None,
            raw_drift_loss_weight=case.raw_weight,
            temperatures=case.temperatures,
            readings=readings,
        )
        gradients = {key: term.gradient * setting.upstream for key, term in found.terms.items()}
        raw_gradient = None
        if case.generated_samples is not None and found.raw_term is not None:
            scale = setting.upstream * case.raw_weight
            raw_gradient = scale * found.raw_term.gradient.reshape(case.generated_samples.shape)
        return FeatureObservation(
            loss=found.loss,
            gradients=gradients,
            feature_loss=found.feature_loss,
            raw_loss=found.raw_loss,
            raw_gradient=raw_gradient,
            terms={key: term.loss for key, term in found.terms.items()},
        )

    def vectorize(
        self, case: VectorizeCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The vectors of A.5."""
        inputs = case.inputs
        return reference.vectorize_feature_maps(
            {name: rounded(array, setting.dtype) for name, array in case.maps.items()},
            include_per_location="loc" in case.statistics,
            include_global_stats="global" in case.statistics,
            include_patch2_stats="patch2" in case.statistics,
            include_patch4_stats="patch4" in case.statistics,
            include_input_x2_mean="x2" in case.statistics,
            inputs=None if inputs is None else rounded(inputs, setting.dtype),
            input_patch_size=case.input_patch_size,
            readings=readings,
        )

    def guidance_weight(self, alpha: float, n_generated: int, n_unconditional: int) -> float:
        """The kernel weight w of A.7."""
        return float(np.asarray(reference.cfg_alpha_to_weight(alpha, n_generated, n_unconditional)))

    def guidance_alpha(self, u: Array, exponent: float, atom: float) -> Array:
        """α by the inverse of A.7's laws."""
        return alpha_laws.alpha_icdf(u, exponent, atom)

    def encoder_maps(
        self, case: EncoderCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The tapped maps of A.3's encoder."""
        return reference.encoder_maps(
            rounded(case.images, setting.dtype),
            _parameters(case, readings, setting),
            blocks=case.blocks,
            patch_size=case.patch_size,
            readings=readings,
        )

    def reconstruct(
        self, case: EncoderCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The decoder's steps and the output, under the case's mask."""
        assert case.mask is not None
        return reference.reconstruct(
            rounded(case.images, setting.dtype),
            case.mask,
            _parameters(case, readings, setting),
            blocks=case.blocks,
            patch_size=case.patch_size,
            readings=readings,
        )

    def generate(self, case: GeneratorCase, setting: Setting) -> GeneratorObservation:
        """Samples and every step to them; it differentiates nothing."""
        if case.style is None or case.parameters is None:
            raise NotObservable("the reference draws nothing")
        steps = dict(
            reference.generate(
                rounded(case.noise, setting.dtype),
                case.labels,
                rounded(case.alpha, setting.dtype),
                case.style,
                {name: rounded(each, setting.dtype) for name, each in case.parameters.items()},
                patch_size=case.sizes.patch_size,
                heads=case.sizes.heads,
            )
        )
        return GeneratorObservation(steps.pop("samples"), steps)

    def generator_parameters(self, column: str) -> int:
        """Counted by ``drifting_spec.generator``."""
        return generator.parameter_count(generator.sizes_of_table8(column))

    def generator_multiply_adds(self, column: str) -> int:
        """Counted by ``drifting_spec.generator``."""
        return generator.multiply_adds(generator.sizes_of_table8(column))

    def reconstruction_loss(
        self, images: Array, reconstruction: Array, mask: Array, setting: Setting
    ) -> float:
        """A3-loss, as the release averages it."""
        x, output = (
            np.moveaxis(rounded(a, setting.dtype), 1, -1) for a in (images, reconstruction)
        )
        return reference.reconstruction_loss_per_location(x, output, mask > 0)

    def masks(self, count: int, side: int, seed: int) -> Array:
        """Masks of uniform draws."""
        drawn = np.random.default_rng(seed).uniform(size=(count, side // 2, side // 2))
        return np.stack([reference.mask_from_uniform(u, 0.5) for u in drawn]).astype(np.float64)

    def classification_weight(self, step: int) -> float:
        """λ of A3-cls-lambda."""
        return reference.classification_weight(step)

    def patchify(self, images: Array, side: int) -> Array:
        """Space to depth."""
        return reference.patchify(images, side)

    def unpatchify(self, grid: Array, side: int) -> Array:
        """Depth to space."""
        return reference.unpatchify(grid, side)

    def parameter_counts(
        self, width: int, in_channels: int, patch_size: int, readings: Readings
    ) -> Mapping[str, int]:
        """Summed over the shapes of all parameters."""
        channels = in_channels * patch_size**2
        shapes = {
            "encoder": reference.encoder_shapes(width, channels, readings=readings),
            "decoder": reference.decoder_shapes(width, channels),
        }
        return {
            part: sum(int(np.prod(shape)) for shape in found.values())
            for part, found in shapes.items()
        }


def _parameters(case: EncoderCase, readings: Readings, setting: Setting) -> dict[str, Array]:
    return {
        name: rounded(array, setting.dtype)
        for name, array in case.parameters_under(readings).items()
    }
