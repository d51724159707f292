"""The generator of A.2: options, precision, compilation, foreign parameters, bad input, checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from broken_generators import RIGHT, VARIANTS
from torch import Tensor

import drifting_reference as reference
from drifting_parity import golden
from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.cases import Setting, rounded
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Context
from drifting_parity.checks.generator.drawn import drawn_parameters
from drifting_parity.judging.verdicts import run_check
from drifting_reference import generator as literal
from drifting_spec import PAPER
from drifting_spec.generator import (
    GeneratorSizes,
    multiply_adds,
    parameter_count,
    parameter_shapes,
    sizes_of_table8,
)
from drifting_spec.registry import load
from drifting_spec.table8 import COLUMNS
from drifting_torch import (
    DriftingTransformer,
    DriftingTransformerConfig,
    GroupedDriftStepConfig,
    grouped_drift_training_step,
    load_release_parameters,
)
from drifting_torch.generator import layers, transformer

SPEC = load()
BY_ID = {check.id: check for check in CHECKS}
SIZES = GeneratorSizes(8, 3, 2, 24, 2, 3, 5, 16, 4, 3, 6)


def small(seed: int = 0, **changes: Any) -> DriftingTransformer:
    """A generator whose parameters are all moved away from where they start."""
    torch.manual_seed(seed)
    generator = DriftingTransformer(DriftingTransformerConfig(**(asdict(SIZES) | changes))).double()
    with torch.no_grad():
        for each in generator.parameters():
            each.add_(0.2 * torch.randn_like(each))
    return generator


def inputs(count: int = 5, seed: int = 1, sizes: GeneratorSizes = SIZES) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, sizes.channels, 8, 8, dtype=torch.float64, generator=random)
    labels = torch.randint(sizes.classes, (count,), generator=random)
    alpha = 1 + 3 * torch.rand(count, dtype=torch.float64, generator=random)
    style = torch.randint(sizes.style_entries, (count, sizes.style_tokens), generator=random)
    return noise, labels, alpha, style


def relative(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.detach(), wanted.detach()
    return float((got.double() - wanted).norm() / wanted.norm())


# What it computes.


def arrays(generator: DriftingTransformer) -> dict[str, Any]:
    return {name: each.detach().numpy() for name, each in generator.release_parameters().items()}


@pytest.mark.parametrize("style_codebooks", ["separate", "shared"])
@pytest.mark.parametrize("prefix_content", ["one", "own"])
@pytest.mark.parametrize("rotary_positions", ["sequence", "patches"])
def test_every_choice_is_that_of_the_reference(
    style_codebooks: Any, prefix_content: Any, rotary_positions: Any
) -> None:
    generator = small(
        style_codebooks=style_codebooks,
        prefix_content=prefix_content,
        rotary_positions=rotary_positions,
    )
    given = inputs()
    expected = reference.generate(
        *(each.numpy() for each in given),
        arrays(generator),
        patch_size=2,
        heads=3,
        rotary_positions=rotary_positions,
    )["samples"]
    got = generator(*given)
    assert relative(got, torch.tensor(expected)) < 1e-14
    usual = small()(*given)
    plain = (style_codebooks, prefix_content, rotary_positions) == ("separate", "one", "sequence")
    assert (relative(got, usual) == 0) == plain


@pytest.mark.parametrize("missing", [{"prefix_tokens": 0}, {"style_tokens": 0}])
def test_it_works_without_prefix_or_style(missing: dict[str, int]) -> None:
    generator = small(**missing)
    noise, labels, alpha, style = inputs()
    style = style[:, : generator.config.style_tokens]
    expected = reference.generate(
        *(each.numpy() for each in (noise, labels, alpha, style)),
        arrays(generator),
        patch_size=2,
        heads=3,
    )["samples"]
    assert relative(generator(noise, labels, alpha, style), torch.tensor(expected)) < 1e-14
    if "style_tokens" in missing:
        assert torch.equal(generator(noise, labels, alpha), generator(noise, labels, alpha, style))


def test_gradients_are_those_of_finite_differences() -> None:
    generator = small(depth=1, width=8, heads=1, condition_width=6, input_size=4)
    noise, labels, alpha, style = inputs(2)
    noise = noise[:, :, :4, :4].contiguous().requires_grad_()
    alpha = alpha.requires_grad_()
    positions = generator.prefix_positions.detach().clone().requires_grad_()

    def forward(noise: Tensor, alpha: Tensor, positions: Tensor) -> Tensor:
        swapped = {"prefix_positions": positions}
        return torch.func.functional_call(generator, swapped, (noise, labels, alpha, style))  # type: ignore[return-value]

    assert torch.autograd.gradcheck(forward, (noise, alpha, positions), eps=1e-6, atol=1e-6)


def test_more_than_25_samples_and_odd_memory_give_the_same() -> None:
    generator = small()
    noise, labels, alpha, style = inputs(33)
    together = generator(noise, labels, alpha, style)
    strided = torch.empty(33, 8, 8, 6, dtype=torch.float64).permute(0, 3, 1, 2)[:, ::2]
    strided.copy_(noise)
    assert not strided.is_contiguous()
    assert relative(generator(strided, labels, alpha, style), together) < 1e-14
    for part in (slice(0, 1), slice(7, 30)):
        alone = generator(noise[part], labels[part], alpha[part], style[part])
        assert relative(alone, together[part].detach()) < 1e-13


def test_one_alpha_stands_for_all() -> None:
    generator = small()
    noise, labels, alpha, style = inputs()
    one = torch.full_like(alpha, 1.7)
    assert torch.equal(generator(noise, labels, 1.7, style), generator(noise, labels, one, style))
    assert not torch.equal(generator(noise, labels, 1, style), generator(noise, labels, one, style))


# How it starts.


@pytest.mark.parametrize("zero", ["gates_and_output", "gates", "nothing"])
def test_what_starts_at_zero(zero: Any) -> None:
    torch.manual_seed(0)
    generator = DriftingTransformer(
        DriftingTransformerConfig(**asdict(SIZES), zero_initialized=zero)
    ).double()
    kept: list[Tensor] = []
    for block in generator.blocks:
        block.register_forward_hook(lambda module, given, out: kept.extend((given[0], out)))
    samples = generator(*inputs())
    assert torch.equal(kept[0], kept[-1]) == (zero != "nothing")
    assert bool(samples.any()) == (zero != "gates_and_output")
    samples.sum().backward()
    learning = {
        name
        for name, each in generator.named_parameters()
        if each.grad is not None and each.grad.any()
    }
    if zero == "gates_and_output":
        assert learning == {"final.out.weight", "final.out.bias"}
    else:
        assert "final.modulation.weight" in learning


def test_the_start_has_the_sizes_of_the_release() -> None:
    torch.manual_seed(0)
    generator = DriftingTransformer(DriftingTransformerConfig(width=256, depth=1, heads=4))
    assert generator.styles is not None
    assert generator.prefix is not None
    for table in (
        generator.classes.weight,
        generator.styles.weight,
        generator.prefix_positions,
        generator.guidance.first.weight,
        generator.guidance.second.weight,
    ):
        assert float(table.detach().std()) == pytest.approx(0.02, rel=0.03)
    block = generator.blocks[0]
    assert isinstance(block, layers.Block)
    # Queries, keys and values are one matrix.
    for weight, fans in (
        (block.attention.qkv.weight, 4 * 256),
        (block.attention.out.weight, 2 * 256),
        (generator.patches.weight, 16 + 256),
    ):
        limit = (6 / fans) ** 0.5
        assert 0.99 * limit < float(weight.detach().abs().max()) <= limit
        assert float(weight.detach().std()) == pytest.approx(limit / 3**0.5, rel=0.02)
    biases = [each for name, each in generator.named_parameters() if name.endswith("bias")]
    assert not any(bool(each.any()) for each in biases)
    scales = [each for name, each in generator.named_parameters() if name.endswith("norm.weight")]
    assert len(scales) == 6
    assert all(bool((each == 1).all()) for each in scales)


@pytest.mark.parametrize("case", ["G01", "G02", "G03"])
def test_the_table_of_positions_starts_as_the_release_s(case: str) -> None:
    table = golden.load(case)["init_pos_embed"][0]
    grid = round(len(table) ** 0.5)
    found = layers.position_table(grid, table.shape[1]).float().numpy()
    np.testing.assert_allclose(found, table, rtol=0, atol=1e-7)


# Sizes.


@pytest.mark.parametrize(
    ("column", "count", "published", "tensors"),
    [
        ("ablation", 132_708_880, 133, 241),
        ("latent-B/2", 132_708_880, 133, 241),
        ("latent-L/2", 462_909_456, 463, 433),
        ("pixel-B/16", 133_864_704, 134, 241),
        ("pixel-L/16", 464_450_304, 464, 433),
    ],
)
def test_parameters_of_table_8(column: str, count: int, published: int, tensors: int) -> None:
    with torch.device("meta"):
        generator = DriftingTransformer(DriftingTransformerConfig.of_table8(column))
    sizes = sizes_of_table8(column)
    assert sum(each.numel() for each in generator.parameters()) == count == parameter_count(sizes)
    assert round(count / 1e6) == published
    views = generator.release_parameters()
    assert {name: tuple(each.shape) for name, each in views.items()} == parameter_shapes(sizes)
    assert len(views) == tensors


def test_the_release_s_trees_are_ours() -> None:
    trees = golden.load("G-tree")
    for name, column in (("latent_ablation", "ablation"), ("pixel_sota_B", "pixel-B/16")):
        rows = zip(trees[f"{name}/names"].tolist(), trees[f"{name}/shapes"].tolist(), strict=True)
        theirs = {key: tuple(size for size in shape if size) for key, shape in rows}
        assert theirs == parameter_shapes(sizes_of_table8(column))
    totals = golden.load("F")
    assert int(totals["generator/latent_sota_B"]) == parameter_count(sizes_of_table8("latent-B/2"))


def test_multiply_adds_are_those_that_pytorch_counts() -> None:
    adapter = DriftingTorchAdapter()
    for column in COLUMNS:
        found = adapter.generator_multiply_adds(column)
        assert found == multiply_adds(sizes_of_table8(column))
    # P-49: 87G are published.
    assert multiply_adds(sizes_of_table8("pixel-L/16")) == 86_776_217_600


def test_the_numbers_of_its_deltas() -> None:
    """P-37: counts with contents of their own; J-31: what rounding the angles does."""
    for column, millions in (("latent-B/2", 141.6), ("latent-L/2", 478.7)):
        with torch.device("meta"):
            config = DriftingTransformerConfig.of_table8(column, prefix_content="own")
            generator = DriftingTransformer(config)
        assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(
            millions, abs=0.05
        )
    places, steps = np.arange(272.0), 10000.0 ** (-np.arange(32) / 32)
    coarse = rounded(rounded(places, "bfloat16")[:, None] * steps, "bfloat16")
    assert np.abs(coarse - places[:, None] * steps).max() == pytest.approx(1.0, abs=0.05)
    rng, one = np.random.default_rng(0), np.ones(64)
    turned = [
        literal.turned(literal.rms_norm(each, one), places)
        for each in rng.standard_normal((2, 272, 64))
    ]
    exact = turned[0] @ turned[1].T
    near = rounded(turned[0], "bfloat16") @ rounded(turned[1], "bfloat16").T
    assert np.linalg.norm(near - exact) / np.linalg.norm(exact) == pytest.approx(0.002, abs=5e-4)


def test_configurations_of_table_8_can_be_changed() -> None:
    config = DriftingTransformerConfig.of_table8("pixel-L/16", classes=10, checkpoint=True)
    assert (config.input_size, config.channels, config.patch_size) == (256, 3, 16)
    assert (config.width, config.depth, config.heads, config.head_width) == (1024, 24, 16, 64)
    assert (config.prefix_tokens, config.style_tokens, config.style_entries) == (16, 32, 64)
    assert (config.classes, config.checkpoint, config.feed_forward_width) == (10, True, 2752)
    with pytest.raises(ValueError, match="column is 'B/2', expected one of ablation, latent-B/2"):
        DriftingTransformerConfig.of_table8("B/2")
    assert DriftingTransformerConfig() == DriftingTransformerConfig.of_table8("latent-B/2")
    assert DriftingTransformerConfig.of_table8("ablation", width=384).conditioned == 384


# Precision, compilation, memory.


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)], ids=["bf16", "fp16"]
)
def test_autocast_and_narrow_parameters(dtype: torch.dtype, limit: float) -> None:
    """The release's own bfloat16 is 0.7 to 1.5 % off on the vectors."""
    generator, given = small(), inputs()
    exact = generator(*given)
    noise, labels, alpha, style = given
    single = small().float()
    assert relative(single(noise.float(), labels, alpha.float(), style), exact) < 3e-6
    with torch.autocast("cpu", dtype=dtype):
        got = single(noise.float(), labels, alpha.float(), style)
        (got.float() ** 2).sum().backward()
    assert got.dtype == dtype
    assert 1e-5 < relative(got, exact) < limit
    (exact**2).sum().backward()
    for one, other in zip(single.parameters(), generator.parameters(), strict=True):
        assert one.grad is not None
        assert one.grad.dtype == torch.float32
        assert other.grad is not None
        assert relative(one.grad, other.grad) < 5 * limit
    narrow = small().to(dtype)
    got = narrow(noise.to(dtype), labels, alpha, style)
    assert got.dtype == dtype
    assert relative(got, exact) < 2 * limit


