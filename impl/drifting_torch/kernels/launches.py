"""The launches of the GPU kernels for several problems at once (A.6).

The problems are of one kind: they differ in their vectors and their strides alone. Forward they
take four launches and backward one, none of which asks the device for a value, so that a step can
be captured in a CUDA graph. Inputs are read two or three times, distances are kept between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.kernels.tiles import tiling
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import (
    RELEASE_DISTANCE,
    affinity_floor,
    least_drift_scale,
    least_scales,
    mask_logits,
    per_entry,
    root_scaled,
)
from drifting_torch.problem.thresholds import CANCELLED, near

MOST = 8
"""Segments of one launch: a tap has up to seven features, and kernels are compiled for a number."""

_GRAM_CHANNELS = 1.5
"""Channels per target from which traces pay.

With N = P = 64, U = 16, M = 144 and three temperatures, a group's traces take 3·N·M·M products
and 0.6·N·M·C more for the inner products, against 6·N·M·C from squares over all channels: fewer
from C = 80. They move 2·4·(P+U)² bytes, 51 kB, against the M·C·4 of the inputs once and what of
them does not stay in cache five times more: 83 kB once from C = 144. Between the two, kernels that
need no inner products are the smaller ones.
"""


def kind(problem: Problem) -> tuple[object, ...]:
    """What must be the same for problems to share launches."""
    generated, positive, other = problem.generated, problem.positive, problem.unconditional
    labels, count, _, channels = generated.shape
    sets = [positive] if other is None else [positive, other]
    return (
        generated.device,
        (labels, count, channels),
        tuple(each.shape[1] for each in sets),
        generated.dtype,
        None if problem.weight is None else id(problem.weight),
        problem.temperatures,
        problem.readings,
        problem.precision,
        _aligned(problem),
    )


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """Steps [label, sample, vector, channel], 0 where there is one alone."""
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    return tuple(step if size > 1 else 0 for step, size in pairs)


def _aligned(problem: Problem) -> bool:
    """Whether channels lie side by side and start where loads of several at once may."""
    channels = problem.generated.shape[-1]
    sets = [problem.generated, problem.positive, problem.unconditional]
    steps = [_strides(each) for each in sets if each is not None]
    return channels % 16 == 0 and all(
        each[3] == 1 and all(step % 16 == 0 for step in each[:3]) for each in steps
    )


class Measured(NamedTuple):
    """Distances [groups, N+1, M], inner products, means [groups, C], and what S is made of.

    The last row of distances is that from the mean of the group's generated samples. ``gram``
    [groups, P+U, P+U] is there where traces pay.
    ``sums`` [2, groups] are weighted distances and weights.
    """

    distances: Tensor
    gram: Tensor | None
    means: Tensor
    sums: Tensor


class Correlated(NamedTuple):
    """What makes coefficients of distances [groups, T, 3N + M], and products of two drifts.

    The products [pairs, groups] are squares, and those of two different drifts where asked for.
    """

    normalizers: Tensor
    products: Tensor


class Drift(NamedTuple):
    """λ and its reciprocal [T·cells], ``per_label`` [S, L], the losses and shares [S]."""

    drift_scale: Tensor
    inverses: Tensor
    per_label: Tensor
    losses: Tensor
    shares: Tensor


class Kept(NamedTuple):
    """What the backward pass needs besides the inputs."""

    distances: Tensor
    means: Tensor
    normalizers: Tensor
    units: Tensor
    inverses: Tensor


@dataclass(frozen=True)
class Results:
    """What the forward pass hands out, feature after feature."""

    losses: list[Tensor]
    per_label: list[Tensor]
    feature_scale: list[Tensor]
    drift_scale: list[Tensor]


class Launches:
    """The launches for problems of one kind; what they share is worked out once."""

    def __init__(self, problems: Sequence[Problem], kernels: ModuleType) -> None:
        assert len(problems) <= MOST
        self.problems = list(problems)
        self.kernels = kernels
        first = self.problems[0]
        self.readings = first.readings
        self.labels, self.count, _, self.channels = first.generated.shape
        self.positives = first.positive.shape[1]
        self.others = 0 if first.unconditional is None else first.unconditional.shape[1]
        self.mean = self.readings.label_reduction == "mean"
        self.batch = self.readings.statistics_scope == "batch"
        self.shared = self.readings.location_sharing != "none"
        self.vectors = [each.generated.shape[2] for each in self.problems]
        self.groups = [self.labels * each for each in self.vectors]
        self.cells = [self._cells(each) for each in self.vectors]
        self.temperatures = len(first.temperatures)
        self.pairs = self.temperatures * (self.temperatures + 1) // 2
        self.gram = self.channels >= _GRAM_CHANNELS * first.targets
        self.aligned = _aligned(first)

    @property
    def _all(self) -> range:
        return range(len(self.problems))

    def _cells(self, vectors: int) -> int:
        return (1 if self.batch else self.labels) * (1 if self.shared else vectors)

    @property
    def _like(self) -> Tensor:
        return self.problems[0].generated

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self._like.device)

    def _padded(self, values: Sequence[Any]) -> list[Any]:
        """One entry a segment, for one segment or for as many as there may be."""
        most = 1 if len(values) == 1 else MOST
        return [*values, *[values[-1]] * (most - len(values))]

    def _told(self, values: Sequence[int]) -> tuple[int, ...]:
        return self.kernels.told(self._padded(values))

    def _starts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Where each segment starts; padding starts where all end."""
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        most = 1 if len(sizes) == 1 else MOST
        return self.kernels.told([*starts, *[sum(sizes)] * (most - len(sizes))])

    def _inputs(self, segments: Sequence[int], outs: Sequence[Tensor] = ()) -> dict[str, Any]:
        """The arguments that say where some segments' samples, and their gradients, lie."""
        problems = [self.problems[index] for index in segments]
        sets: dict[str, list[Tensor] | None] = {
            "generated": [each.generated for each in problems],
            "positive": [each.positive for each in problems],
            "unconditional": [
                each.unconditional for each in problems if each.unconditional is not None
            ]
            or None,
        }
        if outs:
            sets["outs"] = [*outs]
        return {
            **{
                name: None if tensors is None else tuple(self._padded(tensors))
                for name, tensors in sets.items()
            },
            "strides": tuple(
                None if tensors is None else self._steps(tensors) for tensors in sets.values()
            ),
            "firsts": self._starts([self.groups[index] for index in segments]),
            "vectors": self._told([self.vectors[index] for index in segments]),
            "count": self.count,
            "positives": self.positives,
            "others": self.others,
            "channels": self.channels,
            "S": 1 if len(segments) == 1 else MOST,
            "EXACT": self.problems[0].precision == "float32",
        }

    def _steps(self, tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
        """Steps of the labels, samples, vectors and channels of tensors [L, N, V, C]."""
        return tuple(
            self._told(axis) for axis in zip(*(_strides(each) for each in tensors), strict=True)
        )

    def _launch(self, kernel: str, programs: int, **arguments: Any) -> None:
        """Start a kernel where the features are, which need not be the current device."""
        with torch.cuda.device_of(self._like):
            getattr(self.kernels, kernel)[(programs,)](**arguments)

    @cached_property
    def _weight(self) -> Tensor | None:
        weight = self.problems[0].weight
        if weight is None or (weight.dtype == torch.float32 and weight.is_contiguous()):
            return weight
        return weight.to(torch.float32).contiguous()

    def tile(self, kernel: str) -> dict[str, Any]:
        """Tiles, warps and stages of a kernel."""
        sizes = (self.count, self.positives, self.others, self.channels)
        return tiling(kernel, sizes, self.gram, self._like.device)

    def _shaped(self, kernel: str) -> dict[str, Any]:
        return self.tile(kernel) | {
            "ALIGNED": self.aligned,
            "WEIGHTED": self._weight is not None,
        }

    @implements("EQ-19", "EQ-21", "A6-S", "A7-weight-in-scale", "A6-locshare")
    def measure(self) -> Measured:
        """All distances, and what S is made of."""
        groups, problem = sum(self.groups), self.problems[0]
        distances = self._empty(groups, self.count + 1, problem.targets)
        rest = self.positives + self.others
        gram = self._empty(groups, rest, rest) if self.gram else None
        means = self._empty(groups, self.channels)
        sums = self._empty(2, groups, dtype=torch.float64)
        self._launch(
            "measure",
            groups,
            **self._inputs(self._all),
            weight=self._weight,
            distances=distances,
            gram=gram,
            means=means,
            sums=sums,
            groups=groups,
            floor=RELEASE_DISTANCE if self.readings.floors == "release" else 0.0,
            GRAM=self.gram,
            ATTRACTING=self.readings.scale_samples != "negatives",
            REPELLING=self.readings.scale_samples != "positives",
            OWN=self.readings.scale_self_pairs == "with",
            THRESHOLD=near(torch.float32),
            **self._shaped("measure"),
        )
        return Measured(distances, gram, means, sums)

    def _statistics(self) -> dict[str, Any]:
        """What the two small kernels share."""
        tiles = {
            (True, True): (1, 2048),
            (False, True): (16, 128),
            (True, False): (128, 16),
            (False, False): (1024, 1),
        }[self.batch, self.shared]
        return {
            "bases": self._starts(self.groups),
            "vectors": self._told(self.vectors),
            "cell_firsts": self._starts(self.cells),
            "groups": sum(self.groups),
            "labels": self.labels,
            "S": 1 if len(self.problems) == 1 else MOST,
            "CELLS": tiles[0],
            "MEMBERS": tiles[1],
            "BATCH": self.batch,
            "SHARED": self.shared,
            "num_warps": 8,
        }

    def _split(self, values: Tensor, rows: int) -> list[Tensor]:
        """A buffer [Σ rows·cells] as one tensor [rows, 1|L, 1|V] a feature."""
        parts = values.split([rows * each for each in self.cells])
        labels = 1 if self.batch else self.labels
        return [each.view(rows, labels, -1) for each in parts]

    def scale_sums(self, sums: Tensor) -> list[Tensor]:
        """The weighted distances and weights [2, 1|L, 1|V] of this process, for each feature."""
        totals = self._empty(2 * sum(self.cells), dtype=torch.float64)
        self._scale(sums, totals, None, None, adding=True, given=False)
        return self._split(totals, 2)

    def scale(self, sums: Tensor, totals: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """S [cells], and the reciprocals of the scales [2, cells], by ``totals`` if given."""
        cells = sum(self.cells)
        feature_scale, units = self._empty(cells), self._empty(2, cells)
        given = totals is not None
        self._scale(sums, totals, feature_scale, units, adding=False, given=given)
        return feature_scale, units

    @implements("EQ-20", "EQ-21")
    def _scale(
        self,
        sums: Tensor,
        totals: Tensor | None,
        feature_scale: Tensor | None,
        units: Tensor | None,
        *,
        adding: bool,
        given: bool,
    ) -> None:
        least, least_unit = least_scales(self.problems[0])
        self._launch(
            "scale",
            len(self.problems),
            sums=sums,
            totals=totals,
            feature_scale=feature_scale,
            units=units,
            **self._statistics(),
            cells=sum(self.cells),
            channels=self.channels,
            least=least,
            least_unit=least_unit,
            ADDING=adding,
            GIVEN=given,
        )

    def _affinities(self) -> dict[str, Any]:
        """The arguments that the affinities take (EQ-22)."""
        problem, readings = self.problems[0], self.readings
        effective = [each * root_scaled(problem) for each in problem.temperatures]
        excluded = readings.self_mask == "exclude"
        return {
            "rates": tuple(1.0 / each for each in effective),
            # What is added to a logit is a temperature's inverse times what is the same for all.
            "mask": 0.0 if excluded else -mask_logits(problem, effective)[0] * effective[0],
            "cells": sum(self.cells),
            "cell_firsts": self._starts(self.cells),
            "T": self.temperatures,
            "BATCH": self.batch,
            "SHARED": self.shared,
            "EXCLUDED": excluded,
            "FLOOR": math.sqrt(affinity_floor(readings)),
        }

    @implements("EQ-22", "EQ-23", "A6-tau", "ALG2-10")
    def correlate(
        self,
        distances: Tensor,
        gram: Tensor | None,
        means: Tensor,
        units: Tensor,
        *,
        crossed: bool,
    ) -> Correlated:
        """The softmaxes' sums, and products of drifts, ``crossed`` for those of two different."""
        groups = sum(self.groups)
        products = self._empty(self.pairs, groups, dtype=torch.float64)
        width = 3 * self.count + self.problems[0].targets
        normalizers = self._empty(groups, self.temperatures, width)
        self._launch(
            "correlate",
            groups,
            **self._inputs(self._all),
            **self._affinities(),
            weight=self._weight,
            distances=distances,
            gram=gram,
            means=means,
            normalizers=normalizers,
            units=units,
            products=products,
            groups=groups,
            SLOTS=max(2, 1 << (self.temperatures - 1).bit_length()),
            CROSSED=crossed,
            INSIDE=self._weight is not None and self.readings.unconditional_weight == "replication",
            GRAM=self.gram,
            FLOORED=self.readings.floors == "release",
            CANCELLED=CANCELLED,
            **self._shaped("correlate"),
        )
        return Correlated(normalizers, products)

    def drift_sums(self, products: Tensor) -> list[Tensor]:
        """What λ and the loss need of this process [pairs + 2, 1, 1|V], for each feature."""
        rows = self.pairs + 2
        totals = self._empty(rows * sum(self.cells), dtype=torch.float64)
        self._drift(products, totals, None, adding=True, given=False, mean=False)
        return self._split(totals, rows)

    def drift(
        self,
        products: Tensor,
        totals: Tensor | None = None,
        *,
        mean: bool,
        processes: int = 1,
    ) -> Drift:
        """λ and the loss, by the ``totals`` of all ``processes`` if given."""
        cells, features = self.temperatures * sum(self.cells), len(self.problems)
        found = Drift(
            drift_scale=self._empty(cells),
            inverses=self._empty(cells),
            per_label=self._empty(features, self.labels),
            losses=self._empty(features),
            shares=self._empty(features),
        )
        given = totals is not None
        self._drift(
            products, totals, found, adding=False, given=given, mean=mean, processes=processes
        )
        return found

    @property
    def crossed(self) -> bool:
        """Whether the loss needs the products of two different drifts."""
        return (
            self.temperatures > 1 and self.readings.temperature_aggregation == "sum_drifts_then_mse"
        )

    @implements("EQ-24", "EQ-25", "EQ-26", "A6-lambda", "A6-mse", "A5-sum")
    def _drift(
        self,
        products: Tensor,
        totals: Tensor | None,
        found: Drift | None,
        *,
        adding: bool,
        given: bool,
        mean: bool,
        processes: int = 1,
    ) -> None:
        into = dict.fromkeys(Drift._fields) if found is None else found._asdict()
        self._launch(
            "drift",
            len(self.problems),
            products=products,
            totals=totals,
            **into,
            **self._statistics(),
            total_firsts=self._starts([(self.pairs + 2) * each for each in self.cells]),
            entries=float(self.count * self.channels),
            factor=tuple(self._factors(self._all)),
            least=least_drift_scale(self.readings),
            processes=float(processes),
            T=self.temperatures,
            LABELS=16,
            VECTORS=64,
            CROSSED=self.crossed,
            MEAN=mean,
            ADDING=adding,
            GIVEN=given,
        )

    def _factors(self, segments: Iterable[int]) -> list[float]:
        return self._padded([per_entry(self.problems[index]) for index in segments])

    def outcome(self, feature_scale: Tensor, drift: Drift) -> Results:
        """What was found, one tensor a feature."""
        return Results(
            [*drift.losses.unbind()],
            [*drift.per_label.unbind()],
            [each[0] for each in self._split(feature_scale, 1)],
            self._split(drift.drift_scale, self.temperatures),
        )

    @implements("EQ-A6tau", "A6-order")
    def gradient(
        self,
        kept: Kept,
        shares: Tensor,
        wanted: Sequence[int],
        of_loss: Sequence[Tensor | None],
        of_label: Sequence[Tensor | None],
        outs: Sequence[Tensor],
    ) -> None:
        """Write the gradients of ``wanted`` features into ``outs`` [L, N, V, C].

        ``of_loss`` and ``of_label`` hold what arrives at the loss and at ``per_label`` of each of
        all features.
        """
        losses = [of_loss[index] for index in wanted]
        labels = [of_label[index] for index in wanted]
        steps = [-1 if each is None else each.stride(0) for each in labels]
        starts = [sum(self.groups[:index]) for index in wanted]
        cells = [sum(self.cells[:index]) for index in wanted]
        arguments = self._inputs(wanted, outs) | self._affinities()
        arguments |= self._shaped("gradient") | {"cell_firsts": self._told(cells)}
        aligned = self.aligned and all(_strides(each)[3] == 1 for each in outs)
        self._launch(
            "gradient",
            sum(self.groups[index] for index in wanted),
            **arguments | {"ALIGNED": aligned},
            bases=self._told(starts),
            weight=self._weight,
            distances=kept.distances,
            means=kept.means,
            normalizers=kept.normalizers,
            units=kept.units,
            inverses=kept.inverses,
            of_loss=self._arriving(losses, shares),
            of_label=self._arriving(labels, shares),
            features=self._told(wanted),
            with_loss=self._told([0 if each is None else 1 for each in losses]),
            label_steps=self._told(steps),
            own_cells=self._told([self.cells[index] for index in wanted]),
            shares=shares,
            factor=tuple(self._factors(wanted)),
        )

    def _arriving(self, gradients: Sequence[Tensor | None], unread: Tensor) -> tuple[Tensor, ...]:
        """Gradients of some segments; an ``unread`` tensor stands where none arrives.

        A kernel is told beside them which ones arrive: were it given no pointer for the others, it
        would be compiled for every choice of features that are differentiated.
        """
        return tuple(self._padded([unread if each is None else each for each in gradients]))
