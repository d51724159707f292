"""The harness's proof of itself: every check of a loss or a field against every suspect.

A check kills a suspect if it turns red on it. Every suspect must be caught, for a clause that it
breaks, and every check must kill something: a check that nothing can fail proves nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

import torch

from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.cases import (
    Array,
    FeatureCase,
    FeatureObservation,
    FieldCase,
    LossCase,
    LossObservation,
    Setting,
)
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Check, Context, Property
from drifting_parity.draw import Draw, Rejected
from drifting_parity.judging.verdicts import run_check
from drifting_parity.suspects import ALL
from drifting_parity.suspects.adapter import SuspectAdapter
from drifting_parity.suspects.registry import Suspect
from drifting_spec import PAPER, Readings
from drifting_spec.registry import load

TEXTBOOK: Final = "textbook"
"""The key of the textbook without suspects, which no check may kill."""

Observation = TypeVar("Observation", Array, LossObservation, FeatureObservation)


@dataclass(frozen=True)
class Kill:
    """A check that is red on a suspect, and the clauses that it says are broken."""

    check: str
    clauses: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What the checks say of one suspect.

    ``breaks``: the clauses that the suspect breaks; ``right``: those of them that some check
    found broken.
    """

    suspect: str
    title: str
    stage: str
    breaks: tuple[str, ...]
    kills: tuple[Kill, ...]

    @property
    def caught(self) -> bool:
        """Whether any check is red on it."""
        return bool(self.kills)

    @property
    def right(self) -> tuple[str, ...]:
        """The clauses that it breaks and that are found broken."""
        said = {clause for kill in self.kills for clause in kill.clauses}
        return tuple(clause for clause in self.breaks if clause in said)


@dataclass(frozen=True)
class Table:
    """All rows, and the checks that were put to the suspects."""

    rows: tuple[Row, ...]
    checks: tuple[str, ...]
    false_alarms: tuple[Kill, ...]
    """Checks that are red on the textbook itself."""

    @property
    def idle_checks(self) -> tuple[str, ...]:
        """Checks that kill no suspect."""
        killers = {kill.check for row in self.rows for kill in row.kills}
        return tuple(check for check in self.checks if check not in killers)

    @property
    def uncaught(self) -> tuple[str, ...]:
        """Suspects on which no check is red."""
        return tuple(row.suspect for row in self.rows if not row.caught)

    @property
    def wrongly_caught(self) -> tuple[str, ...]:
        """Suspects that are caught, but for none of the clauses that they break."""
        return tuple(row.suspect for row in self.rows if row.caught and not row.right)


class _Remembered(ReferenceAdapter):
    """The reference with a memory: every suspect meets the same cases."""

    def __init__(self, memory: dict[bytes, object]) -> None:
        self._memory = memory

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        call = partial(super().field, case, readings, setting)
        return recalled(self._memory, ("field", case, readings, setting), call)

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        call = partial(super().loss, case, readings, setting)
        return recalled(self._memory, ("loss", case, readings, setting), call)

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        call = partial(super().feature_loss, case, readings, setting)
        return recalled(self._memory, ("features", case, readings, setting), call)


class _OnTrial(SuspectAdapter):
    """A suspect that answers as the textbook did, remembered, where it cannot show."""

    def __init__(self, suspect: Suspect | None, memory: dict[bytes, object]) -> None:
        super().__init__(*([] if suspect is None else [suspect]))
        self._memory = memory
        self._plain = SuspectAdapter()
        self.asked: list[tuple[LossCase | FieldCase | FeatureCase, Readings]] = []

    def _shows(self, case: LossCase | FieldCase, readings: Readings) -> bool:
        self.asked.append((case, readings))
        return any(shows(item, case, readings) for item in self.suspects)

    def field(self, case: FieldCase, readings: Readings, setting: Setting) -> Array:
        if self._shows(case, readings):
            return super().field(case, readings, setting)
        call = partial(self._plain.field, case, readings, setting)
        return recalled(self._memory, ("plain field", case, readings, setting), call)

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        if self._shows(case, readings):
            return super().loss(case, readings, setting)
        call = partial(self._plain.loss, case, readings, setting)
        return recalled(self._memory, ("plain loss", case, readings, setting), call)

    def feature_loss(
        self, case: FeatureCase, readings: Readings, setting: Setting
    ) -> FeatureObservation:
        self.asked.append((case, readings))
        return super().feature_loss(case, readings, setting)


def shows(suspect: Suspect, case: LossCase | FieldCase | FeatureCase, readings: Readings) -> bool:
    """Whether a suspect may answer otherwise than the textbook."""
    if isinstance(case, FeatureCase) or "second call" in suspect.needs:
        return True  # what it remembers between calls does not depend on one case
    return suspect.can_show(case, readings)


class _SameDraws:
    """A property's draws, made once for all suspects: they are the same, and slow to find."""

    def __init__(self, draw: Callable[[Draw], object]) -> None:
        self._draw = draw
        self._drawn: list[object] = []
        self._first: Draw | None = None
        self._current: Draw | None = None
        self._position = 0

    def __call__(self, source: Draw) -> object:
        """The next inputs of this run; :class:`Rejected` where they were rejected."""
        if source is not self._current:
            self._current, self._position = source, 0
            self._first = self._first or source
        if self._position == len(self._drawn):
            try:
                # The first run's source is the one that has given all inputs so far.
                self._drawn.append(self._draw(self._first or source))
            except Rejected as rejected:
                self._drawn.append(rejected)
        inputs = self._drawn[self._position]
        self._position += 1
        if isinstance(inputs, Rejected):
            raise inputs
        return inputs


