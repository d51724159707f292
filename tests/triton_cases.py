"""The GPU kernels compute what the eager path computes: interpreted on the CPU, and on a GPU.

Run by ``test_torch_triton.py`` in a process of its own, since Triton decides when it is imported
whether to interpret. The interpreter shows the kernels' logic, not a GPU's rounding or its order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, Readings
from drifting_torch import DriftingLossOutput, drifting_loss
from drifting_torch.kernels import available, gpu
from drifting_torch.loss.together import alone
from drifting_torch.problem import wanted
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.wanted import KernelsUnavailableWarning
from drifting_torch.problem.weights import TargetWeights

RELEASE = PRESETS["release"]
TEMPERATURES = (0.05, 0.2)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
on_gpu = pytest.mark.skipif(
    INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device, not the interpreter"
)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run by Triton's interpreter on tensors of the CPU, or by a GPU on its own."""
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("needs TRITON_INTERPRET=1 or a CUDA device")
    monkeypatch.setattr(available, "_DEVICES", {DEVICE})
    monkeypatch.setattr(available, "_STATE", dict[str, ModuleType | None]())
    monkeypatch.setattr(available, "_FAILED", set[tuple[object, ...]]())
    monkeypatch.setattr(wanted, "_SAID", set[str]())


def samples(*shape: int, seed: int) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(DEVICE)


def inputs(
    generated: int = 5, positive: int = 7, unconditional: int = 3, channels: int = 19
) -> dict[str, Any]:
    """Samples [2, ·, 2, C]; the weights hold a zero."""
    given: dict[str, Any] = {
        "generated": samples(2, generated, 2, channels, seed=1),
        "positive": samples(2, positive, 2, channels, seed=2) + 0.3,
    }
    if unconditional:
        weight = torch.linspace(0, 2, unconditional, dtype=torch.float64, device=DEVICE)
        given["unconditional"] = samples(2, unconditional, 2, channels, seed=3)
        given["unconditional_weight"] = weight.expand(2, -1)
    return given


def solved(
    given: dict[str, Any],
    dtype: torch.dtype,
    readings: Readings = PAPER,
    temperatures: tuple[float, ...] = TEMPERATURES,
    **options: Any,
) -> tuple[DriftingLossOutput, Tensor]:
    """Loss and gradient, with 3 arriving at the loss."""
    cast = {key: value.to(dtype) for key, value in given.items()}
    cast["generated"] = cast["generated"].detach().requires_grad_()
    found = drifting_loss(**cast, readings=readings, temperatures=temperatures, **options)
    (3 * found.loss).backward()
    assert cast["generated"].grad is not None
    return found, cast["generated"].grad


def agree(
    given: dict[str, Any],
    readings: Readings = PAPER,
    dtype: torch.dtype = torch.float32,
    limit: float = 5e-6,
    **options: Any,
) -> None:
    """Kernels against the eager path, which computes in float64 from the same rounded inputs."""
    found, gradient = solved(given, dtype, readings, **options)
    exact, other = solved(
        {key: value.to(dtype).double() for key, value in given.items()},
        torch.float64,
        readings,
        **options,
    )
    close = torch.testing.assert_close
    close(found.per_label.double(), exact.per_label, rtol=limit, atol=1e-30)
    close(found.feature_scale.double(), exact.feature_scale, rtol=limit, atol=1e-30)
    close(found.drift_scale.double(), exact.drift_scale, rtol=2 * limit, atol=1e-30)
    rounding = float(torch.finfo(dtype).eps) if dtype != torch.float32 else 0.0
    assert float((gradient.double() - other).norm()) <= (limit + rounding) * float(other.norm())


