"""Every sum that a clause prints is worked out again, and printed laws are held to quadrature."""

from __future__ import annotations

import re
from itertools import pairwise
from math import isclose, sqrt

import pytest
from scipy.integrate import quad

from drifting_spec.registry import load
from drifting_spec.table8 import load_table8

SPEC = load()
NUMBER = re.compile(r"[\d.+−·/()√² ]*\d[\d.+−·/()√² ]*")


def value(text: str) -> float:
    """Work out a sum in the paper's signs: − · √ ²."""
    python = text.replace("−", "-").replace("·", "*").replace("²", "**2")
    python = re.sub(r"√(\d+|\()", r"sqrt\1" if "√(" in python else r"sqrt(\1)", python)
    return float(eval(python, {"__builtins__": {}}, {"sqrt": sqrt}))  # arithmetic of our own data


def sums() -> list[tuple[str, str, str]]:
    """Every ``left = right`` of a clause's formula in which both sides are numbers."""
    found: list[tuple[str, str, str]] = []
    for clause in SPEC.clauses.values():
        for part in re.split(r"\n|,  +|;  +|: +", clause.formula):
            sides = [side.strip().removesuffix(" steps") for side in part.split("=")]
            found += [
                (clause.id, left, right)
                for left, right in pairwise(sides)
                if NUMBER.fullmatch(left) and NUMBER.fullmatch(right)
            ]
    return found


SUMS = sums()


@pytest.mark.parametrize(("clause", "left", "right"), SUMS, ids=[f"{c}:{a}" for c, a, _ in SUMS])
def test_printed_sum_holds_to_its_last_digit(clause: str, left: str, right: str):
    decimals = len(right.partition(".")[2]) if re.fullmatch(r"[\d.]+", right) else 9
    assert abs(value(left) - value(right)) <= 0.5000001 * 10**-decimals + 1e-12, clause


def test_there_are_sums_to_work_out():
    having = {clause for clause, _, _ in SUMS}
    assert len(SUMS) >= 35
    assert {"S4-batch", "S4-epoch", "A2-tokens", "A3-epochs", "A3-mask", "A7-w"} <= having
    assert {"A8-refresh", "A5-total", "T8-B", "T8-steps", "T8-Nunc", "T8-input"} <= having


def test_the_ramp_as_printed():
    printed = SPEC.clauses["A3-cls-lambda"].formula
    for step, weight in ((0, "0"), (500, "0.05"), (1000, "λ(2999) = 0.1")):
        assert f"λ({step}) = {weight}" in printed
        assert isclose(0.1 * min(1, step / 1000), float(weight.split()[-1]))


def moment(k: int, n: float, atom: float) -> float:
    mass = quad(lambda a: a**-n, 1, 4)[0]
    return atom + (1 - atom) * quad(lambda a: a ** (k - n), 1, 4)[0] / mass


def test_laws_of_the_guidance_scale_as_printed():
    statement = SPEC.clauses["A7-alpha-dist"].statement
    for name, mean, weight in (
        ("ablation", "1.6", "2.3625"),
        ("latent-B/2", "1.3176471", "0.625368"),
        ("latent-L/2", "1.3", "0.590625"),
    ):
        column = load_table8()[name]
        expected = moment(1, *column.alpha_law)
        assert isclose(expected, float(mean), abs_tol=5e-8)
        average = (expected - 1) * (column.generated - 1) / column.unconditional
        assert isclose(average, float(weight), abs_tol=5e-7)
        assert mean in statement
        assert weight in statement
    for n, median in ((3, "1.371989"), (5, "1.188049")):
        below = (
            quad(lambda a, n=n: a**-n, 1, float(median))[0] / quad(lambda a, n=n: a**-n, 1, 4)[0]
        )
        assert isclose(below, 0.5, abs_tol=1e-6)
        assert median in statement
    assert isclose(quad(lambda a: a**-3, 1, 4)[0], 15 / 32)
    assert isclose(quad(lambda a: a**-5, 1, 4)[0], 255 / 1024)


def test_draws_against_pushes_as_printed():
    factors = {c.labels * c.positives // 64 for c in load_table8().values()}
    assert factors == {64, 128, 256}
    assert all(f"{factor}" in SPEC.clauses["A8-refresh"].statement for factor in factors)
    assert load_table8()["latent-B/2"].labels * load_table8()["latent-B/2"].positives == 16384
    assert "16384" in SPEC.deltas["P-35"].effect
