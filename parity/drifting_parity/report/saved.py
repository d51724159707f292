"""Saved reports: what a comparison takes from a report's JSON, whoever wrote the file.

Only what is used is read, and all of it is checked; text is made safe to show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast, get_args

from drifting_parity.explanation.wording import several
from drifting_parity.plain import plain
from drifting_parity.report.as_json import SCHEMA_VERSION
from drifting_parity.report.data import Verdict
from drifting_parity.report.screen import Outcome
from drifting_parity.report.stages import Group, StageReport, State


class SavedError(ValueError):
    """A file holds no report that can be read; the message is one line."""


@dataclass(frozen=True)
class Change:
    """A deviation or a reading that an implementation has: its id, what it does, what to change."""

    id: str
    title: str
    effect: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Standing:
    """How an implementation stands to one clause; ``observed`` and ``allowed`` of the worst."""

    id: str
    section: str
    title: str
    verdict: Verdict
    observed: float = math.nan
    allowed: float = math.nan


@dataclass(frozen=True)
class Entry:
    """One implementation of a comparison, as its report has it.

    ``source`` is the file that it was read from, empty where it was judged just now; ``held`` the
    readings it is held to; ``phrase`` the outcome as the end of a sentence. ``measured``,
    ``unexplained`` and ``misconduct`` (what it did that breaks parity) are in words; ``reach`` is
    the worst relative error of the explanation on ``cases`` fresh cases, NaN where nothing was
    explained. ``clauses`` are those that an implementation carries out.
    """

    name: str
    source: str
    held: str
    outcome: Outcome
    phrase: str
    exit_status: int
    deviations: tuple[Change, ...]
    readings: tuple[Change, ...]
    measured: tuple[str, ...]
    unexplained: tuple[str, ...]
    misconduct: tuple[str, ...]
    reach: float
    cases: int
    stages: tuple[StageReport, ...]
    clauses: Mapping[str, Standing]
    run: Mapping[str, str]
    interrupted: str = ""


def saved(text: str, source: str) -> Entry:
    """The entry of a saved report's text; :class:`SavedError` says in one line what is wrong."""
    try:
        document: object = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        said = plain(str(problem), 100)
        raise SavedError(f"it is no JSON ({said}), expected a report's") from problem
    return entry(document, source)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def entry(document: object, source: str = "") -> Entry:
    """The entry of a report's JSON; :class:`SavedError` names what is not as expected."""
    top = _Part(document, "")
    if "explained" in top.values and "clauses" not in top.values:
        raise SavedError(
            "it is a fingerprint, expected a report: drifting-parity report --format json"
        )
    if top.value("schema", "a number") != SCHEMA_VERSION:
        found = plain(repr(top.values["schema"]), 40)
        raise SavedError(f"schema is {found}, expected {SCHEMA_VERSION}")
    implementation, outcome = top.part("implementation"), top.part("outcome")
    told = top.values.get("explanation")
    explanation = None if told is None else top.part("explanation")
    confirmation = None if explanation is None else explanation.part("confirmation")
    cases = 0 if confirmation is None else confirmation.whole("cases")
    explained = explanation is not None and explanation.values.get("explained") is True
    reach = math.nan
    if confirmation is not None and explained and cases:
        reach = max(confirmation.number("worst_value"), confirmation.number("worst_gradient"))

    def told_of(name: str) -> list[_Part]:
        return [] if explanation is None else explanation.parts(name)

    run = {**top.texts("environment"), **top.texts("tool")}
    run["seconds"] = f"{top.number('seconds'):.1f}"
    clauses = [_standing(item) for item in top.parts("clauses") if _carried_out(item)]
    return Entry(
        name=implementation.text("name"),
        source=plain(source),
        held=implementation.text("readings_expected"),
        outcome=cast("Outcome", outcome.one_of("kind", get_args(Outcome))),
        phrase=outcome.text("text"),
        exit_status=outcome.whole("exit_status"),
        deviations=tuple(map(_deviation, told_of("deviations"))),
        readings=tuple(_readings(top, told_of("readings"))),
        measured=tuple(map(_dial, told_of("dials"))),
        unexplained=tuple(map(_open, told_of("unexplained"))),
        misconduct=tuple(_misconduct(top.parts("conduct"))),
        reach=reach,
        cases=cases,
        stages=tuple(map(_stage, top.parts("stages"))),
        clauses={item.id: item for item in clauses},
        run=run,
        interrupted=top.text("interrupted") if top.values.get("interrupted") else "",
    )


def _carried_out(clause: _Part) -> bool:
    return clause.one_of("subject", ("implementation", "paper")) == "implementation"


