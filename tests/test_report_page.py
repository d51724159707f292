"""The page of a report and of a comparison: whole, linked, valid, safe, and what it plots."""

from __future__ import annotations

import html as escaping
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import axe_source, browser, chromium

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.capabilities import Capabilities
from drifting_parity.adapters.conduct import Conduct
from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import FieldCase, LossCase, LossObservation, Setting
from drifting_parity.cli import main
from drifting_parity.explanation.data import (
    Confirmation,
    DeviationStatement,
    Explanation,
    RangeStatement,
    Unexplained,
)
from drifting_parity.judging import pictures
from drifting_parity.measure import Figure
from drifting_parity.pages.environment import environment
from drifting_parity.report.as_json import to_json
from drifting_parity.report.comparison import Comparison
from drifting_parity.report.data import Report
from drifting_parity.report.page import comparison_html, html, printable
from drifting_parity.report.pictures import Pictures
from drifting_parity.report.saved import entry
from drifting_parity.report.screen import first_screen
from drifting_parity.suspects import ALL
from drifting_parity.suspects.adapter import SuspectAdapter
from drifting_spec import PAPER

HOSTILE = (
    """</script><script>hurt=1</script><img src=x onerror="hurt=2"> 'q' & {{ 7 * 7 }}"""
    "\x1b[2J\x00\u202e\ud800"
)
LACKS = DeviationStatement(
    "D71", "√C missing in S", "scale", "D71", ("EQ-21",),
    effect="gradient 96.7 % off", mend="Divide S by √C.",
)  # fmt: skip
EXPLAINED = Explanation(
    "mine", PAPER, PAPER, explained=True, deviations=(LACKS,),
    confirmation=Confirmation(30, 2e-15, 3e-15, {"C": 64}),
)  # fmt: skip


def hostile(report: Report) -> Report:
    """A report in which everything that judged code can say is hostile."""
    told = replace(
        EXPLAINED,
        implementation=HOSTILE,
        deviations=(replace(LACKS, effect=HOSTILE, alike=(HOSTILE,)),),
        unexplained=(Unexplained("drift scale", HOSTILE, math.inf),),
        range=(RangeStatement(HOSTILE, holds=False),),
        notes=(HOSTILE,),
    )
    clauses = tuple(
        replace(
            item,
            detail=HOSTILE,
            reproduce=HOSTILE,
            measurements=tuple(
                (HOSTILE, replace(one, quantity=HOSTILE, case=HOSTILE, note=HOSTILE))
                for _, one in item.measurements
            ),
        )
        for item in report.clauses
    )
    outcome = replace(
        report.outcomes[0], figures=(Figure(HOSTILE, HOSTILE, HOSTILE),), error=HOSTILE
    )
    return replace(
        report,
        implementation=HOSTILE,
        environment={**report.environment, "arithmetic": HOSTILE},
        clauses=clauses,
        axes=tuple(replace(item, evidence=HOSTILE) for item in report.axes),
        outcomes=(outcome,),
        explanation=told,
        conduct=(Conduct("printed", HOSTILE, HOSTILE),),
        pictures=Pictures(HOSTILE, notes=(HOSTILE,)),
    )


def drawn(adapter: Adapter, capabilities: Capabilities | None = None) -> Pictures:
    return pictures.draw(adapter, PAPER, Setting(), capabilities or Capabilities())


@pytest.fixture(scope="module")
def of_suspect() -> Pictures:
    return drawn(SuspectAdapter(ALL["D71"]))


@pytest.fixture
def every(
    good_report: Report, broken_report: Report, infinite_report: Report, of_suspect: Pictures
) -> dict[str, str]:
    wrong = replace(broken_report, explanation=EXPLAINED, pictures=of_suspect)
    entries = tuple(entry(to_json(item)) for item in (good_report, wrong, broken_report))
    return {
        "good": html(good_report),
        "broken": html(wrong),
        "infinite": html(infinite_report),
        "hostile": html(hostile(broken_report)),
        "comparison": comparison_html(Comparison(entries)),
        "hostile comparison": comparison_html(
            Comparison(tuple(entry(to_json(hostile(r))) for r in (good_report, broken_report)))
        ),
    }


def ids(text: str) -> list[str]:
    return re.findall(r'<[^>]* id="([^"]*)"', text)


def test_pages_are_valid(every: dict[str, str]) -> None:
    html5lib = pytest.importorskip("html5lib")
    for name, text in every.items():
        html5lib.HTMLParser(strict=True).parse(text), name
        assert len(text.encode()) < 1_500_000, name
    with pytest.raises(html5lib.html5parser.ParseError):
        html5lib.HTMLParser(strict=True).parse(every["good"].replace("</details>", "", 1))


def test_ids_are_unique_and_links_resolve(every: dict[str, str]) -> None:
    for name, text in every.items():
        known = ids(text)
        assert [key for key, count in Counter(known).items() if count > 1] == [], name
        linked = re.findall(r'<a [^>]*href="([^"]*)"', text)
        assert len(linked) > 4, name
        assert {href for href in linked if href[0] != "#" or href[1:] not in known} == set(), name
    assert "EQ-25" in ids(every["broken"])
    assert "section-A.6" in ids(every["broken"])


