"""The readings of the paper: where its text admits several meanings, the choice made.

An *axis* is such a question, a *reading* one answer, :class:`Readings` one answer to each
question. This module is plain Python without data files, so that ``drifting_torch`` can import
it at no cost; what each reading means, and why a preset takes it, is data
(``data/axes.toml``, ``drifting-parity explain AXIS``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, get_args, get_type_hints

from drifting_spec.nearest import nearest

MOOT: Final = "moot"
"""What :meth:`Readings.canonical` puts on an axis that cannot show on the case at hand."""

Taps = Literal["union", "coincident_twice", "network_output", "release"]
Level = Literal["field", "loss", "features"]
"""Where an axis shows: in Algorithm 2 alone, in the loss of one feature, or only where several
features, maps or the raw samples are seen."""


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

    level: Level = "loss"
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


def _axis(
    paper: str,
    level: Level,
    *,
    release: str = "",
    seed: str = "",
    moot: Callable[[Readings, Traits], bool] | None = None,
) -> Any:
    """One axis: the paper's reading, the other presets' where they differ, and where it shows.

    ``moot`` tells on which cases of its level its readings cannot be told apart.
    """
    presets = {"paper": paper, "release": release or paper, "seed": seed or paper}
    return field(default=paper, metadata={"presets": presets, "level": level, "moot": moot})


@dataclass(frozen=True)
class Readings:
    """One reading on each axis of the paper; the defaults are the paper's.

    Raises :class:`ReadingsError` (a ``ValueError``) for an unknown reading or for
    ``kernel_normalization='separate'`` without ``softmax_axes='y'``: EQ-9's two normalisers
    are sums over the y's, and there is no separate form of the softmax over x.
    """

    kernel_normalization: Literal["joint", "separate"] = _axis(
        "joint", "field", moot=lambda readings, case: readings.softmax_axes == "none"
    )
    softmax_axes: Literal["xy", "y", "none"] = _axis("xy", "field")
    softmax_combination: Literal["sqrt", "product"] = _axis(
        "sqrt", "field", moot=lambda readings, case: readings.softmax_axes != "xy"
    )
    self_mask: Literal["exclude", "add_1e6", "add_100"] = _axis(
        "exclude",
        "field",
        release="add_100",
        seed="add_1e6",
        moot=lambda readings, case: not case.self_masked,
    )
    affinity_floor: Literal["none", "1e-6", "1e-12"] = _axis(
        "none",
        "field",
        release="1e-6",
        seed="1e-12",
        moot=lambda readings, case: readings.softmax_axes != "xy",
    )
    unconditional_weight: Literal["replication", "after_softmaxes", "log_in_softmaxes"] = _axis(
        "replication",
        "field",
        release="after_softmaxes",
        seed="log_in_softmaxes",
        # Without the x-softmax and without a floor, log w in the logits is replication.
        moot=lambda readings, case: not case.weighted or readings.softmax_axes == "none",
    )
    scale_self_pairs: Literal["with", "without"] = _axis("with", "loss")
    scale_samples: Literal["all", "positives", "negatives"] = _axis("all", "loss")
    statistics_scope: Literal["batch", "label"] = _axis(
        "batch", "loss", seed="label", moot=lambda readings, case: case.labels == 1
    )
    location_sharing: Literal["same_location_pairs", "all_pairs", "none"] = _axis(
        "same_location_pairs", "loss", moot=lambda readings, case: case.vectors == 1
    )
    statistics_grouping: Literal["by_statistic", "mean_with_std"] = _axis(
        "by_statistic", "features", seed="mean_with_std"
    )
    floors: Literal["none", "release", "seed"] = _axis(
        "none", "loss", release="release", seed="seed"
    )
    temperature_scaling: Literal["sqrt_channels", "raw"] = _axis(
        "sqrt_channels", "loss", moot=lambda readings, case: case.channels == 1
    )
    temperature_aggregation: Literal[
        "sum_drifts_then_mse", "per_temperature_mse", "per_temperature_mse_mean"
    ] = _axis(
        "sum_drifts_then_mse",
        "loss",
        seed="per_temperature_mse",
        moot=lambda readings, case: case.temperatures == 1,
    )
    location_reduction: Literal["sum", "mean"] = _axis(
        "sum", "loss", release="mean", moot=lambda readings, case: case.vectors == 1
    )
    label_reduction: Literal["mean", "sum"] = _axis(
        "mean", "loss", moot=lambda readings, case: case.labels == 1
    )
    channel_reduction: Literal["mean", "sum"] = _axis(
        "mean", "loss", moot=lambda readings, case: case.channels == 1
    )
    vanilla_term: Literal["normalized", "raw"] = _axis(
        "normalized", "features", seed="raw", moot=lambda readings, case: not case.raw_samples
    )
    taps: Taps = _axis(  # noqa: RUF009 - a row, like the others
        "union", "features", release="release", moot=lambda readings, case: not case.encoder
    )
    x2_statistic: Literal["mean_square", "rms"] = _axis(
        "mean_square",
        "features",
        release="rms",
        moot=lambda readings, case: not case.input_statistics,
    )
    x2_input: Literal["image", "patchified"] = _axis(
        "image",
        "features",
        release="patchified",
        moot=lambda readings, case: not (case.input_statistics and case.pixel_input),
    )
    std: Literal["population", "unbiased", "population_eps"] = _axis(
        "population", "features", release="population_eps"
    )
    patch_remainder: Literal["error", "skip", "crop"] = _axis(
        "error",
        "features",
        release="skip",
        seed="crop",
        moot=lambda readings, case: not case.patch_remainder,
    )

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
        return tuple(
            (axis, MOOT if self._is_moot(axis, case) else getattr(self, axis)) for axis in AXES
        )

    def _is_moot(self, axis: str, case: Traits) -> bool:
        row = _ROWS[axis]
        if _LEVELS.index(row["level"]) > _LEVELS.index(case.level):
            return True
        return row["moot"] is not None and row["moot"](self, case)

    def differing(self, other: Readings) -> tuple[str, ...]:
        """Name the axes on which the two sets differ, in the order of the rows."""
        return tuple(axis for axis in AXES if getattr(self, axis) != getattr(other, axis))

    def with_reading(self, axis: str, reading: str) -> Readings:
        """Copy with one axis changed; :class:`ReadingsError` names what is unknown."""
        if axis not in AXES:
            raise ReadingsError(f"unknown axis {axis!r}; {nearest(axis, AXES)}")
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


_ROWS: Final[dict[str, Any]] = {row.name: row.metadata for row in fields(Readings)}
_LEVELS: Final[tuple[Level, ...]] = get_args(Level)


def _axes() -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(Readings)
    return {axis: get_args(hints[axis]) for axis in _ROWS}


AXES: Final[dict[str, tuple[str, ...]]] = _axes()
"""Every axis with its readings, the paper's order of listing."""


