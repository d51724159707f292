"""A clause is red only if what it states is wrong, green only where its own wrong code would fail.

Wrong losses are the textbook with one step replaced (``judged_losses``), behind adapters that offer
the loss alone, or with its field; odd ones are right and must stay without a red clause.
"""

from __future__ import annotations

import numpy as np
import pytest
from clause_verdicts import green, outcomes, red, verdicts
from judged_losses import (
    AsPrinted,
    LossAndField,
    LossOnly,
    Shuffled,
    wrong,
)

from drifting_parity.cases import DType, LossCase, LossObservation, Setting
from drifting_parity.checks.stages import stage_of
from drifting_parity.judging.clauses import resolved
from drifting_parity.measure import STAGES, Measurement, compare, necessary, whole
from drifting_parity.report.data import CheckOutcome
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import PAPER, RELEASE, Readings
from drifting_spec.registry import load

SCALE = {"EQ-20", "EQ-21"}
DRIFT_SCALE = {"EQ-24", "EQ-25"}
ORDER = {"A6-order", "EQ-A6tau", "A6-taus"}
KERNEL = {"ALG2-10", "ALG1-4"}
TEMPERATURE = {"EQ-22", "A6-tau"}

OF_A_LOSS = {
    "D22": TEMPERATURE,
    "D71": SCALE,
    "half of S": SCALE,
    "S by label": {"EQ-21", "A6-S"},
    "D40": {"EQ-21", "A6-S", "EQ-25", "A6-lambda"},
    "D36": {"A7-weight-in-scale"},
    "D09": {"ALG2-3"},
    "D01": {"ALG2-3", "A7-selfmask-count"},
    "D19:kernel": KERNEL,
    "D12": KERNEL,
    "D11": KERNEL,
    "D15": KERNEL,
    # A cosine does not follow the unit of the features: that is said of the temperature.
    "D21:cosine": {*KERNEL, *SCALE, "EQ-18", "EQ-19", "A6-tau"},
    "D52": {"A7-w", "EQ-A7q", "EQ-15"},
    "D55:unweighted": {"A7-w", "EQ-A7q", "EQ-15", "A7-weight-in-scale"},
    "D28:norm": DRIFT_SCALE,
    "D30": {*DRIFT_SCALE, "A6-lambda"},
    "D60:half": {"EQ-26", "A6-mse"},
    "D60:sum": {"EQ-26", "A6-mse"},
    "D60:huber": {"EQ-26", "A6-mse", *ORDER},
    "D24": ORDER,
    "D61:target": {"S3-sg", "ALG1-5"},
    "D61:feature-scale": {"S3-sg", "ALG1-5"},
    "D61:negatives": {"S3-sg", "ALG1-5"},
    "drift from other labels": {"S3-neg-reuse", "ALG1-3", "S4-batch"},
}
"""What each wrong loss may turn red, all of it but for what stands in ``MAY``."""

MAY = {"A6-lambda", "A6-taus", "A6-tau", "EQ-A6tau", "A6-order", "EQ-15", "A7-weight-in-scale"}

OF_A_FIELD = {
    "D09": {"ALG2-3"},
    "D01": {"ALG2-3", "A7-selfmask-count"},
    "D02": {"ALG2-3"},
    "D12": {"ALG2-6"},
    "D11": {"ALG2-6"},
    "D19:kernel": {"EQ-12", "ALG2-1", "ALG2-2", "ALG2-4"},
    "D15": {"ALG2-8", "ALG2-9", "EQ-3", "EQ-4", "EQ-15", "EQ-16"},
    "D52": {"A7-w", "EQ-A7q", "EQ-15", "EQ-16"},
    "D22": TEMPERATURE,
}


@pytest.mark.parametrize("name", OF_A_LOSS)
def test_a_wrong_loss_turns_red_what_it_has_wrong_and_nothing_else(name: str) -> None:
    found = red(verdicts(outcomes(LossOnly(wrong(name)))))
    assert found <= OF_A_LOSS[name]
    assert found >= OF_A_LOSS[name] - MAY
    assert found


@pytest.mark.parametrize("name", OF_A_FIELD)
def test_a_wrong_field_turns_red_the_line_that_is_wrong(name: str) -> None:
    found = red(verdicts(outcomes(LossAndField(wrong(name)))))
    assert found <= OF_A_FIELD[name]
    assert found & OF_A_FIELD[name]


@pytest.mark.parametrize(
    ("book", "readings", "dtype"),
    [
        pytest.param(Textbook(), PAPER, "float64", id="textbook"),
        pytest.param(Textbook(), PAPER, "float32", id="textbook-float32"),
        pytest.param(AsPrinted(), PAPER, "float64", id="as-printed"),
        pytest.param(AsPrinted(), PAPER, "float32", id="as-printed-float32"),
        pytest.param(Shuffled(), PAPER, "float64", id="another-order"),
    ],
)
def test_right_but_odd_code_has_no_red_clause(
    book: Textbook, readings: Readings, dtype: DType
) -> None:
    found = outcomes(LossAndField(book), slow=("numerics", "sizes"), readings=readings, dtype=dtype)
    assert red(verdicts(found, readings)) == set()


