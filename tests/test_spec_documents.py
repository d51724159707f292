"""Broken spec files: each is refused with the file, the entry and what would be right."""

from __future__ import annotations

import copy
import tomllib
from importlib import resources
from typing import Any

import pytest

from drifting_spec.registry import SpecError, build, load


def documents() -> dict[str, dict[str, Any]]:
    """Parse the shipped files afresh, so that a test may break its copy."""
    folder = resources.files("drifting_spec").joinpath("data")
    return {item.name: tomllib.loads(item.read_text("utf-8")) for item in folder.iterdir()}


DOCUMENTS = documents()


def entry(parsed: dict[str, dict[str, Any]], key: str, identifier: str) -> dict[str, Any]:
    return next(e for d in parsed.values() for e in d.get(key, []) if e["id"] == identifier)


def break_it(change: str) -> dict[str, dict[str, Any]]:
    """Break a copy of the shipped documents in one way."""
    parsed = copy.deepcopy(DOCUMENTS)
    clause = entry(parsed, "clause", "EQ-11")
    match change:
        case "unknown-key":
            clause["formulas"] = "x"
        case "missing-key":
            del clause["statement"]
        case "no-tex":
            del clause["tex"]
        case "wrong-type":
            clause["title"] = 11
        case "wrong-bool":
            clause["executable"] = "yes"
        case "no-list":
            clause["axes"] = "floors"
        case "wrong-item":
            clause["deltas"] = [3]
        case "wrong-kind":
            clause["kind"] = "theorem"
        case "no-table":
            parsed["sec3.toml"]["clause"] = {"id": "EQ-1"}
        case "no-entry":
            parsed["sec3.toml"]["clause"][0] = "EQ-1"
        case "bool-number":
            entry(parsed, "tolerance", "field.float64")["rtol"] = True
        case "nested-key":
            entry(parsed, "axis", "floors")["readings"][0]["why"] = "x"
        case _:
            return break_reference(change, parsed, clause)
    return parsed