def test_pages_fetch_nothing_and_run_their_own_script_alone(every: dict[str, str]) -> None:
    for name, text in every.items():
        assert not re.findall(r"""<[^>]*(?:src|href)=["'](?!#|data:)""", text), name
        assert len(re.findall(r"<script", text)) == 1, name
        assert "<img" not in text, name
        assert "onerror=&" in text or "hostile" not in name
        assert "url(" not in text, name
        assert not {"\x00", "\x1b", "\u202e", "\ud800"} & set(text), name


def test_the_first_screen_is_that_of_the_terminal(
    every: dict[str, str], broken_report: Report
) -> None:
    shown = replace(broken_report, explanation=EXPLAINED)
    text = escaping.unescape(re.sub(r"<[^>]+>", "", every["broken"].partition("<main")[2]))
    at = text.index("deviates from the paper")
    for line in first_screen(shown, 100_000)[1:]:
        at = text.index(line.text, at)
    assert text.index("The stages of the computation") > at


def test_stages_say_what_is_wrong_and_what_to_change(every: dict[str, str]) -> None:
    boxes = re.findall(r'<li class="stage (\w+)">(.*?)</li>', every["broken"], re.DOTALL)
    by_name = {re.findall(r'stage-name">([^<]*)<', box)[0]: (tone, box) for tone, box in boxes}
    tone, box = by_name["scale"]
    assert tone == "bad"
    assert "✗ deviates" in box
    assert "Divide S by √C." in box
    assert by_name["drift scale"][0] == "warn"
    assert "follows from D71" in by_name["drift scale"][1]
    assert by_name["features"][0] == "none"
    assert "<math" in box


def test_failing_clauses_have_the_lines_of_the_reference(every: dict[str, str]) -> None:
    text = every["broken"]
    failing = text[text.index('id="EQ-25"') : text.index('id="EQ-26"')]
    assert "def drift_scale(V: Array" in failing
    assert "drifting_reference" in failing
    assert "--clause EQ-25" in failing
    holding = text[text.index('id="EQ-11"') :].partition("</details>")[0]
    assert "def " not in holding


def test_many_measurements_are_counted(good_report: Report) -> None:
    (first, *rest) = good_report.clauses
    many = replace(first, measurements=first.measurements * 40)
    text = html(replace(good_report, clauses=(many, *rest)))
    assert "34 more; the JSON report holds them all." in text


def test_what_cannot_be_printed_is_written_out() -> None:
    assert printable("a\x1b\ud800b\n\t√") == "a\\x1b\\ud800b\n\t√"
    assert printable("√\xa0\u2061\n") == "√\xa0\u2061\n"
    assert printable("a\u202eb\u2066") == "a\\u202eb\\u2066"


def test_nothing_of_our_own_is_written_out(every: dict[str, str]) -> None:
    for name in ("good", "broken", "infinite", "comparison"):
        body = every[name].partition("<main")[2].partition("<script>")[0]
        assert not re.findall(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4})", body), name


# What is plotted.


def test_the_reference_beside_itself() -> None:
    found = drawn(ReferenceAdapter())
    assert found.notes == ()
    assert found.drift is not None
    assert found.drift.error < 1e-12
    assert found.drift.longer == 1.0
    assert found.drift.outside < 1e-12
    np.testing.assert_allclose(found.drift.expected, found.drift.observed, rtol=1e-12)
    for sweep in (found.temperature, found.channels, found.samples):
        assert sweep is not None
        assert max(sweep.direction) < 1e-12
        np.testing.assert_allclose([sweep.gradient, sweep.value], 1.0, rtol=1e-9)


def test_s_without_its_root(of_suspect: Pictures) -> None:
    """S is √C too large: so is what divides the gradient."""
    found = of_suspect.channels
    assert found is not None
    assert found.at[-1] == 2048
    by_channels = np.asarray(found.gradient) * np.sqrt(found.at)
    np.testing.assert_allclose(by_channels, by_channels[0], rtol=0.5)
    assert of_suspect.drift is not None
    assert of_suspect.drift.error > 0.01


class OfField(Adapter):
    """V of Algorithm 2, turned around."""

    def field(self, case: FieldCase, readings: Any, setting: Setting) -> Any:
        return -2 * ReferenceAdapter().field(case, readings, setting)


class Raises(Adapter):
    asked = 0

    def loss(self, case: LossCase, readings: Any, setting: Setting) -> LossObservation:
        self.asked += 1
        raise ValueError(HOSTILE)


class Narrow(Adapter):
    """No more than 64 channels."""

    def loss(self, case: LossCase, readings: Any, setting: Setting) -> LossObservation:
        if case.generated.shape[-1] > 64:
            raise NotObservable("64 channels at most")
        return ReferenceAdapter().loss(case, readings, setting)


def test_a_field_is_drawn_where_there_is_no_loss() -> None:
    found = drawn(OfField())
    assert found.drift is not None
    assert found.drift.what == "field"
    assert found.drift.error == pytest.approx(2.0)
    np.testing.assert_allclose(found.drift.observed, -2 * np.asarray(found.drift.expected))
    assert found.channels is None


