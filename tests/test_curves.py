"""The curves and effects that ship are what is measured, and a changed formula changes them."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from drifting_parity.catalogue.curves import (
    shipped_curves,
    shipped_effects,
    shipped_examples,
    shipped_reading_effects,
)
from drifting_parity.explanation import deviation_effects
from drifting_parity.explanation.hypothesis import LOSS_AXES
from drifting_parity.suspects import ALL
from drifting_parity.witnesses import curves
from drifting_parity.witnesses.curves import CURVES, Curve
from drifting_parity.witnesses.worked import worked_examples
from drifting_spec import AXES, PAPER
from drifting_spec.registry import load

SHIPPED = {item.id: item for item in shipped_curves()}


def assert_shipped(measured: Curve) -> None:
    shipped = SHIPPED[measured.id]
    told = (measured.title, measured.says, measured.x, measured.y, measured.log_x, measured.log_y)
    assert told == (
        shipped.title, shipped.says, shipped.x, shipped.y, shipped.log_x, shipped.log_y,
    )  # fmt: skip
    for line, (label, x, y) in zip(measured.series, shipped.series, strict=True):
        assert line.label == label
        assert line.x == pytest.approx(x)
        assert line.y == pytest.approx(y, rel=2e-3, abs=1e-9), f"{measured.id}: {label}"


def test_each_curve_belongs_to_an_entry_of_the_spec() -> None:
    spec = load()
    assert set(SHIPPED) <= {*spec.deltas, *spec.deviations}
    assert Counter(item.id for item in shipped_curves()).most_common(1)[0][1] == 1
    for item in SHIPPED.values():
        assert item.says.endswith(".")
        assert all(math.isfinite(value) for _, x, y in item.series for value in (*x, *y))


@pytest.mark.parametrize("make", [each for each in CURVES if "release_floor" not in each.__name__])
def test_shipped_curves_are_what_is_measured(make: curves.Maker) -> None:
    assert_shipped(make())


def test_another_formula_gives_another_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves.scales, "ratio", lambda *_: 1.0)
    with pytest.raises(AssertionError, match="P-08"):
        assert_shipped(curves.self_pairs_against_samples())


def test_every_variant_of_a_deviation_says_what_it_does() -> None:
    shipped = {(name, variant) for name, items in shipped_effects().items() for variant, _ in items}
    assert shipped == {(item.id, item.variant) for item in ALL.values()}


@pytest.mark.parametrize("key", ["D22", "D24", "D05:distance", "D03", "D08", "D71"])
def test_shipped_effects_are_what_is_measured(key: str) -> None:
    suspect = ALL[key]
    said = dict(shipped_effects()[suspect.id])[suspect.variant]
    assert deviation_effects._effect(suspect) == said  # pyright: ignore[reportPrivateUsage]


def test_every_reading_of_the_loss_says_what_it_changes() -> None:
    others = {(a, r) for a in LOSS_AXES for r in AXES[a] if r != getattr(PAPER, a)}
    assert set(shipped_reading_effects()) == others


@pytest.mark.parametrize(
    ("axis", "reading"),
    [
        ("temperature_aggregation", "per_temperature_mse"),
        ("statistics_scope", "label"),
        ("self_mask", "add_100"),
    ],
)
def test_shipped_effects_of_readings_are_what_is_measured(axis: str, reading: str) -> None:
    measured = deviation_effects.reading_effect(axis, reading)
    assert measured.says == shipped_reading_effects()[axis, reading]


def test_shipped_curves_of_deviations_are_what_is_measured() -> None:
    first = next(iter(deviation_effects._by_channels()))  # pyright: ignore[reportPrivateUsage]
    assert first.id == "D22"
    assert_shipped(first)


def test_shipped_examples_are_what_is_computed() -> None:
    shipped = [(item.section, item.given, item.steps) for item in shipped_examples()]
    assert shipped == [
        (item.section, item.given, tuple((s.clause, s.tex, s.value) for s in item.steps))
        for item in worked_examples()
    ]


def test_the_example_of_a6_is_the_one_worked_by_hand() -> None:
    """S = 5/6, λ = 1.2/√2, and a value just under 9: by hand."""
    steps = {tex: value for item in shipped_examples() for _, tex, value in item.steps}
    assert float(steps["S"]) == pytest.approx(5 / 6, abs=1e-6)
    assert float(steps[r"\lambda \text{ at } \tau = 0.02"]) == pytest.approx(1.2 / 2**0.5, abs=1e-6)
    assert float(steps[r"\mathcal{L}"]) == pytest.approx(8.99999, abs=1e-5)
