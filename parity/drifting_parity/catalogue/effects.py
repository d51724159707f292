"""The measured effects of deltas, readable without measuring them.

``explain`` must answer at once, and measuring takes the reference and SciPy. So the numbers stand
in ``effects.json`` under the hash of the data that they were measured for. It is generated:
``python -m drifting_parity.catalogue.effects`` writes it anew, and a test holds it to what the
reference gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drifting_parity.witnesses import Effect

PATH: Final = Path(__file__).with_name("effects.json")


def measured(ids: Iterable[str]) -> dict[str, str]:
    """The effects ``ids`` with three digits, by id, measured anew if the shipped ones are stale."""
    document = json.loads(PATH.read_text(encoding="utf-8"))
    if document["data"] == _hash_of_data():
        return {name: document["effects"][name] for name in ids}
    from drifting_parity.witnesses import measure

    return {effect.id: in_digits(effect) for effect in measure(ids)}


def in_digits(effect: Effect) -> str:
    """Print three significant digits, and of what is zero but for rounding only that it is so."""
    if effect.error:
        return effect.error
    if effect.witness.low <= 0.0 <= effect.witness.high <= 1e-6:
        return "0"
    return f"{effect.value:.3g}"


def rendered() -> str:
    """Measure every effect and write the file's text: one effect on each line."""
    from drifting_parity.witnesses import measure

    lines = [f"    {json.dumps(item.id)}: {json.dumps(in_digits(item))}" for item in measure()]
    body = ",\n".join(lines)
    return f'{{\n  "data": "{_hash_of_data()}",\n  "effects": {{\n{body}\n  }}\n}}\n'


def _hash_of_data() -> str:
    witnesses = resources.files("drifting_spec").joinpath("data", "witnesses.toml")
    return hashlib.sha256(witnesses.read_bytes()).hexdigest()


if __name__ == "__main__":
    PATH.write_text(rendered(), encoding="utf-8")
