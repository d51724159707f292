"""Every formula also stands as TeX that can be typeset and says what the text form says."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter

import pytest

from drifting_parity.pages.mathml import mathml
from drifting_spec.registry import load

FORMULAS = {clause.id: clause for clause in load().clauses.values() if clause.formula}
RELATIONS = "+-=<>∞∂∈≤≥≈∥√∝→←↦⇒∬"


def content(text: str) -> Counter[str]:
    """The letters, digits and relations of a formula, however they are set."""
    text = re.sub(r"(?<![\d.])1e(\d)", r"10\1", text)
    text = re.sub(r"(\d)e(-?\d)", r"\g<1>10\2", text)
    text = text.replace("∑", "Σ").replace("ˆ", "")  # a hat, which the text form sets as a mark
    plain = unicodedata.normalize("NFKD", text).replace("⁺", "+").replace("−", "-")
    return Counter(char for char in plain if char.isalnum() or char in RELATIONS)


def typeset(tex: str) -> str:
    """The text of the MathML, a root's sign included."""
    return html.unescape(re.sub(r"<[^>]+>", "", str(mathml(tex)).replace("<msqrt>", "√<msqrt>")))


def test_every_numbered_equation_has_a_formula() -> None:
    assert {f"EQ-{n}" for n in range(1, 48)} <= set(FORMULAS)


@pytest.mark.parametrize("identifier", FORMULAS)
def test_tex_is_typeset_and_holds_what_the_text_holds(identifier: str) -> None:
    clause = FORMULAS[identifier]
    assert content(typeset(clause.tex)) == content(clause.formula)


@pytest.mark.parametrize(
    "wrong", [r"\lambda_i", r"\lambda_j^2", r"-\lambda_j", r"\sqrt{\lambda_j}"]
)
def test_another_formula_shows(wrong: str) -> None:
    assert content(typeset(wrong)) != content("λ_j")
