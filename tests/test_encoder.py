"""Encoder and masked autoencoder: shapes, gradients, foreign parameters, inventory, checks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from broken_encoders import VARIANTS
from torch import Tensor, nn

import drifting_torch
from drifting_parity import golden
from drifting_parity.adapters.drifting_torch_adapter import DriftingTorchAdapter
from drifting_parity.cases import Setting
from drifting_parity.checks import CHECKS
from drifting_parity.checks.core import Context
from drifting_parity.judging.verdicts import run_check
from drifting_reference import mae as literal
from drifting_spec import AXES, PAPER, RELEASE, Readings
from drifting_spec import inventory as counted
from drifting_spec.registry import load
from drifting_torch import (
    FeatureDriftingConfig,
    FeatureVectorizationConfig,
    MAEResNetEncoder,
    MaskedAutoencoder,
    extract_feature_maps,
    extract_features,
    load_release_parameters,
    patchify,
    reconstruction_loss,
    sample_mask,
    slot_inventory,
    unpatchify,
    vectorize_feature_maps,
)
from drifting_torch.features import encoder, mae

SPEC = load()
BY_ID = {check.id: check for check in CHECKS}
BLOCKS = (1, 2, 1)


def under(taps: str) -> Readings:
    return PAPER.with_reading("taps", taps)


def small(readings: Readings = PAPER, **options: Any) -> MAEResNetEncoder:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"blocks": BLOCKS, **options}
    return MAEResNetEncoder(6, 3, readings=readings, **settings).double()


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


# What it returns.


@pytest.mark.parametrize("taps", AXES["taps"])
@pytest.mark.parametrize(("sides", "patch_size"), [((16, 24), 1), ((9, 7), 1), ((24, 16), 2)])
def test_maps_have_the_names_and_shapes_of_the_inventory(
    taps: str, sides: tuple[int, int], patch_size: int
) -> None:
    found = small(under(taps), patch_size=patch_size)(images(2, 3, *sides))
    shape = counted.InputShape(*sides, 3, patch_size)
    wanted = counted.map_shapes(6, shape, BLOCKS, under(taps).taps)
    assert list(found) == list(wanted)
    for name, (height, width, channels) in wanted.items():
        assert found[name].shape == (2, channels, height, width)


def test_the_paper_s_taps() -> None:
    assert counted.tapped_maps() == (
        *("stage1.block2", "stage1.final", "stage2.block2", "stage2.block4"),
        *("stage3.block2", "stage3.block4", "stage3.block6", "stage4.block2", "stage4.final"),
    )
    assert set(counted.tapped_maps(taps="coincident_twice")) - set(counted.tapped_maps()) == {
        "stage2.final",
        "stage3.final",
    }
    assert "stage1.final" not in counted.tapped_maps(taps="network_output")
    assert counted.tapped_maps(taps="release")[0] == "stem"


def test_a_coincident_tap_is_the_same_map() -> None:
    found = small(under("coincident_twice"), blocks=(2, 2))(images(1, 3, 8, 8))
    assert torch.equal(found["stage1.block2"], found["stage1.final"])
    found = small(under("release"), blocks=(2, 2))(images(1, 3, 8, 8))
    assert not torch.equal(found["stage1.block2"], found["stage1.final"])


def test_samples_are_not_coupled() -> None:
    for readings in (PAPER, RELEASE):
        net, x = small(readings), images(3, 3, 16, 16)
        x.requires_grad_()
        maps = net(x)
        alone = net(x[:1])
        for name, each in maps.items():
            torch.testing.assert_close(each[:1], alone[name], rtol=1e-12, atol=1e-12)
        (gradient,) = torch.autograd.grad(sum(each[0].sum() for each in maps.values()), x)
        assert gradient[0].abs().max() > 0
        assert not gradient[1:].any()


def test_gradients_are_those_of_finite_differences() -> None:
    net = small(blocks=(1, 1)).eval()
    config = FeatureVectorizationConfig()

    def loss(x: Tensor) -> Tensor:
        vectors = vectorize_feature_maps(extract_feature_maps(net, x), config, x)
        return torch.stack([each.square().mean() for each in vectors.values()]).sum()

    x = images(1, 3, 8, 8)
    assert torch.autograd.gradcheck(loss, (x.requires_grad_(),), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_gradients_stay_finite_for_constant_images(dtype: torch.dtype, value: float) -> None:
    for readings in (PAPER, RELEASE):
        net = small(readings).to(dtype)
        x = torch.full((2, 3, 16, 16), value, dtype=dtype, requires_grad=True)
        vectors = vectorize_feature_maps(net(x), FeatureVectorizationConfig(readings=readings), x)
        sum(each.float().sum() for each in vectors.values()).backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


def test_checkpointing_gives_the_same_gradients_and_keeps_less() -> None:
    kept: dict[bool, int] = {}
    gradients: dict[bool, list[Tensor]] = {}
    for checkpoint in (False, True):
        net, sizes = small(checkpoint=checkpoint, blocks=(3, 3)), list[int]()
        x = images(2, 3, 16, 16).requires_grad_()

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = sum(each.square().sum() for each in net(x).values())
        kept[checkpoint] = sum(sizes)
        loss.backward()
        assert x.grad is not None
        gradients[checkpoint] = [
            x.grad,
            *(each.grad for each in net.parameters() if each.grad is not None),
        ]
    assert len(gradients[True]) == len(gradients[False])
    for one, other in zip(gradients[True], gradients[False], strict=True):
        assert torch.equal(one, other)
    assert kept[True] < kept[False] / 3


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width is 0, expected at least 1"),
        ({"blocks": ()}, r"blocks is \(\), expected at least one block in every stage"),
        ({"blocks": (1, 0)}, r"blocks is \(1, 0\), expected"),
        ({"patch_size": 0}, "expected positive numbers"),
        ({"in_channels": 0}, "expected positive numbers"),
    ],
)
def test_impossible_encoders_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MAEResNetEncoder(**{"width": 4, **options})


def test_fractions_of_a_channel_are_refused() -> None:
    with pytest.raises(TypeError, match=r"width holds 4\.5, expected an integer"):
        MAEResNetEncoder(4.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="config is 'paper', expected a FeatureDriftingConfig or"):
        slot_inventory(4, "paper")  # pyright: ignore[reportArgumentType]
    assert MAEResNetEncoder(np.int64(4), blocks=(1,)).width == 4  # pyright: ignore[reportArgumentType]


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 4, 8, 8\), expected 3 channels"):
        small()(images(1, 4, 8, 8))
    with pytest.raises(ValueError, match="9×8 pixels, expected multiples of the patch size 2"):
        small(patch_size=2)(images(1, 3, 9, 8))
    with pytest.raises(ValueError, match="expected 4 dimensions"):
        small()(images(3, 8, 8))
    with pytest.raises(TypeError, match="readings is 'release'"):
        MAEResNetEncoder(4, readings="release")  # pyright: ignore[reportArgumentType]


def test_batch_statistics_are_refused() -> None:
    normed = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double()
    with pytest.raises(ValueError, match=r"the BatchNorm2d '1' in training mode.*encoder.eval\(\)"):
        extract_feature_maps(normed, images(2, 3, 8, 8))
    assert extract_feature_maps(normed.eval(), images(2, 3, 8, 8))
    without = nn.BatchNorm2d(3, track_running_stats=False).double().eval()
    with pytest.raises(ValueError, match="BatchNorm2d itself without running statistics"):
        extract_feature_maps(without, images(2, 3, 8, 8))
    normed.train()
    for hidden in (lambda x: normed(x), normed.forward, torch.no_grad()(normed.forward)):
        with pytest.raises(ValueError, match=r"the BatchNorm2d .*1' in training mode"):
            extract_feature_maps(hidden, images(2, 3, 8, 8))
        with pytest.raises(ValueError, match=r"the BatchNorm2d .*1' in training mode"):
            extract_features(hidden, images(2, 3, 8, 8), FeatureVectorizationConfig())
    # GroupNorm does the same in both modes, but the rule is one, for this and for a step.
    with pytest.raises(ValueError, match="is in training mode, expected eval mode"):
        extract_feature_maps(small().train(), images(2, 3, 8, 8))
    assert extract_feature_maps(small().eval(), images(2, 3, 8, 8))


# Foreign parameters.


def parameters_of(case: str) -> dict[str, Any]:
    return {name.removeprefix("p/"): array for name, array in golden.load(f"{case}.params").items()}


def release_encoder(**options: Any) -> MAEResNetEncoder:
    settings: dict[str, Any] = {"blocks": (1, 2, 1, 1), "readings": RELEASE, **options}
    return MAEResNetEncoder(12, 4, **settings)


def test_release_parameters_load_flat_nested_and_beside_others() -> None:
    given = parameters_of("B03")
    nested: dict[str, Any] = {}
    for name, array in given.items():
        *path, leaf = name.split("/")
        level = nested
        for part in path:
            level = level.setdefault(part, {})
        level[leaf] = array
    bare = {name.removeprefix("encoder/"): array for name, array in given.items()}
    whole = {"params": {**nested, "decoder": {"x": np.zeros(3)}, "fc": {"bias": np.zeros(2)}}}
    states: list[dict[str, Tensor]] = []
    for each in (given, nested, bare, whole):
        net = release_encoder()
        load_release_parameters(net, each)
        states.append(net.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])
    kernel = given["encoder/stages_1/layers_0/conv1/kernel"]
    assert states[0]["stages.1.blocks.0.conv1.weight"][5, 3, 0, 2] == float(kernel[0, 2, 3, 5])


def test_parameters_that_do_not_fit_are_named_and_nothing_changes() -> None:
    net, given = release_encoder(), parameters_of("B03")
    before = {name: each.clone() for name, each in net.state_dict().items()}
    given["encoder/strange/kernel"] = given.pop("encoder/gn1/bias")
    given["encoder/conv1/kernel"] = given["encoder/conv1/kernel"][..., :5]
    with pytest.raises(ValueError, match="parameters do not fit") as caught:
        load_release_parameters(net, given)
    text = str(caught.value)
    assert "missing: gn1/bias;" in text
    assert "left over: strange/kernel;" in text
    assert "conv1/kernel has shape (3, 3, 4, 5), expected (3, 3, 4, 12)" in text
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())
    two = {"params": parameters_of("B03"), "ema": parameters_of("B03")}
    with pytest.raises(
        ValueError, match="holds the encoders ema/encoder, params/encoder, expected"
    ):
        load_release_parameters(net, two)
    given = parameters_of("B03") | {"encoder/gn1/bias": "nothing"}
    with pytest.raises(ValueError, match="gn1/bias is a str, expected an array of numbers"):
        load_release_parameters(net, given)
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())
    with pytest.raises(ValueError, match=r"width 12, .*taps 'union': left over: layer1_norm/bias"):
        load_release_parameters(release_encoder(readings=PAPER), parameters_of("B03"))


class Bits:
    """An array as NumPy has it of ``ml_dtypes``: its own functions know the bits alone."""

    def __init__(self, bits: np.ndarray[Any, Any], name: str) -> None:
        self.bits = bits
        self.dtype = SimpleNamespace(name=name, kind="V", itemsize=bits.itemsize)

    def __array__(self) -> Bits:
        return self

    def view(self, dtype: str) -> np.ndarray[Any, Any]:
        return self.bits.view(dtype)


def bits_of(array: np.ndarray[Any, Any], dtype: torch.dtype) -> np.ndarray[Any, Any]:
    value = torch.tensor(array).to(dtype)
    return value.view(torch.int16 if dtype.itemsize == 2 else torch.int8).numpy()


def saved_and_loaded(array: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    np.save(path / "bits.npy", bits_of(array, torch.bfloat16).view("V2"))
    return np.load(path / "bits.npy")


FORMS: dict[str, tuple[Callable[[Any, Path], object], torch.dtype | None]] = {
    "bfloat16": (lambda a, _: Bits(bits_of(a, torch.bfloat16), "bfloat16"), torch.bfloat16),
    "bfloat16, reversed": (
        lambda a, _: Bits(bits_of(a, torch.bfloat16)[::-1].copy()[::-1], "bfloat16"),
        torch.bfloat16,
    ),
    "float8": (
        lambda a, _: Bits(bits_of(a, torch.float8_e4m3fn), "float8_e4m3fn"),
        torch.float8_e4m3fn,
    ),
    "bfloat16 of a file": (saved_and_loaded, torch.bfloat16),
    "big-endian": (lambda a, _: a.astype(">f4"), None),
    "little-endian": (lambda a, _: a.astype("<f8"), None),
    "big-endian half": (lambda a, _: a.astype(">f2"), torch.float16),
    "long double": (lambda a, _: a.astype(np.longdouble), None),
    "negative strides": (lambda a, _: a[::-1].copy()[::-1], None),
    "every second": (lambda a, _: np.repeat(a, 2, axis=-1)[..., ::2], None),
    "Fortran's order": (lambda a, _: np.asfortranarray(a), None),
    "big-endian, negative strides": (lambda a, _: np.flip(np.flip(a.astype(">f4")).copy()), None),
    "read-only": (lambda a, _: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape), None),
    "lists": (lambda a, _: a.tolist(), None),
    "a tensor": (lambda a, _: torch.tensor(a, requires_grad=True), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_as_other_libraries_write_them_load(form: str, tmp_path: Path) -> None:
    given = parameters_of("B03")
    change, rounding = FORMS[form]
    plain, net = release_encoder(), release_encoder()
    load_release_parameters(plain, given)
    load_release_parameters(net, {name: change(each, tmp_path) for name, each in given.items()})
    for name, each in plain.state_dict().items():
        wanted = each if rounding is None else each.to(rounding).to(each.dtype)
        assert torch.equal(net.state_dict()[name], wanted), name


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nothing", "a str, expected an array of numbers"),
        (None, "a NoneType, expected an array of numbers"),
        (np.array(["a"] * 12), "an array of dtype <U1, expected an array of numbers"),
        (np.array([object()] * 12), "an array of dtype object, expected an array of numbers"),
        (np.zeros(12, "V1"), r"an array of dtype \|V1, expected an .*: NumPy's files lose"),
        (np.zeros(12, [("a", "i1"), ("b", "i1")]), r"an array of dtype \[\('a'"),
        (np.zeros(12, complex), "of dtype torch.complex128, expected real numbers"),
        (torch.zeros(12, dtype=torch.complex64), "of dtype torch.complex64, expected real"),
    ],
)
def test_arrays_of_something_else_are_refused_for_what_they_are(value: object, reason: str) -> None:
    given = parameters_of("B03") | {"encoder/gn1/bias": value}
    with pytest.raises(ValueError, match=f"gn1/bias is {reason}"):
        load_release_parameters(release_encoder(), given)


# Patches, mask, decoder, loss.


def test_patches_are_their_own_inverse_and_ordered() -> None:
    x = images(2, 3, 6, 12)
    grid = patchify(x, 3)
    assert torch.equal(grid[:, (1 * 3 + 2) * 3 + 1], x[:, 1, 1::3, 2::3])
    assert torch.equal(unpatchify(grid, 3), x)
    with pytest.raises(ValueError, match="grid has 3 channels, expected a multiple of 4"):
        unpatchify(x, 2)


def test_masks_follow_their_generator_and_probability() -> None:
    def draw(probability: float = 0.5) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return sample_mask(4, 8, 12, probability, generator=generator)

    assert torch.equal(draw(), draw())
    assert not draw(0.0).any()
    assert draw(1.0).all()
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="expected a number from 0 to 1"):
            draw(bad)
    with pytest.raises(ValueError, match="multiples of 2"):
        sample_mask(1, 7, 8)


@pytest.mark.parametrize(
    ("averaging", "expected"),
    [
        ("per_sample", literal.reconstruction_loss_per_location),
        ("per_sample_and_channel", literal.reconstruction_loss_per_element),
        ("over_batch", literal.reconstruction_loss_over_batch),
    ],
)
def test_the_three_means_of_the_reconstruction_loss(averaging: Any, expected: Any) -> None:
    x, output = images(3, 4, 8, 8), images(3, 4, 8, 8, seed=1)
    mask = sample_mask(3, 8, 8, generator=torch.Generator().manual_seed(1))
    mask[1] = False
    found = reconstruction_loss(x, output, mask, averaging=averaging)
    arrays = (np.moveaxis(each.numpy(), 1, -1) for each in (x, output))
    assert float(found) == pytest.approx(expected(*arrays, mask.numpy()), rel=1e-13)
    pixels = reconstruction_loss(
        unpatchify(x, 2), unpatchify(output, 2), mask, patch_size=2, averaging=averaging
    )
    assert float(pixels) == pytest.approx(float(found), rel=1e-13)


@pytest.mark.parametrize("averaging", ["per_sample", "per_sample_and_channel", "over_batch"])
def test_each_sample_s_reconstruction_loss(averaging: Any) -> None:
    torch.manual_seed(0)
    model, x = MaskedAutoencoder(small()).double(), images(4, 3, 8, 8)

    def drawn() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(5)
        return {"averaging": averaging, "probability": 0.4, "generator": generator}

    found = model.reconstruct(x, **drawn())
    assert torch.equal(found.loss, model.loss(x, **drawn()))
    assert torch.equal(found.reconstruction, model(x, found.mask))
    assert found.mask_ratio.tolist() == pytest.approx(
        [float(each.double().mean()) for each in found.mask]
    )
    assert len(set(found.mask_ratio.tolist())) > 1
    for sample, mask, output, loss in zip(
        x, found.mask, found.reconstruction.detach(), found.per_sample.detach(), strict=True
    ):
        squares = (sample - output).square()[:, mask]
        wanted = squares.sum(0).mean() if averaging == "per_sample" else squares.mean()
        assert float(loss) == pytest.approx(float(wanted), rel=1e-12)
    weight = found.mask_ratio if averaging == "over_batch" else torch.ones(4)
    mean = (found.per_sample.detach() * weight).sum() / weight.sum()
    assert float(mean) == pytest.approx(found.loss.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found.per_sample[2], [found.reconstruction])
    assert not gradient[:2].any()
    assert gradient[2].any()
    with pytest.raises(ValueError, match="averaging is 'sum', expected"):
        model.reconstruct(x, averaging="sum")  # pyright: ignore[reportArgumentType]


def test_wrong_masks_and_losses_are_refused() -> None:
    x, mask = images(2, 3, 8, 8), sample_mask(2, 8, 8)
    with pytest.raises(ValueError, match=r"reconstruction has shape \(1, 3, 8, 8\)"):
        reconstruction_loss(x, x[:1], mask)
    for bad in (mask.float(), mask[:, :4], mask[:1]):
        with pytest.raises(ValueError, match=r"expected a boolean tensor \(2, 8, 8\)"):
            reconstruction_loss(x, x, bad)
    with pytest.raises(ValueError, match="averaging is 'sum'"):
        reconstruction_loss(x, x, mask, averaging="sum")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="expected a boolean tensor"):
        MaskedAutoencoder(small())(x, mask[:, :4])
    with pytest.raises(ValueError, match="step is -1"):
        drifting_torch.classification_weight(-1)
    with pytest.raises(ValueError, match="ramp is 0, expected at least 1"):
        drifting_torch.classification_weight(1, ramp=0)
    with pytest.raises(ValueError, match="peak is 10, expected a number from 0 to 1"):
        drifting_torch.classification_weight(1, peak=10)


def test_pretraining_reaches_every_parameter_and_lowers_the_loss() -> None:
    torch.manual_seed(0)
    net = MaskedAutoencoder(MAEResNetEncoder(8, 1, blocks=(1, 1, 1)))
    digits = torch.tensor(golden.load("digits")["images"][::4] / 8.0 - 1.0).float()[:, None]
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    losses: list[float] = []
    for step in range(40):
        loss = net.loss(digits, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


# The inventory.


def test_inventory_is_what_comes_out() -> None:
    sizes = {"blocks": (2, 1, 3), "patch_size": 2}
    for readings in (
        *(under(taps) for taps in AXES["taps"]),
        replace(RELEASE, statistics_grouping="mean_with_std"),
        replace(PAPER, patch_remainder="crop", x2_input="patchified"),
        replace(PAPER, patch_remainder="skip"),
    ):
        side = 28 if readings.patch_remainder != "error" else 32
        x = images(1, 3, side, side)
        config = FeatureVectorizationConfig(readings=readings, input_patch_size=2)
        net = MAEResNetEncoder(4, 3, readings=readings, **sizes).double()
        vectors = vectorize_feature_maps(net(x), config, x)
        found = slot_inventory(4, config, input_shape=(3, side, side), **sizes)
        assert {key: (each.shape[1], each.shape[2]) for key, each in vectors.items()} == found


def test_inventory_totals() -> None:
    totals = {
        taps: counted.total(slot_inventory(256, FeatureVectorizationConfig(), readings=under(taps)))
        for taps in AXES["taps"]
    }
    # One more each: the x² vector.
    assert totals == {
        "union": 4543,
        "coincident_twice": 5067,
        "network_output": 2877,
        "release": 6733,
    }
    release = slot_inventory(640, FeatureDriftingConfig.release())
    assert (len(release), counted.total(release)) == (86, 6734)
    assert slot_inventory(4, FeatureDriftingConfig())["samples"] == (1, 4096)
    assert "samples" not in slot_inventory(4, FeatureDriftingConfig.seed())
    with pytest.raises(ValueError, match=r"'stage4\.block2' has 2×2 locations, expected multiples"):
        slot_inventory(4, input_shape=(4, 16, 16))
    with pytest.raises(ValueError, match="statistics holds"):
        counted.slot_inventory(4, statistics=("median",))  # pyright: ignore[reportArgumentType]


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "drifting_parity.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("preset", "readings", "total"),
    [
        ("ablation", "paper", "65 features, 4544 vectors: 4542 of 9 maps, 2 of the input"),
        ("latent-B/2", "taps=coincident_twice", "79 features, 5068 vectors: 5066 of 11 maps"),
        ("latent-L/2", "paper,taps=network_output", "58 features, 2878 vectors: 2876 of 8 maps"),
        ("pixel-L/16", "release", "86 features, 6734 vectors: 6732 of 12 maps"),
    ],
)
def test_slots_command(preset: str, readings: str, total: str) -> None:
    done = run_cli("slots", "--preset", preset, "--readings", readings)
    assert done.returncode == 0, done.stderr
    assert total in done.stdout
    assert ("196608" in done.stdout) == preset.startswith("pixel")


def test_slots_command_refuses_and_loads_no_torch() -> None:
    assert run_cli("slots").returncode == 2
    done = run_cli("slots", "--preset", "ablation", "--readings", "taps=some")
    assert done.returncode == 2
    assert "taps is 'some'" in done.stderr
    program = (
        "import sys; from drifting_parity.cli import main\n"
        "main(['slots', '--preset', 'ablation'])\n"
        "sys.exit(bool({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0


def test_the_columns_are_those_of_table_8() -> None:
    from drifting_parity.cli import COLUMNS
    from drifting_spec.table8 import load_table8

    table = load_table8()
    assert tuple(counted.PRESETS) == COLUMNS == tuple(table)
    for name, (width, shape) in counted.PRESETS.items():
        column = table[name]
        assert column.width == width
        height, columns, channels, side = shape
        grid = (height // side, columns // side, channels * side**2)
        assert column.encoder_input in (grid, (height, columns, channels))
        assert column.blocks == counted.BLOCKS


def test_release_keys_are_told_in_json() -> None:
    keys = [counted.release_key(key) for key in slot_inventory(4, FeatureDriftingConfig.release())]
    theirs = golden.load("B-inventory")["latent_640__has_scale/keys"].tolist()
    assert sorted(keys) == sorted(theirs), json.dumps(sorted(set(keys) ^ set(theirs)))


# Every check is killed by some wrong variant.


def outcome(check: str, readings: Readings = PAPER, dtype: Any = "float64") -> Any:
    context = Context(DriftingTorchAdapter(), readings, Setting(dtype=dtype), SPEC, quick=True)
    found = run_check(BY_ID[check], context)
    assert not found.error, found.error
    assert not found.not_observable
    return found


def failed(check: str, readings: Readings = PAPER) -> set[str]:
    """Clauses that fail; a crash of the broken variant fails all."""
    context = Context(DriftingTorchAdapter(), readings, Setting(), SPEC, quick=True)
    found = run_check(BY_ID[check], context)
    if found.error:
        return set(found.clauses)
    return {clause for item in found.measurements if not item.passed for clause in item.clauses}


@pytest.fixture
def broken(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    owner, name, replacement, wanted = VARIANTS[request.param]
    owners = [owner, *(each for each in (mae,) if owner is encoder and hasattr(each, name))]
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
    killed = {check for *_, wanted in VARIANTS.values() for check in wanted}
    ours = {
        check.id
        for check in CHECKS
        if check.id.startswith(("encoder.", "decoder.", "autoencoder.", "release.B"))
        or check.id in {"release.inventory", "release.parameters"}
    }
    assert ours == killed


@pytest.mark.parametrize("readings", [PAPER, RELEASE], ids=["paper", "release"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_implementation_passes(readings: Readings, dtype: str) -> None:
    prefixes = ("encoder.", "decoder.", "autoencoder.", "release.B")
    for check in (key for key in BY_ID if key.startswith(prefixes)):
        found = outcome(check, readings, dtype)
        assert found.measurements
        assert all(item.passed for item in found.measurements), check


@pytest.mark.parametrize("taps", AXES["taps"])
def test_the_taps_are_found_out(taps: str) -> None:
    from drifting_parity.judging import axes

    class Stuck(DriftingTorchAdapter):
        def encoder_maps(self, case: Any, readings: Readings, setting: Setting) -> Any:
            return super().encoder_maps(case, replace(readings, taps=taps), setting)  # pyright: ignore[reportArgumentType]

    explanation = axes.observe(Context(Stuck(), PAPER, Setting(), SPEC))
    assert explanation.taken == under(taps)
    (axis,) = (each for each in axes.axis_reports(explanation) if each.id == "taps")
    assert axis.reading == taps
