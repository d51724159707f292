"""The pytest plugin: which implementation the suite judges, and the ``parity_clause`` marker.

Loaded by ``-p drifting_parity.pytest_plugin``. A test that takes ``judged_check`` or
``judged_property`` runs once for every check or property and every subject: the implementation
that ``--parity-implementation`` names, else both builtins. Tests that take neither are left
alone: no Hypothesis profile, no environment variable and no marker of theirs is touched.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from drifting_spec import Readings, ReadingsError, parse_readings
from drifting_spec.registry import load

if TYPE_CHECKING:
    from drifting_parity.adapters.base import Adapter
    from drifting_parity.cases import DType
    from drifting_parity.checks.core import Check, Context, Property
    from drifting_parity.judging.verdicts import Request

_Item = TypeVar("_Item")

EXAMPLES: Final = 25
"""Inputs that Hypothesis draws for each property, unless ``--parity-examples`` says otherwise."""

MARKER: Final = "parity_clause"


@dataclass(frozen=True)
class Subject:
    """Who is put to the test: an implementation by name, and how it is run."""

    name: str
    target: str
    dtype: DType
    device: str
    readings: Readings
    seed: int

    @property
    def adapter(self) -> Adapter:
        """The adapter, loaded once for each target."""
        return _adapter(self.target)

    @property
    def must_show_everything(self) -> bool:
        """Whether an unobservable clause is a failure: this project's own implementation."""
        return self.target == "builtin:drifting_torch" and self.dtype == "float64"

    def context(self) -> Context:
        """What a check is run with."""
        from drifting_parity.checks.core import Context

        request = self.request()
        return Context(self.adapter, self.readings, request.setting, load(), self.seed)

    def request(self) -> Request:
        """The request of which this is part; it knows the command that reproduces it."""
        from drifting_parity.cases import Setting
        from drifting_parity.judging.verdicts import Request

        setting = Setting(dtype=self.dtype, device=self.device)
        return Request(self.target, self.adapter, self.readings, setting, seed=self.seed)

    def command(self, clause: str) -> str:
        """The command that shows again what was found about ``clause``."""
        return self.request().command(clause)


@cache
def _adapter(target: str) -> Adapter:
    from drifting_parity.adapters import AdapterError, load_adapter

    try:
        return load_adapter(target)
    except AdapterError as problem:
        raise pytest.UsageError(f"--parity-implementation: {problem}") from problem


class HypothesisDraw:
    """Draws the inputs of a property from Hypothesis, which shrinks them to a small witness."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return self._data.draw(st.integers(low, high))

    def number(self, low: float, high: float) -> float:
        """A float from ``low`` to ``high``."""
        return self._data.draw(st.floats(low, high, allow_nan=False))

    def choice(self, items: Sequence[_Item]) -> _Item:
        """One of ``items``; the first is the simplest."""
        return self._data.draw(st.sampled_from(items))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose what the suite judges."""
    group = parser.getgroup("drifting-parity")
    group.addoption(
        "--parity-implementation",
        metavar="KIND:TARGET",
        help="judge this one, as drifting-parity report takes it (default: both builtins)",
    )
    group.addoption(
        "--parity-readings", metavar="SET", default="paper", help="hold it to these readings"
    )
    group.addoption("--parity-device", metavar="D", default="cpu", help="where it runs")
    group.addoption(
        "--parity-dtype",
        metavar="T",
        help="its arithmetic (default: float64 and float32, as it offers)",
    )
    group.addoption(
        "--parity-seed", metavar="N", type=_whole(0), default=0, help="of the checks' draws"
    )
    group.addoption(
        "--parity-examples",
        metavar="N",
        type=_whole(1),
        default=EXAMPLES,
        help=f"inputs that Hypothesis draws for each property (default: {EXAMPLES})",
    )


def _whole(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else -1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
        return value

    return number


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse readings that do not exist."""
    config.addinivalue_line(
        "markers", f"{MARKER}(*ids): the clauses of the paper that this test speaks for"
    )
    try:
        parse_readings(str(config.getoption("--parity-readings")))
    except ReadingsError as problem:
        raise pytest.UsageError(f"--parity-readings: {problem}") from problem


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold the ids of ``parity_clause`` markers to the spec, copy them to the JUnit properties."""
    clauses = load().clauses
    for item in items:
        for marker in item.iter_markers(MARKER):
            for name in cast("tuple[str, ...]", marker.args):
                if name not in clauses:
                    raise pytest.UsageError(f"{item.nodeid}: the spec has no clause {name!r}")
                item.user_properties.append(("clause", name))


@pytest.fixture
def drawn_by_hypothesis(request: pytest.FixtureRequest) -> settings:
    """How Hypothesis draws the inputs of the suite's properties: the same ones on every run."""
    return settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=cast("int", request.config.getoption("--parity-examples")),
        print_blob=False,
        # A slow machine, or a property that rejects much of what is drawn, is no failure.
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
    )


@pytest.fixture
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep PyTorch to one thread where pytest-xdist runs several workers, and undo it."""
    if not hasattr(request.config, "workerinput"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Put every check, or every property, to every subject."""
    if "judged_check" in metafunc.fixturenames:
        from drifting_parity.checks import CHECKS

        _put(metafunc, "judged_check", CHECKS)
    if "judged_property" in metafunc.fixturenames:
        from drifting_parity.checks import PROPERTIES

        _put(metafunc, "judged_property", PROPERTIES)


def _put(
    metafunc: pytest.Metafunc, name: str, listed: Sequence[Check] | Sequence[Property[Any]]
) -> None:
    cases = [
        pytest.param(
            subject,
            item,
            id=f"{subject.name}-{item.id}",
            marks=pytest.mark.parity_clause(*item.clauses),
        )
        for subject in subjects(metafunc.config.getoption)
        for item in listed
        # What only compares the reference with itself proves nothing about it.
        if item.applies(subject.readings)
        and (item.independent or not subject.adapter.by_definition)
    ]
    metafunc.parametrize(("subject", name), cases)


def subjects(option: Callable[[str], Any]) -> list[Subject]:
    """List who is tested, from the command line's options."""
    given = cast("str | None", option("--parity-implementation"))
    readings = parse_readings(option("--parity-readings"))
    targets = {"given": given} if given else _BUILTIN
    found: list[Subject] = []
    for short, target in targets.items():
        offered = _adapter(target).dtypes
        wanted = [option("--parity-dtype")] if option("--parity-dtype") else ["float64", "float32"]
        for dtype in (item for item in wanted if item in offered):
            subject = Subject(
                name=f"{short}-{dtype}",
                target=target,
                dtype=cast("DType", dtype),
                device=option("--parity-device"),
                readings=readings,
                seed=option("--parity-seed"),
            )
            found.append(subject)
    if not found:
        names = ", ".join(targets.values())
        raise pytest.UsageError(
            f"--parity-dtype: {names} does not offer {option('--parity-dtype')!r}"
        )
    return found


_BUILTIN: Final = {
    "torch": "builtin:drifting_torch",
    "reference": "builtin:drifting_reference",
}
