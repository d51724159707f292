"""What the README shows works: its snippets run, its transcript is what the report prints."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import readme_transcript
import torch

from drifting_torch import drifting_loss

EXAMPLES = Path(__file__).parents[1] / "examples"


def snippet(name: str) -> str:
    pattern = rf"<!-- snippet: {name} -->\n```python\n(.*?)```"
    found = re.search(pattern, readme_transcript.README.read_text(), re.DOTALL)
    assert found, f"README has no snippet {name!r}"
    return found.group(1)


FILES = {
    "judge": "judge_a_loss.py",
    "notebook": "judge_in_a_notebook.py",
    "points": "train_on_points.py",
    "train": "loss_on_features.py",
    "step": "train_classes.py",
}


@pytest.mark.parametrize("name", FILES)
def test_a_snippet_is_a_file_that_runs(name: str) -> None:
    """All of it after the first docstring; of the longest one that which trains."""
    _, _, code = (EXAMPLES / FILES[name]).read_text().partition('"""\n\n')
    assert code
    if name == "step":
        code, comes, _ = code.partition("\nwith average.applied")
        assert comes
    assert snippet(name) == code


def test_the_snippets_are_short() -> None:
    for name, most in {"judge": 5, "points": 20, "train": 12, "step": 40}.items():
        statements = [
            node for node in ast.walk(ast.parse(snippet(name))) if isinstance(node, ast.stmt)
        ]
        assert len(statements) <= most, name


def printed_by(name: str, folder: Path) -> str:
    """What an example prints, run from elsewhere and without warnings."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=alone
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return done.stdout


def test_a_function_is_judged_in_python(tmp_path: Path) -> None:
    printed = printed_by("judge_in_a_notebook.py", tmp_path)
    assert printed.startswith("drifting-parity: plain_drifting_loss ")
    assert "explained" in printed


def numbers(pattern: str, text: str) -> list[float]:
    return [float(each) for each in re.findall(pattern, text)]


def test_points_are_trained(tmp_path: Path) -> None:
    printed = printed_by("train_on_points.py", tmp_path)
    shares = numbers(r"(\d+)% of the points", printed)
    assert len(shares) == 4
    assert shares[0] < 10
    assert shares[-1] > 50
    energies = numbers(r"drift energy ([\d.]+)", printed)
    assert energies[-1] < energies[1]
    assert all(0 < loss < 9 for loss in numbers(r"loss ([\d.]+)", printed))


def test_the_loss_on_features_has_a_gradient(tmp_path: Path) -> None:
    printed = printed_by("loss_on_features.py", tmp_path)
    assert re.fullmatch(r"15 features, loss [\d.]+, gradient [\d.e+]+\n", printed), printed


def test_classes_are_trained(tmp_path: Path) -> None:
    """The queue is filled first; then the average's images are those of their classes."""
    printed = printed_by("train_classes.py", tmp_path)
    lines = printed.splitlines()
    assert lines[0].startswith("0: the queue is filling, [")
    energies = numbers(r"drift energy ([\d.]+)", printed)
    assert len(energies) == 6
    assert energies[-1] < energies[0] / 2
    (share,) = numbers(r"(\d+)% of the images", lines[-1])
    assert share >= 80


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


@pytest.mark.parametrize(
    ("change", "status"),
    [(("", ""), 0), (("temperature * root", "temperature"), 1), (("(logit.softmax(-1) *", "("), 1)],
    ids=["right", "temperature", "one softmax"],
)
def test_judging_as_shown(tmp_path: Path, change: tuple[str, str], status: int) -> None:
    """The example from its own folder; changed, it is told from what is right."""
    (tmp_path / "judge_a_loss.py").write_text(snippet("judge"))
    code = (EXAMPLES / "plain_loss.py").read_text()
    assert change[0] in code
    (tmp_path / "plain_loss.py").write_text(code.replace(*change) if change[0] else code)
    command = [sys.executable, "-m", "drifting_parity.cli", "report", "--quick"]
    command += ["--implementation", "python:judge_a_loss:adapter"]
    command += ["--clause", "EQ-2*", "-v"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    if not status:
        assert "deviates" not in done.stdout
        assert re.search(r"✓ EQ-26 ", done.stdout)


def test_the_example_conforms_in_every_clause_that_it_lets_be_seen(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "drifting_parity.cli", "report", "--quick"]
    command += ["--implementation", f"python:{EXAMPLES / 'plain_loss.py'}:plain_drifting_loss"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", readme_transcript.COMMANDS)
def test_a_transcript_is_what_is_printed(name: str) -> None:
    shown = readme_transcript.compared(readme_transcript.shown(name))
    text = readme_transcript.block(name, readme_transcript.run(name))
    printed = readme_transcript.compared(text)
    assert shown == printed, "run `python tests/readme_transcript.py`"
