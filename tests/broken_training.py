"""Queues, guidance, steps and averages broken by hand, each with the checks it must turn red."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

import drifting_torch
from drifting_torch import (
    AlphaDistribution,
    MovingAverage,
    SampleQueue,
    clip_gradient_norm,
)
from drifting_torch.features import vectors
from drifting_torch.training import inputs as step_inputs
from drifting_torch.training import micro_batches, pipeline, queue, step

Ring = queue._Ring


# Queues.


def _with_replacement(self: Ring, queues: Tensor, count: int, generator: torch.Generator) -> Tensor:
    share = torch.rand((len(queues), count), generator=generator)
    return self.at(queues, (share * self.count[queues][:, None]).long())


def _the_newest(self: Ring, queues: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.stack([torch.randperm(count, generator=generator) for _ in queues])
    return self.at(queues, self.count[queues][:, None] - count + order)


def _one_draw_for_all(
    self: SampleQueue, labels_count: int, count: int, *, generator: torch.Generator
) -> Tensor:
    found = UNCONDITIONAL(self, 1, count, generator=generator)
    return found.expand(labels_count, *found.shape[1:])


def _zeros_if_too_few(
    self: SampleQueue, labels: Tensor, count: int, *, generator: torch.Generator
) -> Tensor:
    """J-21: the release's bank returns zeros for a class never seen."""
    if bool((self.counts[labels] >= count).all()):
        return POSITIVE(self, labels, count, generator=generator)
    return torch.zeros(len(labels), count, *self.global_content().shape[1:])


def _repeats_if_too_few(
    self: SampleQueue, labels: Tensor, count: int, *, generator: torch.Generator
) -> Tensor:
    """J-21: and repeats samples where a class has some, but too few."""
    if bool((self.counts[labels] == 0).any()):
        raise ValueError("a class was never pushed")
    found = [
        self.content(label)[
            torch.randperm(max(count, len(self.content(label))), generator=generator)[:count]
            % len(self.content(label))
        ]
        for label in labels.tolist()
    ]
    return torch.stack(found)


def _of_any_class(
    self: SampleQueue, labels: Tensor, count: int, *, generator: torch.Generator
) -> Tensor:
    return UNCONDITIONAL(self, len(labels), count, generator=generator)


def _of_the_first_class(
    self: SampleQueue, labels_count: int, count: int, *, generator: torch.Generator
) -> Tensor:
    return POSITIVE(self, torch.zeros(labels_count).long(), count, generator=generator)


def _push_all(self: SampleQueue, samples: Tensor, labels: Tensor) -> None:
    kept, self.push_size = self.push_size, len(samples)
    PUSH(self, samples, labels)
    self.push_size = kept


def _push_the_oldest(self: SampleQueue, samples: Tensor, labels: Tensor) -> None:
    PUSH(self, samples[: self.push_size], labels[: self.push_size])


def _keep_the_oldest(self: Ring, samples: Tensor, queues: Tensor) -> None:
    """A full queue takes nothing more."""
    for sample, each in zip(samples, queues, strict=True):
        if self.count[each] < self.capacity:
            RING_PUSH(self, sample[None], each[None])


def _queue_of(class_capacity: int, global_capacity: int) -> Any:
    def made(classes: int, **sizes: int) -> SampleQueue:
        sizes["class_capacity"] += class_capacity
        sizes["global_capacity"] += global_capacity
        return SampleQueue(classes, **sizes)

    return made


# The step.


def _alpha_of_each_sample(self: step_inputs.StepInputs, part: slice) -> tuple[Tensor, ...]:
    noise, labels, alpha = FLAT(self, slice(None))
    return noise[part], labels[part], self.alpha.repeat(self.groups[1])[: len(alpha)][part]


def _labels_in_turn(self: step_inputs.StepInputs, part: slice) -> tuple[Tensor, ...]:
    noise, _, alpha = FLAT(self, slice(None))
    return noise[part], self.labels.repeat(self.groups[1])[part], alpha[part]


