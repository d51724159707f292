"""The implementation under question: asked once for each probe, its refusals kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from drifting_parity.adapters.base import Adapter, ImplementationError, NotObservable
from drifting_parity.cases import FieldCase, LossCase, Setting
from drifting_parity.explanation.answers import Answer
from drifting_parity.explanation.probes import Probe
from drifting_parity.plain import plain
from drifting_spec import Readings


@dataclass
class Subject:
    """An adapter, held to ``asked``, with what it answered so far.

    ``refusals`` are cases it says it cannot take (:class:`NotObservable`), by probe; ``failures``
    what it raised otherwise.
    """

    adapter: Adapter
    asked: Readings
    setting: Setting = field(default_factory=Setting)
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    refusals: dict[str, str] = field(default_factory=dict[str, str])
    failures: dict[str, str] = field(default_factory=dict[str, str])
    calls: int = 0

    def ask(self, probe: Probe) -> Answer | None:
        """The answer to a probe, None where it refuses or fails."""
        name = probe.name
        if name in self.answers:
            return self.answers[name]
        if name in self.refusals or name in self.failures:
            return None
        try:
            self.answers[name] = self.show(probe.case)
        except NotObservable as reason:
            self.refusals[name] = plain(str(reason))
        except ImplementationError as problem:
            self.failures[name] = plain(str(problem))
        except Exception as problem:
            self.failures[name] = plain(f"{type(problem).__name__}: {problem}")
        return self.answers.get(name)

    def show(self, case: LossCase | FieldCase) -> Answer:
        """The answer to a case; whatever the implementation raises goes through."""
        self.calls += 1
        if isinstance(case, FieldCase):
            answer = Answer(self.adapter.field(case, self.asked, self.setting))
            name, expected = "field", case.x.shape
        else:
            shown = self.adapter.loss(case, self.asked, self.setting)
            answer = Answer(shown.gradient, float(shown.loss))
            name, expected = "gradient", case.generated.shape
        if np.shape(answer.array) != expected:
            raise ValueError(f"the {name} has shape {np.shape(answer.array)}, expected {expected}")
        return answer

    def answered(self, probes: Sequence[Probe]) -> list[Probe]:
        """Of the probes those that it answers."""
        return [probe for probe in probes if self.ask(probe) is not None]
