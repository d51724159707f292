"""Every check there is, and every property, in the order of the paper.

``CHECKS`` is made of the modules' own lists; nothing is listed by hand here but the modules.
"""

from __future__ import annotations

from typing import Any

from drifting_parity.checks import (
    comparisons,
    digits,
    discrepancy,
    encoder,
    encoder_vectors,
    feature_properties,
    field_properties,
    golden_values,
    grouped_step,
    guidance_properties,
    headlines,
    laws,
    loss_properties,
    numerics,
    sample_queue,
    table8,
    theory,
    training_vectors,
    vectors,
)
from drifting_parity.checks.core import Check, Property

PROPERTIES: tuple[Property[Any], ...] = (
    *field_properties.PROPERTIES,
    *loss_properties.PROPERTIES,
    *guidance_properties.PROPERTIES,
    *feature_properties.PROPERTIES,
    *encoder.PROPERTIES,
    *sample_queue.PROPERTIES,
    *grouped_step.PROPERTIES,
    *theory.PROPERTIES,
    *discrepancy.PROPERTIES,
    *laws.PROPERTIES,
)

CHECKS: tuple[Check, ...] = (
    *headlines.CHECKS,
    *golden_values.CHECKS,
    *(item.check() for item in PROPERTIES),
    *feature_properties.CHECKS,
    *comparisons.CHECKS,
    *numerics.CHECKS,
    *vectors.CHECKS,
    *encoder.CHECKS,
    *encoder_vectors.CHECKS,
    *sample_queue.CHECKS,
    *grouped_step.CHECKS,
    *training_vectors.CHECKS,
    *digits.CHECKS,
    *theory.CHECKS,
    *discrepancy.CHECKS,
    *laws.CHECKS,
    *table8.CHECKS,
)
