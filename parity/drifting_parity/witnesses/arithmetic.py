"""Effects that are counts: parameters, tokens, epochs, queues, masks, the MAE's loss."""

from __future__ import annotations

import math

import numpy as np

from drifting_parity.witnesses.core import witness
from drifting_reference.alpha_laws import alpha_icdf
from drifting_reference.arithmetic import batch_size, epochs, token_count
from drifting_reference.mae import (
    mask_count_moments,
    mask_from_uniform,
    reconstruction_loss_over_batch,
    reconstruction_loss_per_location,
)

# P-02: parameters of the encoder.


def convolution(inputs: int, outputs: int, side: int) -> int:
    """Weights of a convolution without bias, with scale and shift of its group normalisation."""
    return inputs * outputs * side**2 + 2 * outputs


def encoder_parameters(width: int, *, bottleneck: bool) -> float:
    """Parameters in millions: a 3×3 stem on 4 channels, stages of [3, 4, 6, 3] blocks."""
    total, inputs = convolution(4, width, 3), width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        outputs = width * 2**stage
        for _ in range(blocks):
            if bottleneck:
                inner = outputs // 4
                total += convolution(inputs, inner, 1) + convolution(inner, inner, 3)
                total += convolution(inner, outputs, 1)
            else:
                total += convolution(inputs, outputs, 3) + convolution(outputs, outputs, 3)
            if inputs != outputs:
                total += convolution(inputs, outputs, 1)
            inputs = outputs
    return total / 1e6


@witness("P-02-basic")
def encoder_of_basic_blocks() -> float:
    return encoder_parameters(256, bottleneck=False)


@witness("P-02-bottleneck")
def encoder_of_bottleneck_blocks() -> float:
    return encoder_parameters(256, bottleneck=True)


@witness("P-02-basic-640")
def wide_encoder_of_basic_blocks() -> float:
    return encoder_parameters(640, bottleneck=False)


@witness("P-02-bottleneck-640")
def wide_encoder_of_bottleneck_blocks() -> float:
    return encoder_parameters(640, bottleneck=True)


# P-17, P-18, P-30, P-35, P-36, P-40, P-49, J-22, J-23: the generator and its batch.


@witness("P-17-tokens")
def tokens_by_sec_4_over_table_8() -> float:
    return token_count(256, 16) / token_count(32, 16)


@witness("P-18-field")
def receptive_field_of_patchify_and_convolve() -> float:
    # Which pixels of a row reach one output: a 3-wide kernel over patches of 8.
    patches = np.kron(np.eye(5), np.ones(8))
    reached = np.convolve(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), np.ones(3), "same") @ patches
    return float(np.count_nonzero(reached))


@witness("P-30-batch")
def batch_by_table_2_over_its_caption() -> float:
    # Table 2's row with one positive for each label, 64 labels, 64 generated samples.
    return batch_size(64, 64) / batch_size(64, 1)


@witness("P-35-draws")
def positives_drawn_over_samples_pushed() -> float:
    labels, positives, pushed = 64, 128, 64
    return labels * positives / pushed


SEQUENCE, TABLE, STYLES = 272, 64, 32


@witness("P-36-tables")
def parameters_of_the_other_style_tables() -> float:
    return (STYLES - 1) * TABLE * 768 / 1e6


@witness("J-22-tables")
def parameters_of_the_other_style_tables_of_l() -> float:
    return (STYLES - 1) * TABLE * 1024 / 1e6


def swiglu_width(hidden: int) -> int:
    """8/3 of the width, up to the next multiple of 32."""
    return math.ceil(8 * hidden / 3 / 32) * 32


@witness("J-23-width")
def feed_forward_width_of_l() -> float:
    return float(swiglu_width(1024))


@witness("P-40-side")
def side_after_four_doublings() -> float:
    return 4 * 2**4 / 32


@witness("P-49-multiply-adds")
def multiply_adds_of_l16() -> float:
    h, layers, patch = 1024, 24, 16 * 16 * 3
    block = 4 * h**2 + 3 * h * swiglu_width(h) + 2 * SEQUENCE * h
    modulation = 6 * h**2 * layers
    ends = 2 * 256 * patch * h
    return (layers * SEQUENCE * block + modulation + ends) / 1e9


# P-32, P-41, P-42, P-44, J-18: training.


@witness("P-32-mean")
def spread_of_the_batch_mean_of_alpha() -> float:
    # Drawn for each of 64 labels the mean of a batch spreads an eighth as far as one draw does.
    alpha = alpha_icdf(np.random.default_rng(0).random((400, 64)), 3.0)
    return float(alpha.mean(axis=1).std() / alpha.std())


def mae_example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, outputs [B, H, W, 4] and masks [B, H, W] whose counts differ."""
    source = np.random.default_rng(4)
    x, output = source.normal(size=(2, 6, 32, 32, 4))
    # Samples that differ in difficulty make a mean over samples differ from one over cells.
    output *= np.linspace(0.2, 2.0, 6)[:, None, None, None]
    rates = np.linspace(0.3, 0.7, 6)
    mask = np.stack([mask_from_uniform(source.random((16, 16)), rate) for rate in rates])
    return x, output, mask


@witness("P-41-channels")
def mae_loss_per_location_over_element() -> float:
    x, output, mask = mae_example()
    sample = (x[:1], output[:1], mask[:1])
    return reconstruction_loss_per_location(*sample) / reconstruction_loss_over_batch(*sample)


@witness("P-41-samples")
def mae_loss_per_sample_over_batch() -> float:
    example = mae_example()
    per_sample = reconstruction_loss_per_location(*example) / 4
    return per_sample / reconstruction_loss_over_batch(*example)


@witness("J-18-channels")
def mae_loss_of_pixels_over_per_element() -> float:
    source = np.random.default_rng(6)
    x, output = source.normal(size=(2, 1, 8, 8, 192))
    mask = mask_from_uniform(source.random((4, 4)), 0.5)[None]
    example = (x, output, mask)
    return reconstruction_loss_per_location(*example) / reconstruction_loss_over_batch(*example)


@witness("P-42-spread")
def spread_of_the_masked_count() -> float:
    return mask_count_moments(256, 0.5)[1]


@witness("P-44-ablation")
def epochs_of_the_ablation() -> float:
    return epochs(30_000, 4096)


@witness("P-44-latent")
def epochs_of_the_latent_models() -> float:
    return epochs(200_000, 8192)


@witness("P-44-pixel")
def epochs_of_the_pixel_models() -> float:
    return epochs(100_000, 8192)