def _standing(clause: _Part) -> Standing:
    def number(name: str) -> float:
        return math.nan if clause.values.get(name) is None else clause.number(name)

    return Standing(
        id=clause.text("id"),
        section=clause.text("section"),
        title=clause.text("title"),
        verdict=cast("Verdict", clause.one_of("verdict", get_args(Verdict))),
        observed=number("observed"),
        allowed=number("allowed"),
    )


def _deviation(item: _Part) -> Change:
    sizes = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in item.texts("parameters").items()
    )
    title = item.text("title") + (f": {sizes}" if sizes else "")
    alike = several(item.list_of_texts("alike"))
    effect = " · ".join(
        filter(None, (item.text("effect"), f"not told apart from {alike}" if alike else ""))
    )
    return Change(item.text("id"), title, effect, item.text("mend"))


def _readings(top: _Part, told_of: list[_Part]) -> Iterator[Change]:
    """The readings that were seen to be others than those asked for."""
    effects = {item.text("axis"): item for item in told_of}
    for axis in top.parts("axes"):
        name, taken, asked = (axis.text(key) for key in ("id", "reading", "expected"))
        if taken in {asked, "not observable"}:
            continue
        told = effects.get(name)
        effect = "" if told is None else told.text("effect")
        alike = "" if told is None else several(told.list_of_texts("alike"))
        effect = " · ".join(filter(None, (effect, alike and f"not told apart from {alike}")))
        yield Change(name, f"{taken} in place of {asked}", effect)


def _misconduct(conduct: list[_Part]) -> Iterator[str]:
    for item in conduct:
        if item.value("breaks_parity", "true or false") is True:
            where = item.text("where")
            yield item.text("what") + (f" in {where}" if where else "")


def _dial(item: _Part) -> str:
    law = item.text("law")
    return f"{item.text('name')}: {item.number('value'):.6g}" + (f", {law}" if law else "")


def _open(item: _Part) -> str:
    size = item.number("size")
    far = f"{size:.1e} off" if size < math.inf else "not a number or of another shape"
    return f"{item.text('stage')}: {far} on {item.text('probe')}"


def _stage(item: _Part) -> StageReport:
    return StageReport(
        key=item.text("key"),
        title=item.text("title"),
        group=cast("Group", item.one_of("group", get_args(Group))),
        state=cast("State", item.one_of("state", get_args(State))),
        figures=tuple(item.list_of_texts("figures")),
        mends=tuple(item.list_of_texts("mends")),
        clauses=tuple(item.list_of_texts("clauses")),
    )


class _Part:
    """An object of the document, and where in it that stands."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise SavedError(f"{where or 'it'} is {_shown(value)}, expected an object")
        self.values = cast("dict[str, Any]", value)
        self.where = where

    def _place(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def value(self, name: str, expected: str) -> Any:
        if name not in self.values:
            raise SavedError(f"{self._place(name)} is missing, expected {expected}")
        return self.values[name]

    def _wrong(self, name: str, expected: str) -> NoReturn:
        shown = _shown(self.values[name])
        raise SavedError(f"{self._place(name)} is {shown}, expected {expected}")

    def text(self, name: str) -> str:
        value = self.value(name, "a string")
        if not isinstance(value, str):
            self._wrong(name, "a string")
        return plain(value)

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        value = self.value(name, f"one of {', '.join(known)}")
        if value not in known:
            self._wrong(name, f"one of {', '.join(known)}")
        return value

    def number(self, name: str) -> float:
        value = self.value(name, "a number")
        if isinstance(value, str) and value in {"inf", "-inf", "nan"}:
            return float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(name, "a number")
        try:
            return float(value)
        except OverflowError:
            self._wrong(name, "a number")

    def whole(self, name: str) -> int:
        value = self.value(name, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            self._wrong(name, "a whole number")
        return value

    def part(self, name: str) -> _Part:
        return _Part(self.value(name, "an object"), self._place(name))

    def _list(self, name: str) -> list[object]:
        value = self.value(name, "a list")
        if not isinstance(value, list):
            self._wrong(name, "a list")
        return cast("list[object]", value)

    def parts(self, name: str) -> list[_Part]:
        place = self._place(name)
        return [_Part(item, f"{place}[{at}]") for at, item in enumerate(self._list(name))]

    def list_of_texts(self, name: str) -> list[str]:
        items = self._list(name)
        if not all(isinstance(item, str) for item in items):
            self._wrong(name, "a list of strings")
        return [plain(str(item)) for item in items]

    def texts(self, name: str) -> dict[str, str]:
        """An object's values as text: numbers in few digits."""
        given = self.part(name).values
        return {
            plain(key): f"{value:.4g}" if isinstance(value, float) else plain(str(value))
            for key, value in given.items()
        }


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return plain(json.dumps(value, ensure_ascii=False), 40)
