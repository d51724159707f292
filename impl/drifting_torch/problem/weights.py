"""The kernel weights of all targets, put together from those that a caller hands in (A.7)."""

from __future__ import annotations

import torch
from torch import Tensor

from drifting_torch.arguments.tensors import check_not_negative, check_weight, reads_values
from drifting_torch.problem.readings import loss_dtype


class TargetWeights:
    """The weights of one call: of unconditional, generated and positive samples, ones where None.

    Features of equally many samples share one tensor of all of them, as the GPU kernels do.
    """

    def __init__(
        self,
        unconditional: Tensor | None = None,
        generated: Tensor | None = None,
        positive: Tensor | None = None,
    ) -> None:
        self._unconditional = unconditional
        self._generated = generated
        self._positive = positive
        self._wholes: list[tuple[tuple[object, ...], Tensor]] = []

    @property
    def unconditional(self) -> bool:
        """Whether unconditional samples have a weight."""
        return self._unconditional is not None

    def of(
        self,
        generated: Tensor,
        positive: Tensor,
        unconditional: Tensor | None,
        validate: bool | None,
    ) -> Tensor | None:
        """Weights [L, M] of all targets of some samples in their order; None if all are one.

        Checked against the samples; their values are read, if at all, once for all features.
        """
        parts = self._parts(generated, positive, unconditional)
        if all(value is None for _, value, _ in parts):
            return None
        labels, dtype = generated.shape[0], loss_dtype(generated)
        for name, value, width in parts:
            if value is not None:
                check_weight(name, value, (labels, width), generated.device)
        kind = (labels, dtype, *(width for _, _, width in parts), reads_values(generated, validate))
        # No mapping: sizes may be symbols of torch.compile, which compare but have no hash.
        for known, whole in self._wholes:
            if known == kind:
                return whole
        if reads_values(generated, validate):
            self._check_values(dtype)
        whole = _whole(parts, generated)
        self._wholes.append((kind, whole))
        return whole

    def _check_values(self, dtype: torch.dtype) -> None:
        """Look at the weights as they are used: a large one may overflow in ``dtype``."""
        for name, value in (
            ("unconditional_weight", self._unconditional),
            ("generated_weight", self._generated),
            ("positive_weight", self._positive),
        ):
            if value is not None:
                check_not_negative(name, value.to(dtype))

    def _parts(
        self, generated: Tensor, positive: Tensor, unconditional: Tensor | None
    ) -> list[tuple[str, Tensor | None, int]]:
        """Name, weight and number of the targets of each kind, in their order."""
        labels, count = generated.shape[:2]
        weight = self._unconditional
        parts: list[tuple[str, Tensor | None, int]] = [
            ("positive_weight", self._positive, positive.shape[1]),
            ("generated_weight", self._generated, count),
        ]
        if unconditional is None:
            if weight is not None:
                raise ValueError("unconditional_weight is given without unconditional samples")
            return parts
        width = unconditional.shape[1]
        if weight is None:
            raise ValueError(
                "unconditional_weight is None, expected the weight w of the unconditional samples "
                f"({labels},) or ({labels}, {width}); cfg_alpha_to_weight gives it"
            )
        if isinstance(weight, Tensor) and weight.dim() == 1:  # pyright: ignore[reportUnnecessaryIsInstance] -- callers need not be type-checked
            if tuple(weight.shape) != (labels,):
                raise ValueError(
                    f"unconditional_weight has shape {tuple(weight.shape)}, expected "
                    f"({labels},): one weight per label, or ({labels}, {width})"
                )
            weight = weight.unsqueeze(1).expand(labels, width)
        return [*parts, ("unconditional_weight", weight, width)]


def _whole(parts: list[tuple[str, Tensor | None, int]], generated: Tensor) -> Tensor:
    """All weights [L, M] beside one another."""
    labels, dtype = generated.shape[0], loss_dtype(generated)
    return torch.cat(
        [
            generated.new_ones((labels, width), dtype=dtype)
            if value is None
            else value.detach().to(dtype)
            for _, value, width in parts
        ],
        dim=1,
    )
