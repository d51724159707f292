"""Judging: running checks on an adapter, finding the readings it takes, giving verdicts.

An implementation is first compared with the readings asked for. Where it takes others, it is
judged again under those: the clauses that raise the differing axes *conform to another reading*,
all other clauses keep a verdict of their own, so that the report names where the difference is.
"""

from __future__ import annotations

import fnmatch
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Final

from drifting_parity.adapters.base import Adapter, NotObservable, fixed
from drifting_parity.cases import Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Check, Context
from drifting_parity.judge import axes
from drifting_parity.measure import Figure, Measurement
from drifting_parity.report.data import CheckOutcome, ClauseReport, Report, Verdict
from drifting_parity.witnesses import measure
from drifting_spec import Readings
from drifting_spec.registry import Clause, load

BROKEN: Final[frozenset[Verdict]] = frozenset({"deviates", "raises"})

_OF_THE_WHOLE: Final = ("loss", "gradient", "∂L", "implied", "finite difference", "Ṽ")
"""Words in the names of quantities that come from the loss or its gradient."""

_MOST_ROOTS: Final = 4

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


@dataclass(frozen=True)
class Request:
    """What to judge: the implementation's name as given, its adapter, and under which readings."""

    target: str
    adapter: Adapter
    readings: Readings
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    quick: bool = False
    clause_glob: str = "*"

    def command(self, clause: str) -> str:
        """The command that reproduces what was found about one clause."""
        parts = ["drifting-parity report", f"--implementation {self.target}"]
        parts += [f"--readings {self.readings}", f"--clause {clause}"]
        parts += [f"--dtype {self.setting.dtype}", f"--seed {self.seed}"]
        if self.setting.device != "cpu":
            parts.append(f"--device {self.setting.device}")
        if self.quick:
            parts.append("--quick")
        return " ".join(parts)


def run_check(check: Check, context: Context) -> CheckOutcome:
    """Run one check; what the implementation raises is part of the outcome."""
    started = time.perf_counter()
    measurements: list[Measurement] = []
    figures: list[Figure] = []
    reason = error = ""
    try:
        for item in check.run(context):
            if isinstance(item, Figure):
                figures.append(item)
            else:
                measurements.append(item)
    except NotObservable as answer:
        reason = str(answer)
    except Exception as problem:
        last = traceback.extract_tb(problem.__traceback__)[-1]
        error = f"{type(problem).__name__}: {problem} ({last.name}, line {last.lineno})"
    if context.adapter.by_definition and not check.independent:
        measurements = [replace(item, by_definition=True) for item in measurements]
    return CheckOutcome(
        check=check.id,
        title=check.title,
        kind=check.kind,
        clauses=check.clauses,
        measurements=tuple(measurements),
        figures=tuple(figures),
        not_observable="" if measurements else reason,
        error=error,
        seconds=time.perf_counter() - started,
    )


def judge(request: Request, progress: Progress | None = None) -> Report:
    """Run every check that touches the requested clauses and give each clause its verdict."""
    started = time.perf_counter()
    spec = load()
    wanted = {
        clause.id: clause
        for clause in spec.clauses.values()
        if fnmatch.fnmatchcase(clause.id, request.clause_glob)
    }
    context = Context(
        request.adapter, request.readings, request.setting, spec, request.seed, request.quick
    )
    report_progress = progress or _silent
    chosen = [check for check in CHECKS if set(check.clauses) & set(wanted)]
    report_progress("finding the readings it takes", 0, len(chosen) + 1)
    observed, axis_reports = axes.observe(context)
    adapter = request.adapter
    if observed != request.readings:
        # It did not take what it was asked for, so it cannot be held to yet other readings.
        adapter = fixed(adapter)
    judged = replace(context, adapter=adapter, readings=observed)
    outcomes: list[CheckOutcome] = []
    for position, check in enumerate(chosen):
        report_progress(check.title, position + 1, len(chosen) + 1)
        if check.applies(judged.readings):
            outcomes.append(run_check(check, judged))
    report_progress("measuring the effects of deltas", len(chosen), len(chosen) + 1)
    effects = measure() if request.clause_glob == "*" else ()
    report_progress("done", len(chosen) + 1, len(chosen) + 1)
    differing = request.readings.differing(observed)
    clauses = _verdicts(wanted.values(), outcomes, differing, observed, request)
    return Report(
        implementation=request.target,
        readings=str(request.readings),
        observed_readings=str(observed),
        environment=environment(request),
        paper={
            "title": spec.paper.title,
            "authors": spec.paper.authors,
            "arxiv": spec.paper.arxiv,
            "scan_sha256": spec.paper.scan_sha256,
        },
        tool={"name": "drifting-parity", "version": metadata.version("drifting-parity")},
        clauses=tuple(clauses),
        axes=tuple(axis_reports),
        outcomes=tuple(outcomes),
        sections=spec.sections,
        seconds=time.perf_counter() - started,
        effects=effects,
    )


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