SHAPES = [(5, 7, 3, 19), (33, 20, 0, 8), (1, 4, 2, 3), (17, 1, 17, 40)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("kernels")
def test_shapes(shape: tuple[int, int, int, int]) -> None:
    agree(inputs(*shape), RELEASE)


AXES = {
    "paper": PAPER,
    "each label": replace(PAPER, statistics_scope="label"),
    "each vector": replace(PAPER, location_sharing="none"),
    "seed": replace(PAPER, floors="seed", self_mask="add_1e6"),
    "floor": replace(PAPER, affinity_floor="1e-6"),
    "outside": replace(PAPER, unconditional_weight="after_softmaxes"),
    "mse mean": replace(PAPER, temperature_aggregation="per_temperature_mse_mean"),
    "positives": replace(PAPER, scale_samples="positives"),
    "negatives": replace(RELEASE, scale_samples="negatives", scale_self_pairs="without"),
    "without self": replace(RELEASE, scale_self_pairs="without"),
}


@pytest.mark.parametrize("name", AXES)
@pytest.mark.usefixtures("kernels")
def test_readings(name: str) -> None:
    agree(inputs(), AXES[name])


@pytest.mark.usefixtures("kernels")
def test_a_mask_that_is_felt() -> None:
    agree(inputs(), replace(PAPER, self_mask="add_100"), temperatures=(20.0,))


@pytest.mark.usefixtures("kernels")
def test_strided_inputs() -> None:
    """Channels last in memory or not, samples every other one: read where they lie."""
    given = inputs()
    for key in ("generated", "positive", "unconditional"):
        wide = torch.zeros(
            *[2 * size for size in given[key].shape], dtype=torch.float64, device=DEVICE
        )
        wide[::2, ::2, ::2, ::2] = given[key]
        given[key] = wide[::2, ::2, ::2, ::2].permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    agree(given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.usefixtures("kernels")
def test_features_of_low_precision(dtype: torch.dtype) -> None:
    """Their values are widened; nothing but the gradient that is handed back is rounded."""
    given = inputs()
    weight = given.pop("unconditional_weight")
    parts = {key: value.to(dtype) for key, value in given.items()}
    kinds = torch.float32, torch.float64
    results: list[tuple[Tensor, Tensor]] = []
    for kind in kinds:
        leaf = parts["generated"].to(dtype if kind == torch.float32 else kind, copy=True)
        others = {
            key: value.to(dtype if kind == torch.float32 else kind)
            for key, value in parts.items()
            if key != "generated"
        }
        problem = problem_of(
            leaf,
            others["positive"],
            others["unconditional"],
            TargetWeights(weight),
            temperatures=TEMPERATURES,
            readings=PAPER,
        )
        solution = alone(replace(problem, dtype=kind))
        results.append((solution.per_label.double(), solution.slope.whole().double()))
    (found, slope), (exact, other) = results
    torch.testing.assert_close(found, exact, rtol=5e-6, atol=0)
    assert float((slope - other).norm() / other.norm()) < 5e-6


@pytest.mark.usefixtures("kernels")
def test_coincident_samples() -> None:
    """A generated sample that is a positive, and all positives in one place."""
    given = inputs(unconditional=0, channels=33)
    given["positive"][:, :5] = given["generated"]
    agree(given, limit=1e-4)
    given["positive"][:] = given["positive"][:, :1]
    agree(given, limit=1e-4)


@pytest.mark.usefixtures("kernels")
def test_all_samples_equal() -> None:
    given = {key: torch.ones_like(value) for key, value in inputs(unconditional=0).items()}
    for readings in (PAPER, RELEASE):
        found, gradient = solved(given, torch.float32, readings)
        assert found.loss.item() == 0
        assert not gradient.any()


@pytest.mark.parametrize("mean", [100.0, -1e4])
@pytest.mark.usefixtures("kernels")
def test_a_common_mean(mean: float) -> None:
    given = inputs(33, 9, 4, 24)
    for key in ("generated", "positive", "unconditional"):
        given[key] = given[key] + mean
    agree(given, limit=1e-4)


@pytest.mark.parametrize("channels", [24, 160])
@pytest.mark.usefixtures("kernels")
def test_the_first_sample_lies_far_off(channels: int) -> None:
    """A group is measured from the mean of its generated samples, not from one of them."""
    given = inputs(33, 9, 4, channels)
    given["generated"][:, 0] += 1e3
    agree(given, limit=2e-5)


@pytest.mark.usefixtures("kernels")
def test_far_clusters() -> None:
    given = inputs()
    given["positive"] = given["positive"] + 1e5
    agree(given, limit=1e-4)


@pytest.mark.usefixtures("kernels")
def test_traces_that_cancel() -> None:
    """Positives next to the generated samples, all affinities alike: drifts a 1e-3 of their terms.

    From traces λ would be wrong in its second digit.
    """
    given = inputs(5, 5, 0, 40)
    given["positive"] = given["generated"] + 1e-3 * given["positive"]
    agree(given, replace(PAPER, self_mask="add_100"), limit=1e-3, temperatures=(1e4, 2e4))


@pytest.mark.usefixtures("kernels")
def test_distances_at_their_floor() -> None:
    """Of samples as near as the release's floor distances tell no inner products."""
    given = inputs(unconditional=0, channels=40)
    agree({key: 1e-5 * value for key, value in given.items()}, RELEASE)


def problem(given: dict[str, Any]) -> Problem:
    given = {"unconditional": None, "unconditional_weight": None} | given
    samples = {key: value for key, value in given.items() if not key.endswith("_weight")}
    weights = TargetWeights(given.get("unconditional_weight"))
    return problem_of(
        **({"unconditional": None} | samples),
        weights=weights,
        temperatures=TEMPERATURES,
        readings=PAPER,
    )


@pytest.mark.usefixtures("kernels")
def test_what_the_kernels_do_not_cover_takes_the_eager_path() -> None:
    given = {key: value.float() for key, value in inputs().items()}
    assert available.kernels_for(problem(given)) is not None
    for change in (
        {"softmax_combination": "product"},
        {"softmax_axes": "y"},
        {"location_sharing": "all_pairs"},
        {"temperature_scaling": "raw"},
    ):
        other = replace(problem(given), readings=replace(PAPER, **change))
        assert available.kernels_for(other) is None
    assert available.kernels_for(replace(problem(given), dtype=torch.float64)) is None
    large = {"generated": torch.zeros(1, 129, 1, 2, device=DEVICE)}
    large["positive"] = large["generated"][:, :2]
    assert available.kernels_for(problem(large)) is None


@pytest.mark.usefixtures("kernels")
def test_the_environment_can_turn_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {key: value.float() for key, value in inputs().items()}
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    assert available.kernels_for(problem(given)) is None
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "no")
    with pytest.raises(ValueError, match="DRIFTING_TORCH_KERNELS is 'no', expected 'auto' or"):
        available.kernels_for(problem(given))


def broken(*arguments: object) -> ModuleType:
    raise ImportError("No module named 'triton'")


@pytest.mark.usefixtures("kernels")
def test_without_triton_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "_loaded", broken)
    with pytest.warns(KernelsUnavailableWarning, match="Triton kernels cannot be used.*triton'"):
        found, _ = solved(inputs(), torch.float32)
    again, _ = solved(inputs(), torch.float32)  # a second warning would be an error
    assert torch.equal(found.loss, again.loss)