@pytest.mark.parametrize("case", ["G01", "G02", "G03"])
def test_bfloat16_is_as_near_to_the_vectors_as_the_release_s(case: str) -> None:
    from drifting_parity.adapters import torch_generator
    from drifting_parity.checks.generator import vectors

    manifest = next(each for each in golden.manifests() if each.id == case)
    data = {
        name: np.asarray(each, dtype=np.float64)
        for name, each in golden.load(case).items()
        if each.dtype.kind != "U"
    }
    held = vectors.generator_case(manifest, data).changed(direction=None)
    found = torch_generator.generate(held, Setting(dtype="float32", autocast="bfloat16"))
    wanted = torch.tensor(np.moveaxis(data["f64_samples"], -1, 1))
    assert 1e-3 < relative(torch.tensor(found.samples), wanted) < 0.015


def test_angles_are_formed_in_float32_under_autocast() -> None:
    """Rounded to bfloat16, the places 256 and 257 would coincide (J-31)."""
    generator = small(input_size=36, prefix_tokens=0).bfloat16()
    turns = generator._turns(torch.device("cpu"))  # pyright: ignore[reportPrivateUsage]
    assert turns.dtype == torch.float32
    assert len(torch.unique(turns, dim=1)[0]) == 18 * 18


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "recomputed"])
def test_it_compiles_to_one_graph(checkpoint: bool) -> None:
    generator, given = small(checkpoint=checkpoint, depth=1), inputs()
    compiled = torch.compile(generator, fullgraph=True, backend="eager")
    results: list[list[Tensor]] = []
    for each in (generator, compiled):
        generator.zero_grad()
        samples = each(*given)
        (samples**2).sum().backward()
        gradients = [p.grad.clone() for p in generator.parameters() if p.grad is not None]
        results.append([samples.detach(), *gradients])
    for one, other in zip(*results, strict=True):
        assert relative(one, other) < 1e-12
    noise, labels, alpha, _ = given
    assert not torch.equal(compiled(noise, labels, alpha), compiled(noise, labels, alpha))


