"""The compiled CPU kernel: what it computes, and what happens where it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drifting_spec import PAPER, PRESETS, Readings
from drifting_torch import backends, drifting_loss
from drifting_torch.eager.fused import call, compiler, scratch
from drifting_torch.problem import wanted

HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler on this machine")

READINGS = {
    "paper": PAPER,
    "release": PRESETS["release"],
    "floor": replace(PAPER, affinity_floor="1e-6"),
    "outside": replace(PAPER, unconditional_weight="after_softmaxes"),
}

SIZES = {
    "usual": (1, 64, 64, 16, 5, 16),
    "labels": (3, 33, 20, 7, 4, 40),
    "lone": (2, 1, 3, 2, 3, 5),
    "no unconditional": (2, 9, 31, 0, 3, 6),
    "many channels": (1, 64, 64, 16, 2, 600),
    "slices of channels": (2, 13, 9, 4, 2, 1600),
}


def inputs(
    sizes: tuple[int, ...], dtype: torch.dtype, mean: float = 0.0
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    labels, generated, positive, unconditional, vectors, channels = sizes
    source = torch.Generator().manual_seed(5)

    def draw(count: int) -> Tensor:
        size = (labels, count, vectors, channels)
        return torch.randn(size, generator=source).to(dtype) + mean

    negatives, weight = None, None
    if unconditional:
        negatives = draw(unconditional)
        weight = torch.rand((labels, unconditional), generator=source, dtype=torch.float64).to(
            dtype
        )
        weight[:, 0] = 0.0
    return draw(generated), draw(positive) + 0.3, negatives, weight


def solved(
    given: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    readings: Readings = PAPER,
    temperatures: tuple[float, ...] = (0.05, 0.2, 0.02),
) -> tuple[Tensor, Tensor, Tensor]:
    leaf = given[0].clone().requires_grad_()
    found = drifting_loss(leaf, *given[1:], temperatures=temperatures, readings=readings)
    (found.per_label * torch.arange(1, len(leaf) + 1)).sum().backward()
    assert leaf.grad is not None
    return found.per_label.detach(), leaf.grad, found.drift_scale


def watched(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the compiled functions of these names say of each group from now on."""
    said: list[int] = []

    def watching(original: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
        def watched(*arguments: object) -> Tensor | None:
            served = original(*arguments)
            said.extend([] if served is None else served.tolist())
            return served

        return watched

    for name in names:
        monkeypatch.setattr(call, name, watching(getattr(call, name)))
    return said


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is said of each group's coefficients: 0 where operators must form them."""
    return watched(("drifts", "traces", "fill"), monkeypatch)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is said of each group's distances."""
    return watched(("measure",), monkeypatch)


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("temperatures", [(0.05, 0.2, 0.02), (0.3,), (0.3, 0.1, 0.05, 0.1)])
def test_it_computes_what_operators_compute(
    name: str,
    sizes: tuple[int, ...],
    temperatures: tuple[float, ...],
    calls: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = inputs(sizes, torch.float64)
    fused = solved(given, READINGS[name], temperatures)
    # A lone sample's column holds nothing: the general path's.
    assert calls
    assert all(calls) == (sizes != SIZES["lone"])
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    calls.clear()
    plain = solved(given, READINGS[name], temperatures)
    assert not calls
    for one, two in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


@needs_compiler
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_single_precision_is_as_good_as_operators(
    sizes: tuple[int, ...], mean: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(sizes, torch.float32, mean)
    fused = solved(given)[1].double()
    assert calls
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    plain = solved(given)[1].double()
    exact = solved(inputs(sizes, torch.float64, mean))[1]
    limit = (plain - exact).norm() * 1.5 + 3e-7 * exact.norm()
    assert (fused - exact).norm() <= limit


@needs_compiler
def test_an_outlier_column_takes_its_own_factor(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample far from all others leaves its column nothing, unless measured from the nearest."""
    given = inputs((1, 20, 20, 4, 3, 8), torch.float64)
    given[1][:, 3] *= 60.0
    fused = solved(given)
    assert 2 in calls
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    for one, two in zip(fused, solved(given), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-14)


@needs_compiler
@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_and_their_mean(
    name: str, dtype: torch.dtype, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S sees every distance; more than 64 rows are summed in parts."""
    given = inputs((2, 70, 20, 7, 3, 40), dtype)
    scale = drifting_loss(*given, readings=READINGS[name]).feature_scale
    assert measured
    assert all(measured)
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    plain = drifting_loss(*given, readings=READINGS[name]).feature_scale
    close = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(scale, plain, rtol=close, atol=0)


@needs_compiler
@pytest.mark.parametrize("apart", [0.0, 1e-4])
def test_samples_that_coincide_are_repaired(
    apart: float, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs((1, 20, 20, 4, 3, 40), torch.float32, mean=10.0)
    given[1][:, 2:6] = given[0][:, 2:6] + apart
    fused = solved(given)[1].double()
    assert 0 in measured
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    plain = solved(given)[1].double()
    exact = solved(inputs_as(given, torch.float64))[1]
    limit = (plain - exact).norm() * 1.5 + 3e-7 * exact.norm()
    assert (fused - exact).norm() <= limit


def inputs_as(
    given: tuple[Tensor, Tensor, Tensor | None, Tensor | None], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    generated, positive, negatives, weight = given
    return (
        generated.to(dtype),
        positive.to(dtype),
        None if negatives is None else negatives.to(dtype),
        None if weight is None else weight.to(dtype),
    )


@needs_compiler
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_arrives(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs((1, 6, 5, 2, 3, 8), torch.float32)
    given[1][0, 0, 1, 2] = value

    def loss() -> Tensor:
        return drifting_loss(
            given[0], *given[1:], temperatures=(0.05, 0.2), validate=False
        ).per_label

    fused = loss()
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    assert not fused.isfinite().any()
    assert not loss().isfinite().any()


@needs_compiler
@pytest.mark.parametrize("sizes", [(2, 16, 16, 4, 40, 12), (1, 13, 9, 4, 1, 2600)], ids=str)
def test_threads_change_no_bit(sizes: tuple[int, ...]) -> None:
    """Whether they share out groups or, where there are fewer of them, a group's channels."""
    given = inputs(sizes, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = solved(given)[1]
        torch.set_num_threads(2)
        two = solved(given)[1]
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(one, two, rtol=0, atol=0)


@needs_compiler
@pytest.mark.parametrize("channels", [40, 1600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_are_read_where_they_lie(
    channels: int, dtype: torch.dtype, calls: list[int]
) -> None:
    """Channels apart from one another, labels on top of one another, half precision."""
    drawn, positive, unconditional, weight = inputs((2, 9, 7, 3, 4, channels), torch.float32)
    assert unconditional is not None
    parts = [drawn.to(dtype), positive[:1].to(dtype).expand(2, -1, -1, -1), unconditional.to(dtype)]
    apart = [parts[0].transpose(1, 3).contiguous().transpose(1, 3), *parts[1:]]
    whole = [each.float().contiguous() for each in parts]
    odd, plain = (solved((*three, weight)) for three in (apart, whole))  # pyright: ignore[reportArgumentType] -- three of them
    assert len(calls) == 16
    assert all(calls)
    close = 1e-6 if dtype == torch.float32 else 1e-2  # what the gradient is rounded to
    for one, two in zip(odd, plain, strict=True):
        torch.testing.assert_close(one.float(), two, rtol=close, atol=1e-9)


@needs_compiler
@pytest.mark.parametrize("size", [1e-18, 1e12])
@pytest.mark.parametrize("channels", [40, 1600])
def test_features_of_any_unit_are_served(channels: int, size: float, calls: list[int]) -> None:
    generated, positive, *others = inputs((2, 9, 7, 3, 2, channels), torch.float32)
    plain = solved((generated, positive, *others))  # pyright: ignore[reportArgumentType] -- two
    scaled = solved((generated * size, positive * size, others[0] * size, others[1]))  # pyright: ignore[reportOptionalOperand]
    assert len(calls) == 8
    assert all(calls)
    torch.testing.assert_close(plain[0], scaled[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(plain[1], scaled[1] * size, rtol=1e-4, atol=1e-7)


@needs_compiler
def test_more_temperatures_than_it_takes_are_the_operators(calls: list[int]) -> None:
    solved(inputs(SIZES["labels"], torch.float32), temperatures=(0.2, 0.1) * 9)
    assert not calls


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[torch.UntypedStorage]:
    """The memory kept from now on."""
    monkeypatch.setattr(scratch, "_KEPT", [])
    return scratch._KEPT


def places(kept: list[torch.UntypedStorage]) -> list[tuple[int, int]]:
    return sorted((each.data_ptr(), each.nbytes()) for each in kept)


@needs_compiler
def test_memory_is_kept_for_the_next_call(
    kept: list[torch.UntypedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distances and all drifts but the one that is handed on; results do not lie in it."""
    given = inputs((1, 64, 64, 16, 60, 80), torch.float32)
    first = solved(given)
    before = places(kept)
    assert len(before) == 3
    copies = [each.clone() for each in first]
    with torch.inference_mode():
        drifting_loss(*given)
    solved((given[0] + 1, *given[1:]))
    assert places(kept) == before
    for one, two in zip(first, copies, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    kept.clear()
    solved(given)
    assert not kept


@needs_compiler
def test_little_memory_is_kept(
    kept: list[torch.UntypedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "_MOST", 10 * 2**20)
    like = torch.empty(())
    parts = [scratch.empty(like, (size * 2**18,), torch.float32) for size in (1, 7, 5, 2, 20)]
    scratch.give_back(*parts, torch.empty(10))
    assert [each.nbytes() // 2**20 for each in kept] == [7, 2, 1]
    again = scratch.empty(like, (2, 3 * 2**16), torch.float64)
    assert again.shape == (2, 3 * 2**16)
    assert again.data_ptr() == parts[1].data_ptr()  # 3 MiB in those of 7
    assert [each.nbytes() // 2**20 for each in kept] == [2, 1]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that has loaded nothing yet, with an empty cache."""
    monkeypatch.setattr(call, "_STATE", {})
    monkeypatch.setattr(wanted, "_SAID", set[str]())
    monkeypatch.setenv("DRIFTING_TORCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_without_a_compiler_operators_serve_after_one_warning(
    fresh: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(fresh))
    given = inputs(SIZES["usual"], torch.float32)
    with pytest.warns(wanted.KernelsUnavailableWarning, match=r"no C\+\+ compiler"):
        solved(given)
    solved(given)
    assert not calls
    assert backends()["cpu"].startswith("operators: no C++ compiler")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'error: cannot do that' >&2; exit 1", "cannot do that"),
        ("exit 0", "exit 0"),
        ('for last; do :; done; echo nonsense > "$last"', "does not load"),
    ],
    ids=["fails", "makes nothing", "makes nonsense"],
)
def test_a_compiler_that_fails_costs_one_warning(
    script: str, said: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = fresh / "cxx"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.warns(wanted.KernelsUnavailableWarning, match=said):
        solved(inputs(SIZES["lone"], torch.float32))


def test_a_compiler_that_is_not_there_costs_one_warning(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(fresh / "absent"))
    with pytest.warns(wanted.KernelsUnavailableWarning, match="does not run"):
        solved(inputs(SIZES["lone"], torch.float32))


def test_off_is_off_without_a_word(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTING_TORCH_KERNELS", "off")
    monkeypatch.setenv("CXX", str(fresh / "absent"))
    solved(inputs(SIZES["lone"], torch.float32))
    assert backends()["cpu"] == "operators: DRIFTING_TORCH_KERNELS is off"


@needs_compiler
def test_a_cache_that_cannot_be_written_is_done_without(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "file").write_text("")
    monkeypatch.setenv("DRIFTING_TORCH_CACHE", str(fresh / "file" / "below"))
    assert backends()["cpu"] == "compiled"


@needs_compiler
def test_a_library_that_does_not_load_is_made_again(fresh: Path) -> None:
    (fresh / "cache").mkdir()
    name = compiler.file_name(*compiler.source_and_command())
    made = fresh / "cache" / name
    made.write_bytes(b"no library")
    assert compiler.library().drifting_coefficients
    assert made.stat().st_size > 1000


@needs_compiler
def test_processes_that_begin_at_once_share_a_cache(fresh: Path) -> None:
    code = "from drifting_torch.eager.fused import compiler; compiler.library()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(timeout=300) for process in processes] == [0] * 4
    (made,) = (fresh / "cache").iterdir()
    before = made.stat().st_mtime_ns
    time.sleep(0.01)
    compiler.library()
    assert made.stat().st_mtime_ns == before
