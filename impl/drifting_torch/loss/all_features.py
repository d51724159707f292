"""The drifting loss over all features of A.5, with the vanilla term."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drifting_spec import PAPER, RELEASE, SEED, Readings, implements
from drifting_torch.arguments.tensors import (
    check_precision,
    check_readings,
    check_temperatures,
    check_tensor,
    is_number,
)
from drifting_torch.features.vectors import FeatureVectorizationConfig
from drifting_torch.loss.one_feature import PAPER_TEMPERATURES, solve_each
from drifting_torch.loss.output import DriftingLossOutput
from drifting_torch.problem.ablation import Ablation
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.weights import TargetWeights

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

RAW_TERM = "the vanilla term"
"""What the vanilla term is called beside the features."""


@dataclass(frozen=True, init=False)
class FeatureDriftingConfig:
    """How the feature-space loss is formed.

    Attributes
    ----------
    temperatures
        τ's (A6-taus).
    vectorization
        Which vectors of A.5 are formed; it takes over the readings unless it is given.
    include_raw_drift_loss
        Whether the vanilla drifting loss, without φ, is added (A5-vanilla).
    raw_drift_loss_weight
        What it is multiplied by.
    readings
        How the text is read where it leaves a choice.
    process_group
        The processes over which the labels are spread, as in :func:`drifting_loss`; None for one.
    precision
        Of the GPU kernels' products, as in :func:`drifting_loss`.
    raw_drift_temperatures
        τ's of the vanilla term; ``temperatures`` if None, as in the paper.
    attraction, repulsion, feature_normalization, drift_normalization
        Factors on V⁺ and V⁻, S or λ left out, as in :func:`drifting_loss`, for all terms alike: for
        ablations, none of it is the paper's.

    The keywords ``temperature_aggregation``, ``scale_temperature_by_sqrt_channels`` and
    ``share_location_normalization`` set the readings ``temperature_aggregation``,
    ``temperature_scaling`` and ``location_sharing``, which alone hold these choices.
    """

    temperatures: tuple[float, ...]
    vectorization: FeatureVectorizationConfig
    include_raw_drift_loss: bool
    raw_drift_loss_weight: float
    readings: Readings = field()
    process_group: ProcessGroup | str | None
    precision: str
    raw_drift_temperatures: tuple[float, ...] | None
    attraction: float
    repulsion: float
    feature_normalization: bool
    drift_normalization: bool

    def __init__(
        self,
        temperatures: Sequence[float] = PAPER_TEMPERATURES,
        vectorization: FeatureVectorizationConfig | None = None,
        *,
        include_raw_drift_loss: bool = True,
        raw_drift_loss_weight: float = 1.0,
        readings: Readings = PAPER,
        temperature_aggregation: str | None = None,
        scale_temperature_by_sqrt_channels: bool | None = None,
        share_location_normalization: bool | None = None,
        process_group: ProcessGroup | str | None = None,
        precision: str = "float32",
        raw_drift_temperatures: Sequence[float] | None = None,
        attraction: float = 1.0,
        repulsion: float = 1.0,
        feature_normalization: bool = True,
        drift_normalization: bool = True,
    ) -> None:
        readings = check_readings(readings)
        if temperature_aggregation is not None:
            readings = readings.with_reading("temperature_aggregation", temperature_aggregation)
        if scale_temperature_by_sqrt_channels is not None:
            scaling = "sqrt_channels" if scale_temperature_by_sqrt_channels else "raw"
            readings = readings.with_reading("temperature_scaling", scaling)
        if share_location_normalization is not None:
            sharing = "same_location_pairs" if share_location_normalization else "none"
            readings = readings.with_reading("location_sharing", sharing)
        if not is_number(raw_drift_loss_weight):
            raise TypeError(
                f"raw_drift_loss_weight is {raw_drift_loss_weight!r}, expected a number"
            )
        if not 0 <= raw_drift_loss_weight < math.inf:
            raise ValueError(
                f"raw_drift_loss_weight is {raw_drift_loss_weight}, expected a finite number of at "
                "least 0"
            )
        ablation = Ablation(attraction, repulsion, feature_normalization, drift_normalization)
        values: dict[str, object] = {
            "temperatures": check_temperatures(temperatures),
            "vectorization": vectorization or FeatureVectorizationConfig(readings=readings),
            "include_raw_drift_loss": include_raw_drift_loss,
            "raw_drift_loss_weight": float(raw_drift_loss_weight),
            "readings": readings,
            "process_group": process_group,
            "precision": check_precision(precision),
            "raw_drift_temperatures": _own_temperatures(raw_drift_temperatures),
            "attraction": ablation.attraction,
            "repulsion": ablation.repulsion,
            "feature_normalization": ablation.feature_normalization,
            "drift_normalization": ablation.drift_normalization,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def ablation(self) -> Ablation:
        """What is changed on purpose."""
        return Ablation(
            self.attraction, self.repulsion, self.feature_normalization, self.drift_normalization
        )

    @classmethod
    def paper(cls) -> FeatureDriftingConfig:
        """What the paper's text says; the defaults."""
        return cls()

    @classmethod
    def release(cls) -> FeatureDriftingConfig:
        """What the authors' release does."""
        return cls(readings=RELEASE)

    @classmethod
    def seed(cls) -> FeatureDriftingConfig:
        """What the repository of the seed note does by default: τ = 0.05, vanilla and x² off."""
        return cls(
            (0.05,),
            FeatureVectorizationConfig(include_input_x2_mean=False, readings=SEED),
            include_raw_drift_loss=False,
            readings=SEED,
        )


