"""What the call forms say of themselves: their options, checked and written out.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from drifting_parity.forms.form import Form
from drifting_parity.forms.layout import FormError

PAPER = (0.02, 0.05, 0.2)
NEGATIVES = ("implicit", "generated first", "real first")
WEIGHTS = ("w", "alpha", "log w")


def one_of(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise :class:`FormError` for a value that is none of the known ones."""
    if value not in known:
        raise FormError(f"{what} is {value!r}, expected one of {', '.join(map(repr, known))}")


def plain_setting(form: Form) -> SimpleNamespace:
    """The setting of a smoke call: the form's first dtype, on the CPU."""
    return SimpleNamespace(
        dtype=form.dtypes[0], device="cpu", upstream=1.0, strided=False, autocast=None
    )


def renamed(form: Form) -> dict[str, str]:
    """The names to say: of roles that go by another than the usual one."""
    return {role: name for role, name in form.names.items() if name != role}


def written(kind: str, function: str, options: Mapping[str, Any]) -> str:
    """The statement that makes an adapter."""
    said = [f"{name}={value!r}" for name, value in options.items() if value not in (None, "", {})]
    return f"adapter = forms.{kind}({', '.join([function, *said])})"
