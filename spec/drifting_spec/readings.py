"""The readings of the paper: where its text admits several meanings, the choice made.

An *axis* is such a question, a *reading* one answer, :class:`Readings` one answer to each
question. This module is plain Python without data files, so that ``drifting_torch`` can import
it at no cost; what each reading means, and why a preset takes it, is data
(``data/axes.toml``, ``drifting-parity explain AXIS``).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, get_args, get_type_hints

KernelNormalization = Literal["joint", "separate"]
SoftmaxAxes = Literal["xy", "y", "none"]
SoftmaxCombination = Literal["sqrt", "product"]
SelfMask = Literal["exclude", "add_1e6", "add_100"]
AffinityFloor = Literal["none", "1e-6", "1e-12"]
UnconditionalWeight = Literal["replication", "after_softmaxes", "log_in_softmaxes"]
ScaleSelfPairs = Literal["with", "without"]
ScaleSamples = Literal["all", "positives", "negatives"]
StatisticsScope = Literal["batch", "label"]
LocationSharing = Literal["same_location_pairs", "all_pairs", "none"]
StatisticsGrouping = Literal["by_statistic", "mean_with_std"]
Floors = Literal["none", "release", "seed"]
TemperatureScaling = Literal["sqrt_channels", "raw"]
TemperatureAggregation = Literal[
    "sum_drifts_then_mse", "per_temperature_mse", "per_temperature_mse_mean"
]
LocationReduction = Literal["sum", "mean"]
LabelReduction = Literal["mean", "sum"]
ChannelReduction = Literal["mean", "sum"]
VanillaTerm = Literal["normalized", "raw"]
Taps = Literal["union", "coincident_twice", "network_output", "release"]
X2Statistic = Literal["mean_square", "rms"]
X2Input = Literal["image", "patchified"]
Std = Literal["population", "unbiased", "population_eps"]
PatchRemainder = Literal["error", "skip", "crop"]

MOOT: Final = "moot"
"""What :meth:`Readings.canonical` puts on an axis that cannot show on the case at hand."""

FIELD_AXES: Final = (
    "kernel_normalization",
    "softmax_axes",
    "softmax_combination",
    "self_mask",
    "affinity_floor",
    "unconditional_weight",
)
"""The axes that ``drifting_field`` (Algorithm 2) reads."""

FEATURE_AXES: Final = (
    "statistics_grouping",
    "vanilla_term",
    "taps",
    "x2_statistic",
    "x2_input",
    "std",
    "patch_remainder",
)
"""The axes that show only where several features, maps or the raw samples are seen."""


class ReadingsError(ValueError):
    """An unknown axis or reading, or a set of readings that contradicts itself."""


@dataclass(frozen=True)
class Traits:
    """What of a case decides which axes can show on it.

    ``level`` is what is computed: ``field`` (Alg. 2 alone), ``loss`` (one feature, A.6) or
    ``features`` (several maps, A.5). The counts are those of the case. ``weighted``: some sample
    has a weight other than one; ``patch_remainder``: some map side is no multiple of four;
    ``pixel_input``: the encoder splits its input into patches first; ``encoder``: maps are tapped
    from one; ``input_statistics``: the x² feature is in use; ``raw_samples``: the vanilla term is.
    """

    level: Literal["field", "loss", "features"] = "loss"
    labels: int = 1
    vectors: int = 1
    channels: int = 2
    temperatures: int = 1
    self_masked: bool = True
    weighted: bool = False
    patch_remainder: bool = False
    pixel_input: bool = False
    encoder: bool = False
    input_statistics: bool = False
    raw_samples: bool = False


@dataclass(frozen=True)
class Readings:
    """One reading on each axis of the paper; the defaults are the paper's.

    Raises :class:`ReadingsError` (a ``ValueError``) for an unknown reading or for
    ``kernel_normalization='separate'`` without ``softmax_axes='y'``: EQ-9's two normalisers
    are sums over the y's, and there is no separate form of the softmax over x.
    """

    kernel_normalization: KernelNormalization = "joint"
    softmax_axes: SoftmaxAxes = "xy"
    softmax_combination: SoftmaxCombination = "sqrt"
    self_mask: SelfMask = "exclude"
    affinity_floor: AffinityFloor = "none"
    unconditional_weight: UnconditionalWeight = "replication"
    scale_self_pairs: ScaleSelfPairs = "with"
    scale_samples: ScaleSamples = "all"
    statistics_scope: StatisticsScope = "batch"
    location_sharing: LocationSharing = "same_location_pairs"
    statistics_grouping: StatisticsGrouping = "by_statistic"
    floors: Floors = "none"
    temperature_scaling: TemperatureScaling = "sqrt_channels"
    temperature_aggregation: TemperatureAggregation = "sum_drifts_then_mse"
    location_reduction: LocationReduction = "sum"
    label_reduction: LabelReduction = "mean"
    channel_reduction: ChannelReduction = "mean"
    vanilla_term: VanillaTerm = "normalized"
    taps: Taps = "union"
    x2_statistic: X2Statistic = "mean_square"
    x2_input: X2Input = "image"
    std: Std = "population"
    patch_remainder: PatchRemainder = "error"

    def __post_init__(self) -> None:
        for axis, allowed in AXES.items():
            value = getattr(self, axis)
            if value not in allowed:
                raise ReadingsError(f"{axis} is {value!r}, expected one of: {', '.join(allowed)}")
        if self.kernel_normalization == "separate" and self.softmax_axes != "y":
            raise ReadingsError(
                f"kernel_normalization='separate' contradicts softmax_axes={self.softmax_axes!r}: "
                "separate normalisers are sums over y, so softmax_axes must be 'y'"
            )

    def canonical(self, case: Traits) -> tuple[tuple[str, str], ...]:
        """Axis by axis, the reading, or ``"moot"`` where ``case`` cannot tell the readings apart.

        Two sets with equal canonical forms compute the same on that case.
        """
        moot = self._moot_axes(case)
        return tuple((axis, MOOT if axis in moot else getattr(self, axis)) for axis in AXES)

    def _moot_axes(self, case: Traits) -> set[str]:
        moot: set[str] = set()

        def when(condition: bool, *axes: str) -> None:
            if condition:
                moot.update(axes)

        both_axes = self.softmax_axes == "xy"
        when(not both_axes, "softmax_combination", "affinity_floor")
        when(self.softmax_axes == "none", "kernel_normalization")
        when(not case.self_masked, "self_mask")
        when(not case.weighted, "unconditional_weight")
        # Without the x-softmax and without a floor, log w in the logits is replication.
        when(self.softmax_axes == "none", "unconditional_weight")
        if case.level == "field":
            moot.update(axis for axis in AXES if axis not in FIELD_AXES)
            return moot
        when(case.labels == 1, "statistics_scope", "label_reduction")
        when(case.vectors == 1, "location_sharing", "location_reduction")
        when(case.channels == 1, "channel_reduction", "temperature_scaling")
        when(case.temperatures == 1, "temperature_aggregation")
        when(not case.raw_samples, "vanilla_term")
        when(not case.encoder, "taps")
        when(not case.input_statistics, "x2_statistic", "x2_input")
        when(not case.pixel_input, "x2_input")
        when(not case.patch_remainder, "patch_remainder")
        when(case.level == "loss", *FEATURE_AXES)
        return moot

    def differing(self, other: Readings) -> tuple[str, ...]:
        """Name the axes on which the two sets differ, in the order of the fields."""
        return tuple(axis for axis in AXES if getattr(self, axis) != getattr(other, axis))

    def with_reading(self, axis: str, reading: str) -> Readings:
        """Copy with one axis changed; :class:`ReadingsError` names what is unknown."""
        if axis not in AXES:
            raise ReadingsError(f"unknown axis {axis!r}{_nearest(axis, AXES)}")
        changes: dict[str, Any] = {axis: reading}
        if axis == "kernel_normalization" and reading == "separate":
            changes["softmax_axes"] = "y"
        if axis == "softmax_axes" and reading != "y":
            changes["kernel_normalization"] = "joint"
        return replace(self, **changes)

    def __str__(self) -> str:
        """Return the shortest form that :func:`parse_readings` reads back."""
        name, base = min(PRESETS.items(), key=lambda item: len(self.differing(item[1])))
        changes = [f"{axis}={getattr(self, axis)}" for axis in self.differing(base)]
        return ",".join([name, *changes])


def _axes() -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(Readings)
    return {field.name: get_args(hints[field.name]) for field in fields(Readings)}


AXES: Final[dict[str, tuple[str, ...]]] = _axes()
"""Every axis with its readings, the paper's order of listing."""

