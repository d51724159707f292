"""Suspects of Algorithm 2 up to the logits: distances, mask, kernel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from drifting_parity.suspects.field_steps import ratio, root
from drifting_parity.suspects.registry import suspect
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook

# The self-mask, ALG2-3.


def unmasked(distance: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """Distances as they are, every pair present."""
    return distance, torch.ones_like(samples.self_pairs)


@suspect("D01", "", "unconditional", size=1e-3)
class MaskDroppedBesideUnconditional(Textbook):
    """The mask is applied only where there are as many negatives as samples."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """No mask for more negatives than samples."""
        if samples.negative.shape[-2] > samples.x.shape[-2]:
            return unmasked(distance, samples)
        return super().mask(distance, samples, unit)


@suspect("D02", "", "foreign negatives", size=1e-3)
class MaskInferredFromCount(Textbook):
    """As many negatives as samples are taken for the samples themselves."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """The mask of the samples, whether the negatives are they or not."""
        rows = samples.x.shape[-2]
        if samples.negative.shape[-2] == rows:
            samples = replace(samples, own=rows)
        return super().mask(distance, samples, unit)


@suspect("D03", "", "other negatives", raises=True)
class MaskAlwaysSquare(Textbook):
    """``dist_neg += eye(N)·1e6`` as printed: a square is added to whatever there is."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """Raise for another number of negatives than N."""
        rows, negatives = samples.x.shape[-2], samples.negative.shape[-2]
        if negatives != rows:
            raise RuntimeError(
                f"The size of tensor a ({negatives}) must match the size of tensor b ({rows}) at "
                "non-singleton dimension 1"
            )
        return super().mask(distance, replace(samples, own=rows), unit)


@suspect("D05", "distance", shows_at="high temperature", added_to_self_distance=100.0)
class MaskAddedToDistance(Textbook):
    """A constant is added to the distance of a sample to itself, in whatever unit it has."""

    added_to_self_distance: float = 100.0

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """Too small a mask: the pair stays."""
        del unit
        own = samples.self_pairs.to(distance.dtype)
        return unmasked(distance + self.added_to_self_distance * own, samples)


@suspect("D05", "logit", shows_at="tiny temperature", size=1e-3, added_to_self_logit=-100.0)
@suspect("D07", "", shows_at="equal distances", size=1e-3, added_to_self_logit=-1e6)
class MaskAddedToLogit(Textbook):
    """A constant is added to the logit of a sample with itself."""

    added_to_self_logit: float = -100.0

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """Not here but on the logits."""
        del unit
        return unmasked(distance, samples)

    def logits(self, distance: Tensor, samples: Samples, temperature: Tensor) -> Tensor:
        """The logit of a sample with itself is lowered."""
        logit = super().logits(distance, samples, temperature)
        return logit + self.added_to_self_logit * samples.self_pairs.to(logit.dtype)


@suspect(
    "D08", "", "one generated", size=1.0, needed_under={"one generated": ("self_mask", "exclude")}
)
class MaskInfinite(Textbook):
    """An infinite mask in a library's softmax: where nothing is left it is NaN."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """The pair is absent."""
        del unit
        return distance, ~samples.self_pairs

    def shares(self, logit: Tensor, counted: Tensor, weight: Tensor, axis: int) -> Tensor:
        """NaN for a column, or a row, of masked entries alone."""
        share = super().shares(logit, counted, weight, axis)
        return torch.where(counted.any(axis, keepdim=True), share, torch.nan)


@suspect("D09", "", size=1e-3)
class Unmasked(Textbook):
    """No self-mask."""

    def mask(self, distance: Tensor, samples: Samples, unit: float) -> tuple[Tensor, Tensor]:
        """Every sample repels itself."""
        del unit
        return unmasked(distance, samples)


# Distances and kernel, EQ-12.


def expanded(x: Tensor, y: Tensor) -> Tensor:
    """Distances by ‖x‖² + ‖y‖² − 2x·y, without centring. [..., N, M]."""
    squared = x.square().sum(-1)[..., None] + y.square().sum(-1)[..., None, :] - 2 * x @ y.mT
    return root(squared.clamp_min(0))


