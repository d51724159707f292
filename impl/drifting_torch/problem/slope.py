"""The gradient of the loss of one feature, formed when it is asked for (ALG1-6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drifting_torch.problem.units import exceeds


class Product(Protocol):
    """A product of batches of matrices."""

    def __call__(self, one: Tensor, two: Tensor, /, *, out: Tensor) -> object:
        """Fill ``out``."""


@dataclass(frozen=True)
class Slope:
    """The gradient of ``per_label`` [L] with the target frozen [L, N, V, C].

    That of ``per_label[l]`` is nonzero on label l alone, so that one tensor holds all.

    It is ``factor`` [L, V] times ``kept`` [L·V, N, C]. With ``targets``, those [B, M, C] of all
    groups in their order, ``kept`` [L·V, N, M] holds coefficients, and their product with the
    targets takes its place. It is formed where the gradient is to be, and nowhere before.
    """

    kept: Tensor
    factor: Tensor
    targets: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, whole: Tensor) -> Slope:
        """From all of it [L, N, V, C]."""
        by_vector = whole.transpose(1, 2)
        return cls(by_vector.flatten(0, 1), torch.ones_like(by_vector[:, :, 0, 0]))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All it consists of, in the order of its fields."""
        return self.kept, self.factor, *self.targets

    @classmethod
    def joined(cls, kept: Tensor, factor: Tensor, *targets: Tensor) -> Slope:
        """From :attr:`tensors`."""
        return cls(kept, factor, targets)

    def times(
        self,
        arriving: Tensor,
        strides: tuple[int, ...] | None = None,
        product: Product = torch.bmm,
    ) -> Tensor:
        """Each label's gradient times what arrives for it [L]: [L, N, V, C].

        With ``strides`` that keep channels side by side it has these, else those of [L, V, N, C].
        """
        labels, vectors = self.factor.shape
        count, channels = self.kept.shape[1], (*self.targets, self.kept)[0].shape[2]
        if exceeds(self.factor, self.kept.dtype):
            wide = self.factor.dtype
            targets = tuple(each.to(wide) for each in self.targets)
            found = Slope(self.kept.to(wide), self.factor, targets).times(
                arriving, strides, product
            )
            return found.to(self.kept.dtype)
        factor = (self.factor * arriving.to(self.factor.dtype).unsqueeze(1)).to(self.kept.dtype)
        if strides is None or strides[3] != 1:
            out = self.kept.new_empty((labels, vectors, count, channels)).transpose(1, 2)
        else:
            out = self.kept.new_empty_strided((labels, count, vectors, channels), strides)
        by_vector = out.transpose(1, 2)
        if not self.targets:
            kept = self.kept.view(by_vector.shape)
            torch.mul(kept, factor[:, :, None, None], out=by_vector)
            return out
        coefficients = self.kept * factor.view(-1, 1, 1)
        for groups, targets in self._by_label(vectors):
            label, first = divmod(groups.start, vectors)
            into = by_vector[label, first : first + len(targets)]
            product(coefficients[groups], targets, out=into)
        return out

    def whole(self) -> Tensor:
        """All of it [L, N, V, C], as [L, V, N, C] in memory."""
        return self.times(torch.ones_like(self.factor[:, 0]))

    def _by_label(self, vectors: int) -> Iterator[tuple[slice, Tensor]]:
        """The targets of some vectors of one label, and which groups they are."""
        start = 0
        for targets in self.targets:
            for part in targets.split(vectors):
                yield slice(start, start + len(part)), part
                start += len(part)