@pytest.mark.usefixtures("kernels")
def test_an_old_triton_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton, "__version__", "2.1.0")
    with pytest.warns(
        KernelsUnavailableWarning, match=r"Triton is 2\.1\.0, expected 3\.3 or newer"
    ):
        solved(inputs(), torch.float32)


class Failing:
    """Stands for a kernel that does not compile."""

    def __getitem__(self, grid: object) -> object:
        raise RuntimeError("out of resource: shared memory")


@pytest.mark.parametrize("failing", ["measure", "scale", "correlate", "drift", "gradient"])
@pytest.mark.usefixtures("kernels")
def test_a_kernel_that_fails_one_warning(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, failing, Failing())
    given = inputs()
    with pytest.warns(KernelsUnavailableWarning, match="RuntimeError: out of resource"):
        found, gradient = solved(given, torch.float32)
    exact, other = solved(given, torch.float64)
    torch.testing.assert_close(found.loss.double(), exact.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), other, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("kernels")
def test_one_shape_that_fails_leaves_the_kernels_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {key: value.float() for key, value in inputs().items()}
    wider = {key: value.float() for key, value in inputs(channels=33).items()}
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "correlate", Failing())
        with pytest.warns(KernelsUnavailableWarning, match=r"for P \d+, N \d+, U \d+, C 19"):
            drifting_loss(**given, temperatures=TEMPERATURES)
    assert available.kernels_for(problem(given)) is None
    assert available.kernels_for(problem(wider)) is not None
    drifting_loss(**wider, temperatures=TEMPERATURES)  # a warning would be an error


