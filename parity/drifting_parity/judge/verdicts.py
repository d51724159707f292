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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata

from drifting_parity.adapters.base import Adapter, NotObservable, fixed
from drifting_parity.adapters.capabilities import learn
from drifting_parity.cases import Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.loss.taken import RaisedError
from drifting_parity.checks.stages import stage_of
from drifting_parity.judge import axes
from drifting_parity.judge.clauses import decide, resolved, speaking_for
from drifting_parity.measure import Figure, Measurement
from drifting_parity.report.data import CheckOutcome, ClauseReport, Report
from drifting_parity.witnesses import measure
from drifting_spec import Readings
from drifting_spec.registry import Clause, load

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
    if check.about_mask:
        context = replace(context, about_mask=True)
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
        if isinstance(problem, RaisedError):
            error = str(problem)
    measurements = [_staged(item, check) for item in measurements]
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


def _staged(item: Measurement, check: Check) -> Measurement:
    """The measurement with its stage: its own, the check's, or its first clause's."""
    stage = item.stage or check.stage or stage_of((*item.touched, *check.clauses)[0])
    return replace(item, stage=stage, reads_drift=item.reads_drift or check.reads_drift)


def prepared(context: Context) -> Context:
    """The context with what its adapter takes, and in the arithmetic that it computes in."""
    capabilities = learn(context.adapter, context.readings, context.setting)
    context = replace(context, capabilities=capabilities)
    if capabilities.single_precision and context.setting.dtype == "float64":
        return context.at(dtype="float32")
    return context


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
    context = prepared(context)
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
    outcomes = resolved(outcomes)
    effects = measure() if request.clause_glob == "*" else ()
    report_progress("done", len(chosen) + 1, len(chosen) + 1)
    differing = request.readings.differing(observed)
    clauses = _verdicts(wanted.values(), outcomes, differing, observed, request)
    return Report(
        implementation=request.target,
        readings=str(request.readings),
        observed_readings=str(observed),
        environment=environment(request, context),
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


def environment(request: Request, context: Context) -> dict[str, str]:
    """Versions, device, dtype and seed: what someone needs to see the same numbers."""
    versions = {name: _version(name) for name in ("numpy", "scipy", "torch")}
    capabilities, note = context.capabilities, {}
    if capabilities.single_precision and request.setting.dtype == "float64":
        note = {"arithmetic": f"float32 inside, and held to that: {capabilities.reason}"}
    return {
        "python": platform.python_version(),
        **versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": request.setting.device,
        "dtype": request.setting.dtype,
        "seed": str(request.seed),
        "quick": str(request.quick).lower(),
        **note,
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
    return [_verdict(clause, outcomes, differing, observed, request) for clause in clauses]


def _verdict(
    clause: Clause,
    outcomes: Sequence[CheckOutcome],
    differing: tuple[str, ...],
    observed: Readings,
    request: Request,
) -> ClauseReport:
    touching = [
        outcome
        for outcome in outcomes
        if clause.id in outcome.clauses
        or any(clause.id in item.touched for item in outcome.measurements)
    ]
    measured = speaking_for(clause.id, touching)
    verdict, reading, detail = decide(clause, touching, measured, differing, observed)
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
