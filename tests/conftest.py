"""Hypothesis profiles, one thread a worker, and reports made by hand for the tests of rendering."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import HealthCheck, settings

from drifting_parity.measure import Figure, Measurement, Mismatch
from drifting_parity.report.data import AxisReport, CheckOutcome, ClauseReport, Report

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy or PyTorch start their threads
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# A slow machine, or a strategy that rejects much of what is drawn, is no failure of a test.
_LENIENT = (HealthCheck.too_slow, HealthCheck.filter_too_much)
settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, max_examples=25,
    suppress_health_check=_LENIENT,
)  # fmt: skip
settings.register_profile(
    "thorough", deadline=None, max_examples=300, suppress_health_check=_LENIENT
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_FIRST = ("test_torch_triton.py", "test_explanation.py")
"""What takes minutes, begun first: at the end all other workers would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.path.name not in _FIRST)


COMMAND = (
    "drifting-parity report --implementation python:package.module:attribute_with_a_long_name "
    "--readings paper --clause EQ-25 --dtype float64 --seed 0"
)
ENVIRONMENT = {
    "python": "3.11.7",
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "torch": "2.13.0",
    "platform": "Linux x86_64",
    "device": "cpu",
    "dtype": "float64",
    "seed": "0",
    "quick": "false",
}
PAPER = {
    "title": "Generative Modeling via Drifting",
    "authors": "Deng et al., 2026",
    "arxiv": "2602.04770",
    "scan_sha256": "234cead3f889b1b217394d0fddc46d9744709b5d61279a6860d3810604d72def",
}
GOOD = Measurement(("EQ-11",), "field", "drawn", 2e-15, 1e-10, count=40)
BAD = Measurement(
    ("EQ-25",), "drift scale", "N = 4", 0.25, 1e-10, mismatch=Mismatch((0, 1), 1.5, 1.75), count=12
)
RAISED = "ValueError: nothing here | and there"


def _clause(identifier: str, section: str, **more: object) -> ClauseReport:
    values = {"title": f"What {identifier} says at some length for a title", "verdict": "conforms"}
    return ClauseReport(id=identifier, section=section, **{**values, **more})  # pyright: ignore[reportArgumentType]


def _report(clauses: list[ClauseReport], axes: list[AxisReport], headline: CheckOutcome) -> Report:
    return Report(
        implementation="python:package.module:attribute_with_a_long_name",
        readings="paper",
        observed_readings="paper",
        environment=ENVIRONMENT,
        paper=PAPER,
        tool={"name": "drifting-parity", "version": "0.1.0"},
        clauses=tuple(clauses),
        axes=tuple(axes),
        outcomes=(headline,),
        sections={"3.3": "Designing the Drifting Field", "A.6": "Feature and Drift Normalization"},
        seconds=1.25,
    )


FIGURES = (
    Figure("scale invariance", "loss, float32, eight decades", "1.2e-07"),
    Figure("scale invariance", "gradient × c, bfloat16", "3.9e-03"),
)
AXIS = AxisReport("floors", "none", "none", "S = 1e-9 leaves the loss: 1.0")


@pytest.fixture
def good_report() -> Report:
    """All as asked, with one clause that no implementation can show."""
    return _report(
        [
            _clause("EQ-11", "3.3", measurements=(("PB-02", GOOD),)),
            _clause("EQ-1", "3.3", verdict="not executable", detail="It defines q."),
            _clause("EQ-25", "A.6", measurements=(("loss.own", GOOD),), verdict="by definition"),
        ],
        [AXIS],
        CheckOutcome("scale", "scale", "headline", ("EQ-11",), (GOOD,), FIGURES),
    )


@pytest.fixture
def broken_report() -> Report:
    """One clause of each failing verdict, one that was not seen, one reading of its own."""
    return _report(
        [
            _clause("EQ-11", "3.3", measurements=(("PB-02", GOOD),)),
            _clause(
                "EQ-25",
                "A.6",
                verdict="deviates",
                measurements=(("loss.own", BAD), ("loss.more", GOOD)),
                detail="loss.own: drift scale on N = 4",
                reproduce=COMMAND,
            ),
            _clause("EQ-26", "A.6", verdict="raises", detail=RAISED, reproduce=COMMAND),
            _clause(
                "A7-selfmask-count",
                "A.7",
                verdict="conforms to reading",
                measurements=(("PB-06", GOOD),),
                reading="self_mask=add_100",
                detail="takes self_mask=add_100",
                reproduce=COMMAND,
            ),
            _clause("A5-x2", "A.5", verdict="not observable", detail="no vectorisation of maps"),
        ],
        [AXIS, AxisReport("self_mask", "exclude", "add_100", "nearest other is 0.3 away")],
        CheckOutcome("scale", "scale", "headline", ("EQ-25",), (BAD,), FIGURES),
    )


@pytest.fixture
def infinite_report() -> Report:
    """Errors that no number of JSON can write."""
    lost = Measurement(
        ("EQ-26",), "loss", "all equal", math.inf, 0.0, mismatch=Mismatch((), 0.0, math.nan)
    )
    clause = _clause("EQ-26", "A.6", verdict="deviates", measurements=(("loss.zero", lost),))
    headline = CheckOutcome("h", "the headline", "headline", ("EQ-26",), error="TypeError: no")
    return _report([clause], [], headline)
