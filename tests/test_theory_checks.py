"""The checks of the paper's own statements turn red on a reference that is wrong.

Each mutant replaces one function of the reference; the checks that must notice it are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.checks import checks_of
from drifting_parity.checks.core import EXACT, Check, Context
from drifting_parity.judging.verdicts import run_check
from drifting_parity.report.data import CheckOutcome
from drifting_reference import alpha_laws, arithmetic, guidance, identifiability, mae, mmd
from drifting_spec import PRESETS
from drifting_spec.registry import load

CHECKS: dict[str, Check] = {check.id: check for check in checks_of("paper")}
Wrong = Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """What is wrong with which function, and the checks that must notice."""

    flaw: str
    module: ModuleType
    name: str
    wrong: Callable[[Wrong], Wrong]
    noticed: tuple[str, ...]


def times(factor: float) -> Callable[[Wrong], Wrong]:
    """The result, scaled."""
    return lambda right: lambda *given, **named: factor * right(*given, **named)


def swapped(first: int, second: int) -> Callable[[Wrong], Wrong]:
    """Two arguments interchanged."""

    def make(right: Wrong) -> Wrong:
        def wrong(*given: Any) -> Any:
            arguments = list(given)
            arguments[first], arguments[second] = arguments[second], arguments[first]
            return right(*arguments)

        return wrong

    return make


def instead(wrong: Wrong) -> Callable[[Wrong], Wrong]:
    """Another function altogether."""
    return lambda right: wrong


def changed(change: Callable[[Any], Any]) -> Callable[[Wrong], Wrong]:
    """The result, changed."""
    return lambda right: lambda *given, **named: change(right(*given, **named))


def plus_for_minus(x: Any, nodes: Any, T: float) -> Any:
    k = np.exp(-np.linalg.norm(x - nodes, axis=1) / T)
    return k[:, None, None] * k[None, :, None] * (nodes[:, None] + nodes[None])


def products_only(a: Any, b: Any, U: Any) -> Any:
    return sum(a[i] * b[j] * U[i, j] for i in range(len(a)) for j in range(i + 1, len(a)))


def absolute_positions(x: Any, y_pos: Any, y_neg: Any, k_pos: Any, k_neg: Any) -> Any:
    del x
    return k_pos @ y_pos / len(y_pos) - k_neg @ y_neg / len(y_neg)


def without_atom(right: Wrong) -> Wrong:
    return lambda value, n, atom=0.0: right(value, n, 0.0)


def fifteen_as_sixteen(u: Any, n: float, atom: float = 0.0) -> Any:
    v = np.maximum(np.asarray(u) - atom, 0.0) / (1.0 - atom)
    return (1.0 + v * (4.0 ** (1 - n) - 1.0) * 0.99) ** (1 / (1 - n))


def mse(x: Any, target: Any) -> float:
    return float(np.mean((x - target) ** 2))


def per_position(u: Any, probability: float) -> Any:
    return np.tile(u < probability, (2, 2))


def first_channel(x: Any, mask: Any) -> Any:
    visible = x.copy()
    visible[mask, 0] = 0.0
    return visible


def half_of_mmd(x: Any, y_pos: Any, kernel: Any) -> float:
    among = np.mean(kernel.xi(mmd.squared_distances(x, x)))
    return float(among - np.mean(kernel.xi(mmd.squared_distances(y_pos, x))))


def second_line_added(right: Wrong) -> Wrong:
    return lambda x, y_pos, y_neg, kernel: (
        right(x, y_pos, y_neg, kernel) + 2 * np.mean(mmd.kernel_gradient(x, y_neg, kernel), axis=1)
    )


MUTANTS = (
    Mutant(
        "K without its sign",
        identifiability,
        "interaction_kernel",
        instead(plus_for_minus),
        ("PB-47", "C1-quadrature"),
    ),
    Mutant(
        "p and q swapped",
        identifiability,
        "population_field",
        swapped(1, 2),
        ("PB-47", "C1-quadrature"),
    ),
    Mutant(
        "half of EQ-31",
        identifiability,
        "bilinear_field",
        instead(products_only),
        ("PB-47", "C1-quadrature", "C1-rank"),
    ),
    Mutant(
        "half of EQ-32", identifiability, "antisymmetric_field", instead(products_only), ("PB-47",)
    ),
    Mutant(
        "U transposed",
        identifiability,
        "interactions",
        changed(lambda U: np.swapaxes(U, 0, 1)),
        ("PB-47", "C1-quadrature"),
    ),
    Mutant(
        "U symmetric", identifiability, "interactions", changed(np.abs), ("PB-47", "C1-quadrature")
    ),
    Mutant("moments swapped", identifiability, "interactions_from_moments", times(-1), ("PB-47",)),
    Mutant("a density of mass 2", identifiability, "mixture", times(2), ("PB-47", "C1-quadrature")),
    Mutant("φ not normalised", identifiability, "gaussian_basis", times(2), ("C1-quadrature",)),
    Mutant(
        "weights doubled",
        identifiability,
        "quadrature_1d",
        changed(lambda rule: (rule[0], 2 * rule[1])),
        ("C1-quadrature",),
    ),
    Mutant("columns of i > j", identifiability, "pair_columns", times(-1), ("C1-rank",)),
    Mutant(
        "one rank too many",
        identifiability,
        "conditioning",
        changed(lambda found: replace(found, rank=found.rank + 1)),
        ("C1-rank",),
    ),
    Mutant("mean over channels", mmd, "expected_loss", instead(mse), ("PB-45-loss",)),
    Mutant("per-sample loss halved", mmd, "sample_losses", times(0.5), ("PB-45-loss",)),
    Mutant("V without the half", mmd, "drift_of_loss", times(2), ("PB-45-loss", "PB-45")),
    Mutant(
        "a sum for the mean over q",
        mmd,
        "parameter_gradient",
        instead(lambda g, J: np.einsum("ic,ict->t", g, J)),
        ("PB-45-loss", "PB-45"),
    ),
    Mutant("EQ-37 without its 2", mmd, "mmd_loss", instead(half_of_mmd), ("PB-45",)),
    Mutant("EQ-39 without its 2", mmd, "mmd_sample_gradient", times(0.5), ("PB-45",)),
    Mutant("EQ-41's sign", mmd, "mmd_field", times(-1), ("PB-45", "PB-45-kernels")),
    Mutant("EQ-41's sets swapped", mmd, "mmd_field", swapped(1, 2), ("PB-45", "PB-45-kernels")),
    Mutant("EQ-42 without its 2", mmd, "kernel_gradient", times(0.5), ("PB-45",)),
    Mutant("EQ-43: second line added", mmd, "radial_mmd_field", second_line_added, ("PB-45",)),
    Mutant("EQ-45's sign", mmd, "mmd_kernel", times(-1), ("PB-45-kernels",)),
    Mutant(
        "Gaussian without 1/σ²",
        mmd,
        "gaussian_xi",
        changed(lambda k: mmd.RadialKernel(k.xi, lambda R: -0.5 * k.xi(R))),
        ("PB-45", "PB-45-kernels"),
    ),
    Mutant(
        "ξ = e^{−r/τ} for Matérn",
        mmd,
        "matern_xi",
        lambda right: (
            lambda tau: mmd.RadialKernel(right(tau).xi, lambda R: -right(tau).xi(R) / (2 * tau**2))
        ),
        ("PB-45", "PB-45-kernels"),
    ),
    Mutant(
        "normalised to a sum of 1",
        mmd,
        "normalized_rows",
        instead(lambda k: k / k.sum(axis=1, keepdims=True)),
        ("PB-45-kernels", "PB-46"),
    ),
    Mutant(
        "not normalised", mmd, "normalized_rows", instead(lambda k: k), ("PB-45-kernels", "PB-46")
    ),
    Mutant(
        "EQ-44 not relative to x",
        mmd,
        "kernel_field",
        instead(absolute_positions),
        ("PB-45-kernels",),
    ),
    Mutant(
        "EQ-47 as a sum",
        mmd,
        "paired_kernel_field",
        lambda right: lambda p, q, a, b: len(p) * len(q) * right(p, q, a, b),
        ("PB-46",),
    ),
    Mutant(
        "EQ-47 always normalised",
        mmd,
        "mmd_kernel",
        changed(lambda k: k / k.mean(axis=1, keepdims=True)),
        ("PB-46-unnormalised", "PB-45-kernels"),
    ),
    Mutant(
        "a wrong factor in icdf",
        alpha_laws,
        "alpha_icdf",
        instead(fifteen_as_sixteen),
        ("PB-40", "A7-alpha-moments", "A7-alpha-samples"),
    ),
    Mutant(
        "no atom in icdf", alpha_laws, "alpha_icdf", without_atom, ("PB-40", "A7-alpha-samples")
    ),
    Mutant("no atom in the CDF", alpha_laws, "alpha_cdf", without_atom, ("PB-40",)),
    Mutant(
        "density not normalised",
        alpha_laws,
        "alpha_density",
        times(15 / 32),
        ("PB-40", "A7-alpha-moments"),
    ),
    Mutant(
        "Z inverted",
        alpha_laws,
        "alpha_normalizer",
        changed(lambda Z: 1 / Z),
        ("PB-40", "A7-alpha-moments"),
    ),
    Mutant("no atom in moments", alpha_laws, "alpha_moment", without_atom, ("A7-alpha-moments",)),
    Mutant(
        "second moment for variance",
        alpha_laws,
        "alpha_variance",
        lambda right: lambda n, atom=0.0: alpha_laws.alpha_moment(2, n, atom),
        ("A7-alpha-moments",),
    ),
    Mutant("N for N − 1", guidance, "cfg_alpha_to_weight", times(64 / 63), ("A7-alpha-moments",)),
    Mutant(
        "a ramp of 3000",
        mae,
        "classification_weight",
        instead(lambda step: 0.1 * min(1.0, step / 3000)),
        ("PB-42",),
    ),
    Mutant("losses swapped", mae, "fine_tuning_loss", swapped(0, 1), ("PB-42",)),
    Mutant(
        "variance for deviation",
        mae,
        "mask_count_moments",
        changed(lambda pair: (pair[0], pair[1] ** 2)),
        ("A3-mask-law",),
    ),
    Mutant("masked where u > p", mae, "mask_from_uniform", changed(np.logical_not), ("PB-43",)),
    Mutant("cells not contiguous", mae, "mask_from_uniform", instead(per_position), ("PB-43",)),
    Mutant("one channel masked", mae, "masked_input", instead(first_channel), ("PB-43",)),
    Mutant(
        "another data set", arithmetic, "epochs", times(1_281_167 / 1_331_167), ("S4-schedule",)
    ),
    Mutant(
        "whole iterations", arithmetic, "iterations_per_epoch", changed(np.floor), ("S4-schedule",)
    ),
    Mutant(
        "B of positives",
        arithmetic,
        "batch_size",
        lambda right: lambda labels, generated: labels * 64,
        ("S4-sizes",),
    ),
    Mutant(
        "tokens on a side",
        arithmetic,
        "token_count",
        instead(lambda side, patch: side // patch),
        ("S4-sizes", "T8-pixel-input"),
    ),
    Mutant(
        "one class",
        arithmetic,
        "class_queue_refresh",
        instead(lambda capacity, classes, pushes: capacity / pushes),
        ("A8-arithmetic",),
    ),
    Mutant("whole steps", arithmetic, "global_queue_refresh", changed(np.ceil), ("A8-arithmetic",)),
    Mutant(
        "one label",
        arithmetic,
        "drawn_per_pushed",
        instead(lambda labels, positives, pushes: positives / pushes),
        ("A8-arithmetic",),
    ),
)


def outcome(identifier: str) -> CheckOutcome:
    context = Context(ReferenceAdapter(), PRESETS["paper"], EXACT, load())
    return run_check(CHECKS[identifier], context)


def failing(found: CheckOutcome) -> set[str]:
    """Clauses with a measurement that failed."""
    return {clause for item in found.measurements if not item.passed for clause in item.refuted}


@pytest.mark.parametrize("identifier", CHECKS)
def test_passes_on_the_reference(identifier: str) -> None:
    found = outcome(identifier)
    assert found.error == ""
    assert found.measurements
    assert failing(found) == set()
    assert {clause for item in found.measurements for clause in item.touched} == set(
        CHECKS[identifier].clauses
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.name}-{mutant.flaw}")
def test_notices(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(mutant.module, mutant.name)
    monkeypatch.setattr(mutant.module, mutant.name, mutant.wrong(right))
    for identifier in mutant.noticed:
        assert failing(outcome(identifier)), f"{identifier} does not notice: {mutant.flaw}"


def test_every_check_notices_something() -> None:
    # Wrong cells of Table 8 are the subject of test_table8.
    noticing = {identifier for mutant in MUTANTS for identifier in mutant.noticed}
    assert noticing | {"T8-consistency"} == set(CHECKS)


def test_every_clause_turns_red_for_some_mutant(monkeypatch: pytest.MonkeyPatch) -> None:
    red = set[str]()
    for mutant in MUTANTS:
        with monkeypatch.context() as patch:
            right = getattr(mutant.module, mutant.name)
            patch.setattr(mutant.module, mutant.name, mutant.wrong(right))
            for identifier in mutant.noticed:
                red |= failing(outcome(identifier))
    checked = {clause for check in CHECKS.values() for clause in check.clauses}
    assert red >= checked - set(CHECKS["T8-consistency"].clauses)


def test_these_checks_never_ask_the_adapter() -> None:
    context = Context(ReferenceAdapter(), PRESETS["paper"], EXACT, load())
    blind = replace(context, adapter=None, oracle=None)  # pyright: ignore[reportArgumentType]
    for check in CHECKS.values():
        if check.clauses == ("A7-alpha-dist",):
            continue  # of the laws of α the adapter's own are asked for
        assert list(check.run(blind))
