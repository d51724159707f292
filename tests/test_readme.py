"""What the README shows works: its snippets run, its transcript is what the report prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import readme_transcript
import torch
from toy_step import ToyGenerator

from drifting_torch import drifting_loss


def snippet(name: str) -> str:
    pattern = rf"<!-- snippet: {name} -->\n```python\n(.*?)```"
    found = re.search(pattern, readme_transcript.README.read_text(), re.DOTALL)
    assert found, f"README has no snippet {name!r}"
    return found.group(1)


def test_the_snippets_have_about_ten_lines() -> None:
    for name in ("judge", "train", "step"):
        statements = [
            node for node in ast.walk(ast.parse(snippet(name))) if isinstance(node, ast.stmt)
        ]
        assert len(statements) <= 10, name


def test_training_as_shown_gives_gradients() -> None:
    torch.manual_seed(0)
    generated = torch.randn(8, 3, 8, 8, requires_grad=True)
    names: dict[str, Any] = {
        "encoder": torch.nn.Conv2d(3, 4, 3, padding=1),
        "generated": generated,
        "real": torch.randn(6, 3, 8, 8),
        "labels": torch.arange(2).repeat_interleave(4),
        "real_labels": torch.arange(2).repeat_interleave(3),
    }
    exec(snippet("train"), names)
    assert generated.grad is not None
    assert generated.grad.norm() > 0


def test_stepping_as_shown_trains(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet with its 64 made 4, its 16 made 2."""
    torch.manual_seed(0)
    generator, rng = ToyGenerator(), torch.Generator().manual_seed(0)
    before = [each.detach().clone() for each in generator.parameters()]
    batches = [(torch.randn(8, 2, 8, 8), torch.arange(8) % 2) for _ in range(3)]
    names: dict[str, Any] = {
        "torch": torch,
        "classes": 2,
        "loader": batches,
        "rng": rng,
        "generator": generator,
        "encoder": torch.nn.Conv2d(2, 4, 3, padding=1).eval(),
        "optimizer": torch.optim.AdamW(generator.parameters(), lr=1e-2),
    }
    exec(snippet("step").replace("(64, 16", "(4, 2").replace("64", "4"), names)
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["0", "1", "2"]
    assert all(key in printed for key in ("'loss'", "'drift_energy/map0.loc'", "'gradient_norm'"))
    assert not any(map(torch.equal, before, generator.parameters()))


def test_the_energy_tells_what_the_loss_does_not() -> None:
    """The FAQ: clouds that approach each other, from out of reach until they are one."""
    losses: list[float] = []
    energies: list[list[float]] = []
    for shift in (4.0, 1.0, 0.5, 0.0):
        torch.manual_seed(0)
        clouds = torch.randn(2, 4, 64, 1, 8)
        one = drifting_loss(clouds[0] + shift, clouds[1], temperatures=(0.2,))
        assert float(one.loss) == pytest.approx(1.0, rel=1e-5)
        three = drifting_loss(clouds[0] + shift, clouds[1])
        losses.append(float(three.loss))
        energies.append(three.drift_energy.flatten().tolist())
    assert all(0 < loss < 9 for loss in losses)
    assert max(losses) < 1.5 * min(losses)
    smallest, _, largest = zip(*energies, strict=True)
    assert largest[1] > largest[2] > largest[3] > 0
    assert smallest[0] < 1e-9 * smallest[1]  # out of reach


MY_CODE = """
from drifting_torch import drifting_loss


def my_drifting_loss(generated, positive, unconditional, weight, temperatures):
    return drifting_loss(
        generated, positive, unconditional, weight, temperatures=temperatures
    ).loss * {factor}
"""


@pytest.mark.parametrize(("factor", "status"), [(1, 0), (2, 1)], ids=["right", "wrong"])
def test_judging_as_shown(tmp_path: Path, factor: int, status: int) -> None:
    (tmp_path / "my_adapter.py").write_text(snippet("judge"))
    (tmp_path / "my_code.py").write_text(MY_CODE.format(factor=factor))
    command = [sys.executable, "-m", "drifting_parity.cli", "report", "--quick"]
    command += ["--implementation", "python:my_adapter:adapter", "--clause", "EQ-26"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr


def test_the_transcript_is_what_the_report_prints() -> None:
    shown = readme_transcript.without_numbers(readme_transcript.shown())
    printed = readme_transcript.without_numbers(readme_transcript.block(readme_transcript.run()))
    assert shown == printed, "run `python tests/readme_transcript.py`"
