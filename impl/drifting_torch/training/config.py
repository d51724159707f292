"""What a training step is told, and what it tells (A.9)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drifting_spec import PAPER, Readings
from drifting_torch.arguments.tensors import check_readings, check_temperatures
from drifting_torch.loss.all_features import FeatureDriftingConfig
from drifting_torch.loss.one_feature import PAPER_TEMPERATURES
from drifting_torch.training.inputs import check_config

SAMPLES = "(samples)"
"""The name of the raw samples among the features, and of the vanilla term in what is shown."""


@dataclass(frozen=True)
class GroupedDriftStepConfig:
    """How a training step is done.

    Attributes
    ----------
    feature_config
        The loss over the features; None for the vanilla drifting loss alone, without features.
    temperatures, readings
        τ's and readings of the vanilla loss alone; with ``feature_config``, which has its own, they
        are refused.
    autocast
        ``torch.bfloat16`` or ``torch.float16`` for generator, decoder and encoder; None for the
        parameters' own dtype. The loss is always computed in float32 or better. float16 needs a
        gradient scaler.
    gradient_clip
        Limit of the gradient's norm (T8-clip), None for no clipping. Losses summed over the vectors
        of all features have gradients of far greater norm than 2: what is left of them is then
        their direction.
    micro_batches
        In how many parts generator and encoder run; gradients are the whole batch's whatever it is.
        Each part runs twice: random numbers of PyTorch's global generators (dropout) are the same
        in both, others must be handed in with the noise.
    classes
        Number of classes, if labels are to be held to it.
    """

    feature_config: FeatureDriftingConfig | None = field(default_factory=FeatureDriftingConfig)
    temperatures: tuple[float, ...] = PAPER_TEMPERATURES
    readings: Readings = PAPER
    autocast: torch.dtype | None = None
    gradient_clip: float | None = 2.0
    micro_batches: int = 1
    classes: int | None = None

    def __post_init__(self) -> None:
        given = self.feature_config
        if not isinstance(given, FeatureDriftingConfig | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"feature_config is {given!r}, expected a FeatureDriftingConfig, or None for the "
                "vanilla loss alone"
            )
        temperatures = check_temperatures(self.temperatures)
        readings = check_readings(self.readings)
        for name, value, default in (
            ("temperatures", temperatures, PAPER_TEMPERATURES),
            ("readings", readings, PAPER),
        ):
            if given is not None and value != default:
                raise ValueError(
                    f"{name} is {value} and feature_config is given, whose own are read: set them "
                    "there, or feature_config=None"
                )
        check_config(self.autocast, self.gradient_clip, self.micro_batches, self.classes)


def check_step_config(config: object) -> GroupedDriftStepConfig:
    """Demand a :class:`GroupedDriftStepConfig`; that of the features belongs inside of one."""
    if not isinstance(config, GroupedDriftStepConfig):
        hint = (
            ": GroupedDriftStepConfig(feature_config=...)"
            if isinstance(config, FeatureDriftingConfig)
            else ""
        )
        raise TypeError(
            f"config is {type(config).__name__}, expected a GroupedDriftStepConfig{hint}"
        )
    return config


@dataclass(frozen=True)
class GroupedDriftStepOutput:
    """What a step computed; every tensor without a graph.

    Attributes
    ----------
    loss
        Scalar, ``feature_loss + raw_drift_loss_weight · raw_loss``; ``raw_loss`` alone where no
        features are asked for.
    feature_loss, raw_loss
        Its parts; None where they are off.
    gradient_norm
        Norm of the parameters' gradient before clipping.
    stepped
        Whether the parameters were updated: False where the scaler met an infinite gradient.
    alpha, unconditional_weight
        α [L], and the w [L] that follows from it, or that was given ([L] or [L, U]); w is None
        without unconditional samples.
    feature_scale, drift_scale, drift_energy
        S [1|L, 1|V], λ [T, 1|L, 1|V] and ‖V‖² = C·λ² by feature, the vanilla term under
        ``"(samples)"``.
    temperatures
        The T temperatures τ of these.
    raw_temperatures
        Those of the vanilla term, where it has its own; else None.
    """

    loss: Tensor
    feature_loss: Tensor | None
    raw_loss: Tensor | None
    gradient_norm: Tensor
    stepped: bool
    alpha: Tensor
    unconditional_weight: Tensor | None
    feature_scale: dict[str, Tensor]
    drift_scale: dict[str, Tensor]
    drift_energy: dict[str, Tensor]
    temperatures: tuple[float, ...] = ()
    raw_temperatures: tuple[float, ...] | None = None

    def temperatures_of(self, key: str) -> tuple[float, ...]:
        """The temperatures of a feature, or of the vanilla term."""
        own = self.raw_temperatures if key == SAMPLES else None
        return self.temperatures if own is None else own

    def logs(self) -> dict[str, float]:
        """Numbers to log by name; waits for the device once.

        ``loss``, ``feature_loss``, ``raw_loss``, ``gradient_norm``, ``stepped``; ``terms``, how
        many losses were summed, the vanilla term among them; mean, least and greatest α, the mean
        of γ = 1 − 1/α (A.7) and of w; ``drift_energy`` summed over features and
        ``drift_energy/<feature>``, means over τ's, labels and locations, and the same of each
        temperature alone, ``drift_energy/tau=<τ>`` and ``drift_energy/<feature>/tau=<τ>``; least
        and greatest S and λ of all features, and λ of each temperature.
        """
        energies = {key: value.mean() for key, value in self.drift_energy.items()}
        scales = {"feature_scale": self.feature_scale, "drift_scale": self.drift_scale}
        found: dict[str, Tensor | None] = {
            "loss": self.loss,
            "feature_loss": self.feature_loss,
            "raw_loss": self.raw_loss,
            "gradient_norm": self.gradient_norm,
            "alpha_mean": self.alpha.mean(),
            "alpha_min": self.alpha.min(),
            "alpha_max": self.alpha.max(),
            "drift_energy": torch.stack(list(energies.values())).sum(),
            **{f"drift_energy/{key}": value for key, value in energies.items()},
        }
        if self.unconditional_weight is not None:
            found["unconditional_weight_mean"] = self.unconditional_weight.mean()
        found["gamma_mean"] = (1.0 - 1.0 / self.alpha).mean()
        for temperature in dict.fromkeys(self.temperatures + (self.raw_temperatures or ())):
            name = f"tau={temperature:g}"
            at = {
                key: self.temperatures_of(key).index(temperature)
                for key in self.drift_energy
                if temperature in self.temperatures_of(key)
            }
            of_one = {key: self.drift_energy[key][index].mean() for key, index in at.items()}
            if not of_one:
                continue
            found[f"drift_energy/{name}"] = torch.stack(list(of_one.values())).sum()
            found |= {f"drift_energy/{key}/{name}": value for key, value in of_one.items()}
            least = [self.drift_scale[key][index].min() for key, index in at.items()]
            most = [self.drift_scale[key][index].max() for key, index in at.items()]
            found[f"drift_scale_min/{name}"] = torch.stack(least).min()
            found[f"drift_scale_max/{name}"] = torch.stack(most).max()
        for name, values in scales.items():
            found[f"{name}_min"] = torch.stack([each.min() for each in values.values()]).min()
            found[f"{name}_max"] = torch.stack([each.max() for each in values.values()]).max()
        shown = {name: value for name, value in found.items() if value is not None}
        wide = torch.float32 if self.loss.device.type == "mps" else torch.float64
        device = self.loss.device
        flat = torch.stack([value.to(device, wide) for value in shown.values()]).tolist()
        counted = {"terms": float(len(self.drift_energy)), "stepped": float(self.stepped)}
        return {**dict(zip(shown, flat, strict=True)), **counted}
