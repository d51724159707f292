"""The queues of real samples that positives and unconditional samples are drawn from (A.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.arguments.tensors import check_integer

CLASS_CAPACITY = 128
GLOBAL_CAPACITY = 1000
PUSH_SIZE = 64

UNKNOWN = -1
"""The label of samples that were pushed without one."""

_HELD = ("samples", "global_samples", "global_labels")
"""What a state has beside sizes and counts if anything was pushed."""

_HOST = torch.device("cpu")
"""Where it is kept which samples are where, whatever the default device."""


class _Ring:
    """First-in-first-out queues [queues, capacity, ...], addressed by age: 0 is the oldest."""

    # What inference mode makes could not be pushed to outside of it.
    @torch.inference_mode(False)
    def __init__(self, queues: int, capacity: int) -> None:
        self.capacity = capacity
        self.count = torch.zeros(queues, dtype=torch.int64, device=_HOST)
        self._pushed = torch.zeros_like(self.count)
        self.store: Tensor | None = None

    @torch.inference_mode(False)
    @torch.no_grad()
    def push(self, samples: Tensor, queues: Tensor) -> None:
        """Append each sample to its queue, in order."""
        if self.store is None:
            shape = (len(self.count), self.capacity, *samples.shape[1:])
            self.store = torch.empty(shape, dtype=samples.dtype, device=samples.device)
        # How many earlier samples of this push go to the same queue, and how many in all.
        totals = torch.bincount(queues, minlength=len(self.count))
        order = queues.argsort(stable=True)
        firsts = (totals.cumsum(0) - totals)[queues[order]]
        rank = torch.empty_like(queues)
        rank[order] = torch.arange(len(queues), device=_HOST) - firsts
        # Only the last ``capacity`` of them stay; the others would be overwritten at once.
        kept = rank >= totals[queues] - self.capacity
        slots = (self._pushed[queues] + rank) % self.capacity
        to = samples.device
        self.store[queues[kept].to(to), slots[kept].to(to)] = samples[kept.to(to)]
        self._pushed += totals
        self.count = self._pushed.clamp(max=self.capacity)

    def at(self, queues: Tensor, ages: Tensor) -> Tensor:
        """Gather samples by queue [L] and age [L, K]: [L, K, ...]."""
        assert self.store is not None
        slots = (self._pushed - self.count)[queues][:, None] + ages
        to = self.store.device
        return self.store[queues.to(to)[:, None], (slots % self.capacity).to(to)]

    def content(self, queue: int) -> Tensor:
        """All samples of one queue, the oldest first: [count, ...]."""
        ages = torch.arange(int(self.count[queue]), device=_HOST)
        return self.at(torch.tensor([queue], device=_HOST), ages[None])[0]

    def draw(self, queues: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Ages [L, count] of distinct samples of each queue, all orders equally likely."""
        keys = torch.rand(
            (len(queues), self.capacity), generator=generator, device=generator.device
        ).cpu()
        empty = torch.arange(self.capacity, device=_HOST)[None, :] >= self.count[queues][:, None]
        return keys.masked_fill_(empty, 2.0).argsort(dim=1)[:, :count]

    def draw_again(self, queues: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Ages [L, count] of samples of each queue, each drawn from all it holds."""
        share = torch.rand((len(queues), count), generator=generator, device=generator.device)
        held = self.count[queues][:, None]
        return (share.cpu().double() * held).long().minimum(held - 1)


class SampleQueue:
    """A queue of real samples for each class, and a global one (A.8).

    Positives of a label come from the queue of its class, unconditional samples of any class from
    the global queue; every draw is without replacement, unless it is asked for with it. A queue
    that holds fewer samples than are asked for is an error: nothing is repeated unasked, and
    nothing made up.

    A training run pushes until :meth:`is_ready` for what is drawn of every class, and then pushes
    and draws in turn.

    The global queue keeps the labels of its samples beside them.

    Samples live on the device and in the dtype of the first push; where the samples are, the
    draws are. Which samples are drawn depends on the generator and the queues' order alone, so
    that a CPU generator draws the same on every device and after loading a state.

    Parameters
    ----------
    classes
        Number of classes; labels are 0 … classes − 1.
    class_capacity, global_capacity
        Samples held for each class, and in the global queue; the newest stay.
    push_size
        How many samples a push takes: the newest of those given.
    """

    def __init__(
        self,
        classes: int,
        *,
        class_capacity: int = CLASS_CAPACITY,
        global_capacity: int = GLOBAL_CAPACITY,
        push_size: int = PUSH_SIZE,
    ) -> None:
        sizes = {
            "classes": classes,
            "class_capacity": class_capacity,
            "global_capacity": global_capacity,
            "push_size": push_size,
        }
        for name, value in sizes.items():
            check_integer(name, value)
        self.classes = classes
        self.push_size = push_size
        self._by_class = _Ring(classes, class_capacity)
        self._global = _Ring(1, global_capacity)
        self._global_labels = _Ring(1, global_capacity)

    @property
    def counts(self) -> Tensor:
        """Samples held of each class [classes], on the host."""
        return self._by_class.count.clone()

    @property
    def global_count(self) -> int:
        """Samples held in the global queue."""
        return int(self._global.count[0])

    def is_ready(self, positives: int, unconditional: int = 0) -> bool:
        """Whether so many can be drawn of every class, and of the global queue, unrepeated."""
        check_integer("positives", positives)
        check_integer("unconditional", unconditional, least=0)
        return int(self._by_class.count.min()) >= positives and self.global_count >= unconditional

    def stats(self) -> dict[str, float]:
        """What a log wants to show: how full the queues are, and how many classes are empty."""
        counts = self._by_class.count.double()
        return {
            "class_count_min": float(counts.min()),
            "class_count_mean": float(counts.mean()),
            "class_count_max": float(counts.max()),
            "empty_classes": float((counts == 0).sum()),
            "global_count": float(self.global_count),
        }

    @implements("A8-queue-128", "A8-global-1000", "A8-push-64")
    def push(self, samples: Tensor, labels: Tensor | None = None) -> None:
        """Put the newest ``push_size`` samples into their classes' queues and the global one.

        Parameters
        ----------
        samples
            Real samples [B, ...], the newest last; without a graph from here on.
        labels
            Their classes, integers [B]; read on the host. None for samples of unknown class, which
            go into the global queue alone.

        Raises
        ------
        ValueError, TypeError
            For labels out of range or of another number, and samples whose shape, dtype or device
            is not that of earlier pushes. Nothing is pushed then.
        """
        held = self._global.store
        if not isinstance(samples, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"samples is {type(samples).__name__}, expected a tensor [B, ...]")
        if samples.dim() < 1 or len(samples) == 0:
            raise ValueError(f"samples has shape {tuple(samples.shape)}, expected [B, ...], B >= 1")
        if held is not None:
            if samples.shape[1:] != held.shape[2:]:
                raise ValueError(
                    f"samples has shape {tuple(samples.shape)}, expected "
                    f"({len(samples)}, {', '.join(map(str, held.shape[2:]))}) as pushed before"
                )
            if samples.dtype != held.dtype:
                raise TypeError(f"samples has dtype {samples.dtype}, expected {held.dtype}")
            if samples.device != held.device:
                raise ValueError(f"samples is on {samples.device}, expected {held.device}")
        if labels is None:
            newest = samples.detach()[-self.push_size :]
            unknown = torch.full((len(newest),), UNKNOWN, dtype=torch.int64, device=_HOST)
            self._push_global(newest, unknown)
            return
        found = self._labels("labels", labels)
        if len(found) != len(samples):
            raise ValueError(
                f"labels holds {len(found)} labels for {len(samples)} samples, expected one each"
            )
        newest, found = samples.detach()[-self.push_size :], found[-self.push_size :]
        self._by_class.push(newest, found)
        self._push_global(newest, found)

    def _push_global(self, samples: Tensor, labels: Tensor) -> None:
        zeros = torch.zeros_like(labels)
        self._global.push(samples, zeros)
        self._global_labels.push(labels, zeros)

    @implements("A8-class", "A8-noreplace", "S3-pos-class")
    def sample_positive(
        self,
        labels: Tensor,
        count: int,
        *,
        generator: torch.Generator,
        replacement: bool = False,
    ) -> Tensor:
        """``count`` distinct samples of the class of each label [L]: [L, count, ...].

        Labels may repeat; each is drawn for on its own. ``ValueError`` for a class with fewer
        than ``count`` samples, naming the class, what it has and what it needs. With
        ``replacement``, which is not the paper's (A8-noreplace), one sample of a class is enough,
        and the same may come several times.
        """
        found = self._labels("labels", labels)
        check_integer("count", count)
        for label in found.tolist():
            has = int(self._by_class.count[label])
            if has == 0:
                raise ValueError(f"class {label} was never pushed, needs {count} samples")
            if has < count and not replacement:
                raise ValueError(
                    f"class {label} has {has} samples, needs {count}: a draw is without replacement"
                    f" (class_capacity is {self._by_class.capacity})"
                )
        draw = self._by_class.draw_again if replacement else self._by_class.draw
        return self._by_class.at(found, draw(found, count, generator))

    @implements("A8-class", "A8-noreplace", "A7-unc")
    def sample_unconditional(
        self,
        labels_count: int,
        count: int,
        *,
        generator: torch.Generator,
        replacement: bool = False,
    ) -> Tensor:
        """``count`` distinct samples of the global queue for each of ``labels_count`` labels.

        [labels_count, count, ...]; the labels' draws are independent of one another. ``ValueError``
        if the queue holds fewer than ``count``, or with ``replacement`` none at all.
        """
        samples, _ = self.sample_unconditional_with_labels(
            labels_count, count, generator=generator, replacement=replacement
        )
        return samples

    def sample_unconditional_with_labels(
        self,
        labels_count: int,
        count: int,
        *,
        generator: torch.Generator,
        replacement: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`sample_unconditional` draws, and its classes.

        Samples [labels_count, count, ...] and labels [labels_count, count], int64 on the host;
        −1 for samples that were pushed without one. Raises alike.
        """
        check_integer("labels_count", labels_count)
        check_integer("count", count)
        if self.global_count < (1 if replacement else count):
            raise ValueError(
                f"the global queue has {self.global_count} samples, needs {count}: a draw is "
                f"without replacement (global_capacity is {self._global.capacity})"
            )
        zeros = torch.zeros(labels_count, dtype=torch.int64, device=_HOST)
        draw = self._global.draw_again if replacement else self._global.draw
        ages = draw(zeros, count, generator)
        return self._global.at(zeros, ages), self._global_labels.at(zeros, ages)

    def content(self, label: int) -> Tensor:
        """Samples held of a class, the oldest first [count, ...]; ``ValueError`` if it has none."""
        found = int(self._labels("label", torch.tensor([label], device=_HOST))[0])
        if not self._by_class.count[found]:
            raise ValueError(f"class {label} was never pushed")
        return self._by_class.content(found)

    def global_content(self) -> Tensor:
        """Samples of the global queue, the oldest first; ``ValueError`` if there are none."""
        if not self.global_count:
            raise ValueError("nothing was pushed")
        return self._global.content(0)

    def global_labels(self) -> Tensor:
        """Classes [count] of :meth:`global_content`, int64 on the host; −1 for unknown ones.

        ``ValueError`` if there are none.
        """
        if not self.global_count:
            raise ValueError("nothing was pushed")
        return self._global_labels.content(0)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything held, the oldest first, and the sizes it belongs to."""
        state: dict[str, Any] = {**self._sizes(), "counts": self.counts}
        if self.global_count:
            held = [label for label, count in enumerate(self.counts.tolist()) if count]
            shared = self.global_content().clone()
            state["samples"] = torch.cat([shared[:0], *(self.content(label) for label in held)])
            state["global_samples"] = shared
            state["global_labels"] = self.global_labels().clone()
        return state

    def load_state_dict(
        self, state: Mapping[str, Any], *, device: torch.device | str | None = None
    ) -> None:
        """Hold what :meth:`state_dict` gave, on ``device`` (where the samples lie if None).

        ``ValueError`` if the state belongs to queues of other sizes or contradicts itself,
        ``KeyError`` or ``TypeError`` if it is none; the queue is as before then.
        """
        self._check_state(state)
        by_class = _Ring(self.classes, self._by_class.capacity)
        shared, of_shared = (_Ring(1, self._global.capacity) for _ in range(2))
        if "samples" in state:
            labels = torch.arange(self.classes, device=_HOST).repeat_interleave(
                state["counts"].cpu()
            )
            samples: Tensor = state["samples"].to(device)
            by_class.push(samples, labels)
            newest = state["global_samples"].to(samples.device)
            zeros = torch.zeros(len(newest), dtype=torch.int64, device=_HOST)
            shared.push(newest, zeros)
            of_shared.push(state["global_labels"].to(_HOST, torch.int64), zeros)
        self._by_class, self._global, self._global_labels = by_class, shared, of_shared

    def _check_state(self, state: Mapping[str, Any]) -> None:
        names = [*self._sizes(), "counts"]
        names += [*_HELD] if {*_HELD} & set(state) else []
        if missing := [name for name in names if name not in state]:
            raise KeyError(f"the state lacks {', '.join(missing)}: expected what state_dict() gave")
        for name, value in self._sizes().items():
            if state[name] != value:
                raise ValueError(f"the state has {name} {state[name]}, expected {value}")
        _check_tensors(state, [name for name in ("counts", *_HELD) if name in state])
        counts, held = state["counts"], len(state.get("samples", ()))
        if tuple(counts.shape) != (self.classes,) or int(counts.sum()) != held:
            raise ValueError(
                f"the state has {held} samples and counts of shape {tuple(counts.shape)} that add "
                f"up to {int(counts.sum())}, expected one count for each of {self.classes} classes "
                "and as many samples as they add up to"
            )
        if int(counts.min()) < 0:
            raise ValueError(f"the state has a count of {int(counts.min())}, expected at least 0")
        if held and (most := int(counts.max())) > self._by_class.capacity:
            raise ValueError(
                f"the state has {most} samples of a class, expected at most "
                f"{self._by_class.capacity}: class_capacity"
            )
        most = len(state.get("global_samples", ()))
        if most > self._global.capacity:
            raise ValueError(
                f"the state has {most} global_samples, expected at most {self._global.capacity}: "
                "global_capacity"
            )
        if "global_labels" in state:
            self._check_global_labels(state["global_labels"], most)

    def _check_global_labels(self, labels: Tensor, held: int) -> None:
        if tuple(labels.shape) != (held,):
            raise ValueError(
                f"the state has global_labels of shape {tuple(labels.shape)}, expected ({held},): "
                "one for each of global_samples"
            )
        if held and (int(labels.min()) < UNKNOWN or int(labels.max()) >= self.classes):
            raise ValueError(
                f"the state has global_labels from {int(labels.min())} to {int(labels.max())}, "
                f"expected classes from 0 to {self.classes - 1}, or {UNKNOWN} for unknown ones"
            )

    def _sizes(self) -> dict[str, int]:
        return {
            "classes": self.classes,
            "class_capacity": self._by_class.capacity,
            "global_capacity": self._global.capacity,
        }

    def _labels(self, name: str, labels: Tensor) -> Tensor:
        """Labels [L] on the host, in range."""
        if not isinstance(labels, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name} is {type(labels).__name__}, expected an integer tensor [L]")
        if labels.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            raise TypeError(f"{name} has dtype {labels.dtype}, expected an integer dtype")
        if labels.dim() != 1 or len(labels) == 0:
            raise ValueError(f"{name} has shape {tuple(labels.shape)}, expected [L], L >= 1")
        found = labels.cpu().long()
        outside: Sequence[int] = found[(found < 0) | (found >= self.classes)].tolist()
        if outside:
            raise ValueError(
                f"{name} holds {outside[0]}, expected classes from 0 to {self.classes - 1}"
            )
        return found


def _check_tensors(state: Mapping[str, Any], names: Sequence[str]) -> None:
    """Demand tensors, of integers the counts, and samples that one queue could hold."""
    for name in names:
        value = state[name]
        if not isinstance(value, Tensor):
            raise TypeError(f"the state's {name} is {type(value).__name__}, expected a tensor")
        if not value.dim():
            raise ValueError(f"the state's {name} is a single number, expected several")
    for name in ("counts", "global_labels"):
        kind = state[name].dtype if name in names else torch.int64
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            raise TypeError(f"the state's {name} has dtype {kind}, expected an integer dtype")
    if "samples" not in names:
        return
    own, shared = state["samples"], state["global_samples"]
    if own.shape[1:] != shared.shape[1:] or own.dtype != shared.dtype:
        raise ValueError(
            f"the state has samples {tuple(own.shape)} of {own.dtype} and global_samples "
            f"{tuple(shared.shape)} of {shared.dtype}, expected one kind of sample"
        )
