"""Effects of deltas against what they depend on: a few curves, measured on the reference.

Each is drawn beside its delta on the pages of the paper. The numbers ship in
``catalogue/curves.json``, written by ``python -m drifting_parity.catalogue.curves``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses import cases, fields, floors, guidance, losses, scales
from drifting_parity.witnesses.cases import Y_ONLY, Points, Samples, apart, points, samples
from drifting_parity.witnesses.inventory import deviation
from drifting_reference import compute_V, eq11_field, guided_distribution
from drifting_spec import PAPER, RELEASE, SEED, Readings


@dataclass(frozen=True)
class Series:
    """One line of a plot: what it is called, and its points."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """A plot of the effect of a delta, or of a deviation, against what it depends on.

    ``says`` is the sentence beside it; ``marks`` are labelled values of x.
    """

    id: str
    title: str
    says: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    marks: tuple[tuple[str, float], ...] = ()


Maker = Callable[[], Curve]
CURVES: Final[list[Maker]] = []
"""What makes each curve."""


def curve(function: Maker) -> Maker:
    """Register what makes a curve."""
    CURVES.append(function)
    return function


def series(label: str, x: Iterable[float], of: Callable[[float], float]) -> Series:
    """A line through ``of`` at each ``x``, with four digits, and 0 for what is mere rounding."""
    at = tuple(float(value) for value in x)
    return Series(label, at, tuple(_four_digits(of(value)) for value in at))


def _four_digits(value: float) -> float:
    return 0.0 if abs(value) < 1e-12 else float(f"{value:.4g}")


def spaced(low: float, high: float, count: int) -> list[float]:
    """Values between two, evenly spaced in their logarithms, with three digits."""
    return [float(f"{value:.3g}") for value in np.geomspace(low, high, count)]


def whole(low: int, high: int) -> list[int]:
    """The powers of two between two."""
    return [2**power for power in range(20) if low <= 2**power <= high]


ALPHAS: Final = [1 + step / 8 for step in range(25)]


@curve
def values_against_channels() -> Curve:
    """The value of one error against that of one for each temperature."""

    def value(readings: Readings) -> Callable[[float], float]:
        return lambda C: samples(N=16, P=16, C=int(C)).loss(readings).loss

    channels = whole(1, 1024)
    return Curve(
        "P-01",
        "Value of the loss under A.6 and under Table 8",
        "The more channels, the better the drifts of the three temperatures agree: the value of "
        "their sum comes near 9, its largest. One error for each temperature is 3 whatever the "
        "samples. 16 samples and 16 positives.",
        "channels",
        "value of the loss",
        (
            series("A.6: drifts summed, one error", channels, value(PAPER)),
            series("Table 8: one error for each", channels, value(losses.PER_TEMPERATURE)),
        ),
        log_x=True,
    )


@curve
def joint_against_separate_by_distance() -> Curve:
    """The length of Algorithm 2's field over that of EQ-11."""

    def ratio(readings: Readings) -> Callable[[float], float]:
        def of(shift: float) -> float:
            case = points()
            moved = Points(case.x, case.y_pos + shift / np.sqrt(3), case.y_unc)
            separate = eq11_field(moved.x, moved.y_pos, moved.x, 1.0, mask_self=True)
            joint = fields.field(moved, readings)
            return float(np.linalg.norm(joint) / np.linalg.norm(separate))

        return of

    shifts = [float(step) for step in range(21)]
    return Curve(
        "P-03",
        "Length of the joint field over that of the separate one",
        "Far from the positives one softmax over both sets gives almost all weight to the "
        "negatives, and the field falls exponentially; with separate normalisers it does not.",
        "distance by which the positives are moved, in temperatures",
        "Algorithm 2 / EQ-11",
        (
            series("both softmaxes", shifts, ratio(PAPER)),
            series("softmax over y", shifts, ratio(Y_ONLY)),
        ),
        log_y=True,
    )


@curve
def combinations_against_temperature() -> Curve:
    """How far other combinations of the two softmaxes are from the geometric mean."""

    def off(combine: Callable[[Array, Array], Array]) -> Callable[[float], float]:
        def of(temperature: float) -> float:
            case = points()
            near = Points(case.x / temperature, case.y_pos / temperature, case.y_unc)
            row, column = fields.two_softmaxes(near)
            other = fields.of_affinity(combine(row, column), near)
            return apart(cases.unit_drift(other), cases.unit_drift(fields.field(near)))

        return of

    temperatures = spaced(0.1, 10, 15)
    return Curve(
        "P-04",
        "Other combinations of the two softmaxes",
        "How far the normalised drift is from that of the geometric mean. The higher "
        "the temperature, the more alike all weights, and the closer the combinations.",
        "temperature",
        "relative difference",
        (
            series("product", temperatures, off(lambda row, column: row * column)),
            series("arithmetic mean", temperatures, off(lambda row, column: (row + column) / 2)),
            series(
                "rows, then columns",
                temperatures,
                off(lambda row, column: row / np.maximum(row.sum(axis=0), 1e-300)),
            ),
        ),
        log_x=True,
    )


