"""The transcript in README.md: ``python tests/readme_transcript.py`` writes it anew."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
COMMAND = ("report", "--quick", "--clause", "A6-*")
MARKER = "<!-- transcript: report -->"


def run() -> str:
    """The report that the transcript shows, as it is printed when piped."""
    command = [sys.executable, "-m", "drifting_parity.cli", *COMMAND]
    width = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=width)
    return done.stdout.strip()


def block(text: str) -> str:
    """The transcript as it stands in the README."""
    shown = " ".join(f"'{word}'" if "*" in word else word for word in COMMAND)
    return f"{MARKER}\n```\n$ drifting-parity {shown}\n{text}\n```"


def shown() -> str:
    """What the README holds now."""
    found = re.search(rf"{re.escape(MARKER)}\n```\n.*?\n```", README.read_text(), re.DOTALL)
    return found.group(0) if found else ""


def without_numbers(text: str) -> str:
    """The text with what changes from machine to machine left out: numbers, platform, spacing."""
    text = re.sub(r"(?m)^ *(run|versions) .*$", "", text)
    text = re.sub(r"-?\d[\d.e+-]*|\b(bit for bit)\b", "#", text)
    return re.sub(r"\s+", " ", text)


if __name__ == "__main__":
    content = README.read_text()
    old = shown() or MARKER
    README.write_text(content.replace(old, block(run())))
