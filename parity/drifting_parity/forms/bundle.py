"""Write ``drifting_parity_serve.py``: the portable modules of this package as one file.

``python -m drifting_parity.forms.bundle`` writes the copy that ships beside this file, with a path
it writes one there. The file needs NumPy alone and runs from Python 3.9 on, in environments that
do not have this project.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Final

MODULES: Final = (
    *("layout", "arrays", "signature", "form", "options", "field_form", "loss_form"),
    *("feature_form", "serving"),
)
SHIPPED: Final = Path(__file__).with_name("drifting_parity_serve.py")

HEAD: Final = '''"""Put your code before drifting-parity, from any Python with NumPy (3.9 or later).

    import drifting_parity_serve as parity
    from mine import drifting_loss

    parity.serve(parity.loss(drifting_loss, layout="sample channel"))

and then, where drifting-parity is installed:

    drifting-parity report --implementation "command:/path/to/python serve_mine.py"

Written by ``python -m drifting_parity.forms.bundle`` from the modules of ``drifting_parity.forms``:
change those, not this. What a layout, a form and their options are is said at their classes.
"""

# ruff: noqa -- written from modules that are checked themselves
# pyright: basic
# fmt: off

from __future__ import annotations

'''


def bundled() -> str:
    """The text of the file."""
    imports: set[str] = set()
    bodies: list[str] = []
    for name in MODULES:
        text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        lines = text.splitlines()
        first, *rest = ast.parse(text).body
        assert isinstance(first, ast.Expr), name
        heads = [node for node in rest if isinstance(node, ast.Import | ast.ImportFrom)]
        dropped = {
            line
            for node in (first, *heads)
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        imports |= {
            ast.unparse(node)
            for node in heads
            if not (isinstance(node, ast.ImportFrom) and _left_out(node.module or ""))
        }
        kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
        title = ast.literal_eval(first.value).splitlines()[0]
        bodies.append(f"# {title}\n\n" + "\n".join(kept).strip() + "\n")
    return HEAD + "\n".join(sorted(imports)) + "\n\n\n" + "\n\n".join(bodies)


def _left_out(module: str) -> bool:
    return module == "__future__" or module.startswith("drifting_parity.")


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else SHIPPED).write_text(bundled(), encoding="utf-8")
