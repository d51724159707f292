"""How good class-conditional images are, in the features of an independently trained classifier.

Every measure is taken of the generated images and of the test images alike, both against the
training images: what real images reach is the figure to compare with.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

from drifting_train.digits_data import CLASSES, Images, digits

Array = npt.NDArray[np.floating]

NEIGHBOURS = 3
"""k of the precision and recall by nearest neighbours."""


class Classifier:
    """scikit-learn's network with one hidden layer, trained on the training images alone."""

    def __init__(self, train: Images) -> None:
        self._network: Any = MLPClassifier((256,), random_state=0, max_iter=60, alpha=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._network.fit(_flat(train), train.labels.numpy())

    def accuracy(self, images: Images) -> float:
        """Share of the images that it takes for their labels."""
        return float(self._network.score(_flat(images), images.labels.numpy()))

    def features(self, images: Images) -> Array:
        """The hidden layer [B, 256]."""
        return np.maximum(_flat(images) @ self._network.coefs_[0] + self._network.intercepts_[0], 0)


def _flat(images: Images) -> Array:
    return images.images.double().flatten(1).numpy()


@cache
def classifier() -> Classifier:
    """The classifier of the digits; trained once in a process, always the same."""
    return Classifier(digits()[0])


def frechet_distance(one: Array, other: Array) -> float:
    """Squared Fréchet distance between the Gaussians of two sets of features [N, D], [M, D]."""
    gap = one.mean(0) - other.mean(0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # The root of a product of singular matrices: its real part is what is meant.
    root = np.real(np.asarray(sqrtm(first @ second + 1e-10 * np.eye(len(first)))))
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.trace(root))


def _covered(points: Array, by: Array) -> float:
    """Share of the points within the ``NEIGHBOURS``-th neighbour's distance of one of ``by``."""
    distances, _ = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(by).kneighbors(by)
    radii = distances[:, -1]
    # A neighbour's distance, found by products, is off by rounding.
    return float((cdist(points, by) <= radii * (1 + 1e-9)).any(1).mean())


def nearest_distance(images: Images, train: Images) -> float:
    """Mean distance of the images to the nearest training image, in pixels' units."""
    neighbours = NearestNeighbors(n_neighbors=1).fit(_flat(train))
    return float(neighbours.kneighbors(_flat(images))[0].mean())


def spread_ratios(images: Images, train: Images) -> list[float]:
    """For each class the standard deviation of the images over that of the training images."""

    def spread(held: Images, label: int) -> float:
        return float(_flat(held)[held.labels.numpy() == label].var(0).sum() ** 0.5)

    return [spread(images, label) / spread(train, label) for label in range(CLASSES)]


def judged(images: Images) -> dict[str, float]:
    """All measures of images against the training images."""
    train, _ = digits()
    held = classifier()
    mine, theirs = held.features(images), held.features(train)
    ratios = spread_ratios(images, train)
    return {
        "accuracy": held.accuracy(images),
        "frechet_distance": frechet_distance(mine, theirs),
        "precision": _covered(mine, theirs),
        "recall": _covered(theirs, mine),
        "spread_within_class": float(np.mean(ratios)),
        "least_spread_within_class": float(np.min(ratios)),
        "nearest_training_image": nearest_distance(images, train),
    }
