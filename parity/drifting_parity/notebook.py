"""Judging from Python, as in a notebook: results that print, show themselves and hold the data."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drifting_parity.adapters import Adapter, load_adapter
from drifting_parity.cases import Setting
from drifting_parity.explanation.data import Explanation
from drifting_parity.forms.guess import guess
from drifting_parity.judging import verdicts
from drifting_parity.report.as_json import to_json
from drifting_parity.report.data import Report
from drifting_parity.report.screen import first_screen
from drifting_parity.report.terminal import terminal
from drifting_parity.report.wording import explanation as words_of
from drifting_spec import PAPER, Readings, parse_readings

WIDTH = 100
"""Columns of what is printed."""


@dataclass(frozen=True)
class Judgement:
    """What the judge says of an implementation.

    Printed it is the first screen of ``drifting-parity report``; a notebook shows that with the
    clauses that fail. ``report`` holds everything.
    """

    report: Report

    @property
    def explanation(self) -> Explanation | None:
        """What the implementation computes, None where that was not asked."""
        return self.report.explanation

    @property
    def conforms(self) -> bool:
        """Whether everything that could be seen is as asked: the exit status is 0."""
        return self.report.exit_status == 0

    def as_json(self) -> dict[str, Any]:
        """The report as ``drifting-parity report --format json`` writes it."""
        return to_json(self.report)

    def full(self) -> str:
        """Every clause with its measurements, as ``drifting-parity report -v`` prints them."""
        return terminal(self.report, WIDTH, colour=False, verbose=True)

    def __str__(self) -> str:
        """The first screen."""
        lines = first_screen(self.report, WIDTH)
        return "\n".join(" " * line.indent + line.text for line in lines)

    def _repr_html_(self) -> str:
        rows = [
            "<tr>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(cell)}</td>"
                for cell in (item.id, item.title, item.verdict, "; ".join(words_of(item)))
            )
            + "</tr>"
            for item in self.report.failing
        ]
        table = f"<table>{''.join(rows)}</table>" if rows else ""
        return f"<pre>{html.escape(str(self))}</pre>{table}"


def judge(
    subject: Adapter | Callable[..., Any] | type | str,
    readings: Readings | str = PAPER,
    *,
    quick: bool = True,
    dtype: str | None = None,
    device: str = "cpu",
    clause: str = "*",
    seed: int = 0,
    name: str = "",
) -> Judgement:
    """Judge an implementation and return what is said of it.

    Parameters
    ----------
    subject
        An :class:`Adapter` (``drifting_parity.forms`` makes one in a line); a function or module
        whose call form is guessed; or a target as ``drifting-parity report --implementation``
        takes it, which runs in a process of its own. What is handed in as an object runs here.
    readings
        What it is held to: a set, or its text (``"release,floors=none"``).
    quick
        Fewer cases.
    dtype, device
        How it is run; by default in float64 on the CPU, or the first dtype that it offers.
    clause
        A pattern of clause ids; all by default.
    seed
        Draws the cases.
    name
        What it is called in the report.

    Raises
    ------
    AdapterError, GuessError
        For a target that does not load, or code that fits no call form, or more than one.
    ValueError
        For readings, a dtype or a device that there is not.
    """
    if isinstance(subject, str):
        adapter, name = load_adapter(subject), name or subject
    elif isinstance(subject, Adapter):
        adapter = subject
    else:
        adapter, _ = guess(subject, name or getattr(subject, "__name__", "subject"))
    offered = adapter.dtypes
    chosen = dtype or ("float64" if "float64" in offered else offered[0])
    if chosen not in offered:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(offered)}")
    if device.partition(":")[0] not in adapter.devices and device not in adapter.devices:
        raise ValueError(f"device is {device!r}, expected one of {', '.join(adapter.devices)}")
    request = verdicts.Request(
        target=name or adapter.name,
        adapter=adapter,
        readings=parse_readings(readings) if isinstance(readings, str) else readings,
        setting=Setting(dtype=chosen, device=device),
        seed=seed,
        quick=quick,
        clause_glob=clause,
    )
    return Judgement(verdicts.judge(request))
