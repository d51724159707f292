"""``drifting-train encoder`` and ``digits``: small runs, their measures, several processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from test_train_runs import assert_equal_states

from drifting_train.checkpoint import load_checkpoint
from drifting_train.cli import main
from drifting_train.digits_data import Images, digits
from drifting_train.judged import _covered, frechet_distance, judged, spread_ratios
from drifting_train.log import read_log

SMALL = [
    "--device", "cpu", "--log-every", "1", "--evaluate-every", "100", "--warmup-steps", "2",
    "--checkpoint-every", "2", "--steps", "3",
]  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoder") / "run"
    assert main(["encoder", "--out", str(out), "--width", "4", "--batch", "8", *SMALL]) == 0
    return out


def arguments(encoder: Path, out: Path) -> list[str]:
    small = ["--labels", "2", "--generated", "4", "--positive", "5", "--unconditional", "3"]
    sizes = ["--width", "8", "--depth", "1", "--noise", "4"]
    return ["digits", "--encoder", str(encoder), "--out", str(out), *small, *sizes, *SMALL]


@pytest.fixture(scope="module")
def whole(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "run"
    assert main(arguments(encoder, out)) == 0
    return out


def test_the_log_has_every_feature_and_temperature(whole: Path) -> None:
    (line, *_) = [each for each in read_log(whole / "log.jsonl") if each["kind"] == "train"]
    features = {name.split("/")[1] for name in line if name.count("/") == 2}
    assert {"stage1.final.loc", "stage2.final.mean", "input.x2", "(samples)"} <= features
    assert line["loss"] == pytest.approx(line["feature_loss"] + line["raw_loss"], rel=1e-6)
    evaluation = [e for e in read_log(whole / "log.jsonl") if e["kind"] == "evaluation"][-1]
    for name in ("accuracy", "frechet_distance", "precision", "recall", "nearest_training_image"):
        assert {name, f"{name}_real"} <= set(evaluation)


def test_a_run_goes_on_to_the_bit_with_its_queue(
    encoder: Path, whole: Path, tmp_path: Path
) -> None:
    held = load_checkpoint(whole)
    assert held["step"] == 3
    # As if it had been killed after the checkpoint of step 2: written by a run that stops there.
    from drifting_train import loop

    with pytest.MonkeyPatch.context() as patch:
        save = loop.save_checkpoint

        def until_two(path: Path, content: dict[str, object]) -> None:
            if content["step"] != 3:
                save(path, content)

        patch.setattr(loop, "save_checkpoint", until_two)
        assert main(arguments(encoder, tmp_path / "run")) == 0
    assert load_checkpoint(tmp_path / "run")["step"] == 2
    assert main([*arguments(encoder, tmp_path / "run"), "--resume"]) == 0
    assert_equal_states(held["task"], load_checkpoint(tmp_path / "run")["task"])
    assert (whole / "log.jsonl").read_text() == (tmp_path / "run" / "log.jsonl").read_text()


def test_two_processes_train_as_one_does(encoder: Path, whole: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "run"
    program = (
        f"from drifting_train.cli import main; raise SystemExit(main({arguments(encoder, out)!r}))"
    )
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    one, two = (load_checkpoint(each)["task"]["model"] for each in (whole, out))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)
    lines = [
        [each for each in read_log(run / "log.jsonl") if each["kind"] == "train"]
        for run in (whole, out)
    ]
    for alone, shared_line in zip(*lines, strict=True):
        assert alone.keys() == shared_line.keys()
        for name, value in alone.items():
            if name != "kind":
                # A small τ multiplies the rounding of float32, which differs with the shards.
                rel = 1e-3 if name.startswith("drift_energy") else 1e-4
                assert shared_line[name] == pytest.approx(value, rel=rel, abs=1e-9), name


def test_bad_encoders_are_named(
    encoder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, expected in (
        (tmp_path / "none", "drifting-train encoder makes one"),
        (whole, "is of"),
    ):
        assert main(arguments(path, tmp_path / "run")) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1


def test_guided_samples_and_pictures(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for alpha in ("1", "3.5"):
        path = tmp_path / f"{alpha}.npy"
        more = ["--count", "20", "--alpha", alpha, "--save", str(path)]
        assert main(["sample", str(whole), *more]) == 0
        assert np.load(path).shape == (20, 1, 8, 8)
    assert (np.load(tmp_path / "1.npy") != np.load(tmp_path / "3.5.npy")).any()
    assert main(["sample", str(whole), "--alpha", "0.5", "--save", str(tmp_path / "x.npy")]) == 2
    assert main(["plot", str(whole)]) == 0
    assert (whole / "classes-alpha-2.png").exists()


def test_the_frechet_distance_by_hand() -> None:
    # Of a diagonal and a general Gaussian law by exact samples: means apart by 3, 4.
    one = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(one + np.array([3, 4]), one) == pytest.approx(25, abs=1e-4)
    # Twice as wide: (2 − 1)² of each variance, 2/3 and 8/3.
    assert frechet_distance(2 * one, one) == pytest.approx(10 / 3, abs=1e-4)


def test_coverage_by_hand() -> None:
    points = np.arange(5.0)[:, None]
    # The third neighbour of 0 is 3 away, that of 2 is 2 away.
    assert _covered(points, points) == 1
    assert _covered(np.array([[-2.9], [-3.1], [6.9], [7.1]]), points) == 0.5


def test_real_images_are_judged_good_and_others_bad() -> None:
    train, test = digits()
    assert (len(train), len(test)) == (1297, 500)
    real = judged(test)
    assert real["accuracy"] > 0.96
    assert real["precision"] > 0.85
    assert real["recall"] > 0.85
    # Two images of each class, over and over.
    rows = torch.cat([(test.labels == k).nonzero()[:2, 0].repeat(25) for k in range(10)])
    few = Images(test.images[rows], test.labels[rows])
    collapsed = judged(few)
    assert collapsed["recall"] < 0.5
    assert collapsed["frechet_distance"] > 10 * real["frechet_distance"]
    copies = Images(train.images[:500], train.labels[:500])
    assert judged(copies)["nearest_training_image"] == 0
    assert np.mean(spread_ratios(few, train)) < 0.8
