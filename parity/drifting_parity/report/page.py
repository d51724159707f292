"""The report, and a comparison, as one HTML page: self-contained, nothing fetched, escaped.

The first screen is that of the terminal; below it the stages as a row of boxes, plots, and every
section and clause folded. What judged code says goes through the templates' escaping, and what is
not printable is written out.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from drifting_parity.catalogue import sources
from drifting_parity.catalogue.sources import Marked
from drifting_parity.measure import Measurement
from drifting_parity.pages.environment import render
from drifting_parity.pages.plots import Layer, Mark, plot
from drifting_parity.report import wording
from drifting_parity.report.comparison import MARKS as STATE_MARKS
from drifting_parity.report.comparison import Comparison, heading, said
from drifting_parity.report.comparison import sources as run_of
from drifting_parity.report.comparison_text import LEGEND
from drifting_parity.report.data import FAILING, ClauseReport, Report
from drifting_parity.report.pictures import Drift, Pictures, Sweep
from drifting_parity.report.screen import (
    Role,
    by_section,
    concluded,
    first_screen,
    section_lines,
)
from drifting_parity.report.stages import PLAN, State, stage_reports
from drifting_spec.registry import load

if TYPE_CHECKING:
    from markupsafe import Markup

UNWRAPPED: Final = 100_000
"""Columns of a line that the page itself wraps."""

SHOWN: Final = 6
"""Measurements shown of a clause that holds."""

SHORT: Final[Mapping[State, str]] = {
    **LEGEND,
    "reading": "another reading",
    "follows": "follows",
    "not observed": "not observed",
}
"""What a box says of its state."""

ROLE_TONES: Final[Mapping[Role, str]] = {
    "good": "good",
    "bad": "bad",
    "other": "warn",
    "plain": "",
    "quiet": "soft",
}
TONES: Final[Mapping[str, str]] = {
    # Of verdicts.
    "conforms": "good",
    "by definition": "good",
    "conforms to reading": "warn",
    "deviates": "bad",
    "raises": "bad",
    "not observable": "none",
    "not executable": "none",
    # Of stages.
    "reading": "warn",
    "follows": "warn",
    "not observed": "none",
    # Of outcomes.
    "readings": "warn",
    "unexplained": "bad",
    "not judged": "bad",
}


@dataclass(frozen=True)
class Section:
    """A section of the paper on the page, with the row that stands for it while it is folded."""

    id: str
    name: str
    title: str
    counted: str
    role: Role
    clauses: Sequence[ClauseReport]


def html(report: Report) -> str:
    """Render ``report`` as a page. Raises ``CommandError`` where the extra is not installed."""
    screen = first_screen(report, UNWRAPPED)
    kind, phrase = concluded(report)
    known = {clause.id: f"#{clause.id}" for clause in report.clauses}
    text = render(
        "report.html",
        title=f"{report.implementation} {phrase}",
        description=f"drifting-parity's report of {report.implementation}: it {phrase}.",
        report=report,
        phrase=phrase,
        tone=TONES[kind],
        screen=screen[1:],
        stages=stage_reports(report),
        plots=_plots(report.pictures, report.implementation),
        sections=list(_sections(report)),
        spec=load().clauses,
        headlines=wording.headlines(report),
        differing=[axis for axis in report.axes if axis.differs],
        effects=wording.effects(report) if report.effects else "",
        conclusion=wording.conclusion(report),
        linked=_linker(known),
        references=_references(report),
        **_SHARED,
        measured=_measured,
        more=_more,
        explained=wording.explanation,
        together=wording.together,
        size=wording.size,
    )
    return printable(text)


def comparison_html(comparison: Comparison) -> str:
    """Render a comparison as a page. Raises ``CommandError`` where the extra is not installed."""
    known = {name: f"#{name}" for row in comparison.failing() for name in (row.id,)}
    head = heading(comparison).removeprefix("drifting-parity: ")
    text = render(
        "comparison.html",
        title=head,
        description=f"drifting-parity's comparison of {head}.",
        head=head,
        comparison=comparison,
        lettered=comparison.lettered,
        failing=comparison.failing(),
        others=len(comparison.clauses()) - len(comparison.failing()),
        stages=comparison.stages(),
        counts=comparison.counts(),
        said=said,
        run_of=run_of,
        linked=_linker(known),
        **_SHARED,
    )
    return printable(text)


_INVISIBLE: Final = frozenset("\n\t\u2061\u2062\u2063\u2064")
"""Line ends, and the signs of MathML that have no width."""


def printable(text: str) -> str:
    r"""Write out what is not printable, as ``\x1b``.

    HTML forbids most of it, a file cannot hold lone surrogates, and direction marks would turn the
    rest of a line around. Spaces of any width stay.
    """
    return "".join(
        item
        if item.isprintable() or item in _INVISIBLE or unicodedata.category(item) == "Zs"
        else item.encode("unicode_escape", "surrogatepass").decode("ascii")
        for item in text
    )


_SHARED: Final[Mapping[str, Any]] = {
    "tones": TONES,
    "role_tones": ROLE_TONES,
    "marks": wording.MARKS,
    "state_marks": STATE_MARKS,
    "legend": LEGEND,
    "short": SHORT,
    "formulas": {plan.key: plan.tex for plan in PLAN},
    "number": wording.number,
    "comparison_of": wording.comparison,
    "section_name": wording.section,
    "groups": {
        "loss": "The loss",
        "samples": "What goes into it",
        "outside": "Outside the loss",
    },
}


def _linker(known: Mapping[str, str]) -> Callable[[str], Markup]:
    """A function that escapes a text and links the ids that the page holds."""
    from markupsafe import Markup, escape

    ids = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.-])(?:{ids})(?![\w-])" if ids else r"(?!)")

    def linked(text: str) -> Markup:
        pieces: list[str] = []
        end = 0
        for match in pattern.finditer(text):
            pieces.append(str(escape(text[end : match.start()])))
            pieces.append(f'<a href="{escape(known[match[0]])}">{escape(match[0])}</a>')
            end = match.end()
        pieces.append(str(escape(text[end:])))
        return Markup("".join(pieces))

    return linked


def _sections(report: Report) -> Iterator[Section]:
    members = by_section(report)
    for (section, clauses), row in zip(members.items(), section_lines(report), strict=True):
        name, title, counted, role = row
        yield Section(f"section-{section}", name, title, counted, role, clauses)


@cache
def _reference() -> Mapping[str, list[Marked]]:
    return sources.every("drifting_reference")


def _references(report: Report) -> dict[str, Marked]:
    """The reference's lines for every clause that is not as asked."""
    failing = [clause.id for clause in report.clauses if clause.verdict in FAILING]
    if not failing:
        return {}
    return {name: _reference()[name][0] for name in failing if _reference().get(name)}


