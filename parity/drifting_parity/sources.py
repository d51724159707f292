"""Where code carries out a clause, and which checks put it: read from the sources by syntax.

``explain`` and ``list`` must answer at once, and importing the checks would import SciPy. So
the sources are parsed, not imported; ``tests/test_cli.py`` holds what is read here to what an
import finds.
"""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Marked:
    """A function marked ``@implements(clause)``: where it stands, and its text."""

    module: str
    name: str
    path: Path
    line: int
    source: str


@dataclass(frozen=True)
class StaticCheck:
    """A check as its source declares it, or a family of checks made in one place.

    ``{…}`` in the id or title of a family stands for what is filled in for each member. Where the
    clauses are computed, ``clauses`` are all those that the module names, and ``family`` is true.
    """

    id: str
    title: str
    clauses: tuple[str, ...]
    kind: str
    module: str
    family: bool = False


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
    """Functions of ``package`` marked as carrying out ``clause``, the closest to it first.

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


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _decorated(tree: ast.AST, prefix: str) -> Iterator[tuple[str, _Function, tuple[str, ...]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _decorated(node, f"{prefix}{node.name}.")
        if not isinstance(node, _Function):
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
    if isinstance(call.func, ast.Subscript) and isinstance(call.func.value, ast.Name):
        return call.func.value.id
    return call.func.id if isinstance(call.func, ast.Name) else ""


def checks(known: Collection[str]) -> list[StaticCheck]:
    """Every check and property that ``drifting_parity.checks`` declares, of the ``known`` clauses."""
    found: list[StaticCheck] = []
    for path in sorted((_folder("drifting_parity") / "checks").glob("*.py")):
        if path.stem not in {"__init__", "core"}:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += _Declarations(tree, path.stem, known).found()
    return found


class _Declarations:
    """The checks that one module makes, read from its syntax tree."""

    def __init__(self, tree: ast.Module, module: str, known: Collection[str]) -> None:
        self._tree, self._module, self._known = tree, module, known
        self._constants = dict(_assigned(tree))

    def found(self) -> list[StaticCheck]:
        calls = [node for node in ast.walk(self._tree) if isinstance(node, ast.Call)]
        made = [node for node in calls if _called(node) in {"Check", "Property"}]
        return [self._declared(node) for node in sorted(made, key=lambda node: node.lineno)]

    def _declared(self, call: ast.Call) -> StaticCheck:
        names = ("id", "title", "clauses", "kind")
        given = dict(zip(names, call.args, strict=False))
        given |= {item.arg: item.value for item in call.keywords if item.arg in names}
        clauses = self._strings(given["clauses"])
        is_property = _called(call) == "Property"
        return StaticCheck(
            id=self._text(given["id"]),
            title=self._text(given["title"]),
            clauses=self._mentioned() if clauses is None else clauses,
            kind="property" if is_property else self._text(given["kind"]),
            module=self._module,
            family=clauses is None,
        )

    def _mentioned(self) -> tuple[str, ...]:
        """Every clause that the module names somewhere."""
        texts = [item.value for item in ast.walk(self._tree) if isinstance(item, ast.Constant)]
        return tuple(name for name in self._known if name in texts)

    def _text(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.Name) and node.id in self._constants:
            return self._text(self._constants[node.id])
        if isinstance(node, ast.JoinedStr):
            return "".join(self._text(part) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self._text(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._text(node.left) + self._text(node.right)
        return f"{{{ast.unparse(node).rpartition('.')[2]}}}"

    def _strings(self, node: ast.expr) -> tuple[str, ...] | None:
        """The strings of a tuple written out; None if some of it is computed."""
        if isinstance(node, ast.Starred):
            return self._strings(node.value)
        if isinstance(node, ast.Name) and node.id in self._constants:
            return self._strings(self._constants[node.id])
        if isinstance(node, ast.Constant) or isinstance(node, ast.Name):
            text = self._text(node)
            return (text,) if text in self._known else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [self._strings(node.left), self._strings(node.right)]
        elif isinstance(node, ast.Tuple | ast.List):
            parts = [self._strings(item) for item in node.elts]
        else:
            return None
        if any(part is None for part in parts):
            return None
        return tuple(name for part in parts if part is not None for name in part)


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that the module gives a value at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value
