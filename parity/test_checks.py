"""Every check of the harness, put to the implementation chosen on the command line."""

from __future__ import annotations

from drifting_parity.test_suite import pytestmark, test_check

__all__ = ["pytestmark", "test_check"]
