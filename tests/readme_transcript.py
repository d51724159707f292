"""The transcripts in README.md: ``python tests/readme_transcript.py`` writes them anew."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
COMMANDS = {
    "report": ("report", "--quick", "--clause", "A6-*"),
    "fingerprint": (
        "fingerprint",
        "--implementation",
        "python:drifting_parity.suspects.wrong:D09__D71",
    ),
}
"""What each transcript runs, and its exit status: 0 for our own code, 1 for the wrong one."""


def run(name: str) -> str:
    """What a transcript shows, as it is printed when piped."""
    command = [sys.executable, "-m", "drifting_parity.cli", *COMMANDS[name]]
    width = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=width)
    if done.returncode != (name == "fingerprint"):
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def block(name: str, text: str) -> str:
    """A transcript as it stands in the README."""
    shown = " ".join(f"'{word}'" if "*" in word else word for word in COMMANDS[name])
    return f"{_marker(name)}\n```\n$ drifting-parity {shown}\n{text}\n```"


def _marker(name: str) -> str:
    return f"<!-- transcript: {name} -->"


def shown(name: str) -> str:
    """What the README holds now."""
    found = re.search(rf"{re.escape(_marker(name))}\n```\n.*?\n```", README.read_text(), re.DOTALL)
    return found.group(0) if found else ""


def without_run(text: str) -> str:
    """The text without the lines on when and with which versions it ran."""
    return re.sub(r"(?m)^ *(run|versions) .*(\n {9}.*)*$", "", text)


def compared(text: str) -> str:
    """The text without what changes from machine to machine: how it rounds, versions, spacing.

    What was counted and how far off it is stay.
    """
    text = re.sub(r"explained (exactly|to \S+) on", "explained on", without_run(text))
    return re.sub(r"\s+", " ", text)


if __name__ == "__main__":
    for each in COMMANDS:
        content = README.read_text()
        old, new = shown(each) or _marker(each), block(each, run(each))
        if without_run(old) != without_run(new):
            README.write_text(content.replace(old, new))
