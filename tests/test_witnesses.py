"""The measured effects of deltas: complete, inside their bands, and gone when a formula changes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pytest

import drifting_reference.algorithm2
import drifting_reference.loss
import drifting_reference.normalization
from drifting_parity.cases import Array
from drifting_parity.cli import main
from drifting_parity.report.as_json import to_json
from drifting_parity.report.data import Report
from drifting_parity.report.markdown import markdown
from drifting_parity.report.terminal import terminal
from drifting_parity.witnesses import WITNESSES, measure
from drifting_parity.witnesses.core import Effect, witness
from drifting_spec.registry import load

SPEC = load()


def test_every_witness_has_a_function_and_every_function_a_witness() -> None:
    assert set(WITNESSES) == set(SPEC.witnesses)


@pytest.fixture(scope="module")
def effects() -> tuple[Effect, ...]:
    return measure()


def test_every_effect_is_in_its_band_and_quickly_measured(effects: tuple[Effect, ...]) -> None:
    assert {item.id: item.value for item in effects if not item.within} == {}
    assert [item.id for item in effects] == list(SPEC.witnesses)
    assert sum(item.seconds for item in effects) < 10.0


def test_the_same_number_every_time(effects: tuple[Effect, ...]) -> None:
    assert [item.value for item in measure()] == [item.value for item in effects]


def test_bands_are_narrow_or_say_why_not() -> None:
    wide = {
        item.id
        for item in SPEC.witnesses.values()
        if item.high > 1e-6 and item.high - item.low > 0.05 * max(abs(item.low), abs(item.high))
    }
    # Rounding alone: their size is known, their digits depend on the machine.
    assert wide == {"J-03-scale", "J-29-expanded", "P-21-plane", "R-24-floor"}
    assert all(item.measures.endswith(".") for item in SPEC.witnesses.values())
    assert all(item.why.endswith(".") for item in SPEC.witnesses.values())


@pytest.mark.parametrize(
    ("delta", "number"),
    [
        ("P-01", "8.99999"), ("P-05", "1.50"), ("P-05", "1.71"), ("P-05", "1.87"), ("P-05", "2.22"),
        ("P-07", "1.992"), ("P-08", "0.9922"), ("P-14", "1.1547"), ("P-16", "4542"),
        ("P-44", "95.9"), ("P-44", "1278.8"), ("P-44", "639.4"), ("P-02", "23.5"),
    ],
)  # fmt: skip
def test_a_number_in_a_deltas_prose_is_measured(
    delta: str, number: str, effects: tuple[Effect, ...]
) -> None:
    decimals = len(number.partition(".")[2])
    own = [item.value for item in effects if item.witness.delta == delta]
    assert number in {f"{value:.{decimals}f}" for value in own}
    assert re.search(re.escape(number), SPEC.deltas[delta].effect + SPEC.deltas[delta].statement)


def aliased(A_pos: Array, A_neg: Array) -> tuple[Array, Array]:
    W_pos = A_pos * A_neg.sum(axis=1, keepdims=True)
    return W_pos, A_neg * W_pos.sum(axis=1, keepdims=True)


def under(function: Callable[..., Any], axis: str, reading: str) -> Callable[..., Any]:
    """The function under another reading than it is asked for; readings come last."""
    return lambda *given: function(*given[:-1], given[-1].with_reading(axis, reading))


# What is changed: module, name, the changed thing, and who notices.
CHANGES: dict[str, tuple[Any, str, Callable[[Any], Any], set[str]]] = {
    "the release's floor ten times higher": (
        *(drifting_reference.algorithm2, "FLOOR", lambda floor: {**floor, "1e-6": 1e-5}),
        {"J-01-channels-16-cold", "J-01-clusters"},
    ),
    "W_neg from the changed A_pos": (
        *(drifting_reference.algorithm2, "balance", lambda _: aliased),
        {"P-01-value", "P-19-both-3-2"},
    ),
    "self pairs never counted": (
        *(drifting_reference.loss, "feature_scale"),
        lambda before: under(before, "scale_self_pairs", "without"),
        {"P-08-scale", "P-08-gradient"},
    ),
    "λ without the square root": (
        *(drifting_reference.loss, "drift_scale"),
        lambda before: lambda V, readings: before(V, readings) ** 2,
        {"P-01-value", "P-34-loss", "P-23-sum"},
    ),
    "always a mean over locations": (
        *(drifting_reference.loss, "squared_errors"),
        lambda before: under(before, "location_reduction", "mean"),
        {"P-23-sum", "P-23-weight", "R-08-locations"},
    ),
    "always S and λ for each label": (
        *(drifting_reference.normalization, "shared_axes", lambda _: lambda _: (1,)),
        {"P-10-scale", "P-09-mean-of-ratios", "R-04-gradient"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_reference_leaves_the_band(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, changed, expected = CHANGES[change]
    monkeypatch.setattr(module, name, changed(getattr(module, name)))
    assert {item.id for item in measure(expected) if not item.within} == expected


def test_a_witness_that_raises_is_outside_its_band(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise ValueError("no such thing")

    monkeypatch.setitem(WITNESSES, "P-08-scale", broken)
    (item,) = measure(["P-08-scale"])
    assert np.isnan(item.value)
    assert not item.within
    assert item.error == "ValueError: no such thing"


def test_a_witness_has_one_function() -> None:
    with pytest.raises(ValueError, match="P-08-scale is defined twice"):
        witness("P-08-scale")(lambda: 1.0)


# In the report.


@pytest.fixture
def measured_report(good_report: Report) -> Report:
    """A report with one effect in its band, one outside and one that raised."""
    values = ((127 / 128, ""), (1.5, ""), (math.nan, "KeyError: 1"))
    names = ("P-08-scale", "P-14-unbiased", "J-05-stem")
    effects = [Effect(SPEC.witnesses[n], *v) for n, v in zip(names, values, strict=True)]
    return replace(good_report, effects=tuple(effects))


def test_json_holds_the_effects(measured_report: Report) -> None:
    schema = (
        resources.files("drifting_parity.report").joinpath("report.schema.json").read_text("utf-8")
    )
    document = json.loads(json.dumps(to_json(measured_report), allow_nan=False))
    jsonschema.Draft202012Validator(json.loads(schema)).validate(document)
    first, second, third = document["deltas"]
    assert (first["id"], first["delta"], first["within"]) == ("P-08-scale", "P-08", True)
    assert (second["effect"], second["within"]) == (1.5, False)
    assert (third["effect"], third["within"]) == ("nan", False)


def test_text_sums_up_and_shows_what_left_its_band(measured_report: Report) -> None:
    text = " ".join(terminal(measured_report, 100, verbose=True).split())
    assert "3 effects of 3 deltas measured on the reference, 2 outside the band" in text
    assert "✗ P-14-unbiased Unbiased over population: 1.5 ratio, outside 1.1547" in text
    assert "✗ J-05-stem The stem's map: nan vectors, outside 1666; KeyError: 1" in text
    assert "P-08-scale" not in text
    assert "list effects" in text


def test_markdown_shows_all(measured_report: Report) -> None:
    lines = markdown(measured_report).splitlines()
    assert "| ✓ | P-08-scale | Zeros counted or not | 0.99219 | 0.99219 | ratio |" in lines
    assert any(line.startswith("| ✗ | P-14-unbiased |") for line in lines)


def test_a_report_of_some_clauses_measures_no_effects(good_report: Report) -> None:
    assert to_json(good_report)["deltas"] == []
    assert "measured effects" not in terminal(good_report, 80) + markdown(good_report)


def test_a_deltas_page_measures_its_effects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "P-08"]) == 0
    page = capsys.readouterr().out
    assert "Measured on the reference" in page
    assert "P-08-scale: 0.992 ratio, expected 0.99219" in page
    assert main(["list", "effects"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(SPEC.witnesses)
