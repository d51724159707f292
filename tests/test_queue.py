"""The sample queues of A.8: what they hold, what they draw, what they refuse."""

from __future__ import annotations

import pytest
import torch

from drifting_torch import SampleQueue


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(first: int, count: int) -> torch.Tensor:
    """Samples [count, 2] that carry their own number."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return torch.stack([numbers, -numbers], dim=1)


def filled(classes: int = 3, count: int = 30, **sizes: int) -> SampleQueue:
    queue = SampleQueue(classes, **sizes)
    for start in range(0, count, 10):
        queue.push(numbered(start, 10), torch.arange(start, start + 10) % classes)
    return queue


def test_sizes_of_the_paper() -> None:
    queue = SampleQueue(2)
    for step in range(40):
        queue.push(numbered(64 * step, 64), torch.arange(64) % 2)
    assert queue.counts.tolist() == [128, 128]
    assert queue.global_count == 1000
    last = 64 * 40
    assert queue.content(0)[:, 0].tolist() == list(range(last - 256, last, 2))
    assert queue.content(1)[:, 0].tolist() == list(range(last - 255, last, 2))
    assert queue.global_content()[:, 0].tolist() == list(range(last - 1000, last))


def test_a_push_takes_the_newest() -> None:
    queue = SampleQueue(1, push_size=4)
    queue.push(numbered(0, 10), torch.zeros(10, dtype=torch.int64))
    assert queue.content(0)[:, 0].tolist() == [6.0, 7.0, 8.0, 9.0]


def test_a_push_longer_than_the_queue_keeps_its_end() -> None:
    queue = SampleQueue(2, class_capacity=3, global_capacity=4)
    queue.push(numbered(0, 11), torch.tensor([0] * 10 + [1]))
    assert queue.content(0)[:, 0].tolist() == [7.0, 8.0, 9.0]
    assert queue.global_content()[:, 0].tolist() == [7.0, 8.0, 9.0, 10.0]


def test_a_full_draw_is_a_permutation_of_the_queue() -> None:
    queue = filled(class_capacity=8)
    drawn = queue.sample_positive(torch.tensor([1, 1, 2]), 8, generator=rng())
    assert drawn.shape == (3, 8, 2)
    for label, found in zip((1, 1, 2), drawn, strict=True):
        assert sorted(found[:, 0].tolist()) == queue.content(label)[:, 0].tolist()
    assert not torch.equal(drawn[0], drawn[1])  # the labels' draws are independent


def test_all_pairs_come_equally_often() -> None:
    queue = filled(classes=1, count=10, class_capacity=4, global_capacity=4)
    zeros = torch.zeros(6000, dtype=torch.int64)
    draws = (
        queue.sample_positive(zeros, 2, generator=rng(5)),
        queue.sample_unconditional(6000, 2, generator=rng(6)),
    )
    for drawn in draws:
        pairs, counts = torch.unique(drawn[:, :, 0], dim=0, return_counts=True)
        assert len(pairs) == 12
        # 500 expected of each ordered pair, standard deviation 21.4.
        assert int((counts - 500).abs().max()) < 120


def test_unconditional_samples_are_of_every_class() -> None:
    queue = filled(classes=3, count=30, class_capacity=5, global_capacity=20)
    drawn = queue.sample_unconditional(4, 20, generator=rng())
    for found in drawn:
        assert sorted(found[:, 0].tolist()) == list(range(10, 30))


def test_draws_follow_the_generator_alone() -> None:
    queue = filled()
    labels = torch.tensor([0, 2])
    torch.manual_seed(1)
    first = queue.sample_positive(labels, 3, generator=rng(1))
    torch.manual_seed(2)
    assert torch.equal(first, queue.sample_positive(labels, 3, generator=rng(1)))
    assert not torch.equal(first, queue.sample_positive(labels, 3, generator=rng(2)))


def test_a_state_resumes_exactly() -> None:
    sizes = {"class_capacity": 4, "global_capacity": 7}
    queue = filled(classes=4, count=20, **sizes)
    queue.push(numbered(50, 3), torch.tensor([1, 1, 1]))
    state = queue.state_dict()
    labels = torch.tensor([0, 1, 1])

    def draws(one: SampleQueue) -> list[torch.Tensor]:
        return [
            one.sample_positive(labels, 4, generator=rng(9)),
            one.sample_unconditional(3, 5, generator=rng(9)),
        ]

    before = draws(queue)
    queue.push(numbered(60, 5), torch.zeros(5, dtype=torch.int64))  # the state is a copy
    other = SampleQueue(4, **sizes)
    other.load_state_dict(state)
    for ours, theirs in zip(before, draws(other), strict=True):
        assert torch.equal(ours, theirs)
    other.push(numbered(60, 5), torch.zeros(5, dtype=torch.int64))
    for label in range(4):
        assert torch.equal(queue.content(label), other.content(label))
    assert torch.equal(queue.global_content(), other.global_content())


def test_an_empty_state_resumes() -> None:
    queue = SampleQueue(2)
    queue.load_state_dict(SampleQueue(2).state_dict())
    assert queue.counts.tolist() == [0, 0]
    with pytest.raises(ValueError, match="the state has classes 3, expected 2"):
        queue.load_state_dict(SampleQueue(3).state_dict())


def test_inference_mode_leaves_queues_that_can_be_pushed_to() -> None:
    with torch.inference_mode():
        queue = SampleQueue(2)
        queue.push(numbered(0, 4), torch.tensor([0, 1, 0, 1]))
        samples, labels = numbered(4, 2), torch.tensor([0, 1])
    queue.push(samples, labels)  # made there, pushed here
    with torch.inference_mode():
        other = SampleQueue(2)
        other.load_state_dict(queue.state_dict())
    other.push(numbered(6, 2), labels)
    assert other.content(0)[:, 0].tolist() == [0.0, 2.0, 4.0, 6.0]
    drawn = other.sample_positive(torch.tensor([1]), 4, generator=rng())
    assert not drawn.is_inference()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", [{"dtype": torch.float64}, {"dtype": torch.uint8}])
def test_a_state_of_another_dtype_is_held_as_it_is(kind: dict) -> None:
    """And the next push must be alike, whatever was pushed before the state came."""
    given = SampleQueue(2)
    given.push(numbered(0, 4).abs().to(**kind), torch.tensor([0, 1, 0, 1]))
    queue = filled(classes=2)
    queue.load_state_dict(given.state_dict())
    assert queue.content(0).dtype == kind["dtype"]
    with pytest.raises(TypeError, match=f"dtype torch.float32, expected {kind['dtype']}"):
        queue.push(numbered(4, 1), torch.tensor([0]))
    queue.push(numbered(4, 1).abs().to(**kind), torch.tensor([0]))
    assert queue.content(0)[:, 0].tolist() == [0, 2, 4]


def test_a_full_size_state_loads_without_quadratic_work() -> None:
    queue = SampleQueue(1000, push_size=128_000)
    queue.push(torch.arange(128_000.0)[:, None], torch.arange(128_000) % 1000)
    other = SampleQueue(1000)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.content(999), queue.content(999))


def test_samples_carry_no_graph() -> None:
    queue = SampleQueue(1)
    queue.push(torch.ones(2, 3, requires_grad=True), torch.zeros(2, dtype=torch.int64))
    zero = torch.zeros(1, dtype=torch.int64)
    assert not queue.sample_positive(zero, 2, generator=rng()).requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"counts": torch.tensor([3, 2])}, ValueError, r"the state has 4 samples and counts .* 5"),
        ({"counts": torch.tensor([4])}, ValueError, r"expected one count for each of 2 classes"),
        ({"samples": None}, KeyError, "the state lacks samples: expected what state_dict"),
        ({"global_samples": None}, KeyError, "the state lacks global_samples"),
        ({"classes": None}, KeyError, "the state lacks classes"),
        ({"class_capacity": 9}, ValueError, "the state has class_capacity 9, expected 128"),
        ({"counts": torch.tensor([5, -1])}, ValueError, "the state has a count of -1"),
        ({"counts": torch.tensor([2.0, 2.0])}, TypeError, "counts has dtype torch.float32"),
        ({"counts": [2, 2]}, TypeError, "the state's counts is list, expected a tensor"),
        ({"samples": [[1.0]] * 4}, TypeError, "the state's samples is list, expected a tensor"),
        (
            {"global_samples": torch.zeros(4, 3)},
            ValueError,
            r"samples \(4, 2\) of torch.float32 and global_samples \(4, 3\) of torch.float32",
        ),
        ({"global_samples": torch.zeros(4, 2).double()}, ValueError, "expected one kind of sample"),
        ({"global_labels": None}, KeyError, "the state lacks global_labels"),
        ({"global_labels": torch.zeros(3).long()}, ValueError, r"shape \(3,\), expected \(4,\)"),
        (
            {"global_labels": torch.tensor([0, 1, 2, 0])},
            ValueError,
            "from 0 to 2, expected classes",
        ),
        ({"global_labels": torch.tensor([0, 1, -2, 0])}, ValueError, "or -1 for unknown ones"),
        ({"global_labels": torch.zeros(4)}, TypeError, "global_labels has dtype torch.float32"),
        (
            {"global_samples": torch.zeros(1001, 2)},
            ValueError,
            "the state has 1001 global_samples, expected at most 1000: global_capacity",
        ),
    ],
)
def test_a_state_that_is_none_changes_nothing(
    change: dict, error: type[Exception], message: str
) -> None:
    queue = filled(classes=2, count=10)
    given = SampleQueue(2)
    given.push(numbered(20, 4), torch.tensor([0, 1, 0, 1]))
    state = {**given.state_dict(), **change}
    with pytest.raises(error, match=message):
        queue.load_state_dict({name: each for name, each in state.items() if each is not None})
    assert queue.content(1)[:, 0].tolist() == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert queue.global_count == 10


def call_positive(labels: list[int], count: int):
    return lambda q: q.sample_positive(torch.tensor(labels), count, generator=rng())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (call_positive([0, 3], 2), ValueError, "class 3 was never pushed, needs 2 samples"),
        (call_positive([0], 6), ValueError, r"class 0 has 5 samples, needs 6: a draw is without"),
        (call_positive([4], 1), ValueError, "labels holds 4, expected classes from 0 to 3"),
        (call_positive([-1], 1), ValueError, "labels holds -1, expected classes from 0 to 3"),
        (call_positive([0], 0), ValueError, "count is 0, expected at least 1"),
        (call_positive([], 1), TypeError, "labels has dtype torch.float32"),
        (
            lambda q: q.sample_unconditional(2, 11, generator=rng()),
            ValueError,
            "the global queue has 10 samples, needs 11: a draw is without replacement",
        ),
        (
            lambda q: q.sample_unconditional(0, 1, generator=rng()),
            ValueError,
            "labels_count is 0, expected at least 1",
        ),
        (
            lambda q: q.push(numbered(0, 2), torch.tensor([0, 4])),
            ValueError,
            "labels holds 4, expected classes from 0 to 3",
        ),
        (
            lambda q: q.push(numbered(0, 2), torch.tensor([0])),
            ValueError,
            "labels holds 1 labels for 2 samples",
        ),
        (
            lambda q: q.push(torch.zeros(2, 3), torch.tensor([0, 1])),
            ValueError,
            r"samples has shape \(2, 3\), expected \(2, 2\) as pushed before",
        ),
        (
            lambda q: q.push(numbered(0, 1).double(), torch.tensor([0])),
            TypeError,
            "samples has dtype torch.float64, expected torch.float32",
        ),
        (
            lambda q: q.push(numbered(0, 1).to("meta"), torch.tensor([0])),
            ValueError,
            "samples is on meta, expected cpu",
        ),
        (
            lambda q: q.push([[1.0, 2.0]], torch.tensor([0])),
            TypeError,
            r"samples is list, expected a tensor \[B, ...\]",
        ),
        (
            lambda q: q.push(numbered(0, 1), [0]),
            TypeError,
            r"labels is list, expected an integer tensor \[L\]",
        ),
        (call_positive([0], 2.5), TypeError, "count is 2.5, expected an integer"),
        (lambda q: SampleQueue(1.5), TypeError, "classes is 1.5, expected an integer"),
        (lambda q: q.push(torch.zeros(0, 2), torch.tensor([0])), ValueError, "expected .B, ..."),
        (lambda q: q.content(3), ValueError, "class 3 was never pushed"),
        (lambda q: SampleQueue(0), ValueError, "classes is 0, expected at least 1"),
        (lambda q: SampleQueue(1, push_size=0), ValueError, "push_size is 0"),
        (lambda q: SampleQueue(1).global_content(), ValueError, "nothing was pushed"),
    ],
)
def test_refusals(call, error: type[Exception], message: str) -> None:
    queue = SampleQueue(4)
    queue.push(numbered(0, 10), torch.arange(10) % 2)
    with pytest.raises(error, match=message):
        call(queue)
    assert queue.counts.tolist() == [5, 5, 0, 0]  # nothing was pushed on the way


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_queue_lives_on_a_gpu() -> None:
    queues = SampleQueue(2), SampleQueue(2)
    samples, labels = numbered(0, 12), torch.arange(12) % 2
    queues[0].push(samples, labels)
    queues[1].push(samples.cuda(), labels.cuda())
    drawn = [q.sample_positive(torch.tensor([1, 0]), 4, generator=rng(2)) for q in queues]
    assert drawn[1].is_cuda
    assert torch.equal(drawn[0], drawn[1].cpu())
    moved = SampleQueue(2)
    moved.load_state_dict(queues[0].state_dict(), device="cuda")
    assert torch.equal(moved.content(0).cpu(), queues[0].content(0))


# What trainers ask besides.


def test_it_is_ready_when_the_scarcest_class_is() -> None:
    queue = SampleQueue(2, global_capacity=8)
    assert not queue.is_ready(1)
    queue.push(numbered(0, 5), torch.tensor([0, 0, 0, 0, 1]))
    assert queue.is_ready(1, 5)
    assert not queue.is_ready(2, 5)
    assert not queue.is_ready(1, 6)
    queue.sample_positive(torch.tensor([0, 1]), 1, generator=rng())
    with pytest.raises(ValueError, match="positives is 0, expected at least 1"):
        queue.is_ready(0)
    with pytest.raises(ValueError, match="unconditional is -1, expected at least 0"):
        queue.is_ready(1, -1)


def test_stats_are_numbers_for_a_log() -> None:
    queue = SampleQueue(4)
    queue.push(numbered(0, 5), torch.tensor([0, 0, 0, 1, 1]))
    assert queue.stats() == {
        "class_count_min": 0.0,
        "class_count_mean": 1.25,
        "class_count_max": 3.0,
        "empty_classes": 2.0,
        "global_count": 5.0,
    }


def test_samples_of_unknown_class_are_drawn_from_the_global_queue_alone() -> None:
    queue = SampleQueue(2, push_size=4)
    queue.push(numbered(0, 6))
    assert queue.counts.tolist() == [0, 0]
    assert queue.global_content()[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    again = SampleQueue(2)
    again.load_state_dict(queue.state_dict())
    assert again.global_content()[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert again.counts.tolist() == [0, 0]
    with pytest.raises(ValueError, match="samples has shape"):
        queue.push(torch.zeros(1, 3), torch.tensor([0]))
    queue.push(numbered(6, 1), torch.tensor([1]))
    assert queue.counts.tolist() == [0, 1]
    assert queue.global_count == 5


def test_the_global_queue_keeps_labels_beside_its_samples() -> None:
    """Numbered samples tell their class themselves: 10·class + a number."""
    queue = SampleQueue(3, global_capacity=7, push_size=5)

    def numbers(labels: list[int]) -> torch.Tensor:
        return torch.tensor([[10.0 * each + at] for at, each in enumerate(labels)])

    for labels in ([0, 1, 2], [2, 2, 0, 1, 1, 0], [1]):
        queue.push(numbers(labels), torch.tensor(labels))
    queue.push(numbers([-1, -1]))

    def agree(samples: torch.Tensor, labels: torch.Tensor) -> None:
        assert labels.dtype == torch.int64
        assert torch.equal((samples[..., 0] / 10).floor().long(), labels)

    agree(queue.global_content(), queue.global_labels())
    assert queue.global_labels().tolist() == [0, 1, 1, 0, 1, -1, -1]
    again = SampleQueue(3, global_capacity=7, push_size=5)
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again.global_labels(), queue.global_labels())
    for replacement in (False, True):
        options = {"replacement": replacement}
        drawn = queue.sample_unconditional_with_labels(4, 6, generator=rng(3), **options)
        agree(*drawn)
        assert torch.equal(drawn[0], queue.sample_unconditional(4, 6, generator=rng(3), **options))
        theirs = again.sample_unconditional_with_labels(4, 6, generator=rng(3), **options)
        assert torch.equal(drawn[1], theirs[1])
    with pytest.raises(ValueError, match="nothing was pushed"):
        SampleQueue(1).global_labels()


def test_replacement_repeats_only_where_it_is_asked_for() -> None:
    queue = SampleQueue(2)
    queue.push(numbered(0, 3), torch.tensor([0, 0, 1]))
    label = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="class 0 has 2 samples, needs 400"):
        queue.sample_positive(label, 400, generator=rng())
    drawn = queue.sample_positive(label, 400, generator=rng(), replacement=True)[..., 0]
    assert set(drawn[0].tolist()) == {0.0, 1.0}
    assert set(drawn[1].tolist()) == {2.0}
    assert 150 < int((drawn[0] == 1.0).sum()) < 250
    shared = queue.sample_unconditional(2, 300, generator=rng(), replacement=True)[..., 0]
    assert set(shared.flatten().tolist()) == {0.0, 1.0, 2.0}
    assert not torch.equal(shared[0], shared[1])
    empty = SampleQueue(1)
    with pytest.raises(ValueError, match="the global queue has 0 samples"):
        empty.sample_unconditional(1, 1, generator=rng(), replacement=True)
    with pytest.raises(ValueError, match="class 0 was never pushed"):
        empty.sample_positive(torch.tensor([0]), 1, generator=rng(), replacement=True)
