"""``drifting-parity report``: load the implementation, judge it, write the report."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import shutil
import sys
from collections.abc import Generator
from typing import cast

from drifting_parity.adapters import Adapter, AdapterError, load_adapter
from drifting_parity.adapters.process.judged_process import Limits, usual_memory
from drifting_parity.cases import DType, Setting
from drifting_parity.commands.output import output_path, write_out, write_whole
from drifting_parity.errors import INTERRUPTED, UNJUDGED, CommandError
from drifting_parity.judging.verdicts import Progress, Request, judge
from drifting_parity.plain import described, plain
from drifting_parity.report.as_json import to_json
from drifting_parity.report.data import Report
from drifting_spec import Readings, ReadingsError, parse_readings
from drifting_spec.nearest import nearest
from drifting_spec.registry import load

FILE_WIDTH = 100
"""Columns of a terminal report that goes to a file or a pipe."""

BAR_WIDTH = 42
"""Columns that the progress bar takes before it says what is being done."""


def report(options: argparse.Namespace) -> int:
    """Carry out the command and return its exit status; :class:`CommandError` for bad usage."""
    output = output_path(options.output)
    if options.format == "html":
        can_write_pages()
    request = make_request(options)
    found = judged(request)
    if output is None:
        text = render(
            found, options.format, to_terminal=sys.stdout.isatty(), verbose=options.verbose
        )
        write_out(text)
    else:
        from drifting_parity.report.wording import conclusion

        print(conclusion(found), file=sys.stderr)
        if found.interrupted:
            # What was written there before is worth more than a part of a report.
            print(f"not written to {options.output}", file=sys.stderr)
        else:
            text = render(found, options.format, to_terminal=False, verbose=options.verbose)
            write_whole(output, text)
            print(f"written to {options.output}", file=sys.stderr)
    return INTERRUPTED if found.interrupted else found.exit_status


def judged(request: Request, option: str = "--implementation") -> Report:
    """Judge with a bar on the terminal; :class:`CommandError` (status 3) if the judge breaks."""
    try:
        with _progress() as progress:
            return judge(request, progress)
    except Exception as problem:
        raise CommandError(
            f"{option}: {plain(request.target)} could not be judged: {described(problem)}",
            UNJUDGED,
        ) from problem


def render(found: Report, form: str, *, to_terminal: bool, verbose: bool) -> str:
    """Write the report in one of the formats, with colour only for a terminal."""
    if form == "json":
        return json.dumps(to_json(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if form == "markdown":
        from drifting_parity.report.markdown import markdown

        return markdown(found)
    if form == "html":
        from drifting_parity.report.page import html

        return html(found)
    if form == "junit":
        from drifting_parity.report.junit import junit

        return junit(found)
    if form == "badge":
        from drifting_parity.report.badge import badge

        return badge(found)
    from drifting_parity.report.terminal import terminal

    width = shutil.get_terminal_size((FILE_WIDTH, 24)).columns
    return terminal(found, width, colour=to_terminal, verbose=verbose)


def make_request(options: argparse.Namespace) -> Request:
    """Read the options that say what to judge; :class:`CommandError` names what is wrong."""
    readings = parsed_readings(options.readings)
    ids = list(load().clauses)
    if not any(fnmatch.fnmatchcase(clause, options.clause) for clause in ids):
        hint = nearest(options.clause, ids, "see `drifting-parity list clauses`")
        raise CommandError(f"--clause: no clause matches {options.clause!r}; {hint}")
    adapter = load_named(options.implementation, limits(options))
    dtype = options.dtype or usual_dtype(adapter)
    _offered("--dtype", dtype, dtype, adapter, adapter.dtypes)
    _offered("--device", options.device, options.device.partition(":")[0], adapter, adapter.devices)
    return Request(
        target=options.implementation,
        adapter=adapter,
        readings=readings,
        setting=Setting(dtype=cast("DType", dtype), device=options.device),
        seed=options.seed,
        quick=options.quick,
        clause_glob=options.clause,
        pictures=options.format == "html",
    )


def can_write_pages() -> None:
    """Refuse to begin where the extra of HTML pages is missing: :class:`CommandError`."""
    from drifting_parity.pages.environment import environment
    from drifting_parity.pages.mathml import mathml

    environment()
    mathml("x")


def usual_dtype(adapter: Adapter) -> DType:
    """The arithmetic that an adapter is judged in where none is asked for."""
    return "float64" if "float64" in adapter.dtypes else adapter.dtypes[0]


def limits(options: argparse.Namespace) -> Limits:
    """What judged code may use, from ``--timeout`` and ``--memory``."""
    memory = usual_memory() if options.memory is None else int(options.memory * 2**30)
    return Limits(options.timeout, memory)


def parsed_readings(text: str) -> Readings:
    """The readings that ``--readings`` names; :class:`CommandError` says what is wrong."""
    try:
        return parse_readings(text)
    except ReadingsError as problem:
        raise CommandError(f"--readings: {problem}") from problem


def load_named(target: str, allowed: Limits, option: str = "--implementation") -> Adapter:
    """The adapter that ``option`` names; :class:`CommandError` says what is wrong."""
    try:
        adapter = load_adapter(target, allowed)
    except AdapterError as problem:
        raise CommandError(f"{option}: {problem}", 2 if problem.usage else UNJUDGED) from problem
    if taken := getattr(adapter, "taken", ""):
        print(f"{plain(target)} {taken}", file=sys.stderr)
    return adapter


def _offered(
    option: str, given: str, family: str, adapter: Adapter, offered: tuple[str, ...]
) -> None:
    if given not in offered and family not in offered:
        raise CommandError(f"{option}: {adapter.name} offers {', '.join(offered)}, not {given!r}")


@contextlib.contextmanager
def _progress() -> Generator[Progress | None]:
    """Show a bar on a terminal's stderr until the work is done; yield None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    room = max(10, console.width - BAR_WIDTH)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("loading", total=None)

        def show(what: str, done: int, total: int) -> None:
            short = what if len(what) <= room else f"{what[: room - 1]}…"
            bar.update(task, description=short, completed=done, total=total)

        yield show
