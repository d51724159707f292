"""Every suspect shows where it says that it shows, and nowhere else."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from test_textbook import ROUNDING, apart, drawn, field_case, unweighted

from drifting_parity.cases import FeatureCase, FieldCase, LossCase, Manifest, Setting
from drifting_parity.explanation.answers import TIGHT, whole_error
from drifting_parity.explanation.hypothesis import Hypothesis
from drifting_parity.explanation.model import Model
from drifting_parity.explanation.probes import field_probes, loss_probes
from drifting_parity.suspects import (
    ALL,
    ELSEWHERE,
    Suspect,
    SuspectAdapter,
    Textbook,
    compose,
    conflict,
)
from drifting_spec import PAPER, PRESETS, Readings, parse_readings
from drifting_spec.registry import load

SPEC = load()
ORDINARY = drawn(21, L=2, N=5, P=6, U=4, V=2, C=3)
UNITS = 1e-5


def of_temperature(*temperatures: float) -> Callable[[LossCase], LossCase]:
    return lambda case: case.changed(temperatures=temperatures)


def offset(case: LossCase) -> LossCase:
    wide = drawn(22, L=1, N=30, P=31, U=2, V=1, C=3)
    assert wide.unconditional is not None
    return wide.changed(
        generated=wide.generated + 1e3,
        positive=wide.positive + 1e3,
        unconditional=wide.unconditional + 1e3,
    )


def equidistant(case: LossCase) -> LossCase:
    """Unit vectors: any two are as far apart as any others, at 10⁷ temperatures."""
    points = np.eye(12)[None, :, None, :]
    return case.changed(
        generated=points[:, :4],
        positive=points[:, 4:9],
        unconditional=points[:, 9:],
        unconditional_weight=np.ones((1, 3)),
        generated_weight=None,
        positive_weight=None,
        temperatures=(1e-7,),
    )


UNDER: dict[str, Callable[[LossCase], LossCase]] = {
    "ordinary": lambda case: case,
    "high temperature": of_temperature(40.0, 90.0),
    "tiny temperature": of_temperature(7e-4, 2e-2),
    "equal distances": equidistant,
    "offset": offset,
    "small units": lambda case: case.scaled(UNITS),
}
FIELDS: dict[str, list[FieldCase]] = {
    condition: [
        field_case(31, 5, 6, 8, 3, temperature, mask_self=True, weighted=True),
        field_case(32, 1, 6, 2, 3, temperature, mask_self=True, weighted=False),
        field_case(33, 5, 6, 5, 3, temperature, mask_self=False, weighted=False),
    ]
    for condition, temperature in {
        "ordinary": 0.6,
        "high temperature": 70.0,
        "tiny temperature": 3e-3,
        "small units": 0.6,
    }.items()
}
_POINTS = np.eye(12)
FIELDS["equal distances"] = [
    FieldCase(Manifest("equidistant"), _POINTS[:4], _POINTS[7:], _POINTS[:7], 1e-7)
]
_WIDE = field_case(34, 30, 31, 32, 3, 0.6, mask_self=True, weighted=False)
FIELDS["offset"] = [
    _WIDE.changed(x=_WIDE.x + 1e3, positive=_WIDE.positive + 1e3, negative=_WIDE.negative + 1e3)
]
LACKING = {
    "channels": drawn(41, C=1),
    "temperatures": drawn(42, temperatures=(0.3,)),
    "labels": drawn(43, L=1),
    "vectors": drawn(44, V=1),
    "groups": drawn(45, L=1, V=1),
    "unconditional": drawn(46, U=0),
    "weights": unweighted(drawn(47, U=0)),
    "one generated": drawn(48, N=1),
    "several samples": drawn(49, L=1, V=1, N=1),
}
UNDER_FLOORS_OF_RELEASE = {
    "D06",
    "D16:clamped",
    "D18:centred",
    "D66:clamped",
    "D66:drift-scale-clamped",
}
"""What the floors of ``release`` on affinities, distances, S and λ do already, or hide."""
OF_THE_LOSS = [item for item in ALL.values() if "features" not in item.needs]


def named(suspects: list[Suspect]) -> list[object]:
    return [pytest.param(item, id=item.key) for item in suspects]


def difference(one: Textbook, other: Textbook, case: LossCase) -> float:
    found, expected = one.observe(case, upstream=1.3), other.observe(case, upstream=1.3)
    if not np.isfinite(found.loss):
        return np.inf
    return max(apart(found.loss, expected.loss), apart(found.gradient, expected.gradient))


def field_difference(one: Textbook, other: Textbook, case: FieldCase) -> float:
    V = one.observe_field(case)
    return apart(V, other.observe_field(case)) if np.isfinite(V).all() else np.inf


def shown(item: Suspect, readings: Readings) -> float:
    """The largest difference that a suspect makes where it says that it shows."""
    plain = Textbook(readings)
    cases = [UNDER[item.shows_at](ORDINARY), UNDER[item.shows_at](LACKING["one generated"])]
    sizes = [
        difference(compose(readings, item), plain, case)
        for case in cases
        if item.can_show(case, readings)
    ]
    if "loss" not in item.needs:
        sizes += [
            field_difference(compose(readings, item), plain, case)
            for case in FIELDS[item.shows_at]
            if item.can_show(case, readings)
        ]
    return max(sizes)


def _idle(item: Suspect, readings: Readings) -> bool:
    """Whether the readings alone say that nothing changes."""
    if item.reading is not None:
        return readings == readings.with_reading(*item.reading)
    return any(
        all(getattr(readings, axis) == reading for axis, reading in idle.items())
        for idle in item.idle_under
    )


def second_call(item: Suspect, readings: Readings) -> float:
    book, plain = compose(readings, item), Textbook(readings)
    assert difference(book, plain, drawn(23)) == 0
    return difference(book, plain, drawn(24).scaled(3.0))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("item", named(OF_THE_LOSS))
def test_a_suspect_shows_where_it_says(item: Suspect, preset: str) -> None:
    readings = PRESETS[preset]
    if item.raises:
        with pytest.raises(RuntimeError):
            compose(readings, item).observe(ORDINARY)
        assert difference(compose(readings, item), Textbook(readings), drawn(25, U=0)) == 0
    elif "second call" in item.needs:
        assert second_call(item, readings) > item.size
    elif _idle(item, readings):
        assert not item.can_show(ORDINARY, readings)
    elif preset == "release" and item.key in UNDER_FLOORS_OF_RELEASE:
        assert shown(item, readings) <= ROUNDING
    else:
        assert shown(item, readings) > item.size


SHOWS_IN_SCALE = {"D18:centred"}
"""Its error is that of pairs that coincide: S counts them, the field masks them."""
OF_ALGORITHM_2 = [
    item for item in OF_THE_LOSS if "loss" not in item.needs and item.key not in SHOWS_IN_SCALE
]


@pytest.mark.parametrize("item", named(OF_ALGORITHM_2))
def test_a_suspect_of_algorithm_2_shows_in_the_field(item: Suspect) -> None:
    if item.raises:
        with pytest.raises(RuntimeError, match="must match"):
            compose(PAPER, item).observe_field(FIELDS["ordinary"][0])
        return
    differences = [
        field_difference(compose(PAPER, item), Textbook(), case)
        for case in FIELDS[item.shows_at]
        if item.can_show(case)
    ]
    assert max(differences) > min(item.size, 1e-9)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("item", named([s for s in OF_THE_LOSS if "second call" not in s.needs]))
def test_a_suspect_is_moot_where_it_says(item: Suspect, preset: str) -> None:
    for axis, readings in {
        "as it is": PRESETS[preset],
        "y": PRESETS[preset].with_reading("softmax_axes", "y"),
        "none": PRESETS[preset].with_reading("softmax_axes", "none"),
        "separate": PRESETS[preset].with_reading("kernel_normalization", "separate"),
        "per τ": PRESETS[preset].with_reading("temperature_aggregation", "per_temperature_mse"),
    }.items():
        plain, book = Textbook(readings), compose(readings, item)
        for name, case in {**LACKING, "ordinary": ORDINARY}.items():
            if not item.can_show(case, readings):
                assert difference(book, plain, case) <= ROUNDING, (axis, name)
        if "loss" in item.needs:
            continue
        for case in FIELDS["ordinary"]:
            if not item.can_show(case, readings):
                assert field_difference(book, plain, case) <= ROUNDING, (axis, case.manifest.id)


@pytest.mark.parametrize(
    "text",
    [*PRESETS, "paper,softmax_axes=none", "paper,kernel_normalization=separate,softmax_axes=y"],
)
def test_what_cannot_show_on_a_probe_answers_as_without(text: str) -> None:
    """The search answers once for hypotheses that say so of themselves."""
    readings = parse_readings(text)
    model, plain = Model(), Hypothesis(readings)
    for item in OF_THE_LOSS:
        other = None if "second call" in item.needs else plain.with_suspect(item.key)
        for probe in () if other is None or item.raises else (*loss_probes(), *field_probes()):
            if other is not None and other.key(probe.case) == plain.key(probe.case):
                same = model.compute(other, probe.case), model.compute(plain, probe.case)
                assert whole_error(*same) <= TIGHT["float64"], (item.key, probe.name)


@pytest.mark.parametrize("need", sorted(LACKING))
def test_every_need_is_wanting_somewhere(need: str) -> None:
    needing = [item for item in ALL.values() if need in item.needs]
    if need == "one generated":
        needing = [item for item in needing if not item.can_show(ORDINARY)]
        assert needing
        return
    assert all(not item.can_show(LACKING[need]) for item in needing)
    assert need == "weights" or needing or need in {"labels", "vectors"}


@pytest.mark.parametrize("item", named([item for item in ALL.values() if item.reading]))
def test_a_suspect_that_is_a_reading_equals_it(item: Suspect) -> None:
    assert item.reading is not None
    for readings in (*PRESETS.values(), PAPER.with_reading("softmax_axes", "y")):
        other = Textbook(readings.with_reading(*item.reading))
        book = compose(readings, item)
        for case in (ORDINARY, *LACKING.values()):
            assert difference(book, other, case) <= ROUNDING
        for case in FIELDS["ordinary"]:
            assert field_difference(book, other, case) <= ROUNDING


def features_of(*cases: LossCase) -> FeatureCase:
    named_cases = dict(zip("abc", cases, strict=False))
    raw = drawn(53, V=3, C=2, U=0)
    return FeatureCase(
        Manifest("features"),
        {key: case.generated for key, case in named_cases.items()},
        {key: case.positive for key, case in named_cases.items()},
        generated_samples=raw.generated,
        positive_samples=raw.positive,
        temperatures=(0.3, 1.0),
    )


@pytest.mark.parametrize("item", named([item for item in ALL.values() if "features" in item.needs]))
def test_a_suspect_of_many_features(item: Suspect) -> None:
    case = features_of(drawn(51, U=0), drawn(52, U=0, C=4))
    found = SuspectAdapter(item).feature_loss(case, PAPER, Setting())
    expected = SuspectAdapter().feature_loss(case, PAPER, Setting())
    assert apart(found.loss, expected.loss) > 1e-2
    assert difference(compose(PAPER, item), Textbook(), ORDINARY) == 0


def test_every_deviation_is_a_suspect_or_elsewhere() -> None:
    ids = {item.id for item in ALL.values()}
    assert not ids & set(ELSEWHERE)
    assert ids | set(ELSEWHERE) == set(SPEC.deviations)
    for item in ALL.values():
        assert item.key == item.id or item.key == f"{item.id}:{item.variant}"
        assert item.steps
        assert set(item.replaced_steps) <= set(item.steps)
        assert item.clauses
        assert set(item.clauses) <= set(SPEC.clauses)
        assert item.deviation.black_box
        assert item.stage
        assert item.change.__doc__


def test_a_variant_may_have_a_stage_and_clauses_of_its_own() -> None:
    assert (ALL["D66:clamped"].stage, ALL["D66:clamped"].clauses) == ("scale", ("EQ-20",))
    added = ALL["D66:drift-scale-added"]
    assert (added.stage, added.clauses) == ("drift scale", ("EQ-25",))


def test_sizes_can_be_set() -> None:
    small, large = (ALL["D16:under-root"].at(added_under_root=size) for size in (1e-10, 1e-4))
    plain = Textbook()
    sizes = [difference(compose(PAPER, item), plain, ORDINARY) for item in (small, large)]
    assert 0 < sizes[0] < 1e-2 * sizes[1]
    assert difference(compose(PAPER, ALL["D60:half"].at(factor_of_loss=1.0)), plain, ORDINARY) == 0
    with pytest.raises(ValueError, match="D12 has no parameter 'epsilon', expected one of: none"):
        ALL["D12"].at(epsilon=1.0)


def test_suspects_act_together() -> None:
    """Of two that are not in conflict both act: without either of them the loss is another."""
    keys = ["D01", "D12", "D15", "D22", "D25:drifts", "D28:norm", "D36", "D39:scaled", "D55:switch"]
    for one, other in itertools.combinations([ALL[key] for key in keys], 2):
        assert not conflict(one, other)
        both = compose(PAPER, one, other)
        for alone in (compose(PAPER, one), compose(PAPER, other)):
            assert difference(both, alone, ORDINARY) > 1e-6, (one.key, other.key)
        assert difference(both, compose(PAPER, other, one), ORDINARY) == 0


def test_a_suspect_that_extends_a_step_acts_on_one_that_replaces_it() -> None:
    product, added = ALL["D12"], ALL["D16:beside-root"].at(added_to_affinity=1e-3)
    for order in ((product, added), (added, product)):
        both = compose(PAPER, *order)
        assert difference(both, compose(PAPER, product), ORDINARY) > 1e-6
        assert difference(both, compose(PAPER, added), ORDINARY) > 1e-6
    assert conflict(ALL["D14:sums"], ALL["D15"])


def test_the_frozen_target_of_a_suspect_moves_nothing_else() -> None:
    case = ORDINARY
    for key in ("D61:target", "D61:negatives", "D61:feature-scale"):
        plain, found = Textbook().observe(case), compose(PAPER, ALL[key]).observe(case)
        assert found.loss == pytest.approx(plain.loss, rel=1e-13)
    assert found.other_gradients is not None


def test_gradients_of_an_attached_target_are_those_of_finite_differences() -> None:
    case = drawn(26, L=1, N=3, P=3, U=2, V=1, C=2)
    book = compose(PAPER, ALL["D61:target"])
    gradient = book.observe(case).gradient
    step = np.random.default_rng(1).normal(size=case.generated.shape)
    up, down = (
        book.observe(case.changed(generated=case.generated + sign * 1e-6 * step)).loss
        for sign in (1, -1)
    )
    assert np.sum(gradient * step) == pytest.approx((up - down) / 2e-6, rel=1e-6)


def test_an_adapter_takes_the_readings_asked_for_or_its_own() -> None:
    asked = PAPER.with_reading("channel_reduction", "sum")
    follows, fixed = SuspectAdapter(), SuspectAdapter(readings=PAPER)
    assert follows.configurable
    assert not fixed.configurable
    losses = [item.loss(ORDINARY, asked, Setting()).loss for item in (follows, fixed)]
    assert losses[0] == pytest.approx(3 * losses[1])
    assert SuspectAdapter(ALL["D12"], ALL["D22"]).name == "textbook + D12 + D22"