def acting(identifier: str, title: str, says: str, lines: Sequence[tuple[str, Readings]]) -> Curve:
    """The α that a nominal one acts as, under several readings."""

    def of(readings: Readings) -> Callable[[float], float]:
        return lambda alpha: guidance.acting_alpha(readings, alpha, 16)

    nominal = series("as asked for", ALPHAS, lambda alpha: alpha)
    measured = tuple(series(label, ALPHAS, of(readings)) for label, readings in lines)
    return Curve(identifier, title, says, "α asked for", "α that it acts as", (nominal, *measured))


@curve
def where_the_weight_enters() -> Curve:
    """What α acts as where the weight is a copy count, outside, or a logarithm."""
    return acting(
        "P-05",
        "What a guidance scale acts as",
        "At high temperature, with 64 generated and 16 unconditional samples. A weight that enters "
        "both softmaxes as log w acts as its square root: below 1 as more, above 1 as less. "
        "α = 4 acts as 1.87. There the first two readings agree.",
        (
            ("weight as number of copies", PAPER),
            ("weight outside the softmaxes", guidance.AFTER),
            ("log w inside both", guidance.LOG),
        ),
    )


@curve
def gamma_under_both_softmaxes() -> Curve:
    """What α acts as under both softmaxes and under one."""
    return acting(
        "P-07",
        "What a guidance scale acts as under one softmax and two",
        "At high temperature, with 64 generated and 16 unconditional samples: one softmax gives α "
        "as asked for, both a little less, w acting as w√(63/64).",
        (("both softmaxes", PAPER), ("softmax over y", Y_ONLY)),
    )


@curve
def seed_guidance() -> Curve:
    """What α acts as in the seed repository."""
    return acting(
        "R-01",
        "What a guidance scale acts as in the seed repository",
        "Its log w enters both softmaxes, of which the root is taken: the weight acts as its root.",
        (("paper", PAPER), ("seed", SEED)),
    )


@curve
def self_pairs_against_samples() -> Curve:
    """S with self pairs over S without."""

    def ratio(N: float) -> float:
        case = samples(N=int(N), P=int(N))
        return 1 / scales.ratio(case, "scale_self_pairs", "without")

    counts = whole(2, 256)
    return Curve(
        "P-08",
        "Feature scale with self-distances over that without",
        "With as many positives as generated samples the ratio is 1 − 1/M, M being all targets.",
        "generated samples of a label",
        "S with / S without",
        (series("as many positives", counts, ratio),),
        log_x=True,
        marks=(("Table 8", 64.0),),
    )


def two_spreads(ratio: float) -> Samples:
    """Two labels, the second with ``ratio`` times the spread of the first."""
    one = samples(L=1, N=16, P=16)
    pair = (np.concatenate([each, each * ratio]) for each in (one.generated, one.positive))
    return Samples(*pair)


def scope(identifier: str, title: str, says: str) -> Curve:
    """S of a narrow label on its own over that of the batch, and what it does to the gradient."""
    ratios = spaced(1, 16, 9)
    label = PAPER.with_reading("statistics_scope", "label")

    def of(ratio: float) -> float:
        case = two_spreads(ratio)
        return apart(case.loss(label).gradient, case.loss().gradient)

    def scale(ratio: float) -> float:
        case = two_spreads(ratio)
        own = scales.scale(case, ("statistics_scope", "label"))
        return float(own[0] / scales.scale(case)[0])

    return Curve(
        identifier,
        title,
        says,
        "spread of the wide label over that of the narrow one",
        "ratio",
        (
            series("S of the narrow label / S of the batch", ratios, scale),
            series("relative change of the gradient", ratios, of),
        ),
        log_x=True,
    )


@curve
def scope_of_the_paper() -> Curve:
    """S and λ of each label against those of the batch."""
    return scope(
        "P-10",
        "S and λ of each label against those of the batch",
        "Two labels of 16 samples: the more their spreads differ, the more a scale of their own "
        "changes S and the gradient.",
    )


