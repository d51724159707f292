"""``drifting-train encoder``: its crops, and the fine-tuning by classification."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_train_runs import assert_equal_states

pytest.importorskip("sklearn")

from drifting_train.checkpoint import load_checkpoint
from drifting_train.cli import main
from drifting_train.encoder import EncoderSettings, EncoderTask, augmented, trained_encoder
from drifting_train.log import read_log

SMALL = ["--width", "4", "--batch", "8", "--device", "cpu", "--warmup-steps", "1"]
SMALL += ["--log-every", "1", "--checkpoint-every", "2", "--evaluate-every", "100"]
TUNED = ["--classification-steps", "4", "--classification-ramp", "2", "--crop", "0.5", "--flip"]


def encoder(out: Path, *more: str) -> int:
    return main(["encoder", "--out", str(out), "--steps", "6", *SMALL, *more])


def test_crops_are_parts_of_the_image() -> None:
    rng = torch.Generator().manual_seed(0)
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    images = torch.cat([ramp, ramp.transpose(2, 3)], 1).expand(400, 2, 16, 16)
    whole = augmented(images, rng, 1.0, flip=False)
    torch.testing.assert_close(whole, images, rtol=0, atol=1e-5)
    found = augmented(images, rng, 0.2, flip=True)
    # A crop of a ramp is a ramp: its slopes are the shares of the sides.
    across = found[:, 0, 8, 9] - found[:, 0, 8, 8]
    down = found[:, 1, 9, 8] - found[:, 1, 8, 8]
    assert 0.4 < float((across < 0).float().mean()) < 0.6
    area = across.abs() * down
    assert 0.19 < float(area.min()) < 0.25
    assert 0.55 < float(area.mean()) < 0.65
    assert float(down.min()) > 0
    assert float(down.max()) <= 1.0001
    inside = (across.abs() < 0.999) & (down < 0.999)  # a side is not longer than the image
    ratio = (across.abs() / down)[inside]
    assert float(ratio.max()) < 4 / 3 + 1e-3
    assert float(ratio.min()) > 3 / 4 - 1e-3
    assert found.min() >= -1e-4
    assert found.max() <= 15.0001
    again = augmented(images, torch.Generator().manual_seed(5), 0.2, flip=False)
    other = augmented(images, torch.Generator().manual_seed(5), 0.2, flip=False)
    assert torch.equal(again, other)
    assert float((again[:, 0, 8, 9] - again[:, 0, 8, 8]).min()) > 0


def test_the_last_steps_are_those_of_the_classification(tmp_path: Path) -> None:
    assert encoder(tmp_path / "run", *TUNED) == 0
    lines = list(read_log(tmp_path / "run" / "log.jsonl"))
    train = [each for each in lines if each["kind"] == "train"]
    weights = [each.get("classification_weight") for each in train]
    assert weights == [None, None, 0.0, 0.05, 0.1, 0.1]
    for each in train[2:]:
        weight = each["classification_weight"]
        mixed = weight * each["classification_loss"] + (1 - weight) * each["reconstruction_loss"]
        assert each["loss"] == pytest.approx(mixed, rel=1e-6)
    assert 0 <= lines[-1]["classification_accuracy"] <= 1
    # What digits and images take of it is the encoder alone, on a run that is like any other.
    assert not any("head" in name for name in trained_encoder(tmp_path / "run", 1, 8).state_dict())


def test_all_parameters_learn_from_the_classes() -> None:
    settings = EncoderSettings(
        width=4, batch=8, steps=4, classification_steps=4, classification_peak=1.0,
        classification_ramp=1, warmup_steps=1, weight_decay=0.0, device="cpu",
    )  # fmt: skip
    task = EncoderTask(settings, torch.device("cpu"))
    task.step()
    task.step()  # λ is 1: the reconstruction counts no longer
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None, name
        if name.startswith(("encoder.", "head.")):
            assert float(parameter.grad.abs().sum()) > 0 or name.endswith("bias"), name


def test_a_fine_tuned_run_goes_on_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoder(tmp_path / "whole", *TUNED) == 0
    done, count = EncoderTask.step, [0]

    def killed(task: EncoderTask) -> dict[str, float]:
        count[0] += 1
        if count[0] == 6:
            raise SystemExit
        return done(task)

    monkeypatch.setattr(EncoderTask, "step", killed)
    with pytest.raises(SystemExit):
        encoder(tmp_path / "cut", *TUNED)
    monkeypatch.undo()
    assert encoder(tmp_path / "cut", *TUNED, "--resume") == 0
    states = [load_checkpoint(tmp_path / each)["task"] for each in ("whole", "cut")]
    assert_equal_states(*states)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--classification-steps", "7"], "classification-steps is 7, expected at most the 6"),
        (["--crop", "0"], "crop is 0.0, expected a number above 0"),
        (["--crop", "1.5"], "--crop is 1.5, expected a number of at most 1"),
    ],
)
def test_what_does_not_fit_is_said(
    more: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encoder(tmp_path / "run", *more) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