def _measured(clause: ClauseReport) -> list[tuple[str, Measurement]]:
    """The measurements that are shown of a clause: all that fail, the nearest of the others."""
    failed = [pair for pair in clause.measurements if not pair[1].passed]
    held = [pair for pair in clause.measurements if pair[1].passed]
    return [*failed[: 2 * SHOWN], *held[:SHOWN]]


def _more(clause: ClauseReport) -> int:
    return len(clause.measurements) - len(_measured(clause))


@dataclass(frozen=True)
class Plotted:
    """A plot with its heading and what it shows in words."""

    heading: str
    figure: Markup
    caption: str


def _plots(pictures: Pictures | None, name: str) -> list[Plotted]:
    """The plots that can be drawn of what was measured, with what they show in words."""
    if pictures is None:
        return []
    held = "the paper" if pictures.readings == "paper" else pictures.readings
    made: list[Plotted] = []
    if pictures.drift is not None:
        made.append(_drift(pictures.drift, held))
    if pictures.temperature is not None:
        made.append(_direction(pictures.temperature, held))
    for sweep, letter, what in (
        (pictures.channels, "C", "channels"),
        (pictures.samples, "N", "generated samples, and as many positives"),
    ):
        if sweep is not None:
            made.append(_size(sweep, letter, what, held))
    return [item for item in made if item.figure]