def _with_same_draws(check: Check) -> Check:
    """The check, its draws kept from run to run if it is a property."""
    drawn_by = getattr(check.run, "__self__", None)
    if not isinstance(drawn_by, Property):
        return check
    return replace(drawn_by, draw=_SameDraws(drawn_by.draw)).check()


def recalled(
    memory: dict[bytes, object], asked: tuple[object, ...], answer: Callable[[], Observation]
) -> Observation:
    """What was answered to the same question before, else the answer now; a copy of its own."""
    key = pickle.dumps(asked)
    if key not in memory:
        memory[key] = pickle.dumps(answer())
    return pickle.loads(memory[key])  # pyright: ignore[reportArgumentType] -- bytes, put in above


def judged(check: Check) -> bool:
    """Whether a check judges what an implementation computes, under the paper's readings.

    The checks ``taken.…`` ask for an answer in place of an exception: code that raises is no
    suspect, and what they are red on is tested beside what is learnt of an implementation.
    """
    if check.id.startswith("taken."):
        return False
    clauses = load().clauses
    about_the_paper = all(clauses[name].subject == "paper" for name in check.clauses)
    return check.applies(PAPER) and not about_the_paper


def kills_of(
    identifier: str, suspects: Sequence[str], seed: int = 0
) -> Mapping[str, tuple[str, ...]] | None:
    """The suspects that a check kills, with the clauses it calls broken; None: nothing to observe.

    The textbook itself is among the keys if the check is red on it.
    """
    check = _with_same_draws(next(item for item in CHECKS if item.id == identifier))
    memory: dict[bytes, object] = {}
    oracle = _Remembered(memory)
    kills: dict[str, tuple[str, ...]] = {}
    textbook = _OnTrial(None, memory)
    for key in (TEXTBOOK, *suspects):
        adapter = textbook if key == TEXTBOOK else _OnTrial(ALL[key], memory)
        if key != TEXTBOOK and not any(shows(ALL[key], *asked) for asked in textbook.asked):
            continue  # it answers as the textbook does
        context = Context(adapter, PAPER, Setting(), load(), seed, quick=True, oracle=oracle)
        outcome = run_check(check, context)
        if key == TEXTBOOK and not outcome.measurements and not outcome.error:
            return None
        if outcome.error:
            kills[key] = check.clauses
            continue
        failed = [item for item in outcome.measurements if not item.passed]
        if failed:
            kills[key] = tuple(dict.fromkeys(name for item in failed for name in item.clauses))
    return kills


def _one_thread() -> None:
    torch.set_num_threads(1)


def selftest(
    suspects: Iterable[Suspect] | None = None,
    *,
    checks: Iterable[str] | None = None,
    seed: int = 0,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Run every check of a loss or a field on every suspect, on quick cases drawn by ``seed``.

    ``suspects`` (all) and ``checks`` (their ids, all) narrow the table; ``processes`` is how many
    work at it (as many as there are cores; 1: this one alone); ``progress`` hears how many checks
    are done and how many there are. Raises ``ValueError`` for a check that there is not.
    """
    chosen = list(ALL.values() if suspects is None else suspects)
    known = [check.id for check in CHECKS if judged(check)]
    wanted = known if checks is None else list(checks)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"checks has {unknown}, expected ids of checks of an implementation")
    work = partial(kills_of, suspects=[item.key for item in chosen], seed=seed)
    count = processes or os.cpu_count() or 1
    results: list[Mapping[str, tuple[str, ...]] | None] = []
    if count == 1:
        for identifier in wanted:
            results.append(work(identifier))
            if progress:
                progress(len(results), len(wanted))
    else:
        # Started anew and not forked: PyTorch's threads do not survive a fork.
        start = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=start, initializer=_one_thread) as pool:
            for result in pool.map(work, wanted):
                results.append(result)
                if progress:
                    progress(len(results), len(wanted))
    return _table(chosen, dict(zip(wanted, results, strict=True)))


def _table(
    suspects: Sequence[Suspect], results: Mapping[str, Mapping[str, tuple[str, ...]] | None]
) -> Table:
    observed = {check: kills for check, kills in results.items() if kills is not None}

    def kills_on(key: str) -> tuple[Kill, ...]:
        return tuple(Kill(check, kills[key]) for check, kills in observed.items() if key in kills)

    rows = [
        Row(item.key, item.deviation.title, item.stage, item.clauses, kills_on(item.key))
        for item in suspects
    ]
    return Table(tuple(rows), tuple(observed), kills_on(TEXTBOOK))


def proof(table: Table) -> dict[str, dict[str, object]]:
    """Of a table what proves it: for each check a suspect, for each suspect a check and clause.

    ``checks``: a suspect that the check kills; ``suspects``: a check that is red on it, and the
    clause of its own that this names. What cannot be proved is left out.
    """
    checks: dict[str, object] = {}
    suspects: dict[str, object] = {}
    for row in table.rows:
        for kill in row.kills:
            checks.setdefault(kill.check, row.suspect)
            right = [clause for clause in row.breaks if clause in kill.clauses]
            if right:
                suspects.setdefault(row.suspect, [kill.check, right[0]])
    return {"checks": checks, "suspects": suspects}


if __name__ == "__main__":
    # From the root of a checkout: python -m drifting_parity.suspects.table > tests/selftest.json
    print(json.dumps(proof(selftest()), indent=1))
