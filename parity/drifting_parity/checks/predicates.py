"""Under which readings a statement is a theorem: what checks give as ``applies``.

All in one place, so that who adds a reading sees which statements it may end.
"""

from __future__ import annotations

from drifting_spec import PAPER, Readings


def always(readings: Readings) -> bool:
    """For checks that hold under every reading, since their oracle takes the readings too."""
    del readings
    return True


# Algorithm 2.


def without_floor(readings: Readings) -> bool:
    """Whether no floor lifts small affinities."""
    return readings.affinity_floor == "none" or readings.softmax_axes != "xy"


def excludes_self(readings: Readings) -> bool:
    """Whether the mask removes the self pair from the bare field at ordinary temperatures."""
    return readings.self_mask != "add_100" and without_floor(readings)


def nearly_excludes_self(readings: Readings) -> bool:
    """As :func:`excludes_self`, or up to an affinity of 10⁻⁶: enough for limits known to 10⁻³."""
    return readings.self_mask != "add_100" and (
        without_floor(readings) or readings.affinity_floor == "1e-12"
    )


def excludes_whole_rows(readings: Readings) -> bool:
    """Whether a sample masked from the only negative has no negative at all."""
    # Added to the only negative, a finite mask cancels in a softmax of its own.
    joint = readings.kernel_normalization == "joint"
    return excludes_self(readings) and (joint or readings.self_mask == "exclude")


def has_softmax(readings: Readings) -> bool:
    """Whether affinities are shares, hence at most 1."""
    return readings.softmax_axes != "none"


def has_softmax_without_floor(readings: Readings) -> bool:
    """Whether the affinities of a row add up to no more than 1."""
    return has_softmax(readings) and without_floor(readings)


def root_of_both_softmaxes(readings: Readings) -> bool:
    """Whether A is √(A_row · A_col)."""
    return readings.softmax_axes == "xy" and readings.softmax_combination == "sqrt"


def root_excludes_self(readings: Readings) -> bool:
    """Whether A is √(A_row · A_col) and a sample is not among its own negatives."""
    return root_of_both_softmaxes(readings) and excludes_self(readings)


def joint_root(readings: Readings) -> bool:
    """Whether A is √(A_row · A_col) over positives and negatives together."""
    return root_of_both_softmaxes(readings) and readings.kernel_normalization == "joint"


def joint_without_floor(readings: Readings) -> bool:
    """Whether positives and negatives share their softmaxes, and no floor lifts small shares."""
    return readings.kernel_normalization == "joint" and without_floor(readings)


def separate(readings: Readings) -> bool:
    """Whether positives and negatives have a softmax each."""
    return readings.kernel_normalization == "separate"


def field_as_printed(readings: Readings) -> bool:
    """Whether Algorithm 2 is read as printed, up to its mask and weights."""
    return root_of_both_softmaxes(readings) and readings.affinity_floor == "none"


# Weights: A.7.


def replicates_without_floor(readings: Readings) -> bool:
    """Whether a weight of w counts as w copies."""
    return without_floor(readings) and readings.unconditional_weight == "replication"


def ignores_weight_zero(readings: Readings) -> bool:
    """Whether samples of weight 0 are as if absent."""
    after = readings.unconditional_weight == "after_softmaxes"
    return excludes_self(readings) and not (separate(readings) and after)


def weighs_in_proportion(readings: Readings) -> bool:
    """Whether a weight counts by itself and not by its root."""
    inside = readings.unconditional_weight == "log_in_softmaxes"
    return not (inside and root_of_both_softmaxes(readings))


# A.6.


def no_floors(readings: Readings) -> bool:
    """Whether S and λ are used as they are: what makes A.6 free of units."""
    return readings.floors == "none"


def no_floors_no_mask_in_units(readings: Readings) -> bool:
    """Whether nothing of the loss has a unit: no floors, and no mask of 10⁶ in raw units."""
    return no_floors(readings) and readings.self_mask != "add_1e6"


def vanishes_exactly(readings: Readings) -> bool:
    """Where 0/0 := 0 is what happens: no floors at all, and a lone sample has no negative."""
    floorless = no_floors(readings) and readings.affinity_floor == "none"
    return floorless and readings.self_mask != "add_100"


def alone_has_no_drift(readings: Readings) -> bool:
    """Whether a sample on its own has loss and gradient zero."""
    return readings.self_mask == "exclude" and no_floors(readings) and without_floor(readings)


def from_differences(readings: Readings) -> bool:
    """The release's own distances are expanded squares, which no offset leaves right."""
    return readings.floors != "release"


def keeps_root_of_channels(readings: Readings) -> bool:
    """Whether repeating the channels changes nothing: √C in τ̃, and no floors."""
    return no_floors(readings) and readings.temperature_scaling == "sqrt_channels"


def locations_apart(readings: Readings) -> bool:
    """Whether no pair of samples at different locations counts in S."""
    return readings.location_sharing != "all_pairs"


def copies_of_locations_count(readings: Readings) -> bool:
    """Whether every location given twice leaves S: its self pairs double as all pairs do."""
    apart = (readings.location_sharing, readings.scale_self_pairs)
    return apart != ("all_pairs", "without")


def cross_terms_by_hand(readings: Readings) -> bool:
    """Whether the case whose cross terms vanish is known in closed form."""
    whole_scale = (readings.scale_self_pairs, readings.scale_samples) == ("with", "all")
    return whole_scale and keeps_root_of_channels(readings) and field_as_printed(readings)


def two_points_by_hand(readings: Readings) -> bool:
    """Whether the closed form of two points holds: the paper's reading of every axis it meets."""
    axes = (
        "scale_self_pairs",
        "scale_samples",
        "statistics_scope",
        "floors",
        "temperature_scaling",
        "temperature_aggregation",
        "label_reduction",
        "channel_reduction",
    )
    same = not set(axes) & set(readings.differing(PAPER))
    return same and field_as_printed(readings) and readings.self_mask == "exclude"


def sums_drifts(readings: Readings) -> bool:
    """Whether the normalised drifts are added before the one error, without floors."""
    return readings.temperature_aggregation == "sum_drifts_then_mse" and no_floors(readings)


def equal_temperatures_square(readings: Readings) -> bool:
    """Under which readings two equal temperatures give T² exactly: one λ per temperature."""
    return (
        sums_drifts(readings)
        and readings.statistics_scope == "batch"
        and readings.channel_reduction == "mean"
        and field_as_printed(readings)
        and readings.self_mask != "add_100"
        and readings.kernel_normalization == "joint"
        and readings.scale_samples == "all"
        and readings.scale_self_pairs == "with"
    )