def _of_level(level: Level) -> tuple[str, ...]:
    return tuple(axis for axis, row in _ROWS.items() if row["level"] == level)


FIELD_AXES: Final = _of_level("field")
"""The axes that ``drifting_field`` (Algorithm 2) reads."""

FEATURE_AXES: Final = _of_level("features")
"""The axes that show only where several features, maps or the raw samples are seen."""


def _preset(name: str) -> Readings:
    return Readings(**{axis: row["presets"][name] for axis, row in _ROWS.items()})


PAPER: Final = _preset("paper")
RELEASE: Final = _preset("release")
"""What the authors' JAX code does. Not for few channels, as points in a plane: while the generated
samples coincide its affinity floor outweighs the kernel, every sample is drawn to the mean of the
positives, and a generator stays there (J-01); ``RELEASE.with_reading("affinity_floor", "none")``
does not."""
SEED: Final = _preset("seed")
PRESETS: Final[dict[str, Readings]] = {"paper": PAPER, "release": RELEASE, "seed": SEED}


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
                    f"a preset; {nearest(part, PRESETS)}"
                )
            base = PRESETS[part]
            continue
        if axis not in AXES:
            raise ReadingsError(f"unknown axis {axis!r} in readings; {nearest(axis, AXES)}")
        if axis in changes:
            raise ReadingsError(f"axis {axis!r} is given twice in readings {text!r}")
        changes[axis] = reading
    return replace(base, **changes)
