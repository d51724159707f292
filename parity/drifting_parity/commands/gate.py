"""``drifting-parity gate``: judge an implementation and hold it to what a file declares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from drifting_parity.commands.output import (
    check_writable,
    output_path,
    write_out,
    write_whole,
)
from drifting_parity.commands.report import judged, make_request, render
from drifting_parity.errors import BROKEN, UNJUDGED, CommandError
from drifting_parity.gate import findings as gate
from drifting_parity.gate.expectations import read_expectations
from drifting_parity.report import wording
from drifting_parity.report.badge import badge
from drifting_parity.report.data import Report

FORMATS = {
    "terminal": gate.to_text,
    "json": gate.to_json,
    "markdown": gate.to_markdown,
}

Writer = Callable[[Report, tuple[gate.Finding, ...]], str]

BESIDE: dict[str, Writer] = {
    "junit": gate.to_junit,
    "badge": lambda report, _: badge(report),
    "report": lambda report, _: render(report, "json", to_terminal=False, verbose=False),
}
"""What one run may write to files of their own."""


def run_gate(options: argparse.Namespace) -> int:
    """Carry out the command and return its exit status; :class:`CommandError` for bad usage."""
    path = Path(options.expectations)
    output = output_path(options.output)
    if options.write:
        return _write(options, path)
    beside = {
        name: check_writable(Path(given), f"--{name}")
        for name in BESIDE
        if (given := getattr(options, name)) is not None
    }
    expected = read_expectations(path)
    options.implementation = options.implementation or expected.implementation
    options.readings = options.readings or expected.readings
    report = _report(options)
    found = gate.findings(expected, report)
    for name, file in beside.items():
        write_whole(file, BESIDE[name](report, found), f"--{name}")
    text = FORMATS[options.format](report, found)
    if output is None:
        write_out(text)
    else:
        write_whole(output, text)
        print(f"{gate.conclusion(report, found)}\nwritten to {options.output}", file=sys.stderr)
    return BROKEN if found else 0


def _write(options: argparse.Namespace, path: Path) -> int:
    """Draft the file of what was found, where none stands yet."""
    if path.exists():
        raise CommandError(f"--write: {path} exists already, expected a new file")
    path = check_writable(path)
    options.implementation = options.implementation or "builtin:drifting_torch"
    options.readings = options.readings or "paper"
    report = _report(options)
    write_whole(path, gate.draft(report))
    print(f"drafted {path}: write a reason wherever it is empty", file=sys.stderr)
    return 0


def _report(options: argparse.Namespace) -> Report:
    """Judge every clause; what cannot be judged at all is exit status 3."""
    options.clause, options.device, options.dtype = "*", "cpu", None
    report = judged(make_request(options))
    if report.interrupted:
        # Half of a report says nothing about what is declared.
        raise KeyboardInterrupt
    if report.exit_status == UNJUDGED:
        raise CommandError(f"--implementation: {wording.conclusion(report)}", UNJUDGED)
    return report
