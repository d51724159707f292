"""The confusion table: what the explanation says of code whose readings and deviations are known.

``python -m drifting_parity.explanation.confusion`` runs it whole; the tests run a part of it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import torch

from drifting_parity.adapters.base import Adapter
from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.cases import Setting
from drifting_parity.explanation.answers import TIGHT, whole_error
from drifting_parity.explanation.data import Explanation
from drifting_parity.explanation.fingerprint import fingerprint
from drifting_parity.explanation.hypothesis import LOSS_AXES, Hypothesis, Use
from drifting_parity.explanation.model import Model
from drifting_parity.explanation.other_losses import ALL as OTHER_LOSSES
from drifting_parity.explanation.other_losses import OtherLoss
from drifting_parity.explanation.probes import field_probes, loss_probes
from drifting_parity.suspects import ALL, Suspect, SuspectAdapter, conflict
from drifting_spec import AXES, PAPER, RELEASE, SEED, Readings, ReadingsError, Traits
from drifting_spec.readings import MOOT

Outcome = Literal["named", "partly", "unexplained", "FALSE"]
OUTCOMES: Final = get_args(Outcome)

REPLACED_MASKS: Final = ("D05", "D07", "D08", "D09")
"""Deviations with a mask of their own: whatever the readings say of it is not computed."""

RICH = Traits(labels=2, vectors=2, channels=4, temperatures=3, weighted=True)
"""A case on which every axis of the loss shows that can show."""


class Held(DriftingTorchAdapter):
    """The implementation that takes one set of readings, whatever it is asked for."""

    configurable = False

    def __init__(self, readings: Readings) -> None:
        self.name = str(readings)
        self.held = readings

    def field(self, case: Any, readings: Readings, setting: Setting) -> Any:
        """V under the readings held."""
        return super().field(case, self.held, setting)

    def loss(self, case: Any, readings: Readings, setting: Setting) -> Any:
        """The loss under the readings held."""
        return super().loss(case, self.held, setting)

    def feature_loss(self, case: Any, readings: Readings, setting: Setting) -> Any:
        """The feature-space loss under the readings held."""
        return super().feature_loss(case, self.held, setting)


@dataclass(frozen=True)
class Truth:
    """What a subject of the table is made of."""

    readings: Readings = PAPER
    suspects: tuple[Suspect, ...] = ()

    @property
    def name(self) -> str:
        """Its readings and suspects, in words."""
        return " + ".join([str(self.readings), *(item.key for item in self.suspects)])

    def adapter(self) -> Adapter:
        """The subject itself; readings alone are those of the implementation, not the textbook."""
        if self.suspects:
            return SuspectAdapter(*self.suspects, readings=self.readings)
        return Held(self.readings)


@dataclass(frozen=True)
class Row:
    """One subject of the table: what was true, what was said, how long it took."""

    truth: str
    outcome: Outcome
    said: str
    seconds: float


Subject = Truth | OtherLoss


def outcome_of(truth: Subject, explanation: Explanation) -> tuple[Outcome, str]:
    """Whether all that was said is true, and whether it is everything.

    Of a loss that is no drifting loss nothing is true, and nothing is everything.
    """
    if isinstance(truth, OtherLoss):
        said = [item.key for item in explanation.deviations]
        said += [f"{item.axis}={item.reading}" for item in explanation.readings if item.seen]
        said += ["explained"] if explanation.explained else []
        return ("FALSE", ", ".join(said)) if said else ("named", "")
    false = [*_false_readings(truth, explanation), *_false_deviations(truth, explanation)]
    if false:
        return "FALSE", "; ".join(false)
    if not explanation.explained:
        return "unexplained", str(explanation.unexplained)
    missing = _missing(truth, explanation)
    return ("partly", "unnamed: " + ", ".join(missing)) if missing else ("named", "")


def _names(truth: Truth) -> set[str]:
    replaced = {item.reading[0] for item in truth.suspects if item.reading}
    changed = {
        f"{axis}={getattr(truth.readings, axis)}"
        for axis in PAPER.differing(truth.readings)
        if axis not in replaced
    }
    as_readings = {"=".join(item.reading) for item in truth.suspects if item.reading}
    return {item.key for item in truth.suspects} | changed | as_readings


def _moot(truth: Truth) -> set[str]:
    readings = truth.readings
    for item in truth.suspects:
        if item.reading is not None:
            readings = readings.with_reading(*item.reading)
    moot = {axis for axis, reading in readings.canonical(RICH) if reading == MOOT}
    if any(item.id in REPLACED_MASKS for item in truth.suspects):
        moot.add("self_mask")
    return moot


def _false_readings(truth: Truth, explanation: Explanation) -> Iterator[str]:
    names = _names(truth)
    for item in explanation.readings:
        if item.axis not in LOSS_AXES or item.axis in _moot(truth) or not item.seen:
            continue
        true = getattr(truth.readings, item.axis)
        said = {item.reading, *item.alike}
        pairs = (set(name.split(" with ")) for name in item.alike if " with " in name)
        if any(pair <= names for pair in pairs):
            continue
        if true in said or f"{item.axis}={item.reading}" in names or names & said:
            continue
        yield f"{item.axis}={item.reading}"


def _false_deviations(truth: Truth, explanation: Explanation) -> Iterator[str]:
    names = _names(truth)
    for item in explanation.deviations:
        said = {item.key, *item.alike}
        pairs = (set(name.split(" with ")) for name in item.alike if " with " in name)
        if not said & names and not any(pair <= names for pair in pairs):
            yield f"{item.key} {dict(item.parameters)} alike {item.alike}"


def _missing(truth: Truth, explanation: Explanation) -> list[str]:
    said = {name for item in explanation.deviations for name in (item.key, *item.alike)}
    for item in explanation.readings:
        said |= {f"{item.axis}={item.reading}", *item.alike}
        said |= {f"{item.axis}={reading}" for reading in item.alike}
    said |= {part for name in said if " with " in name for part in name.split(" with ")}
    said |= {f"{axis}={getattr(truth.readings, axis)}" for axis in _moot(truth)}
    return [
        name
        for name in sorted(_names(truth) - said)
        if not any(item.key == name and item.reading for item in truth.suspects)
        and not _idle(truth, name)
    ]


def _idle(truth: Truth, name: str) -> bool:
    """Whether the truth without one of its names answers every probe as it does with it."""
    axis, _, reading = name.partition("=")
    whole, model = _hypothesis(truth), Model()
    without = whole.with_reading(axis, getattr(PAPER, axis)) if reading else whole.without(name)
    if without is None:
        return False
    return all(
        whole_error(model.answer(without, probe), model.answer(whole, probe)) <= TIGHT["float64"]
        for probe in (*loss_probes(), *field_probes())
    )


def _hypothesis(truth: Truth) -> Hypothesis:
    uses = (Use(item.key, tuple(sorted(item.parameters.items()))) for item in truth.suspects)
    return Hypothesis(truth.readings, tuple(sorted(uses)))


def single_readings() -> list[Readings]:
    """Every reading of the loss alone."""
    return [
        PAPER.with_reading(axis, reading)
        for axis in LOSS_AXES
        for reading in AXES[axis]
        if reading != getattr(PAPER, axis)
    ]


def combined_readings(count: int) -> list[Readings]:
    """Every allowed set of ``count`` changes of the paper's readings."""
    allowed: list[Readings] = []
    for axes in itertools.combinations(LOSS_AXES, count):
        others = [[r for r in AXES[axis] if r != getattr(PAPER, axis)] for axis in axes]
        for choice in itertools.product(*others):
            changes = dict(zip(axes, choice, strict=True))
            try:
                allowed.append(replace(PAPER, **changes))  # pyright: ignore[reportArgumentType]
            except ReadingsError:
                continue
    return allowed