PAPER: Final = Readings()
RELEASE: Final = Readings(
    self_mask="add_100",
    affinity_floor="1e-6",
    unconditional_weight="after_softmaxes",
    floors="release",
    location_reduction="mean",
    taps="release",
    x2_statistic="rms",
    x2_input="patchified",
    std="population_eps",
    patch_remainder="skip",
)
"""What the authors' JAX code does. Not for few channels, as points in a plane: while the generated
samples coincide its affinity floor outweighs the kernel, every sample is drawn to the mean of the
positives, and a generator stays there (J-01); ``RELEASE.with_reading("affinity_floor", "none")``
does not."""
SEED: Final = Readings(
    self_mask="add_1e6",
    affinity_floor="1e-12",
    unconditional_weight="log_in_softmaxes",
    statistics_scope="label",
    statistics_grouping="mean_with_std",
    floors="seed",
    temperature_aggregation="per_temperature_mse",
    vanilla_term="raw",
    patch_remainder="crop",
)
PRESETS: Final[dict[str, Readings]] = {"paper": PAPER, "release": RELEASE, "seed": SEED}


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else f"; known: {', '.join(known)}"


def parse_readings(text: str) -> Readings:
    """Read ``preset[,axis=reading,...]``, as ``paper,affinity_floor=1e-6``.

    The preset may be left out (``paper`` then). Changes are applied together, so that
    ``paper,kernel_normalization=separate,softmax_axes=y`` is read in any order. Raises
    :class:`ReadingsError` naming the part that is unknown or contradictory.
    """
    base, changes = PAPER, dict[str, Any]()
    for position, part in enumerate(piece.strip() for piece in text.split(",")):
        axis, equals, reading = part.partition("=")
        if not equals:
            if position > 0 or part not in PRESETS:
                raise ReadingsError(
                    f"readings part {part!r} is neither axis=reading nor, in first place, "
                    f"a preset{_nearest(part, PRESETS)}"
                )
            base = PRESETS[part]
            continue
        if axis not in AXES:
            raise ReadingsError(f"unknown axis {axis!r} in readings{_nearest(axis, AXES)}")
        if axis in changes:
            raise ReadingsError(f"axis {axis!r} is given twice in readings {text!r}")
        changes[axis] = reading
    return replace(base, **changes)
