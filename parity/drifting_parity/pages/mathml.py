"""Formulas: TeX into MathML, which browsers typeset without a script or a font of ours."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from drifting_parity.errors import CommandError

if TYPE_CHECKING:
    from markupsafe import Markup
    from math_core import LatexToMathML


class TexError(ValueError):
    """A formula is no TeX that can be typeset; the message holds it and what is wrong."""


@cache
def _converter() -> LatexToMathML:
    try:
        from math_core import LatexToMathML
    except ModuleNotFoundError as problem:
        from drifting_parity.pages.environment import MISSING

        raise CommandError(MISSING) from problem
    return LatexToMathML(fancy_error=False)


def mathml(tex: str, *, display: bool = True) -> Markup:
    """Typeset plain LaTeX (with amsmath's environments) as one ``<math>`` element.

    ``display``: as a block of its own. Raises :class:`TexError`, and :class:`CommandError` where
    math-core is not installed.
    """
    converter = _converter()
    from markupsafe import Markup
    from math_core import LatexError

    try:
        return Markup(converter.convert_with_local_state(tex.strip(), displaystyle=display))
    except LatexError as problem:
        raise TexError(f"tex {tex.strip()!r} cannot be typeset: {problem}") from problem
