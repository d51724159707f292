"""Runs of ``drifting-train``: going on after being cut short, equal logs, and nothing lost."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drifting_train import toy2d
from drifting_train.checkpoint import load_checkpoint, save_checkpoint, write_whole
from drifting_train.cli import main
from drifting_train.errors import TrainError
from drifting_train.log import read_log
from drifting_train.toy2d import ToyTask

SMALL = [
    "--generated", "8", "--positive", "6", "--width", "8", "--depth", "1", "--device", "cpu",
    "--log-every", "2", "--evaluate-every", "5", "--checkpoint-every", "3", "--warmup-steps", "2",
]  # fmt: skip


def toy(out: Path, *more: str) -> int:
    return main(["toy2d", "--out", str(out), "--steps", "11", *SMALL, *more])


def assert_equal_states(one: Any, other: Any) -> None:
    """Equal to the bit, all the way down."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_equal_states(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal_states(mine, theirs)
    else:
        assert one == other


@pytest.fixture(scope="module", autouse=True)
def _few_points() -> Iterator[None]:
    """Evaluations of few points: what they measure is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy2d, "EVALUATED", 60)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert toy(out) == 0
    return out


def assert_as(whole: Path, out: Path) -> None:
    mine, theirs = load_checkpoint(whole), load_checkpoint(out)
    assert_equal_states(mine["task"], theirs["task"])
    assert mine["step"] == theirs["step"] == 11
    assert (whole / "log.jsonl").read_text() == (out / "log.jsonl").read_text()


def test_the_same_command_twice_gives_the_same(whole: Path, tmp_path: Path) -> None:
    assert toy(tmp_path / "run") == 0
    assert_as(whole, tmp_path / "run")
    assert toy(tmp_path / "other", "--seed", "1") == 0
    assert (whole / "log.jsonl").read_text() != (tmp_path / "other" / "log.jsonl").read_text()


class Killed(BaseException):
    """What stops a run at once, with nothing written any more."""


@pytest.mark.parametrize("step", range(1, 12))
def test_a_run_cut_short_at_any_step_goes_on_to_the_bit(
    step: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, count = ToyTask.step, [0]

    def killed(task: ToyTask) -> dict[str, float]:
        count[0] += 1
        if count[0] == step:
            raise Killed
        return done(task)

    monkeypatch.setattr(ToyTask, "step", killed)
    with pytest.raises(Killed):
        toy(tmp_path / "run")
    monkeypatch.undo()
    assert toy(tmp_path / "run", "--resume") == 0
    assert_as(whole, tmp_path / "run")


def test_a_killed_process_goes_on_to_the_bit(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Slow steps, so that it is killed on its way and not after.
    program = (
        "import time\n"
        "from drifting_train.cli import main\n"
        "from drifting_train import toy2d\n"
        "from drifting_train.toy2d import ToyTask\n"
        "toy2d.EVALUATED = 60\n"
        "done = ToyTask.step\n"
        "ToyTask.step = lambda task: time.sleep(0.05) or done(task)\n"
        f"main(['toy2d', '--out', {str(out)!r}, '--steps', '11', *{SMALL!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    try:
        log, waited = out / "log.jsonl", 0
        while waited < 6000 and (not log.exists() or '"step": 4,' not in log.read_text()):
            time.sleep(0.01)
            waited += 1
            assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert load_checkpoint(out)["step"] < 11
    half = out / ".checkpoint.pt.123.part"
    half.write_bytes(b"as if it had been killed while it wrote")
    assert toy(out, "--resume") == 0
    assert not half.exists()
    assert_as(whole, out)


def test_an_interrupted_run_saves_where_it_is(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, count = ToyTask.batch, [0]

    def interrupted(task: ToyTask) -> Any:
        # Within a step, when its numbers are drawn and its update is still to come.
        found = drawn(task)
        count[0] += 1
        if count[0] == 7:
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(ToyTask, "batch", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert toy(tmp_path / "run") == 130
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "run")["step"] == 7
    assert toy(tmp_path / "run", "--resume") == 0
    assert_as(whole, tmp_path / "run")


def error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_a_run_is_not_written_over(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / "checkpoint.pt").read_bytes()
    assert toy(whole) == 2
    assert "holds a run already: --resume goes on" in error(capsys)
    assert toy(whole, "--resume", "--width", "9") == 2
    assert "width was 8 and is 9" in error(capsys)
    assert (whole / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "foreign", "list", "folder"])
def test_checkpoints_that_are_none_are_refused(
    kind: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    good = (whole / "checkpoint.pt").read_bytes()
    if kind == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": good[: len(good) // 2], "empty": b"", "text": b"hello"}[kind])
    for arguments in (["evaluate", str(path.parent)], ["plot", str(path)]):
        assert main(arguments) == 2
        assert str(path) in error(capsys)
    assert toy(path.parent, "--resume") == 2
    assert str(path) in error(capsys)


def test_a_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    saves, save = [0], torch.save

    def failing(content: object, file: Any) -> None:
        saves[0] += 1
        if saves[0] == 3:
            file.write(b"half")
            raise full
        save(content, file)

    monkeypatch.setattr(torch, "save", failing)
    out = tmp_path / "run"
    assert toy(out) == 2
    assert "No space left on device; the one before is kept" in error(capsys)
    monkeypatch.undo()
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "log.jsonl"]
    assert load_checkpoint(out)["step"] == 3


def test_a_disk_that_fills_while_pytorch_writes_is_named(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        """PyTorch's writer raises an error of its own over what this raises."""

        def write(self, data: Any) -> int:
            if self.tell() > 3000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"the one before")
    with pytest.raises(TrainError, match="No space left on device; the one before is kept"):
        write_whole(path, lambda _: torch.save({"a": torch.zeros(5000)}, Full()))
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert path.read_bytes() == b"the one before"


