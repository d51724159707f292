"""The table of toys of ``python -m drifting_train.toys``."""

from __future__ import annotations

from pathlib import Path

import pytest

from drifting_train import toy2d, toys
from drifting_train.toys import TOYS, main


def test_the_table_has_each_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(toy2d, "EVALUATED", 60)
    monkeypatch.setattr(toys, "TOYS", [each for each in TOYS if each.name != "swiss roll"])
    arguments = ["--out", str(tmp_path), "--steps", "1", "--seeds", "0", "4"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    lines = [line.split(" | ") for line in first.splitlines()[2:]]
    assert [line[0].removeprefix("| ") for line in lines] == [each.name for each in toys.TOYS]
    for line in lines:
        assert all(len(line[at].split(", ")) == 2 for at in (1, 2, 3))
    assert main(arguments) == 0  # what is there is not trained again
    assert capsys.readouterr().out == first
    assert main([*arguments[:2], "--steps", "0"]) == 2
    assert "--steps is below 1" in capsys.readouterr().err
