"""The generated documents are up to date, and say what they are there to say."""

from __future__ import annotations

import importlib

import pytest

from drifting_parity.catalogue import documents, sources
from drifting_parity.pages.book import Book
from drifting_spec.implements import IMPLEMENTED, ORACLES
from drifting_spec.registry import load

MADE = {name: make() for name, make in documents.DOCUMENTS.items()}


@pytest.mark.parametrize("name", list(documents.DOCUMENTS))
def test_document_is_up_to_date(name: str):
    path = documents.FOLDER / name
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    current = written == MADE[name]
    assert current, f"spec/{name} is stale: run `{documents.COMMAND}`"


def test_kinds_divide_the_clauses():
    for clause in load().clauses.values():
        kinds = [name for name, belongs in documents.KINDS if belongs(clause)]
        assert len(kinds) == 1, f"{clause.id} is of the kinds {kinds}"


def test_every_clause_and_every_reason_stand_in_the_readme():
    text = MADE["README.md"]
    for clause in load().clauses.values():
        assert f"\n| {clause.id} | " in text
        assert clause.executable or f": {clause.reason}\n" in text
    assert "| numbered equations (of 47) | 47 | 46 | 1 |" in text


@pytest.mark.parametrize("package", ["drifting_torch", "drifting_reference"])
def test_all_that_is_marked_is_found_in_the_sources(package: str):
    """What importing marks, a class as well as a function, is what parsing finds."""
    importlib.import_module(package)
    found = {
        f"{each.module}:{each.name} {clause} {each.oracle}"
        for clause, items in sources.every(package).items()
        for each in items
    }
    marked = {
        f"{where} {clause} {marks is ORACLES}"
        for marks in (IMPLEMENTED, ORACLES)
        for clause, places in marks.items()
        for where in places
        if where.startswith(f"{package}.")
    }
    assert marked
    assert marked <= found


def test_an_oracle_stands_after_the_equation_and_is_called_one():
    names = [(each.name, each.oracle) for each in sources.marked("drifting_reference", "EQ-44")]
    assert names == [("kernel_field", False), ("log_gaussian_ratio", True)]
    assert "`mmd.kernel_field`, `mmd.log_gaussian_ratio` (oracle)" in MADE["README.md"]


def test_every_delta_has_a_line_that_links_to_its_entry():
    text, places = MADE["AMBIGUITIES.md"], Book().places
    for delta in load().deltas.values():
        line = f"\n| [{delta.id}](pages/{places[delta.id]}) | {delta.title} | "
        _, _, rest = text.partition(line)
        assert rest.startswith(delta.effect.replace("|", "\\|")), delta.id
    assert len(text.splitlines()) < 150