@pytest.mark.usefixtures("kernels")
def test_memory_that_is_short_is_the_callers_to_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that could not have their memory once are used again."""

    class Short:
        def __getitem__(self, grid: object) -> object:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    given = {key: value.float() for key, value in inputs().items()}
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "correlate", Short())
        with pytest.raises(torch.cuda.OutOfMemoryError):
            drifting_loss(**given)
    assert available.kernels_for(problem(given)) is not None


@pytest.mark.usefixtures("kernels")
def test_real_features_made_in_inference_mode() -> None:
    given = {key: value.float() for key, value in inputs().items()}
    expected, gradient = solved(given, torch.float32)
    with torch.inference_mode():
        given |= {key: given[key] * 1 for key in ("positive", "unconditional")}
    assert given["positive"].is_inference()
    found, other = solved(given, torch.float32)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(gradient, other)


def test_precision_is_checked() -> None:
    with pytest.raises(ValueError, match="precision is 'half', expected 'float32' or 'tf32'"):
        drifting_loss(torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2), precision="half")


@on_gpu
@pytest.mark.parametrize(("precision", "limit"), [("float32", 1e-5), ("tf32", 2e-2)])
@pytest.mark.parametrize("readings", [PAPER, RELEASE], ids=["paper", "release"])
def test_on_a_gpu(precision: str, limit: float, readings: Readings) -> None:
    given = {key: value.cuda() for key, value in inputs(64, 64, 16, 256).items()}
    agree(given, readings, limit=limit, precision=precision)


def captures_without_synchronisation(step: Callable[[], Tensor]) -> None:
    """Demand that a step never waits for the device, and gives the same from a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_sync_debug_mode("error")
    try:
        expected = step().detach().clone()  # a graph kept alive would stay on this stream
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.testing.assert_close(captured, expected)


@on_gpu
def test_no_synchronisation_and_capture_in_a_graph() -> None:
    given = {key: value.cuda().float() for key, value in inputs(64, 64, 16, 64).items()}
    leaf = given.pop("generated").requires_grad_()

    def step() -> Tensor:
        leaf.grad = None
        found = drifting_loss(leaf, **given)
        found.loss.backward()
        return found.loss

    captures_without_synchronisation(step)


def bent(given: dict[str, Any], dtype: torch.dtype, readings: Readings) -> list[Tensor]:
    """Second derivatives by the samples, by a factor, and by what arrives at the labels."""
    cast = {key: value.to(dtype) for key, value in given.items()}
    leaf = cast["generated"].detach().requires_grad_()
    found = drifting_loss(
        **(cast | {"generated": leaf}), readings=readings, temperatures=TEMPERATURES
    )
    factor = torch.tensor(3.0, dtype=found.loss.dtype, device=DEVICE, requires_grad=True)
    labels = torch.tensor([0.5, -2.0], dtype=found.loss.dtype, device=DEVICE, requires_grad=True)
    value = factor * found.loss + (labels * found.per_label).sum()
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    parts = (leaf, factor, labels)
    seconds = torch.autograd.grad(slope, parts, leaf.detach().square(), create_graph=True)
    (third,) = torch.autograd.grad(seconds[2].sum(), leaf)
    batched = torch.autograd.grad(
        found.per_label,
        leaf,
        torch.eye(2, dtype=labels.dtype, device=DEVICE),
        is_grads_batched=True,
    )
    return [each.detach().double() for each in (*seconds, third, *batched)]


@pytest.mark.parametrize("name", ["paper", "release", "apart", "each temperature"])
@pytest.mark.parametrize("failing", ["none", "measure", "gradient"])
@pytest.mark.usefixtures("kernels")
def test_second_derivatives(name: str, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the kernels, and of the eager path that takes over where one fails."""
    readings = {
        "paper": PAPER,
        "release": RELEASE,
        "apart": replace(PAPER, statistics_scope="label", location_sharing="none"),
        "each temperature": replace(PAPER, temperature_aggregation="per_temperature_mse"),
    }[name]
    exact = bent(inputs(), torch.float64, readings)
    if failing == "none":
        found = bent(inputs(), torch.float32, readings)
    else:
        monkeypatch.setattr(gpu, failing, Failing())
        with pytest.warns(KernelsUnavailableWarning):
            found = bent(inputs(), torch.float32, readings)
    for mine, other in zip(found, exact, strict=True):
        assert float((mine - other).norm()) <= 1e-5 * float(other.norm())
        assert float(other.norm()) > 0


@pytest.mark.usefixtures("kernels")
def test_transformations_of_functions() -> None:
    """``torch.func`` goes by the operator, which the kernels compute."""
    given = {key: value.float() for key, value in inputs().items()}
    generated = given.pop("generated")

    def loss(x: Tensor) -> Tensor:
        return drifting_loss(x, **given, temperatures=TEMPERATURES).loss

    leaf = generated.requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(leaf.detach()), slope, rtol=1e-5, atol=1e-9)
