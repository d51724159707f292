"""Judging: running checks on an adapter, finding the readings it takes, giving verdicts.

An implementation is first compared with the readings asked for. Where it takes others, it is
judged again under those: the clauses that raise the differing axes *conform to another reading*,
all other clauses keep a verdict of their own, so that the report names where the difference is.
"""

from __future__ import annotations

import fnmatch
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import metadata

import numpy as np

from drifting_parity.adapters.base import Adapter, ImplementationError, NotObservable, fixed
from drifting_parity.adapters.capabilities import learn
from drifting_parity.adapters.conduct import Conduct, together
from drifting_parity.cases import Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.loss.taken import RaisedError
from drifting_parity.checks.stages import stage_of
from drifting_parity.explanation.data import Explanation
from drifting_parity.judging import axes
from drifting_parity.judging.clauses import decide, resolved, speaking_for
from drifting_parity.judging.pictures import draw
from drifting_parity.measure import Figure, Measurement
from drifting_parity.plain import described, plain
from drifting_parity.report.data import (
    AxisReport,
    CheckOutcome,
    ClauseReport,
    Report,
)
from drifting_parity.report.pictures import Pictures
from drifting_parity.witnesses import Effect, measure
from drifting_spec import Readings
from drifting_spec.registry import Clause, load

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


@dataclass(frozen=True)
class Request:
    """What to judge: the implementation's name as given, its adapter, and under which readings.

    ``pictures``: whether what a page plots is measured as well.
    """

    target: str
    adapter: Adapter
    readings: Readings
    setting: Setting = field(default_factory=Setting)
    seed: int = 0
    quick: bool = False
    clause_glob: str = "*"
    pictures: bool = False

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
    """Run one check; what the implementation raises, or does beside answering, is part of it.

    A check in whose calls the implementation changed its inputs or left the process counts as
    raising, whatever was measured.
    """
    started = time.perf_counter()
    measurements: list[Measurement] = []
    figures: list[Figure] = []
    reason = error = ""
    if check.about_mask:
        context = replace(context, about_mask=True)
    try:
        with _numbers_of(context.adapter):
            for item in check.run(context):
                if isinstance(item, Figure):
                    figures.append(item)
                else:
                    measurements.append(item)
    except NotObservable as answer:
        reason = plain(str(answer))
    except ImplementationError as problem:
        error = plain(str(problem))
    except Exception as problem:
        error = plain(str(problem)) if isinstance(problem, RaisedError) else described(problem)
    measurements = [_staged(item, check) for item in measurements]
    conduct = context.adapter.conduct()
    if not error:
        error = next((str(item) for item in conduct if item.failing), "")
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
        conduct=tuple(conduct),
        seconds=time.perf_counter() - started,
    )


def _numbers_of(adapter: Adapter) -> AbstractContextManager[object]:
    """Let NaN and infinity through: what an implementation answers is the measurements' to judge.

    The reference's own arithmetic keeps NumPy's warnings.
    """
    return nullcontext() if adapter.by_definition else np.errstate(all="ignore")


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
    chosen = [check for check in CHECKS if set(check.clauses) & set(wanted)]
    run = _Run(request.target, context, chosen, progress or _silent)
    effects: tuple[Effect, ...] = ()
    pictures: Pictures | None = None
    try:
        run.everything()
        if request.pictures:
            run.tell("measuring what is plotted", len(chosen))
            pictures = run.drawn()
        if request.clause_glob == "*":
            run.tell("measuring the effects of deltas", len(chosen))
            effects = measure()
        run.tell("done", len(chosen) + 1)
    except KeyboardInterrupt:
        interrupted = f"after {run.position} of {len(chosen)} checks"
    else:
        interrupted = ""
    conduct = together([*run.conduct, *request.adapter.close()])
    observed, outcomes = run.observed, resolved(run.outcomes)
    differing = request.readings.differing(observed)
    clauses = _verdicts(wanted.values(), outcomes, differing, observed, request)
    if interrupted:
        clauses = _as_far_as_judged(clauses, chosen[run.position :])
    return Report(
        implementation=request.target,
        readings=str(request.readings),
        observed_readings=str(observed),
        environment=environment(request, run.context),
        paper={
            "title": spec.paper.title,
            "authors": spec.paper.authors,
            "arxiv": spec.paper.arxiv,
            "scan_sha256": spec.paper.scan_sha256,
        },
        tool={"name": "drifting-parity", "version": version_of("drifting-parity")},
        clauses=tuple(clauses),
        axes=tuple(run.axes),
        outcomes=tuple(outcomes),
        sections=spec.sections,
        seconds=time.perf_counter() - started,
        effects=effects,
        explanation=run.explanation,
        conduct=conduct,
        interrupted=interrupted,
        pictures=pictures,
    )


@dataclass
class _Run:
    """The part of judging that takes time; what it holds stays true if it is interrupted."""

    name: str
    context: Context
    chosen: Sequence[Check]
    progress: Progress
    position: int = 0
    explanation: Explanation | None = None
    axes: list[AxisReport] = field(default_factory=list[AxisReport])
    outcomes: list[CheckOutcome] = field(default_factory=list[CheckOutcome])
    conduct: list[Conduct] = field(default_factory=list[Conduct])

    def __post_init__(self) -> None:
        self.observed = self.context.readings

    def tell(self, what: str, done: int) -> None:
        """Show what is being done."""
        self.progress(what, done, len(self.chosen) + 1)

    def everything(self) -> None:
        """Explain what it computes, then run every check."""
        self.tell("finding out what it computes", 0)
        adapter = self.context.adapter
        with _numbers_of(adapter):
            self.context = prepared(self.context)
            self.explanation = axes.observe(self.context, self.name)
        self.observed = self.explanation.taken
        self.axes = axes.axis_reports(self.explanation)
        self.conduct += adapter.conduct()
        if self.observed != self.context.readings:
            # It did not take what it was asked for, so it cannot be held to yet other readings.
            adapter = fixed(adapter)
        judged = replace(self.context, adapter=adapter, readings=self.observed)
        for check in self.chosen:
            self.tell(check.title, self.position + 1)
            if check.applies(judged.readings):
                self.outcomes.append(run_check(check, judged))
                self.conduct += self.outcomes[-1].conduct
            self.position += 1

    def drawn(self) -> Pictures:
        """What a page plots; what the implementation does meanwhile counts for nothing."""
        context = self.context
        pictures = draw(context.adapter, context.readings, context.setting, context.capabilities)
        context.adapter.conduct()
        return pictures


def _as_far_as_judged(
    clauses: Sequence[ClauseReport], missing: Sequence[Check]
) -> list[ClauseReport]:
    """What was measured before an interrupt can break a clause, and conform none."""
    names = {name for check in missing for name in check.clauses}
    detail = "interrupted before all of its checks ran"
    return [
        replace(item, verdict="not observable", reading="", detail=detail)
        if item.id in names and item.verdict not in {"deviates", "raises", "not executable"}
        else item
        for item in clauses
    ]


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


def environment(request: Request, context: Context) -> dict[str, str]:
    """Versions, device, dtype and seed: what someone needs to see the same numbers."""
    versions = {name: version_of(name) for name in ("numpy", "scipy", "torch")}
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


def version_of(name: str) -> str:
    """The installed version of a distribution; what runs from its source tree has none."""
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