def test_expanded_squares_in_float32_conform_to_the_release() -> None:
    """D18 is what the release does; its rounding is no mistake of S or λ."""
    book = LossOnly(wrong("D18:always", RELEASE))
    found = outcomes(book, slow=("numerics", "sizes"), readings=RELEASE, dtype="float32")
    given = verdicts(found, RELEASE)
    assert red(given) == set()
    assert {"EQ-21", "EQ-25", "EQ-26"} <= green(given)


def test_expanded_squares_fail_the_distance_alone() -> None:
    found = outcomes(LossAndField(wrong("D18:always")), slow=("numerics",), dtype="float32")
    assert red(verdicts(found)) == {"EQ-12", "ALG2-1", "ALG2-2"}


# False greens.


def test_a_wrong_loss_takes_nothing_from_a_right_field() -> None:
    adapter = LossAndField(wrong("D22"))
    adapter.field_book = Textbook()
    given, right = verdicts(outcomes(adapter)), verdicts(outcomes(LossAndField(Textbook())))
    lines = {name for name in right if stage_of(name) == "field"}
    assert red(given) == TEMPERATURE
    assert green(given) & lines >= (green(right) & lines) - {"ALG1-4"}


def test_weights_are_not_green_on_the_field_where_the_loss_has_them_wrong() -> None:
    adapter = LossAndField(wrong("D52"))
    adapter.field_book = Textbook()
    given = verdicts(outcomes(adapter))
    assert {"A7-w", "EQ-A7q", "EQ-15"} <= red(given)


@pytest.mark.parametrize("name", ["half of S", "D71", "D60:huber"])
def test_an_invariance_proves_no_scale(name: str) -> None:
    """One scalar of any size may be mixed over channels; EQ-18 and EQ-19 are about S."""
    assert not {"EQ-18", "EQ-19"} & green(verdicts(outcomes(LossOnly(wrong(name)))))


def test_leaking_labels_are_no_batch_of_labels() -> None:
    assert "S4-batch" not in green(verdicts(outcomes(LossOnly(wrong("drift from other labels")))))


class _Infinite(LossOnly):
    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        return LossObservation(np.inf, np.full(case.generated.shape, np.inf))


def test_an_infinite_loss_is_green_nowhere() -> None:
    given = verdicts(outcomes(_Infinite(Textbook())))
    told = {name for name in green(given) if load().clauses[name].subject == "implementation"}
    assert told == set()


def test_nothing_is_held_to_what_is_not_finite() -> None:
    tolerance = load().tolerance("loss", "float64")
    assert not compare("EQ-26", "loss", "", np.inf, np.inf, tolerance).passed
    assert not compare("EQ-26", "loss", "", 1.0, np.inf, tolerance).passed


# How measurements become verdicts.


def _outcome(*items: Measurement) -> CheckOutcome:
    clauses = tuple(name for item in items for name in item.touched)
    return CheckOutcome("check", "", "property", clauses, measurements=items)


def _item(clause: str, error: float, stage: str = "scale") -> Measurement:
    return Measurement((clause,), "quantity", "case", error, 0.5, stage=stage)  # pyright: ignore[reportArgumentType]


def test_a_failure_of_the_whole_is_set_aside_only_where_another_explains_it() -> None:
    of_the_whole = whole(_item("EQ-25", 1.0), "gradient")
    assert red(verdicts(resolved([_outcome(of_the_whole)]))) == {"EQ-26", "A6-mse"}
    both = resolved([_outcome(of_the_whole, _item("EQ-21", 1.0))])
    assert red(verdicts(both)) == {"EQ-21"}
    assert verdicts(both)["EQ-26"] == "not observable"


def test_a_mistake_of_vectors_or_training_explains_no_loss() -> None:
    of_the_whole, vectors = whole(_item("EQ-25", 1.0), "gradient"), _item("A5-b", 1.0, "vectors")
    found = red(verdicts(resolved([_outcome(of_the_whole, vectors)])))
    assert found == {"EQ-26", "A6-mse", "A5-b"}


def test_what_is_only_necessary_proves_nothing() -> None:
    assert verdicts([_outcome(necessary(_item("EQ-18", 0.0)))])["EQ-18"] == "not observable"
    assert verdicts([_outcome(necessary(_item("EQ-18", 1.0)))])["EQ-18"] == "deviates"


def test_every_clause_has_a_stage() -> None:
    assert {stage_of(name) for name in load().clauses} <= set(STAGES)
    assert stage_of("EQ-21") == "scale"
    assert stage_of("A6-locshare") == "locations"


def test_every_measurement_names_its_stage() -> None:
    for outcome in outcomes(LossAndField(Textbook()), slow=("numerics", "sizes")):
        assert all(item.stage in STAGES for item in outcome.measurements), outcome.check