@curve
def scope_of_the_seed() -> Curve:
    """The same, where the seed repository takes it."""
    return scope(
        "R-04",
        "What the seed's scope of S and λ changes",
        "The paper's loss with S and λ of each label, as the seed has them, on two labels of 16 "
        "samples whose spreads differ.",
    )


@curve
def unbiased_against_entries() -> Curve:
    """The unbiased standard deviation over the population's."""

    def ratio(side: float) -> float:
        patch = np.random.default_rng(3).normal(size=(1, 1, int(side), int(side)))
        return float((deviation(patch, "unbiased") / deviation(patch, "population")).item())

    sides = whole(2, 32)
    return Curve(
        "P-14",
        "Unbiased standard deviation over the population's",
        "√(n/(n − 1)) for n entries: 15 % on a patch of 2×2, nothing to speak of on a whole map.",
        "side of the patch",
        "unbiased / population",
        (series("measured", sides, ratio),),
        log_x=True,
    )


@curve
def added_masks_against_temperature() -> Curve:
    """The field under masks that are added, against one that is exact."""
    return _masks(
        "P-27",
        "Field under a mask that is added to the distance",
        "A mask of finite size leaks: by 10⁻⁵ of the field at a temperature of a tenth of it, by "
        "1 % at a third.",
    )


@curve
def release_mask_against_temperature() -> Curve:
    """The same for the release's mask of 100."""
    return _masks(
        "J-11",
        "Field under the release's mask",
        "A mask of 100 is exact to rounding up to a temperature of 3, far above the paper's, and "
        "leaks from 10 on.",
    )


def _masks(identifier: str, title: str, says: str) -> Curve:
    def off(mask: str) -> Callable[[float], float]:
        added = PAPER.with_reading("self_mask", mask)

        def of(temperature: float) -> float:
            case = points()
            return apart(
                fields.field(case, added, temperature), fields.field(case, PAPER, temperature)
            )

        return of

    temperatures = spaced(1, 1e7, 15)
    lines = tuple(
        series(f"{label} added", temperatures, off(mask))
        for label, mask in (("100", "add_100"), ("10⁶", "add_1e6"))
    )
    return Curve(
        identifier, title, says, "temperature", "relative error of the field", lines, log_x=True
    )


@curve
def dropped_mask_against_samples() -> Curve:
    """The field without self-mask against that with it."""

    def off(N: float) -> float:
        case = points(N=int(N), P=int(N))
        with_mask, without = (
            compute_V(case.x, case.y_pos, case.y_neg, 1.0, mask_self=mask) for mask in (True, False)
        )
        return apart(without, with_mask)

    return Curve(
        "P-26",
        "Field without the self-mask",
        "Beside five unconditional samples, at a temperature of one spread: with 64 samples the "
        "missing mask still shows.",
        "generated samples",
        "relative error of the field",
        (series("mask dropped", whole(2, 256), off),),
        log_x=True,
    )


@curve
def coinciding_sets_against_samples() -> Curve:
    """The field where positives and negatives are the same points."""

    def size(N: float) -> float:
        x = points(N=int(N)).x
        return float(np.linalg.norm(compute_V(x, x, x, 1.0, mask_self=True), axis=1).mean())

    return Curve(
        "P-28",
        "Field where positives and negatives are the same points",
        "A sample is attracted by itself among the positives and, masked, not repelled by itself "
        "among the negatives: the field is not zero, and shrinks about as 1/N with many samples.",
        "samples",
        "mean length of V, in spreads",
        (series("self-mask", whole(2, 256), size),),
        log_x=True,
        log_y=True,
    )


def asymmetric(identifier: str, title: str, says: str) -> Curve:
    """How far a field with a factor before the attraction moves with the origin."""
    factors = [1 + step / 8 for step in range(9)]
    lines = (("factor on W·y", fields.products), ("factor on the shift from x", fields.shifts))
    return Curve(
        identifier,
        title,
        says,
        "factor of the attraction",
        "change of V by a unit step of the origin",
        tuple(
            series(label, factors, lambda a, of=field_of: fields.moved_by_a_shift(of, a))
            for label, field_of in lines
        ),
    )


@curve
def asymmetry_of_the_paper() -> Curve:
    """Table 1's factors before the two products and before the two shifts."""
    return asymmetric(
        "P-29",
        "Table 1's factors and the origin",
        "A factor before one of Algorithm 2's products makes the field depend on the origin, one "
        "before the shifts relative to x does not.",
    )


