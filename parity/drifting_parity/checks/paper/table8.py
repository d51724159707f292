"""Table 8 held to itself and to the text: the rows from which another number follows.

The rows are the spec's data and the reference does the arithmetic: the adapter is not asked. Rows
that are settings and imply nothing else (learning rate, width …) have no check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.checks.paper.identifiability import absolute
from drifting_parity.checks.paper.laws import printed
from drifting_parity.measure import Measurement, compare, within
from drifting_reference import alpha_laws, arithmetic, features, guidance
from drifting_spec import table8
from drifting_spec.table8 import Column

EXACT = absolute(0.0, "counts and names are equal or not")
CLOSE = absolute(1e-12, "a few roundings of numbers of order one")
SHAPES = {"B": (768, 12), "L": (1024, 24)}
"""Width and depth of the transformers called B and L."""

TOKENS = 256


@dataclass(frozen=True)
class Printed:
    """What a column implies, as the clauses print it: ``weights`` at α = 2 and α = 4."""

    epochs: float
    mae_steps: int
    mean_alpha: float
    weights: tuple[float, float]


PRINTED = {
    "ablation": Printed(95.9, 30_000, 1.6, (3.9375, 11.8125)),
    "latent-B/2": Printed(1278.8, 200_000, 1.3176471, (1.96875, 5.90625)),
    "latent-L/2": Printed(1278.8, 200_000, 1.3, (1.96875, 5.90625)),
    "pixel-B/16": Printed(639.4, 200_000, 1.3176471, (1.96875, 5.90625)),
    "pixel-L/16": Printed(639.4, 200_000, 1.3176471, (1.96875, 5.90625)),
}


def _architecture(name: str, column: Column) -> Iterator[Measurement]:
    """The name's letter and number against width, depth and patch; 256 tokens and 16 in front."""
    letter, patch = column.architecture.removeprefix("DiT-").split("/")
    shape = np.array([*SHAPES[letter], float(patch)])
    rows = np.array([column.hidden, column.depth, float(column.patch)])
    yield compare(("T8-arch",), "width, depth, patch", name, rows, shape, EXACT)
    height, width, channels = column.input_shape
    tokens = arithmetic.token_count(height, column.patch)
    yield compare(("T8-input", "T8-patch"), "tokens", name, tokens, TOKENS, EXACT)
    yield compare(("T8-input",), "side of the input", name, width, height, EXACT)
    mode = 4 if column.pretraining == "latent-MAE" else 3
    yield compare(("T8-input",), "channels of the input", name, channels, mode, EXACT)
    length = tokens + column.register_tokens
    yield compare(("T8-register",), "length of the sequence", name, length, 272, EXACT)


