"""One file of settings for each column of Table 8, and where it is."""

from __future__ import annotations

from pathlib import Path


def path_of(column: str) -> Path:
    """The file of a column by its name in the spec (``"ablation"``, ``"latent-B/2"``, …)."""
    return Path(__file__).with_name(f"{column.lower().replace('/', '')}.toml")


def resolved(path: Path) -> Path:
    """The path itself, or one of the files here if it is a bare name of one, as ``ablation``."""
    own = Path(__file__).with_name(f"{path.name}.toml")
    return own if path.name == str(path) and not path.exists() and own.exists() else path
