"""Classifier-free guidance in training (A.7): α → w → γ, and the laws that α is drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.arguments.tensors import check_integer, is_number, reads_values


@overload
def cfg_alpha_to_weight(alpha: float, n_generated: int, n_unconditional: int) -> float: ...
@overload
def cfg_alpha_to_weight(alpha: Tensor, n_generated: int, n_unconditional: int) -> Tensor: ...
@implements("A7-w", "EQ-A7alpha", "EQ-A7gamma", "EQ-A7q")
def cfg_alpha_to_weight(
    alpha: float | Tensor, n_generated: int, n_unconditional: int
) -> float | Tensor:
    """Kernel weight w = (α − 1)(N − 1)/N_unc of the unconditional samples for guidance scale α.

    Parameters
    ----------
    alpha
        Guidance scale, at least 1; a tensor [L] gives one weight per label. 1 gives weight 0.
    n_generated
        N, the generated samples per label, at least 2: a sample is no negative of its own, so
        that N − 1 of them count.
    n_unconditional
        N_unc, the unconditional samples per label, at least 1.

    Returns
    -------
    float or Tensor
        w, in the type of ``alpha``.

    Raises
    ------
    ValueError
        For α below 1 or not finite, or too few samples. A tensor on a GPU or under
        ``torch.compile`` and ``torch.func`` is not looked at.
    """
    check_integer("n_generated", n_generated, 2)
    check_integer("n_unconditional", n_unconditional)
    if isinstance(alpha, Tensor):
        if reads_values(alpha, None) and not bool(((alpha >= 1) & alpha.isfinite()).all()):
            raise ValueError(f"alpha holds {alpha.tolist()}, expected finite values of at least 1")
    elif not is_number(alpha):
        raise TypeError(f"alpha is {alpha!r}, expected a number or a tensor [L]")
    elif not (math.isfinite(alpha) and alpha >= 1):
        raise ValueError(f"alpha is {alpha}, expected a finite value of at least 1")
    return (alpha - 1) * ((n_generated - 1) / n_unconditional)


@implements("EQ-A7gamma")
def weight_to_gamma(weight: float, n_generated: int, n_unconditional: int) -> float:
    """Mixing rate γ = N_unc w/((N − 1) + N_unc w) that a kernel weight w ≥ 0 amounts to.

    α = 1/(1 − γ) (:func:`gamma_to_alpha`) gives back the guidance scale. ``ValueError`` for a
    negative or infinite w, or too few samples.
    """
    check_integer("n_generated", n_generated, 2)
    check_integer("n_unconditional", n_unconditional)
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight is {weight}, expected a finite value of at least 0")
    return n_unconditional * weight / ((n_generated - 1) + n_unconditional * weight)


@implements("EQ-A7alpha")
def gamma_to_alpha(gamma: float) -> float:
    """Guidance scale α = 1/(1 − γ) of a mixing rate γ; ``ValueError`` unless 0 ≤ γ < 1."""
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}, expected 0 <= gamma < 1")
    return 1 / (1 - gamma)


@dataclass(frozen=True)
class AlphaDistribution:
    """Law of the guidance scale α (A7-alpha-dist): density ∝ α^{−exponent} on [low, high].

    Attributes
    ----------
    exponent
        n; 1 is the log-uniform law.
    atom
        Probability of α = ``low`` exactly; the density is drawn from otherwise.
    low, high
        The range, 1 ≤ low < high.
    """

    exponent: float
    atom: float = 0.0
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.exponent):
            raise ValueError(f"exponent is {self.exponent}, expected a finite number")
        if not 0 <= self.atom <= 1:
            raise ValueError(f"atom is {self.atom}, expected a probability in [0, 1]")
        if not 1 <= self.low < self.high < math.inf:
            raise ValueError(f"[low, high] is [{self.low}, {self.high}], expected 1 <= low < high")

    @classmethod
    def of_table8(cls, column: str) -> AlphaDistribution:
        """The law of a configuration of Table 8, by the column's name (``"ablation"``, …)."""
        # Here, so that importing the package reads none of the spec's data.
        from drifting_spec.table8 import COLUMNS, load_table8

        if column not in COLUMNS:
            raise ValueError(f"column is {column!r}, expected one of {', '.join(COLUMNS)}")
        held = load_table8()[column]
        return cls(*held.alpha_law, *held.alpha_range)

    @implements("A7-alpha-dist")
    def inverse_cdf(self, u: Tensor) -> Tensor:
        """α(u) for uniform u in [0, 1], any shape and floating dtype: ``low`` for u < atom.

        With v = (u − atom)/(1 − atom), α = (low^{1−n} + v (high^{1−n} − low^{1−n}))^{1/(1−n)},
        or low (high/low)^v for n = 1. ``ValueError`` for u outside [0, 1] on the CPU.
        """
        if not u.is_floating_point():
            raise TypeError(f"u has dtype {u.dtype}, expected a floating dtype")
        if reads_values(u, None) and not bool(((u >= 0) & (u <= 1)).all()):
            raise ValueError(f"u holds {u.flatten().tolist()}, expected values in [0, 1]")
        if self.atom == 1:
            return torch.full_like(u, self.low)
        v = (u - self.atom).clamp(min=0.0) / (1 - self.atom)
        if self.exponent == 1:
            alpha = self.low * (self.high / self.low) ** v
        else:
            power = 1 - self.exponent
            start, stop = self.low**power, self.high**power
            alpha = (start + v * (stop - start)) ** (1 / power)
        # Rounding must not leave the range: α below 1 would be a negative weight.
        return alpha.clamp(self.low, self.high)


@implements("A7-alpha-dist", "A9-2")
def sample_alpha(
    shape: int | Sequence[int],
    distribution: AlphaDistribution,
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw guidance scales independently, one for each label: [L] for ``shape`` L.

    The uniforms are drawn on the generator's device, so that a CPU generator gives the same α on
    every device; ``device`` is the generator's if None. ``ValueError`` or ``TypeError`` for a shape
    or a distribution that is none.
    """
    if not isinstance(distribution, AlphaDistribution):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"distribution is {distribution!r}, expected an AlphaDistribution; "
            "AlphaDistribution.of_table8('ablation') is one of the paper's"
        )
    wide = torch.float32 if generator.device.type == "mps" else torch.float64
    size = (shape,) if isinstance(shape, int) else tuple(shape)
    for each in size:
        check_integer("shape" if isinstance(shape, int) else "an entry of shape", each)
    u = torch.rand(size, generator=generator, device=generator.device, dtype=wide)
    return distribution.inverse_cdf(u).to(dtype).to(device or generator.device)