def _encoder(name: str, column: Column) -> Iterator[Measurement]:
    """32×32 in the first stage, sides that halve, 16 blocks of which 9 are tapped."""
    side = column.encoder_input[0] / column.first_stride
    clauses = ("T8-enc-in", "T8-convstride")
    yield compare(clauses, "side of the first stage", name, side, column.sides[0], EXACT)
    encoded = np.array(column.encoder_input, dtype=np.float64)
    generated = np.array(column.input_shape, dtype=np.float64)
    quantity = "the encoder's input is the generator's output"
    yield compare(("T8-enc-in",), quantity, name, encoded, generated, EXACT)
    halves = np.array([large / small for large, small in pairwise(column.sides)])
    yield compare(("T8-sizes",), "side by the next", name, halves, np.full(3, 2.0), EXACT)
    yield compare(("T8-blocks",), "blocks", name, sum(column.blocks), 16, EXACT)
    # After every second block and at the end of the stage: ⌈blocks/2⌉ taps (A5-taps).
    taps = {side: -(-count // 2) for side, count in zip(column.sides, column.blocks, strict=True)}
    yield compare(("T8-blocks",), "maps tapped", name, sum(taps.values()), 9, EXACT)
    vectors = features.total_vector_count(taps)
    yield compare(("T8-sizes", "T8-blocks"), "vectors", name, vectors, 4542, EXACT)


def _schedule(name: str, column: Column) -> Iterator[Measurement]:
    """B from its factors, epochs from steps, decays as numbers of steps."""
    batch = arithmetic.batch_size(column.labels, column.generated)
    yield compare(("T8-B",), "N_c·N_neg", name, column.batch, batch, EXACT)
    epochs = arithmetic.epochs(column.steps, column.batch)
    wanted = PRINTED[name].epochs
    yield within(
        ("T8-steps",), "epochs of the steps, printed", name, abs(epochs - wanted), printed(1)
    )
    tens = 10.0 * round(epochs / 10.0)
    yield compare(("T8-epochs",), "epochs of the steps, to tens", name, column.epochs, tens, EXACT)
    mae_epochs = arithmetic.epochs(PRINTED[name].mae_steps, 8192)
    off = abs(mae_epochs / column.mae_epochs - 1.0)
    yield within(("T8-mae-ep",), "epochs of the autoencoder, relative", name, off, 1e-3)
    # What an average of zeros takes from a one is 1 − d.
    zero, one = np.zeros(1), np.ones(1)
    steps = [1.0 / float(arithmetic.ema_update(zero, one, d)[0]) for d in column.ema_decays]
    expected = [1000.0, 2000.0, 5000.0, 10_000.0][: len(steps)]
    room = absolute(1e-7, "1 − d carries a rounding of d, times 1/(1 − d)²")
    quantity = "1/(1 − d)"
    yield compare(("T8-ema",), quantity, name, np.array(steps), np.array(expected), room)


def _averages(name: str, column: Column) -> Iterator[Measurement]:
    """PB-50: after n updates by the same θ the average is θ + dⁿ(θ_0 − θ)."""
    start, constant, count = np.array([2.0, -1.0]), np.array([0.5, 3.0]), 100
    for decay in column.ema_decays:
        average = start
        for _ in range(count):
            average = arithmetic.ema_update(average, constant, decay)
        wanted = constant + decay**count * (start - constant)
        yield compare(("T8-ema",), "average of a constant", name, average, wanted, CLOSE)


def _guidance(name: str, column: Column) -> Iterator[Measurement]:
    """The law's mean and support; the weights of α = 2 and of the range's ends."""
    n, atom = column.alpha_law
    mean = alpha_laws.alpha_moment(1, n, atom)
    error = abs(mean - PRINTED[name].mean_alpha)
    yield within(("T8-alpha-p",), "E α, printed", name, error, printed(7))
    ends = np.asarray(alpha_laws.alpha_icdf([0.0, 1.0], n, atom), dtype=np.float64)
    clauses = ("T8-alpha-p", "T8-alpha-range")
    yield compare(clauses, "ends of the law", name, ends, np.array(column.alpha_range), CLOSE)
    at_two, at_four = PRINTED[name].weights
    low, high = (
        guidance.cfg_alpha_to_weight(alpha, column.generated, column.unconditional)
        for alpha in column.alpha_range
    )
    yield compare(("T8-alpha-range",), "largest w", name, high, at_four, CLOSE)
    yield compare(("T8-alpha-range",), "least w", name, low, 0.0, CLOSE)
    weight = guidance.cfg_alpha_to_weight(2.0, column.generated, column.unconditional)
    yield compare(("T8-Nunc",), "w at α = 2", name, weight, at_two, CLOSE)


def _pixel_size(ctx: Context) -> Iterator[Yield]:
    """As printed, pixel models would have 4 tokens (P-17): the rows say 256."""
    del ctx
    tokens = arithmetic.token_count(32, 16)
    yield compare(("T8-input",), "tokens of 32×32 by patches of 16", "as printed", tokens, 4, EXACT)


def _every_column(ctx: Context) -> Iterator[Yield]:
    del ctx
    for name, column in table8.load_table8().items():
        for part in (_architecture, _encoder, _schedule, _averages, _guidance):
            yield from part(name, column)


CHECKS: tuple[Check, ...] = (
    Check(
        "T8-consistency",
        "Table 8: rows that follow from others agree in all five columns, and with the text",
        (
            "T8-arch",
            "T8-input",
            "T8-patch",
            "T8-register",
            "T8-enc-in",
            "T8-convstride",
            "T8-blocks",
            "T8-sizes",
            "T8-mae-ep",
            "T8-steps",
            "T8-epochs",
            "T8-ema",
            "T8-B",
            "T8-alpha-range",
            "T8-alpha-p",
            "T8-Nunc",
        ),
        "golden value",
        _every_column,
    ),
    Check(
        "T8-pixel-input",
        "Table 8: the printed input of the pixel models would be 4 tokens (P-17)",
        ("T8-input",),
        "golden value",
        _pixel_size,
    ),
)
