"""The generator of A.2: noise, class labels and guidance scales in, samples out, in one call."""

from drifting_torch.generator.config import DriftingTransformerConfig
from drifting_torch.generator.transformer import DriftingTransformer

__all__ = ["DriftingTransformer", "DriftingTransformerConfig"]
