"""What a deviation does: its gradient against the paper's, at Table 8's sizes and as sizes change.

Measured on the textbook in float64 with every suspect in turn. The numbers ship in
``catalogue/deviations.json``, written by ``python -m drifting_parity.catalogue.curves``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from drifting_parity.cases import PAPER_TEMPERATURES, LossCase
from drifting_parity.explanation.hypothesis import LOSS_AXES, Hypothesis, Use
from drifting_parity.explanation.probes import loss_case
from drifting_parity.explanation.statements import effect, table8_case
from drifting_parity.suspects import ALL, Suspect, compose
from drifting_parity.witnesses.curves import Curve, Series, series, spaced, whole
from drifting_reference import cfg_alpha_to_weight
from drifting_spec import AXES, PAPER

CONDITIONS: Final = {
    "high temperature": "temperatures of 10 and more",
    "equal distances": "samples that are all equally far apart, by 10⁷ temperatures",
    "tiny temperature": "distances of a thousand temperatures",
    "offset": "samples a thousand spreads from the origin",
    "small units": "features of 10⁻⁵",
}
"""What brings a suspect to light that hardly shows on ordinary samples, in words."""


@dataclass(frozen=True)
class DeviationEffect:
    """What one variant of a deviation does at Table 8's sizes, in words."""

    id: str
    variant: str
    says: str


@dataclass(frozen=True)
class ReadingEffect:
    """What one reading does against the paper's at Table 8's sizes, in words."""

    axis: str
    reading: str
    says: str


def deviation_effects() -> list[DeviationEffect]:
    """Measure every suspect at Table 8's sizes."""
    return [DeviationEffect(item.id, item.variant, _effect(item)) for item in ALL.values()]


def reading_effects() -> list[ReadingEffect]:
    """Measure every reading that the paper's preset does not take at Table 8's sizes."""
    return [
        reading_effect(axis, reading)
        for axis in LOSS_AXES
        for reading in AXES[axis]
        if reading != getattr(PAPER, axis)
    ]


def reading_effect(axis: str, reading: str) -> ReadingEffect:
    """Measure one reading against the paper's at Table 8's sizes."""
    other = Hypothesis(PAPER).with_reading(axis, reading)
    says = "contradicts the paper's other readings"
    if other is not None:
        says = effect(other, Hypothesis(PAPER))
    return ReadingEffect(axis, reading, says)


def _effect(suspect: Suspect) -> str:
    if suspect.needs & {"features", "second call", "foreign negatives", "one generated"}:
        return f"does not show in one loss at Table 8's sizes: needs {_needs(suspect)}"
    if suspect.raises:
        return "raises"
    if not suspect.can_show(table8_case()):
        return f"does not show at Table 8's sizes: needs {_needs(suspect)}"
    said = effect(Hypothesis(PAPER, (Use(suspect.key),)), Hypothesis(PAPER))
    if said.startswith("below") and suspect.shows_at in CONDITIONS:
        said += f"; shows at {CONDITIONS[suspect.shows_at]}"
    return said


def _needs(suspect: Suspect) -> str:
    names = {
        "features": "several features",
        "second call": "a second call",
        "foreign negatives": "negatives that are other points, as many as the samples",
        "one generated": "a single generated sample",
    }
    return " and ".join(names.get(need, need) for need in sorted(suspect.needs - {"loss"}))


def gradient_error(suspect: Suspect, case: LossCase) -> float:
    """How far the gradient with a suspect is from the paper's, relative l2."""
    from drifting_parity.witnesses.cases import apart

    there, here = (compose(PAPER, *items).observe(case).gradient for items in ((suspect,), ()))
    return apart(there, here)


def _lines(
    identifier: str, variants: Sequence[str], x: Iterable[float], of: Callable[[float], LossCase]
) -> tuple[Series, ...]:
    at = list(x)
    made: list[Series] = []
    for variant in variants:
        suspect = ALL[f"{identifier}:{variant}" if variant else identifier]
        label = variant.replace("-", " ") or "with the deviation"
        if len(suspect.parameters) == 1 and identifier == "D66":
            label += f" ({next(iter(suspect.parameters.values())):g})"
        made.append(series(label, at, lambda v, s=suspect: gradient_error(s, of(v))))
    return tuple(made)


