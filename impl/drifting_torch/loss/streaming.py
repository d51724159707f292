"""The loss over features that do not fit in memory together: one tap after the other (A.5, A.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.arguments.tensors import is_number
from drifting_torch.loss.all_features import (
    FeatureDriftingConfig,
    FeatureDriftingLossOutput,
    check_config,
    check_grouped,
    check_keys,
    feature_problem,
    total_of,
    vanilla_problem,
)
from drifting_torch.loss.one_feature import solve_each
from drifting_torch.loss.output import DriftingLossOutput
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.weights import TargetWeights

Features = Tensor | Mapping[str, Tensor]
"""One feature, or several by name."""

Tap = tuple[str, Features, Features, Features | None]


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
    """:func:`feature_space_drifting_loss` with its backward pass, one tap at a time.

    Each tap is taken from the iterator, the losses of its features formed and differentiated, and
    their gradients handed on in one backward pass before the next is asked for; nothing of it is
    kept. So ``taps`` is best a generator, and what two taps yield must not share a graph with
    saved tensors (the second backward would not find them): let them start from detached maps.
    The features of one tap may share what they like. All features of a map in one tap cost a GPU
    five launches where they have equal numbers of channels, and their memory at once.

    >>> leaves = {name: each.detach().requires_grad_() for name, each in maps.items()}
    >>> def taps():
    ...     for name, leaf in leaves.items():
    ...         features = group_by_label(vectorize(leaf), labels)
    ...         yield name, features, positive(name), unconditional(name)
    >>> found = stream_drifting_loss(taps(), weight)
    >>> torch.autograd.backward([*maps.values()], [leaf.grad for leaf in leaves.values()])

    Parameters
    ----------
    taps
        Yields (key, generated [L, N, V, C], positive [L, P, V, C], unconditional [L, U, V, C] or
        None); or (map, generated, positive, unconditional or None) with mappings of the same names
        to such features, whose keys are ``<map>.<name>``. No key twice.
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
    config = check_config(config)
    raw = (generated_samples, positive_samples, unconditional_samples)
    terms: dict[str, DriftingLossOutput] = {}
    weights = TargetWeights(unconditional_weight)
    arriving = _Arriving(gradient)
    vanilla: list[tuple[str, Tensor, Problem]] = []

    def problems(features: Iterable[Feature]) -> Iterator[tuple[str, Tensor, Problem]]:
        if config.include_raw_drift_loss and not vanilla:  # checked before the first backward
            vanilla.append(vanilla_problem(raw, weights, config, validate))
        for key, samples in features:
            if config.include_raw_drift_loss and isinstance(samples[0], Tensor):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers need not be type-checked
                check_grouped(samples[0], generated_samples)
            yield feature_problem(key, samples, weights, config, validate)

    for tap in taps:
        features = _features(tap)
        for key in [key for key, _ in features if key in terms]:
            raise ValueError(f"taps yields {key!r} a second time, expected every key once")
        found = solve_each(problems(features), config.process_group, validate)
        terms |= _handed_back(found, arriving)
        del tap, features, found
    if not terms:
        raise ValueError("taps yields no features, expected at least one")
    if config.include_raw_drift_loss:
        found = solve_each(vanilla, config.process_group, validate)
        terms |= _handed_back(found, _Arriving(gradient * config.raw_drift_loss_weight))
    return total_of(terms, config)


Feature = tuple[str, tuple[Tensor, Tensor, Tensor | None]]


def _features(tap: Tap) -> list[Feature]:
    """A tap's features with their keys."""
    if not isinstance(tap, tuple) or len(tap) != 4:  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison] -- callers need not be type-checked
        raise TypeError(
            f"taps yields {type(tap).__name__}, expected tuples (key, generated, positive, "
            "unconditional or None)"
        )
    key, generated, positive, unconditional = tap
    if isinstance(generated, Mapping):
        if isinstance(positive, Mapping) and not isinstance(unconditional, Tensor):
            try:
                check_keys(generated, positive, unconditional)
            except ValueError as error:
                raise ValueError(f"tap {key!r}: {error}") from error
            return [
                (
                    f"{key}.{name}",
                    (each, positive[name], None if unconditional is None else unconditional[name]),
                )
                for name, each in generated.items()
            ]
    elif not isinstance(positive, Mapping) and not isinstance(unconditional, Mapping):
        return [(key, (generated, positive, unconditional))]
    kinds = [type(each).__name__ for each in (generated, positive, unconditional)]
    raise TypeError(f"tap {key!r} yields {', '.join(kinds)}, expected all tensors or all mappings")


class _Arriving:
    """What arrives at every loss, made once for all taps."""

    def __init__(self, gradient: float | Tensor) -> None:
        if not (is_number(gradient) or (isinstance(gradient, Tensor) and gradient.dim() == 0)):
            raise TypeError(f"gradient is {gradient!r}, expected a number or a tensor []")
        if isinstance(gradient, Tensor) and gradient.requires_grad:
            raise ValueError(
                "gradient requires a gradient, expected one that does not: the backward pass of a "
                "stream keeps no graph to differentiate (feature_space_drifting_loss does)"
            )
        self.gradient = gradient
        self.made: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def at(self, loss: Tensor) -> Tensor:
        """The gradient in the dtype and on the device of a loss."""
        kind = (loss.dtype, loss.device)
        if kind not in self.made:
            given = self.gradient
            # Filled in: a number copied from the host would stop the device.
            full = given.to(loss) if isinstance(given, Tensor) else torch.full_like(loss, given)
            self.made[kind] = full
        return self.made[kind]


def _handed_back(
    terms: dict[str, DriftingLossOutput], arriving: _Arriving
) -> dict[str, DriftingLossOutput]:
    """Run the backward pass of some terms at once; what is left holds no graph."""
    losses = [term.loss for term in terms.values() if term.loss.requires_grad]
    if losses:
        torch.autograd.backward(losses, [arriving.at(loss) for loss in losses])
    return {
        key: replace(term, loss=term.loss.detach(), per_label=term.per_label.detach(), problem=None)
        for key, term in terms.items()
    }
