"""The suite runs through the two thin modules beside this file, with one thread a worker."""

from __future__ import annotations

import os

collect_ignore = ["drifting_parity"]

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy or PyTorch start their threads
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