def single_suspects(readings: Readings = PAPER) -> list[Truth]:
    """Every suspect of field and loss that computes something, alone."""
    return [
        Truth(readings, (item,))
        for item in ALL.values()
        if not item.raises and not {"second call", "features"} & set(item.needs)
    ]


def suspect_pairs(source: random.Random, count: int) -> list[Truth]:
    """Random pairs of suspects, or of a reading and a suspect."""
    singles = [item.suspects[0] for item in single_suspects()]
    pairs: list[Truth] = []
    while len(pairs) < count:
        one = source.choice(singles)
        if source.random() < 0.5:
            pairs.append(Truth(source.choice(single_readings()), (one,)))
            continue
        other = source.choice(singles)
        if one.id != other.id and not conflict(one, other):
            pairs.append(Truth(PAPER, (one, other)))
    return pairs


def combinations(source: random.Random, count: int) -> list[Truth]:
    """Random combinations of three to six changes; sizes of epsilons drawn."""
    singles = [item.suspects[0] for item in single_suspects()]
    drawn: list[Truth] = []
    while len(drawn) < count:
        readings, suspects = PAPER, list[Suspect]()
        for _ in range(source.randint(3, 6)):
            if source.random() < 0.4:
                axis = source.choice(LOSS_AXES)
                readings = readings.with_reading(axis, source.choice(AXES[axis]))
                continue
            new = source.choice(singles)
            if any(new.id == item.id or conflict(new, item) for item in suspects):
                continue
            suspects.append(_sized(new, source))
        drawn.append(Truth(readings, tuple(suspects)))
    return drawn


