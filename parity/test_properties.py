"""Every property of the harness on inputs that Hypothesis draws, and shrinks where it fails."""

from __future__ import annotations

from drifting_parity.test_suite import pytestmark, test_property

__all__ = ["pytestmark", "test_property"]
