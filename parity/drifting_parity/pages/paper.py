"""``drifting-parity pages``: the annotated paper as a folder of pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from drifting_parity.pages.book import PAGES, Book, section_file, section_name
from drifting_parity.pages.environment import render
from drifting_spec.table8 import COLUMNS


def pages(
    book: Book | None = None, beside: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Make every page of the annotated paper and the plain index, text by file name.

    ``beside``: other pages by file name, which the index links by their titles; a name of ours is
    a ``ValueError``.
    """
    book = Book() if book is None else book
    links = {name: _title(text) or name for name, text in beside.items()}
    items = _all(book, links)
    made = {name: _page(book, name, template, context) for name, template, context in items}
    made["llms.txt"] = plain_index(book)
    if taken := made.keys() & beside.keys():
        raise ValueError(f"beside holds {sorted(taken)}, which are pages of ours")
    return {**made, **beside}


def _title(text: str) -> str:
    found = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    return " ".join(html.unescape(found[1]).split()) if found else ""


def _all(book: Book, links: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    entries = [vars(entry) for entry in book.entries()]
    yield "index.html", "index.html", {"entries": entries, "beside": links}
    names = list(book.spec.sections)
    for at, section in enumerate(names):
        before, after = names[at - 1] if at else None, names[at + 1 : at + 2]
        context = {"section": section, "before": before, "after": after[0] if after else None}
        yield section_file(section), "section.html", context
    yield "readings.html", "readings.html", {}
    for kind, name in (("paper", "contradictions"), ("release", "release"), ("seed", "seed")):
        yield f"{name}.html", "differences.html", {"kind": kind}
    yield "deviations.html", "deviations.html", {}
    yield "symbols.html", "symbols.html", {}
    yield "checks.html", "checks.html", {}


def _page(book: Book, name: str, template: str, context: dict[str, Any]) -> str:
    heading = PAGES.get(name, "")
    if "section" in context:
        section = context["section"]
        heading = f"{section_name(section)} {book.spec.sections[section]}"
    paper = book.spec.paper
    return render(
        template,
        book=book,
        spec=book.spec,
        here=name,
        heading=heading,
        title=f"{heading} · {paper.title}",
        description=f"{heading}: {paper.title} ({paper.authors}), clause by clause.",
        others=PAGES,
        linked=book.linked,
        columns=COLUMNS,
        section_file=section_file,
        section_name=section_name,
        **context,
    )


def plain_index(book: Book) -> str:
    """Write the index as plain Markdown, one line for each id, for programs that read pages."""
    paper = book.spec.paper
    lines = [
        f"# {paper.title}, clause by clause",
        "",
        f"> {paper.authors}, arXiv {paper.arxiv}: every equation, requirement and contradiction, "
        "with readings, measured effects and the deviations met in real code.",
    ]
    for section, title in book.spec.sections.items():
        lines += ["", f"## {section_name(section)} {title}", ""]
        for clause in book.clauses_of(section):
            formula = " ".join(clause.formula.split())
            said = f"{clause.statement} {formula}".strip()
            lines.append(f"- [{clause.id} {clause.title}]({book.places[clause.id]}): {said}")
    groups = (
        ("Readings", ((item.id, item.question, "") for item in book.spec.axes.values())),
        ("Differences", ((d.id, d.title, d.effect) for d in book.spec.deltas.values())),
        ("Deviations", ((d.id, d.title, d.mend) for d in book.spec.deviations.values())),
    )
    for heading, items in groups:
        lines += ["", f"## {heading}", ""]
        for identifier, title, said in items:
            more = f": {said}" if said else ""
            lines.append(f"- [{identifier} {title}]({book.places[identifier]}){more}")
    return "\n".join(lines) + "\n"


def write_pages(folder: Path, beside: Mapping[str, str] = MappingProxyType({})) -> dict[str, int]:
    """Write every page into ``folder``, which is made if need be; their sizes in bytes by name.

    ``beside`` as for :func:`pages`. A file of another name there is left alone. Raises
    ``OSError``, ``ValueError``.
    """
    made = {name: text.encode("utf-8") for name, text in pages(beside=beside).items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return {name: len(data) for name, data in made.items()}