def _sized(suspect: Suspect, source: random.Random) -> Suspect:
    """Epsilons of a random size, all else as usual."""
    sizes = {
        name: value * 10 ** source.uniform(-1, 1)
        for name, value in suspect.parameters.items()
        if 0 < value < 1e-3
    }
    return suspect.at(**sizes) if sizes else suspect


def row_of(truth: Subject) -> Row:
    """What is said of one subject."""
    torch.set_num_threads(1)
    started = time.process_time()
    try:
        outcome, said = outcome_of(truth, fingerprint(truth.adapter()))
    except Exception as problem:
        outcome, said = "FALSE", f"{type(problem).__name__}: {problem}"
    return Row(truth.name, outcome, said, time.process_time() - started)


def table(
    subjects: Iterable[Subject], progress: Callable[[Row], None] | None = None, jobs: int = 1
) -> list[Row]:
    """What is said of each subject; ``progress`` is called with every row as it is ready.

    With ``jobs`` above 1 the subjects are spread over so many processes; the rows keep their order.
    """
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        mapped = map(row_of, subjects)
        if jobs > 1:
            context = multiprocessing.get_context("spawn")
            mapped = stack.enter_context(context.Pool(jobs)).imap(row_of, subjects)
        for row in mapped:
            rows.append(row)
            if progress is not None:
                progress(row)
    return rows


def printed(title: str, rows: Sequence[Row]) -> str:
    """The counts and every row that is not named."""
    counts = {key: sum(row.outcome == key for row in rows) for key in OUTCOMES}
    seconds = sorted(row.seconds for row in rows) or [0.0]
    lines = [
        f"{title}: {len(rows)} subjects · "
        + " · ".join(f"{count} {key}" for key, count in counts.items())
        + f" · median {seconds[len(seconds) // 2]:.1f} s, longest {seconds[-1]:.1f} s"
    ]
    lines += [
        f"  {row.outcome}  {row.truth}: {row.said} ({row.seconds:.1f} s)"
        for row in rows
        if row.outcome != "named"
    ]
    return "\n".join(lines)


def _shown(row: Row) -> None:
    print(f"{row.outcome:12}{row.truth} ({row.seconds:.1f} s) {row.said}", file=sys.stderr)


def parts(source: random.Random) -> dict[str, list[Subject]]:
    """The parts of the whole table."""
    return {
        "readings": [Truth(item) for item in single_readings()],
        "reading pairs": [Truth(item) for item in combined_readings(2)],
        "reading triples": [Truth(item) for item in source.sample(combined_readings(3), 200)],
        "suspects": [*single_suspects()],
        "suspects under release": [*single_suspects(RELEASE)],
        "suspects under seed": [*single_suspects(SEED)],
        "pairs": [*suspect_pairs(source, 300)],
        "combinations": [*combinations(source, 200)],
        "other losses": [OtherLoss(item) for item in OTHER_LOSSES],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; status 1 if anything said is false."""
    parser = argparse.ArgumentParser(prog="python -m drifting_parity.explanation.confusion")
    parser.add_argument("--part", default="all", help="one part of the table (default: all)")
    parser.add_argument("--count", type=int, default=0, help="subjects drawn of a part (0: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    chosen = parser.parse_args(arguments)
    source = random.Random(chosen.seed)
    false = 0
    for title, subjects in parts(source).items():
        if chosen.part not in (title, "all"):
            continue
        drawn = (
            source.sample(subjects, min(chosen.count, len(subjects))) if chosen.count else subjects
        )
        rows = table(drawn, _shown, chosen.jobs)
        print(printed(title, rows), flush=True)
        false += sum(row.outcome == "FALSE" for row in rows)
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
