"""The fast path of the affinities computes what the general one computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, Readings
from drifting_torch import drifting_loss
from drifting_torch.eager import affinity_powers

CASES: dict[str, tuple[Readings, tuple[float, ...]]] = {
    "paper": (PRESETS["paper"], (0.02, 0.05, 0.2)),
    "release": (PRESETS["release"], (0.2, 0.05, 0.02)),
    "repeated": (PAPER, (0.1, 0.1)),
    "pow": (PAPER, (0.3, 0.1, 0.05)),
    "squares": (PAPER, (0.4, 0.2, 0.05)),
    "floor": (replace(PAPER, affinity_floor="1e-6"), (0.02, 0.2)),
    "outside": (replace(PAPER, unconditional_weight="after_softmaxes"), (0.02, 0.05, 0.2)),
    "add_100": (replace(PAPER, self_mask="add_100"), (0.05, 0.2)),
    "add_1e6": (replace(PAPER, self_mask="add_1e6"), (0.05, 0.2)),
}


def samples(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(
    name: str, channels: int, weighted: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    readings, temperatures = CASES[name]
    leaf = samples(2, 6, 3, channels, seed=1).to(dtype).requires_grad_()
    extra = samples(2, 4, 3, channels, seed=3).to(dtype) if weighted else None
    weight = torch.tensor([[0.0, 2.0, 0.5, 1.0]], dtype=dtype).expand(2, 4) if weighted else None
    found = drifting_loss(
        leaf,
        samples(2, 5, 3, channels, seed=2).to(dtype) + 0.4,
        extra,
        weight,
        temperatures=temperatures,
        readings=readings,
    )
    found.loss.backward()
    assert leaf.grad is not None
    return found.loss.detach(), leaf.grad, found.drift_scale


KERNELS = "DRIFTING_TORCH_KERNELS"


def take_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS, "off")
    monkeypatch.setattr(affinity_powers, "fill_coefficients", lambda *arguments: False)


@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("channels", [5, 40])
@pytest.mark.parametrize("name", CASES)
def test_one_exponential_serves_all_temperatures(
    name: str, channels: int, weighted: bool, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS, kernels)
    taken: list[bool] = []
    original = affinity_powers.fill_coefficients

    def watched(*arguments: object) -> bool:
        taken.append(original(*arguments))  # pyright: ignore[reportArgumentType] -- passed on
        return taken[-1]

    monkeypatch.setattr(affinity_powers, "fill_coefficients", watched)
    fast = solved(name, channels, weighted, torch.float64)
    assert taken or kernels == "auto"  # compiled, drifts are formed without these coefficients
    assert all(taken)
    take_the_general_path(monkeypatch)
    for one, two in zip(fast, solved(name, channels, weighted, torch.float64), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-14)


def test_a_mask_that_is_felt_takes_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """At τ = 20 an own entry with 100 added is one among the others."""
    monkeypatch.setitem(CASES, "felt", (replace(PAPER, self_mask="add_100"), (5.0, 20.0)))
    taken: list[bool] = []
    original = affinity_powers.fill_coefficients
    monkeypatch.setattr(
        affinity_powers, "fill_coefficients", lambda *given: taken.append(original(*given))
    )
    solved("felt", 5, True, torch.float64)
    assert taken
    assert not any(taken)


@pytest.mark.parametrize("readings", [PAPER, PRESETS["release"]], ids=["paper", "release"])
@pytest.mark.parametrize("which", ["positive", "generated", "unconditional"])
@pytest.mark.parametrize("far", [3.0, 8.0, 40.0, 1e4])
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_outliers(
    kernels: str, which: str, far: float, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample far away: a column or a row whose nearest is far, by every path alike."""
    monkeypatch.setenv(KERNELS, kernels)
    sets = {
        "generated": samples(1, 40, 2, 8, seed=11),
        "positive": samples(1, 30, 2, 8, seed=12),
        "unconditional": samples(1, 9, 2, 8, seed=13),
    }
    sets[which][:, 0] *= far
    weight = torch.full((1, 9), 1.5, dtype=torch.float64)

    def found(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        leaf = sets["generated"].to(dtype, copy=True).requires_grad_()
        parts = [each.to(dtype) for each in (sets["positive"], sets["unconditional"], weight)]
        output = drifting_loss(leaf, *parts, readings=readings)
        output.loss.backward()
        assert leaf.grad is not None
        return output.drift_scale.double(), leaf.grad.double()

    fast, single = found(torch.float64), found(torch.float32)
    take_the_general_path(monkeypatch)
    for one, two, rough in zip(fast, found(torch.float64), single, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-13)
        assert float((rough - two).norm() / two.norm()) < 1e-4


def test_temperatures_without_whole_ratios_take_the_general_path() -> None:
    assert affinity_powers.whole_powers((0.02, 0.05, 0.2)) == (10, 4, 1)
    assert affinity_powers.whole_powers((0.03, 0.2)) is None
    assert affinity_powers.whole_powers((0.001, 0.2)) is None


def test_samples_far_from_all_positives_take_the_general_path() -> None:
    """A lone far positive: in float32 the powers would leave nothing of it."""
    for dtype, limit in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        leaf = samples(1, 40, 1, 8, seed=5).to(dtype).requires_grad_()
        positive = torch.full((1, 1, 1, 8), 1e3, dtype=dtype)
        found = drifting_loss(leaf, positive, temperatures=(0.5, 1.0))
        found.loss.backward()
        assert leaf.grad is not None
        direction = leaf.grad / leaf.grad.norm()
        pull = -torch.full_like(leaf, 1.0) / (leaf.numel() ** 0.5)
        assert float((direction - pull).norm()) < 0.2 + limit
