"""``drifting-train figures``: what is drawn, from trainings of a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

import torch

from drifting_train.cli import main
from drifting_train.figures import snapshots
from drifting_train.toy2d import ToySettings


def test_snapshots_are_of_the_steps_asked_for() -> None:
    settings = ToySettings(steps=4, generated=8, positive=8, width=8, depth=1, warmup_steps=1)
    real, taken = snapshots(settings, [0, 2, 4])
    assert real.shape == (800, 2)
    assert [each.step for each in taken] == [0, 2, 4]
    assert taken[0].points.mean(0).abs().max() < 0.7
    assert not torch.equal(taken[0].points, taken[1].points)
    assert taken[2].energy > 0
    again = snapshots(settings, [0, 2, 4])[1]
    assert all(torch.equal(a.points, b.points) for a, b in zip(taken, again, strict=True))


def test_the_figures_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    arguments = ["figures", "--steps", "2", "--gif"]
    assert main([*arguments, "--save", str(tmp_path / "here")]) == 0
    drawn = [Path(line) for line in capsys.readouterr().out.split()]
    names = {"near", "far", "collapsed", "swiss-roll", "checkerboard", "eight-gaussians"}
    assert {path.stem for path in drawn} == names | {"figure-3", "figure-4"}
    for path in drawn:
        with image.open(path) as held:
            assert getattr(held, "n_frames", 1) == (3 if path.suffix == ".gif" else 1)
    (tmp_path / "file").write_text("")
    assert main([*arguments, "--save", str(tmp_path / "file" / "x")]) == 2
    assert "cannot write to" in capsys.readouterr().err
