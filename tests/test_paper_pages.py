"""The annotated paper: complete, linked, valid, self-contained, safe, and at home in a browser."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import axe_source, browser, chromium

import drifting_spec
from drifting_parity.cli import main
from drifting_parity.pages.book import Book, section_file
from drifting_parity.pages.paper import pages
from drifting_spec.registry import load

HOSTILE = """</script><script>hurt = 1</script><img src=x onerror="hurt = 2"> `<b>` {{ 7 * 7 }}"""
SPEC = load()


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


def ids(text: str) -> list[str]:
    return re.findall(r'<[^>]* id="([^"]*)"', text)


def test_every_id_has_its_place(made: dict[str, str]) -> None:
    book = Book()
    tables = (SPEC.clauses, SPEC.axes, SPEC.deltas, SPEC.witnesses, SPEC.deviations)
    for identifier in (*(key for table in tables for key in table), *(c.id for c in book.checks)):
        file, _, fragment = book.places[identifier].partition("#")
        assert fragment in ids(made[file]), identifier
    assert set(SPEC.symbols) <= set(ids(made["symbols.html"]))


def test_ids_are_unique(made: dict[str, str]) -> None:
    for name, text in made.items():
        assert [key for key, count in Counter(ids(text)).items() if count > 1] == [], name


def test_every_link_leads_somewhere(made: dict[str, str]) -> None:
    known = {name: {*ids(text), ""} for name, text in made.items()}
    linked = 0
    for name, text in made.items():
        hrefs = re.findall(r'<a [^>]*href="([^"]*)"', text) or re.findall(r"\]\(([^)]*)\)", text)
        for href in hrefs:
            if href == SPEC.paper.url:
                continue
            file, _, fragment = href.partition("#")
            assert unquote(fragment) in known[file or name], f"{name}: {href}"
            linked += 1
    assert linked > 5000


def test_search_knows_every_id_and_leads_there(made: dict[str, str]) -> None:
    (data,) = re.findall(r'<script type="application/json" id="entries">(.*?)</script>',
                         made["index.html"], re.DOTALL)  # fmt: skip
    entries = json.loads(data)
    assert {*SPEC.clauses, *SPEC.axes, *SPEC.deltas, *SPEC.deviations} <= {e["id"] for e in entries}
    for entry in entries:
        file, _, fragment = entry["href"].partition("#")
        assert not fragment or fragment in ids(made[file]), entry


def test_pages_are_valid_and_whole(made: dict[str, str]) -> None:
    html5lib = pytest.importorskip("html5lib")
    with pytest.raises(html5lib.html5parser.ParseError):
        html5lib.HTMLParser(strict=True).parse(made["a6.html"].replace("</section>", "", 1))
    for name, text in made.items():
        if name.endswith(".html"):
            html5lib.HTMLParser(strict=True).parse(text)
        assert len(text.encode()) < 1_500_000, name
        assert not re.findall(r"<(?:link|script|img|iframe)[^>]*(?:src|href)=.(?!data:,)", text)


def test_a_section_has_its_formulas_statements_and_sources(made: dict[str, str]) -> None:
    for section in SPEC.sections:
        text = made[section_file(section)]
        clauses = [item for item in SPEC.clauses.values() if item.section == section]
        displayed = text.count('<math display="block">')
        assert displayed == sum(bool(clause.tex) for clause in clauses)
        for clause in clauses:
            assert clause.title in html.unescape(text)
    page = made["a6.html"]
    assert "def feature_scale(" in page
    assert re.search(r"drifting_reference/\w+\.py, line \d+", page)
    assert str(Path(drifting_spec.__file__).parents[2]) not in page


def test_readings_say_what_each_preset_takes(made: dict[str, str]) -> None:
    (card,) = re.findall(r'(?s)<section class="card axis" id="statistics_scope".*?</section>',
                         made["readings.html"])  # fmt: skip
    assert re.search(r"<code>batch</code>.*?>paper<.*?>release<.*?<code>label</code>.*?>seed<",
                     card, re.DOTALL)  # fmt: skip


def hostile() -> dict[str, str]:
    clause = replace(SPEC.clauses["EQ-21"], title=HOSTILE, statement=HOSTILE, formula=HOSTILE)
    delta = replace(SPEC.deltas["P-08"], statement=HOSTILE, effect=HOSTILE)
    spec = replace(
        SPEC, clauses={**SPEC.clauses, "EQ-21": clause}, deltas={**SPEC.deltas, "P-08": delta}
    )
    return pages(Book(spec))


def test_what_the_spec_says_is_escaped() -> None:
    for name, text in hostile().items():
        if name.endswith(".html"):
            assert "<img" not in text, name
            assert text.count("<script") == 1 + (name == "index.html"), name
            assert "<b>" not in text, name


def test_tables_of_the_paper_are_there(made: dict[str, str]) -> None:
    for row in SPEC.rows.values():
        assert f'<a href="#{row.id}">{row.label}</a></th>' in made["table8.html"]
    shown = re.findall(r'<td class="number">([\d.]+)</td>', made["a6.html"])
    assert [r.value for r in SPEC.results if r.table == "T-A6"] == [float(cell) for cell in shown]
    assert set(SPEC.misprints) <= set(ids(made["contradictions.html"]))


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a" / "b"
    assert main(["pages", str(folder)]) == 0
    assert f"begin with {folder / 'index.html'}" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == set(pages())


def test_a_file_in_the_way_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    assert main(["pages", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path} is a file, expected a folder for the pages\n"
    assert main(["pages", str(path / "in")]) == 2
    assert "the pages were not written" in capsys.readouterr().err


def test_other_pages_are_put_beside_and_linked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "mine.html"
    report.write_text("<title>Mine &lt;1&gt;\n deviates</title>", encoding="utf-8")
    folder = tmp_path / "site"
    assert main(["pages", str(folder), "--add", str(report)]) == 0
    assert (folder / "mine.html").read_text() == report.read_text()
    assert '<a href="mine.html">Mine &lt;1&gt; deviates</a>' in (folder / "index.html").read_text()
    capsys.readouterr()
    for name, said in (
        ("no.html", "no.html was not read: No such file or directory"),
        ("mine.txt", "is no page, expected a file that ends with .html"),
        ("a6.html", "beside holds ['a6.html'], which are pages of ours"),
    ):
        path = tmp_path / name
        if name == "a6.html":
            path.write_text("x")
        assert main(["pages", str(folder), "--add", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_the_plain_index_has_a_line_for_each_id(made: dict[str, str]) -> None:
    text = made["llms.txt"]
    for table in (SPEC.clauses, SPEC.axes, SPEC.deltas, SPEC.deviations):
        for identifier in table:
            assert len(re.findall(rf"^- \[{re.escape(identifier)} ", text, re.MULTILINE)) == 1


SEARCHES = {
    "eq21": "a6.html#EQ-21",
    "Eq. (21)": "a6.html#EQ-21",
    "21": "a6.html#EQ-21",
    "p3": "contradictions.html#P-03",
    "lambda": "symbols.html#lambda",
    "λ_j": "a6.html#EQ-23",
    "sqrt(C) missing": "deviations.html#D22",
    "mean distance": "a6.html#EQ-20",
    "self mask": "readings.html#self_mask",
    "EMA decay": "release.html#J-19",
    "Drift Normalization": "a6.html",
    "nothing at all like this": None,
}
"""What is typed, and where the first answer leads."""


@pytest.mark.skipif(chromium() is None, reason="no Chromium")
def test_in_a_browser(made: dict[str, str], tmp_path: Path) -> None:
    for name, text in made.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    axe = axe_source(tmp_path)
    with browser(tmp_path) as tab:
        for name, width, dark in (
            ("index.html", 320, True),
            ("a6.html", 320, False),
            ("a6.html", 1600, True),
            ("deviations.html", 800, False),
            ("symbols.html", 320, True),
        ):
            tab.open((tmp_path / name).as_uri(), width=width, dark=dark)
            tab.value("for (const d of document.querySelectorAll('details')) d.open = true")
            where = f"{name} at {width}"
            assert tab.overflow() <= 0, where
            assert tab.complaints() == [], where
            requests = tab.requests()
            assert all(url.startswith(("file:", "data:")) for url in requests), requests
            if axe is not None and width == 320:
                assert tab.faults(axe) == [], where
        for name, text in hostile().items():
            (tmp_path / f"hostile-{name}").write_text(text, encoding="utf-8")
        for name in ("index.html", "a6.html", "contradictions.html"):
            tab.open((tmp_path / f"hostile-{name}").as_uri(), width=800, dark=False)
            assert tab.value("typeof hurt") == "undefined"
        tab.open((tmp_path / "index.html").as_uri(), width=800, dark=False)
        for query, href in SEARCHES.items():
            tab.value(
                f"document.getElementById('search').value = {json.dumps(query)};"
                "document.getElementById('search').dispatchEvent(new Event('input'))"
            )
            first = "document.querySelector('#results a')?.getAttribute('href')"
            assert tab.value(first) == href, query
        tab.open((tmp_path / "a6.html").as_uri(), width=800, dark=False)
        tab.value(
            "document.getElementById('filter').value = 'P-34 drift';"
            "document.getElementById('filter').dispatchEvent(new Event('input'))"
        )
        shown = "[...document.querySelectorAll('.clause')].filter(n => !n.hidden).map(n => n.id)"
        assert "EQ-25" in tab.value(shown)
        assert "EQ-19" not in tab.value(shown)
