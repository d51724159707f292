"""``drifting-parity pages DIR``: the annotated paper as a folder of self-contained pages."""

from __future__ import annotations

from pathlib import Path

from drifting_parity.errors import CommandError
from drifting_parity.pages.paper import write_pages


def write(folder: str) -> str:
    """Write the pages into ``folder`` and say how many there are and where to begin.

    Raises :class:`CommandError` where they cannot be written.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise CommandError(f"{path} is a file, expected a folder for the pages")
    try:
        sizes = write_pages(path)
    except OSError as problem:
        said = problem.strerror or str(problem)
        raise CommandError(f"the pages were not written to {path}: {said}") from problem
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"{len(sizes)} files in {path}, {sum(sizes.values()) / 1e6:.1f} MB, "
        f"the largest {largest} with {sizes[largest] / 1e3:.0f} kB\n"
        f"begin with {path / 'index.html'}\n"
    )
