"""The training system of ``drifting_torch`` behind the adapter interface: A.7 to A.9, Table 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

import drifting_torch
from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.torch_adapter import (
    DTYPES,
    autocast,
    gradient_of,
    leaf,
    to_array,
    to_tensor,
)
from drifting_parity.adapters.torch_encoder import loaded_encoder
from drifting_parity.cases import (
    Array,
    EncodedLossCase,
    FeatureObservation,
    Setting,
    StepCase,
    StepObservation,
)
from drifting_spec import Readings


class Queue:
    """``SampleQueue`` with NumPy in and out."""

    def __init__(self, held: drifting_torch.SampleQueue) -> None:
        self._held = held

    def push(self, samples: Array, labels: Sequence[int]) -> None:
        """Push samples with their classes."""
        self._held.push(torch.tensor(samples), torch.tensor(list(labels)))

    def positive(self, labels: Sequence[int], count: int, seed: int) -> Array:
        """Draw of the labels' classes."""
        generator = torch.Generator().manual_seed(seed)
        drawn = self._held.sample_positive(torch.tensor(list(labels)), count, generator=generator)
        return to_array(drawn)

    def unconditional(self, labels: int, count: int, seed: int) -> Array:
        """Draw of the global queue."""
        generator = torch.Generator().manual_seed(seed)
        return to_array(self._held.sample_unconditional(labels, count, generator=generator))

    def content(self, label: int) -> Array:
        """Samples of a class, the oldest first."""
        held = int(self._held.counts[label])
        return to_array(self._held.content(label)) if held else np.empty(0)

    def global_content(self) -> Array:
        """Samples of the global queue, the oldest first."""
        return to_array(self._held.global_content()) if self._held.global_count else np.empty(0)


class LinearGenerator(nn.Module):
    """x = W ε + E_c + α·a; keeps what it was given."""

    def __init__(self, case: StepCase, setting: Setting) -> None:
        super().__init__()
        self.weights = nn.Parameter(to_tensor(case.weights, setting))
        self.classes = nn.Parameter(to_tensor(case.classes, setting))
        self.guidance = nn.Parameter(to_tensor(case.guidance, setting))
        self.shape = case.positive.shape[2:]
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, noise: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
        """Samples [B, C, H, W]."""
        # With micro-batches each part comes twice; the pass without a graph is the first.
        self.seen.append((noise, labels, alpha))
        shift = self.classes[labels] + alpha[:, None] * self.guidance
        return (noise @ self.weights.T + shift).unflatten(1, self.shape)


def training_step(case: StepCase, readings: Readings, setting: Setting) -> StepObservation:
    """One step by ``grouped_drift_training_step`` with plain gradient descent."""
    if setting.dtype not in {"float64", "float32"}:
        raise NotObservable("parameters are held in single precision at least")
    generator = LinearGenerator(case, setting)
    before = {name: to_array(each).copy() for name, each in generator.named_parameters()}
    matrix = to_tensor(case.encoder, setting)
    vectorization = drifting_torch.FeatureVectorizationConfig(
        include_global_stats=False,
        include_patch2_stats=False,
        include_patch4_stats=False,
        include_input_x2_mean=False,
        readings=readings,
    )
    unconditional = case.unconditional
    out = drifting_torch.grouped_drift_training_step(
        generator,
        to_tensor(case.noise, setting),
        torch.tensor(case.labels, device=setting.device),
        to_tensor(case.alpha, setting),
        to_tensor(case.positive, setting),
        None if unconditional is None else to_tensor(unconditional, setting),
        optimizer=torch.optim.SGD(generator.parameters(), lr=case.rate),
        encoder=lambda images: torch.einsum("kc,bchw->bkhw", matrix, images),
        config=drifting_torch.GroupedDriftStepConfig(
            drifting_torch.FeatureDriftingConfig(vectorization=vectorization, readings=readings),
            gradient_clip=case.clip,
            micro_batches=case.parts,
        ),
    )
    assert out.feature_loss is not None
    assert out.raw_loss is not None
    seen = [torch.cat(parts) for parts in zip(*generator.seen[: case.parts], strict=True)]
    return StepObservation(
        loss=float(out.loss),
        feature_loss=float(out.feature_loss),
        raw_loss=float(out.raw_loss),
        gradient_norm=float(out.gradient_norm),
        updates={
            name: (before[name] - to_array(each)) / case.rate
            for name, each in generator.named_parameters()
        },
        seen=dict(zip(("noise", "labels", "alpha"), map(to_array, seen), strict=True)),
    )


def encoded_loss(case: EncodedLossCase, readings: Readings, setting: Setting) -> FeatureObservation:
    """The whole loss through ``MAEResNetEncoder``, and its gradient in the generated images."""
    encoder = loaded_encoder(case.encoder, readings).to(setting.device, DTYPES[setting.dtype])
    config = drifting_torch.FeatureDriftingConfig(
        case.temperatures,
        drifting_torch.FeatureVectorizationConfig(
            readings=readings, input_patch_size=case.encoder.patch_size
        ),
        readings=readings,
    )
    images = leaf(to_tensor(case.encoder.images, setting))
    positive, others = (to_tensor(each, setting) for each in (case.positive, case.unconditional))

    def features(flat: Tensor) -> dict[str, Tensor]:
        found = drifting_torch.extract_features(encoder, flat, config.vectorization)
        return {key: each.unflatten(0, (len(positive), -1)) for key, each in found.items()}

    with autocast(setting):
        found = drifting_torch.feature_space_drifting_loss(
            features(images),
            features(positive.flatten(0, 1)),
            features(others.flatten(0, 1)),
            to_tensor(case.unconditional_weight, setting),
            generated_samples=images.unflatten(0, (len(positive), -1)),
            positive_samples=positive,
            unconditional_samples=others,
            config=config,
        )
    (found.loss * setting.upstream).backward()
    assert found.raw_loss is not None
    return FeatureObservation(
        loss=float(found.loss.detach()),
        gradients={},
        feature_loss=float(found.feature_loss.detach()),
        raw_loss=float(found.raw_loss.detach()),
        raw_gradient=gradient_of(images),
        terms={key: float(term.loss.detach()) for key, term in found.terms.items()},
    )


def moving_average(start: Array, values: Array, decay: float) -> Array:
    """The average that ``MovingAverage`` holds after parameters took these values."""
    module = nn.Module()
    module.register_parameter("value", nn.Parameter(torch.tensor(start)))
    average = drifting_torch.MovingAverage(module, (decay,))
    for value in values:
        module.get_parameter("value").data.copy_(torch.tensor(value))
        average.update()
    return to_array(average.averages(decay)["value"])


def clipped(gradients: Mapping[str, Array], limit: float) -> dict[str, Array]:
    """Gradients after ``clip_gradient_norm``."""
    parameters: dict[str, Tensor] = {}
    for name, array in gradients.items():
        parameters[name] = torch.zeros(array.shape, dtype=torch.float64, requires_grad=True)
        parameters[name].grad = torch.tensor(array)
    drifting_torch.clip_gradient_norm(parameters.values(), limit)
    return {name: gradient_of(each) for name, each in parameters.items()}
