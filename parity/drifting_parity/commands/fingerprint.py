"""``drifting-parity fingerprint``: say what an implementation computes."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from drifting_parity.adapters.conduct import together
from drifting_parity.commands.output import output_path, write_out, write_whole
from drifting_parity.commands.report import limits, load_named, parsed_readings
from drifting_parity.errors import UNJUDGED
from drifting_parity.explanation.data import Explanation
from drifting_parity.explanation.fingerprint import fingerprint
from drifting_parity.explanation.wording import as_text, first_screen, verdict


def run_fingerprint(options: argparse.Namespace) -> int:
    """Carry out the command: 0 as asked for, 1 where it differs, 3 where nothing was answered."""
    output = output_path(options.output)
    readings = parsed_readings(options.readings)
    adapter = load_named(options.implementation, limits(options))
    explanation = fingerprint(adapter, readings, name=options.implementation, seed=options.seed)
    conduct = together([*adapter.conduct(), *adapter.close()])
    explanation = replace(explanation, notes=(*explanation.notes, *map(str, conduct)))
    text = render(explanation, options.format)
    if output is None:
        write_out(text)
    else:
        write_whole(output, text)
        print(f"{verdict(explanation)}\nwritten to {options.output}", file=sys.stderr)
    if any(item.failing for item in conduct):
        return max(1, status(explanation))
    return status(explanation)


def render(explanation: Explanation, form: str) -> str:
    """The explanation in one of the formats."""
    if form == "json":
        data = explanation.as_json()
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return as_text(first_screen(explanation))


def status(explanation: Explanation) -> int:
    """The exit status that belongs to an explanation."""
    if not explanation.calls or not (
        explanation.explained or explanation.unexplained or explanation.deviations
    ):
        return UNJUDGED
    as_asked = explanation.explained and explanation.taken == explanation.asked
    return 0 if as_asked and not explanation.deviations and not explanation.dials else 1
