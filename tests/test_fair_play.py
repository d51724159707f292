"""Fair play: narrow code is asked everything that fits, in its own arithmetic, at real sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from clause_verdicts import green, judged_context, outcomes, red, verdicts
from judged_losses import (
    LossAndField,
    LossOnly,
    one_label,
    one_label_no_weights,
    wrong,
)

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.capabilities import Capabilities, learn
from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    Array,
    DType,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
)
from drifting_parity.checks.loss.sizes import case_of, drawn_sizes, small_twin
from drifting_parity.draw import RandomDraw, Rejected, generator
from drifting_parity.explanation import fingerprint as fingerprint_module
from drifting_parity.judging.axes import observe
from drifting_parity.judging.verdicts import Request, judge
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook
from drifting_spec import PAPER, Readings

SHOWN_BY_ONE_LABEL = {
    *("EQ-18", "EQ-19", "EQ-20", "EQ-21", "EQ-22", "EQ-23", "EQ-24", "EQ-25", "EQ-26"),
    *("A6-tau", "A6-order", "EQ-A6tau", "A6-mse", "S3-sg", "ALG2-3", "ALG2-10", "ALG1-4"),
}
"""What one label, one vector, no guidance and fixed temperatures are enough for."""


def test_narrow_code_is_asked_all_that_fits() -> None:
    given = verdicts(outcomes(LossOnly(Textbook(), narrow=one_label_no_weights)))
    assert red(given) == set()
    assert green(given) >= SHOWN_BY_ONE_LABEL
    # What takes labels, locations or weights is not shown by cases cut down to one.
    assert not {"A6-S", "A6-lambda", "A6-locshare", "A5-sum", "A7-w", "S4-batch"} & green(given)


def test_one_weight_for_each_label_shows_the_weights() -> None:
    given = verdicts(outcomes(LossOnly(Textbook(), narrow=one_label)))
    assert red(given) == set()
    assert green(given) >= {*SHOWN_BY_ONE_LABEL, "A7-w", "EQ-A7q", "A7-weight-in-scale"}


@pytest.mark.parametrize("narrow", [one_label_no_weights, one_label], ids=["no weights", "weights"])
@pytest.mark.parametrize(
    ("name", "clauses"),
    [
        ("D22", {"EQ-22", "A6-tau"}),
        ("half of S", {"EQ-18", "EQ-19", "EQ-20", "EQ-21"}),
        ("D09", {"ALG2-3"}),
        ("D60:half", {"EQ-26", "A6-mse"}),
        ("D28:norm", {"EQ-23", "EQ-24", "EQ-25"}),
        ("D30", {"EQ-23", "EQ-24", "EQ-25"}),
        ("D24", {"A6-order", "EQ-A6tau", "A6-taus"}),
        ("D61:target", {"S3-sg", "ALG1-5"}),
    ],
)
def test_narrow_wrong_code_is_red_on_the_same_clauses(
    name: str, clauses: set[str], narrow: Callable[[LossCase], None]
) -> None:
    found = red(verdicts(outcomes(LossOnly(wrong(name), narrow=narrow))))
    assert found
    assert found <= clauses


def test_what_is_taken_is_learnt_by_trying() -> None:
    narrow = LossOnly(Textbook(), narrow=one_label_no_weights)
    learnt = judged_context(narrow, PAPER, "float64").capabilities
    assert not learnt.takes("labels")
    assert not learnt.takes("one sample")
    assert learnt.temperatures == PAPER_TEMPERATURES
    assert learnt.raises == {}
    assert "one label at a time" in learnt.lacking(("labels",))
    whole = judged_context(LossAndField(Textbook()), PAPER, "float64").capabilities
    assert whole == Capabilities()


class _Unheeding(LossOnly):
    """Its own temperatures, whatever is asked for."""

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        return super().loss(case.changed(temperatures=PAPER_TEMPERATURES), readings, setting)


class _SingleField(Adapter):
    """A field alone, in float32."""

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        return Textbook().observe_field(case, replace(setting, dtype="float32"))


def _guided(case: LossCase) -> None:
    if case.unconditional is None:
        raise NotObservable("guided cases alone")


def test_what_the_explanation_goes_by_is_learnt_beside_it() -> None:
    guided = learn(LossOnly(Textbook(), narrow=_guided, inside="float32"), PAPER, Setting())
    assert guided.guided_only
    assert guided.also_single == {"guided loss"}
    assert guided.notes == ("takes no case without unconditional samples",)
    plain = case_of(drawn_sizes(RandomDraw(0))[1], np.random.default_rng(0))
    assert guided.answerable(plain.changed(unconditional=None)).unconditional is not None
    # Its checks are not cut down to less by that: none has a closed form for further samples.
    assert set(guided.refused) == {"a field"}
    unheeding = learn(_Unheeding(Textbook()), PAPER, Setting())
    assert unheeding.notes == ("takes no notice of the temperatures that it is given",)
    assert unheeding.answerable(plain).temperatures == PAPER_TEMPERATURES
    assert learn(_SingleField(), PAPER, Setting()).also_single == {"field"}
    heeding = learn(LossAndField(Textbook()), PAPER, Setting())
    assert heeding.notes == ()
    assert not heeding.also_single


def test_a_report_learns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint_module, "learn", None)
    context = judged_context(LossOnly(Textbook()), PAPER, "float64")
    assert observe(context).explained


def test_what_is_declared_is_not_tried() -> None:
    declared = Capabilities({"labels": "one label"})
    adapter = LossOnly(Textbook())
    adapter.capabilities = declared  # pyright: ignore[reportAttributeAccessIssue]
    assert judged_context(adapter, PAPER, "float64").capabilities is declared


def test_a_fitted_case_says_what_was_cut() -> None:
    case = case_of(drawn_sizes(RandomDraw(0))[1], np.random.default_rng(0))
    fitted = Capabilities({"labels": "one", "vectors": "one"}).fitted(case)
    assert fitted.generated.shape[0] == fitted.generated.shape[2] == 1
    assert "L=1, V=1" in fitted.manifest.id
    uneven, narrow = case.changed(positive=case.positive[:, :3]), "another count of samples"
    with pytest.raises(Rejected):
        Capabilities({narrow: "no"}).fitted(uneven)


class _EyeOfN(LossOnly):
    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        if case.unconditional is not None:
            raise RuntimeError("The size of tensor a (7) must match the size of tensor b (4)")
        return super().loss(case, readings, setting)


def test_what_raises_is_said_once_and_voids_nothing_else() -> None:
    """D03: a mask of eye(N)."""
    given = verdicts(outcomes(_EyeOfN(Textbook())))
    assert red(given) == {"A7-selfmask-count"}
    assert green(given) >= {*SHOWN_BY_ONE_LABEL, "A6-S", "A6-locshare"}


class _NoCoincidence(LossOnly):
    """Raises where generated samples coincide, and for a sample alone."""

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        x = case.generated[0, :, 0]
        if len(np.unique(x, axis=0)) < len(x) or len(x) == 1:
            raise FloatingPointError("division by zero")
        return super().loss(case, readings, setting)


def test_an_extreme_case_that_raises_voids_no_other() -> None:
    found = outcomes(_NoCoincidence(Textbook()), only=["numerics.coincident", "numerics.smallest"])
    coincident, smallest = found
    assert "division by zero" in coincident.error
    assert {item.passed for item in coincident.measurements} == {True}
    assert smallest.passed


# Arithmetic.


def test_float32_inside_is_recognised_and_held_to_float32() -> None:
    adapter = LossOnly(Textbook(), inside="float32")
    found = outcomes(adapter, slow=("numerics", "sizes"))
    assert red(verdicts(found)) == set()
    report = judge(Request("mine", adapter, PAPER, quick=True, clause_glob="EQ-26"))
    assert "float32 inside" in report.environment["arithmetic"]


class _Float32Only(LossOnly):
    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        if setting.dtype == "float64":
            raise RuntimeError("expected scalar type Float but found Double")
        return super().loss(case, readings, setting)


def test_code_that_raises_on_float64_is_judged_in_float32() -> None:
    context = judged_context(_Float32Only(Textbook()), PAPER, "float64")
    assert context.setting.dtype == "float32"
    assert "found Double" in context.capabilities.reason


def test_float64_inside_is_not_taken_for_float32() -> None:
    assert not judged_context(LossOnly(Textbook()), PAPER, "float64").capabilities.single_precision


class _Recording(LossAndField):
    def __init__(self) -> None:
        super().__init__(Textbook())
        self.asked: set[DType] = set()

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        self.asked.add(setting.dtype)
        return super().loss(case, readings, setting)

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Any:
        self.asked.add(setting.dtype)
        return super().field(case, readings, setting)


def test_float32_asked_for_is_all_that_runs() -> None:
    adapter = _Recording()
    outcomes(adapter, dtype="float32", slow=("numerics", "sizes"))
    assert adapter.asked == {"float32"}


# Table 8's sizes.


class _FirstVectors(Textbook):
    """The loss of the first 64 vectors."""

    def reduce_vectors(self, squared: torch.Tensor) -> torch.Tensor:
        return super().reduce_vectors(squared[..., :64])


class _FirstLabels(Textbook):
    """The loss of the first four labels."""

    def reduce_labels(self, per_label: torch.Tensor) -> torch.Tensor:
        return super().reduce_labels(per_label[:4])


class _ThreeTemperatures(Textbook):
    """The first three temperatures."""

    def solve_samples(self, live: Samples, temperatures: Any) -> Any:
        return super().solve_samples(live, temperatures[:3])


class _Sampled(Textbook):
    """Beyond 1000 samples S is that of the first hundred rows."""

    def mean_distance(self, samples: Samples, distance: torch.Tensor) -> torch.Tensor:
        if samples.x.shape[-2] + distance.shape[-1] <= 1000:
            return super().mean_distance(samples, distance)
        cut = replace(samples, x=samples.x[..., :100, :])
        weight = self.pair_weights(cut)
        return (weight * distance[..., :100, :]).sum((0, 1, 2, 3)).reshape(1, 1) / weight.sum()


class _ClampedWeight(Textbook):
    """w is at most 2."""

    def affinity(
        self, logit: torch.Tensor, present: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        return super().affinity(logit, present, weight.clamp(max=3.5))


@pytest.mark.parametrize(
    "book",
    [
        wrong("first 64 positives"),
        wrong("first 256 channels"),
        _FirstVectors(),
        _FirstLabels(),
        _ThreeTemperatures(),
        _Sampled(),
        _ClampedWeight(),
    ],
    ids=lambda book: type(book).__name__,
)
def test_a_limit_in_size_is_caught(book: Textbook) -> None:
    small = red(verdicts(outcomes(LossOnly(book))))
    # w above 3.5 is met by small cases already; every other limit is seen at these sizes alone.
    assert small == set() or isinstance(book, _ClampedWeight)
    assert red(verdicts(outcomes(LossOnly(book), only=["sizes.loss"]))) == {"EQ-26", "A6-mse"}


def test_a_field_that_looks_at_so_many_channels_is_caught() -> None:
    found = outcomes(LossAndField(wrong("first 256 channels")), only=["sizes.field"])
    assert red(verdicts(found)) == {"ALG2-10"}


@pytest.mark.parametrize("seed", range(5))
def test_the_sizes_are_table_8s(seed: int) -> None:
    sizes = drawn_sizes(RandomDraw(seed))
    assert any(one.generated == 64 and 64 <= one.positive <= 128 for one in sizes)
    assert any(16 <= one.unconditional <= 32 and one.alpha >= 2 for one in sizes)
    assert any(one.vectors > 64 for one in sizes)
    assert any(one.labels > 4 for one in sizes)
    assert any(one.channels > 256 for one in sizes)
    assert any(2048 < one.channels <= 4096 for one in sizes)
    assert any(len(one.temperatures) > 3 for one in sizes)
    assert any(one.generated + one.positive + one.unconditional > 1000 for one in sizes)
    case = case_of(small_twin(sizes[0]), generator(RandomDraw(seed)))
    assert max(case.generated.shape) <= 12


def test_sizes_are_left_out_where_nothing_fits() -> None:
    def none(case: LossCase) -> None:
        raise NotObservable("nothing at all")

    (outcome,) = outcomes(LossOnly(Textbook(), narrow=none), only=["sizes.loss"])
    assert outcome.not_observable == "nothing at all"
