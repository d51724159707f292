"""The drifting loss of "Generative Modeling via Drifting" in PyTorch, for training.

``drifting_loss`` is the loss of one feature, ``feature_space_drifting_loss`` that of all features
with the vanilla term, ``drifting_field`` Algorithm 2 alone. The defaults follow the paper's text;
``drifting_spec.Readings`` holds every choice that the text leaves open.
"""

from __future__ import annotations

from drifting_torch.features.encoder import MAEResNetEncoder
from drifting_torch.features.extraction import extract_features
from drifting_torch.features.mae import (
    MAEDecoder,
    MaskedAutoencoder,
    ReconstructionOutput,
    classification_weight,
    reconstruction_loss,
    sample_mask,
)
from drifting_torch.features.patches import patchify, unpatchify
from drifting_torch.features.release_parameters import load_release_parameters
from drifting_torch.features.taps import LayerTaps
from drifting_torch.features.vectors import (
    FeatureVectorizationConfig,
    extract_feature_maps,
    group_by_label,
    vectorize_feature_maps,
)
from drifting_torch.generator import DriftingTransformer, DriftingTransformerConfig
from drifting_torch.loss.all_features import (
    FeatureDriftingConfig,
    FeatureDriftingLossOutput,
    feature_space_drifting_loss,
)
from drifting_torch.loss.backends import backends
from drifting_torch.loss.field import DriftingFields, drifting_field, drifting_fields
from drifting_torch.loss.inventory import slot_inventory
from drifting_torch.loss.one_feature import drifting_loss
from drifting_torch.loss.output import DriftingLossOutput
from drifting_torch.loss.streaming import stream_drifting_loss
from drifting_torch.problem.wanted import KernelsUnavailableWarning
from drifting_torch.training.config import GroupedDriftStepConfig, GroupedDriftStepOutput
from drifting_torch.training.guidance import (
    AlphaDistribution,
    cfg_alpha_to_weight,
    gamma_to_alpha,
    sample_alpha,
    weight_to_gamma,
)
from drifting_torch.training.micro_batches import MicroBatches
from drifting_torch.training.optimization import LinearWarmup, MovingAverage, clip_gradient_norm
from drifting_torch.training.queue import SampleQueue
from drifting_torch.training.step import grouped_drift_training_step

__all__ = [
    "AlphaDistribution",
    "DriftingFields",
    "DriftingLossOutput",
    "DriftingTransformer",
    "DriftingTransformerConfig",
    "FeatureDriftingConfig",
    "FeatureDriftingLossOutput",
    "FeatureVectorizationConfig",
    "GroupedDriftStepConfig",
    "GroupedDriftStepOutput",
    "KernelsUnavailableWarning",
    "LayerTaps",
    "LinearWarmup",
    "MAEDecoder",
    "MAEResNetEncoder",
    "MaskedAutoencoder",
    "MicroBatches",
    "MovingAverage",
    "ReconstructionOutput",
    "SampleQueue",
    "backends",
    "cfg_alpha_to_weight",
    "classification_weight",
    "clip_gradient_norm",
    "drifting_field",
    "drifting_fields",
    "drifting_loss",
    "extract_feature_maps",
    "extract_features",
    "feature_space_drifting_loss",
    "gamma_to_alpha",
    "group_by_label",
    "grouped_drift_training_step",
    "load_release_parameters",
    "patchify",
    "reconstruction_loss",
    "sample_alpha",
    "sample_mask",
    "slot_inventory",
    "stream_drifting_loss",
    "unpatchify",
    "vectorize_feature_maps",
    "weight_to_gamma",
]
