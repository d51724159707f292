"""Effects on the loss: temperatures, locations, labels, channels, and its constant value."""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import G2, Samples, apart, cosine, points, samples
from drifting_parity.witnesses.core import witness
from drifting_reference import (
    feature_space_drifting_loss,
    training_loss,
    training_step,
    vectorize_feature_maps,
)
from drifting_spec import PAPER, RELEASE, SEED, Readings

ONE = (0.2,)


def with_(**readings: str) -> Readings:
    """The paper's readings but for these."""
    changed = PAPER
    for axis, reading in readings.items():
        changed = changed.with_reading(axis, reading)
    return changed


PER_TEMPERATURE = with_(temperature_aggregation="per_temperature_mse")
MEAN_OF_TEMPERATURES = with_(temperature_aggregation="per_temperature_mse_mean")


def size(array: Array) -> float:
    """The l2 norm."""
    return float(np.linalg.norm(array))


# P-01: several temperatures.


@witness("P-01-value")
def summed_drifts() -> float:
    return G2.loss().loss


@witness("P-01-table-8")
def one_loss_for_each_temperature() -> float:
    return G2.loss(PER_TEMPERATURE).loss


@witness("P-01-ratio")
def values_on_drawn_samples() -> float:
    case = samples(N=16, P=16, C=16)
    return case.loss().loss / case.loss(PER_TEMPERATURE).loss


@witness("P-01-gradient")
def gradients_of_both() -> float:
    case = samples()
    return apart(case.loss(PER_TEMPERATURE).gradient, case.loss().gradient)


@witness("P-01-mean")
def gradient_of_a_mean() -> float:
    case = samples()
    return size(case.loss(MEAN_OF_TEMPERATURES).gradient) / size(case.loss().gradient)


# P-22: squared norm against mean squared error.


@witness("P-22-step")
def norm_over_mse_of_algorithm_1() -> float:
    case = points(C=7)
    step = training_step(lambda noise: noise, case.x, case.y_pos, 1.0)
    return training_loss(step.x, step.x_drifted) / step.loss


@witness("P-22-feature")
def norm_over_mse_of_a_feature() -> float:
    case = samples(C=8)
    return case.loss(with_(channel_reduction="sum")).loss / case.loss().loss


# P-23, J-08, R-08: sum over vectors or mean over locations.


def maps_loss(readings: Readings) -> tuple[float, int]:
    """The loss with one temperature of the vectors of one 8×8 map, and how many keys it has."""
    source = np.random.default_rng(5)
    names = ("generated", "positive")
    maps = {name: source.normal(size=(5, 2, 8, 8)) for name in names}
    vectors = {
        name: {
            key: value[None]
            for key, value in vectorize_feature_maps({"m": maps[name]}, readings=readings).items()
        }
        for name in names
    }
    out = feature_space_drifting_loss(
        vectors["generated"],
        vectors["positive"],
        include_raw_drift_loss=False,
        temperatures=ONE,
        readings=readings,
    )
    return out.loss, len(vectors["generated"])


@witness("P-23-sum")
def loss_of_an_8x8_map_by_the_text() -> float:
    return maps_loss(PAPER)[0]


@witness("P-23-mean")
def loss_of_an_8x8_map_by_the_mean() -> float:
    return maps_loss(with_(location_reduction="mean"))[0]


@witness("P-23-weight")
def weight_of_a_location_map() -> float:
    one_vector, locations = samples(V=1), samples(V=16)
    return locations.loss(PAPER, ONE).loss / one_vector.loss(PAPER, ONE).loss


@witness("J-08-locations")
def release_on_many_locations() -> float:
    case = samples(V=16)
    return size(case.loss(RELEASE, ONE).gradient) / size(
        case.loss(RELEASE.with_reading("location_reduction", "sum"), ONE).gradient
    )


@witness("R-08-locations")
def seed_on_many_locations() -> float:
    return samples(V=16).loss(SEED.with_reading("affinity_floor", "none"), ONE).loss


# P-47, R-21: reduction over labels.


@witness("P-47-sum")
def sum_over_mean_of_labels() -> float:
    case = samples(L=4)
    return size(case.loss(with_(label_reduction="sum")).gradient) / size(case.loss().gradient)


@witness("R-21-mean")
def seed_over_labels() -> float:
    # With λ for each label, every label's loss is 1 with one temperature, and so is their mean.
    return samples(L=4).loss(SEED.with_reading("affinity_floor", "none"), ONE).loss


# P-34: the value says nothing about how far the generator is; P-38, J-24: all samples coincide.


@witness("P-34-loss")
def loss_at_equilibrium() -> float:
    x = samples(N=8).generated
    return Samples(x, x).loss(PAPER, ONE).loss


@witness("P-34-gradient")
def gradient_at_equilibrium() -> float:
    here, x = samples(N=16, P=16), samples(7, N=16).generated
    away = Samples(here.generated, here.positive + 3.0)
    there = Samples(here.generated, x)
    both = [
        size(case.loss(PAPER, ONE).gradient) * case.loss(PAPER, ONE).feature_scale.item()
        for case in (there, away)
    ]
    return both[0] / both[1]


@witness("P-34-energy")
def drift_energy_at_equilibrium() -> float:
    here, x = samples(N=16, P=16), samples(7, N=16).generated
    away = Samples(here.generated, here.positive + 3.0)
    there = Samples(here.generated, x)
    near, far = (case.loss(PAPER, (1.0,)).drift_energy.item() for case in (there, away))
    return near / far


@witness("P-34-degenerate")
def release_where_everything_coincides() -> float:
    same = np.ones((1, 8, 1, 4))
    return Samples(same, same).loss(RELEASE, (0.02, 0.05, 0.2)).loss


def at_the_first_step(readings: Readings) -> Array:
    """The normalised drift when all generated samples coincide: [N, C]."""
    case = samples()
    return Samples(np.zeros_like(case.generated), case.positive).loss(readings, ONE).drift[0, :, 0]


@witness("P-38-spread")
def rows_of_the_drift_where_samples_coincide() -> float:
    drift = at_the_first_step(PAPER)
    return float(np.abs(drift - drift[0]).max())


@witness("J-24-size")
def drift_where_samples_coincide() -> float:
    return float(np.mean(at_the_first_step(RELEASE) ** 2))


# P-46: in which space the drift lives; R-20: which temperatures.


@witness("P-46-space")
def drift_of_raw_against_normalised_features() -> float:
    case = samples()
    out = case.loss()
    return apart(case.scaled(1 / out.feature_scale.item()).loss().drift, out.drift)


@witness("R-20-temperature")
def one_temperature_against_three() -> float:
    case = samples(N=16, P=16, C=16)
    return cosine(case.loss(PAPER, (0.05,)).drift, case.loss().drift)