def environment(request: Request) -> dict[str, str]:
    """Versions, device, dtype and seed: what someone needs to see the same numbers."""
    versions = {name: _version(name) for name in ("numpy", "scipy", "torch")}
    return {
        "python": platform.python_version(),
        **versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": request.setting.device,
        "dtype": request.setting.dtype,
        "seed": str(request.seed),
        "quick": str(request.quick).lower(),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _verdicts(
    clauses: Iterable[Clause],
    outcomes: Sequence[CheckOutcome],
    differing: tuple[str, ...],
    observed: Readings,
    request: Request,
) -> list[ClauseReport]:
    reports = {
        clause.id: _verdict(clause, outcomes, differing, observed, request) for clause in clauses
    }
    if request.clause_glob == "*":  # of some clauses alone nothing can be said to come first
        for key in _roots([item for item in reports.values() if item.verdict in BROKEN]):
            reports[key] = replace(reports[key], root=True)
    return list(reports.values())


def _roots(broken: Sequence[ClauseReport]) -> set[str]:
    """Where to look first: what is seen to be wrong directly, and depends on nothing wrong.

    A loss or a gradient is wrong whenever anything before it is; a scale, a field or a vector
    speaks for itself. None where that leaves too many to be a help.
    """
    direct = {item.id for item in broken if item.verdict == "raises" or _seen_directly(item)}
    candidates = direct or {item.id for item in broken}
    clauses = load().clauses
    roots = {key for key in candidates if not _upstream(key, clauses) & candidates}
    return roots if len(roots) <= _MOST_ROOTS else set()


def _seen_directly(clause: ClauseReport) -> bool:
    failed = (item.quantity for _, item in clause.measurements if not item.passed)
    return any(
        "other inputs" in quantity or not any(word in quantity for word in _OF_THE_WHOLE)
        for quantity in failed
    )


def _upstream(identifier: str, clauses: Mapping[str, Clause]) -> set[str]:
    found: set[str] = set()
    waiting = list(clauses[identifier].depends_on)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(clauses[name].depends_on)
    return found - {identifier}


def _verdict(
    clause: Clause,
    outcomes: Sequence[CheckOutcome],
    differing: tuple[str, ...],
    observed: Readings,
    request: Request,
) -> ClauseReport:
    touching = [outcome for outcome in outcomes if clause.id in outcome.clauses]
    measured = sorted(
        (
            (outcome.check, item)
            for outcome in touching
            for item in outcome.measurements
            if clause.id in item.clauses
        ),
        key=lambda pair: (pair[1].passed, -pair[1].headroom),
    )
    errors = [f"{outcome.check}: {outcome.error}" for outcome in touching if outcome.error]
    verdict, reading, detail = _decide(clause, touching, measured, errors, differing, observed)
    return ClauseReport(
        id=clause.id,
        section=clause.section,
        title=clause.title,
        verdict=verdict,
        measurements=tuple(measured),
        reading=reading,
        detail=detail,
        reproduce=request.command(clause.id),
        subject=clause.subject,
    )


def _decide(
    clause: Clause,
    touching: Sequence[CheckOutcome],
    measured: Sequence[tuple[str, Measurement]],
    errors: Sequence[str],
    differing: tuple[str, ...],
    observed: Readings,
) -> tuple[Verdict, str, str]:
    if not clause.executable:
        return "not executable", "", clause.reason
    if errors:
        return "raises", "", "; ".join(errors)
    failed = [(check, item) for check, item in measured if not item.passed]
    if failed:
        check, item = failed[0]
        return "deviates", "", f"{check}: {item.quantity} on {item.case}{_note(item)}"
    others = [axis for axis in clause.axes if axis in differing]
    if others and measured:
        taken = ", ".join(f"{axis}={getattr(observed, axis)}" for axis in others)
        return "conforms to reading", taken, f"takes {taken}"
    if not measured:
        reasons = {outcome.not_observable for outcome in touching if outcome.not_observable}
        return "not observable", "", "; ".join(sorted(reasons)) or "no check ran under the readings"
    if all(item.by_definition for _, item in measured):
        return "by definition", "", "only comparisons of the reference with itself"
    return "conforms", "", ""


def _note(item: Measurement) -> str:
    return f" ({item.note})" if item.note else ""
