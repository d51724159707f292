"""One file of settings for each column of Table 8, and where it is."""

from __future__ import annotations

from pathlib import Path


def path_of(column: str) -> Path:
    """The file of a column by its name in the spec (``"ablation"``, ``"latent-B/2"``, …)."""
    return Path(__file__).with_name(f"{column.lower().replace('/', '')}.toml")
