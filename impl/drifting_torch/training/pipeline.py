"""From noise to the gradient of the loss: A.9's steps 3, 5 and 6 and the backward pass of 7."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.features.extraction import Encoder, extract_features
from drifting_torch.loss.all_features import (
    FeatureDriftingConfig,
    FeatureDriftingLossOutput,
    feature_space_drifting_loss,
    vanilla_drifting_loss,
)
from drifting_torch.loss.output import DriftingLossOutput
from drifting_torch.training.config import SAMPLES, GroupedDriftStepConfig, GroupedDriftStepOutput
from drifting_torch.training.gradients import (
    backward_into,
    leaves_behind,
    parameters_behind,
    untouched,
)
from drifting_torch.training.guidance import cfg_alpha_to_weight
from drifting_torch.training.inputs import StepInputs, check_passes_gradient, check_samples_like
from drifting_torch.training.micro_batches import MicroBatches, even_slices

Generator = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Noise [B, ...], labels [B] and guidance scales α [B] in, samples [B, ...] out."""


@dataclass(frozen=True)
class Pipeline:
    """From noise to the loss's gradient."""

    generator: Generator
    encoder: Encoder | None
    decoder: Callable[[Tensor], Tensor] | None
    config: GroupedDriftStepConfig
    inputs: StepInputs
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.encoder is None) != (self.config.feature_config is None):
            raise ValueError(
                "encoder is None, expected one since feature_config is given (feature_config=None "
                "asks for the vanilla loss alone)"
                if self.encoder is None
                else "encoder is given, expected None since feature_config is None"
            )

    @property
    def with_samples(self) -> bool:
        """Whether the vanilla term is on."""
        features = self.config.feature_config
        return features is None or features.include_raw_drift_loss

    def backward(
        self, parameters: Sequence[Tensor], scaler: torch.amp.GradScaler | None
    ) -> GroupedDriftStepOutput:
        """Give the parameters their gradients, scaled by the scaler; no other tensor gets any."""
        given = self.inputs.noise
        noise = given.detach().requires_grad_(given.requires_grad)
        learned = {id(each) for each in leaves_behind([given])} & {id(each) for each in parameters}
        wanted = [*parameters, noise] if learned else parameters
        cut = replace(self, inputs=replace(self.inputs, noise=noise))
        functions = (self.generator, self.encoder, self.decoder)
        with untouched([p for each in functions for p in parameters_behind(each)], wanted):
            shown = cut._backward(wanted, scaler)
        if noise.grad is not None:  # once, as the noise's graph serves all micro-batches
            backward_into(parameters, [given], [noise.grad])
        return shown

    def _backward(
        self, wanted: Sequence[Tensor], scaler: torch.amp.GradScaler | None
    ) -> GroupedDriftStepOutput:
        inputs = self.inputs
        positive = self._real(inputs.positive)
        unconditional = None
        if inputs.unconditional is not None:
            unconditional = self._real(inputs.unconditional)
        weight = self._weight()

        def loss(flat: Mapping[str, Tensor]) -> tuple[Tensor, GroupedDriftStepOutput]:
            generated = {key: each.unflatten(0, inputs.groups) for key, each in flat.items()}
            found = self._loss(generated, positive, unconditional, weight)
            scaled = found.loss if scaler is None else scaler.scale(found.loss)
            return scaled, self._shown(found, weight)

        batches = MicroBatches(self.forward, loss, inputs.noise.device)
        size = inputs.groups[0] * inputs.groups[1]
        # A region of the caller's would run backward passes in the narrow dtype as well.
        with torch.autocast(inputs.noise.device.type, enabled=False):
            return batches.backward(size, self.config.micro_batches, wanted)

    @implements("A9-3", "A9-5", "A7-alpha-cond")
    def forward(self, part: slice) -> dict[str, Tensor]:
        """Samples (if the vanilla term is on) and features of some of the batch's noises."""
        noise, labels, alpha = self.inputs.flat(part)
        with self._precision():
            samples = self._generated(noise, labels, alpha)
            check_samples_like(samples, len(noise), self.inputs.positive)
            # In the real samples' dtype, so that both go through the encoder alike.
            samples = samples.to(self.inputs.positive.dtype)
            check_passes_gradient("the generator's samples", samples)
            return self._features(samples)

    def _generated(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        try:
            return self.generator(noise, labels, alpha)
        except IndexError as error:  # on the CPU: an embedding of fewer classes
            error.add_note(
                f"The generator was given labels from {int(labels.min())} to {int(labels.max())}; "
                "GroupedDriftStepConfig(classes=...) refuses those that are out of range."
            )
            raise

    def _features(self, samples: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if self.config.feature_config is not None and self.encoder is not None:
            images = samples
            if self.decoder is not None:
                images = self.decoder(samples)
                check_passes_gradient("the decoder's images", images)
            found = extract_features(self.encoder, images, self.config.feature_config.vectorization)
            for name, value in found.items():
                check_passes_gradient(f"feature {name!r}", value)
        if self.with_samples:
            found[SAMPLES] = samples
        return found

    @torch.no_grad()
    def _real(self, samples: Tensor) -> dict[str, Tensor]:
        """Features of real samples [L, P, ...], in parts no greater than those of the batch."""
        flat = samples.flatten(0, 1)
        largest = -(-self.inputs.groups[0] * self.inputs.groups[1] // self.config.micro_batches)
        parts: dict[str, list[Tensor]] = {}
        for part in even_slices(len(flat), -(-len(flat) // largest)):
            with self._precision():
                for name, value in self._features(flat[part]).items():
                    parts.setdefault(name, []).append(value)
        return {
            name: torch.cat(values).unflatten(0, samples.shape[:2])
            for name, values in parts.items()
        }

    def _weight(self) -> Tensor | None:
        if self.inputs.unconditional is None:
            return None
        if self.weight is not None:
            return self.weight
        count, others = self.inputs.groups[1], self.inputs.unconditional.shape[1]
        return cfg_alpha_to_weight(self.inputs.alpha, count, others)

    @implements("A9-6")
    def _loss(
        self,
        generated: Mapping[str, Tensor],
        positive: Mapping[str, Tensor],
        unconditional: Mapping[str, Tensor] | None,
        weight: Tensor | None,
    ) -> FeatureDriftingLossOutput:
        features = self.config.feature_config
        sets = (generated, positive, unconditional)
        samples = [None if each is None else each.get(SAMPLES) for each in sets]
        if features is None:
            held = FeatureDriftingConfig(self.config.temperatures, readings=self.config.readings)
            term = vanilla_drifting_loss(samples[0], samples[1], samples[2], weight, held)
            return FeatureDriftingLossOutput(term.loss, term.loss, term.loss, {}, term)
        return feature_space_drifting_loss(
            _without_samples(generated),
            _without_samples(positive),
            None if unconditional is None else _without_samples(unconditional),
            weight,
            generated_samples=samples[0],
            positive_samples=samples[1],
            unconditional_samples=samples[2],
            config=features,
        )

    def _shown(
        self, found: FeatureDriftingLossOutput, weight: Tensor | None
    ) -> GroupedDriftStepOutput:
        terms: dict[str, DriftingLossOutput] = dict(found.terms)
        if found.raw_term is not None:
            terms[SAMPLES] = found.raw_term
        loss = found.loss.detach()
        features = self.config.feature_config
        return GroupedDriftStepOutput(
            loss=loss,
            feature_loss=None if not found.terms else found.feature_loss.detach(),
            raw_loss=None if found.raw_loss is None else found.raw_loss.detach(),
            gradient_norm=torch.full_like(loss, torch.nan),
            stepped=False,
            alpha=self.inputs.alpha,
            unconditional_weight=weight,
            temperatures=self.config.temperatures if features is None else features.temperatures,
            raw_temperatures=None if features is None else features.raw_drift_temperatures,
            feature_scale={key: term.feature_scale for key, term in terms.items()},
            drift_scale={key: term.drift_scale for key, term in terms.items()},
            drift_energy={key: term.drift_energy for key, term in terms.items()},
        )

    def _precision(self) -> torch.autocast:
        kind = self.inputs.noise.device.type
        if self.config.autocast is None:
            return torch.autocast(kind, enabled=False)
        # A cached weight cast without a graph would cut the graph of a later pass.
        return torch.autocast(kind, dtype=self.config.autocast, cache_enabled=False)


def _without_samples(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in features.items() if key != SAMPLES}