@curve
def asymmetry_of_the_seed() -> Curve:
    """The same, as the seed has it."""
    return asymmetric(
        "R-09",
        "The seed's factors and the origin",
        "The seed scales the products, so that its asymmetric fields depend on the origin.",
    )


@curve
def class_among_all_against_classes() -> Curve:
    """How far guidance is off when the unconditional samples hold the own class too."""

    def off(classes: float) -> float:
        own, every = guidance.class_and_all(int(classes))
        others = (every - own / classes) / (1 - 1 / classes)
        with_own, without = (guided_distribution(own, p, 2.0) for p in (every, others))
        return float(np.abs(with_own - without).sum() / 2)

    return Curve(
        "P-31",
        "The own class among the unconditional samples",
        "Total variation between the targets of α = 2 with and without the own class among the "
        "unconditional samples.",
        "classes",
        "total variation",
        (series("α = 2", spaced(2, 10000, 12), lambda n: off(round(n))),),
        log_x=True,
        log_y=True,
        marks=(("ImageNet", 1000.0),),
    )


@curve
def scale_of_another_batch_against_samples() -> Curve:
    """How far S of another batch is from S of this one."""

    def off(C: int) -> Callable[[float], float]:
        def of(N: float) -> float:
            batches = (samples(seed, N=int(N), P=int(N), C=C) for seed in range(9))
            S = np.array([scales.scale(case)[0] for case in batches])
            return float(np.mean(np.abs(S[1:] / S[:-1] - 1)))

        return of

    counts = whole(4, 128)
    return Curve(
        "P-33",
        "Feature scale of another batch against that of this one",
        "The mean over eight pairs of batches of one law.",
        "generated samples of a label",
        "relative difference of S",
        (series("4 channels", counts, off(4)), series("64 channels", counts, off(64))),
        log_x=True,
        log_y=True,
    )


@curve
def value_against_distance() -> Curve:
    """The loss and the drift before normalisation, as the positives go away."""

    def at(shift: float) -> Samples:
        case = samples(N=16, P=16)
        return Samples(case.generated, case.positive - 0.5 + shift)

    shifts = [step / 4 for step in range(17)]
    largest = max(at(shift).loss(PAPER, (0.2,)).drift_energy.item() for shift in shifts)
    return Curve(
        "P-34",
        "Value of the loss and drift before normalisation",
        "The value with one temperature is 1 wherever the positives are. The mean square of the "
        "drift before normalisation grows with their distance up to about two spreads and falls "
        "beyond, where the joint softmax leaves the positives hardly any weight.",
        "distance of the positives in each channel, in spreads",
        "loss; drift over its largest",
        (
            series("loss", shifts, lambda shift: at(shift).loss(PAPER, (0.2,)).loss),
            series(
                "mean square of the drift, over its largest",
                shifts,
                lambda shift: at(shift).loss(PAPER, (0.2,)).drift_energy.item() / largest,
            ),
        ),
    )


@curve
def least_density_against_alpha() -> Curve:
    """Where the distribution that guidance aims at turns negative."""

    def least(alpha: float) -> float:
        return float(guided_distribution(*guidance.SUPPORT, alpha).min())

    return Curve(
        "P-45",
        "Least probability of the guided distribution",
        "Four points, of which one has a quarter of its unconditional probability in the class: "
        "above α = 4/3 no generator can be what guidance aims at.",
        "α",
        "least probability",
        (series("α p(·|c) − (α − 1) p(·|∅)", ALPHAS, least), series("zero", (1.0, 4.0), abs_zero)),
        marks=(("4/3", 4 / 3),),
    )


def abs_zero(_: float) -> float:
    """Zero, to draw the axis."""
    return 0.0


@curve
def release_floor_against_channels() -> Curve:
    """How much the release's floor of the affinities changes the drift."""

    def of(temperature: float) -> Callable[[float], float]:
        return lambda C: floors.change(floors.many(int(C)), temperature)

    channels = whole(2, 1024)
    return Curve(
        "J-01",
        "Change of the normalised drift by the release's floor",
        "64 generated samples and 64 positives of one normal law, the paper's readings with and "
        "without a floor of 10⁻⁶ under A². At τ = 0.02 it changes the drift of 2 channels by "
        "73 %, of 16 by 19 %, of 1024, whose distances are nearly all alike, by less than 1 %.",
        "channels",
        "relative change of the drift",
        tuple(series(f"τ = {tau}", channels, of(tau)) for tau in (0.02, 0.05, 0.2)),
        log_x=True,
        log_y=True,
    )


