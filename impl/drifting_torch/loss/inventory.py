"""The vectors of a configuration, counted without running anything (A.5)."""

from __future__ import annotations

from collections.abc import Sequence

from drifting_spec import PAPER, Readings, inventory
from drifting_torch.arguments.tensors import check_readings
from drifting_torch.features.vectors import FeatureVectorizationConfig
from drifting_torch.loss.all_features import FeatureDriftingConfig


def slot_inventory(
    width: int,
    config: FeatureDriftingConfig | FeatureVectorizationConfig | None = None,
    *,
    input_shape: tuple[int, int, int] = (4, 32, 32),
    patch_size: int = 1,
    blocks: Sequence[int] = inventory.BLOCKS,
    readings: Readings | None = None,
) -> dict[str, inventory.Slots]:
    """Key → (vectors, channels) of all that ``config`` computes a loss for.

    Parameters
    ----------
    width, patch_size, blocks
        As of the :class:`MAEResNetEncoder`.
    config
        A :class:`FeatureDriftingConfig` counts the vanilla term as well, under the key
        ``samples``; a :class:`FeatureVectorizationConfig` the vectors alone. The paper's default.
    input_shape
        Channels, rows and columns of the images.
    readings
        Those of the encoder, where they differ from the config's.

    Raises
    ------
    ValueError
        For an encoder that cannot be, and for sides that patches do not divide under
        ``patch_remainder='error'``.
    """
    config = config or FeatureDriftingConfig(readings=readings or PAPER)
    if not isinstance(config, (FeatureDriftingConfig, FeatureVectorizationConfig)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"config is {config!r}, expected a FeatureDriftingConfig or FeatureVectorizationConfig"
        )
    vanilla = isinstance(config, FeatureDriftingConfig) and config.include_raw_drift_loss
    vectors = config.vectorization if isinstance(config, FeatureDriftingConfig) else config
    taken = check_readings(vectors.readings)
    if readings is not None:
        taken = taken.with_reading("taps", check_readings(readings).taps)
    wanted: dict[inventory.Statistic, bool] = {
        "loc": vectors.include_per_location,
        "global": vectors.include_global_stats,
        "patch2": vectors.include_patch2_stats,
        "patch4": vectors.include_patch4_stats,
        "x2": vectors.include_input_x2_mean,
        "vanilla": vanilla,
    }
    channels, height, columns = input_shape
    return inventory.slot_inventory(
        width,
        inventory.InputShape(height, columns, channels, patch_size),
        blocks=blocks,
        statistics=[name for name, included in wanted.items() if included],
        readings=taken,
    )
