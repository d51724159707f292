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


@implements("EQ-2")
def evolve(x: Array, drift: Drift) -> Array:
    """EQ-2: x_{i+1} = x_i + V_{p,q_i}(x_i), with V frozen at q_i. x [N, C] → [N, C]."""
    return x + drift(x)


@implements("EQ-4")
def fixed_point_residual(generator: Generator, noise: Array, drift: Drift) -> Array:
    """EQ-4: f(ε) = f(ε) + V(f(ε)) at equilibrium. Returns right side − left side, [N, C]."""
    x = pushforward(generator, noise)
    return evolve(x, drift) - x


@implements("EQ-5")
def next_output(generator: Generator, noise: Array, drift: Drift) -> Array:
    """EQ-5: f_{i+1}(ε) ← f_i(ε) + V_{p,q_i}(f_i(ε)); only old parameters on the right. [N, C]."""
    x = pushforward(generator, noise)
    return x + drift(x)
