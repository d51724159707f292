"""The loss does not depend on the unit of its features, as long as a dtype can hold them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, RELEASE, SEED, Readings
from drifting_torch import drifting_field, drifting_loss

CHAINS = ((0.02, 0.05, 0.2), (0.03, 0.07, 0.2), (0.1,), (0.9, 0.225, 0.05))
SHAPES = ((2, 6, 5, 3, 4), (1, 30, 9, 1, 8), (2, 3, 4, 2, 64), (3, 2, 2, 2, 3))


def _samples(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    labels, count, positives, vectors, channels = shape
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(labels, count, vectors, channels, generator=rng, dtype=torch.float64)
    y = torch.randn(labels, positives, vectors, channels, generator=rng, dtype=torch.float64)
    return x.to(dtype), y.to(dtype) + 0.3


def _solved(x: Tensor, y: Tensor, **options: object) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = drifting_loss(x, y, **options)  # pyright: ignore[reportArgumentType]
    out.loss.backward()
    assert x.grad is not None
    return out.loss.detach(), out.feature_scale, x.grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("temperatures", CHAINS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "exponents"),
    [
        (torch.float32, (-125, -97, -66, -60, -52, -45, 45, 52, 60, 61, 62, 63, 97, 124)),
        (torch.bfloat16, (-118, -97, 97, 124)),
        (torch.float64, (-1015, -600, -520, -409, 409, 511, 600, 1010)),
    ],
    ids=str,
)
def test_a_power_of_two_changes_nothing(
    dtype: torch.dtype,
    exponents: tuple[int, ...],
    temperatures: tuple[float, ...],
    shape: tuple[int, ...],
) -> None:
    x, y = _samples(shape, dtype)
    x, y = (each.masked_fill(each.abs() < 2**-6, 0.25) for each in (x, y))
    loss, scale, gradient = _solved(x, y, temperatures=temperatures)
    assert loss > 0.1
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for exponent in exponents:
        unit = torch.tensor(2.0, dtype=torch.float64) ** exponent
        found = _solved((x.double() * unit).to(dtype), (y.double() * unit).to(dtype),
                        temperatures=temperatures)  # fmt: skip
        torch.testing.assert_close(found[0], loss, rtol=tolerance, atol=0)
        torch.testing.assert_close(found[1].double() / unit, scale.double(), rtol=tolerance, atol=0)
        back = found[2].double() * unit  # as far as the gradient's own dtype holds it
        atol = tolerance * gradient.abs().max().item() + float(
            torch.finfo(dtype).smallest_normal * unit * torch.finfo(dtype).eps
        )
        rtol = 2**-6 if dtype == torch.bfloat16 else tolerance
        torch.testing.assert_close(back, gradient.double(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("scope", ["label", "batch"])
@pytest.mark.parametrize("sharing", ["none", "same_location_pairs", "all_pairs"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("self_pairs", ["with", "without"])
def test_units_that_differ_between_labels(
    dtype: torch.dtype, sharing: str, scope: str, self_pairs: str
) -> None:
    # Each label's own S: all of them count. One S for all: those of the largest unit do.
    readings = replace(
        PAPER, statistics_scope=scope, location_sharing=sharing, scale_self_pairs=self_pairs
    )
    x, y = _samples((3, 6, 5, 3, 4), dtype)
    most = 100 if dtype == torch.float32 else 900
    exponents = torch.tensor([most, -most, 0], dtype=torch.float64).view(3, 1, 1, 1)
    units = torch.exp2(exponents)
    loss, _, gradient = _solved(x, y, readings=readings)
    found, scale, slope = _solved((x * units).to(dtype), (y * units).to(dtype), readings=readings)
    assert bool(slope.isfinite().all())
    if scope == "label":
        torch.testing.assert_close(found, loss, rtol=2e-5, atol=0)
        torch.testing.assert_close(slope.double() * units, gradient.double(), rtol=1e-3, atol=1e-5)
        return
    # The others' distances are 0 in this unit, but they are counted.
    still, expected, _ = _solved(
        torch.cat([x[:1], torch.zeros_like(x[1:])]),
        torch.cat([y[:1], torch.zeros_like(y[1:])]),
        readings=readings,
    )
    torch.testing.assert_close(found, still, rtol=2e-5, atol=0)
    torch.testing.assert_close(
        scale.double() / units[0, 0, 0], expected.double(), rtol=1e-5, atol=0
    )


def test_units_that_differ_between_vectors() -> None:
    x, y = _samples((2, 6, 5, 4, 4), torch.float32)
    units = torch.exp2(torch.tensor([110.0, -100.0, 0.0, -60.0])).view(1, 1, 4, 1)
    readings = replace(PAPER, location_sharing="none")
    loss, _, gradient = _solved(x, y, readings=readings)
    found, scale, slope = _solved(x * units, y * units, readings=readings)
    torch.testing.assert_close(found, loss, rtol=2e-5, atol=0)
    torch.testing.assert_close(slope * units, gradient, rtol=1e-3, atol=1e-6)
    assert bool((scale > 0).all())


@pytest.mark.parametrize("readings", [RELEASE, SEED], ids=["release", "seed"])
@pytest.mark.parametrize("exponent", [-60, -45, 60, 100, 120])
def test_floors_stay_where_they_are(readings: Readings, exponent: int) -> None:
    x, y = _samples((2, 6, 5, 3, 4), torch.float32)
    unit = 2.0**exponent
    found = _solved(x * unit, y * unit, readings=readings)
    expected = _solved(x.double() * unit, y.double() * unit, readings=readings)
    for one, other in zip(found, expected, strict=True):
        assert bool(one.isfinite().all())
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("temperatures", CHAINS, ids=str)
def test_subnormal_features(temperatures: tuple[float, ...]) -> None:
    x, y = _samples((2, 6, 5, 3, 4), torch.float32)
    x, y = (each * 2.0**-126 * 2.0**-9 for each in (x, y))  # 14 bits are left
    assert 0 < x.abs().max() < torch.finfo(torch.float32).tiny
    found = _solved(x, y, temperatures=temperatures)
    expected = _solved(x.double(), y.double(), temperatures=temperatures)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-4, atol=0)
    assert not bool(found[2].isnan().any())
    held = expected[2].float()  # inf where float32 ends
    torch.testing.assert_close(
        found[2], held, rtol=1e-3, atol=float(held[held.isfinite()].abs().max()) * 1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_features_at_the_end_of_the_range(dtype: torch.dtype) -> None:
    x, y = _samples((2, 6, 5, 3, 4), dtype)
    size = max(x.abs().max().item(), y.abs().max().item())
    most = torch.finfo(dtype).max
    loss, _, _ = _solved(x, y)
    found = _solved(x / size * most, y / size * most)
    torch.testing.assert_close(found[0], loss, rtol=2e-5, atol=0)
    assert bool(found[2].isfinite().all())


def test_a_location_where_all_coincide_among_odd_units() -> None:
    x, y = _samples((2, 6, 5, 3, 4), torch.float32)
    x[:, :, 1], y[:, :, 1] = 0.0, 0.0
    loss, _, gradient = _solved(x, y)
    for unit in (2.0**-100, 1.0, 2.0**100):
        found = _solved(x * unit, y * unit)
        torch.testing.assert_close(found[0], loss, rtol=2e-5, atol=0)
        torch.testing.assert_close(found[2] * unit, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shift", [4.0, 5.0, 6.0, 7.0, 8.0, 12.0])
@pytest.mark.parametrize("exponent", [-13, -10, 0, 10, 13])
def test_far_rows_of_features_in_moderate_units(exponent: int, shift: float) -> None:
    # The rows' factors and the scale's together leave float32, each of them alone does not.
    x, y = _samples((1, 8, 7, 1, 6), torch.float32)
    x[:, 0] += shift
    loss = _solved(x.double(), y.double())[0]
    unit = 10.0**exponent
    torch.testing.assert_close(_solved(x * unit, y * unit)[0].double(), loss, rtol=1e-4, atol=0)


@pytest.mark.parametrize("exponent", [-90, -66, -60, -50, 50, 60, 63, 90])
def test_fields_of_batches_in_different_units(exponent: int) -> None:
    x, y = _samples((2, 6, 5, 1, 4), torch.float32)
    x, y = x[:, :, 0], y[:, :, 0]
    expected = drifting_field(x, y, x, 0.5, mask_self=True)
    unit = 2.0**exponent
    found = drifting_field(x * unit, y * unit, x * unit, 0.5 * unit, mask_self=True,
                           readings=replace(PAPER, self_mask="exclude"))  # fmt: skip
    torch.testing.assert_close(found / unit, expected, rtol=1e-4, atol=1e-5)
