"""The stage of the computation that each clause speaks of, for measurements that name none."""

from __future__ import annotations

import re
from typing import Final

from drifting_parity.measure import Stage

OF_A_CLAUSE: Final[tuple[tuple[str, Stage], ...]] = (
    (r"ALG1-[12]|EQ-[56]|ALG1-[56]|S3-sg", "gradient"),
    (r"S3-neg-reuse|ALG1-3|S4-batch", "labels"),
    (r"ALG[12]-\d+|EQ-([2-4]|[7-9]|1[0-2]|17|27)", "field"),
    (r"EQ-(18|19|20|21)|A6-S", "scale"),
    (r"EQ-22|A6-tau|A6-taus", "temperature"),
    (r"EQ-(23|24|25)|A6-lambda", "drift scale"),
    (r"A6-order|EQ-A6tau", "aggregation"),
    (r"EQ-(15|16)|EQ-A7.*|A7-(w|weight-in-scale|selfmask-count)", "weights"),
    (r"A6-locshare", "locations"),
    (r"EQ-(13|14|26)|A6-mse|A6-sum-features|A5-sum", "reductions"),
    (r"A5-vanilla", "vanilla term"),
    (r"A5-.*", "vectors"),
    (r"A3-.*", "encoder"),
    (r"A7-.*|A8-.*|A9-.*|T8-.*", "training"),
)
"""Patterns of clause ids, the first that matches counts; what is left speaks of the paper."""

IN_THE_LOSS: Final[frozenset[Stage]] = frozenset(
    {
        "field",
        "scale",
        "temperature",
        "drift scale",
        "aggregation",
        "weights",
        "labels",
        "locations",
        "reductions",
        "gradient",
    }
)
"""The stages that the loss of one feature passes."""


def stage_of(clause: str) -> Stage:
    """The stage that a clause speaks of."""
    for pattern, stage in OF_A_CLAUSE:
        if re.fullmatch(pattern, clause):
            return stage
    return "paper"
