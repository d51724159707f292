"""The command line ``drifting-parity``: its options, its exit statuses, its errors.

Everything heavy (NumPy, SciPy, PyTorch, rich) is imported by the command that needs it, so that
``--help``, ``list`` and ``explain`` answer at once.

Exit statuses: 0 as expected; 1 parity broken; 2 bad usage or configuration; 3 the implementation
could not be judged; 130 interrupted. Output that could not be written is 2 as well.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from drifting_parity.commands.output import silence_stdout, write_out
from drifting_parity.errors import INTERRUPTED, USAGE, CommandError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

BROKEN_PIPE: Final = 141
"""What a shell shows for a program that SIGPIPE ended."""

FORMATS: Final = ("terminal", "json", "markdown")
PAGES: Final = (*FORMATS, "html")
REPORTS: Final = (*PAGES, "junit", "badge")
DTYPES: Final = ("float64", "float32", "bfloat16", "float16")
KINDS: Final = ("clauses", "readings", "deltas", "effects", "deviations", "checks", "cases")

COLUMNS: Final = ("ablation", "latent-B/2", "latent-L/2", "pixel-B/16", "pixel-L/16")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help, or fail: argparse would say nothing of a full disk."""
        if file is None:
            write_out(self.format_help())
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from drifting_parity.judging.verdicts import version_of

        write_out(f"{parser.prog} {version_of('drifting-parity')}\n")
        parser.exit()


def _seed(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to 2**32 - 1")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    top = _Parser(
        prog="drifting-parity",
        description="Judge an implementation of drifting models against the paper.",
        epilog="exit status: 0 as expected, 1 parity broken, 2 bad usage or configuration, "
        "3 the implementation could not be judged",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    _add_report(commands)
    _add_fingerprint(commands)
    _add_gate(commands)
    _add_compare(commands)
    explain = commands.add_parser(
        "explain",
        help="say what a clause, a reading, a delta, a deviation or a check is",
        description="Statement, formula, readings, code and checks of one id.",
        allow_abbrev=False,
    )
    explain.add_argument(
        "id",
        metavar="ID",
        help="what a report prints: a clause (EQ-11), axis (floors), reading (floors=release), "
        "preset, delta (P-03), effect (P-01-value), deviation (D12), check (PB-01), case (A01) or "
        "the name of a quantity",
    )
    pages = commands.add_parser(
        "pages",
        help="write the annotated paper as a folder of HTML pages",
        description="Write the annotated paper: sections and clauses with formulas, readings, "
        "code, checks, contradictions with their effects, and deviations, on self-contained "
        "pages with an index and a search that need no server.",
        allow_abbrev=False,
    )
    pages.add_argument(
        "folder", metavar="DIR", help="where to; it is made if need be, other files in it stay"
    )
    pages.add_argument(
        "--add",
        metavar="PAGE",
        action="append",
        default=[],
        help="an HTML page to put beside them and to link, as report --format html writes it; "
        "may be given several times",
    )
    listing = commands.add_parser(
        "list",
        help="list what there is",
        description="One line per entry, its id first.",
        allow_abbrev=False,
    )
    listing.add_argument("kind", choices=KINDS, help="what to list")
    listing.add_argument(
        "--format", choices=("terminal", "json"), default="terminal", help="default: terminal"
    )
    selftest = commands.add_parser(
        "selftest",
        help="put every known mistake before every check",
        description="Every check of a loss or a field against every catalogued deviation: which "
        "mistakes each check is red on. Takes minutes.",
        allow_abbrev=False,
    )
    selftest.add_argument(
        "--format", choices=("terminal", "json"), default="terminal", help="default: terminal"
    )
    selftest.add_argument("--seed", metavar="N", type=_seed, default=0, help="of every draw")
    slots = commands.add_parser(
        "slots",
        help="count the feature vectors of a configuration",
        description="Key, vectors and channels of every feature that a loss is computed for.",
        allow_abbrev=False,
    )
    slots.add_argument(
        "--preset", choices=COLUMNS, required=True, help="a column of Table 8: its encoder's size"
    )
    slots.add_argument(
        "--readings", metavar="SET", default="paper", help="a preset and changes (default: paper)"
    )
    return top


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="judge an implementation, clause by clause",
        description="Judge an implementation against the paper, clause by clause.",
        allow_abbrev=False,
    )
    option = report.add_argument
    option(
        "--implementation",
        metavar="KIND:TARGET",
        default="builtin:drifting_torch",
        help="builtin:drifting_torch (default), builtin:drifting_reference, "
        "python:package.module:attribute or python:file.py:attribute, which names an Adapter or "
        "code whose call form is guessed, or 'command:program arguments' in any language",
    )
    option(
        "--readings",
        metavar="SET",
        default="paper",
        help="what to hold it to: a preset (paper, release, seed), then axis=reading changes, "
        "as in paper,affinity_floor=1e-6 (default: paper)",
    )
    option("--clause", metavar="GLOB", default="*", help="only clauses whose id matches: 'ALG2-*'")
    option("--device", metavar="D", default="cpu", help="where it runs (default: cpu)")
    option(
        "--dtype", metavar="T", choices=DTYPES, help="its arithmetic: " + ", ".join(DTYPES) +
        " (default: float64, or the first that it offers)",
    )  # fmt: skip
    option(
        "--format", choices=REPORTS, default="terminal",
        help="default: terminal; badge is the JSON that shields.io draws from",
    )  # fmt: skip
    option("--output", metavar="FILE", help="write the report there, whole or not at all")
    option("--seed", metavar="N", type=_seed, default=0, help="of every random draw (default: 0)")
    option("--quick", action="store_true", help="fewer cases for each check")
    option("-v", "--verbose", action="store_true", help="show every clause, not what fails alone")
    _add_limits(report)


