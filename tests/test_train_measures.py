"""What ``drifting-train`` measures, on sets whose answers are known, and what it warns of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from drifting_spec import PAPER, RELEASE
from drifting_train.datasets import law_of
from drifting_train.monitor import warnings_of, watch
from drifting_train.quality import energy_distance, maximum_mean_discrepancy
from drifting_train.toy2d import PointGenerator, modes

TAUS = (0.02, 0.05, 0.2)


def drawn(count: int, seed: int, channels: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def test_the_energy_distance_by_hand() -> None:
    one, other = np.array([[0.0], [2.0]]), np.array([[1.0], [4.0], [4.0]])
    # Across: (1 + 4 + 4 + 1 + 2 + 2)/6; within: 2, and (3 + 3 + 0)/3.
    assert energy_distance(one, other) == pytest.approx(2 * 14 / 6 - 2 - 2, rel=1e-15)


def test_the_mmd_by_hand() -> None:
    one, other = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0], [2.0]])
    # The median of 4, 4, 0 is 4: the kernel is exp(−d²/8).
    across = (1 + 2 * math.exp(-4 / 8) + 3 * math.exp(-1 / 8)) / 6
    within = math.exp(-1 / 8) + (1 + 2 * math.exp(-4 / 8)) / 3
    assert maximum_mean_discrepancy(one, other) == pytest.approx(within - 2 * across, rel=1e-14)


@pytest.mark.parametrize("measure", [energy_distance, maximum_mean_discrepancy])
def test_measures_tell_equal_laws_from_others(measure: object) -> None:
    assert callable(measure)
    sets = [drawn(600, seed).double().numpy() for seed in (0, 1)]
    assert abs(measure(*sets)) < 0.004
    assert measure(sets[0] + 0.3, sets[1]) > 0.015
    assert measure(0.5 * sets[0], sets[1]) > 0.015


def test_the_laws() -> None:
    rng = torch.Generator().manual_seed(0)
    board = law_of("checkerboard").draw(2000, rng)
    squares = (board / 0.8 + 2).floor()
    assert ((squares.sum(1) % 2) == 0).all()
    assert squares.min() == 0
    assert squares.max() == 3
    assert len(squares.unique(dim=0)) == 8
    roll = law_of("swiss-roll").draw(2000, rng)
    assert float(roll.norm(dim=1).min()) > 0.4
    assert float(roll.norm(dim=1).max()) < 1.8
    for name, count in (("two-modes", 2), ("eight-gaussians", 8)):
        law = law_of(name)
        apart, nearest = torch.cdist(law.draw(4000, rng), law.centres).min(1)
        assert float(apart.square().mean() / 2) == pytest.approx(law.width**2, rel=0.1)
        shares = torch.bincount(nearest, minlength=count) / 4000
        assert (shares * count - 1).abs().max() < 0.2
    assert law_of("two-modes", 5.0).centres.tolist() == [[-2.5, 0.0], [2.5, 0.0]]


def test_modes_are_counted() -> None:
    law = law_of("two-modes")
    real = law.draw(400, torch.Generator().manual_seed(0))
    left = real[real[:, 0] < 0]
    assert modes(real, real, law)["modes_served"] == 2
    assert modes(left, real, law)["modes_served"] == 1
    between = torch.zeros(100, 2)
    found = modes(torch.cat([left[:100], between]), real, law)
    assert found["between_modes"] == 0.5
    assert found["between_modes_real"] < 0.01
    assert modes(real, real, law_of("checkerboard")) == {}


def test_points_start_where_they_are_told() -> None:
    torch.manual_seed(0)
    points = PointGenerator(2, 64, 3, (3.0, -1.0))(drawn(500, 1), torch.zeros(500), torch.ones(500))
    assert (points.mean(0) - torch.tensor([3.0, -1.0])).abs().max() < 0.2
    assert points.std(0).max() < 0.2


def kinds(generated: torch.Tensor, real: torch.Tensor, readings: object = PAPER) -> list[str]:
    watched = watch(generated, real, TAUS, readings)  # pyright: ignore[reportArgumentType]
    return [each.kind for each in warnings_of({"points": watched}, TAUS)]


def test_healthy_samples_give_no_warning() -> None:
    assert kinds(drawn(300, 0), drawn(300, 1)) == []
    assert kinds(drawn(300, 0, 64), drawn(300, 1, 64)) == []
    assert kinds(drawn(300, 0, 64), drawn(300, 1, 64), RELEASE) == []


def test_collapsed_samples_are_warned_of() -> None:
    assert "collapse" in kinds(0.3 * drawn(300, 0), drawn(300, 1))
    assert "collapse" not in kinds(0.8 * drawn(300, 0), drawn(300, 1))


def test_a_mode_out_of_reach_is_warned_of_with_a_temperature_that_reaches_it() -> None:
    law = law_of("two-modes")
    real = law.draw(400, torch.Generator().manual_seed(0))
    generated = law.centres[:1] + 0.1 * drawn(200, 1)
    watched = watch(generated, real, TAUS, PAPER)
    assert watched.unreached == pytest.approx(float((real[:, 0] > 0).float().mean()), abs=0.06)
    (warned, *_) = warnings_of({"points": watched}, TAUS)
    assert warned.kind == "unreached"
    assert f"--temperatures {watched.wanted_temperature:.2g}" in warned.text
    again = watch(generated, real, (watched.wanted_temperature,), PAPER)
    assert again.unreached < 0.05 < watched.unreached


def test_a_floor_on_few_channels_is_warned_of() -> None:
    real, generated = drawn(300, 1), 0.001 * drawn(300, 0) + 3
    assert "floor" in kinds(generated, real, RELEASE)
    assert "floor" not in kinds(generated, real, RELEASE.with_reading("affinity_floor", "none"))
