"""Signs of a collapse, and what helps against each: measured on features of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch import drifting_loss

LEAST_AFFINITY = 0.01
"""exp(−d/(2τ√C)), the affinity of a sample at distance d, below which it is out of reach."""

COLLAPSED = 0.5
"""Spread of the generated samples, as a share of the real ones', below which it is a collapse."""

LEAST_SHARE = 0.05
"""Share of the real samples out of reach from which that is worth a warning."""


@dataclass(frozen=True)
class Watched:
    """What an evaluation saw of one feature, generated against real samples of one label.

    ``spread_ratio``: their standard deviations' ratio. ``unreached``: share of the real samples
    that every generated one is out of reach of, at the largest τ. ``wanted_temperature``: the τ
    that would reach the median of them, nan if there are none. ``floor_share``: share of the
    positives' affinity that is the readings' floor, the greatest of all τ. ``energy_range``:
    greatest over least drift energy of the temperatures.
    """

    spread_ratio: float
    unreached: float
    wanted_temperature: float
    floor_share: float
    energy_range: float

    def logs(self) -> dict[str, float]:
        """The numbers to log."""
        return {
            "spread_ratio": self.spread_ratio,
            "unreached_share": self.unreached,
            "floor_share": self.floor_share,
            "energy_range": self.energy_range,
        }


@dataclass(frozen=True)
class Warned:
    """A warning: its kind, by which it is given once, and its text with what helps."""

    kind: str
    text: str


def spread(samples: Tensor) -> float:
    """Root of the summed variances of samples [N, C]."""
    return float(samples.double().var(0, correction=0).sum().sqrt())


@torch.no_grad()
def watch(
    generated: Tensor, real: Tensor, temperatures: Sequence[float], readings: Readings
) -> Watched:
    """Look at one feature: vectors of generated [N, C] and real samples [P, C] of one label."""
    output = drifting_loss(
        generated[None, :, None].double(),
        real[None, :, None].double(),
        temperatures=temperatures,
        readings=readings,
    )
    energy = output.drift_energy.flatten()
    least = float(energy.min())
    unreached, wanted = _unreached(generated, real, max(temperatures), output.feature_scale)
    real_spread = spread(real)
    return Watched(
        spread_ratio=spread(generated) / real_spread if real_spread else math.nan,
        unreached=unreached,
        wanted_temperature=wanted,
        floor_share=float(output.floor_share[0].max()),
        energy_range=float(energy.max()) / least if least else math.nan,
    )


def _unreached(
    generated: Tensor, real: Tensor, temperature: float, scale: Tensor
) -> tuple[float, float]:
    """Share of real samples out of reach of all generated ones, and the τ that reaches them."""
    unit = float(scale.flatten()[0]) * math.sqrt(real.shape[1])
    if not unit:
        return 0.0, math.nan
    nearest = torch.cdist(real.double(), generated.double()).min(1).values / unit
    reach = -2 * math.log(LEAST_AFFINITY) * temperature
    far = nearest[nearest > reach]
    if not len(far):
        return 0.0, math.nan
    return len(far) / len(nearest), float(far.median()) / (-2 * math.log(2 * LEAST_AFFINITY))


def warnings_of(features: Mapping[str, Watched], temperatures: Sequence[float]) -> list[Warned]:
    """What the features of an evaluation give reason to warn of, the worst feature named."""
    warned: list[Warned] = []
    largest = max(temperatures)

    def worst(values: dict[str, float]) -> tuple[str, float]:
        name = max(values, key=lambda each: values[each])
        return name, values[name]

    name, share = worst({name: each.unreached for name, each in features.items()})
    if share >= LEAST_SHARE:
        wanted = features[name].wanted_temperature
        warned.append(
            Warned(
                "unreached",
                f"{share:.0%} of the real samples are out of reach in feature {name!r}: even "
                f"τ = {largest:g} gives them less than {LEAST_AFFINITY:.0%} of a near one's "
                f"affinity; a larger one alone sees them: --temperatures {wanted:.2g} (beside "
                "small ones it is outvoted, as the drift of each is brought to the same size)",
            )
        )
    name, share = worst({name: each.floor_share for name, each in features.items()})
    if share > 0.5:
        warned.append(
            Warned(
                "floor",
                f"{share:.0%} of the affinity in feature {name!r} is the readings' floor: all "
                "samples are drawn to the mean of the real ones (J-01); on few channels take "
                "--readings release,affinity_floor=none",
            )
        )
    ratios = {name: -each.spread_ratio for name, each in features.items()}
    name, ratio = worst(ratios)
    if -ratio < COLLAPSED:
        warned.append(
            Warned(
                "collapse",
                f"the generated samples are collapsed in feature {name!r}: their spread is "
                f"{-ratio:.0%} of the real samples'",
            )
        )
    ranges = {name: -each.energy_range for name, each in features.items()}
    name, equal = worst(ranges)
    if len(temperatures) > 1 and -equal < 1.01 and features[name].unreached:
        warned.append(
            Warned(
                "equal",
                f"the drift energy of feature {name!r} is the same at every τ, within "
                f"{(-equal - 1):.1%}: each sees its nearest neighbours alone; larger temperatures "
                "would differ",
            )
        )
    return warned
