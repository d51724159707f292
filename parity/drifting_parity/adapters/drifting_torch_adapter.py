"""``drifting_torch`` behind the adapter interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

import drifting_torch
from drifting_parity.adapters import torch_encoder, torch_generator, torch_training
from drifting_parity.adapters.base import Adapter
from drifting_parity.adapters.reference_adapter import weight_dtype
from drifting_parity.adapters.torch_adapter import (
    autocast,
    backward_observation,
    gradient_of,
    leaf,
    loss_tensors,
    present_devices,
    to_array,
    to_tensor,
)
from drifting_parity.cases import (
    Array,
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


class DriftingTorchAdapter(Adapter):
    """Every function of ``drifting_torch`` that the harness can judge."""

    name = "drifting_torch"
    configurable = True
    dtypes = ("float64", "float32", "bfloat16", "float16")
    devices = present_devices()

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        """V [N, C] by ``drifting_field``."""
        negative = to_tensor(case.negative, setting)
        weight = case.negative_weight
        with autocast(setting):
            found = drifting_torch.drifting_field(
                to_tensor(case.x, setting),
                to_tensor(case.positive, setting),
                negative,
                case.temperature,
                mask_self=case.mask_self,
                negative_weight=None
                if weight is None
                else to_tensor(weight, setting, weight_dtype(setting.dtype)),
                readings=readings,
            )
        return to_array(found)

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        """The loss of one feature by ``drifting_loss``."""
        tensors = loss_tensors(case, setting)
        generated, positive = tensors["generated"], tensors["positive"]
        assert generated is not None
        assert positive is not None
        with autocast(setting):
            found = drifting_torch.drifting_loss(
                generated,
                positive,
                tensors["unconditional"],
                tensors["unconditional_weight"],
                generated_weight=tensors["generated_weight"],
                positive_weight=tensors["positive_weight"],
                temperatures=case.temperatures,
                readings=readings,
            )
        observed = backward_observation(found.loss, tensors, setting)
        return replace(
            observed,
            per_label=to_array(found.per_label),
            feature_scale=to_array(found.feature_scale),
            drift_scale=to_array(found.drift_scale),
            drift_energy=to_array(found.drift_energy),
            degenerate=found.degenerate.cpu().numpy(),
        )

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The loss over all features by ``feature_space_drifting_loss``."""

        def tensors(arrays: Mapping[str, Array] | None) -> dict[str, Tensor] | None:
            if arrays is None:
                return None
            return {key: to_tensor(array, setting) for key, array in arrays.items()}

        def raw(array: Array | None) -> Tensor | None:
            return None if array is None else to_tensor(array, setting)

        generated = {key: leaf(each) for key, each in (tensors(case.generated) or {}).items()}
        samples = raw(case.generated_samples)
        samples = None if samples is None else leaf(samples)
        weight = case.unconditional_weight
        config = drifting_torch.FeatureDriftingConfig(
            case.temperatures,
            include_raw_drift_loss=samples is not None,
            raw_drift_loss_weight=case.raw_weight,
            readings=readings,
        )
        with autocast(setting):
            found = drifting_torch.feature_space_drifting_loss(
                generated,
                tensors(case.positive) or {},
                tensors(case.unconditional),
                None if weight is None else to_tensor(weight, setting, weight_dtype(setting.dtype)),
                generated_samples=samples,
                positive_samples=raw(case.positive_samples),
                unconditional_samples=raw(case.unconditional_samples),
                config=config,
            )
        (found.loss * setting.upstream).backward()
        return FeatureObservation(
            loss=float(found.loss.detach()),
            gradients={key: gradient_of(each) for key, each in generated.items()},
            feature_loss=float(found.feature_loss.detach()),
            raw_loss=None if found.raw_loss is None else float(found.raw_loss.detach()),
            raw_gradient=None if samples is None else gradient_of(samples),
            terms={key: float(term.loss.detach()) for key, term in found.terms.items()},
        )

    def vectorize(
        self, case: VectorizeCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The vectors of A.5 by ``vectorize_feature_maps``."""
        maps = {name: to_tensor(array, setting) for name, array in case.maps.items()}
        with autocast(setting):
            return {
                key: to_array(each) for key, each in self._vectors(case, maps, readings, setting)
            }

    def vectorize_gradient(
        self, case: VectorizeCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """Gradient of the sum of all vectors' entries with respect to each map."""
        maps = {name: leaf(to_tensor(array, setting)) for name, array in case.maps.items()}
        with autocast(setting):
            vectors = [each for _, each in self._vectors(case, maps, readings, setting)]
        torch.stack([each.sum() for each in vectors]).sum().backward()
        return {name: gradient_of(each) for name, each in maps.items()}

    @staticmethod
    def _vectors(
        case: VectorizeCase, maps: Mapping[str, Tensor], readings: Readings, setting: Setting
    ) -> list[tuple[str, Tensor]]:
        config = drifting_torch.FeatureVectorizationConfig(
            include_per_location="loc" in case.statistics,
            include_global_stats="global" in case.statistics,
            include_patch2_stats="patch2" in case.statistics,
            include_patch4_stats="patch4" in case.statistics,
            include_input_x2_mean="x2" in case.statistics,
            readings=readings,
            input_patch_size=case.input_patch_size,
        )
        inputs = None if case.inputs is None else to_tensor(case.inputs, setting)
        return list(drifting_torch.vectorize_feature_maps(maps, config, inputs).items())

    def guidance_weight(self, alpha: float, n_generated: int, n_unconditional: int) -> float:
        """The kernel weight w by ``cfg_alpha_to_weight``."""
        return drifting_torch.cfg_alpha_to_weight(alpha, n_generated, n_unconditional)

    def encoder_maps(
        self, case: EncoderCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """The tapped maps by ``MAEResNetEncoder``."""
        return torch_encoder.encoder_maps(case, readings, setting)

    def reconstruct(
        self, case: EncoderCase, readings: Readings, setting: Setting
    ) -> Mapping[str, Array]:
        """Steps and output of ``MaskedAutoencoder``."""
        return torch_encoder.reconstruct(case, readings, setting)

    def reconstruction_loss(
        self, images: Array, reconstruction: Array, mask: Array, setting: Setting
    ) -> float:
        """A3-loss by ``reconstruction_loss``."""
        x, output = (to_tensor(array, setting) for array in (images, reconstruction))
        hidden = torch.tensor(mask > 0, device=setting.device)
        return float(drifting_torch.reconstruction_loss(x, output, hidden))

    def masks(self, count: int, side: int, seed: int) -> Array:
        """Masks by ``sample_mask``."""
        generator = torch.Generator().manual_seed(seed)
        return to_array(drifting_torch.sample_mask(count, side, side, generator=generator))

    def classification_weight(self, step: int) -> float:
        """λ by ``classification_weight``."""
        return drifting_torch.classification_weight(step)

    def patchify(self, images: Array, side: int) -> Array:
        """Space to depth by ``patchify``."""
        return to_array(drifting_torch.patchify(torch.tensor(images), side))

    def unpatchify(self, grid: Array, side: int) -> Array:
        """Depth to space by ``unpatchify``."""
        return to_array(drifting_torch.unpatchify(torch.tensor(grid), side))

    def parameter_counts(
        self, width: int, in_channels: int, patch_size: int, readings: Readings
    ) -> Mapping[str, int]:
        """Counted on modules without storage."""
        return torch_encoder.parameter_counts(width, in_channels, patch_size, readings)

    def slot_inventory(
        self, width: int, input_shape: tuple[int, int, int], patch_size: int, readings: Readings
    ) -> Mapping[str, tuple[int, int]]:
        """Everything counted by ``slot_inventory``."""
        return drifting_torch.slot_inventory(
            width, input_shape=input_shape, patch_size=patch_size, readings=readings
        )

    def generate(self, case: GeneratorCase, setting: Setting) -> GeneratorObservation:
        """Samples, steps and gradients of ``DriftingTransformer``."""
        return torch_generator.generate(case, setting)

    def drawn_style(self, count: int, tokens: int, entries: int, seed: int) -> Array:
        """By ``DriftingTransformer.draw_style``."""
        return torch_generator.drawn_style(count, tokens, entries, seed)

    def generator_parameters(self, column: str) -> int:
        """Counted on a ``DriftingTransformer`` without storage."""
        return torch_generator.parameters(column)

    def generator_multiply_adds(self, column: str) -> int:
        """Counted by PyTorch on a ``DriftingTransformer`` without storage."""
        return torch_generator.multiply_adds(column)

    def guidance_alpha(self, u: Array, exponent: float, atom: float) -> Array:
        """α by ``AlphaDistribution.inverse_cdf``."""
        law = drifting_torch.AlphaDistribution(exponent, atom)
        return to_array(law.inverse_cdf(torch.tensor(u, dtype=torch.float64)))

    def drawn_alpha(self, count: int, exponent: float, atom: float, seed: int) -> Array:
        """α by ``sample_alpha``."""
        law = drifting_torch.AlphaDistribution(exponent, atom)
        random = torch.Generator().manual_seed(seed)
        kind = torch.float64
        return to_array(drifting_torch.sample_alpha(count, law, generator=random, dtype=kind))

    def sample_queue(
        self, classes: int, class_capacity: int, global_capacity: int, push_size: int
    ) -> torch_training.Queue:
        """``SampleQueue``."""
        queue = drifting_torch.SampleQueue(
            classes,
            class_capacity=class_capacity,
            global_capacity=global_capacity,
            push_size=push_size,
        )
        return torch_training.Queue(queue)

    def encoded_loss(
        self, case: EncodedLossCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        """The whole loss through ``MAEResNetEncoder``."""
        return torch_training.encoded_loss(case, readings, setting)

    def training_step(
        self, case: StepCase, readings: Readings, setting: Setting
    ) -> StepObservation:
        """One step by ``grouped_drift_training_step``."""
        return torch_training.training_step(case, readings, setting)

    def moving_average(self, start: Array, values: Array, decay: float) -> Array:
        """By ``MovingAverage``."""
        return torch_training.moving_average(start, values, decay)

    def clipped(self, gradients: Mapping[str, Array], limit: float) -> Mapping[str, Array]:
        """By ``clip_gradient_norm``."""
        return torch_training.clipped(gradients, limit)