def test_a_second_interruption_ends_a_step_and_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, count = ToyTask.batch, [0]

    def interrupted(task: ToyTask) -> Any:
        count[0] += 1
        if count[0] == 8:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return drawn(task)

    monkeypatch.setattr(ToyTask, "batch", interrupted)
    assert toy(tmp_path / "run") == 130
    assert load_checkpoint(tmp_path / "run")["step"] == 6


def test_parameters_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done, count = ToyTask.step, [0]

    def broken(task: ToyTask) -> dict[str, float]:
        values = done(task)
        count[0] += 1
        if count[0] == 6:
            next(task.model.parameters()).data.view(-1)[3] = torch.inf
        return values

    monkeypatch.setattr(ToyTask, "step", broken)
    # No evaluation between the update and the checkpoint, which would stop at the samples.
    assert toy(tmp_path / "run", "--evaluate-every", "100") == 2
    assert "step 6: parameter" in (said := error(capsys))
    assert "not finite; training stopped" in said
    assert load_checkpoint(tmp_path / "run")["step"] == 3


def test_a_run_from_before_a_setting_goes_on(whole: Path, tmp_path: Path) -> None:
    held = load_checkpoint(whole)
    del held["settings"]["repulsion"]
    for out in (tmp_path / "one", tmp_path / "other"):
        out.mkdir()
        save_checkpoint(out / "checkpoint.pt", held)
        (out / "log.jsonl").write_text((whole / "log.jsonl").read_text())
    assert toy(tmp_path / "one", "--resume") == 0
    assert toy(tmp_path / "other", "--resume", "--repulsion", "2") == 2


def test_tensorboard_has_the_log_s_numbers_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done, count = ToyTask.step, [0]

    def killed(task: ToyTask) -> dict[str, float]:
        count[0] += 1
        if count[0] == 9:
            raise Killed
        return done(task)

    monkeypatch.setattr(ToyTask, "step", killed)
    out = tmp_path / "run"
    with pytest.raises(Killed):
        toy(out, "--tensorboard")
    monkeypatch.undo()
    assert toy(out, "--tensorboard", "--resume") == 0  # from step 6: that of 8 is written again
    held = events.EventAccumulator(str(out / "tensorboard"))
    held.Reload()
    lines = [each for each in read_log(out / "log.jsonl") if each["kind"] == "train"]
    for name in ("loss", "drift_energy/points/tau=0.2"):
        shown = [(each.step, each.value) for each in held.Scalars(f"train/{name}")]
        assert shown == [(each["step"], pytest.approx(each[name], rel=1e-6)) for each in lines]
    assert [each.step for each in held.Scalars("evaluation/energy_distance")] == [0, 5, 10, 11]


