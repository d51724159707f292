"""Many channels: λ from traces of the Gram matrix equals λ from the drifts themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, Readings
from drifting_torch import DriftingLossOutput, _drifts, drifting_loss

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
    original = _drifts.KeptCoefficients.of

    def watched(*arguments: object) -> object:
        found = original(*arguments)  # pyright: ignore[reportArgumentType] -- passed on
        seen.append(found is not None)
        return found

    monkeypatch.setattr(_drifts.KeptCoefficients, "of", watched)
    return seen


def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_drifts, "_MANY_CHANNELS", 10**9)


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
