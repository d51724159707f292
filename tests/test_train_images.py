"""``drifting-train images``: Table 8's configurations, class folders, and a few small steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_runs import assert_equal_states

from drifting_parity import golden
from drifting_spec.generator import sizes_of_table8
from drifting_spec.table8 import COLUMNS, Column, load_table8
from drifting_train import configurations
from drifting_train.checkpoint import load_checkpoint
from drifting_train.cli import main
from drifting_train.errors import TrainError
from drifting_train.folders import ClassFolders
from drifting_train.images import ImagesSettings, image_encoder
from drifting_train.log import read_log
from drifting_train.options import read_config, settings_of

IMPLIED = {
    "architecture": "the name of width, depth and patch",
    "encoder_input": "the input's shape",
    "block": "the encoder has basic blocks alone",
    "sides": "follow from the input and the stages",
    "batch": "labels times generated samples",
    "epochs": "steps times batch over the data set",
    "inference_alpha": "a flag of sample and evaluate",
    # How the encoder is pre-trained, and with what else it is used:
    "encoders": "ConvNeXt-V2 is said to be missing in the files",
    "pretraining": "another command",
    "mask_ratio": "another command",
    "mae_epochs": "another command",
    "classification_steps": "another command",
}
"""Rows of Table 8 that no key of a configuration holds."""


def of(column: str) -> ImagesSettings:
    path = configurations.path_of(column)
    return settings_of(ImagesSettings, read_config(path), origin=str(path))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_configuration_is_its_column(name: str) -> None:
    held, column = of(name), load_table8()[name]
    height, width, channels = column.input_shape
    keyed = {
        "input_shape": (held.sample_shape, (channels, height, width)),
        "patch": (held.patch, column.patch),
        "hidden": (held.width, column.hidden),
        "depth": (held.depth, column.depth),
        "register_tokens": (held.register_tokens, column.register_tokens),
        "style_tokens": (held.style_tokens, column.style_tokens),
        "first_stride": (held.encoder_patch, column.first_stride),
        "width": (held.encoder_width, column.width),
        "blocks": (held.encoder_blocks, column.blocks),
        "betas": (held.betas, column.betas),
        "learning_rate": (held.learning_rate, column.learning_rate),
        "weight_decay": (held.weight_decay, column.weight_decay),
        "warmup_steps": (held.warmup_steps, column.warmup_steps),
        "gradient_clip": (held.gradient_clip, column.gradient_clip),
        "steps": (held.steps, column.steps),
        "ema_decays": (held.ema_decays, column.ema_decays),
        "labels": (held.labels, column.labels),
        "positives": (held.positive, column.positives),
        "generated": (held.generated, column.generated),
        "temperatures": (held.temperatures, column.temperatures),
        "alpha_range": ((held.alpha_least, held.alpha_most), column.alpha_range),
        "alpha_law": ((held.alpha_exponent, held.alpha_atom), column.alpha_law),
        "unconditional": (held.unconditional, column.unconditional),
    }
    assert {key: one for key, (one, _) in keyed.items()} == {
        key: other for key, (_, other) in keyed.items()
    }
    assert set(keyed) | set(IMPLIED) == set(Column.__dataclass_fields__)
    assert held.labels * held.generated == column.batch
    assert held.heads == sizes_of_table8(name).heads


@pytest.mark.parametrize("name", COLUMNS)
def test_a_configuration_is_strict(name: str) -> None:
    held = of(name)
    assert held.readings == "paper"
    assert held.feature_temperature_aggregation == "sum_drifts_then_mse"
    assert held.feature_include_raw_drift_loss
    assert held.feature_raw_drift_loss_weight == 1
    assert held.schedule == "constant"
    # Every key is set in the file: nothing is left to a default but the machine's affairs.
    written = set(read_config(configurations.path_of(name)))
    machine = {"folder", "out", "encoder", "seed", "device", "threads", "bf16", "micro_batches"}
    machine |= {"log_every", "evaluate_every", "checkpoint_every", "tensorboard", "compile"}
    machine |= {"checkpoint_activations"}
    # What only ablations change stands at what changes nothing.
    ablation: dict[str, object] = {"attraction": 1, "repulsion": 1}
    ablation |= {"feature_normalization": True, "drift_normalization": True}
    ablation |= {"feature_raw_drift_temperatures": None}
    assert {key: getattr(held, key) for key in ablation} == ablation
    assert written | machine | set(ablation) == set(ImagesSettings.__dataclass_fields__)
    missing = "ConvNeXt-V2" in configurations.path_of(name).read_text()
    assert missing == ("ConvNeXt-V2" in load_table8()[name].encoders)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_configuration_is_the_generator_of_its_column(name: str) -> None:
    held = of(name)
    assert held.sample_shape is not None
    with torch.device("meta"):
        config = held.generator(held.sample_shape, 1000).config
    from drifting_torch import DriftingTransformerConfig

    assert config == DriftingTransformerConfig.of_table8(name)


def test_configurations_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert configurations.resolved(Path("latent-b2")) == configurations.path_of("latent-B/2")
    assert main(["images", "nowhere", "--config", "ablation"]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err
    assert main(["images", "nowhere", "--config", "ablatoin"]) == 2
    assert "No such file" in capsys.readouterr().err
    Path("ablation").write_text("width = 3")  # a file of one's own comes first
    assert main(["images", "nowhere", "--config", "ablation"]) == 2
    assert "width is 3, expected a whole number of at least 4" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, name in enumerate(("a", "b")):
        (tmp_path / "data" / name).mkdir(parents=True)
        values = rng.normal(size=(6, 2, 8, 8)).astype(np.float32) + label
        np.save(tmp_path / "data" / name / "some.npy", values)
        np.save(tmp_path / "data" / name / "single.npy", values[0] + 5)
    return tmp_path / "data"


def test_class_folders(folder: Path) -> None:
    data = ClassFolders(folder)
    assert data.names == ["a", "b"]
    assert data.counts == [7, 7]
    assert data.shape == (2, 8, 8)
    assert torch.equal(data.sample(1, 0), torch.from_numpy(np.load(folder / "b" / "single.npy")))
    assert torch.equal(data.sample(1, 3), torch.from_numpy(np.load(folder / "b" / "some.npy")[2]))
    images, labels = data.draw(40, torch.Generator().manual_seed(0))
    assert images.shape == (40, 2, 8, 8)
    assert set(labels.tolist()) == {0, 1}


def test_pictures_become_pixels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "one").mkdir()
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image.fromarray(pixels).save(tmp_path / "one" / "x.png")
    (found,) = [ClassFolders(tmp_path).sample(0, 0)]
    expected = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) / 127.5 - 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def _spoil(folder: Path, kind: str) -> str:
    if kind == "none":
        return "is no folder"
    if kind == "no classes":
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return "has no folders, expected one for each class"
    if kind == "empty class":
        (folder / "c").mkdir()
        return "holds no samples"
    if kind == "unequal":
        np.save(folder / "b" / "zz.npy", np.zeros((2, 9, 8), np.float32))
        return r"samples of \(2, 9, 8\), expected \(2, 8, 8\)"
    if kind == "cut":
        path = folder / "a" / "some.npy"
        path.write_bytes(path.read_bytes()[:200])
        return "cannot read"
    if kind == "empty file":
        (folder / "a" / "some.npy").write_bytes(b"")
        return "cannot read"
    if kind == "integers":
        np.save(folder / "a" / "aa.npy", np.zeros((2, 8, 8), np.int64))
        return "expected floating numbers"
    values = np.load(folder / "a" / "some.npy")
    values[1, 0, 3, 3] = np.nan
    np.save(folder / "a" / "some.npy", values)
    return "not finite"


@pytest.mark.parametrize(
    "kind",
    ["none", "no classes", "empty class", "unequal", "cut", "empty file", "integers", "not finite"],
)
def test_folders_that_do_not_fit_are_named(folder: Path, kind: str) -> None:
    expected = _spoil(folder, kind)

    def read() -> None:
        data = ClassFolders(folder / "nowhere" if kind == "none" else folder)
        for index in range(data.counts[0]):
            data.sample(0, index)

    with pytest.raises(TrainError, match=expected):
        read()


SMALL = ["--device", "cpu", "--log-every", "1", "--warmup-steps", "2", "--checkpoint-every", "1"]
ENCODER = ["--width", "4", "--blocks", "1", "--batch", "4", "--steps", "2"]
IMAGES = [
    "--encoder-width", "4", "--encoder-blocks", "1", "--width", "16", "--depth", "1",
    "--heads", "2",
    "--labels", "3", "--generated", "3", "--positive", "4", "--unconditional", "2", "--steps", "3",
    "--style-tokens", "2", "--register-tokens", "2", "--micro-batches", "2",
]  # fmt: skip


def test_the_paper_s_generator_trains_on_folders_and_goes_on(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoder, out = tmp_path / "encoder", tmp_path / "run"
    trained = ["encoder", "--folder", str(folder), "--out", str(encoder), *ENCODER, *SMALL]
    assert main(trained) == 0

    def images(out: Path, *more: str) -> int:
        arguments = ["images", str(folder), "--encoder", str(encoder), "--out", str(out)]
        return main([*arguments, *IMAGES, *SMALL, *more])

    assert images(out) == 0
    (line, *_) = [each for each in read_log(out / "log.jsonl") if each["kind"] == "train"]
    assert line["drift_energy/stage1.final.loc/tau=0.2"] > 0
    # Style indices come from the global generators: they too are those of an unbroken run.
    done, count = torch.optim.AdamW.step, [0]

    def killed(self: torch.optim.AdamW, *given: object) -> object:
        count[0] += 1
        if count[0] == 3:
            raise SystemExit
        return done(self, *given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(torch.optim.AdamW, "step", killed)
    with pytest.raises(SystemExit):
        images(tmp_path / "cut")
    monkeypatch.undo()
    assert images(tmp_path / "cut", "--resume") == 0
    states = [load_checkpoint(each)["task"] for each in (out, tmp_path / "cut")]
    assert_equal_states(*states)
    assert main(["sample", str(out), "--count", "5", "--alpha", "2", "--save", "x.txt"]) == 2
    assert main(["sample", str(out), "--count", "5", "--save", str(tmp_path / "x.npy")]) == 0
    assert np.load(tmp_path / "x.npy").shape == (5, 2, 8, 8)
    capsys.readouterr()
    for more, expected in (
        (["--encoder-width", "8"], "does not fit"),
        (["--sample-shape", "4", "8", "8"], "expected (4, 8, 8)"),
        (["--patch", "3"], "input_size is 8, expected a multiple"),
    ):
        assert images(tmp_path / "other", *more) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1


def test_latents_are_cached_by_any_function(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "own_latents.py").write_text(
        "halved = lambda images: images[:, :, ::2, ::2] / 2\n"
        "wrong = lambda images: images.mean()\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "latents"

    def cache(name: str) -> int:
        return main(["latents", str(folder), "--encoder", name, "--save", str(target)])

    for name, expected in (
        ("own_latents.halved", "expected python:package.module:attribute"),
        ("python:own_latents:halve", "has no attribute 'halve'"),
        ("python:own_latentz:halved", "No module named 'own_latentz'"),
        ("python:own_latents:number", "is int, expected something to call"),
        ("python:own_latents:wrong", "returned (), expected latents [7, C, H, W]"),
    ):
        assert cache(name) == 2
        assert expected in capsys.readouterr().err
        assert not target.exists()
    assert cache("python:own_latents:halved") == 0
    before, after = ClassFolders(folder), ClassFolders(target)
    assert after.names == before.names
    assert after.counts == before.counts
    assert torch.equal(after.sample(1, 4), before.sample(1, 4)[:, ::2, ::2] / 2)


def test_the_authors_parameters_are_read_from_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        name.removeprefix("p/"): value
        for name, value in golden.load("B03.params").items()
        if name.startswith("p/")
    }
    for name in ("a", "b"):
        for path in (folder / name).iterdir():
            path.unlink()
        values = np.random.default_rng(0).normal(size=(6, 4, 32, 32))
        np.save(folder / name / "x.npy", values.astype(np.float32))
    good = tmp_path / "good.npz"
    np.savez(good, **given)
    whole = good.read_bytes()

    def images(path: Path, *more: str) -> int:
        arguments = ["images", str(folder), "--encoder", str(path), "--out", str(tmp_path / "run")]
        release = ["--encoder-width", "12", "--encoder-blocks", "1", "2", "1", "1"]
        return main([*arguments, *IMAGES, *SMALL, *release, "--steps", "1", "--patch", "8", *more])

    for kind in ("cut", "damaged", "empty", "array", "text", "few", "none"):
        path = tmp_path / f"{kind}.npz"
        if kind == "array":
            with path.open("wb") as file:
                np.save(file, np.zeros(3))
        elif kind == "few":
            np.savez(path, **dict(list(given.items())[1:]))
        elif kind != "none":
            middle = len(whole) // 2
            damaged = whole[:middle] + bytes(64) + whole[middle + 64 :]
            path.write_bytes(
                {"cut": whole[:middle], "damaged": damaged, "empty": b"", "text": b"hello"}[kind]
            )
        assert images(path, "--readings", "paper,taps=release") == 2, kind
        said = capsys.readouterr().err
        assert f"--encoder {path} does not fit" in said
        assert said.count("\n") == 1
        assert not (tmp_path / "run").exists()
    assert images(good) == 2  # the paper's stages close without a norm
    assert "left over" in capsys.readouterr().err
    assert images(good, "--readings", "paper,taps=release") == 0
    settings = settings_of(
        ImagesSettings,
        {"encoder": str(good), "encoder_width": 12, "encoder_blocks": (1, 2, 1, 1)}
        | {"readings": "paper,taps=release"},
    )
    held = image_encoder(settings, 4, settings.feature_config({})).state_dict()
    kernel = given["encoder/conv1/kernel"].transpose(3, 2, 0, 1)
    assert any(
        value.shape == kernel.shape and np.array_equal(value.numpy(), kernel)
        for value in held.values()
    )