def _own_temperatures(given: Sequence[float] | None) -> tuple[float, ...] | None:
    """Check the temperatures of the vanilla term; errors name them as the caller does."""
    if given is None:
        return None
    try:
        return check_temperatures(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"raw_drift_{error}") from error


@dataclass(frozen=True)
class FeatureDriftingLossOutput:
    """The loss over all features and its parts.

    Attributes
    ----------
    loss
        Scalar, ``feature_loss + raw_drift_loss_weight · raw_loss``; differentiable in the
        generated features and samples.
    feature_loss
        Scalar, the sum over the features (A6-sum-features).
    raw_loss
        Scalar, the vanilla term before its weight; None where it is off.
    terms
        The loss of each feature by key.
    raw_term
        The vanilla term with its statistics; None where it is off.
    """

    loss: Tensor
    feature_loss: Tensor
    raw_loss: Tensor | None
    terms: dict[str, DriftingLossOutput]
    raw_term: DriftingLossOutput | None


DEFAULT = FeatureDriftingConfig()
"""Made once, outside of anything that torch.compile traces."""


@implements("EQ-14", "A6-sum-features", "A5-vanilla", "A5-sum")
def feature_space_drifting_loss(
    generated: Mapping[str, Tensor],
    positive: Mapping[str, Tensor],
    unconditional: Mapping[str, Tensor] | None = None,
    unconditional_weight: Tensor | None = None,
    *,
    generated_samples: Tensor | None = None,
    positive_samples: Tensor | None = None,
    unconditional_samples: Tensor | None = None,
    config: FeatureDriftingConfig | None = None,
    validate: bool | None = None,
    process_group: ProcessGroup | str | None = None,
) -> FeatureDriftingLossOutput:
    """Sum of the drifting losses of all features, and the vanilla drifting loss without φ.

    Parameters
    ----------
    generated, positive, unconditional
        Features by key, each as in :func:`drifting_loss`: [L, N, V, C], [L, P, V, C],
        [L, U, V, C], the same keys in all.
    unconditional_weight
        Kernel weight w [L] or [L, U], required with unconditional samples.
    generated_samples, positive_samples, unconditional_samples
        The raw samples [L, N, ...], [L, P, ...], [L, U, ...] for the vanilla term, where all
        entries of a sample are the channels of one vector; required where the term is on.
    config
        ``FeatureDriftingConfig()``, the paper, if None.
    validate, process_group
        As in :func:`drifting_loss`; the group is ``config``'s if None. There are two reductions
        in all, whatever the number of features. What lies between them, distances and drifts, is
        kept of all features at once; without a group the features come one after the other, on a
        GPU up to eight with equal numbers of channels together: those share one backward pass, so
        that losses of single terms can be differentiated one by one only with ``retain_graph``.

    Returns
    -------
    FeatureDriftingLossOutput
        ``.loss``, ``.feature_loss``, ``.raw_loss`` and the terms.

    Raises
    ------
    ValueError, TypeError
        For anything that does not fit, naming the feature and the argument; with a process group
        on all its processes.
    RuntimeError
        For a process group where torch.distributed is not initialised.
    """
    config = check_config(config)
    weights = TargetWeights(unconditional_weight)

    def problems() -> Iterator[tuple[str, Tensor, Problem]]:
        check_keys(generated, positive, unconditional)
        for key, value in generated.items():
            extra = None if unconditional is None else unconditional[key]
            samples = (value, positive[key], extra)
            yield feature_problem(key, samples, weights, config, validate)
        if config.include_raw_drift_loss:
            check_grouped(next(iter(generated.values())), generated_samples)
            samples = (generated_samples, positive_samples, unconditional_samples)
            yield vanilla_problem(samples, weights, config, validate)

    group = config.process_group if process_group is None else process_group
    return total_of(solve_each(problems(), group, validate), config)


def check_config(config: object) -> FeatureDriftingConfig:
    """Demand a config; the default one for None."""
    if config is None:
        return DEFAULT
    if not isinstance(config, FeatureDriftingConfig):
        raise TypeError(f"config is {config!r}, expected a FeatureDriftingConfig or None")
    return config


def total_of(
    terms: dict[str, DriftingLossOutput], config: FeatureDriftingConfig
) -> FeatureDriftingLossOutput:
    """Sum of all terms, the vanilla term weighted and apart."""
    terms = dict(terms)
    raw_term = terms.pop(RAW_TERM, None)
    feature_loss = torch.stack([term.loss for term in terms.values()]).sum()
    if raw_term is None:
        return FeatureDriftingLossOutput(feature_loss, feature_loss, None, terms, None)
    loss = feature_loss + config.raw_drift_loss_weight * raw_term.loss
    return FeatureDriftingLossOutput(loss, feature_loss, raw_term.loss, terms, raw_term)