def _drift(drift: Drift, held: str) -> Plotted:
    def arrows(label: str, lengths: Sequence[tuple[float, float]]) -> Layer:
        xs, ys = zip(*drift.x, strict=True)
        across, up = zip(*lengths, strict=True)
        return Layer(label, xs, ys, "arrows", across, up)

    xs, ys = zip(*drift.positive, strict=True)
    layers = [
        arrows(held, drift.expected),
        arrows("this code", drift.observed),
        Layer("positives", xs, ys, "points"),
    ]
    what = "−gradient of the loss" if drift.what == "loss" else "V"
    taus = ", ".join(f"{tau:.3g}" for tau in drift.temperatures)
    caption = (
        f"{what} at {len(drift.x)} generated samples in a plane of {drift.channels} channels, "
        f"τ = {taus}. Directions differ by {wording.number(drift.error)}."
    )
    if drift.longer == 0:
        caption += " This code has none."
    elif drift.longer != 1:
        caption += f" Drawn at one length: this code's are {drift.longer:.3g} times as long."
    if drift.outside > 1e-6:
        caption += f" {drift.outside:.0%} of this code's drift leaves the plane."
    title = f"Arrows of {held} and of this code at the same points"
    figure = plot(title, layers, x="along the plane", y="across", equal=True)
    return Plotted("Drift on an example in two dimensions", figure, caption)


def _direction(sweep: Sweep, held: str) -> Plotted:
    floor = 1e-17
    errors = [max(value, floor) if value == value else math.nan for value in sweep.direction]
    worst = max((value for value in sweep.direction if math.isfinite(value)), default=math.nan)
    layer = Layer("this code", sweep.at, errors)
    figure = _plot(
        f"Error of the gradient's direction against τ, against {held}",
        [layer],
        x="temperature τ",
        y="error of the direction",
        log_x=True,
        log_y=True,
        marks=[Mark("rounding", y=1e-15), Mark("opposite", y=2.0)],
    )
    lost = sum(not math.isfinite(value) for value in sweep.direction)
    caption = f"Distance of two directions of length 1; at most {wording.number(worst)} here."
    if lost:
        caption += f" At {lost} of {len(sweep.at)} temperatures there is none that is finite."
    return Plotted("Direction against the temperature", figure, caption)


def _size(sweep: Sweep, letter: str, what: str, held: str) -> Plotted:
    layers = [
        Layer(label, sweep.at, [value if value > 0 else math.nan for value in values])
        for label, values in (("gradient", sweep.gradient), ("loss", sweep.value))
    ]
    figure = _plot(
        f"Length of the gradient and value of the loss over those of {held}, against {letter}",
        layers,
        x=f"{letter}, {what}",
        y=f"this code ÷ {held}",
        log_x=True,
        log_y=True,
        marks=[Mark("as asked", y=1.0)],
    )
    parts = [
        _span(label, values)
        for label, values in (("gradient", sweep.gradient), ("loss", sweep.value))
    ]
    return Plotted(f"Size against {letter}", figure, " ".join(filter(None, parts)))


def _span(label: str, values: Sequence[float]) -> str:
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return f"The {label} is nowhere finite."
    if max(abs(value - 1) for value in kept) < 1e-3:
        return f"The {label} is as long as it should be." if label == "gradient" else (
            "The loss is as large as it should be."
        )  # fmt: skip
    low, high = f"{min(kept):.3g}", f"{max(kept):.3g}"
    span = low if low == high else f"{low} to {high}"
    return f"The {label} is {span} times what it should be."


def _plot(title: str, layers: Sequence[Layer], **more: Any) -> Markup:
    """The plot, or nothing where no value of it can be drawn."""
    from markupsafe import Markup

    try:
        return plot(title, layers, **more)
    except ValueError:
        return Markup("")


__all__ = ["comparison_html", "html", "printable"]
