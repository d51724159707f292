"""The computation as a row of stages, each with how the implementation stands there.

What the loss passes, from the features to the error; what goes into it (labels, locations,
weights); and what lies outside the loss. A stage holds the clauses that speak of it, the catalogued
deviations and other readings that show there, and what to change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from drifting_parity.checks.stages import stage_of
from drifting_parity.explanation.data import DeviationStatement, Explanation
from drifting_parity.report import wording
from drifting_parity.report.data import FAILING, ClauseReport, Report
from drifting_spec.registry import load

State = Literal["conforms", "reading", "follows", "deviates", "raises", "not observed"]
"""``raises``: of its clauses none was answered. ``not observed``: none of them was, or few.
``follows``: its clauses fail by what stands at another stage, which explains all of it."""

Group = Literal["loss", "samples", "outside"]


@dataclass(frozen=True)
class StagePlan:
    """A stage as it is drawn: what it is called, its formula in TeX, which stages it gathers."""

    key: str
    title: str
    tex: str
    group: Group
    gathers: tuple[str, ...]


PLAN: Final = (
    StagePlan("features", "features", r"\phi_j", "loss", ("vectors", "features")),
    StagePlan("scale", "scale", "S_j", "loss", ("scale",)),
    StagePlan(
        "temperature", "temperature", r"\tilde\tau_j=\tau\sqrt{C_j}", "loss", ("temperature",)
    ),
    StagePlan("field", "field for each τ", r"V_{j,\tau}", "loss", ("field",)),
    StagePlan("drift-scale", "drift scale", r"\lambda_j", "loss", ("drift scale",)),
    StagePlan(
        "sum", "sum over τ", r"\textstyle\sum_\tau \tilde V_{j,\tau}", "loss", ("aggregation",)
    ),
    StagePlan(
        "error",
        "error",
        r"\lVert\tilde\phi_j-\mathrm{sg}(\tilde\phi_j+\tilde V_j)\rVert^2",
        "loss",
        ("reductions", "gradient", "vanilla term"),
    ),
    StagePlan("labels", "labels", "c", "samples", ("labels",)),
    StagePlan("locations", "locations", "j", "samples", ("locations",)),
    StagePlan("weights", "guidance weights", "w", "samples", ("weights",)),
    StagePlan("generator", "generator", r"f_\theta", "outside", ("generator",)),
    StagePlan("encoder", "encoder", r"\phi", "outside", ("encoder",)),
    StagePlan("training", "training step", r"\theta", "outside", ("training", "call")),
)
"""The stages in the order of the computation; formulas are the paper's."""


@dataclass(frozen=True)
class StageReport:
    """How an implementation stands at one stage.

    ``figures`` say what was measured there, the most telling first; ``mends`` what to change;
    ``clauses`` are those of the stage, failing ones first.
    """

    key: str
    title: str
    group: Group
    state: State
    figures: tuple[str, ...] = ()
    mends: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The stage as a report's JSON holds it."""
        return {
            "key": self.key,
            "title": self.title,
            "group": self.group,
            "state": self.state,
            "figures": list(self.figures),
            "mends": list(self.mends),
            "clauses": list(self.clauses),
        }


def stage_reports(report: Report) -> tuple[StageReport, ...]:
    """Every stage in the order of the computation; those of which nothing is known as well."""
    members: dict[str, list[ClauseReport]] = {plan.key: [] for plan in PLAN}
    for clause in report.of_implementation:
        if (key := _place(clause)) and clause.verdict != "not executable":
            members[key].append(clause)
    told, held = report.explanation, report.readings
    return tuple(_stage(plan, members[plan.key], told, held) for plan in PLAN)


_KEYS: Final[Mapping[str, str]] = {name: plan.key for plan in PLAN for name in plan.gathers}


def _place(clause: ClauseReport) -> str:
    """The stage at which a clause shows: where it fails that of the measurement, else its own."""
    if clause.id.startswith("A2-"):
        return "generator"
    worst = clause.worst
    failing = clause.verdict in FAILING and worst is not None and not worst.passed
    own = worst.stage if failing and worst is not None else None
    return _KEYS.get(own or "", "") or _KEYS.get(stage_of(clause.id), "")


