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


def snippet(name: str) -> str:
    pattern = rf"<!-- snippet: {name} -->\n```python\n(.*?)```"
    found = re.search(pattern, readme_transcript.README.read_text(), re.DOTALL)
    assert found, f"README has no snippet {name!r}"
    return found.group(1)


def test_the_snippets_have_about_ten_lines() -> None:
    for name in ("judge", "train"):
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
