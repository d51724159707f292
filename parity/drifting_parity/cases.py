"""Cases: concrete inputs with their manifest, as NumPy arrays in float64.

Shapes use the letters L labels, N generated, P positives, U unconditional, V vectors that share
one S and one λ, C channels, M negatives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drifting_spec import Readings, Traits
from drifting_spec.generator import GeneratorSizes

Array = NDArray[np.float64]

Conditioning = Literal["ordinary", "offset", "coincident"]
"""Which tolerance a case can be held to: ``offset`` has a common mean of 100 spreads,
``coincident`` has samples that coincide or nearly do."""

PAPER_TEMPERATURES = (0.02, 0.05, 0.2)


@dataclass(frozen=True)
class Manifest:
    """Where a case comes from and why it exists."""

    id: str
    exercises: str = ""
    source: str = "drawn"
    seed: int | None = None
    conditioning: Conditioning = "ordinary"


@dataclass(frozen=True)
class FieldCase:
    """Inputs of Algorithm 2: ``x`` [N, C], ``positive`` [P, C], ``negative`` [M, C].

    With ``mask_self`` the first N negatives are ``x`` itself. ``negative_weight`` [M] or None.
    """

    manifest: Manifest
    x: Array
    positive: Array
    negative: Array
    temperature: float
    mask_self: bool = True
    negative_weight: Array | None = None

    def traits(self) -> Traits:
        """What decides which axes can show on this case."""
        return Traits(
            level="field",
            channels=self.x.shape[-1],
            self_masked=self.mask_self,
            weighted=self.negative_weight is not None,
        )

    def changed(self, **arrays: object) -> FieldCase:
        """Copy with some of the inputs replaced."""
        return replace(self, **arrays)  # pyright: ignore[reportArgumentType] -- field names


@dataclass(frozen=True)
class LossCase:
    """Inputs of the loss of one feature (A.6).

    ``generated`` [L, N, V, C], ``positive`` [L, P, V, C], ``unconditional`` [L, U, V, C] or None;
    weights [L, U], [L, N], [L, P] or None.
    """

    manifest: Manifest
    generated: Array
    positive: Array
    unconditional: Array | None = None
    unconditional_weight: Array | None = None
    generated_weight: Array | None = None
    positive_weight: Array | None = None
    temperatures: tuple[float, ...] = PAPER_TEMPERATURES

    def traits(self) -> Traits:
        """What decides which axes can show on this case."""
        labels, _, vectors, channels = self.generated.shape
        weights = (self.unconditional_weight, self.generated_weight, self.positive_weight)
        return Traits(
            level="loss",
            labels=labels,
            vectors=vectors,
            channels=channels,
            temperatures=len(self.temperatures),
            weighted=any(weight is not None for weight in weights),
        )

    def changed(self, **arrays: object) -> LossCase:
        """Copy with some of the inputs replaced."""
        return replace(self, **arrays)  # pyright: ignore[reportArgumentType] -- field names

    def scaled(self, factor: float) -> LossCase:
        """Copy with every feature multiplied by ``factor``: φ → cφ."""
        unconditional = None if self.unconditional is None else self.unconditional * factor
        return replace(
            self,
            generated=self.generated * factor,
            positive=self.positive * factor,
            unconditional=unconditional,
        )


@dataclass(frozen=True)
class FeatureCase:
    """Inputs of the feature-space loss: features by key, each as in :class:`LossCase`.

    The raw samples [L, N, ...] feed the vanilla term, which is on when they are given.
    """

    manifest: Manifest
    generated: Mapping[str, Array]
    positive: Mapping[str, Array]
    unconditional: Mapping[str, Array] | None = None
    unconditional_weight: Array | None = None
    generated_samples: Array | None = None
    positive_samples: Array | None = None
    unconditional_samples: Array | None = None
    raw_weight: float = 1.0
    temperatures: tuple[float, ...] = PAPER_TEMPERATURES

    def traits(self) -> Traits:
        """What decides which axes can show on this case."""
        first = next(iter(self.generated.values()))
        return Traits(
            level="features",
            labels=first.shape[0],
            vectors=max(array.shape[2] for array in self.generated.values()),
            channels=max(array.shape[3] for array in self.generated.values()),
            temperatures=len(self.temperatures),
            weighted=self.unconditional_weight is not None,
            raw_samples=self.generated_samples is not None,
        )

    def changed(self, **arrays: object) -> FeatureCase:
        """Copy with some of the inputs replaced."""
        return replace(self, **arrays)  # pyright: ignore[reportArgumentType] -- field names


@dataclass(frozen=True)
class VectorizeCase:
    """Inputs of the vectorisation of A.5: maps [B, C, H, W] by name, encoder inputs [B, C0, H, W].

    ``statistics`` are those wanted of (a) ``loc``, (b) ``global``, (c) ``patch2``, (d) ``patch4``
    and ``x2`` (which needs ``inputs``).
    """

    manifest: Manifest
    maps: Mapping[str, Array]
    inputs: Array | None = None
    statistics: tuple[str, ...] = ("loc", "global", "patch2", "patch4")
    input_patch_size: int = 1

    def traits(self) -> Traits:
        """What decides which axes can show on this case."""
        sides = [side for array in self.maps.values() for side in array.shape[2:]]
        return Traits(
            level="features",
            patch_remainder=any(side % 4 for side in sides),
            input_statistics="x2" in self.statistics,
            pixel_input=self.input_patch_size > 1,
        )


CLOSING_NORM = re.compile(r"encoder/layer\d+_norm/")


@dataclass(frozen=True)
class EncoderCase:
    """Inputs of the encoder of A.3: images [B, C0, H0, W0], its parameters, its size.

    ``parameters`` go by the release's names, kernels laid out [row, column, in, out]; the
    decoder's, where a case has them, by those of ``drifting_reference.decoder_shapes``. ``mask``
    [B, H, W] on the encoder's grid is 1 where the input is hidden.
    """

    manifest: Manifest
    images: Array
    parameters: Mapping[str, Array]
    width: int
    blocks: tuple[int, ...]
    patch_size: int = 1
    mask: Array | None = None

    def traits(self) -> Traits:
        """What decides which axes can show on this case."""
        return Traits(level="features", encoder=True)

    def parameters_under(self, readings: Readings) -> dict[str, Array]:
        """Without the norms that close each stage, unless the readings have them."""
        closed = readings.taps == "release"
        return {
            name: array
            for name, array in self.parameters.items()
            if closed or not CLOSING_NORM.match(name)
        }

    def changed(self, **arrays: object) -> EncoderCase:
        """Copy with some of the inputs replaced."""
        return replace(self, **arrays)  # pyright: ignore[reportArgumentType] -- field names


@dataclass(frozen=True)
class EncodedLossCase:
    """The loss of images through an encoder: ``encoder`` holds it and the generated images.

    ``encoder.images`` [L·N, C0, H0, W0] are label-major; ``positive`` [L, P, C0, H0, W0],
    ``unconditional`` [L, U, C0, H0, W0], ``unconditional_weight`` [L]. The vanilla term is on.
    """

    encoder: EncoderCase
    positive: Array
    unconditional: Array
    unconditional_weight: Array
    temperatures: tuple[float, ...] = PAPER_TEMPERATURES


@dataclass(frozen=True)
class StepCase:
    """One training step of a linear generator, x = W ε + E_c + α·a, updated by plain descent.

    ``noise`` [L, N, D]; ``labels`` [L]; ``alpha`` [L]; real samples [L, P, C, H, W] and
    [L, U, C, H, W] or None, D = C·H·W; ``weights`` W [D, D], ``classes`` E [classes, D],
    ``guidance`` a [D]. The features are the locations of one map, ``encoder`` [K, C] applied at
    each; the vanilla term is on. ``clip`` limits the gradient's norm, ``rate`` is the step's.
    """

    manifest: Manifest
    noise: Array
    labels: NDArray[np.int64]
    alpha: Array
    positive: Array
    unconditional: Array | None
    weights: Array
    classes: Array
    guidance: Array
    encoder: Array
    clip: float
    rate: float = 1.0
    parts: int = 1


@dataclass(frozen=True)
class GeneratorCase:
    """Inputs of the generator of A.2, its sizes and its parameters.

    ``noise`` [B, channels, side, side]; ``labels`` [B]; ``alpha`` [B]; ``style`` [B, style
    tokens], None where the generator is to draw its own. ``parameters`` go by the release's names,
    matrices [in, out]; None asks for the generator as it is initialised. ``direction``, of the
    samples' shape, asks for the gradients of Σ samples · direction.
    """

    manifest: Manifest
    sizes: GeneratorSizes
    noise: Array
    labels: NDArray[np.int64]
    alpha: Array
    style: NDArray[np.int64] | None
    parameters: Mapping[str, Array] | None
    direction: Array | None = None

    def changed(self, **arrays: object) -> GeneratorCase:
        """Copy with some of the inputs replaced."""
        return replace(self, **arrays)  # pyright: ignore[reportArgumentType] -- field names

    def with_parameters(self, changes: Mapping[str, Array]) -> GeneratorCase:
        """Copy with some of the parameters replaced."""
        return replace(self, parameters={**(self.parameters or {}), **changes})


DType = Literal["float64", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Setting:
    """How an implementation is run on a case: arithmetic, device, and how the inputs arrive.

    ``upstream`` multiplies the loss before it is differentiated; ``strided`` hands the inputs as
    non-contiguous views; ``autocast`` runs the call under that dtype's autocast.
    """

    dtype: DType = "float64"
    device: str = "cpu"
    upstream: float = 1.0
    strided: bool = False
    autocast: DType | None = None


@dataclass(frozen=True)
class LossObservation:
    """What an implementation shows of a loss: NumPy arrays, None where it does not tell.

    ``gradient`` is that of ``upstream × loss`` with respect to the generated samples, in the
    case's shape. ``other_gradients`` gives for every other input the largest absolute gradient
    that reached it (0 when none did). ``per_label`` [L]; ``feature_scale`` [1|L, 1|V];
    ``drift_scale``, ``drift_energy`` and ``degenerate`` [T, 1|L, 1|V].
    """

    loss: float
    gradient: Array
    per_label: Array | None = None
    feature_scale: Array | None = None
    drift_scale: Array | None = None
    drift_energy: Array | None = None
    degenerate: NDArray[np.bool_] | None = None
    other_gradients: Mapping[str, float] | None = None


@dataclass(frozen=True)
class FeatureObservation:
    """What an implementation shows of the feature-space loss; gradients by key."""

    loss: float
    gradients: Mapping[str, Array]
    feature_loss: float | None = None
    raw_loss: float | None = None
    raw_gradient: Array | None = None
    terms: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class StepObservation:
    """What an implementation shows of a training step.

    ``updates`` are (before − after)/rate of ``weights``, ``classes`` and ``guidance``;
    ``gradient_norm`` that before clipping. ``seen`` is what reached the generator: ``noise``
    [B, D], ``labels`` [B] and ``alpha`` [B], label-major, whatever the parts.
    """

    loss: float
    feature_loss: float
    raw_loss: float
    gradient_norm: float
    updates: Mapping[str, Array]
    seen: Mapping[str, Array]


@dataclass(frozen=True)
class GeneratorObservation:
    """What an implementation shows of a generator.

    ``samples`` of the noise's shape; ``steps`` by the names of ``drifting_reference.generate``, as
    many as it shows; ``gradients`` by parameter, and that of the noise as ``noise``, where the
    case has a direction.
    """

    samples: Array
    steps: Mapping[str, Array] = field(default_factory=dict[str, Array])
    gradients: Mapping[str, Array] = field(default_factory=dict[str, Array])


def rounded(array: Array, dtype: DType) -> Array:
    """Round to what ``dtype`` can hold, back in float64: the inputs the implementation sees."""
    if dtype == "float64":
        return array
    if dtype == "bfloat16":
        single = array.astype(np.float32)
        bits = single.view(np.uint32)
        # Round to nearest, ties to even, by adding half an ulp of the 16 bits that stay.
        kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return kept.astype(np.uint32).view(np.float32).astype(np.float64)
    return array.astype(np.dtype(dtype)).astype(np.float64)


__all__ = [
    "PAPER_TEMPERATURES",
    "Array",
    "Conditioning",
    "DType",
    "EncodedLossCase",
    "EncoderCase",
    "FeatureCase",
    "FeatureObservation",
    "FieldCase",
    "GeneratorCase",
    "GeneratorObservation",
    "LossCase",
    "LossObservation",
    "Manifest",
    "Setting",
    "StepCase",
    "StepObservation",
    "VectorizeCase",
    "rounded",
]