def test_tensorboard_that_is_not_installed_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert toy(tmp_path / "run", "--tensorboard") == 2
    assert "--tensorboard needs the package tensorboard: pip install" in error(capsys)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert toy(blocked / "run") == 2
    assert f"cannot write to {blocked / 'run'}: Not a directory" in error(capsys)
    with pytest.raises(TrainError, match="cannot write"):
        save_checkpoint(tmp_path / "none" / "checkpoint.pt", {})


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, count = ToyTask.batch, [0]

    def broken(task: ToyTask) -> Any:
        found = drawn(task)
        count[0] += 1
        if count[0] == 5:
            found.positive[0, 2, 1] = torch.nan
        return found

    monkeypatch.setattr(ToyTask, "batch", broken)
    assert toy(tmp_path / "run") == 2
    said = error(capsys)
    assert "step 5: feature 'points'" in said
    assert "is kept as it was" in said
    assert load_checkpoint(tmp_path / "run")["step"] == 3


def test_the_log_says_what_the_run_did(whole: Path) -> None:
    lines = list(read_log(whole / "log.jsonl"))
    train = [each for each in lines if each["kind"] == "train"]
    assert [each["step"] for each in train] == [2, 4, 6, 8, 10, 11]
    assert [each["step"] for each in lines if each["kind"] == "evaluation"] == [0, 5, 10, 11]
    for tau in ("0.02", "0.05", "0.2"):
        assert train[0][f"drift_energy/points/tau={tau}"] > 0
    assert train[0]["loss"] == train[0]["feature_loss"]
    assert "raw_loss" not in train[0]


def test_the_vanilla_term_is_logged_apart(tmp_path: Path) -> None:
    more = ["--feature-include-raw-drift-loss", "--feature-raw-drift-loss-weight", "0.5"]
    assert toy(tmp_path / "run", *more) == 0
    (line, *_) = [each for each in read_log(tmp_path / "run" / "log.jsonl") if "loss" in each]
    assert line["loss"] == pytest.approx(line["feature_loss"] + 0.5 * line["raw_loss"], rel=1e-6)
    assert line["raw_loss"] == pytest.approx(line["feature_loss"], rel=1e-6)


def test_a_half_line_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1, "kind": "train"}) + '\n{"step": 2, "ki')
    assert [each["step"] for each in read_log(path)] == [1]
    path.write_text('{"step": 2, "ki\n' + json.dumps({"step": 1}) + "\n")
    with pytest.raises(TrainError, match="line 1 is no JSON"):
        list(read_log(path))


def test_samples_and_evaluations_of_a_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np = pytest.importorskip("numpy")
    for seed in (3, 3, 4):
        path = tmp_path / f"{seed}.npy"
        arguments = ["--count", "5", "--seed", str(seed), "--save", str(path)]
        assert main(["sample", str(whole), *arguments]) == 0
        assert np.load(path).shape == (5, 2)
    assert (np.load(tmp_path / "3.npy") != np.load(tmp_path / "4.npy")).all()
    assert main(["sample", str(whole), "--save", str(tmp_path / "a.txt")]) == 2
    assert "ends in .npy" in error(capsys)
    assert main(["evaluate", str(whole)]) == 0
    assert "energy_distance" in capsys.readouterr().out


def test_pictures_of_a_run(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("checkpoint.pt", "log.jsonl"):
        (run / name).write_bytes((whole / name).read_bytes())
    assert main(["plot", str(run)]) == 0
    assert capsys.readouterr().out.split() == [str(run / "points.png"), str(run / "curves.png")]
    assert all((run / name).read_bytes()[:4] == b"\x89PNG" for name in ("points.png", "curves.png"))