def test_it_compiles_under_autocast() -> None:
    single, given = small(depth=1).float(), inputs()
    noise, labels, alpha, style = given
    compiled = torch.compile(single, fullgraph=True, backend="eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = compiled(noise.float(), labels, alpha.float(), style)
        wanted = single(noise.float(), labels, alpha.float(), style)
    assert got.dtype == torch.bfloat16
    assert relative(got, wanted.double()) < 1e-2


def test_checkpointing_gives_the_same_gradients_and_keeps_less() -> None:
    kept: dict[bool, int] = {}
    gradients: dict[bool, list[Tensor]] = {}
    for checkpoint in (False, True):
        generator, sizes = small(checkpoint=checkpoint, depth=6), list[int]()

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = generator(*inputs(16)).square().sum()
        kept[checkpoint] = sum(sizes)
        loss.backward()
        gradients[checkpoint] = [p.grad for p in generator.parameters() if p.grad is not None]
    assert len(gradients[True]) == len(gradients[False]) == len(list(small(depth=6).parameters()))
    for one, other in zip(gradients[True], gradients[False], strict=True):
        assert torch.equal(one, other)
    assert kept[True] < kept[False] / 4


# In training.


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "recomputed"])
def test_a_training_step_takes_it_in_parts(checkpoint: bool) -> None:
    """The style indices drawn in the first pass are drawn again in the second."""
    updates: list[list[Tensor]] = []
    for parts in (1, 3):
        generator = small(checkpoint=checkpoint)
        before = [each.detach().clone() for each in generator.parameters()]
        optimizer = torch.optim.SGD(generator.parameters(), lr=1e-2)
        torch.manual_seed(5)
        # One draw for the whole batch or one for each part: the same indices for the same seed.
        style = generator.draw_style(12)
        drawn = iter(style.split(12 // parts)) if parts > 1 else iter([style])
        pending = list(drawn) * 2

        def draw(count: int, pending: list[Tensor] = pending) -> Tensor:
            return pending.pop(0)[:count]

        with mock.patch.object(generator, "draw_style", draw):
            grouped_drift_training_step(
                generator,
                inputs(12)[0].unflatten(0, (3, 4)),
                torch.arange(3),
                torch.ones(3, dtype=torch.float64),
                torch.randn(
                    3, 6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(8)
                ),
                optimizer=optimizer,
                config=GroupedDriftStepConfig(feature_config=None, micro_batches=parts),
            )
        after = list(generator.parameters())
        updates.append([a.detach() - b for a, b in zip(after, before, strict=True)])
    sizes = [float(each.norm()) for each in updates[0]]
    assert all(size > 0 for size in sizes)
    for one, other in zip(*updates, strict=True):
        assert relative(other, one) < 1e-9


def test_style_drawn_in_a_step_is_repeated_in_the_second_pass() -> None:
    generator, seen = small(), list[Tensor]()
    draw = generator.draw_style

    def watched(count: int) -> Tensor:
        seen.append(draw(count))
        return seen[-1]

    with mock.patch.object(generator, "draw_style", watched):
        grouped_drift_training_step(
            generator,
            inputs(12)[0].unflatten(0, (3, 4)),
            torch.arange(3),
            torch.ones(3, dtype=torch.float64),
            inputs(12, 4)[0].unflatten(0, (3, 4)),
            optimizer=torch.optim.SGD(generator.parameters(), lr=1e-2),
            config=GroupedDriftStepConfig(feature_config=None, micro_batches=2),
        )
    first, second, *again = seen
    assert not torch.equal(first, second)
    assert [torch.equal(a, b) for a, b in zip((first, second), again, strict=True)] == [True, True]


def test_sampling_is_repeatable_and_needs_no_gradient() -> None:
    generator, labels = small(), torch.arange(5)

    def draw(seed: int) -> Tensor:
        return generator.sample(labels, 1.5, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert not draw(0).requires_grad
    assert draw(0).shape == (5, 3, 8, 8)
    torch.manual_seed(3)
    first = generator.sample(labels, 1.5)
    torch.manual_seed(3)
    assert torch.equal(generator.sample(labels, 1.5), first)
    assert small().bfloat16().sample(labels, 1.5).dtype == torch.bfloat16


def test_style_indices_follow_their_generator() -> None:
    generator = small()
    drawn = generator.draw_style(7, generator=torch.Generator().manual_seed(2))
    assert drawn.shape == (7, 3)
    assert torch.equal(drawn, generator.draw_style(7, generator=torch.Generator().manual_seed(2)))
    assert int(drawn.max()) < SIZES.style_entries


# Foreign parameters.


def release_case(case: str) -> tuple[DriftingTransformer, dict[str, Any]]:
    from drifting_parity.checks.generator.vectors import generator_sizes

    manifest = next(each for each in golden.manifests() if each.id == case)
    given = {name[2:]: array for name, array in golden.load(f"{case}.params").items()}
    config = DriftingTransformerConfig(**asdict(generator_sizes(manifest)))
    return DriftingTransformer(config), given


def test_release_parameters_load_flat_nested_and_beside_others() -> None:
    states: list[dict[str, Tensor]] = []
    _, given = release_case("G01")
    nested: dict[str, Any] = {}
    for name, array in given.items():
        *path, leaf = name.split("/")
        level = nested
        for part in path:
            level = level.setdefault(part, {})
        level[leaf] = array
    checkpoint = {"params": nested, "step": np.zeros(())}
    for each in (given, nested, checkpoint, {"model": {"params": nested}}):
        generator, _ = release_case("G01")
        load_release_parameters(generator, each)
        states.append(generator.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])
    kernel = given["LightningDiT_0/blocks_1/SwiGLUFFN_0/TorchLinear_2/Dense_0/kernel"]
    assert states[0]["blocks.1.feed_forward.out.weight"][5, 3] == float(kernel[3, 5])
    table = given["noise_embeds_2/embedding"]
    assert states[0]["styles.weight"][2 * 6 + 4, 7] == float(table[4, 7])


def test_parameters_that_do_not_fit_are_named_and_nothing_changes() -> None:
    generator, given = release_case("G01")
    before = {name: each.clone() for name, each in generator.state_dict().items()}
    wrong = dict(given)
    wrong["LightningDiT_0/strange"] = wrong.pop("RMSNorm_0/weight")
    wrong["LightningDiT_0/cls_embed"] = wrong["LightningDiT_0/cls_embed"][:, :3]
    with pytest.raises(ValueError, match="parameters do not fit a generator of Drifting") as caught:
        load_release_parameters(generator, wrong)
    text = str(caught.value)
    assert "missing: RMSNorm_0/weight;" in text
    assert "left over: LightningDiT_0/strange;" in text
    assert "LightningDiT_0/cls_embed has shape (1, 3, 48), expected (1, 4, 48)" in text
    with pytest.raises(ValueError, match="holds the generators ema, params, expected one"):
        load_release_parameters(generator, {"params": given, "ema": given})
    with pytest.raises(ValueError, match="RMSNorm_0/weight is a str, expected an array of numbers"):
        load_release_parameters(generator, given | {"RMSNorm_0/weight": "ones"})
    other, _ = release_case("G03")
    with pytest.raises(ValueError, match=r"missing: .*noise_embeds_31"):
        load_release_parameters(other, given)
    assert all(torch.equal(before[name], each) for name, each in generator.state_dict().items())


# Bad input.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 9}, "input_size is 9, expected a multiple of the patch_size 2"),
        ({"width": 30}, "width is 30, expected a multiple of 4"),
        ({"heads": 5}, "heads is 5, expected a divisor of the width 24"),
        ({"width": 12, "heads": 4}, "heads is 4, expected a divisor of the width 12 that leaves"),
        ({"depth": 0}, "depth is 0, expected at least 1"),
        ({"prefix_tokens": -1}, "prefix_tokens is -1, expected at least 0"),
        ({"feed_forward_ratio": 0.0}, r"feed_forward_ratio is 0\.0, expected a positive number"),
        ({"feed_forward_ratio": float("nan")}, "feed_forward_ratio is nan, expected"),
        ({"style_codebooks": "one"}, "style_codebooks is 'one', expected 'separate' or 'shared'"),
        ({"zero_initialized": True}, "zero_initialized is True, expected 'gates_and_output' or"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DriftingTransformerConfig(**(asdict(SIZES) | changes))


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"width is 24\.0, expected an integer"):
        DriftingTransformerConfig(**(asdict(SIZES) | {"width": 24.0}))
    with pytest.raises(TypeError, match=r"config is 'B/2', expected a DriftingTransformerConfig"):
        DriftingTransformer("B/2")  # pyright: ignore[reportArgumentType]
    config = DriftingTransformerConfig(**(asdict(SIZES) | {"width": np.int64(24)}))
    assert type(config.width) is int


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, torch.zeros(5, 3, 8, 9).double(), ValueError, r"noise has shape \(5, 3, 8, 9\)"),
        (0, torch.zeros(5, 4, 8, 8).double(), ValueError, r"expected \(B, 3, 8, 8\) as"),
        (0, torch.zeros(3, 8, 8).double(), ValueError, "expected 4 dimensions"),
        (0, torch.zeros(5, 3, 8, 8), TypeError, "noise has dtype torch.float32, expected torch.fl"),
        (0, None, TypeError, "noise is NoneType, expected a tensor"),
        (1, torch.zeros(4).long(), ValueError, r"labels has shape \(4,\), expected \(5,\)"),
        (1, torch.zeros(5), TypeError, "labels has dtype torch.float32, expected integers"),
        (1, torch.full((5,), 5), ValueError, "labels holds 5, expected 0 to 4"),
        (1, torch.tensor([0, 0, -1, 0, 0]), ValueError, "labels holds -1, expected 0 to 4"),
        (1, [0, 1, 2, 3, 4], TypeError, r"labels is \[0, 1, 2, 3, 4\], expected integers"),
        (2, torch.ones(1), ValueError, r"alpha has shape \(1,\) on cpu, expected \(5,\)"),
        (2, torch.ones(5).long(), TypeError, "alpha has dtype torch.int64, expected a floating"),
        (2, "1.5", TypeError, "alpha is '1.5', expected a floating tensor"),
        (3, torch.zeros(5, 4).long(), ValueError, r"style has shape \(5, 4\), expected \(5, 3\)"),
        (3, torch.full((5, 3), 6), ValueError, "style holds 6, expected 0 to 5"),
        (3, torch.zeros(5, 3), TypeError, "style has dtype torch.float32, expected integers"),
    ],
)
def test_wrong_inputs_are_refused(
    place: int, value: Any, error: type[Exception], message: str
) -> None:
    given: list[Any] = list(inputs())
    given[place] = value
    with pytest.raises(error, match=message):
        small()(*given)


