"""``drifting-parity pages DIR``: the annotated paper as a folder of self-contained pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drifting_parity.commands.output import read_file
from drifting_parity.errors import CommandError
from drifting_parity.pages.paper import write_pages


def write(folder: str, added: Sequence[str] = ()) -> str:
    """Write the pages into ``folder`` and say how many there are and where to begin.

    The pages ``added`` are put beside them and linked. Raises :class:`CommandError` where one of
    these cannot be taken, or the pages cannot be written.
    """
    path = Path(folder)
    others = {Path(name).name: _read(name) for name in added}
    if path.exists() and not path.is_dir():
        raise CommandError(f"{path} is a file, expected a folder for the pages")
    try:
        sizes = write_pages(path, others)
    except ValueError as problem:
        raise CommandError(f"--add: {problem}") from problem
    except OSError as problem:
        said = problem.strerror or str(problem)
        raise CommandError(f"the pages were not written to {path}: {said}") from problem
    largest = max(sizes, key=lambda name: sizes[name])
    return (
        f"{len(sizes)} files in {path}, {sum(sizes.values()) / 1e6:.1f} MB, "
        f"the largest {largest} with {sizes[largest] / 1e3:.0f} kB\n"
        f"begin with {path / 'index.html'}\n"
    )


def _read(name: str) -> str:
    path = Path(name)
    if path.suffix != ".html":
        raise CommandError(f"--add: {name} is no page, expected a file that ends with .html")
    try:
        return read_file(path)
    except (OSError, ValueError) as problem:
        said = getattr(problem, "strerror", None) or str(problem)
        raise CommandError(f"--add: {name} was not read: {said}") from problem