def test_what_cannot_be_drawn_is_said() -> None:
    raising = Raises()
    found = drawn(raising)
    assert raising.asked == 1
    assert found.drift is None
    assert found.notes[0].startswith("the drift is not drawn: ValueError: ")
    assert drawn(Adapter()).notes == (
        "neither a loss of one feature nor a field is offered: nothing is drawn",
    )
    narrow = drawn(Narrow())
    assert narrow.notes == ("the size against C is not drawn: 64 channels at most",)
    assert narrow.samples is not None
    own = drawn(ReferenceAdapter(), Capabilities(temperatures=(0.02, 0.05, 0.2)))
    assert own.temperature is None
    assert own.drift is not None
    assert own.drift.temperatures == (0.02, 0.05, 0.2)


def test_plots_end_when_their_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SECONDS", -1.0)
    found = drawn(ReferenceAdapter())
    assert found.drift is None
    assert found.notes == ("the drift is not drawn: the time for plots was spent",)


# The command.


def test_judged_code_cannot_put_its_own_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from drifting_parity.checks import CHECKS
    from drifting_parity.judging import verdicts

    monkeypatch.setattr(verdicts, "CHECKS", [c for c in CHECKS if "EQ-20" in c.clauses][:2])
    monkeypatch.setattr(verdicts, "measure", lambda: ())
    said, plain = ascii(HOSTILE), HOSTILE.partition("\x1b")[0]
    (tmp_path / "hostile_page.py").write_text(
        f"""{plain!a}
from drifting_parity.adapters.base import Adapter


class Hostile(Adapter):
    {plain!a}
    name = {said}

    def loss(self, case, readings, setting):
        print({plain!a})
        raise type({plain!a}, (ValueError,), {{}})({said})
""",
        encoding="utf-8",
    )
    out = tmp_path / "out.html"
    target = f"python:{tmp_path / 'hostile_page.py'}:Hostile"
    status = main(["report", "--implementation", target, "--format", "html", "--output", str(out)])
    assert status == 3
    text = out.read_text("utf-8")
    assert len(re.findall("<script", text)) == 1
    assert "<img" not in text
    assert "hurt=1" in text, "what it says is shown"
    assert "is not drawn" in text
    pytest.importorskip("html5lib").HTMLParser(strict=True).parse(text)
    if chromium() is not None:
        with browser(tmp_path) as tab:
            tab.open(out.as_uri(), width=800, dark=False)
            assert tab.value("typeof hurt") == "undefined"
            assert tab.complaints() == []
    capfd.readouterr()


def test_a_page_has_the_exit_status_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "SAMPLES", (2, 8))
    out = tmp_path / "out.html"
    shared = ["--quick", "--format", "html", "--output", str(out)]
    assert main(["report", "--clause", "A6-order", *shared]) == 0
    text = out.read_text("utf-8")
    assert "conforms to the paper" in text
    assert text.count('<figure class="plot">') == 4
    capsys.readouterr()


@pytest.fixture
def without_jinja(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    environment.cache_clear()
    yield
    environment.cache_clear()


@pytest.mark.usefixtures("without_jinja")
@pytest.mark.parametrize("command", [["report"], ["compare", "a", "b"]])
def test_a_missing_extra_is_said_before_anything_is_judged(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--format", "html"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: HTML pages need Jinja2 and math-core: pip install jinja2 math-core"


@pytest.mark.skipif(chromium() is None, reason="no Chromium")
def test_in_a_browser(every: dict[str, str], tmp_path: Path) -> None:
    axe = axe_source(tmp_path)
    with browser(tmp_path) as tab:
        for name, width, dark in (
            ("broken", 320, True),
            ("broken", 1600, False),
            ("comparison", 320, False),
            ("comparison", 800, True),
            ("hostile", 320, False),
            ("hostile comparison", 320, True),
        ):
            path = tmp_path / f"{name}.html"
            path.write_text(every[name], encoding="utf-8")
            tab.open(path.as_uri(), width=width, dark=dark)
            where = f"{name} at {width}"
            assert tab.overflow() <= 0, where
            tab.value("for (const d of document.querySelectorAll('details')) d.open = true")
            assert tab.overflow() <= 0, f"{where}, all open"
            assert tab.complaints() == [], where
            assert tab.value("typeof hurt") == "undefined"
            requests = tab.requests()
            assert all(url.startswith(("file:", "data:")) for url in requests), requests
            if axe is not None:
                assert tab.faults(axe) == [], where
        tab.open(f"{(tmp_path / 'broken.html').as_uri()}#EQ-11", width=800, dark=False)
        assert tab.value("document.getElementById('EQ-11').open") is True
        assert tab.value("document.getElementById('section-3.3').open") is True
        button = "document.querySelector('[data-query=\"verdict:deviates\"]')"
        tab.value(f"{button}.click()")
        shown = "[...document.querySelectorAll('.clause')].filter(n => !n.hidden).map(n => n.id)"
        assert tab.value(shown) == ["EQ-25"]
