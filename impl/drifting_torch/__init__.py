"""The drifting loss of "Generative Modeling via Drifting" in PyTorch, for training.

``drifting_loss`` is the loss of one feature, ``feature_space_drifting_loss`` that of all features
with the vanilla term, ``drifting_field`` Algorithm 2 alone. The defaults follow the paper's text;
``drifting_spec.Readings`` holds every choice that the text leaves open.
"""

from __future__ import annotations

from drifting_torch.feature_loss import (
    FeatureDriftingConfig,
    FeatureDriftingLossOutput,
    feature_space_drifting_loss,
)
from drifting_torch.features import (
    FeatureVectorizationConfig,
    extract_feature_maps,
    group_by_label,
    vectorize_feature_maps,
)
from drifting_torch.field import drifting_field
from drifting_torch.guidance import cfg_alpha_to_weight
from drifting_torch.loss import DriftingLossOutput, drifting_loss
from drifting_torch.streaming import stream_drifting_loss

__all__ = [
    "DriftingLossOutput",
    "FeatureDriftingConfig",
    "FeatureDriftingLossOutput",
    "FeatureVectorizationConfig",
    "cfg_alpha_to_weight",
    "drifting_field",
    "drifting_loss",
    "extract_feature_maps",
    "feature_space_drifting_loss",
    "group_by_label",
    "stream_drifting_loss",
    "vectorize_feature_maps",
]
