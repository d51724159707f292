"""The loss over features that do not fit in memory together: one tap after the other (A.5, A.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.feature_loss import (
    DEFAULT,
    RAW_TERM,
    FeatureDriftingConfig,
    FeatureDriftingLossOutput,
    feature_problem,
    total_of,
    vanilla_problem,
)
from drifting_torch.loss import DriftingLossOutput, solve_each

Tap = tuple[str, Tensor, Tensor, Tensor | None]


@implements("EQ-14", "A6-sum-features", "A5-vanilla")
def stream_drifting_loss(
    taps: Iterable[Tap],
    unconditional_weight: Tensor | None = None,
    *,
    generated_samples: Tensor | None = None,
    positive_samples: Tensor | None = None,
    unconditional_samples: Tensor | None = None,
    config: FeatureDriftingConfig | None = None,
    gradient: float | Tensor = 1.0,
    validate: bool | None = None,
) -> FeatureDriftingLossOutput:
    """:func:`feature_space_drifting_loss` with its backward pass, one feature at a time.

    Each feature is taken from the iterator, its loss formed and differentiated, and its gradient
    handed on by ``generated.backward`` before the next is asked for; nothing of it is kept. So
    ``taps`` is best a generator, and what it yields must not share a graph with saved tensors
    (the second backward would not find them): let features start from detached maps.

    >>> leaves = {name: each.detach().requires_grad_() for name, each in maps.items()}
    >>> def taps():
    ...     for name, leaf in leaves.items():
    ...         for key, value in group_by_label(vectorize(leaf), labels).items():
    ...             yield f"{name}.{key}", value, positive(name, key), unconditional(name, key)
    >>> found = stream_drifting_loss(taps(), weight)
    >>> torch.autograd.backward([*maps.values()], [leaf.grad for leaf in leaves.values()])

    Parameters
    ----------
    taps
        Yields (key, generated [L, N, V, C], positive [L, P, V, C], unconditional [L, U, V, C] or
        None); no key twice.
    unconditional_weight, generated_samples, positive_samples, unconditional_samples, config
        As in :func:`feature_space_drifting_loss`; the vanilla term comes last. With a process
        group there are two reductions per tap, and every process yields the same taps in the
        same order.
    gradient
        What arrives at the loss: the factor of all gradients, as a loss scale.
    validate
        As in :func:`drifting_loss`.

    Returns
    -------
    FeatureDriftingLossOutput
        As all at once, detached.

    Raises
    ------
    ValueError, TypeError
        For anything that does not fit, naming the feature and the argument.
    """
    config = config or DEFAULT
    terms: dict[str, DriftingLossOutput] = {}
    for key, generated, positive, unconditional in taps:
        if key in terms:
            raise ValueError(f"taps yields {key!r} a second time, expected every key once")
        samples = (generated, positive, unconditional)
        made = (
            feature_problem(key, each, unconditional_weight, config, validate) for each in [samples]
        )
        (term,) = solve_each(made, config.process_group, validate).values()
        terms[key] = _handed_back(term, gradient)
        del generated, positive, unconditional, samples, made, term
    if not terms:
        raise ValueError("taps yields no features, expected at least one")
    if config.include_raw_drift_loss:
        raw = (generated_samples, positive_samples, unconditional_samples)
        made = (vanilla_problem(each, unconditional_weight, config, validate) for each in [raw])
        (term,) = solve_each(made, config.process_group, validate).values()
        terms[RAW_TERM] = _handed_back(term, gradient * config.raw_drift_loss_weight)
    return total_of(terms, config)


def _handed_back(term: DriftingLossOutput, gradient: float | Tensor) -> DriftingLossOutput:
    """Run the backward pass of a term; what is left holds no graph."""
    if term.loss.requires_grad:
        arriving = torch.as_tensor(gradient, dtype=term.loss.dtype, device=term.loss.device)
        torch.autograd.backward(term.loss, arriving)
    return replace(term, loss=term.loss.detach(), per_label=term.per_label.detach())
