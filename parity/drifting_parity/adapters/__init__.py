"""Adapters: how implementations are put before the harness."""

from __future__ import annotations

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.loading import AdapterError, load_adapter

__all__ = ["Adapter", "AdapterError", "NotObservable", "load_adapter"]
