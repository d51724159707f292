"""Checks of what callers hand in: tensors, modules, arrays, and what stands for a tensor."""