def _curve(
    identifier: str,
    says: str,
    x: str,
    values: Iterable[float],
    of: Callable[[float], LossCase],
    *variants: str,
    log_x: bool = True,
    log_y: bool = False,
    marks: tuple[tuple[str, float], ...] = (),
) -> Curve:
    lines = _lines(identifier, variants or ("",), values, of)
    return Curve(
        identifier, f"Error of the gradient against {x}", says, x,
        "relative error of the gradient", lines, log_x, log_y, marks,
    )  # fmt: skip


def deviation_curves() -> list[Curve]:
    """Measure how the gradient of some deviations departs from the paper's as sizes change."""
    return [*_by_channels(), *_by_samples(), *_by_guidance(), *_by_unit(), *_by_others()]


def _by_channels() -> Iterable[Curve]:
    def of(C: float) -> LossCase:
        return loss_case("channels", 8, (1, 16, 16, 0, 1, int(C)), PAPER_TEMPERATURES)

    said = "16 samples and 16 positives of one label. With one channel √C is 1 and nothing shows."
    channels = whole(1, 512)
    for identifier, *variants in (
        ("D22",),
        ("D23", "tau-c", "tau-over-root-c", "tau-2c"),
        ("D28", "norm", "divided-twice"),
        ("D71",),
    ):
        more = said if identifier != "D23" else "16 samples and 16 positives of one label."
        yield _curve(
            identifier, more, "channels", channels, of, *variants, log_y=identifier == "D28"
        )


def _by_samples() -> Iterable[Curve]:
    def of(N: float) -> LossCase:
        return loss_case("samples", 8, (1, int(N), int(N), 0, 1, 64), PAPER_TEMPERATURES)

    mark = (("Table 8", 64.0),)
    for identifier in ("D09", "D32", "D33", "D35"):
        says = "As many positives as generated samples, 64 channels, one label."
        yield _curve(
            identifier, says, "generated samples of a label", whole(2, 128), of, marks=mark
        )


def _by_guidance() -> Iterable[Curve]:
    def of(alpha: float) -> LossCase:
        case = loss_case("guidance", 8, (1, 64, 64, 16, 1, 64), PAPER_TEMPERATURES)
        weight = case.unconditional_weight
        assert weight is not None
        weight[:] = cfg_alpha_to_weight(alpha, 64, 16)
        return case

    alphas = [1 + step / 4 for step in range(13)]
    for identifier, *variants in (("D36",), ("D52",), ("D53",), ("D55", "unweighted", "switch")):
        says = "64 generated samples, 64 positives, 16 unconditional samples, 64 channels."
        yield _curve(identifier, says, "α", alphas, of, *variants, log_x=False)


def _by_unit() -> Iterable[Curve]:
    def of(unit: float) -> LossCase:
        case = loss_case("unit", 8, (1, 16, 16, 0, 1, 64), PAPER_TEMPERATURES)
        return case.changed(generated=case.generated * unit, positive=case.positive * unit)

    variants = ("added", "clamped", "distance-under-root", "drift-scale-added")
    says = "16 samples and 16 positives in features of one size, 64 channels."
    yield _curve(
        "D66", says, "size of the features", spaced(1e-8, 10, 19), of, *variants, log_y=True
    )


def _by_others() -> Iterable[Curve]:
    def spreads(ratio: float) -> LossCase:
        return loss_case("spread", 8, (2, 16, 16, 0, 1, 64), PAPER_TEMPERATURES, spread=ratio)

    says = "Two labels of 16 samples each."
    yield _curve("D40", says, "ratio of the labels' spreads", spaced(1, 16, 9), spreads)

    def locations(V: float) -> LossCase:
        return loss_case("locations", 8, (1, 16, 16, 0, int(V), 64), PAPER_TEMPERATURES, spread=4.0)

    says = "16 samples and 16 positives, locations whose spreads go up to twice the first one's."
    for identifier, *variants in (("D41", "flattened", "unshared"), ("D43",)):
        yield _curve(identifier, says, "locations", whole(1, 32), locations, *variants)


__all__ = [
    "DeviationEffect",
    "deviation_curves",
    "deviation_effects",
    "gradient_error",
    "reading_effects",
]