def check_grouped(first: Tensor, samples: Tensor | None) -> None:
    """Demand raw samples of as many labels and samples as the ``first`` feature has."""
    if not isinstance(samples, Tensor) or samples.dim() < 3:
        return  # said elsewhere
    if samples.shape[:2] != first.shape[:2]:
        raise ValueError(
            f"generated_samples has shape {tuple(samples.shape)}, expected "
            f"{tuple(first.shape[:2])} labels and samples first, as the features have"
        )


def check_keys(
    generated: Mapping[str, Tensor],
    positive: Mapping[str, Tensor],
    unconditional: Mapping[str, Tensor] | None,
) -> None:
    """Demand the same features, at least one, of all samples."""
    named = {"generated": generated, "positive": positive, "unconditional": unconditional}
    for name, each in named.items():
        if not (isinstance(each, Mapping) or (each is None and name == "unconditional")):
            raise TypeError(
                f"{name} is {type(each).__name__}, expected a mapping from names to features"
            )
    if not generated:
        raise ValueError("generated holds no features, expected at least one")
    if RAW_TERM in generated:
        raise ValueError(f"generated holds a feature {RAW_TERM!r}, expected another name for it")
    for name, other in (("positive", positive), ("unconditional", unconditional)):
        if other is not None and set(other) != set(generated):
            differing = sorted(set(other) ^ set(generated))
            raise ValueError(
                f"{name} holds other features than generated: {differing} are in one of them alone"
            )


def feature_problem(
    key: str,
    samples: tuple[Tensor, Tensor, Tensor | None],
    weights: TargetWeights,
    config: FeatureDriftingConfig,
    validate: bool | None,
) -> tuple[str, Tensor, Problem]:
    """Check generated, positive and unconditional samples of one feature; errors name it."""
    try:
        problem = problem_of(
            *samples,
            weights,
            temperatures=config.temperatures,
            readings=config.readings,
            validate=validate,
            precision=config.precision,
            ablation=config.ablation,
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"feature {key!r}: {error}") from error
    return key, samples[0], problem


def vanilla_problem(
    samples: tuple[Tensor | None, Tensor | None, Tensor | None],
    weights: TargetWeights,
    config: FeatureDriftingConfig,
    validate: bool | None,
) -> tuple[str, Tensor, Problem]:
    """Check the samples themselves, taken as features: one vector of all their entries."""
    generated, positive, unconditional = samples
    if generated is None or positive is None:
        name = "generated_samples" if generated is None else "positive_samples"
        raise ValueError(
            f"{name} is None, expected the raw samples [L, N, ...] because include_raw_drift_loss "
            "is true"
        )
    if (unconditional is not None) != weights.unconditional:
        raise ValueError(
            "unconditional_samples is None, expected the raw samples [L, U, ...] since there is an "
            "unconditional_weight and include_raw_drift_loss is true"
            if unconditional is None
            else "unconditional_samples is given without an unconditional_weight"
        )
    flat = [
        _flattened(f"{name}_samples", value)
        for name, value in (
            ("generated", generated),
            ("positive", positive),
            ("unconditional", unconditional),
        )
        if value is not None
    ]
    raw = config.readings.vanilla_term == "raw"
    readings = config.readings
    if raw:
        readings = replace(readings, temperature_aggregation="per_temperature_mse_mean")
    problem = problem_of(
        flat[0],
        flat[1],
        flat[2] if len(flat) == 3 else None,
        weights,
        temperatures=config.raw_drift_temperatures or config.temperatures,
        readings=readings,
        validate=validate,
        normalized=not raw,
        precision=config.precision,
        ablation=config.ablation,
    )
    return RAW_TERM, flat[0], problem


def vanilla_drifting_loss(
    generated: Tensor | None,
    positive: Tensor | None,
    unconditional: Tensor | None,
    weight: Tensor | None,
    config: FeatureDriftingConfig,
) -> DriftingLossOutput:
    """The loss on the samples themselves [L, N, ...], [L, P, ...], [L, U, ...], without φ.

    :func:`feature_space_drifting_loss` adds this term times its weight. Raises as it does.
    """
    samples = (generated, positive, unconditional)
    problem = vanilla_problem(samples, TargetWeights(weight), config, None)
    (output,) = solve_each([problem], None, None).values()
    return output


def _flattened(name: str, samples: Tensor) -> Tensor:
    if not isinstance(samples, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers need not be type-checked
        raise TypeError(f"{name} is {type(samples).__name__}, expected a tensor [L, N, ...]")
    if samples.dim() < 3:
        raise ValueError(f"{name} has shape {tuple(samples.shape)}, expected [L, N, ...]")
    flat = samples.flatten(2).unsqueeze(2)
    return check_tensor(name, flat, "L N V C")
