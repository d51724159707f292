"""The fast path of the affinities computes what the general one computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, Readings
from drifting_torch import _powers, drifting_loss

CASES: dict[str, tuple[Readings, tuple[float, ...]]] = {
    "paper": (PRESETS["paper"], (0.02, 0.05, 0.2)),
    "release": (PRESETS["release"], (0.2, 0.05, 0.02)),
    "repeated": (PAPER, (0.1, 0.1)),
    "pow": (PAPER, (0.3, 0.1, 0.05)),
    "squares": (PAPER, (0.4, 0.2, 0.05)),
    "floor": (replace(PAPER, affinity_floor="1e-6"), (0.02, 0.2)),
    "outside": (replace(PAPER, unconditional_weight="after_softmaxes"), (0.02, 0.05, 0.2)),
    "add_100": (replace(PAPER, self_mask="add_100"), (5.0, 20.0)),
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


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("channels", [5, 40])
@pytest.mark.parametrize("name", CASES)
def test_one_exponential_serves_all_temperatures(
    name: str, channels: int, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    original = _powers.drifts_by_powers

    def watched(*arguments: object) -> list[Tensor] | None:
        found = original(*arguments)  # pyright: ignore[reportArgumentType] -- passed on
        taken.append(found is not None)
        return found

    monkeypatch.setattr(_powers, "drifts_by_powers", watched)
    fast = solved(name, channels, weighted, torch.float64)
    assert taken
    assert all(taken)
    monkeypatch.setattr(_powers, "drifts_by_powers", lambda *arguments: None)
    for one, two in zip(fast, solved(name, channels, weighted, torch.float64), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-14)


def test_temperatures_without_whole_ratios_take_the_general_path() -> None:
    assert _powers.whole_powers((0.02, 0.05, 0.2)) == (10, 4, 1)
    assert _powers.whole_powers((0.03, 0.2)) is None
    assert _powers.whole_powers((0.001, 0.2)) is None


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
