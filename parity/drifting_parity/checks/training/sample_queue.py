"""The queues of real samples (A.8): PB-41 against plain lists, the paper's sizes, the release's.

Each sample is a number of its own, so that what a queue holds and draws can be read off. The
release's bank (vector E) is compared push by push; its draws are not, since it repeats samples and
makes up zeros where a class has too few (J-21), which is an error here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import QueueSubject
from drifting_parity.cases import Array
from drifting_parity.checks.core import Check, Context, Property, Yield
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement, within

BY_CLASS = ("A8-queue-128",)
SHARED = ("A8-global-1000",)
NEWEST = ("A8-push-64",)
DISTINCT = ("A8-noreplace",)
POSITIVE = ("A8-class", "S3-pos-class", "A9-4")
UNCONDITIONAL = ("A8-class", "A7-unc", "A9-4")


class Lists:
    """What A.8 says, as lists of numbers."""

    def __init__(self, classes: int, by_class: int, shared: int, push_size: int) -> None:
        self.by_class = [list[float]() for _ in range(classes)]
        self.shared: list[float] = []
        self._sizes = (by_class, shared, push_size)

    def push(self, numbers: Sequence[float], labels: Sequence[int]) -> None:
        """Append the newest, drop the oldest."""
        for number, label in list(zip(numbers, labels, strict=True))[-self._sizes[2] :]:
            self.by_class[label].append(number)
            self.shared.append(number)
        self.by_class = [items[-self._sizes[0] :] for items in self.by_class]
        self.shared = self.shared[-self._sizes[1] :]


def out_of_place(got: Array, wanted: Sequence[float]) -> int:
    """How many entries of a content are not those wanted, a wrong length counting as all."""
    flat = np.ravel(got)
    if len(flat) != len(wanted):
        return max(len(flat), len(wanted))
    return int(np.sum(flat != np.asarray(wanted)))


def held(
    queue: QueueSubject, model: Lists, near: str, pushed: Sequence[float]
) -> Iterator[Measurement]:
    """The content of every queue, and the newest samples among them."""
    wrong = sum(
        out_of_place(queue.content(label), items) for label, items in enumerate(model.by_class)
    )
    yield within(BY_CLASS, "samples of a class out of place", near, wrong, 0)
    shared = queue.global_content()
    yield within(SHARED, "global samples out of place", near, out_of_place(shared, model.shared), 0)
    found, wanted = set(np.ravel(shared).tolist()), set(model.shared)
    missing = (found ^ wanted) & set(pushed)
    yield within(NEWEST, "of the last push missing or too many", near, len(missing), 0)


def drawn(found: Array, kept: Sequence[Sequence[float]], count: int) -> tuple[int, int, int]:
    """Draws of another shape, samples repeated, samples that are not of the queue asked for."""
    if found.shape[:2] != (len(kept), count):
        return 1, 0, 0
    rows = found.reshape(len(kept), count)
    repeated = sum(count - len(set(row.tolist())) for row in rows)
    foreign = sum(
        len(set(row.tolist()) - set(items)) for row, items in zip(rows, kept, strict=True)
    )
    return 0, repeated, foreign


def draws(queue: QueueSubject, model: Lists, near: str, seed: int) -> Iterator[Measurement]:
    """Whole queues and parts of them, and more than they hold."""
    full = [label for label, items in enumerate(model.by_class) if items]
    for label in full:
        items = model.by_class[label]
        for count in sorted({1, (len(items) + 1) // 2, len(items)}):
            found = queue.positive([label, label], count, seed)
            shape, repeated, foreign = drawn(found, [items, items], count)
            yield within(("A9-4",), "draws of another shape", near, shape, 0)
            yield within(DISTINCT, "samples repeated in a draw", near, repeated, 0)
            yield within(POSITIVE, "positives of another class", near, foreign, 0)
    for count in sorted({1, len(model.shared)}):
        found = queue.unconditional(3, count, seed)
        shape, repeated, foreign = drawn(found, [model.shared] * 3, count)
        yield within(("A9-4",), "draws of another shape", near, shape, 0)
        yield within(DISTINCT, "samples repeated in a draw", near, repeated, 0)
        yield within(UNCONDITIONAL, "unconditional samples of elsewhere", near, foreign, 0)
    yield from too_many(queue, model, near, seed)


def too_many(queue: QueueSubject, model: Lists, near: str, seed: int) -> Iterator[Measurement]:
    """More than a queue holds, and a class never seen: nothing is repeated or made up."""
    wrong = 0
    for label, items in enumerate(model.by_class):
        try:
            found = queue.positive([label], len(items) + 1, seed)
        except Exception:  # the refusal that is wanted, of whatever type
            continue
        wrong += sum(drawn(found, [items], found.shape[1])[1:])
    try:
        found = queue.unconditional(1, len(model.shared) + 1, seed)
    except Exception:  # likewise
        found = np.empty((1, 0))
    wrong += sum(drawn(found, [model.shared], found.shape[1])[1:])
    yield within(DISTINCT, "samples repeated or made up (P-35)", near, wrong, 0)


Pushes = tuple[tuple[int, int, int, int], list[list[int]], int]


def _pushes(draw: Draw) -> Pushes:
    sizes = (draw.integer(1, 4), draw.integer(1, 5), draw.integer(1, 9), draw.integer(1, 6))
    random = generator(draw)
    lengths = [draw.integer(1, 9) for _ in range(draw.integer(1, 5))]
    labels = [random.integers(sizes[0], size=length).tolist() for length in lengths]
    return sizes, labels, draw.integer(0, 2**31)


def _machine(ctx: Context, inputs: Pushes) -> Iterator[Measurement]:
    sizes, pushes, seed = inputs
    queue, model = ctx.adapter.sample_queue(*sizes), Lists(*sizes)
    near, number = f"classes, capacities, push {sizes}; {len(pushes)} pushes", 0
    for labels in pushes:
        numbers = [float(each) for each in range(number + 1, number + 1 + len(labels))]
        number += len(labels)
        queue.push(np.array(numbers)[:, None], labels)
        model.push(numbers, labels)
        yield from held(queue, model, near, numbers)
    yield from draws(queue, model, near, seed)


def _sizes(ctx: Context) -> Iterator[Yield]:
    """128, 1000 and 64: two classes, 40 pushes of 70 of which 64 are taken; whole draws."""
    sizes = (2, 128, 1000, 64)
    queue, model = ctx.adapter.sample_queue(*sizes), Lists(*sizes)
    numbers: list[float] = []
    for step in range(40):
        numbers = [float(70 * step + each) for each in range(1, 71)]
        labels = [each % 2 for each in range(70)]
        queue.push(np.array(numbers)[:, None], labels)
        model.push(numbers, labels)
    near = "128 for each class, 1000, 64 pushes"
    yield from held(queue, model, near, numbers)
    yield from draws(queue, model, near, ctx.seed)
    # Whole draws of the global queue hold both classes: 500 of each, P-31.
    both = queue.unconditional(1, 1000, ctx.seed)[0].ravel() % 2
    share = abs(float(both.mean()) - 0.5)
    yield within(UNCONDITIONAL, "share of one class of two", near, share, 0.0)


def _chances(ctx: Context) -> Iterator[Yield]:
    """Every sample of a queue comes equally often: 4000 draws of 2 of 5, as a χ² of 4 degrees."""
    queue = ctx.adapter.sample_queue(1, 5, 5, 5)
    queue.push(np.arange(1.0, 6.0)[:, None], [0] * 5)
    near = "4000 draws of 2 of 5"
    for clauses, found in (
        (("A8-noreplace", *POSITIVE), queue.positive([0] * 4000, 2, ctx.seed)),
        (("A8-noreplace", *UNCONDITIONAL), queue.unconditional(4000, 2, ctx.seed)),
    ):
        counts = np.array([np.sum(found == number) for number in range(1, 6)])
        # Without replacement counts vary by 1 − 2/5 of the binomial's; 60 is exceeded by chance
        # with probability 3e-12.
        spread = float(np.sum((counts - 1600.0) ** 2 / 1600.0) / (1.0 - 2.0 / 5.0))
        yield within(clauses, "χ² of the samples' numbers", near, spread * 0.8, 60.0)


def _release(ctx: Context) -> Iterator[Yield]:
    """The release's bank after each push: slots in order of age, exactly."""
    arrays = golden.load("E")
    classes, capacity = (int(size) for size in arrays["num_classes_max_size"])
    samples, labels = np.asarray(arrays["in_samples"], dtype=np.float64), arrays["in_labels"]
    offsets, bank = arrays["push_offsets"], np.asarray(arrays["bank_after_push"], dtype=np.float64)
    queue = ctx.adapter.sample_queue(classes, capacity, len(samples), len(samples))
    for push in range(len(offsets) - 1):
        part = slice(int(offsets[push]), int(offsets[push + 1]))
        queue.push(samples[part], labels[part].tolist())
        for label in range(classes):
            count, pointer = (
                int(arrays[f"{name}_after_push"][push, label]) for name in ("count", "ptr")
            )
            # A full ring's oldest sample is where the next one goes.
            oldest = np.roll(bank[push, label], -pointer if count == capacity else 0, axis=0)
            got, wanted = queue.content(label), oldest[:count]
            wrong = out_of_place(got, wanted.ravel().tolist())
            yield within(BY_CLASS, "entries out of place", f"E, push {push + 1}", wrong, 0)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-41",
        "Sample queues against lists: order, capacities, distinct draws, the right queue, refusals",
        (*BY_CLASS, *SHARED, *NEWEST, *DISTINCT, "A8-class", "S3-pos-class", "A7-unc", "A9-4"),
        _pushes,
        _machine,
    ),
)

CHECKS: tuple[Check, ...] = (
    Check(
        "A8-sizes",
        "The queues' sizes: 128, 1000, 64 pushes",
        (*BY_CLASS, *SHARED, *NEWEST, *DISTINCT, "A8-class", "S3-pos-class", "A7-unc", "A9-4"),
        "golden value",
        _sizes,
    ),
    Check(
        "A8-chances",
        "Draws are uniform: every sample equally often (the newest, or the oldest, preferred)",
        (*DISTINCT, "A8-class", "S3-pos-class", "A7-unc", "A9-4"),
        "golden value",
        _chances,
    ),
    Check(
        "release.E",
        "release vector E: ring buffer push order, wrap-around, counts, empty class",
        BY_CLASS,
        "vector",
        _release,
    ),
)
