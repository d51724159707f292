"""Where code carries out a clause: read from the sources by syntax, for ``explain``.

``explain`` must answer at once, and importing the reference or the implementation would import
SciPy or PyTorch. So their sources are parsed for ``@implements`` and ``@oracle``, not imported.
What a report calls a measured quantity or a case is looked up in the sources of the checks in the
same way.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARKS: Final = ("implements", "oracle")
"""The decorators that mark code with clauses (:mod:`drifting_spec.implements`)."""


@dataclass(frozen=True)
class Marked:
    """A function or class marked with a clause: where it stands, and its text.

    ``oracle``: marked ``@oracle(clause)``, another way to a number of the clause; else
    ``@implements(clause)``.
    """

    module: str
    name: str
    path: Path
    line: int
    source: str
    oracle: bool = False


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"package {package!r} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def _modules(package: str, *containing: str) -> Iterator[tuple[str, Path, str]]:
    """Modules whose text contains one of the strings: parsing others takes time for nothing."""
    folder = _folder(package)
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if any(part in text for part in containing):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), path, text


def marked(package: str, clause: str) -> list[Marked]:
    """Functions and classes of ``package`` marked with ``clause``, the closest to it first.

    Closest: marked with the fewest clauses, hence this one's own function before those that
    carry out a whole algorithm; oracles last.
    """
    return _marked(_modules(package, f'"{clause}"')).get(clause, [])


def every(package: str) -> dict[str, list[Marked]]:
    """All that is marked in ``package`` by clause, in the order of :func:`marked`."""
    return _marked(_modules(package, *(f"{mark}(" for mark in MARKS)))


def _marked(modules: Iterable[tuple[str, Path, str]]) -> dict[str, list[Marked]]:
    found: dict[str, list[tuple[int, Marked]]] = {}
    for module, path, text in modules:
        lines = text.splitlines()
        for name, node in _definitions(ast.parse(text), ""):
            for mark in MARKS:
                clauses = _clauses(node, mark)
                item = _item(module, name, path, node, lines, mark)
                for clause in clauses:
                    found.setdefault(clause, []).append((len(clauses), item))
    return {
        clause: [
            item for _, item in sorted(items, key=lambda counted: (counted[1].oracle, counted[0]))
        ]
        for clause, items in found.items()
    }


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _item(
    module: str, name: str, path: Path, node: _Definition, lines: list[str], mark: str
) -> Marked:
    body = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
    return Marked(module, name, path, node.lineno, body, oracle=mark == "oracle")


def _definitions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")
        if isinstance(node, _Definition):
            yield f"{prefix}{node.name}", node


def _clauses(node: _Definition, mark: str) -> tuple[str, ...]:
    """The clauses in ``@mark("EQ-1", ...)`` above a definition."""
    return tuple(
        argument.value
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and _called(decorator) == mark
        for argument in decorator.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    )


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


@dataclass(frozen=True)
class Phrase:
    """Where a check writes the name of a quantity or of a case: what is defined there."""

    module: str
    name: str
    line: int
    summary: str


def phrases(text: str) -> list[Phrase]:
    """Where the checks write ``text`` as the name of a quantity or a case.

    A name put together from parts counts where its fixed parts fit and make up a third of it.
    """
    longest_word = max(re.findall(r"\w+", text), key=len, default="")
    return _phrases(text, text) or _phrases(text, longest_word)


def _phrases(text: str, containing: str) -> list[Phrase]:
    return [
        Phrase(module, *_described(statement))
        for module, _, source in _modules("drifting_parity.checks", containing)
        for statement in ast.parse(source).body
        if any(_writes(node, text) for node in ast.walk(statement))
    ]


def _described(statement: ast.stmt) -> tuple[str, int, str]:
    """What a statement of a module defines, its line, and what its docstring begins with."""
    if isinstance(statement, _Definition):
        summary = (ast.get_docstring(statement) or "").partition("\n")[0]
        return statement.name, statement.lineno, summary
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target), statement.lineno, ""
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0]), statement.lineno, ""
    return "the module", statement.lineno, ""


def _writes(node: ast.AST, text: str) -> bool:
    if isinstance(node, ast.Constant):
        return node.value == text
    if not isinstance(node, ast.JoinedStr):
        return False
    fixed = [part.value for part in node.values if isinstance(part, ast.Constant)]
    if 3 * sum(len(str(part)) for part in fixed) < len(text):
        return False
    pattern = "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+?"
        for part in node.values
    )
    return re.fullmatch(pattern, text) is not None
