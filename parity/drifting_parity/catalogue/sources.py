"""Where code carries out a clause: read from the sources by syntax, for ``explain``.

``explain`` must answer at once, and importing the reference or the implementation would import
SciPy or PyTorch. So their sources are parsed for ``@implements``, not imported.
"""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Marked:
    """A function or class marked ``@implements(clause)``: where it stands, and its text."""

    module: str
    name: str
    path: Path
    line: int
    source: str


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"package {package!r} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def _modules(package: str, containing: str) -> Iterator[tuple[str, Path, str]]:
    """Modules whose text contains a string: parsing the others would cost time for nothing."""
    folder = _folder(package)
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if containing in text:
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), path, text


def marked(package: str, clause: str) -> list[Marked]:
    """Functions and classes of ``package`` marked with ``clause``, the closest to it first.

    Closest: marked with the fewest clauses, hence this one's own function before those that
    carry out a whole algorithm.
    """
    found: list[tuple[int, Marked]] = []
    for module, path, text in _modules(package, f'"{clause}"'):
        lines = text.splitlines()
        for name, node, clauses in _decorated(ast.parse(text), ""):
            if clause in clauses:
                body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                source = textwrap.dedent(body)
                found.append((len(clauses), Marked(module, name, path, node.lineno, source)))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def every(package: str) -> dict[str, list[Marked]]:
    """All that is marked in ``package`` by clause, in the order of :func:`marked`."""
    found: dict[str, list[tuple[int, Marked]]] = {}
    for module, path, text in _modules(package, "implements("):
        for name, node, clauses in _decorated(ast.parse(text), ""):
            item = Marked(module, name, path, node.lineno, "")
            for clause in clauses:
                found.setdefault(clause, []).append((len(clauses), item))
    return {
        clause: [item for _, item in sorted(items, key=lambda pair: pair[0])]
        for clause, items in found.items()
    }


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _decorated(tree: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition, tuple[str, ...]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _decorated(node, f"{prefix}{node.name}.")
        if not isinstance(node, _Definition):
            continue
        clauses = tuple(
            argument.value
            for decorator in node.decorator_list
            if isinstance(decorator, ast.Call) and _called(decorator) == "implements"
            for argument in decorator.args
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        )
        yield f"{prefix}{node.name}", node, clauses


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""
