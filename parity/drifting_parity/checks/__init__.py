"""Every check there is, and every property, in the order of the paper.

``CHECKS`` is made of the modules' own lists; nothing is listed by hand here but the modules.
"""

from __future__ import annotations

from typing import Any

from drifting_parity.checks import comparisons, headlines
from drifting_parity.checks.core import Check, Property
from drifting_parity.checks.features import encoder
from drifting_parity.checks.features import vectors as feature_properties
from drifting_parity.checks.field import properties as field_properties
from drifting_parity.checks.generator import blocks, conditioning, layers, style
from drifting_parity.checks.generator import sizes as generator_sizes
from drifting_parity.checks.generator import vectors as generator_vectors
from drifting_parity.checks.loss import normalization as loss_properties
from drifting_parity.checks.loss import numerics, sizes, taken
from drifting_parity.checks.paper import identifiability as theory
from drifting_parity.checks.paper import laws, table8
from drifting_parity.checks.paper import mmd as discrepancy
from drifting_parity.checks.training import (
    grouped_step,
    sample_queue,
)
from drifting_parity.checks.training import (
    guidance as guidance_properties,
)
from drifting_parity.checks.vectors import (
    by_hand as golden_values,
)
from drifting_parity.checks.vectors import (
    digits,
)
from drifting_parity.checks.vectors import (
    encoder as encoder_vectors,
)
from drifting_parity.checks.vectors import (
    release_and_seed as vectors,
)
from drifting_parity.checks.vectors import (
    training as training_vectors,
)

PROPERTIES: tuple[Property[Any], ...] = (
    *field_properties.PROPERTIES,
    *loss_properties.PROPERTIES,
    *guidance_properties.PROPERTIES,
    *feature_properties.PROPERTIES,
    *encoder.PROPERTIES,
    *layers.PROPERTIES,
    *blocks.PROPERTIES,
    *conditioning.PROPERTIES,
    *style.PROPERTIES,
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
    *sizes.CHECKS,
    *taken.CHECKS,
    *vectors.CHECKS,
    *encoder.CHECKS,
    *encoder_vectors.CHECKS,
    *generator_sizes.CHECKS,
    *generator_vectors.CHECKS,
    *sample_queue.CHECKS,
    *grouped_step.CHECKS,
    *training_vectors.CHECKS,
    *digits.CHECKS,
    *theory.CHECKS,
    *discrepancy.CHECKS,
    *laws.CHECKS,
    *table8.CHECKS,
)
