"""The index of checks: what there is, readable without importing the checks.

``list checks`` and ``explain`` must answer at once, and importing the checks imports SciPy. So
their ids, kinds, titles and clauses stand in ``checks/index.json``. It is generated:
``python -m drifting_parity.catalogue.check_index`` writes it anew, and a test holds it to the
registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PATH: Final = Path(__file__).parents[1] / "checks" / "index.json"


@dataclass(frozen=True)
class IndexedCheck:
    """A check's id, kind, title and the clauses it may speak for."""

    id: str
    kind: str
    title: str
    clauses: tuple[str, ...]


def indexed() -> list[IndexedCheck]:
    """Read the index that ships, in the order in which the checks run."""
    entries = json.loads(PATH.read_text(encoding="utf-8"))
    return [
        IndexedCheck(entry["id"], entry["kind"], entry["title"], tuple(entry["clauses"]))
        for entry in entries
    ]


def rendered() -> str:
    """Write the registry as the index's text: one check on each line, for readable diffs."""
    from drifting_parity.checks import CHECKS

    lines = [
        json.dumps(
            {"id": item.id, "kind": item.kind, "title": item.title, "clauses": item.clauses},
            ensure_ascii=False,
        )
        for item in CHECKS
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    PATH.write_text(rendered(), encoding="utf-8")
