"""Table 8: its data against a transcription of its own, and its checks against wrong cells."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from drifting_parity.adapters.reference_adapter import ReferenceAdapter
from drifting_parity.checks.core import EXACT, Context
from drifting_parity.checks.paper import table8
from drifting_parity.measure import Measurement
from drifting_spec import PAPER
from drifting_spec.parsing import SpecError
from drifting_spec.registry import load
from drifting_spec.table8 import COLUMNS, Column, columns, load_table8

SPEC = load()
TABLE = load_table8()

# Typed from the table itself, row by row, not from the data file; misprints as they are read.
TRANSCRIPT = """
architecture        DiT-B/2  DiT-B/2  DiT-L/2  DiT-B/16 DiT-L/16
input_shape         32,32,4  32,32,4  32,32,4  256,256,3 256,256,3
patch               2        2        2        16       16
hidden              768      768      1024     768      1024
depth               12       12       24       12       24
register_tokens     16       16       16       16       16
style_tokens        32       32       32       32       32
encoders            ResNet   ResNet   ResNet   ResNet,ConvNeXt-V2 ResNet,ConvNeXt-V2
pretraining         latent-MAE latent-MAE latent-MAE pixel-MAE pixel-MAE
encoder_input       32,32,4  32,32,4  32,32,4  256,256,3 256,256,3
first_stride        1        1        1        8        8
width               256      640      640      640      640
block               basic    basic    basic    basic    basic
blocks              3,4,6,3  3,4,6,3  3,4,6,3  3,4,6,3  3,4,6,3
sides               32,16,8,4 32,16,8,4 32,16,8,4 32,16,8,4 32,16,8,4
mask_ratio          0.5      0.5      0.5      0.5      0.5
mae_epochs          192      1280     1280     1280     1280
classification_steps 0       3000     3000     3000     3000
betas               0.9,0.95 0.9,0.95 0.9,0.95 0.9,0.95 0.9,0.95
learning_rate       2e-4     4e-4     4e-4     2e-4     4e-4
weight_decay        0.01     0.0      0.01     0.01     0.01
warmup_steps        5000     10000    10000    10000    10000
gradient_clip       2.0      2.0      2.0      2.0      2.0
steps               30000    200000   200000   100000   100000
epochs              100      1280     1280     640      640
ema_decays          0.999    0.999,0.9995,0.9998,0.9999 = = =
labels              64       128      128      128      128
positives           64       128      64       128      128
generated           64       64       64       64       64
batch               4096     8192     8192     8192     8192
temperatures        0.02,0.05,0.2 = = = =
alpha_range         1,4      1,4      1,4      1,4      1,4
alpha_law           3,0      5,0      3,0.5    5,0      5,0
unconditional       16       32       32       32       32
inference_alpha     1,3.5    1,3.5    1,3.5    1,3.5    1,3.5
"""


def plain(cell: object) -> tuple[Any, ...]:
    """A cell as numbers and words, whether read from the data or from the transcript."""
    parts = cell.split(",") if isinstance(cell, str) else cell
    parts = parts if isinstance(parts, list | tuple) else (parts,)
    return tuple(float(p) if str(p)[0].isdigit() else p for p in parts)


def test_the_data_is_the_table():
    seen: list[str] = []
    for line in TRANSCRIPT.split("\n")[1:-1]:
        name, *cells = line.split()
        seen.append(name)
        for position, cell in enumerate(cells):
            cells[position] = cells[position - 1] if cell == "=" else cell
        read = [getattr(TABLE[column], name) for column in COLUMNS]
        assert [plain(cell) for cell in read] == [plain(cell) for cell in cells], name
    assert seen == list(Column.__dataclass_fields__)


def test_columns_are_the_five_in_order():
    assert tuple(TABLE) == COLUMNS


def test_every_row_is_a_clause_and_the_other_way_round():
    assert set(SPEC.rows) == {c.id for c in SPEC.clauses.values() if c.kind == "table"}


def test_only_resolved_rows_say_what_is_printed():
    resolved = {row.id: row.marks for row in SPEC.rows.values() if row.marks}
    assert resolved["T8-input"] == ("P-17",)
    assert resolved["T8-block"] == ("O-10", "P-02")
    assert resolved["T8-convstride"] == ("O-11", "P-18")
    assert {mark for marks in resolved.values() for mark in marks} >= {"O-01", "O-02", "O-03"}


def failing() -> set[str]:
    """Clauses that the checks of Table 8 find wrong: by a measurement, or by not coming through."""
    context = Context(ReferenceAdapter(), PAPER, EXACT, SPEC)
    found: set[str] = set()
    for check in table8.CHECKS:
        try:
            measured = [item for item in check.run(context) if isinstance(item, Measurement)]
        except (ValueError, ZeroDivisionError):
            found.update(check.clauses)
            continue
        found.update(clause for item in measured if not item.passed for clause in item.clauses)
    return found


def test_the_table_agrees_with_itself():
    assert failing() == set()


def wrong(field: str, cell: Any) -> Any:
    """Another cell of the same type, near the right one."""
    if field == "architecture":
        return "DiT-L/2" if cell != "DiT-L/2" else "DiT-B/2"
    if field == "ema_decays":
        return (0.9992, *cell[1:])
    if isinstance(cell, tuple):
        first, *rest = cell
        return (wrong("", first), *rest)
    if field == "steps":  # known to the tenth of an epoch only
        return cell + 1000
    return cell * 1.25 if isinstance(cell, float) else cell + 1


CHECKED = [row.id for row in SPEC.rows.values() if SPEC.clauses[row.id].executable]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", CHECKED)
def test_a_wrong_cell_is_found(row: str, column: str, monkeypatch: pytest.MonkeyPatch):
    name = SPEC.rows[row].field
    cell = wrong(name, getattr(TABLE[column], name))
    broken = {**TABLE, column: replace(TABLE[column], **{name: cell})}
    monkeypatch.setattr("drifting_spec.table8.load_table8", lambda: broken)
    assert row in failing()


def test_rows_that_are_settings_say_so():
    settings = [SPEC.clauses[row] for row in SPEC.rows if row not in CHECKED]
    assert {clause.reason for clause in settings} == {"A setting: nothing to compute."}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": (1, 1, 1)}, "row T8-patch.values has 3 entries, expected 5"),
        ({"values": ("2", 2, 2, 16, 16)}, "row T8-patch, column ablation is '2', expected int"),
        ({"printed": ("2×2",) * 5}, "row T8-patch needs printed and marks together, or neither"),
        (
            {"field": "patches"},
            r"rows of Table 8 and fields of Column differ: \['patch', 'patches'",
        ),
    ],
    ids=["count", "type", "marks", "field"],
)
def test_a_broken_row_is_refused(change: dict[str, Any], message: str):
    rows = copy.copy(dict(SPEC.rows))
    rows["T8-patch"] = replace(rows["T8-patch"], **change)
    with pytest.raises(SpecError, match=message):
        columns(rows)
