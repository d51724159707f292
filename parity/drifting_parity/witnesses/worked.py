"""Examples small enough to follow by hand, step by step, computed with the reference.

The pages of Algorithm 2, A.6 and A.7 show them; the numbers ship in ``catalogue/worked.json``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import G1, G2
from drifting_reference import cfg_alpha_to_weight, compute_V, distances
from drifting_reference.algorithm2 import affinities, balance, mask_distances
from drifting_spec import PAPER


@dataclass(frozen=True)
class Step:
    """One step of an example: its clause, what it gives as TeX, and the number or array."""

    clause: str
    tex: str
    value: str


@dataclass(frozen=True)
class Worked:
    """An example of a section: what goes in, then step by step what comes out."""

    section: str
    given: str
    steps: tuple[Step, ...]


def _text(value: object) -> str:
    """A number with six digits, an array of them in brackets."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return f"{float(array) + 0.0:.6g}"
    return "[" + ", ".join(_text(item) for item in array) + "]"


def worked_examples() -> list[Worked]:
    """Compute the examples."""
    return [_algorithm_2(), _normalisation(), _guidance()]


def _algorithm_2() -> Worked:
    x, y = G1.x, G1.y_pos
    to_positives, to_negatives = distances(x, y), distances(x, x)
    masked, present = mask_distances(to_negatives, True, PAPER, 1.0)
    logit = -np.concatenate([to_positives, masked], axis=1)
    everything = np.concatenate([np.ones((2, 1), dtype=np.bool_), present], axis=1)
    A_pos, A_neg = affinities(logit, everything, np.ones(3), 1, PAPER)
    W_pos, W_neg = balance(A_pos, A_neg)
    steps = (
        Step("ALG2-1", r"\mathrm{dist}_{\mathrm{pos}}", _text(to_positives)),
        Step("ALG2-2", r"\mathrm{dist}_{\mathrm{neg}}", _text(to_negatives)),
        Step("ALG2-6", r"A_{\mathrm{pos}}", _text(A_pos)),
        Step("ALG2-6", r"A_{\mathrm{neg}}", _text(A_neg)),
        Step("ALG2-9", r"W_{\mathrm{pos}}", _text(W_pos)),
        Step("ALG2-9", r"W_{\mathrm{neg}}", _text(W_neg)),
        Step("ALG2-10", "V", _text(compute_V(x, y, x, 1.0, mask_self=True)[:, 0])),
    )
    given = "Two generated samples on a line at 0 and 1, which are the negatives too; one positive "
    return Worked("Alg. 2", f"{given}at 2; T = 1. Rows are the generated samples.", steps)


def _normalisation() -> Worked:
    out = G2.loss()
    scale = float(out.feature_scale.item())

    def of(array: Array) -> Array:
        return array.reshape(-1)

    steps = [
        Step("EQ-21", r"S", _text(scale)),
        Step("EQ-18", r"\tilde{\phi}(x)", _text(of(G2.generated) / scale)),
        Step("EQ-18", r"\tilde{\phi}(y^+)", _text(of(G2.positive) / scale)),
    ]
    for at, tau in enumerate((0.02, 0.05, 0.2)):
        V, size = of(out.drifts[at]), float(out.drift_scale[at].item())
        steps += [
            Step("ALG2-10", rf"\mathbf{{V}} \text{{ at }} \tau = {tau}", _text(V)),
            Step("EQ-25", rf"\lambda \text{{ at }} \tau = {tau}", _text(size)),
            Step("EQ-23", rf"\tilde{{\mathbf{{V}}}} \text{{ at }} \tau = {tau}", _text(V / size)),
        ]
    steps += [
        Step("EQ-A6tau", r"\sum_\tau \tilde{\mathbf{V}}_\tau", _text(of(out.drift))),
        Step("EQ-26", r"\mathcal{L}", _text(out.loss)),
        Step("EQ-26", r"\partial\mathcal{L}/\partial\phi(x)", _text(of(out.gradient))),
    ]
    given = "Two generated samples of one channel at 0 and 1, which are the negatives too; one "
    return Worked("A.6", f"{given}positive at 2; τ = 0.02, 0.05, 0.2.", tuple(steps))


def _guidance() -> Worked:
    x, y_pos, y_unc = G1.x, G1.y_pos, np.array([[-1.0]])
    w = cfg_alpha_to_weight(3.0, 2, 1)
    V = compute_V(
        *(x, y_pos, np.concatenate([x, y_unc]), 1.0),
        mask_self=True,
        negative_weight=np.array([1.0, 1.0, w]),
    )
    steps = (
        Step("A7-w", "w", _text(w)),
        Step("EQ-A7gamma", r"\gamma", _text(w / (1 + w))),
        Step("ALG2-10", r"\mathbf{V}", _text(V[:, 0])),
    )
    given = "Two generated samples on a line at 0 and 1, which are negatives too; one positive at "
    return Worked("A.7", f"{given}2, one unconditional sample at −1; α = 3, T = 1.", steps)
