"""Several problems of one kind on their way through the GPU kernels (A.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from drifting_torch.kernels import available
from drifting_torch.kernels.launches import MOST, Drift, Kept, Launches, Results, kind
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import over_labels
from drifting_torch.problem.solution import Sums


@dataclass(frozen=True)
class Solved:
    """Losses and statistics of a bucket, and what their gradient takes.

    A loss' gradient is ``shares`` [S] times that of each label; ``received`` are the sums over all
    processes on which it rests, those of S and those of λ and the loss.
    """

    results: Results
    shares: Tensor
    kept: Kept
    received: tuple[Sums, ...] = ()


@dataclass(frozen=True)
class Bucket:
    """Problems of one kind by their keys, no more than fit one launch."""

    keys: list[str]
    problems: list[Problem]
    kernels: ModuleType


def gathered(problems: Iterable[tuple[str, Problem]]) -> list[Bucket]:
    """Sort the problems that the kernels take by their kinds; each key falls into one bucket."""
    found: dict[tuple[object, ...], list[Bucket]] = {}
    for key, problem in problems:
        kernels = available.kernels_for(problem)
        if kernels is None:
            continue
        alike = found.setdefault(kind(problem), [])
        if not alike or len(alike[-1].keys) == MOST:
            alike.append(Bucket([], [], kernels))
        alike[-1].keys.append(key)
        alike[-1].problems.append(problem)
    return [bucket for alike in found.values() for bucket in alike]


class _Scaled(NamedTuple):
    """What the second stage leaves: what was measured, S, and the drifts' products."""

    distances: Tensor
    means: Tensor
    feature_scale: Tensor
    units: Tensor
    normalizers: Tensor
    products: Tensor


class Stages:
    """A bucket on its way through ``measure``, ``scale`` and ``finish``, as ``eager.solve.Stages``.

    Each stage returns, and is handed, one entry for each of the bucket's problems.
    """

    _scaled: _Scaled
    _drift: Drift

    def __init__(self, bucket: Bucket, *, many: bool = False, processes: int = 1) -> None:
        self._launches = Launches(bucket.problems, bucket.kernels)
        self._many = many
        self._processes = processes
        self._nothing: Sums = [None] * len(bucket.problems)

    def measure(self) -> Sums:
        """All distances; returns what S is made of."""
        launches = self._launches
        self._measured = launches.measure()
        across = self._many and launches.batch
        return launches.scale_sums(self._measured.sums) if across else self._nothing

    def scale(self, totals: Sums) -> Sums:
        """Divide by S and form the drifts' products; returns what λ and the loss are made of.

        Where labels share nothing these are their losses, and their number.
        """
        launches = self._launches
        distances, gram, means, sums = self._measured
        del self._measured
        feature_scale, units = launches.scale(sums, _joined(totals))
        crossed = launches.crossed or (self._many and launches.batch)
        normalizers, products = launches.correlate(distances, gram, means, units, crossed=crossed)
        del gram
        self._scaled = _Scaled(distances, means, feature_scale, units, normalizers, products)
        if launches.batch:
            return launches.drift_sums(products) if self._many else self._nothing
        self._drift = self._divided(None, mean=launches.mean and not self._many)
        if not self._many:
            return self._nothing
        labels = float(launches.labels)
        own = [torch.stack([each, torch.full_like(each, labels)]) for each in self._drift.losses]
        return [each.double() for each in own]

    def finish(self, totals: Sums) -> Solved:
        """Divide by λ and form the losses."""
        launches, scaled = self._launches, self._scaled
        if launches.batch:
            drift = self._divided(_joined(totals), mean=launches.mean)
        else:
            drift = self._drift
        results, shares = launches.outcome(scaled.feature_scale, drift), drift.shares
        given = [each for each in totals if each is not None]
        if given and not launches.batch:
            squares, labels = torch.stack(given).float().unbind(1)
            losses = over_labels(launches.readings, squares, labels)
            shares = over_labels(launches.readings, shares, labels)
            results = replace(results, losses=[*losses.unbind()])
        distances, means, _, units, normalizers, _ = scaled
        return Solved(results, shares, Kept(distances, means, normalizers, units, drift.inverses))

    def _divided(self, totals: Tensor | None, *, mean: bool) -> Drift:
        """The drifts divided by λ, and the losses, a ``mean`` over labels or a sum."""
        return self._launches.drift(
            self._scaled.products, totals, mean=mean, processes=self._processes
        )


def _joined(totals: Sums) -> Tensor | None:
    """One buffer of all problems' totals; None where there are none."""
    given = [each.flatten() for each in totals if each is not None]
    return torch.cat(given) if given else None
