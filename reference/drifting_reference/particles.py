"""Sec. 3.1: the generator as a pushforward, and its distribution moving along a drift.

Densities appear as samples ("particles"): q is whatever the rows of ``x`` are drawn from.
"""

from __future__ import annotations

from collections.abc import Callable

from drifting_reference.arrays import Array
from drifting_spec import implements

Generator = Callable[[Array], Array]
Drift = Callable[[Array], Array]


@implements("EQ-1")
def pushforward(generator: Generator, noise: Array) -> Array:
    """EQ-1: q = f_# p_ε. Samples of q are x = f(ε). ``noise`` [N, ...] → x [N, C]."""
    return generator(noise)


@implements("EQ-2", "EQ-4", "EQ-5")
def evolve(x: Array, drift: Drift) -> Array:
    """EQ-2: x_{i+1} = x_i + V_{p,q_i}(x_i), with V frozen at q_i. x [N, C] → [N, C].

    Two definitions say the same step of a generator, x = f_θ(ε):

    * EQ-4: training has converged where the step changes nothing, f(ε) = f(ε) + V(f(ε)), hence
      where V is 0 at every output;
    * EQ-5: the next generator is to give what this step gives, f_{i+1}(ε) ← f_i(ε) + V(f_i(ε)),
      with nothing but old parameters on the right.
    """
    return x + drift(x)
