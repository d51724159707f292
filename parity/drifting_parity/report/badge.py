"""A badge: what shields.io draws from an endpoint, one JSON object."""

from __future__ import annotations

import json
from typing import Final

from drifting_parity.report.data import Report
from drifting_parity.report.screen import Outcome, concluded

_SAID: Final[dict[Outcome, tuple[str, str]]] = {
    "conforms": ("conforms", "brightgreen"),
    "readings": ("other readings", "blue"),
    "deviates": ("deviates", "orange"),
    "unexplained": ("deviates", "orange"),
    "not judged": ("not judged", "lightgrey"),
}


def badge(report: Report) -> str:
    """The badge of a report, in the schema of shields.io's endpoints."""
    kind, _ = concluded(report)
    message, colour = _SAID[kind]
    if kind == "conforms" and not report.complete:
        message = f"{message} as far as seen"
    count = report.count("conforms")
    document = {
        "schemaVersion": 1,
        "label": "drifting parity",
        "message": f"{message}, {count} clauses conform",
        "color": colour,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
