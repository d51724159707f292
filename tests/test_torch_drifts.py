"""Many channels: λ from traces of the Gram matrix equals λ from the drifts themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, Readings
from drifting_torch import DriftingLossOutput, drifting_loss
from drifting_torch.eager import chunks, drifts
from drifting_torch.eager import solve as eager
from drifting_torch.problem import slope as slopes
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.weights import TargetWeights

READINGS = {
    "paper": PAPER,
    "release": PRESETS["release"],
    "seed": PRESETS["seed"],
    "per label": replace(PAPER, statistics_scope="label"),
    "each vector": replace(PAPER, location_sharing="none"),
    "product": replace(PAPER, softmax_combination="product"),
}


def samples(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(
    readings: Readings = PAPER,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    apart: float = 0.3,
    unconditional: bool = True,
) -> tuple[DriftingLossOutput, Tensor]:
    leaf = (samples(2, 5, 3, 90, seed=1) * scale).to(dtype).requires_grad_()
    positive = ((samples(2, 6, 3, 90, seed=2) + apart) * scale).to(dtype)
    extra = (samples(2, 4, 3, 90, seed=3) * scale).to(dtype) if unconditional else None
    weight = torch.tensor([[0.0, 2.0, 0.5, 1.0]], dtype=dtype).expand(2, 4)
    found = drifting_loss(
        leaf, positive, extra, weight if unconditional else None, readings=readings
    )
    (3 * found.loss).backward()
    assert leaf.grad is not None
    return found, leaf.grad


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the traces were used, at each call."""
    seen: list[bool] = []
    original = drifts.KeptCoefficients.of

    def watched(*arguments: object) -> object:
        found = original(*arguments)  # pyright: ignore[reportArgumentType] -- passed on
        seen.append(found is not None)
        return found

    monkeypatch.setattr(drifts.KeptCoefficients, "of", watched)
    return seen


def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MANY_CHANNELS", 10**9)


