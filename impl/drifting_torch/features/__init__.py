"""The features of A.3 and A.5: encoder, maps, vectors."""

from __future__ import annotations

from drifting_torch.features.encoder import MAEResNetEncoder
from drifting_torch.features.extraction import extract_features
from drifting_torch.features.vectors import (
    FeatureVectorizationConfig,
    extract_feature_maps,
    group_by_label,
    vectorize_feature_maps,
)

__all__ = [
    "FeatureVectorizationConfig",
    "MAEResNetEncoder",
    "extract_feature_maps",
    "extract_features",
    "group_by_label",
    "vectorize_feature_maps",
]