def _stage(
    plan: StagePlan, clauses: list[ClauseReport], explanation: Explanation | None, held: str
) -> StageReport:
    figures: list[str] = []
    mends: list[str] = []
    state: State = "not observed"
    counted = Counter(item.verdict for item in clauses)
    wrong = [item for item in clauses if item.verdict in {"deviates", "raises"}]
    other = [item for item in clauses if item.verdict == "conforms to reading"]
    deviations = _deviations(plan, explanation)
    readings = _readings(plan, explanation)
    opened = _open(plan, explanation)
    kept = counted["conforms"] + counted["by definition"]
    if kept and kept >= counted["not observable"]:
        state = "conforms"
    if other or readings:
        state = "reading"
    if wrong or deviations or opened:
        state = "deviates"
    if state == "deviates" and not (kept or other or deviations or opened):
        state = "raises" if counted["raises"] == len(wrong) else state
    causes = _causes(plan, explanation)
    if state == "deviates" and not deviations and causes:
        state = "follows"
        figures.append(f"follows from {', '.join(causes)}")
    for item in deviations:
        figures.append(f"{item.id} {item.title}" + (f": {item.effect}" if item.effect else ""))
        mends += [item.mend] if item.mend else []
    figures += opened
    for axis, reading, asked in readings:
        figures.append(f"takes {axis}={reading} in place of {asked}")
        mends.append(f"Take {asked}, or ask for it: --readings {held},{axis}={reading}")
    for item in wrong:
        if item.worst is not None and not item.worst.passed:
            figures.append(f"{item.id}: {item.worst.quantity} {wording.comparison(item.worst)}")
        else:
            figures.append(f"{item.id}: {item.verdict}")
    if clauses:
        figures.append(_counted(counted, clauses))
    order = {"raises": 0, "deviates": 0, "conforms to reading": 1}
    ids = sorted(clauses, key=lambda item: order.get(item.verdict, 2))
    return StageReport(
        plan.key,
        plan.title,
        plan.group,
        state,
        tuple(figures),
        tuple(dict.fromkeys(mends)),
        tuple(item.id for item in ids),
    )


def _counted(counted: Counter[Any], clauses: list[ClauseReport]) -> str:
    """How many of the stage's clauses hold, and how near the nearest of them comes to failing."""
    held = counted["conforms"] + counted["by definition"]
    others = counted["conforms to reading"]
    asked = len(clauses) - counted["not observable"]
    if not asked:
        return f"none of its {len(clauses)} clauses observed" if len(clauses) > 1 else (
            "its clause was not observed"
        )  # fmt: skip
    if asked > 1:
        text = f"{held} of {asked} clauses conform"
    else:
        text = "its clause " + ("conforms" if held or others else "does not conform")
    if others:
        text += f", {others} to another reading" if asked > 1 else " to another reading"
    if unseen := counted["not observable"]:
        text += f", {unseen} not observed"
    rooms = [
        item.worst.headroom
        for item in clauses
        if item.worst is not None and item.verdict in {"conforms", "by definition"}
    ]
    if rooms and held == asked:
        text += f"; at most {wording.number(max(rooms))} of what is allowed"
    return text


def _deviations(plan: StagePlan, explanation: Explanation | None) -> list[DeviationStatement]:
    if explanation is None:
        return []
    known = load().deviations
    return [
        item
        for item in explanation.deviations
        if _KEYS.get(known[item.id].stage if item.id in known else item.stage) == plan.key
    ]


def _causes(plan: StagePlan, explanation: Explanation | None) -> list[str]:
    """The deviations that explain all that the loss does, wherever they stand."""
    if explanation is None or not explanation.explained or plan.group == "outside":
        return []
    if plan.key == "features":  # of which a loss shows nothing
        return []
    return list(dict.fromkeys(item.id for item in explanation.deviations))


def _open(plan: StagePlan, explanation: Explanation | None) -> list[str]:
    """What nothing explains at this stage, in words; that no call is answered is said elsewhere."""
    if explanation is None:
        return []
    return [
        f"unexplained from here: {wording.off(item.size)} on {item.probe}"
        for item in explanation.unexplained
        if _KEYS.get(item.stage) == plan.key and item.stage != "call"
    ]


def _readings(plan: StagePlan, explanation: Explanation | None) -> list[tuple[str, str, str]]:
    """Readings other than those asked for that show at this stage: axis, taken, asked."""
    if explanation is None:
        return []
    return [
        (item.axis, item.reading, asked)
        for item in explanation.readings
        if item.seen
        and item.reading != (asked := getattr(explanation.asked, item.axis))
        and _of_axis(item.axis) == plan.key
    ]


_PLACES: Final[Mapping[str, str]] = {
    "location_sharing": "locations",
    "statistics_scope": "labels",
}
"""Axes of what goes into S and λ, whose clauses speak of these first."""


def _of_axis(axis: str) -> str:
    """The stage at which an axis shows: that of the first clause that raises it."""
    if axis in _PLACES:
        return _PLACES[axis]
    spoken = (stage_of(item.id) for item in load().clauses.values() if axis in item.axes)
    return next((_KEYS[stage] for stage in spoken if stage in _KEYS), "")
