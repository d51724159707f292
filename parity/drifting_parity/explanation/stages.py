"""Which options each stage has: the readings and the suspects that show there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final, get_args

from drifting_parity.explanation.hypothesis import Option, reading_options, suspect_options
from drifting_parity.suspects import ALL, Suspect
from drifting_spec.registry import load
from drifting_spec.schema import AxisStage

STAGE_AXES: Final[dict[str, tuple[str, ...]]] = {
    stage: tuple(axis.id for axis in load().axes.values() if stage in axis.stages)
    for stage in get_args(AxisStage)
}
"""The axes that show at each stage and no sooner; ``range``: those that extremes bring out."""

_OF_NEEDS: Final = {
    "unconditional": "weights",
    "unconditional weights": "weights",
    "weights": "weights",
    "labels": "labels",
    "vectors": "locations",
    "temperatures": "aggregation",
    "groups": "labels",
}
_OF_STEPS: Final = {
    "normalized_temperature": "scale",
    "mean_distance": "scale",
    "pair_weights": "scale",
    "feature_scale": "scale",
    "coordinate_scale": "scale",
    "drift_scale": "drift scale",
    "used_drift_scale": "drift scale",
    "normalized_drift": "drift scale",
    "regressed": "drift scale",
    "value": "drift scale",
}
_EXTREME: Final = {"high temperature", "absurd temperature", "tiny temperature", "offset",
                   "small units"}  # fmt: skip
_NOT_ORDINARY: Final = {"D05:distance", "D05:logit", "D07", "D08", "D17", "D18:always",
                        "D18:library", "D66:clamped", "D66:drift-scale-clamped"}  # fmt: skip
_ALSO: Final = {
    # In the loss its factor cancels in the kernel, and is left in the length of the gradient.
    "D21:root-mean-square": ("drift scale",),
    "D13:total": ("field", "locations"),
    "D41:flattened": ("weights",),
    # A small one shows where samples coincide alone.
    "D66:distance-under-root": ("range",),
}
FACTORS: Final = (
    "temperature_scaling=sqrt_channels", "temperature_scaling=raw", "channel_reduction=mean",
    "channel_reduction=sum", "D23:tau-2c", "D23:tau-c", "D23:tau-over-root-c", "D28:norm",
    "D28:divided-twice", "D21:root-mean-square", "D30", "D59:raw-features", "D59:raw-units",
    "D60:half", "D29:over-root-c", "D29:length", "D71",
)  # fmt: skip
"""Changes that multiply the temperature, S, λ or the loss by a factor: several of them together
may be the same as others."""
SAME_KERNEL: Final[dict[str, tuple[str, ...]]] = {
    # 1 − cos is half the squared distance on the sphere; the factor is S's.
    "D21:cosine": (
        "D21:sphere-distance with D19:everywhere",
        "D21:sphere-distance with D19:kernel",
    ),
}
"""Two suspects that have the kernel of one and differ from it in a factor, which is open where the
length of the gradient is not explained."""


def searched() -> list[Suspect]:
    """The suspects that the search tries: none that is a reading, raises, or needs two calls."""
    return [
        item
        for item in ALL.values()
        if item.reading is None
        and not item.raises
        and not {"second call", "features"} & set(item.needs)
    ]


def stage_of(suspect: Suspect) -> str:
    """The stage at which a suspect shows first."""
    if suspect.key in _NOT_ORDINARY:
        return "range"
    for need, stage in _OF_NEEDS.items():
        if need in suspect.needs:
            return stage
    for step, stage in _OF_STEPS.items():
        if step in suspect.steps:
            return stage
    return "field"


@cache
def options(stage: str) -> tuple[Option, ...]:
    """The changes that are tried at a stage."""
    keys = tuple(
        item.key
        for item in searched()
        if stage_of(item) == stage
        or (stage == "range" and item.shows_at in _EXTREME)
        or stage in _ALSO.get(item.key, ())
    )
    return (*reading_options(STAGE_AXES[stage]), *suspect_options(keys))


@cache
def between_temperatures() -> tuple[Option, ...]:
    """The suspects that change how much each temperature counts in the sum of drifts."""
    steps = {"drift_scale", "normalized_drift", "aggregation"}
    return suspect_options_of(
        item.key
        for item in searched()
        if steps & set(item.steps) or stage_of(item) == "aggregation"
    )


def suspect_options_of(keys: Iterable[str]) -> tuple[Option, ...]:
    """One option for every key."""
    return tuple(suspect_options(tuple(keys)))


@cache
def all_options() -> tuple[Option, ...]:
    """The changes of every ordinary stage."""
    by_name = {item.name: item for stage in STAGE_AXES for item in options(stage)}
    return tuple(by_name.values())
