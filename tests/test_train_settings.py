"""Settings of ``drifting-train``: flags, configurations, and what is said of those that misfit."""

from __future__ import annotations

from pathlib import Path

import pytest

from drifting_train import toy2d
from drifting_train.cli import main
from drifting_train.errors import TrainError
from drifting_train.options import read_config, settings_of
from drifting_train.settings import LossSettings, Rate
from drifting_train.toy2d import ToySettings


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command with status 2 says."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("drifting-train: ")
    return err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["toy3d"], "unknown command 'toy3d', expected one of toy2d"),
        (["toy2d", "--step", "5"], "unknown argument '--step'; did you mean '--steps'?"),
        (["toy2d", "--steps", "0"], "--steps is 0, expected a whole number of at least 1"),
        (["toy2d", "--steps", "1.5"], "--steps is '1.5', expected a whole number"),
        (["toy2d", "--learning-rate", "nan"], "--learning-rate is 'nan', expected a number"),
        (["toy2d", "--data", "chequerboard"], "did you mean 'checkerboard'?"),
        (["toy2d", "--readings", "papers"], "--readings: readings part 'papers' is neither"),
        (["toy2d", "--temperatures", "0.1", "-1"], "temperatures"),
        (["toy2d", "--betas", "0.9"], "betas has 1 entries, expected two"),
        (["toy2d", "--device", "cuda:99"], "--device cuda:99 cannot be used"),
        (["toy2d", "--data", "swiss-roll", "--start", "far"], "expected 'near'"),
        (["toy2d", "--steps"], "expected one argument"),
        (["toy2d", "--attraction", "-1"], "--attraction is -1.0, expected a number of at least 0"),
        (["toy2d", "--repulsion", "nan"], "--repulsion is 'nan', expected a number"),
        (["toy2d", "--attraction", "0", "--repulsion", "0"], "are both 0, expected one of them"),
        (["toy2d", "--feature-raw-drift-temperatures", "0"], "raw_drift_temperatures holds 0.0"),
        (["evaluate", "no/such/run"], "there is no checkpoint no/such/run"),
        (["sample", "x", "--count", "-3", "--save", "y.npy"], "expected a whole number"),
        ([], "COMMAND"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in said(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stepz = 4", "unknown key 'stepz'; did you mean 'steps'?"),
        ('steps = "4"', None),
        ("steps = 4.5", "steps is 4.5, expected a whole number"),
        ("steps = true", "steps is True, expected a whole number"),
        ("bf16 = 1", "bf16 is 1, expected true or false"),
        ("temperatures = []", "temperatures is empty"),
        ("data = 3", "data is 3, expected one of two-modes"),
        ("steps = ", "is no TOML file"),
    ],
)
def test_configurations_are_checked_under_their_name(
    text: str, expected: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)

    def read() -> ToySettings:
        return settings_of(ToySettings, read_config(path), origin=str(path))

    if expected is None:
        assert read().steps == 4
        return
    with pytest.raises(TrainError, match=r"own\.toml") as raised:
        read()
    assert expected in str(raised.value)


def test_ablations_reach_the_loss() -> None:
    settings = LossSettings(
        feature_raw_drift_temperatures=(0.9,),
        attraction=1.5,
        repulsion=0.5,
        feature_normalization=False,
        drift_normalization=False,
    )
    found = settings.feature_config({})
    assert found.raw_drift_temperatures == (0.9,)
    wanted = (1.5, 0.5, False, False)
    held = found.ablation
    assert wanted == (
        held.attraction,
        held.repulsion,
        held.feature_normalization,
        held.drift_normalization,
    )
    assert not LossSettings().feature_config({}).ablation.changes


def test_flags_go_over_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.toml"
    monkeypatch.setattr(toy2d, "EVALUATED", 60)
    path.write_text('steps = 3\nwidth = 4\ndepth = 1\nlearning-rate = 0.5\ndata = "swiss-roll"\n')
    out = tmp_path / "run"
    arguments = ["toy2d", "--config", str(path), "--steps", "2", "--out", str(out)]
    assert main([*arguments, "--generated", "4", "--positive", "4"]) == 0
    assert "step 2" in capsys.readouterr().out
    assert main([*arguments, "--generated", "4", "--positive", "4", "--steps", "1"]) == 2


@pytest.mark.parametrize("aggregation", ["sum_drifts_then_mse", "per_temperature_mse"])
def test_the_note_s_flags_set_the_one_home_of_each_choice(aggregation: str) -> None:
    values = {
        "feature_temperature_aggregation": aggregation,
        "feature_include_raw_drift_loss": True,
        "feature_raw_drift_loss_weight": 0.25,
        "readings": "release",
    }
    config = settings_of(LossSettings, values).feature_config({"include_input_x2_mean": False})
    assert config.readings.temperature_aggregation == aggregation
    assert config.readings.affinity_floor == "1e-6"
    assert config.vectorization.readings == config.readings
    assert config.include_raw_drift_loss
    assert config.raw_drift_loss_weight == 0.25


def test_the_readings_aggregation_stays_unless_it_is_set() -> None:
    values = {"readings": "paper,temperature_aggregation=per_temperature_mse"}
    config = settings_of(LossSettings, values).feature_config({})
    assert config.readings.temperature_aggregation == "per_temperature_mse"


def test_the_rate_rises_and_falls() -> None:
    rate = Rate(4, 10, "cosine")
    assert [Rate(4, 10, "constant")(step) for step in (0, 1, 3, 4, 10)] == [0.25, 0.5, 1, 1, 1]
    assert rate(0) == 0.25
    assert rate(5) == pytest.approx(0.5)
    assert rate(10) == pytest.approx(0, abs=1e-15)