def _add_limits(command: argparse.ArgumentParser) -> None:
    """What a ``python:`` or ``command:`` implementation may use of time and memory."""
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_positive,
        default=60.0,
        help="for each call of an implementation in a process of its own, not builtin: "
        "(default: 60; four times that for its import)",
    )
    command.add_argument(
        "--memory",
        metavar="GIB",
        type=_positive,
        help="that its process may hold (default: half of the machine's)",
    )


def _add_fingerprint(commands: Any) -> None:
    command = commands.add_parser(
        "fingerprint",
        help="say what an implementation computes",
        description="Say what an implementation computes: the readings it takes, the catalogued "
        "deviations it has, what was measured, what nothing explains, what was not seen.",
        allow_abbrev=False,
    )
    option = command.add_argument
    option(
        "--implementation",
        metavar="KIND:TARGET",
        default="builtin:drifting_torch",
        help="what to look at, as for report (default: builtin:drifting_torch)",
    )
    option(
        "--readings",
        metavar="SET",
        default="paper",
        help="what to hold it to: a preset and changes (default: paper)",
    )
    option("--format", choices=("terminal", "json"), default="terminal", help="default: terminal")
    option("--output", metavar="FILE", help="write it there, whole or not at all")
    option("--seed", metavar="N", type=_seed, default=0, help="of the fresh cases (default: 0)")
    _add_limits(command)


def _add_gate(commands: Any) -> None:
    gate = commands.add_parser(
        "gate",
        help="hold an implementation to what a file declares of it",
        description="Judge an implementation, and fail on whatever FILE does not declare with a "
        "reason: a reading, a deviation, a clause that deviates or is not observable; "
        "or declares and is no longer so.",
        allow_abbrev=False,
    )
    option = gate.add_argument
    option("--expectations", metavar="FILE", required=True, help="the declarations, in TOML")
    option(
        "--implementation", metavar="KIND:TARGET", help="what to judge (default: what FILE says)"
    )
    option("--readings", metavar="SET", help="what to hold it to (default: what FILE says)")
    option("--seed", metavar="N", type=_seed, default=0, help="of every random draw (default: 0)")
    option("--quick", action="store_true", help="fewer cases for each check")
    _add_limits(gate)
    option("--format", choices=FORMATS, default="terminal", help="default: terminal")
    option("--output", metavar="FILE", help="write the answer there, whole or not at all")
    option("--report", metavar="FILE", help="write the whole report there too, as JSON")
    option("--junit", metavar="FILE", help="write the answer there too, as JUnit's XML")
    option("--badge", metavar="FILE", help="write a badge there too, as shields.io reads it")
    option(
        "--write", action="store_true", help="draft FILE, which must not exist, of what was found"
    )


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare",
        help="set implementations, or saved reports, beside one another",
        description="Set several implementations beside one another: what explains each, the "
        "stages of the computation, the clauses in which one is not as asked.",
        epilog="exit status: 1 where one breaks parity, else 3 where one could not be judged",
        allow_abbrev=False,
    )
    option = command.add_argument
    option(
        "subjects",
        metavar="SUBJECT",
        nargs="+",
        help="KIND:TARGET as for report, or a file that report --format json wrote",
    )
    option(
        "--readings",
        metavar="SET",
        default="paper",
        help="what to hold those to that are judged now: a preset and changes (default: paper)",
    )
    option("--seed", metavar="N", type=_seed, default=0, help="of every random draw (default: 0)")
    option("--quick", action="store_true", help="fewer cases for each check")
    _add_limits(command)
    option("--format", choices=PAGES, default="terminal", help="default: terminal")
    option("--output", metavar="FILE", help="write it there, whole or not at all")
    option("-v", "--verbose", action="store_true", help="show every clause, not what fails alone")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Usage errors leave through ``SystemExit(2)``, as argparse does it.
    """
    _replace_closed_streams()
    _tolerate_narrow_encodings()
    try:
        known = parser()
        options = known.parse_args(arguments)
        if options.command is None:
            known.print_help()
            return 0
        status = _run(options)
    except CommandError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left.
        silence_stdout()
        return BROKEN_PIPE
    return status


def _run(options: argparse.Namespace) -> int:
    if options.command == "report":
        from drifting_parity.commands.report import report

        return report(options)
    if options.command == "fingerprint":
        from drifting_parity.commands.fingerprint import run_fingerprint

        return run_fingerprint(options)
    if options.command == "compare":
        from drifting_parity.commands.compare import compare

        return compare(options)
    if options.command == "gate":
        from drifting_parity.commands.gate import run_gate

        return run_gate(options)
    if options.command == "selftest":
        from drifting_parity.commands.selftest import run_selftest

        return run_selftest(options)
    if options.command == "explain":
        from drifting_parity.catalogue.explain import explain

        text = explain(options.id)
    elif options.command == "pages":
        from drifting_parity.commands.pages import write

        text = write(options.folder, options.add)
    elif options.command == "slots":
        from drifting_parity.commands.slots import slots

        text = slots(options.preset, options.readings)
    else:
        from drifting_parity.commands.listing import listing

        text = listing(options.kind, options.format)
    write_out(text)
    return 0


class _Closed(io.StringIO):
    """Standard output that was closed before the program began."""

    def flush(self) -> None:
        """Fail, as writing to it does."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _replace_closed_streams() -> None:
    """Where a standard stream is closed, keep its place, lest a file is opened in it."""
    if sys.stdout is None or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        while os.open(os.devnull, os.O_RDWR) <= 2:
            pass
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] -- as with >&-
        sys.stdout = _Closed()
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = io.StringIO()


def _tolerate_narrow_encodings() -> None:
    """Where the terminal cannot show λ or ✓, show a question mark instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
