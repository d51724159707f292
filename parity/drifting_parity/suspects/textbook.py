"""The textbook: the whole drifting loss in PyTorch, written from the equations.

A second opinion on the literal reference and on the implementation, from which it shares no line;
the oracle where the literal reference is too slow; and what suspects are changes of. float64
unless the inputs say otherwise, batched over labels, vectors and temperatures; the gradient is
autograd's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from drifting_parity.adapters.torch_adapter import (
    backward_observation,
    gradient_of,
    loss_tensors,
    to_array,
    to_tensor,
)
from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    Array,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
)
from drifting_parity.suspects.loss_steps import LossSteps
from drifting_parity.suspects.samples import Samples, gather

FLOAT64: Final = Setting()


@dataclass(frozen=True)
class Solution:
    """The loss of one feature and the quantities on the way to it.

    ``value`` scalar, differentiable; ``per_label`` [L]; ``feature_scale`` S [1 or L, 1 or V] and
    ``drift_scale`` λ [T, 1 or L, 1 or V], both before floors; ``drifts`` V_τ and
    ``normalized_drifts`` Ṽ_τ [T, L, V, N, C].
    """

    value: Tensor
    per_label: Tensor
    feature_scale: Tensor
    drift_scale: Tensor
    drifts: Tensor
    normalized_drifts: Tensor


class Textbook(LossSteps):
    """The drifting loss under one set of readings; a suspect overrides one of its steps."""

    def field(
        self,
        x: Tensor,
        positive: Tensor,
        negative: Tensor,
        temperature: float,
        *,
        mask_self: bool = True,
        positive_weight: Tensor | None = None,
        negative_weight: Tensor | None = None,
    ) -> Tensor:
        """Algorithm 2: V [N, C] of x [N, C], positive [P, C], negative [M, C], weights [P], [M].

        ``mask_self``: the first N negatives are x. No gradient.
        """
        weights = [
            samples.new_ones(len(samples)) if weight is None else weight.to(samples)
            for samples, weight in ((positive, positive_weight), (negative, negative_weight))
        ]
        samples = Samples(
            x=x.detach()[None, None],
            positive=positive.detach()[None, None],
            negative=negative.detach()[None, None],
            weight=torch.cat(weights).detach()[None, None],
            own=len(x) if mask_self else 0,
        )
        return self.plain_field(samples, self.temperatures([temperature], samples))[0, 0, 0]

    def plain_field(self, samples: Samples, temperature: Tensor) -> Tensor:
        """Algorithm 2 on samples and temperatures as they are. → [T, L, V, N, C]."""
        distance = self.distances(samples.x, samples.targets)
        W_pos, W_neg = self.weights_from_distances(distance, samples, temperature, 1.0)
        return self.drift(W_pos, W_neg, samples.positive, samples.negative)

    def temperatures(self, temperatures: Sequence[float], samples: Samples) -> Tensor:
        """The temperatures as a tensor beside logits, [T, 1, 1, 1, 1]."""
        return samples.x.new_tensor(list(temperatures)).reshape(-1, 1, 1, 1, 1)

    def frozen(self, samples: Samples) -> Samples:
        """The samples as the target sees them: without a gradient (S3-sg, S3-neg-reuse)."""
        return Samples(
            x=self.stopped("rows", samples.x),
            positive=self.stopped("positives", samples.positive),
            negative=self.stopped("negatives", samples.negative),
            weight=samples.weight.detach(),
            own=samples.own,
        )

    def solve(
        self,
        generated: Tensor,
        positive: Tensor,
        unconditional: Tensor | None = None,
        unconditional_weight: Tensor | None = None,
        generated_weight: Tensor | None = None,
        positive_weight: Tensor | None = None,
        temperatures: Sequence[float] = PAPER_TEMPERATURES,
    ) -> Solution:
        """The loss of one feature (:meth:`loss`) with what leads to it."""
        live = gather(
            generated,
            positive,
            unconditional,
            unconditional_weight,
            generated_weight,
            positive_weight,
        )
        return self.solve_samples(live, temperatures)

    def solve_samples(self, live: Samples, temperatures: Sequence[float]) -> Solution:
        """A.6 from EQ-21 to EQ-26 on samples in groups."""
        live = self.features(live)
        samples = self.frozen(live)
        distance = self.floored_distances(self.distances(samples.x, samples.targets))
        S = self.stopped("feature_scale", self.feature_scale(samples, distance))
        taus = self.temperatures(temperatures, samples)
        V = self.stopped("drift", self.field_of_feature(samples, S, distance, taus))
        drift_scale = self.stopped("drift_scale", self.drift_scale(V))
        normalized = self.normalized_drift(V, self.used_drift_scale(drift_scale))
        scale = self.coordinate_scale(S)
        per_label = self.regression(live.x, normalized, scale)
        value = self.value(self.reduce_labels(per_label))
        return Solution(value, per_label, S, drift_scale, V, normalized)

    def regression(self, x: Tensor, drifts: Tensor, scale: Tensor) -> Tensor:
        """EQ-26 for each label: x [L, V, N, C] drawn by drifts [T, L, V, N, C]. → [L]."""
        displacement = self.displacement(self.aggregation(drifts), scale)
        squared = self.squared(self.error(self.regressed(x, scale), displacement))
        per_vector = self.reduce_samples(self.reduce_channels(squared))
        return self.reduce_temperatures(self.reduce_vectors(per_vector), len(drifts))

    def loss(
        self,
        generated: Tensor,
        positive: Tensor,
        unconditional: Tensor | None = None,
        unconditional_weight: Tensor | None = None,
        generated_weight: Tensor | None = None,
        positive_weight: Tensor | None = None,
        temperatures: Sequence[float] = PAPER_TEMPERATURES,
    ) -> Tensor:
        """A.6, EQ-26: the loss of one feature, differentiable in ``generated``.

        ``generated`` [L, N, V, C], ``positive`` [L, P, V, C], ``unconditional`` [L, U, V, C] with
        weight [L] or [L, U]; ``generated_weight`` [L, N], ``positive_weight`` [L, P].
        """
        return self.solve(
            generated,
            positive,
            unconditional,
            unconditional_weight,
            generated_weight,
            positive_weight,
            temperatures,
        ).value

    def raw_loss(self, live: Samples, temperatures: Sequence[float]) -> Tensor:
        """vanilla_term=raw: the mean over τ of mean V_τ², without S and without λ."""
        samples = self.frozen(live)
        drifts = self.plain_field(samples, self.temperatures(temperatures, samples))
        error = self.error(live.x, self.stopped("drift", drifts))
        per_vector = self.reduce_samples(self.reduce_channels(self.squared(error)))
        return self.reduce_labels(self.reduce_vectors(per_vector).mean(0))

    def vanilla_loss(
        self,
        generated: Tensor,
        positive: Tensor,
        unconditional: Tensor | None,
        unconditional_weight: Tensor | None,
        temperatures: Sequence[float],
    ) -> Tensor:
        """A5-vanilla: the loss of samples [L, N, ...] as one vector of all their entries."""
        flat = [
            None if samples is None else samples.flatten(2).unsqueeze(2)
            for samples in (generated, positive, unconditional)
        ]
        live = gather(_given(flat[0]), _given(flat[1]), flat[2], unconditional_weight, None, None)
        return self.vanilla(live, temperatures)

    def vanilla(self, live: Samples, temperatures: Sequence[float]) -> Tensor:
        """A5-vanilla: normalised as a feature, or as vanilla_term says."""
        if self.readings.vanilla_term == "raw":
            return self.raw_loss(live, temperatures)
        return self.solve_samples(live, temperatures).value

    def reduce_features(self, terms: Sequence[Tensor]) -> Tensor:
        """A6-sum-features: the sum over features; 0 of none."""
        return torch.stack(list(terms)).sum() if terms else torch.zeros((), dtype=torch.float64)

    def add_vanilla(self, features: Tensor, vanilla: Tensor, weight: float) -> Tensor:
        """A5-vanilla: the vanilla term is added."""
        return features + weight * vanilla

    def feature_loss(
        self,
        generated: Mapping[str, Tensor],
        positive: Mapping[str, Tensor],
        unconditional: Mapping[str, Tensor] | None = None,
        unconditional_weight: Tensor | None = None,
        *,
        generated_samples: Tensor | None = None,
        positive_samples: Tensor | None = None,
        unconditional_samples: Tensor | None = None,
        raw_weight: float = 1.0,
        temperatures: Sequence[float] = PAPER_TEMPERATURES,
    ) -> Tensor:
        """Σ_j L_j over features {key: [L, N, V, C]}; raw samples add the vanilla term."""
        terms = [
            self.loss(
                generated[key],
                positive[key],
                None if unconditional is None else unconditional[key],
                unconditional_weight,
                temperatures=temperatures,
            )
            for key in generated
        ]
        features = self.reduce_features(terms)
        if generated_samples is None or positive_samples is None:
            return features
        vanilla = self.vanilla_loss(
            generated_samples,
            positive_samples,
            unconditional_samples,
            unconditional_weight,
            temperatures,
        )
        return self.add_vanilla(features, vanilla, raw_weight)

    def observe_field(self, case: FieldCase, setting: Setting = FLOAT64) -> Array:
        """V [N, C] of a case, in NumPy."""
        weight = case.negative_weight
        V = self.field(
            to_tensor(case.x, setting),
            to_tensor(case.positive, setting),
            to_tensor(case.negative, setting),
            case.temperature,
            mask_self=case.mask_self,
            negative_weight=None if weight is None else to_tensor(weight, setting),
        )
        return to_array(V)

    def observe(
        self, case: LossCase, upstream: float = 1.0, setting: Setting = FLOAT64
    ) -> LossObservation:
        """Value and gradient of ``upstream`` × the loss of a case, with S and λ, in NumPy."""
        tensors = loss_tensors(case, setting)
        solution = self.solve(
            _given(tensors["generated"]),
            _given(tensors["positive"]),
            tensors["unconditional"],
            tensors["unconditional_weight"],
            tensors["generated_weight"],
            tensors["positive_weight"],
            case.temperatures,
        )
        seen = backward_observation(
            solution.value, tensors, replace(setting, upstream=setting.upstream * upstream)
        )
        drift_scale = to_array(solution.drift_scale)
        return replace(
            seen,
            per_label=to_array(solution.per_label),
            feature_scale=to_array(solution.feature_scale),
            drift_scale=drift_scale,
            drift_energy=case.generated.shape[-1] * drift_scale**2,
            degenerate=drift_scale == 0,
        )

    def observe_features(self, case: FeatureCase, setting: Setting = FLOAT64) -> FeatureObservation:
        """The loss over many features with the vanilla term, and its gradients, in NumPy."""

        def leaves(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
            return {
                key: to_tensor(array, setting).requires_grad_() for key, array in arrays.items()
            }

        def given(array: Array | None) -> Tensor | None:
            return None if array is None else to_tensor(array, setting)

        generated, raw = leaves(case.generated), given(case.generated_samples)
        raw = None if raw is None else raw.requires_grad_()
        value = self.feature_loss(
            generated,
            leaves(case.positive),
            None if case.unconditional is None else leaves(case.unconditional),
            given(case.unconditional_weight),
            generated_samples=raw,
            positive_samples=given(case.positive_samples),
            unconditional_samples=given(case.unconditional_samples),
            raw_weight=case.raw_weight,
            temperatures=case.temperatures,
        )
        if value.requires_grad:
            (value * setting.upstream).backward()
        return FeatureObservation(
            loss=float(value.detach()),
            gradients={key: gradient_of(tensor) for key, tensor in generated.items()},
            raw_gradient=None if raw is None else gradient_of(raw),
        )


def _given(samples: Tensor | None) -> Tensor:
    """What cannot be left out."""
    if samples is None:
        raise ValueError("samples is None, expected [L, N, ...]")
    return samples
