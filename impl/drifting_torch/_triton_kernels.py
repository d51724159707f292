"""The GPU kernels in the order of their launches, and how whole numbers are told to them."""

from drifting_torch._triton_correlate import correlate
from drifting_torch._triton_gradient import gradient
from drifting_torch._triton_measure import measure
from drifting_torch._triton_segments import told
from drifting_torch._triton_statistics import drift, scale

__all__ = ["correlate", "drift", "gradient", "measure", "scale", "told"]
