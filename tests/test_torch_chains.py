"""Chains of whole-power temperatures: the powers, what refuses them, and the general path."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import drifting_loss
from drifting_torch.eager import affinity_powers
from drifting_torch.eager.affinity import Targets

MOST = 40


def _random(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=rng, dtype=torch.float64)


def _kernel(powers: tuple[int, ...], rate: Tensor, mask: float = -1e4) -> affinity_powers.Kernel:
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    return affinity_powers.Kernel(powers, rate, mask, one, Targets(2, True), 0, PAPER)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_chain_of_three(shifted: bool, groups: int) -> None:
    distances = _random(2, 3, 5)
    row, column = distances.amin(-1, keepdim=True), None
    if shifted:
        column = _random(2, 1, 5, seed=1) / 10
    rate = _random(groups, 1, 1, seed=2) + 0.5
    logits = -(distances - row - (0 if column is None else column)) * rate
    out, square = torch.empty(2, 3, 3, 5, dtype=torch.float64), torch.empty_like(distances)
    for first in range(1, MOST + 1):
        for second in range(first, MOST + 1):
            for powers in {(1, first, second), (second, 1, first)}:
                affinity_powers._fill_powers(
                    distances, row, column, _kernel(powers, rate), out, square
                )
                expected = torch.stack([(logits * power).exp() for power in powers], 1)
                torch.testing.assert_close(out, expected, rtol=1e-12, atol=0, msg=str(powers))


def test_chains_of_four_in_any_order() -> None:
    distances, rate = _random(2, 3, 5), torch.ones((1, 1, 1), dtype=torch.float64)
    row = distances.amin(-1, keepdim=True)
    out, square = torch.empty(2, 4, 3, 5, dtype=torch.float64), torch.empty_like(distances)
    for chain in ((1, 4, 10, 18), (1, 2, 4, 8), (1, 4, 8, 16), (1, 4, 16, 40), (1, 2, 8, 20)):
        for powers in permutations(chain):
            affinity_powers._fill_powers(distances, row, None, _kernel(powers, rate), out, square)
            expected = torch.stack([((row - distances) * power).exp() for power in powers], 1)
            torch.testing.assert_close(out, expected, rtol=1e-12, atol=0, msg=str(powers))


def _samples(spread: float = 1.0, channels: int = 5) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(2, 7, 3, channels, generator=rng, dtype=torch.float64)
    y = torch.randn(2, 6, 3, channels, generator=rng, dtype=torch.float64)
    return x, spread * (y + 0.3)


def _solved(x: Tensor, y: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    found = drifting_loss(x, y, **options)
    found.loss.backward()
    assert x.grad is not None
    return found.loss.detach(), x.grad


@pytest.mark.parametrize("readings", [PAPER, RELEASE], ids=["paper", "release"])
@pytest.mark.parametrize("channels", [5, 60])
@pytest.mark.parametrize(
    "temperatures",
    [(1.8, 0.45, 0.1), (0.1, 0.45, 1.8), (1.6, 0.2, 0.1), (0.8, 0.2, 0.1, 0.05), (0.9, 0.3, 0.15),
     (1.2, 0.3, 0.12), (0.5, 0.25, 0.125), (0.6, 0.6, 0.15)],
    ids=str,
)  # fmt: skip
def test_the_loss_of_a_chain_is_that_of_the_general_path(
    temperatures: tuple[float, ...],
    channels: int,
    readings: Readings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert affinity_powers.whole_powers(temperatures) is not None
    given = _samples(channels=channels)
    fast = _solved(*given, temperatures=temperatures, readings=readings)
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    monkeypatch.setattr(affinity_powers, "fill_coefficients", lambda *arguments: False)
    slow = _solved(*given, temperatures=temperatures, readings=readings)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-14)


def test_columns_are_shifted_where_their_sums_are_too_small_and_only_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")  # the operators' own steps are watched
    tried: list[tuple[bool, bool]] = []
    original = affinity_powers._balance_powers

    def watched(*given: Any) -> bool:
        tried.append((given[2] is not None, original(*given)))
        return tried[-1][1]

    monkeypatch.setattr(affinity_powers, "_balance_powers", watched)
    x, y = _samples()
    near = _solved(x.float(), y.float())
    assert tried == [(False, True)]
    tried.clear()
    y[:, 0] += 6.0  # far from all generated samples, but nobody's nearest
    found = _solved(x.float(), y.float())
    assert tried == [(False, False), (True, True)]
    assert not torch.equal(found[0], near[0])
    torch.testing.assert_close(found[0].double(), _solved(x, y)[0], rtol=1e-5, atol=0)


def test_a_shift_counts_among_what_the_mask_must_outweigh() -> None:
    one, zero = (
        torch.ones((1, 1, 1), dtype=torch.float64),
        torch.zeros((1, 1, 1), dtype=torch.float64),
    )
    kernel = _kernel((1, 4), one, mask=-400.0)
    assert affinity_powers._serves(zero, 99 * one, None, kernel)
    assert not affinity_powers._serves(zero, 101 * one, None, kernel)
    assert affinity_powers._serves(zero, 49 * one, 49 * one, kernel)
    assert not affinity_powers._serves(zero, 49 * one, 53 * one, kernel)
    many = torch.tensor([[[0.0, 80.0, 1.0]]], dtype=torch.float64)
    assert not affinity_powers._serves(zero, 49 * one, many, kernel)


def test_a_scale_counts_among_the_rows_factors() -> None:
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    for scale, serves in ((1.0, True), (1e13, True), (1e60, False), (1e-60, False), (0.0, True)):
        kernel = _kernel((1, 4), one)
        object.__setattr__(kernel, "scale", torch.tensor([[[scale]], [[1.0]]], dtype=torch.float64))
        assert affinity_powers._serves(0 * one, 140 * one, None, kernel) is serves


@pytest.mark.parametrize("sharing", ["none", "same_location_pairs"])
@pytest.mark.parametrize("readings", [RELEASE, SEED], ids=["release", "seed"])
def test_one_location_where_all_coincide_among_many_channels(
    readings: Readings, sharing: str
) -> None:
    # The floor under its distances must not enter the drift by way of the Gram matrix.
    from drifting_reference import drifting_loss as literal

    readings = readings.with_reading("location_sharing", sharing)
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(2, 6, 3, 80, generator=rng, dtype=torch.float64)
    y = torch.randn(2, 5, 3, 80, generator=rng, dtype=torch.float64)
    x[:, :, 1] = 0.5 + 1e-6 * x[:, :, 1]
    y[:, :, 1] = 0.5 + 1e-6 * y[:, :, 1]
    found = _solved(x, y, readings=readings)
    expected = literal(x.numpy(), y.numpy(), readings=readings)
    assert found[0].item() == pytest.approx(expected.loss, rel=1e-9)
    gradient = torch.from_numpy(expected.gradient)
    for v in range(3):
        size = gradient[:, :, v].abs().max().item()
        torch.testing.assert_close(
            found[1][:, :, v], gradient[:, :, v], rtol=1e-6, atol=1e-8 * size
        )
