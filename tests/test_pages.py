"""What all pages share: one file that fetches nothing, valid, with what code says escaped."""

from __future__ import annotations

import re
import sys

import pytest

from drifting_parity.errors import CommandError
from drifting_parity.pages.environment import environment, prose, slug
from drifting_parity.pages.mathml import TexError, mathml
from drifting_parity.pages.plots import Layer, Mark, plot

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)"> 'q' & {{ 7 * 7 }}"""


def page(body: str, **context: object) -> str:
    source = f'{{% extends "base.html" %}}{{% block main %}}{body}{{% endblock %}}'
    made = environment().from_string(source)
    return made.render(title="T", description="D", **context)


def test_a_page_is_valid_html() -> None:
    html5lib = pytest.importorskip("html5lib")
    html5lib.HTMLParser(strict=True).parse(page("<h1>T</h1>"))


def test_a_page_fetches_nothing() -> None:
    text = page("<h1>T</h1>")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert "url(" not in text
    assert "@import" not in text


def test_only_the_pages_own_script_may_run() -> None:
    import base64
    import hashlib

    text = page("<h1>T</h1>")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_what_code_says_is_escaped() -> None:
    text = page("<p>{{ said }}</p><p>{{ said | prose }}</p>", said=HOSTILE)
    assert "<img" not in text
    assert text.count("<script") == 1
    assert text.count("{{ 7 * 7 }}") == 2


def test_plots_escape_what_they_are_given() -> None:
    text = plot(
        HOSTILE, [Layer(HOSTILE, [0, 1], [1, 2])], x=HOSTILE, y="y", marks=[Mark(HOSTILE, x=0.5)]
    )
    assert "<img" not in text
    assert "<script" not in text


def test_an_undefined_name_is_an_error() -> None:
    jinja2 = pytest.importorskip("jinja2")
    with pytest.raises(jinja2.UndefinedError):
        page("{{ nowhere }}")


def test_formulas_become_mathml() -> None:
    assert mathml(r"\frac{1}{2}").startswith('<math display="block">')
    assert "<mfrac>" in mathml(r"\frac{1}{2}", display=False)
    with pytest.raises(TexError, match=r"nonsense"):
        mathml(r"\nonsense{1}")


def test_prose_and_slugs() -> None:
    assert prose("a `b<c` d\n\ne") == "a <code>b&lt;c</code> d</p><p>e"
    assert slug("drift scale <x>") == "drift-scale-x"


def test_a_plot_places_values_on_its_axes() -> None:
    text = plot("t", [Layer("l", [1, 10, 100], [0, 5, 10])], x="x", y="y", log_x=True)
    (path,) = re.findall(r'<path d="(M[\d. ]+L[\d. L]+)" ?/>', text)
    places = [tuple(map(float, point.split())) for point in re.split("[ML]", path) if point]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert x0 < x1
    assert y0 > y1


def test_what_cannot_be_drawn_breaks_the_curve_or_is_refused() -> None:
    text = plot("t", [Layer("l", [1, 2, 3, 4], [1, float("nan"), 2, 3])], x="x", y="y")
    (path,) = re.findall(r'<path d="([^"]+)" ?/></g></svg><ul', text)
    assert path.count("M") == 2
    with pytest.raises(ValueError, match="lengths"):
        plot("t", [Layer("l", [1, 2], [1])], x="x", y="y")
    with pytest.raises(ValueError, match="no value"):
        plot("t", [Layer("l", [1.0], [-1.0])], x="x", y="y", log_y=True)


def test_arrows_have_heads_and_equal_axes_one_scale() -> None:
    layer = Layer("l", [0, 0], [0, 1], "arrows", [1, 0], [0, 1])
    text = plot("t", [layer], x="x", y="y", equal=True)
    across, up = re.findall(r'<path d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)M', text)
    wide = float(across[2]) - float(across[0])
    high = float(up[1]) - float(up[3])
    assert wide == pytest.approx(high, abs=0.2)


def test_parts_render() -> None:
    text = page(
        '{% import "parts.html" as parts %}{{ parts.badge("good", "ok") }}'
        '{{ parts.filter(".item", "Filter") }}{{ parts.code("a < b", "f.py") }}'
        "{% call parts.wide() %}<table></table>{% endcall %}{{ parts.anchor('x') }}"
    )
    assert "a &lt; b" in text


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(CommandError, match=r"pip install jinja2 math-core"):
        environment()
    monkeypatch.undo()
    environment.cache_clear()
