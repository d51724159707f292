"""The readings: axes and presets as designed, their text form, and which axes are moot when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drifting_spec import AXES, FIELD_AXES, MOOT, PAPER, PRESETS, RELEASE, SEED
from drifting_spec.readings import FEATURE_AXES, Readings, ReadingsError, Traits, parse_readings
from drifting_spec.registry import load

SPEC = load()
LOSS = Traits(labels=2, vectors=3, channels=4, temperatures=3, weighted=True)
FEATURES = replace(
    LOSS,
    level="features",
    patch_remainder=True,
    pixel_input=True,
    encoder=True,
    input_statistics=True,
    raw_samples=True,
)


def test_presets_are_named():
    assert PRESETS == {"paper": PAPER, "release": RELEASE, "seed": SEED}
    assert Readings() == PAPER


@pytest.mark.parametrize("axis", list(AXES))
def test_axis_is_explained(axis: str):
    entry = SPEC.axes[axis]
    assert entry.question.endswith("?")
    assert entry.clauses
    assert all(note.meaning.endswith(".") for note in entry.readings)
    for why in (entry.why_paper, entry.why_release, entry.why_seed, entry.observable):
        assert why.endswith(".")


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("axis", list(AXES))
def test_every_single_change_survives_its_text(preset: str, axis: str):
    for reading in AXES[axis]:
        changed = PRESETS[preset].with_reading(axis, reading)
        assert getattr(changed, axis) == reading
        assert parse_readings(str(changed)) == changed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paper", PAPER),
        ("release", RELEASE),
        ("seed", SEED),
        ("floors=seed", PAPER.with_reading("floors", "seed")),
        (" release , taps=union ", RELEASE.with_reading("taps", "union")),
        (
            "paper,kernel_normalization=separate,softmax_axes=y",
            PAPER.with_reading("kernel_normalization", "separate"),
        ),
    ],
    ids=["paper", "release", "seed", "no-preset", "blanks", "together"],
)
def test_parse_readings(text: str, expected: Readings):
    assert parse_readings(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("papr", r"'papr'.*did you mean paper"),
        ("", r"preset; known: paper, release, seed"),
        ("paper,seed", r"'seed' is neither axis=reading nor, in first place, a preset"),
        ("paper,affinity_flor=none", r"unknown axis 'affinity_flor'.*did you mean affinity_floor"),
        ("paper,zzz=none", r"unknown axis 'zzz'.*known: kernel_normalization"),
        ("paper,floors=sed", r"floors is 'sed', expected one of: none, release, seed"),
        ("floors=none,floors=seed", r"axis 'floors' is given twice"),
        ("kernel_normalization=separate", r"contradicts softmax_axes='xy'.*must be 'y'"),
    ],
    ids=["preset", "empty", "second", "near-axis", "far-axis", "reading", "twice", "contradiction"],
)
def test_parse_readings_says_what_would_be_right(text: str, message: str):
    with pytest.raises(ReadingsError, match=message):
        parse_readings(text)


def test_with_reading_keeps_the_set_consistent():
    separate = PAPER.with_reading("kernel_normalization", "separate")
    assert separate.softmax_axes == "y"
    assert separate.with_reading("softmax_axes", "xy").kernel_normalization == "joint"
    with pytest.raises(ReadingsError, match="did you mean floors"):
        PAPER.with_reading("floor", "none")


def test_differing_names_axes_in_order():
    assert PAPER.differing(PAPER) == ()
    assert SEED.differing(PAPER)[:2] == ("self_mask", "affinity_floor")
    assert len(RELEASE.differing(PAPER)) == 10
    assert len(SEED.differing(PAPER)) == 9


def moot(readings: Readings, case: Traits) -> set[str]:
    return {axis for axis, reading in readings.canonical(case) if reading == MOOT}


@pytest.mark.parametrize(
    ("readings", "case", "expected"),
    [
        (PAPER, FEATURES, set()),
        (PAPER, LOSS, set(FEATURE_AXES)),
        (PAPER, replace(LOSS, level="field"), set(AXES) - set(FIELD_AXES)),
        (PAPER, replace(FEATURES, labels=1), {"statistics_scope", "label_reduction"}),
        (PAPER, replace(FEATURES, vectors=1), {"location_sharing", "location_reduction"}),
        (PAPER, replace(FEATURES, channels=1), {"channel_reduction", "temperature_scaling"}),
        (PAPER, replace(FEATURES, temperatures=1), {"temperature_aggregation"}),
        (PAPER, replace(FEATURES, weighted=False), {"unconditional_weight"}),
        (PAPER, replace(FEATURES, self_masked=False), {"self_mask"}),
        (PAPER, replace(FEATURES, raw_samples=False), {"vanilla_term"}),
        (PAPER, replace(FEATURES, encoder=False), {"taps"}),
        (PAPER, replace(FEATURES, input_statistics=False), {"x2_statistic", "x2_input"}),
        (PAPER, replace(FEATURES, pixel_input=False), {"x2_input"}),
        (PAPER, replace(FEATURES, patch_remainder=False), {"patch_remainder"}),
        (
            PAPER.with_reading("softmax_axes", "y"),
            FEATURES,
            {"softmax_combination", "affinity_floor"},
        ),
        (
            PAPER.with_reading("softmax_axes", "none"),
            FEATURES,
            {
                *("softmax_combination", "affinity_floor"),
                *("kernel_normalization", "unconditional_weight"),
            },
        ),
    ],
    ids=[
        *("features", "loss", "field", "one-label", "one-vector", "one-channel", "one-tau"),
        *("unweighted", "unmasked", "no-raw", "no-encoder", "no-x2", "latent", "divides"),
        *("y-softmax", "no-softmax"),
    ],
)
def test_canonical_marks_moot_axes(readings: Readings, case: Traits, expected: set[str]):
    assert moot(readings, case) == expected
    assert [axis for axis, _ in readings.canonical(case)] == list(AXES)


def test_sets_that_agree_up_to_moot_axes_are_equal():
    case = Traits(temperatures=1)
    other = PAPER.with_reading("temperature_aggregation", "per_temperature_mse")
    assert other != PAPER
    assert other.canonical(case) == PAPER.canonical(case)
    assert other.canonical(replace(case, temperatures=2)) != PAPER.canonical(
        replace(case, temperatures=2)
    )