@pytest.mark.parametrize("unconditional", [True, False], ids=["guided", "plain"])
@pytest.mark.parametrize("name", READINGS)
def test_traces_are_the_drifts_squares(
    name: str, unconditional: bool, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gradient = solved(READINGS[name], unconditional=unconditional)
    assert taken == [True]
    directly(monkeypatch)
    two, other = solved(READINGS[name], unconditional=unconditional)
    assert taken == [True]
    torch.testing.assert_close(one.drift_scale, two.drift_scale, rtol=1e-11, atol=0)
    torch.testing.assert_close(one.per_label, two.per_label, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-14)


def test_float32(taken: list[bool]) -> None:
    exact, gradient = solved()
    found, other = solved(dtype=torch.float32)
    assert taken == [True, True]
    torch.testing.assert_close(found.drift_scale.double(), exact.drift_scale, rtol=2e-6, atol=0)
    assert float((other.double() - gradient).norm() / gradient.norm()) < 5e-6


def test_a_trace_that_cancels_is_not_used(taken: list[bool]) -> None:
    """Clusters 10⁵ spreads apart: in float32 the trace can come out negative."""
    exact, gradient = solved(apart=1e5)
    found, other = solved(apart=1e5, dtype=torch.float32)
    assert taken[-1] is False
    torch.testing.assert_close(found.drift_scale.double(), exact.drift_scale, rtol=1e-4, atol=0)
    assert float((other.double() - gradient).norm() / gradient.norm()) < 1e-4


def test_all_samples_equal(taken: list[bool]) -> None:
    leaf = torch.ones(1, 4, 2, 80, requires_grad=True)
    found = drifting_loss(leaf, torch.ones(1, 5, 2, 80))
    found.loss.backward()
    assert taken == [False]
    assert found.loss.item() == 0
    assert leaf.grad is not None
    assert not leaf.grad.any()


@pytest.mark.parametrize("scale", [2e-6, 1e-5, 1e-3, 1e3])
def test_the_floor_under_distances_does_not_reach_the_traces(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the release's floor of 1e-4, small features have no distances that tell the Gram."""
    one, gradient = solved(PRESETS["release"], scale=scale)
    directly(monkeypatch)
    two, other = solved(PRESETS["release"], scale=scale)
    torch.testing.assert_close(one.drift_scale, two.drift_scale, rtol=1e-7, atol=0)
    torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-9 * float(other.abs().max()))


@pytest.mark.parametrize("power", [-100, -70, -20, 20, 50, 110])
def test_units_do_not_matter(power: int) -> None:
    """Float32 from 2⁻¹⁰⁰ to 2¹¹⁰: squares that would leave its range are formed in another unit."""
    one, _ = solved(dtype=torch.float32)
    two, _ = solved(dtype=torch.float32, scale=2.0**power)
    torch.testing.assert_close(one.loss, two.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(one.drift_scale, two.drift_scale, rtol=1e-5, atol=0)


def test_each_label_has_its_own_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of several labels; what arrives differs by label, and the graph is used twice."""
    weight = torch.tensor([2.0, 0.0, -3.0], dtype=torch.float64)
    gradients: list[Tensor] = []
    for _ in range(2):
        leaf = samples(3, 5, 2, 90, seed=5).requires_grad_()
        found = drifting_loss(leaf, samples(3, 6, 2, 90, seed=6))
        for _ in range(2):
            (gradient,) = torch.autograd.grad(
                (found.per_label * weight).sum(), leaf, retain_graph=True
            )
            gradients.append(gradient)
        directly(monkeypatch)
    assert not gradients[0][1].any()
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other, rtol=1e-10, atol=1e-14)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels first": lambda plain: plain.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2),
    "vectors first": lambda plain: plain.transpose(1, 2).contiguous().transpose(1, 2),
    "every other": lambda plain: plain.repeat_interleave(2, dim=-1)[..., ::2],
    "expanded": lambda plain: plain[:1].expand(plain.shape),
}


@pytest.mark.parametrize("channels", [8, 90], ids=["drifts", "coefficients"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_gradients_of_any_strides(name: str, channels: int) -> None:
    """The gradient is formed in the layout of the generated samples if channels lie together."""
    given = LAYOUTS[name](samples(2, 5, 3, channels, seed=7))
    positive = samples(2, 6, 3, channels, seed=8)
    gradients: list[Tensor] = []
    for each in (given, given.contiguous()):
        leaf = each.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(drifting_loss(leaf, positive).loss, leaf)
        like = torch.empty_like(each)
        assert gradient.stride() == like.stride() or like.stride(-1) > 1
        gradients.append(gradient)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-14)


def test_nothing_is_formed_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> Tensor:
        raise AssertionError("no gradient was asked for")

    monkeypatch.setattr(slopes.Slope, "times", refused)
    with torch.no_grad():
        drifting_loss(samples(1, 5, 2, 90, seed=9), samples(1, 6, 2, 90, seed=10))


@pytest.mark.parametrize("reason", ["large", "many", "cancels"])
def test_the_product_is_formed_at_once(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where targets are too many to keep, or drifts of several temperatures cancel one another."""
    one, gradient = solved()
    formed: list[object] = []
    form = drifts.KeptCoefficients._formed
    monkeypatch.setattr(
        drifts.KeptCoefficients, "_formed", lambda *given: formed.append(form(*given)) or formed[0]
    )
    if reason == "large":
        monkeypatch.setattr(chunks, "_KEPT_ENTRIES", 0)
    elif reason == "many":
        monkeypatch.setattr(drifts, "_MANY_TARGETS", 1)
    else:
        kept = drifts.KeptCoefficients.of

        def then_cancelled(*arguments: Any) -> object:
            found = kept(*arguments)
            monkeypatch.setattr(drifts, "CANCELLED", 2.0)  # a square is at most its terms
            return found

        monkeypatch.setattr(drifts.KeptCoefficients, "of", then_cancelled)
    two, other = solved()
    assert len(formed) == 1
    torch.testing.assert_close(one.per_label, two.per_label, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-14)


def added_up(sums: list[Tensor | None]) -> Tensor | None:
    """Two processes' sums as both receive them."""
    one, two = sums
    return None if one is None or two is None else one + two


@pytest.mark.parametrize("name", ["paper", "release", "per label", "each vector"])
def test_traces_of_many_processes(name: str) -> None:
    """Two processes' sums, added up by hand, lead to the loss of one that has all labels."""
    readings = READINGS[name]
    leaf, positive = samples(3, 5, 2, 90, seed=11), samples(3, 6, 2, 90, seed=12) + 0.3
    kind: dict[str, Any] = {"temperatures": (0.02, 0.05, 0.2), "readings": readings}
    alone = drifting_loss(leaf.requires_grad_(), positive, **kind)
    (gradient,) = torch.autograd.grad(alone.per_label.sum(), leaf)
    parts = slice(0, 1), slice(1, 3)
    runs = [
        eager.Stages(
            problem_of(leaf[part], positive[part], None, TargetWeights(), **kind), many=True
        )
        for part in parts
    ]
    across = added_up([run.measure() for run in runs])
    across = added_up([run.scale(across) for run in runs])
    solutions = [run.finish(across) for run in runs]
    for solution, part in zip(solutions, parts, strict=True):
        assert solution.slope.targets
        assert solution.loss is not None
        torch.testing.assert_close(solution.loss, alone.loss.detach(), rtol=1e-11, atol=0)
        torch.testing.assert_close(solution.slope.whole(), gradient[part], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("coincident", [False, True])
def test_padding_between_rows_is_not_seen(
    coincident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 float64 channels fill a page: rows of gathered targets lie apart from one another."""
    given, positive = samples(2, 5, 3, 512, seed=13), samples(2, 6, 3, 512, seed=14)
    if coincident:
        positive[:, :5] = given
    gradients: list[Tensor] = []
    for padding in (chunks._PADDING, 0):
        monkeypatch.setattr(chunks, "_PADDING", padding)
        leaf = given.clone().requires_grad_()
        gradients += torch.autograd.grad(drifting_loss(leaf, positive).loss, leaf)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-14)
