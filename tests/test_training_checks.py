"""The checks of queue, guidance, step and averages: each is passed, and killed by what is wrong."""

from __future__ import annotations

from unittest import mock

import pytest
from broken_training import VARIANTS

from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.cases import Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Context
from drifting_parity.judging.verdicts import run_check
from drifting_spec import PAPER
from drifting_spec.registry import load

SPEC = load()
OURS = {
    check.id: check
    for check in CHECKS
    if check.id.startswith(("A8-", "A9-", "release.C"))
    or check.id in {"PB-41", "PB-50", "PB-51", "release.D", "release.E"}
    if check.id != "A8-arithmetic"  # of Table 8's numbers alone
}


def failed(check: str) -> set[str]:
    """Clauses that fail; a crash of what is wrong fails all."""
    context = Context(DriftingTorchAdapter(), PAPER, Setting(), SPEC, quick=True)
    found = run_check(OURS[check], context)
    assert not found.not_observable
    assert found.error or found.measurements
    if found.error:
        return set(found.clauses)
    return {clause for item in found.measurements if not item.passed for clause in item.clauses}


@pytest.mark.parametrize("check", OURS)
def test_the_implementation_passes(check: str) -> None:
    assert failed(check) == set()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_wrong_variant_is_caught(name: str) -> None:
    owner, attribute, replacement, wanted = VARIANTS[name]
    with mock.patch.object(owner, attribute, replacement):
        for check, clause in wanted.items():
            assert clause in failed(check), check


def test_every_check_has_a_wrong_variant() -> None:
    assert {check for *_, wanted in VARIANTS.values() for check in wanted} == set(OURS)
