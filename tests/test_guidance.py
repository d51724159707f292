"""α samplers of A.7: exact inverses on given u, support, atom, generators, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from drifting_spec.table8 import COLUMNS
from drifting_torch import (
    AlphaDistribution,
    cfg_alpha_to_weight,
    gamma_to_alpha,
    sample_alpha,
    weight_to_gamma,
)

LAWS = {
    "ablation": (3.0, 0.0, 1.6, 1.371989),
    "latent-B/2": (5.0, 0.0, 1.3176471, 1.188049),
    "latent-L/2": (3.0, 0.5, 1.3, 1.0),
    "pixel-B/16": (5.0, 0.0, 1.3176471, 1.188049),
    "pixel-L/16": (5.0, 0.0, 1.3176471, 1.188049),
}


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def grid(count: int) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


@pytest.mark.parametrize("column", COLUMNS)
def test_laws_of_table_8(column: str) -> None:
    exponent, atom, mean, median = LAWS[column]
    law = AlphaDistribution.of_table8(column)
    assert (law.exponent, law.atom, law.low, law.high) == (exponent, atom, 1.0, 4.0)
    alpha = law.inverse_cdf(grid(20_000))
    assert float(alpha.mean()) == pytest.approx(mean, abs=1e-6)
    assert float(law.inverse_cdf(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(
        median, abs=1e-6
    )
    assert float((alpha == 1.0).double().mean()) == atom


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5, 3.0, 5.0])
@pytest.mark.parametrize("atom", [0.0, 0.25])
def test_the_inverse_is_that_of_the_law(exponent: float, atom: float) -> None:
    law = AlphaDistribution(exponent, atom)
    u = torch.linspace(atom, 1.0, 41, dtype=torch.float64)
    for value, alpha in zip(u.tolist(), law.inverse_cdf(u).tolist(), strict=True):

        def mass(high: float) -> float:
            if exponent == 1.0:
                return math.log(high)
            return (high ** (1.0 - exponent) - 1.0) / (1.0 - exponent)

        assert atom + (1.0 - atom) * mass(alpha) / mass(4.0) == pytest.approx(value, abs=1e-12)
    ends = law.inverse_cdf(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == [1.0, pytest.approx(4.0, abs=1e-12)]


def test_printed_inverses() -> None:
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    third, fifth = AlphaDistribution(3.0), AlphaDistribution(5.0)
    torch.testing.assert_close(third.inverse_cdf(u), (1 - 15 * u / 16) ** -0.5)
    torch.testing.assert_close(fifth.inverse_cdf(u), (1 - 255 * u / 256) ** -0.25)
    half = AlphaDistribution(3.0, atom=0.5)
    wanted = torch.where(u < 0.5, 1.0, (1 - 15 * (2 * u - 1) / 16) ** -0.5)
    torch.testing.assert_close(half.inverse_cdf(u), wanted)


def test_an_atom_of_one_is_no_guidance() -> None:
    assert AlphaDistribution(3.0, atom=1.0).inverse_cdf(grid(7)).tolist() == [1.0] * 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_stays_in_the_range(dtype: torch.dtype) -> None:
    for column in COLUMNS:
        alpha = AlphaDistribution.of_table8(column).inverse_cdf(grid(4096).to(dtype))
        assert float(alpha.min()) >= 1.0
        assert float(alpha.max()) <= 4.0
    # (9^-6 + rounding)^(-1/6): beyond 9, infinite in half precision.
    alpha = AlphaDistribution(7.0, high=9.0).inverse_cdf(torch.ones(1, dtype=dtype))
    assert float(alpha) == pytest.approx(9.0, rel=1e-2)
    assert float(alpha) <= 9.0


def test_one_draw_for_each_label() -> None:
    law = AlphaDistribution.of_table8("latent-L/2")
    first = sample_alpha(4000, law, generator=torch.Generator().manual_seed(3))
    again = sample_alpha((40, 100), law, generator=torch.Generator().manual_seed(3))
    assert first.shape == (4000,)
    assert torch.equal(first, again.flatten())
    # Half of 4000 draws are 1, give or take six standard deviations of 31.6.
    assert abs(int((first == 1.0).sum()) - 2000) < 190
    assert len(first[first > 1.0].unique()) > 1900
    other = sample_alpha(4000, law, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(first, other)
    assert sample_alpha(3, law, generator=torch.Generator(), dtype=torch.float64).dtype == (
        torch.float64
    )


def test_the_sample_follows_the_law() -> None:
    law = AlphaDistribution.of_table8("ablation")
    count = 100_000
    drawn = sample_alpha(
        count, law, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    cdf = 16 / 15 * (1 - drawn.sort().values ** -2)
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum((cdf - steps[:-1]).abs().max(), (cdf - steps[1:]).abs().max())
    assert float(distance) < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov at 0.1 %


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 4.0])
def test_alpha_to_weight_to_gamma_and_back(alpha: float) -> None:
    weight = cfg_alpha_to_weight(alpha, 64, 16)
    gamma = weight_to_gamma(weight, 64, 16)
    assert gamma == pytest.approx(1 - 1 / alpha, abs=1e-15)
    assert gamma_to_alpha(gamma) == pytest.approx(alpha, abs=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AlphaDistribution(math.nan), "exponent is nan, expected a finite number"),
        (lambda: AlphaDistribution(3.0, 1.5), "atom is 1.5, expected a probability"),
        (lambda: AlphaDistribution(3.0, low=0.5), "expected 1 <= low < high"),
        (lambda: AlphaDistribution(3.0, low=4.0), "expected 1 <= low < high"),
        (lambda: AlphaDistribution.of_table8("B/2"), "column is 'B/2', expected one of ablation,"),
        (
            lambda: AlphaDistribution(3.0).inverse_cdf(torch.tensor([0.5, 1.5])),
            r"u holds \[0.5, 1.5\], expected values in \[0, 1\]",
        ),
        (lambda: weight_to_gamma(-1.0, 64, 16), "weight is -1.0, expected a finite value"),
        (lambda: weight_to_gamma(1.0, 1, 16), "n_generated is 1, expected at least 2"),
        (lambda: weight_to_gamma(1.0, 64, 0), "n_unconditional is 0, expected at least 1"),
        (lambda: gamma_to_alpha(1.0), "gamma is 1.0, expected 0 <= gamma < 1"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sample_alpha(3, "ablation", generator=rng()),
            TypeError,
            r"distribution is 'ablation', expected an AlphaDistribution; .*of_table8\('ablation'\)",
        ),
        (
            lambda: sample_alpha(0, AlphaDistribution(3.0), generator=rng()),
            ValueError,
            "shape is 0, expected at least 1",
        ),
        (
            lambda: sample_alpha((2, 1.5), AlphaDistribution(3.0), generator=rng()),
            TypeError,
            "an entry of shape is 1.5, expected an integer",
        ),
        (lambda: cfg_alpha_to_weight("2", 4, 2), TypeError, "alpha is '2', expected a number or"),
        (lambda: cfg_alpha_to_weight(2.0, 4.5, 2), TypeError, "n_generated is 4.5, expected an"),
    ],
)
def test_other_refusals(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_u_must_be_floating() -> None:
    with pytest.raises(TypeError, match=r"u has dtype torch\.int64, expected a floating dtype"):
        AlphaDistribution(3.0).inverse_cdf(torch.tensor([0, 1]))