def break_reference(
    change: str, parsed: dict[str, dict[str, Any]], clause: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    match change:
        case "dangling-clause":
            clause["depends_on"] = ["EQ-99"]
        case "axes-of-a-clause":
            clause["axes"] = ["floors"]
        case "dangling-delta":
            clause["deltas"] = ["P-99"]
        case "dangling-section":
            clause["section"] = "9.9"
        case "dangling-deviation":
            entry(parsed, "deviation", "D15")["clauses"] = ["ALG3-1"]
        case "duplicate":
            parsed["a5.toml"]["clause"].append(clause)
        case "reason":
            clause["reason"] = "none needed"
        case "no-reason":
            clause["executable"] = False
        case "axis-missing":
            parsed["axes.toml"]["axis"].pop()
        case "readings-order":
            entry(parsed, "axis", "floors")["readings"].reverse()
        case "tolerance-name":
            entry(parsed, "tolerance", "field.float64")["dtype"] = "float32"
        case "table":
            parsed["a5.toml"]["clauses"] = []
        case "no-paper":
            del parsed["paper.toml"]["paper"]
        case "sections":
            parsed["paper.toml"]["sections"]["3.1"] = 31
        case _:
            return break_delta(change, parsed)
    return parsed


def break_delta(change: str, parsed: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    delta, witness = entry(parsed, "delta", "P-02"), entry(parsed, "witness", "P-01-value")
    match change:
        case "both":
            delta["undecidable"] = "No."
        case "neither":
            del entry(parsed, "delta", "P-24")["undecidable"]
        case "no-place":
            delta["places"] = []
        case "no-effect":
            del delta["effect"]
        case "no-readings":
            del delta["readings"]
        case "takes":
            del delta["takes"]["seed"]
        case "takes-key":
            delta["takes"]["mine"] = "basic"
        case "witness-delta":
            witness["delta"] = "P-99"
        case "witness-name":
            witness["delta"] = "P-02"
        case "witness-band":
            witness["low"] = 10.0
        case "row":
            entry(parsed, "row", "T8-wd")["id"] = "T8-decay"
        case "mark":
            entry(parsed, "row", "T8-input")["marks"] = ["O-99"]
        case "result":
            parsed["results.toml"]["result"][0]["table"] = "T12"
        case _:
            raise AssertionError(change)
    return parsed


BROKEN = {
    "unknown-key": r"sec3.toml: clause EQ-11 has an unknown key 'formulas'; known: id, title",
    "missing-key": r"sec3.toml: clause EQ-11 lacks 'statement'",
    "no-tex": r"clause EQ-11 has formula '.*' and tex '': it needs both or neither",
    "wrong-type": r"clause EQ-11.title is 11, expected str",
    "wrong-bool": r"clause EQ-11.executable is 'yes', expected bool",
    "no-list": r"clause EQ-11.axes is 'floors', expected a list",
    "wrong-item": r"clause EQ-11.deltas is 3, expected str",
    "wrong-kind": r"clause EQ-11.kind is 'theorem', expected one of",
    "no-table": r"sec3.toml: clause is no array of tables: write \[\[clause\]\]",
    "no-entry": r"sec3.toml: clause \? is 'EQ-1', expected a table",
    "bool-number": r"field.float64.rtol is True, expected float",
    "nested-key": r"axis floors.readings has an unknown key 'why'; known: reading, meaning",
    "dangling-clause": r"clause EQ-11.depends_on refers to 'EQ-99', which the spec does not hold",
    "axes-of-a-clause": r"clause EQ-11 has axes \['floors'\], expected none: an axis names its",
    "dangling-delta": r"clause EQ-11.deltas refers to 'P-99'",
    "dangling-section": r"clause EQ-11.section refers to '9.9'",
    "dangling-deviation": r"deviation D15.clauses refers to 'ALG3-1'",
    "duplicate": r"clause EQ-11 stands twice in the spec",
    "reason": r"clause EQ-11 has executable = true and reason 'none needed'",
    "no-reason": r"clause EQ-11 has executable = false and reason ''",
    "axis-missing": r"axes in the data and fields of Readings differ: \['patch_remainder'\]",
    "readings-order": r"axis floors lists other readings than Readings",
    "tolerance-name": r"tolerance field.float64 must be called quantity.dtype",
    "table": r"a5.toml: unknown table 'clauses'; known: paper, sections, clause",
    "no-paper": r"expected one \[paper\] table, found 0",
    "sections": r"paper.toml: sections.3.1 is 31, expected str",
    "both": r"delta P-02 has witness \['P-02-basic'.* and undecidable 'No.': exactly one",
    "neither": r"delta P-24 has witness \[\] and undecidable '': exactly one of the two",
    "no-place": r"delta P-02 needs at least one place and an effect",
    "no-effect": r"delta P-02 needs at least one place and an effect",
    "no-readings": r"delta P-02 lives on no axis: it needs readings and what each takes",
    "takes": r"delta P-02 lives on no axis: it needs readings and what each takes",
    "takes-key": r"delta P-02.takes has an unknown key 'mine'; known: paper, release, seed",
    "witness-delta": r"witness P-01-value.delta refers to 'P-99'",
    "witness-name": r"witness P-01-value must be called P-02-something",
    "witness-band": r"witness P-01-value has the band 10.0 to 8.99",
    "row": r"row T8-decay.id refers to 'T8-decay', which the spec does not hold",
    "mark": r"row T8-input.marks refers to 'O-99'",
    "result": r"result '.*'.table refers to 'T12'",
}


@pytest.mark.parametrize("change", list(BROKEN))
def test_broken_documents_are_refused(change: str):
    with pytest.raises(SpecError, match=BROKEN[change]):
        build(break_it(change))


def test_shipped_documents_build_the_shipped_spec():
    assert build(DOCUMENTS) == load()
