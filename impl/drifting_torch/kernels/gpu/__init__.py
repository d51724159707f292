"""The GPU kernels in the order of their launches, and how whole numbers are told to them."""

from drifting_torch.kernels.gpu.correlate import correlate
from drifting_torch.kernels.gpu.gradient import gradient
from drifting_torch.kernels.gpu.measure import measure
from drifting_torch.kernels.gpu.segments import told
from drifting_torch.kernels.gpu.statistics import drift, scale

__all__ = ["correlate", "drift", "gradient", "measure", "scale", "told"]
