"""The solver on PyTorch's operators: every device, every reading."""
