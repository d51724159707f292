"""The drifting loss of one feature and of all, and the field alone (A.6)."""

from __future__ import annotations

from drifting_torch.loss.all_features import (
    FeatureDriftingConfig,
    FeatureDriftingLossOutput,
    feature_space_drifting_loss,
)
from drifting_torch.loss.field import DriftingFields, drifting_field, drifting_fields
from drifting_torch.loss.one_feature import drifting_loss
from drifting_torch.loss.output import DriftingLossOutput
from drifting_torch.loss.streaming import stream_drifting_loss

__all__ = [
    "DriftingFields",
    "DriftingLossOutput",
    "FeatureDriftingConfig",
    "FeatureDriftingLossOutput",
    "drifting_field",
    "drifting_fields",
    "drifting_loss",
    "feature_space_drifting_loss",
    "stream_drifting_loss",
]
