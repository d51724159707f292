"""PB-41: the sample queue against plain lists, over sequences that Hypothesis chooses (A.8)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drifting_torch import SampleQueue

CLASSES = 3


class QueueMachine(RuleBasedStateMachine):
    """Every sample carries a number of its own, so that the model is lists of numbers."""

    @initialize(
        class_capacity=st.integers(1, 5),
        global_capacity=st.integers(1, 9),
        push_size=st.integers(1, 6),
    )
    def start(self, class_capacity: int, global_capacity: int, push_size: int) -> None:
        self.sizes = {
            "class_capacity": class_capacity,
            "global_capacity": global_capacity,
            "push_size": push_size,
        }
        self.queue = SampleQueue(CLASSES, **self.sizes)
        self.held: list[list[int]] = [[] for _ in range(CLASSES)]
        self.shared: list[int] = []
        self.pushed = 0

    @rule(labels=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=10))
    def push(self, labels: list[int]) -> None:
        numbers = list(range(self.pushed, self.pushed + len(labels)))
        self.pushed += len(labels)
        samples = torch.tensor(numbers, dtype=torch.float32)[:, None]
        self.queue.push(samples, torch.tensor(labels))
        newest = list(zip(numbers, labels, strict=True))[-self.sizes["push_size"] :]
        for number, label in newest:
            self.held[label].append(number)
            self.shared.append(number)

    @rule(
        labels=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=4),
        count=st.integers(1, 6),
        seed=st.integers(0, 2**31),
    )
    def draw_positives(self, labels: list[int], count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        kept = [self.held[label][-self.sizes["class_capacity"] :] for label in labels]
        short = [i for i, items in zip(labels, kept, strict=True) if len(items) < count]
        if short:
            with pytest.raises(ValueError, match=f"class {short[0]} "):
                self.queue.sample_positive(torch.tensor(labels), count, generator=generator)
            return
        drawn = self.queue.sample_positive(torch.tensor(labels), count, generator=generator)
        assert drawn.shape == (len(labels), count, 1)
        for found, items in zip(drawn[:, :, 0].int().tolist(), kept, strict=True):
            assert len(set(found)) == count
            assert set(found) <= set(items)

    @rule(labels=st.integers(1, 3), count=st.integers(1, 10), seed=st.integers(0, 2**31))
    def draw_unconditional(self, labels: int, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        kept = self.shared[-self.sizes["global_capacity"] :]
        if len(kept) < count:
            with pytest.raises(ValueError, match="the global queue has"):
                self.queue.sample_unconditional(labels, count, generator=generator)
            return
        drawn = self.queue.sample_unconditional(labels, count, generator=generator)
        for found in drawn[:, :, 0].int().tolist():
            assert len(set(found)) == count
            assert set(found) <= set(kept)

    @precondition(lambda self: self.pushed > 0)
    @rule()
    def resume(self) -> None:
        other = SampleQueue(CLASSES, **self.sizes)
        other.load_state_dict(self.queue.state_dict())
        self.queue = other

    @invariant()
    def holds_the_newest_in_order(self) -> None:
        counts = self.queue.counts.tolist()
        for label, items in enumerate(self.held):
            kept = items[-self.sizes["class_capacity"] :]
            assert counts[label] == len(kept)
            if kept:
                assert self.queue.content(label)[:, 0].int().tolist() == kept
        kept = self.shared[-self.sizes["global_capacity"] :]
        assert self.queue.global_count == len(kept)
        if kept:
            assert self.queue.global_content()[:, 0].int().tolist() == kept


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