@suspect("D18", "always", shows_at="offset", size=1e-10)
class ExpandedSquares(Textbook):
    """Distances by expanded squares."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """The small difference of large numbers."""
        return expanded(x, y)


@suspect("D18", "centred", clauses=("EQ-21", "EQ-26"), shows_at="offset", size=1e-13)
class CentredExpandedSquares(Textbook):
    """Distances by expanded squares about the mean: pairs that coincide still err."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """Right but for pairs that are close to one another."""
        centre = y.mean(-2, keepdim=True)
        return expanded(x - centre, y - centre)


@suspect("D18", "library", shows_at="offset", size=1e-10)
class LibraryDistances(Textbook):
    """Distances by a library that expands the squares above 25 samples."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """``torch.cdist`` as it comes."""
        return torch.cdist(x, y)


@suspect("D19", "everywhere", size=1e-2)
class SquaredDistances(Textbook):
    """Squared distances, in the kernel and in S."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """‖x − y‖²."""
        return super().distances(x, y).square()


@suspect("D19", "kernel", size=1e-2, distance_power=2.0)
class PowerKernel(Textbook):
    """exp(−d^p/T) in place of exp(−d/T)."""

    distance_power: float = 2.0

    def logits(self, distance: Tensor, samples: Samples, temperature: Tensor) -> Tensor:
        """−d^p/T."""
        return super().logits(distance**self.distance_power, samples, temperature)


@suspect("D19", "gaussian", size=1e-2)
class GaussianKernel(Textbook):
    """exp(−d²/2T²)."""

    def logits(self, distance: Tensor, samples: Samples, temperature: Tensor) -> Tensor:
        """−d²/(2T²)."""
        return super().logits(distance.square(), samples, 2 * temperature.square())


def sphere(samples: Tensor) -> Tensor:
    """Samples of length 1; 0 stays 0."""
    return ratio(samples, torch.linalg.vector_norm(samples, dim=-1, keepdim=True))


@suspect("D21", "cosine", size=1e-2)
class CosineDistance(Textbook):
    """1 − cos in place of the distance."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """One minus the cosine of the angle at the origin."""
        return (1 - sphere(x) @ sphere(y).mT).clamp_min(0)


@suspect("D21", "sphere-distance", size=1e-2)
class SphereDistance(Textbook):
    """Distances of the samples put on the unit sphere; the drift in their own coordinates."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """‖x/‖x‖ − y/‖y‖‖."""
        return super().distances(sphere(x), sphere(y))


@suspect("D21", "sphere", "loss", clauses=("EQ-18", "EQ-19"), stage="scale", size=1e-2)
class SphereSamples(Textbook):
    """The features are put on the unit sphere before anything else."""

    def features(self, samples: Samples) -> Samples:
        """φ/‖φ‖, with its gradient."""
        samples = super().features(samples)
        return replace(
            samples,
            x=sphere(samples.x),
            positive=sphere(samples.positive),
            negative=sphere(samples.negative),
        )


@suspect("D21", "root-mean-square", "channels", size=1e-2)
class DistancePerChannel(Textbook):
    """Distances divided by a hard-coded √C."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """‖x − y‖/√C."""
        return super().distances(x, y) / x.shape[-1] ** 0.5


@suspect("D21", "l1", "channels", size=1e-2)
class ManhattanDistance(Textbook):
    """The sum of absolute differences."""

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """‖x − y‖₁."""
        return torch.cdist(x, y, p=1.0)


@suspect("D17", "", shows_at="equal distances", size=1e-3)
class KernelWithoutMaximum(Textbook):
    """exp(−d/T) is formed before it is normalised: it underflows."""

    def shares(self, logit: Tensor, counted: Tensor, weight: Tensor, axis: int) -> Tensor:
        """e/Σ w e without subtracting the largest logit."""
        e = torch.exp(logit) * counted
        return ratio(e, (weight * e).sum(axis, keepdim=True))


@suspect("D17", "epsilon", shows_at="tiny temperature", size=1e-3, added_to_sums=1e-12)
class KernelSumEpsilon(Textbook):
    """As D17, with an epsilon added to the sums of kernel values."""

    added_to_sums: float = 1e-12

    def shares(self, logit: Tensor, counted: Tensor, weight: Tensor, axis: int) -> Tensor:
        """e/(Σ w e + ε), the largest logit not subtracted."""
        e = torch.exp(logit) * counted
        return ratio(e, (weight * e).sum(axis, keepdim=True) + self.added_to_sums)


@suspect("D20", "", size=1e-3)
class SoftmaxOfKernel(Textbook):
    """The softmaxes are taken of kernel values in place of logits."""

    def logits(self, distance: Tensor, samples: Samples, temperature: Tensor) -> Tensor:
        """exp(−d/T)."""
        return torch.exp(super().logits(distance, samples, temperature))
