"""Which code computes the loss on which device."""

from __future__ import annotations

from drifting_torch.eager.fused import call
from drifting_torch.kernels import available


def backends() -> dict[str, str]:
    """What computes the loss, by type of device, and why not something faster.

    ``cpu``: the compiled kernel, made by the machine's own compiler at the first call that needs it
    (this one makes it), or PyTorch's operators. ``cuda``: the Triton kernels or PyTorch's
    operators.
    A call whose readings, sizes or numbers a kernel does not take goes to PyTorch's operators as
    well: the CPU's serves one exponential for all temperatures (whole-number ratios, the geometric
    mean, S divided out), the GPU's float32 and at most 128 samples of a kind. Every other device
    has PyTorch's operators alone.
    """
    library = call.library()
    return {
        "cpu": "compiled" if library.loaded is not None else f"operators: {library.why}",
        "cuda": available.described(),
    }
