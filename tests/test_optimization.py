"""Clipping, warm-up and moving averages: what PB-50 and PB-51 do not reach."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from drifting_torch import LinearWarmup, MovingAverage, clip_gradient_norm


def with_gradients(*values: list[float], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    found = []
    for value in values:
        each = torch.zeros(len(value), dtype=dtype, requires_grad=True)
        each.grad = torch.tensor(value, dtype=dtype)
        found.append(each)
    return found


def test_the_norm_is_that_of_all_parameters_together() -> None:
    parameters = with_gradients([3.0], [0.0, 4.0])
    assert float(clip_gradient_norm(parameters, 2.0)) == 5.0
    torch.testing.assert_close(parameters[0].grad, torch.tensor([1.2], dtype=torch.float64))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.0, 1.6], dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, 1.9999999, 2.0])
def test_nothing_changes_up_to_the_limit(value: float) -> None:
    (each,) = with_gradients([value, 0.0])
    assert float(clip_gradient_norm([each], 2.0)) == value
    assert each.grad.tolist() == [value, 0.0]


def test_without_a_limit_the_norm_is_measured() -> None:
    (each,) = with_gradients([300.0, 400.0])
    assert float(clip_gradient_norm([each], None)) == 500.0
    assert each.grad.tolist() == [300.0, 400.0]


def test_the_norm_of_narrow_gradients_does_not_overflow() -> None:
    (each,) = with_gradients([300.0] * 100, dtype=torch.float16)
    assert float(clip_gradient_norm([each], 2.0)) == pytest.approx(3000.0)
    assert float(each.grad.float().norm()) == pytest.approx(2.0, rel=1e-3)


def test_parameters_without_gradients_are_left_out() -> None:
    lone = torch.zeros(2, requires_grad=True)
    assert float(clip_gradient_norm([lone, *with_gradients([1.0])], 2.0)) == 1.0
    with pytest.raises(ValueError, match="no parameter has a gradient"):
        clip_gradient_norm([lone], 2.0)
    for limit in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a number above 0"):
            clip_gradient_norm(with_gradients([1.0]), limit)


def sparse(entries: list[int], values: list[list[float]], dtype: torch.dtype) -> Tensor:
    """A table [4, 2] whose gradient holds these rows, repeated ones among them."""
    table = torch.zeros(4, 2, dtype=dtype, requires_grad=True)
    rows = torch.tensor(values, dtype=dtype)
    table.grad = torch.sparse_coo_tensor(torch.tensor([entries]), rows, (4, 2))
    assert not table.grad.is_coalesced()
    return table


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("limit", [None, 0.5, 100.0])
def test_the_norm_of_sparse_gradients_is_that_of_their_sums(
    limit: float | None, dtype: torch.dtype
) -> None:
    """Row 1 comes twice: 3 = 1 + 2, where the norm of what is stored would be smaller."""
    table = sparse([1, 3, 1], [[1.0, 0.0], [0.0, -4.0], [2.0, 0.0]], dtype)
    (dense,) = with_gradients([12.0], dtype=dtype)
    assert float(clip_gradient_norm([table, dense], limit)) == 13.0
    scale = 1 / 26 if limit == 0.5 else 1.0
    expected = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, -4.0]]).double() * scale
    found = table.grad.to_dense().double()
    torch.testing.assert_close(found, expected, rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert table.grad.is_sparse


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_sparse_gradient_of_nothing() -> None:
    table = torch.zeros(4, 2, requires_grad=True)
    table.grad = torch.sparse_coo_tensor(
        torch.zeros(1, 0, dtype=torch.int64), torch.zeros(0, 2), (4, 2)
    )
    assert float(clip_gradient_norm([table], 2.0)) == 0.0


def test_warm_up_rises_to_the_full_rate_and_stays() -> None:
    warm = LinearWarmup(5000)
    assert (warm(0), warm(2499), warm(4999), warm(5000), warm(10**6)) == (2e-4, 0.5, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        LinearWarmup(0)


def test_averages_of_several_decays_move_apart() -> None:
    line = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(line.weight)
    average = MovingAverage(line, (0.0, 0.5, 0.9))
    with torch.no_grad():
        line.weight.fill_(1.0)
    average.update()
    held = [float(average.averages(decay)["weight"][0, 0]) for decay in (0.0, 0.5, 0.9)]
    assert held == pytest.approx([1.0, 0.5, 0.1])


def test_averages_of_narrow_parameters_are_held_wide() -> None:
    """In bfloat16 a step of 1e-4 of the difference would be lost."""
    line = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.zeros_(line.weight)
    average = MovingAverage(line, (0.9999,))
    nn.init.ones_(line.weight)
    for _ in range(100):
        average.update()
    held = average.averages(0.9999)["weight"]
    assert held.dtype == torch.float32
    assert float(held) == pytest.approx(1 - 0.9999**100, rel=1e-4)


def test_averages_are_lent_to_the_module() -> None:
    line = nn.Linear(2, 1)
    average = MovingAverage(line, (0.5,))
    start = line.weight.detach().clone()
    nn.init.ones_(line.weight)
    with average.applied(0.5) as module:
        assert torch.equal(module.get_parameter("weight"), start)
    assert torch.equal(line.weight.detach(), torch.ones(1, 2))
    with pytest.raises(RuntimeError, match="on purpose"), average.applied(0.5):
        raise RuntimeError("on purpose")
    assert torch.equal(line.weight.detach(), torch.ones(1, 2))


def test_averages_resume() -> None:
    line, other = nn.Linear(2, 1), nn.Linear(2, 1)
    first, second = MovingAverage(line, (0.5, 0.9)), MovingAverage(other, (0.5, 0.9))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.averages(0.9)["weight"], line.weight)
    with pytest.raises(ValueError, match=r"the state has decays \[0.5, 0.9\], expected \[0.5\]"):
        MovingAverage(line, (0.5,)).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"differ in the parameters .*'bias'"):
        MovingAverage(nn.Linear(2, 1, bias=False), (0.5, 0.9)).load_state_dict(first.state_dict())


@pytest.mark.parametrize("decays", [(0.5,), (0.5, 0.9)])
def test_averages_of_other_shapes_change_nothing(decays: tuple[float, ...]) -> None:
    """A single number would spread over all of a parameter."""
    average = MovingAverage(nn.Linear(3, 4), decays)
    before = {name: each.clone() for name, each in average.averages(0.5).items()}
    state = MovingAverage(nn.Linear(1, 4), decays).state_dict()
    with pytest.raises(ValueError, match=r"has weight of shape \(4, 1\), expected \(4, 3\)"):
        average.load_state_dict(state)
    with pytest.raises(KeyError, match=r"the state has \['ema'\], expected what state_dict"):
        average.load_state_dict({"ema": {}})
    assert all(torch.equal(before[name], each) for name, each in average.averages(0.5).items())


def test_buffers_are_the_module_s_own() -> None:
    norm = nn.BatchNorm1d(2)
    average = MovingAverage(norm, (0.5,))
    assert set(average.averages(0.5)) == {"weight", "bias"}
    norm.running_mean.fill_(3.0)
    with average.applied(0.5) as module:
        assert module.get_buffer("running_mean").tolist() == [3.0, 3.0]


def test_refusals() -> None:
    line = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="decays is empty"):
        MovingAverage(line, ())
    with pytest.raises(ValueError, match=r"decays holds 1.0, expected numbers in \[0, 1\)"):
        MovingAverage(line, (1.0,))
    with pytest.raises(TypeError, match=r"decays is 0.999, expected a sequence of numbers as"):
        MovingAverage(line, 0.999)
    with pytest.raises(TypeError, match=r"steps is 2\.5, expected an integer"):
        LinearWarmup(2.5)
    with pytest.raises(KeyError, match=r"decay 0.9 is not tracked; tracked: \[0.5\]"):
        MovingAverage(line, (0.5,)).averages(0.9)
