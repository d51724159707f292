"""Plots as SVG inside a page: curves, points and arrows, in the page's own colours.

Drawn directly: they follow light and dark, need no font and take a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from markupsafe import Markup

Kind = Literal["line", "points", "arrows"]

WIDTH: Final = 400
HEIGHT: Final = 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 46
TONES: Final = 5
"""How many layers the style tells apart, each by colour and by dashes or shape."""


@dataclass(frozen=True)
class Layer:
    """One curve, set of points, or set of arrows from (x, y) to (x + dx, y + dy).

    All sequences have one length. A value that is not finite (or not positive on a logarithmic
    axis) is left out and breaks a curve.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Kind = "line"
    dx: Sequence[float] = ()
    dy: Sequence[float] = ()


@dataclass(frozen=True)
class Mark:
    """A labelled line across the plot at one value of x or y."""

    label: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    log: bool
    start: float
    end: float

    def place(self, value: float) -> float | None:
        if not math.isfinite(value) or (self.log and value <= 0.0):
            return None
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            if last - first >= 1:
                step = max(1, math.ceil((last - first + 1) / 6))
                return [10.0**power for power in range(first, last + 1, step)]
            ladder = (m * 10.0**p for p in range(first - 1, last + 2) for m in (1, 2, 5))
            return [value for value in ladder if self.low <= value <= self.high]
        raw = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def plot(
    title: str,
    layers: Sequence[Layer],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    equal: bool = False,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Draw layers on one pair of axes named ``x`` and ``y``, as ``<figure>`` with a legend.

    ``title`` says what the plot shows to who cannot see it. ``equal`` gives both axes the same
    scale. ``ValueError`` if nothing can be drawn or a layer's sequences differ in length.
    """
    from markupsafe import Markup, escape

    for layer in layers:
        lengths = {len(layer.x), len(layer.y)}
        if layer.kind == "arrows":
            lengths |= {len(layer.dx), len(layer.dy)}
        if len(lengths) != 1:
            raise ValueError(f"layer {layer.label!r} has sequences of lengths {sorted(lengths)}")
    across, up = _axes(layers, marks, log_x=log_x, log_y=log_y, equal=equal)
    svg = ET.Element(
        "svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": title}
    )
    ET.SubElement(svg, "title").text = title
    _draw_axes(svg, across, up, x, y)
    for mark in marks:
        _draw_mark(svg, across, up, mark)
    for tone, layer in enumerate(layers):
        group = ET.SubElement(svg, "g", {"class": f"layer tone{tone % TONES}"})
        _draw_layer(group, across, up, layer)
    keys = "".join(
        f'<li><svg viewBox="0 0 26 10" aria-hidden="true" class="key"><g class="layer tone'
        f'{tone % TONES}">{_key(layer.kind)}</g></svg>{escape(layer.label)}</li>'
        for tone, layer in enumerate(layers)
    )
    drawn = ET.tostring(svg, encoding="unicode")
    return Markup(f'<figure class="plot">{drawn}<ul class="legend">{keys}</ul></figure>')


def _key(kind: Kind) -> str:
    return '<circle cx="13" cy="5" r="3.5"/>' if kind == "points" else '<path d="M1 5H25"/>'


def _axes(
    layers: Sequence[Layer], marks: Sequence[Mark], *, log_x: bool, log_y: bool, equal: bool
) -> tuple[_Axis, _Axis]:
    xs = [value for layer in layers for value in layer.x]
    ys = [value for layer in layers for value in layer.y]
    for layer in layers:
        xs += [at + by for at, by in zip(layer.x, layer.dx, strict=False)]
        ys += [at + by for at, by in zip(layer.y, layer.dy, strict=False)]
    xs += [mark.x for mark in marks if mark.x is not None]
    ys += [mark.y for mark in marks if mark.y is not None]
    across = _Axis(*_range(xs, log_x), log_x, _LEFT, WIDTH - _RIGHT)
    up = _Axis(*_range(ys, log_y), log_y, HEIGHT - _BOTTOM, _TOP)
    if equal:
        scale_x = (across.high - across.low) / abs(across.end - across.start)
        scale_y = (up.high - up.low) / abs(up.end - up.start)
        scale = max(scale_x, scale_y)
        across, up = (_widened(axis, scale) for axis in (across, up))
    return across, up


def _widened(axis: _Axis, scale: float) -> _Axis:
    half = scale * abs(axis.end - axis.start) / 2
    middle = (axis.low + axis.high) / 2
    return _Axis(middle - half, middle + half, axis.log, axis.start, axis.end)


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    kept = [value for value in values if math.isfinite(value) and (not log or value > 0.0)]
    if not kept:
        raise ValueError("no value of a layer can be drawn")
    low, high = min(kept), max(kept)
    if log:
        margin = max(0.04 * math.log10(high / low), 0.05)
        return low / 10**margin, high * 10**margin
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 1.0
    return low - margin, high + margin


def _number(value: float) -> str:
    if value and not 1e-4 < abs(value) < 1e5:
        mantissa, _, power = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(power)}" if power else mantissa
    return f"{value:.10g}"


def _line(parent: ET.Element, points: Sequence[float], style: str) -> None:
    names = ("x1", "y1", "x2", "y2")
    places = {name: f"{at:.1f}" for name, at in zip(names, points, strict=True)}
    ET.SubElement(parent, "line", {**places, "class": style})


def _words(parent: ET.Element, text: str, x: float, y: float, anchor: str, **more: str) -> None:
    places = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    ET.SubElement(parent, "text", {**places, **more}).text = text


def _draw_axes(svg: ET.Element, across: _Axis, up: _Axis, x: str, y: str) -> None:
    for value in across.ticks():
        if (at := across.place(value)) is not None:
            _line(svg, (at, _TOP, at, HEIGHT - _BOTTOM), "grid")
            _words(svg, _number(value), at, HEIGHT - _BOTTOM + 15, "middle")
    for value in up.ticks():
        if (at := up.place(value)) is not None:
            _line(svg, (_LEFT, at, WIDTH - _RIGHT, at), "grid")
            _words(svg, _number(value), _LEFT - 6, at + 4, "end")
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    _words(svg, x, middle, HEIGHT - 8, "middle", **{"class": "name"})
    half = (_TOP + HEIGHT - _BOTTOM) / 2
    turned = {"class": "name", "transform": f"rotate(-90 14 {half:.1f})"}
    _words(svg, y, 14, half, "middle", **turned)


def _draw_mark(svg: ET.Element, across: _Axis, up: _Axis, mark: Mark) -> None:
    if mark.x is not None and (at := across.place(mark.x)) is not None:
        _line(svg, (at, _TOP, at, HEIGHT - _BOTTOM), "mark")
        flip = at > WIDTH * 0.7
        _words(svg, mark.label, at + (-4 if flip else 4), _TOP + 11, "end" if flip else "start")
    if mark.y is not None and (at := up.place(mark.y)) is not None:
        _line(svg, (_LEFT, at, WIDTH - _RIGHT, at), "mark")
        _words(svg, mark.label, WIDTH - _RIGHT - 4, at - 4, "end")


def _draw_layer(group: ET.Element, across: _Axis, up: _Axis, layer: Layer) -> None:
    places = [(across.place(x), up.place(y)) for x, y in zip(layer.x, layer.y, strict=True)]
    if layer.kind == "line":
        pen, path = "M", ""
        for x, y in places:
            if x is None or y is None:
                pen = "M"
            else:
                path, pen = f"{path}{pen}{x:.1f} {y:.1f}", "L"
        ET.SubElement(group, "path", {"d": path})
        return
    if layer.kind == "points":
        for x, y in places:
            if x is not None and y is not None:
                spot = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.5"}
                ET.SubElement(group, "circle", spot)
        return
    for (x, y), at_x, at_y, dx, dy in zip(
        places, layer.x, layer.y, layer.dx, layer.dy, strict=True
    ):
        end_x, end_y = across.place(at_x + dx), up.place(at_y + dy)
        if x is not None and y is not None and end_x is not None and end_y is not None:
            ET.SubElement(group, "path", {"d": _arrow(x, y, end_x, end_y)})


def _arrow(x: float, y: float, end_x: float, end_y: float) -> str:
    length = math.hypot(end_x - x, end_y - y)
    shaft = f"M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}"
    if length < 1.0:
        return shaft
    head = min(6.0, length / 2)
    along_x, along_y = (end_x - x) / length * head, (end_y - y) / length * head
    left = (end_x - along_x - along_y / 2, end_y - along_y + along_x / 2)
    right = (end_x - along_x + along_y / 2, end_y - along_y - along_x / 2)
    return (
        f"{shaft}M{left[0]:.1f} {left[1]:.1f}L{end_x:.1f} {end_y:.1f}L{right[0]:.1f} {right[1]:.1f}"
    )
