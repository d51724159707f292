"""The loss of several features: its sum, and the vanilla term."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import cast

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import (
    Array,
    DType,
    FeatureCase,
    FeatureObservation,
    Manifest,
    Setting,
    rounded,
)
from drifting_parity.explanation.answers import relative
from drifting_parity.explanation.data import ReadingStatement, Unexplained
from drifting_parity.explanation.hypothesis import Hypothesis, Use
from drifting_parity.explanation.probes import loss_case
from drifting_parity.explanation.search import Search
from drifting_parity.explanation.vectors import evidence
from drifting_parity.plain import plain
from drifting_parity.suspects import ALL
from drifting_spec import AXES

PROBE = "the loss of two features and of raw samples"


@dataclass
class FeatureFindings:
    """The hypothesis with what the loss of several features adds, and what is left open."""

    hypothesis: Hypothesis
    statements: dict[str, ReadingStatement] = field(default_factory=dict[str, ReadingStatement])
    unexplained: list[Unexplained] = field(default_factory=list[Unexplained])
    refusals: list[str] = field(default_factory=list[str])
    answered: int = 0

    def added(self, hypothesis: Hypothesis) -> tuple[Use, ...]:
        """The suspects beside those of ``hypothesis``."""
        return tuple(use for use in self.hypothesis.uses if use not in hypothesis.uses)


def settle_features(search: Search, hypothesis: Hypothesis) -> FeatureFindings:
    """Put the loss of several features to the adapter, and find what it does with them."""
    findings = FeatureFindings(hypothesis)
    subject = search.subject
    try:
        subject.calls += 1
        shown = subject.adapter.feature_loss(feature_case(), subject.asked, subject.setting)
    except NotObservable as reason:
        findings.refusals.append(plain(str(reason)))
        return findings
    except Exception as problem:
        findings.unexplained.append(
            Unexplained("vanilla term", f"{PROBE}: {type(problem).__name__}", math.inf)
        )
        return findings
    findings.answered = 1
    observed, dtype = _arrays(shown), subject.setting.dtype
    misfits = {
        item: _distance(observed, _expected(item, dtype)) for item in _candidates(hypothesis)
    }
    fitting = [item for item, misfit in misfits.items() if misfit <= search.tolerance]
    if not fitting:
        findings.unexplained.append(Unexplained("vanilla term", PROBE, min(misfits.values())))
        return findings
    best = min(fitting, key=lambda item: item.changes(search.asked))
    findings.hypothesis = best
    gaps = {
        reading: _distance(_expected(best, dtype), _expected(other, dtype))
        for reading in AXES["vanilla_term"]
        if (other := best.with_reading("vanilla_term", reading)) is not None
    }
    apart = [gap for gap in gaps.values() if gap > search.tolerance]
    if apart:
        alike = tuple(name for name, gap in gaps.items() if gap <= search.tolerance)
        findings.statements["vanilla_term"] = ReadingStatement(
            "vanilla_term",
            best.readings.vanilla_term,
            True,
            alike,
            evidence(min(apart), PROBE, alike),
        )
    return findings


def _candidates(hypothesis: Hypothesis) -> list[Hypothesis]:
    """The readings of the vanilla term, and the suspects that need several features."""
    keys = [item.key for item in ALL.values() if "features" in item.needs and not item.reading]
    candidates = [hypothesis]
    for reading in AXES["vanilla_term"]:
        other = hypothesis.with_reading("vanilla_term", reading)
        candidates += [] if other is None else [other]
    for base in tuple(candidates):
        singles = [item for key in keys if (item := base.with_suspect(key)) is not None]
        candidates += singles
        candidates += [
            item for one in singles for key in keys if (item := one.with_suspect(key)) is not None
        ]
    return list(dict.fromkeys(candidates))


def _expected(hypothesis: Hypothesis, dtype: str) -> dict[str, Array]:
    try:
        return _arrays(_observe(hypothesis, dtype))
    except (ValueError, RuntimeError):
        return {}


@cache
def _observe(hypothesis: Hypothesis, dtype: str) -> FeatureObservation:
    """In float64, on inputs as the implementation's dtype holds them."""
    case = feature_case()
    if dtype not in ("float64", "float32"):
        case = _rounded(case, cast("DType", dtype))
    return hypothesis.textbook.observe_features(case, Setting())


def _rounded(case: FeatureCase, dtype: DType) -> FeatureCase:
    assert case.generated_samples is not None
    assert case.positive_samples is not None
    return case.changed(
        generated={key: rounded(array, dtype) for key, array in case.generated.items()},
        positive={key: rounded(array, dtype) for key, array in case.positive.items()},
        generated_samples=rounded(case.generated_samples, dtype),
        positive_samples=rounded(case.positive_samples, dtype),
    )


def _arrays(shown: FeatureObservation) -> dict[str, Array]:
    arrays = {f"gradient of {key}": array for key, array in shown.gradients.items()}
    if shown.raw_gradient is not None:
        arrays["raw gradient"] = shown.raw_gradient
    return {"loss": np.asarray(shown.loss), **arrays}


def _distance(observed: dict[str, Array], expected: dict[str, Array]) -> float:
    if set(observed) != set(expected):
        return math.inf
    return max(relative(observed[key], expected[key]) for key in expected)


@cache
def feature_case() -> FeatureCase:
    """Two features of unlike size, and raw samples."""
    one = loss_case("features-1", 41, (1, 5, 4, 0, 3, 6))
    two = loss_case("features-2", 43, (1, 5, 4, 0, 1, 9))
    raw = loss_case("features-raw", 42, (1, 5, 4, 0, 1, 5))
    return FeatureCase(
        Manifest("features"),
        {"map0.loc": one.generated, "map1.mean": two.generated},
        {"map0.loc": one.positive, "map1.mean": two.positive},
        generated_samples=raw.generated[:, :, 0] * 0.1,
        positive_samples=raw.positive[:, :, 0] * 0.1,
    )