def test_narrow_integers_are_indices_too() -> None:
    generator = small()
    noise, labels, alpha, style = inputs()
    expected = generator(noise, labels, alpha, style)
    for kind in (torch.int32, torch.int16, torch.uint8):
        assert torch.equal(generator(noise, labels.to(kind), alpha, style.to(kind)), expected)


# Every check is killed by some wrong variant.

OURS = tuple(
    key
    for key in BY_ID
    if key.startswith(("generator.", "release.G")) or key == "release.generators"
)


def outcome(check: str, dtype: Any = "float64") -> Any:
    context = Context(DriftingTorchAdapter(), PAPER, Setting(dtype=dtype), SPEC, quick=True)
    return run_check(BY_ID[check], context)


def failed(check: str) -> set[str]:
    """Clauses that fail; a crash of the broken variant fails all."""
    found = outcome(check)
    if found.error:
        return set(found.clauses)
    return {clause for item in found.measurements if not item.passed for clause in item.clauses}


@pytest.fixture
def broken(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    owner, name, replacement, wanted = VARIANTS[request.param]
    owners = [owner]
    if owner is layers and hasattr(transformer, name):
        owners.append(transformer)
    patches = [mock.patch.object(each, name, replacement) for each in owners]
    for patch in patches:
        patch.start()
    yield wanted
    for patch in patches:
        patch.stop()


@pytest.mark.parametrize("broken", VARIANTS, indirect=True)
def test_every_wrong_variant_is_caught(broken: dict[str, str]) -> None:
    for check, clause in broken.items():
        assert clause in failed(check), check


def test_every_check_has_a_wrong_variant() -> None:
    assert {check for *_, wanted in VARIANTS.values() for check in wanted} == set(OURS)


@pytest.mark.parametrize("check", OURS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_implementation_passes(check: str, dtype: str) -> None:
    found = outcome(check, dtype)
    assert not found.error, found.error
    assert found.measurements
    assert all(item.passed for item in found.measurements)


def test_what_is_right_but_odd_passes() -> None:
    """All at once: none hides another, since all are right."""
    with ExitStack() as stack:
        for owner, name, replacement in RIGHT.values():
            stack.enter_context(mock.patch.object(owner, name, replacement))
        for check in (key for key in OURS if "counts" not in key and "generators" not in key):
            assert failed(check) == set(), check


def test_an_extra_angle_in_float32_is_seen() -> None:
    """Tables of angles in float32 move float64 samples by 1e-8: the vectors tell."""
    with mock.patch.object(transformer, "wide", return_value=torch.float32):
        assert "A2-blocks" in failed("release.G01")


def test_every_vector_s_step_is_shown() -> None:
    """Every stored activation is compared, and every gradient."""
    for case in ("G01", "G02", "G03"):
        manifest = next(each for each in golden.manifests() if each.id == case)
        stored = [name for name in manifest.arrays if name.startswith(("f64_act/", "f64_grad/"))]
        norms = len(golden.load(case)["grad_norm_names"])
        found = outcome(f"release.{case}")
        # Queries and keys are compared by their products.
        assert len(found.measurements) == len(stored) - 1 + 1 + norms


def test_drawn_parameters_name_every_parameter_of_the_reference() -> None:
    drawn = drawn_parameters(np.random.default_rng(0), SIZES)
    generator = DriftingTransformer(DriftingTransformerConfig(**asdict(SIZES))).double()
    load_release_parameters(generator, drawn)
    assert set(arrays(generator)) == set(drawn)
