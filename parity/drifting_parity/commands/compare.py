"""``drifting-parity compare``: implementations, or saved reports of them, beside one another."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Final

from drifting_parity.adapters import Adapter
from drifting_parity.cases import Setting
from drifting_parity.commands.output import output_path, read_file, write_out, write_whole
from drifting_parity.commands.report import (
    FILE_WIDTH,
    can_write_pages,
    judged,
    limits,
    load_named,
    parsed_readings,
    usual_dtype,
)
from drifting_parity.errors import CommandError
from drifting_parity.judging.verdicts import Request
from drifting_parity.plain import plain
from drifting_parity.report.as_json import to_json
from drifting_parity.report.comparison import LETTERS, Comparison, heading
from drifting_parity.report.comparison import to_json as comparison_json
from drifting_parity.report.saved import Entry, SavedError, entry, saved

KINDS: Final = ("builtin:", "python:", "command:")

LARGEST: Final = 64 * 2**20
"""Bytes of a file beyond which it is no report: one has a few million."""


def compare(options: argparse.Namespace) -> int:
    """Carry out the command and return its exit status; :class:`CommandError` for bad usage.

    Files are read and implementations loaded first, so that what is wrong with one of them is
    said before minutes are spent on another.
    """
    given: list[str] = options.subjects
    if not 2 <= len(given) <= len(LETTERS):
        raise CommandError(
            f"compare: {len(given)} given, expected 2 to {len(LETTERS)} implementations or reports"
        )
    output = output_path(options.output)
    if options.format == "html":
        can_write_pages()
    entries = {text: read(text) for text in given if not text.startswith(KINDS)}
    readings = parsed_readings(options.readings)
    targets = dict.fromkeys(text for text in given if text.startswith(KINDS))
    adapters: dict[str, Adapter] = {}
    try:
        for text in targets:
            adapters[text] = load_named(text, limits(options), "compare")
        for text in targets:
            adapter = adapters.pop(text)
            request = Request(
                target=text,
                adapter=adapter,
                readings=readings,
                setting=Setting(dtype=usual_dtype(adapter)),
                seed=options.seed,
                quick=options.quick,
            )
            report = judged(request, "compare")
            if report.interrupted:
                raise KeyboardInterrupt
            entries[text] = entry(to_json(report))
    finally:
        for adapter in adapters.values():
            adapter.close()
    comparison = Comparison(tuple(entries[text] for text in given))
    text = render(
        comparison,
        options.format,
        to_terminal=output is None and sys.stdout.isatty(),
        verbose=options.verbose,
    )
    if output is None:
        write_out(text)
    else:
        write_whole(output, text)
        print(f"{heading(comparison)}\nwritten to {options.output}", file=sys.stderr)
    return comparison.exit_status


def read(given: str) -> Entry:
    """The entry of a saved report; :class:`CommandError` says in one line what is wrong."""
    path, shown = Path(given), plain(given)
    try:
        if not path.exists():
            raise CommandError(
                f"compare: {shown} is neither a file nor KIND:TARGET (builtin:, python:, command:)"
            )
        if path.is_file() and path.stat().st_size > LARGEST:
            raise CommandError(
                f"compare: {shown} has more than {LARGEST // 2**20} MiB, expected a saved report"
            )
        return saved(read_file(path), given)
    except OSError as problem:
        said = problem.strerror or problem
        raise CommandError(f"compare: {shown} cannot be read: {said}") from problem
    except SavedError as problem:
        raise CommandError(f"compare: {shown}: {problem}") from problem
    except ValueError as problem:
        raise CommandError(f"compare: {shown} is no UTF-8 text, expected a report") from problem


def render(comparison: Comparison, form: str, *, to_terminal: bool, verbose: bool) -> str:
    """Write the comparison in one of the formats, with colour only for a terminal."""
    if form == "json":
        data = comparison_json(comparison)
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "html":
        from drifting_parity.report.page import comparison_html

        return comparison_html(comparison)
    from drifting_parity.report.comparison_text import markdown, terminal

    if form == "markdown":
        return markdown(comparison)
    width = shutil.get_terminal_size((FILE_WIDTH, 24)).columns
    return terminal(comparison, width, colour=to_terminal, verbose=verbose)