@curve
def release_floors_against_units() -> Curve:
    """The release's value of the loss as the unit of the features changes."""
    release = PAPER.with_reading("floors", "release")

    def of(readings: Readings) -> Callable[[float], float]:
        return lambda unit: samples(C=16).scaled(unit).loss(readings).loss

    units = spaced(1e-7, 10, 17)
    return Curve(
        "J-04",
        "Value of the loss against the unit of the features",
        "Under the paper's readings the unit does not matter. From 10⁻⁴ down the "
        "release's floors flatten its kernel, until all temperatures agree and the value is 9; at "
        "10⁻⁷ the floor under λ shrinks the drift.",
        "size of the features",
        "value of the loss",
        (series("paper", units, of(PAPER)), series("release's floors", units, of(release))),
        log_x=True,
    )


@curve
def epsilon_against_deviation() -> Curve:
    """The release's standard deviation over the exact one."""

    def ratio(size: float) -> float:
        patch = size * np.random.default_rng(3).normal(size=(1, 1, 8, 8))
        return float((deviation(patch, "population_eps") / deviation(patch, "population")).item())

    return Curve(
        "J-09",
        "Standard deviation with an epsilon of 10⁻⁶ under the root, over the exact one",
        "37 % at a standard deviation of 0.001, less than 1 % from 0.01 on.",
        "standard deviation of the map",
        "with / without",
        (series("8×8 map", spaced(1e-4, 1, 13), ratio),),
        log_x=True,
    )


@curve
def sum_and_mean_against_locations() -> Curve:
    """The value of a map's loss, summed over its locations or averaged."""
    return _locations(
        "P-23",
        "Value of the loss of a map against its locations",
        "The text adds the losses of all vectors, so a map of many locations weighs as much as "
        "there are; a mean makes every map alike.",
        (("sum over vectors", PAPER), ("mean over locations", _MEAN)),
    )


@curve
def release_against_locations() -> Curve:
    """The same for the release."""
    return _locations(
        "J-08",
        "Value of the loss of a map against its locations, release",
        "The release takes the mean over locations and labels.",
        (("paper", PAPER), ("release", RELEASE.with_reading("affinity_floor", "none"))),
    )


_MEAN: Final = PAPER.with_reading("location_reduction", "mean")


def _locations(
    identifier: str, title: str, says: str, lines: Sequence[tuple[str, Readings]]
) -> Curve:
    def of(readings: Readings) -> Callable[[float], float]:
        return lambda V: samples(V=int(V)).loss(readings, (0.2,)).loss

    locations = whole(1, 64)
    return Curve(
        identifier,
        title,
        says,
        "locations",
        "value of the loss",
        tuple(series(label, locations, of(readings)) for label, readings in lines),
        log_x=True,
        log_y=True,
    )


@curve
def clamp_against_distance() -> Curve:
    """The seed's clamp of λ as the positives go away."""
    clamped = PAPER.with_reading("floors", "seed")

    def at(readings: Readings) -> Callable[[float], float]:
        def of(shift: float) -> float:
            case = samples()
            far = Samples(case.generated, case.positive + shift)
            return far.loss(readings, (0.02,)).loss

        return of

    shifts = [step / 4 for step in range(17)]
    return Curve(
        "R-23",
        "Value of the loss under the seed's clamp of λ",
        "At τ = 0.02: once the positives are so far away that λ falls below 10⁻⁸, the clamped "
        "drift is no longer of mean square 1, and the loss vanishes with it.",
        "shift of the positives in each channel, in spreads",
        "value of the loss",
        (series("paper", shifts, at(PAPER)), series("clamped", shifts, at(clamped))),
        log_y=True,
    )


@curve
def printed_code_against_shift() -> Curve:
    """The printed code of Algorithm 2 as the origin moves."""

    def of(literal: bool) -> Callable[[float], float]:
        def change(shift: float) -> float:
            case = points()
            moved = Points(case.x + shift, case.y_pos + shift, case.y_unc)
            field = fields.as_printed if literal else fields.field
            return apart(field(moved), field(case))

        return change

    shifts = [step / 2 for step in range(11)]
    return Curve(
        "P-25",
        "Change of the field when all points move together",
        "Run as printed, W_pos is A_pos, so that the second product uses what the first one "
        "changed; the field then depends on the origin.",
        "shift of all points, in spreads",
        "relative change of the field",
        (series("as printed", shifts, of(True)), series("copies first", shifts, of(False))),
    )


def measure_curves() -> list[Curve]:
    """Measure every curve."""
    return [make() for make in CURVES]
