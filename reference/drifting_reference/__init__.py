"""The paper "Generative Modeling via Drifting" as literal NumPy: one function per equation.

Float64, slow on purpose, in the paper's order: :mod:`~drifting_reference.particles` (Sec. 3.1),
``training`` (3.2, Algorithm 1), ``kernels``, ``field`` and ``algorithm2`` (3.3), ``guidance``
(3.5, A.7), ``features`` (A.5), ``normalization``, ``loss`` and ``feature_loss`` (A.6). Written
to be read beside the paper; knows ``drifting_spec`` and nothing else of this project.
"""

from __future__ import annotations

from drifting_reference.algorithm2 import (
    affinity,
    balance,
    compute_V,
    compute_V_from_distances,
    drift,
)
from drifting_reference.feature_loss import (
    FeatureSpaceLoss,
    feature_space_drifting_loss,
    vanilla_drifting_loss,
)
from drifting_reference.features import (
    input_x2,
    maps_per_side,
    total_vector_count,
    vector_count,
    vectorize_feature_maps,
)
from drifting_reference.field import (
    eq7_field,
    eq10_field,
    eq11_field,
    kernel_sums,
    mean_shift,
    pair_field,
    y_softmax_factor,
)
from drifting_reference.guidance import (
    alpha_to_gamma,
    cfg_alpha_to_weight,
    gamma_to_alpha,
    guided_distribution,
    mixed_negatives,
    weight_to_alpha,
    weight_to_gamma,
    weighted_negatives,
)
from drifting_reference.kernels import distances, kernel, normalized_kernel, normalizer
from drifting_reference.loss import TEMPERATURES, DriftingLoss, FrozenTarget, drifting_loss
from drifting_reference.particles import evolve, fixed_point_residual, next_output, pushforward
from drifting_reference.training import (
    TrainingStep,
    antisymmetry_defect,
    feature_training_loss,
    multi_feature_training_loss,
    training_loss,
    training_loss_gradient,
    training_step,
)

__all__ = [
    "TEMPERATURES",
    "DriftingLoss",
    "FeatureSpaceLoss",
    "FrozenTarget",
    "TrainingStep",
    "affinity",
    "alpha_to_gamma",
    "antisymmetry_defect",
    "balance",
    "cfg_alpha_to_weight",
    "compute_V",
    "compute_V_from_distances",
    "distances",
    "drift",
    "drifting_loss",
    "eq7_field",
    "eq10_field",
    "eq11_field",
    "evolve",
    "feature_space_drifting_loss",
    "feature_training_loss",
    "fixed_point_residual",
    "gamma_to_alpha",
    "guided_distribution",
    "input_x2",
    "kernel",
    "kernel_sums",
    "maps_per_side",
    "mean_shift",
    "mixed_negatives",
    "multi_feature_training_loss",
    "next_output",
    "normalized_kernel",
    "normalizer",
    "pair_field",
    "pushforward",
    "total_vector_count",
    "training_loss",
    "training_loss_gradient",
    "training_step",
    "vanilla_drifting_loss",
    "vector_count",
    "vectorize_feature_maps",
    "weight_to_alpha",
    "weight_to_gamma",
    "weighted_negatives",
    "y_softmax_factor",
]
