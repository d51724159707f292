"""What a training step is given, checked: every error names the argument and what is right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_torch.arguments.tensors import FLOATING, check_integer, is_number, reads_values

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class StepInputs:
    """Noise [L, N, ...], labels [L], α [L], real samples [L, P, ...] and [L, U, ...]."""

    noise: Tensor
    labels: Tensor
    alpha: Tensor
    positive: Tensor
    unconditional: Tensor | None

    @property
    def groups(self) -> tuple[int, int]:
        """L and N."""
        return self.noise.shape[0], self.noise.shape[1]

    def flat(self, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Noise, labels and α of some of the L·N samples, label-major."""
        count = self.groups[1]
        noise = self.noise.flatten(0, 1)[part]
        labels = self.labels.repeat_interleave(count)[part]
        return noise, labels, self.alpha.repeat_interleave(count)[part]


def check_config(autocast: object, limit: object, parts: object, classes: object) -> None:
    """Demand settings that a step can be done with."""
    if autocast not in (None, torch.bfloat16, torch.float16):
        raise ValueError(
            f"autocast is {autocast!r}, expected torch.bfloat16, torch.float16 or None for none"
        )
    for name, value in (("micro_batches", parts), ("classes", 1 if classes is None else classes)):
        check_integer(name, value)
    if limit is not None and not (is_number(limit) and limit > 0 and math.isfinite(limit)):
        raise ValueError(
            f"gradient_clip is {limit!r}, expected a finite number above 0, or None for no clipping"
        )


def check_inputs(
    noise: Tensor,
    labels: Tensor,
    alpha: Tensor,
    positive: Tensor,
    unconditional: Tensor | None,
    classes: int | None,
) -> StepInputs:
    """Demand inputs that fit together; values are read where that costs no synchronisation."""
    for name, value, letters in (
        ("noise", noise, "L, N, ..."),
        ("labels", labels, "L"),
        ("alpha", alpha, "L"),
        ("positive", positive, "L, P, ..."),
        ("unconditional", unconditional, "L, U, ..."),
    ):
        if not (isinstance(value, Tensor) or (value is None and name == "unconditional")):
            raise TypeError(f"{name} is {type(value).__name__}, expected a tensor [{letters}]")
    _check_grouped("noise", noise, "L, N")
    count, device = noise.shape[0], noise.device
    for name, value, letters in (
        ("positive", positive, "L, P"),
        ("unconditional", unconditional, "L, U"),
    ):
        if value is not None:
            _check_grouped(name, value, letters)
            _check_count(name, value, count)
    if unconditional is not None:
        if noise.shape[1] < 2:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, expected at least 2 samples for each label "
                "beside unconditional ones: their weight is (alpha - 1)(N - 1)/U"
            )
        if unconditional.shape[2:] != positive.shape[2:]:
            raise ValueError(
                f"unconditional has shape {tuple(unconditional.shape)}, expected samples of shape "
                f"{tuple(positive.shape[2:])} as positive has"
            )
        if unconditional.dtype != positive.dtype:
            raise TypeError(
                f"unconditional has dtype {unconditional.dtype}, expected {positive.dtype} as "
                "positive has"
            )
    if labels.dtype not in INTEGERS:
        raise TypeError(f"labels has dtype {labels.dtype}, expected an integer dtype")
    if alpha.dtype not in FLOATING:
        raise TypeError(f"alpha has dtype {alpha.dtype}, expected a floating dtype")
    for name, value in (("labels", labels), ("alpha", alpha)):
        if tuple(value.shape) != (count,):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected ({count},): one for each label "
                f"of noise {tuple(noise.shape)}"
            )
    for name, value in (
        ("labels", labels),
        ("alpha", alpha),
        ("positive", positive),
        ("unconditional", unconditional),
    ):
        if value is not None and value.device != device:
            raise ValueError(f"{name} is on {value.device}, expected {device} as noise is")
    _check_labels(labels, classes)
    _check_alpha(alpha, guided=unconditional is not None)
    return StepInputs(noise, labels, alpha.detach(), positive.detach(), _detached(unconditional))


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


def _check_grouped(name: str, value: Tensor, letters: str) -> None:
    if value.dtype not in FLOATING:
        raise TypeError(f"{name} has dtype {value.dtype}, expected a floating dtype")
    if value.dim() < 3 or 0 in value.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected [{letters}, ...]")


def _check_count(name: str, value: Tensor, labels: int) -> None:
    if value.shape[0] != labels:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected {labels} groups along its first "
            "axis: one for each label of noise"
        )


def _check_labels(labels: Tensor, classes: int | None) -> None:
    if not reads_values(labels, None):
        return
    outside = (labels < 0) if classes is None else (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        wanted = "labels of at least 0" if classes is None else f"labels from 0 to {classes - 1}"
        raise ValueError(f"labels holds {int(labels[outside][0])}, expected {wanted}")


def _check_alpha(alpha: Tensor, *, guided: bool) -> None:
    if not reads_values(alpha, None):
        return
    wrong = ~((alpha >= 1) & alpha.isfinite())
    if bool(wrong.any()):
        raise ValueError(
            f"alpha holds {float(alpha[wrong][0])}, expected finite guidance scales of at least 1"
        )
    if not guided and bool((alpha != 1).any()):
        raise ValueError(
            f"alpha holds {float(alpha[alpha != 1][0])} and unconditional is None, expected "
            "unconditional samples, or 1: guidance acts through them alone"
        )


def check_samples_like(samples: object, count: int, positive: Tensor) -> None:
    """Demand generated samples [B, ...] shaped as real ones."""
    if not isinstance(samples, Tensor):
        raise TypeError(f"the generator returned {type(samples).__name__}, expected a tensor")
    if samples.dtype not in FLOATING:
        raise TypeError(f"the generator returned dtype {samples.dtype}, expected a floating dtype")
    wanted = (count, *positive.shape[2:])
    if samples.device != positive.device:
        raise ValueError(
            f"the generator returned samples on {samples.device}, expected {positive.device} as "
            "positive is"
        )
    if tuple(samples.shape) != wanted:
        raise ValueError(
            f"the generator returned shape {tuple(samples.shape)}, expected {wanted}: one sample "
            f"for each noise, shaped as those of positive {tuple(positive.shape)}"
        )


def check_passes_gradient(name: str, value: Tensor) -> None:
    """Refuse what is cut off the graph where one is wanted (R-10)."""
    if torch.is_grad_enabled() and not value.requires_grad:
        raise ValueError(
            f"no gradient passes from {name} to the generator: something on the way "
            "is detached or under no_grad"
        )
