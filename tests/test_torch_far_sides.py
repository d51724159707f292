"""Drifts so small that float32 does not hold them are normalised by λ all the same (A.6)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from drifting_reference import drifting_loss as reference_loss
from drifting_torch import drifting_loss

TEMPERATURES = (0.02, 0.05, 0.2)


def far_positive(count: int, others: int, channels: int, apart: float) -> tuple[Tensor, ...]:
    """Samples close together, a single positive ``apart`` from them, and others about both."""
    source = torch.Generator().manual_seed(count + 10 * others + 100 * channels)
    generated = 0.1 * torch.randn(2, count, 1, channels, generator=source)
    positive = torch.randn(2, 1, 1, channels, generator=source) * 0.1 + apart
    unconditional = 0.1 * torch.randn(2, others, 1, channels, generator=source)
    return generated, positive, unconditional


@pytest.mark.parametrize("kernels", ["on", "off"])
@pytest.mark.parametrize(
    ("count", "others", "channels"), [*product((2, 16), (0, 1, 8), (1, 3, 6, 200))]
)
def test_a_far_positive_is_normalised(
    count: int, others: int, channels: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels == "off":
        monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    for apart in (0.5, 2.0, 5.0):
        generated, positive, unconditional = far_positive(count, others, channels, apart)
        weight = torch.full((2, others), 0.01) if others else None
        given = unconditional if others else None
        generated.requires_grad_()
        found = drifting_loss(generated, positive, given, weight, temperatures=TEMPERATURES)
        found.loss.backward()
        expected = reference_loss(
            generated.detach().double().numpy(),
            positive.double().numpy(),
            None if given is None else given.double().numpy(),
            None if weight is None else weight.double().numpy(),
            temperatures=TEMPERATURES,
        )
        assert generated.grad is not None
        assert found.loss.item() == pytest.approx(expected.loss, rel=2e-4)
        size = np.linalg.norm(expected.gradient)
        assert np.linalg.norm(generated.grad.numpy() - expected.gradient) <= 1e-3 * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("count", "positives"), [(1, 1), (1, 3), (4, 1), (4, 4)])
def test_coinciding_samples_have_no_drift(count: int, positives: int, dtype: torch.dtype) -> None:
    generated = torch.ones(2, count, 1, 3, dtype=dtype, requires_grad=True)
    found = drifting_loss(generated, torch.ones(2, positives, 1, 3, dtype=dtype))
    found.loss.backward()
    assert found.loss.item() == 0.0
    assert generated.grad is not None
    assert not generated.grad.any()
