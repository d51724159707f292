"""``drifting-parity selftest``: every check of a loss against every known mistake."""

from __future__ import annotations

import argparse
import json
import sys

from drifting_parity.commands.output import write_out
from drifting_parity.errors import BROKEN
from drifting_parity.suspects.table import Table, selftest


def run_selftest(options: argparse.Namespace) -> int:
    """Carry out the command: 0 if every check kills a suspect and every suspect is caught."""
    table = selftest(seed=options.seed, progress=_progress if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    write_out(as_json(table) if options.format == "json" else as_text(table))
    return 0 if _holds(table) else BROKEN


def as_json(table: Table) -> str:
    """The table as JSON: each suspect with the checks that are red on it."""
    document = {
        "suspects": [
            {
                "suspect": row.suspect,
                "title": row.title,
                "stage": row.stage,
                "breaks": list(row.breaks),
                "killed_by": {kill.check: list(kill.clauses) for kill in row.kills},
            }
            for row in table.rows
        ],
        "checks": list(table.checks),
        "idle_checks": list(table.idle_checks),
        "false_alarms": [kill.check for kill in table.false_alarms],
        "holds": _holds(table),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_text(table: Table) -> str:
    """A line for each suspect: how many checks are red on it, and for which of its clauses."""
    width = max(len(row.suspect) for row in table.rows)
    lines: list[str] = []
    for row in table.rows:
        named = {clause for kill in row.kills for clause in kill.clauses}
        right = [clause for clause in row.breaks if clause in named]
        mark = "✓" if right else ("≠" if row.kills else "✗")
        clauses = " ".join(right) or "none of its clauses"
        lines.append(f"{mark} {row.suspect:<{width}} {len(row.kills):>4} checks  {clauses}")
    idle = ", ".join(table.idle_checks) or "none"
    alarms = ", ".join(kill.check for kill in table.false_alarms) or "none"
    return (
        "\n".join(
            [
                *lines,
                "",
                f"{len(table.checks)} checks, {len(table.rows)} suspects",
                f"checks that kill nothing: {idle}",
                f"checks that are red on the textbook: {alarms}",
            ]
        )
        + "\n"
    )


def _holds(table: Table) -> bool:
    missed = table.uncaught or table.wrongly_caught
    return not (missed or table.idle_checks or table.false_alarms)


def _progress(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} checks")
    sys.stderr.flush()