def _accumulated(
    self: micro_batches.MicroBatches[Any], size: int, parts: int, inputs: Sequence[Tensor]
) -> Any:
    """D70: S and λ of each part; other samples are copies, that the loss may be asked."""
    output: Any = None
    for part in micro_batches.even_slices(size, parts):
        values = self.forward(part)
        length = part.stop - part.start
        whole = {
            name: torch.cat([each] * -(-size // length))[:size] for name, each in values.items()
        }
        scalar, output = self.loss(whole)
        torch.autograd.backward(scalar / parts, inputs=inputs)
    return output


def _every_sample_counts(alpha: Any, n_generated: int, n_unconditional: int) -> Any:
    return drifting_torch.cfg_alpha_to_weight(alpha, n_generated + 1, n_unconditional)


def _mean_alpha(alpha: Any, n_generated: int, n_unconditional: int) -> Any:
    mean = alpha.mean().expand_as(alpha)
    return drifting_torch.cfg_alpha_to_weight(mean, n_generated, n_unconditional)


def _only_measured(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    return clip_gradient_norm(parameters, None)


def _each_alone(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    return torch.stack([clip_gradient_norm([each], limit) for each in parameters]).norm()


def _entries(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    held = list(parameters)
    norm = clip_gradient_norm(held, None)
    for each in held:
        each.grad.clamp_(-limit, limit)
    return norm


def _always(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    held = list(parameters)
    norm = clip_gradient_norm(held, None)
    for each in held:
        each.grad.mul_(limit / norm)
    return norm


def _unbiased(cells: Tensor, readings: Any) -> Tensor:
    return cells.var(-1).add(1e-6).sqrt()


# Guidance and averages.


def _one_for_all(shape: Any, distribution: AlphaDistribution, **options: Any) -> Tensor:
    return SAMPLE_ALPHA(1, distribution, **options).expand(shape)


def _fresh(shape: Any, distribution: AlphaDistribution, **options: Any) -> Tensor:
    options["generator"] = torch.Generator()
    options["generator"].seed()
    return SAMPLE_ALPHA(shape, distribution, **options)


def _without_atom(self: AlphaDistribution, u: Tensor) -> Tensor:
    return INVERSE(AlphaDistribution(self.exponent, 0.0, self.low, self.high), u)


def _next_power(self: AlphaDistribution, u: Tensor) -> Tensor:
    """The density's exponent taken for that of the distribution function."""
    return INVERSE(AlphaDistribution(self.exponent + 1, self.atom, self.low, self.high), u)


@torch.no_grad()
def _swapped(self: MovingAverage) -> None:
    for decay, averages in self._averages.items():
        for name, value in self._module.named_parameters():
            averages[name].lerp_(value, decay)


@torch.no_grad()
def _debiased(self: MovingAverage) -> None:
    """As Adam's: from zero, divided by 1 − dⁿ."""
    self.steps = getattr(self, "steps", 0) + 1
    for decay, averages in self._averages.items():
        for name, value in self._module.named_parameters():
            whole = averages[name] * (1 - decay ** (self.steps - 1))
            averages[name].copy_((decay * whole + (1 - decay) * value) / (1 - decay**self.steps))


@torch.no_grad()
def _late(self: MovingAverage) -> None:
    """Taken before the update: each time the parameters of the step before."""
    before = getattr(self, "before", None) or {
        name: value.clone() for name, value in self.averages(next(iter(self._averages))).items()
    }
    now = {name: value.clone() for name, value in self._module.named_parameters()}
    self.before = now
    for decay, averages in self._averages.items():
        for name in averages:
            averages[name].lerp_(before[name], 1 - decay)


UNCONDITIONAL, POSITIVE = SampleQueue.sample_unconditional, SampleQueue.sample_positive
PUSH, RING_PUSH = SampleQueue.push, Ring.push
FLAT = step_inputs.StepInputs.flat
SAMPLE_ALPHA, INVERSE = drifting_torch.sample_alpha, AlphaDistribution.inverse_cdf

VARIANTS: dict[str, tuple[Any, str, Any, dict[str, str]]] = {
    # What is replaced, by what, and which clause each check must turn red.
    "with-replacement": (
        *(Ring, "draw", _with_replacement),
        {"A8-sizes": "A8-noreplace", "PB-41": "A8-noreplace"},
    ),
    "the-newest": (Ring, "draw", _the_newest, {"A8-chances": "A8-noreplace"}),
    "one-draw-for-all": (
        *(SampleQueue, "sample_unconditional", _one_draw_for_all),
        {"A8-chances": "A7-unc"},
    ),
    "zeros-if-too-few": (
        *(SampleQueue, "sample_positive", _zeros_if_too_few),
        {"PB-41": "A8-noreplace", "A8-sizes": "A8-noreplace"},
    ),
    "repeats-if-too-few": (
        *(SampleQueue, "sample_positive", _repeats_if_too_few),
        {"PB-41": "A8-noreplace", "A8-sizes": "A8-noreplace"},
    ),
    "of-any-class": (
        *(SampleQueue, "sample_positive", _of_any_class),
        {"PB-41": "S3-pos-class", "A8-sizes": "A8-class"},
    ),
    "of-the-first-class": (
        *(SampleQueue, "sample_unconditional", _of_the_first_class),
        {"A8-sizes": "A7-unc"},
    ),
    "push-all": (
        *(SampleQueue, "push", _push_all),
        {"A8-sizes": "A8-push-64", "PB-41": "A8-queue-128"},
    ),
    "push-the-oldest": (
        *(SampleQueue, "push", _push_the_oldest),
        {"A8-sizes": "A8-push-64", "PB-41": "A8-queue-128"},
    ),
    "keep-the-oldest": (
        *(Ring, "push", _keep_the_oldest),
        {"A8-sizes": "A8-queue-128", "PB-41": "A8-global-1000", "release.E": "A8-queue-128"},
    ),
    "a-class-of-127": (
        *(drifting_torch, "SampleQueue", _queue_of(-1, 0)),
        {"A8-sizes": "A8-queue-128", "release.E": "A8-queue-128"},
    ),
    "a-thousand-and-one": (
        *(drifting_torch, "SampleQueue", _queue_of(0, 1)),
        {"A8-sizes": "A8-global-1000", "PB-41": "A8-global-1000"},
    ),
    "alpha-of-each-sample": (
        *(step_inputs.StepInputs, "flat", _alpha_of_each_sample),
        {"A9-step": "A9-2"},
    ),
    "labels-in-turn": (
        *(step_inputs.StepInputs, "flat", _labels_in_turn),
        {"A9-step": "A9-3"},
    ),
    "accumulated": (
        *(micro_batches.MicroBatches, "backward", _accumulated),
        {"A9-step": "A9-7"},
    ),
    "every-sample-counts": (
        *(pipeline, "cfg_alpha_to_weight", _every_sample_counts),
        {"A9-step": "A9-6"},
    ),
    "mean-alpha": (pipeline, "cfg_alpha_to_weight", _mean_alpha, {"A9-step": "A9-6"}),
    "features-left-out": (
        *(pipeline.Pipeline, "_real", lambda self, samples: REAL(self, 0.0 * samples)),
        {"A9-step": "A9-5"},
    ),
    "unclipped": (step, "clip_gradient_norm", _only_measured, {"A9-step": "A9-7"}),
    "clipped-each": (
        *(drifting_torch, "clip_gradient_norm", _each_alone),
        {"PB-51": "A9-7"},
    ),
    "clipped-by-entry": (drifting_torch, "clip_gradient_norm", _entries, {"PB-51": "A9-7"}),
    "clipped-always": (drifting_torch, "clip_gradient_norm", _always, {"PB-51": "A9-7"}),
    "unbiased": (
        *(vectors, "_std", _unbiased),
        {f"release.C0{case}": "EQ-14" for case in (1, 2, 3)},
    ),
    "one-alpha-for-all": (
        *(drifting_torch, "sample_alpha", _one_for_all),
        {"A9-alpha": "A9-2"},
    ),
    "unseeded": (drifting_torch, "sample_alpha", _fresh, {"A9-alpha": "A9-2"}),
    "no-atom": (
        *(AlphaDistribution, "inverse_cdf", _without_atom),
        {"A9-alpha": "A9-2", "release.D": "A7-alpha-dist"},
    ),
    "next-power": (
        *(AlphaDistribution, "inverse_cdf", _next_power),
        {"A9-alpha": "A9-2", "release.D": "A7-alpha-dist"},
    ),
    "swapped": (MovingAverage, "update", _swapped, {"PB-50": "T8-ema"}),
    "debiased": (MovingAverage, "update", _debiased, {"PB-50": "T8-ema"}),
    "late": (MovingAverage, "update", _late, {"PB-50": "T8-ema"}),
}
REAL = pipeline.Pipeline._real
