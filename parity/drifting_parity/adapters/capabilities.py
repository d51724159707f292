"""What an implementation can take: declared by its adapter, or learnt by trying.

Most public code takes one label, one vector, one weight for each label or none, its own fixed
temperatures. It is asked everything that fits: a case that it refuses is replaced by one that it
takes (:meth:`Capabilities.fitted`), and where nothing that fits would serve the purpose, the
property says so. What is tried is tried once for each adapter and setting (:func:`learn`): the
checks and the explanation both go by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

import numpy as np

from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    Array,
    FeatureCase,
    FieldCase,
    LossCase,
    LossObservation,
    Manifest,
    Setting,
    rounded,
)
from drifting_parity.draw import Rejected

if TYPE_CHECKING:
    from drifting_parity.adapters.base import Adapter
    from drifting_spec import Readings

Feature = Literal[
    "labels",
    "vectors",
    "unconditional samples",
    "weights",
    "weights for each sample",
    "weights of generated samples and positives",
    "one temperature",
    "other temperatures",
    "another count of samples",
    "one sample",
    "a field",
    "field without a mask",
    "field with further negatives",
    "field with weights",
]
"""What a loss or a field may be able to take; the words stand in the report."""

PURPOSE: Final[Mapping[Feature, tuple[str, ...]]] = {
    "labels": ("A6-S",),
    "vectors": ("A6-locshare",),
    "unconditional samples": ("A7-selfmask-count",),
    "another count of samples": ("ALG2-3",),
    "field with further negatives": ("A7-selfmask-count",),
}
"""Clauses that code breaks which raises, rather than declines, where this is asked of it."""

Single = Literal["guided loss", "field"]

REFUSED_TEMPERATURES: Final = "takes no other temperatures than 0.02, 0.05, 0.2"
UNHEEDED_TEMPERATURES: Final = "takes no notice of the temperatures that it is given"

_Inputs = TypeVar("_Inputs")


@dataclass(frozen=True)
class Capabilities:
    """What an implementation takes: the default is everything.

    ``refused`` maps what it does not take to the reason; ``raises`` those of them where it raised
    an exception instead of declining. ``temperatures`` are its own fixed ones, None where it takes
    any. ``ignores_mask`` and ``masks_square`` are what its field was seen to do: a mask asked for
    is dropped where negatives are as many as samples (``"as many"``) or more (``"more"``), or N
    negatives that are other points are masked. ``single_precision``: it computes in float32
    whatever it is given; ``reason`` says how that was seen.

    The explanation alone goes by the rest, as its probes have no closed form that further samples
    would spoil: ``guided_only``, no case without unconditional samples is taken;
    ``fixed_temperatures``, in words, that temperatures asked for are refused or not heeded;
    ``also_single``, what else computes in float32: a loss that takes guided cases alone, a field.
    """

    refused: Mapping[Feature, str] = field(default_factory=dict[Feature, str])
    raises: Mapping[Feature, str] = field(default_factory=dict[Feature, str])
    temperatures: tuple[float, ...] | None = None
    ignores_mask: frozenset[str] = frozenset()
    masks_square: bool = False
    single_precision: bool = False
    reason: str = ""
    guided_only: bool = field(default=False, compare=False)
    fixed_temperatures: str = field(default="", compare=False)
    also_single: frozenset[Single] = field(default=frozenset[Single](), compare=False)

    def takes(self, feature: Feature) -> bool:
        """Whether it takes ``feature``."""
        return feature not in self.refused

    def lacking(self, needs: tuple[Feature, ...]) -> str:
        """Why something of ``needs`` cannot be asked of it; empty if all can."""
        reasons = [self.refused[feature] for feature in needs if feature in self.refused]
        return "; ".join(dict.fromkeys(reasons))

    def fitted(self, inputs: _Inputs) -> _Inputs:
        """The inputs of a property with every case in them brought to what fits.

        Raises :class:`Rejected` for a case that cannot be: the property draws another.
        """
        if not (self.refused or self.temperatures or self.ignores_mask or self.masks_square):
            return inputs
        if isinstance(inputs, LossCase):
            return cast("_Inputs", self.fitted_loss(inputs))
        if isinstance(inputs, FeatureCase):
            return cast("_Inputs", self.fitted_features(inputs))
        if isinstance(inputs, tuple):
            items = cast("tuple[object, ...]", inputs)
            return cast("_Inputs", tuple(self.fitted(item) for item in items))
        return inputs

    def fitted_loss(self, case: LossCase) -> LossCase:
        """The case as far as it takes it: first label, first vector, own temperatures."""
        self._counted(case.generated.shape[1], case.positive.shape[1])
        generated, positive = self._cut(case.generated), self._cut(case.positive)
        unconditional, weight = case.unconditional, case.unconditional_weight
        if unconditional is None or not self.takes("unconditional samples"):
            unconditional = weight = None
        else:
            unconditional, weight = self._cut(unconditional), self._weight(weight)
        extra = self.takes("weights of generated samples and positives")
        temperatures = self.own_temperatures(case.temperatures)
        own, of_positives = case.generated_weight, case.positive_weight
        fitted = case.changed(
            generated=generated,
            positive=positive,
            unconditional=unconditional,
            unconditional_weight=weight,
            generated_weight=self._labels(own) if extra and own is not None else None,
            positive_weight=self._labels(of_positives)
            if extra and of_positives is not None
            else None,
            temperatures=temperatures,
        )
        labels, _, vectors, _ = generated.shape
        changes = [f"L={labels}"] if labels < len(case.generated) else []
        changes += [f"V={vectors}"] if vectors < case.generated.shape[2] else []
        changes += ["U=0"] if unconditional is None and case.unconditional is not None else []
        changes += [f"τ={temperatures}"] if temperatures != case.temperatures else []
        if not changes:
            return fitted
        name = f"{case.manifest.id} (as it takes it: {', '.join(changes)})"
        return fitted.changed(manifest=replace(case.manifest, id=name))

    def answerable(self, case: LossCase) -> LossCase:
        """The case with what it is never without: its own temperatures, unconditional samples."""
        if self.temperatures is not None or self.fixed_temperatures:
            case = case.changed(temperatures=self.temperatures or PAPER_TEMPERATURES)
        if not self.guided_only or case.unconditional is not None:
            return case
        labels, _, vectors, channels = case.generated.shape
        source = np.random.default_rng(case.generated.size)
        size = float(np.abs(case.positive).mean())
        extra = size * source.normal(size=(labels, 3, vectors, channels))
        return case.changed(unconditional=extra, unconditional_weight=np.ones((labels, 3)))

    @property
    def notes(self) -> tuple[str, ...]:
        """In words, what :meth:`answerable` changes and why."""
        guided = "takes no case without unconditional samples"
        if self.guided_only and self.fixed_temperatures == REFUSED_TEMPERATURES:
            return ("takes no other temperatures and no case without unconditional samples",)
        if self.fixed_temperatures:
            return (self.fixed_temperatures,)
        return (guided,) if self.guided_only else ()

    def fitted_features(self, case: FeatureCase) -> FeatureCase:
        """Likewise for several features; a case of several vectors stays as it is."""
        first = next(iter(case.generated.values()))
        self._counted(first.shape[1], next(iter(case.positive.values())).shape[1])
        return case.changed(temperatures=self.own_temperatures(case.temperatures))

    def own_temperatures(self, asked: tuple[float, ...]) -> tuple[float, ...]:
        """Its own temperatures, else those asked for, the first of them if it takes one."""
        if self.temperatures is not None:
            return self.temperatures
        return asked if self.takes("other temperatures") else asked[:1]

    def unfit(self, case: LossCase) -> str:
        """Why the loss is not asked about a case: it does not take it. Empty if it fits.

        Where it raised on the like, one check says so, and no other is voided by it.
        """
        if not self.refused:
            return ""
        labels, count, vectors, _ = case.generated.shape
        weight, own = case.unconditional_weight, (case.generated_weight, case.positive_weight)
        extra = case.unconditional is not None
        asked: dict[Feature, bool] = {
            "labels": labels > 1,
            "vectors": vectors > 1,
            "one sample": count == 1,
            "another count of samples": count not in {1, case.positive.shape[1]},
            "unconditional samples": extra,
            "weights": extra and weight is not None and bool(np.any(weight != 1.0)),
            "weights for each sample": weight is not None and bool(np.any(weight != weight[:, :1])),
            "weights of generated samples and positives": any(one is not None for one in own),
        }
        return self.lacking(tuple(feature for feature, needed in asked.items() if needed))

    def fitted_field(self, case: FieldCase) -> FieldCase:
        """The case, or the nearest to it that its field takes: fewer negatives, no mask."""
        count, weight = len(case.x), case.negative_weight
        light = case.changed(negative_weight=None)
        own = light.changed(negative=case.x, mask_self=True)
        candidates = [case, light, own]
        if case.mask_self and len(case.negative) > count:
            others = case.negative[count:]
            bare = light.changed(negative=others, mask_self=False)
            kept = None if weight is None else weight[count:]
            candidates += [bare.changed(negative_weight=kept), bare]
        return next((one for one in candidates if not self.unsuited(one)), case)

    def unsuited(self, case: FieldCase) -> str:
        """Why the field is not asked about a case: it does not take it, or masks otherwise.

        Whether the mask is the one asked for is ALG2-3's own question; where it is not, cases that
        hang on it say nothing about any other line. Empty if the case suits.
        """
        count, negatives = len(case.x), len(case.negative)
        needs: list[Feature] = []
        if case.negative_weight is not None:
            needs.append("field with weights")
        if not case.mask_self:
            needs.append("field without a mask")
        elif negatives > count:
            needs.append("field with further negatives")
        if reason := self.lacking(tuple(needs)):
            return reason
        if not case.mask_self and self.masks_square and count == negatives:
            return "its field masks N negatives that are other points (see ALG2-3)"
        if case.mask_self and ("more" if negatives > count else "as many") in self.ignores_mask:
            return "its field drops the mask on such cases (see ALG2-3)"
        return ""

    def _counted(self, generated: int, positives: int) -> None:
        lone = generated == 1 and not self.takes("one sample")
        if lone or (generated != positives and not self.takes("another count of samples")):
            raise Rejected

    def _labels(self, array: Array) -> Array:
        return array if self.takes("labels") else array[:1]

    def _cut(self, array: Array) -> Array:
        """The first label, the first vector, where it takes one. [L, N, V, C]."""
        cut = self._labels(array)
        return cut if self.takes("vectors") else cut[:, :, :1]

    def _weight(self, weight: Array | None) -> Array | None:
        """One weight for each label where it takes no others; ones where it takes none."""
        if weight is None:
            return None
        weight = self._labels(weight)
        if self.takes("weights for each sample"):
            return weight
        if not self.takes("weights"):
            return np.ones_like(weight)
        return np.broadcast_to(weight[:, :1], weight.shape).copy()


def learn(adapter: Adapter, readings: Readings, setting: Setting) -> Capabilities:
    """What the adapter declares as ``capabilities``, else what it is seen to take.

    A case of its plainest kind is varied in one respect at a time. What raises even there is left
    to the checks: everything is then asked as if it took all.
    """
    declared = getattr(adapter, "capabilities", None)
    if isinstance(declared, Capabilities):
        return declared
    if adapter.by_definition:
        return Capabilities()
    seen = _of_loss(adapter, readings, setting)
    return _of_field(adapter, readings, setting, seen)


# By trying: the loss


def _samples(labels: int, counts: tuple[int, int, int], vectors: int, channels: int) -> LossCase:
    source = np.random.default_rng(2024)
    generated, positive, unconditional = (
        source.normal(size=(labels, count, vectors, channels)) for count in counts
    )
    return LossCase(
        Manifest("what the implementation takes"),
        generated,
        positive + 0.5,
        unconditional - 0.5 if counts[2] else None,
        np.full((labels, counts[2]), 1.5) if counts[2] else None,
    )


def _asked(ask: Callable[[], object]) -> tuple[str, bool]:
    """Why it does not take this, and whether it raised: ("", False) if it does."""
    from drifting_parity.adapters.base import NotObservable

    try:
        ask()
    except NotObservable as answer:
        return str(answer), False
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}", True
    return "", False


def _of_loss(adapter: Adapter, readings: Readings, setting: Setting) -> Capabilities:
    plain = _samples(1, (4, 4, 0), 1, 6)

    def asked(case: LossCase) -> tuple[str, bool]:
        return _asked(lambda: adapter.loss(case, readings, setting))

    why, raised = asked(plain)
    if why and raised and setting.dtype == "float64":
        narrower = replace(setting, dtype="float32")
        if not _asked(lambda: adapter.loss(plain, readings, narrower))[0]:
            known = _of_loss(adapter, readings, narrower)
            return replace(known, single_precision=True, reason=f"float64 raises {why}")
    if why:
        return _of_guided_loss(asked, adapter, readings, setting)
    refused: dict[Feature, str] = {}
    raises: dict[Feature, str] = {}
    for feature, case in _variations(plain):
        if feature == "weights" and "unconditional samples" in refused:
            refused[feature] = refused["unconditional samples"]
            continue
        why, raised = asked(case)
        if why:
            refused[feature] = f"it takes no {feature} ({why})"
            if raised:
                raises[feature] = why
    if "weights" in refused:
        refused.setdefault("weights for each sample", refused["weights"])
    temperatures = _temperatures(refused)
    single, reason = _single_precision(adapter, readings, setting, plain)
    return Capabilities(
        refused,
        raises,
        temperatures,
        single_precision=single,
        reason=reason,
        fixed_temperatures=_fixed_temperatures(asked, adapter, readings, setting, plain),
    )


_Asked = Callable[[LossCase], tuple[str, bool]]


def _of_guided_loss(
    asked: _Asked, adapter: Adapter, readings: Readings, setting: Setting
) -> Capabilities:
    """What is known of a loss that does not take the plainest case: whether guidance mends it."""
    plain = _samples(1, (4, 4, 0), 1, 6)
    guided = Capabilities(guided_only=True)
    case = guided.answerable(plain)
    if asked(case)[0]:
        return Capabilities()
    fixed = _fixed_temperatures(asked, adapter, readings, setting, case)
    single, _ = _single_precision(adapter, readings, setting, case)
    also: frozenset[Single] = frozenset({"guided loss"}) if single else frozenset()
    return replace(guided, fixed_temperatures=fixed, also_single=also)


def _fixed_temperatures(
    asked: _Asked, adapter: Adapter, readings: Readings, setting: Setting, case: LossCase
) -> str:
    """That it refuses a temperature of its own accord, or gives one answer for any of them."""
    one, other = (case.changed(temperatures=(tau,)) for tau in (0.3, 0.8))
    if asked(one)[0]:
        return REFUSED_TEMPERATURES
    if asked(other)[0]:
        return ""
    before, after = (adapter.loss(item, readings, setting).gradient for item in (one, other))
    return UNHEEDED_TEMPERATURES if np.array_equal(before, after) else ""


def _variations(plain: LossCase) -> Iterator[tuple[Feature, LossCase]]:
    guided = _samples(1, (4, 4, 3), 1, 6)
    ones = np.ones((1, 3))
    yield "one temperature", plain.changed(temperatures=(0.2,))
    yield "other temperatures", plain.changed(temperatures=(0.1, 0.5))
    yield "labels", _samples(2, (4, 4, 0), 1, 6)
    yield "vectors", _samples(1, (4, 4, 0), 2, 6)
    yield "another count of samples", _samples(1, (4, 6, 0), 1, 6)
    yield "one sample", _samples(1, (1, 1, 0), 1, 6)
    yield "unconditional samples", guided.changed(unconditional_weight=ones)
    yield "weights", guided
    uneven = guided.changed(unconditional_weight=np.array([[0.5, 1.0, 2.0]]))
    yield "weights for each sample", uneven
    weighted = plain.changed(
        generated_weight=np.array([[1.0, 0.5, 2.0, 1.5]]),
        positive_weight=np.array([[2.0, 1.0, 1.0, 0.5]]),
    )
    yield "weights of generated samples and positives", weighted


def _temperatures(refused: dict[Feature, str]) -> tuple[float, ...] | None:
    """Its own fixed temperatures, which can only be the paper's: others are never seen to work."""
    if "other temperatures" in refused and "one temperature" in refused:
        return PAPER_TEMPERATURES
    return None


def _single_precision(
    adapter: Adapter, readings: Readings, setting: Setting, case: LossCase
) -> tuple[bool, str]:
    """Whether float64 inputs are computed in float32: no answer has or heeds further digits."""
    if setting.dtype != "float64":
        return False, ""
    seen = adapter.loss(case, readings, setting)
    short = case.changed(
        generated=rounded(case.generated, "float32"), positive=rounded(case.positive, "float32")
    )
    again = adapter.loss(short, readings, setting)
    size = float(np.linalg.norm(seen.gradient))
    if not (np.isfinite(size) and size > 0.0):
        return False, ""
    moved = float(np.linalg.norm(seen.gradient - again.gradient)) / size
    if moved < 1e-12:
        return True, "its answers do not change when the inputs are rounded to float32"
    if _fits_float32(seen):
        return True, "the gradients that it returns hold float32 numbers"
    return False, ""


def _fits_float32(seen: LossObservation) -> bool:
    return np.array_equal(seen.gradient, rounded(seen.gradient, "float32"))


# By trying: the field


def _of_field(
    adapter: Adapter, readings: Readings, setting: Setting, known: Capabilities
) -> Capabilities:
    source = np.random.default_rng(2025)
    x, positive, others = (source.normal(size=(count, 3)) for count in (4, 5, 2))
    manifest = Manifest("what the field takes")
    masked = FieldCase(manifest, x, positive + 0.5, x, 1.0)
    more = masked.changed(negative=np.concatenate([x, others]))
    bare = masked.changed(negative=others, mask_self=False)
    square = masked.changed(mask_self=False)
    weighted = bare.changed(negative_weight=np.array([1.0, 2.0]))

    def field_of(case: FieldCase) -> Array:
        return adapter.field(case, readings, setting)

    refused, raises = dict(known.refused), dict(known.raises)
    fails = dict[str, bool]()
    variations: tuple[tuple[str, Feature | None, FieldCase], ...] = (
        ("masked", None, masked),
        ("bare", "field without a mask", bare),
        ("more", "field with further negatives", more),
        ("weighted", "field with weights", weighted),
        ("square", None, square),
    )
    for name, feature, case in variations:
        why, raised = _asked(lambda case=case: field_of(case))
        fails[name] = bool(why)
        if why and feature is not None:
            refused[feature] = f"its field takes no such case ({feature}: {why})"
            if raised:
                raises[feature] = why
    if fails["masked"] and fails["bare"]:
        return replace(known, refused={**known.refused, "a field": "the adapter shows no field"})
    ignored, masks_square = set[str](), False
    if not (fails["masked"] or fails["square"]):
        same = np.array_equal(field_of(masked), field_of(square))
        # The same either way: negatives in another order tell whether a diagonal is masked.
        moved = np.roll(square.negative, 1, axis=0)
        turned = field_of(square.changed(negative=moved))
        masks_square = same and not np.allclose(turned, field_of(square), rtol=1e-4, atol=1e-6)
        if same and not masks_square:
            ignored.add("as many")
    if not (fails["more"] or fails["bare"]):
        unmasked = more.changed(mask_self=False)
        if not _asked(lambda: field_of(unmasked))[0] and np.array_equal(
            field_of(more), field_of(unmasked)
        ):
            ignored.add("more")
    answered = next((case for name, _, case in variations if not fails[name]), None)
    also_single = set(known.also_single)
    if setting.dtype == "float64" and answered is not None and _single(field_of, answered):
        also_single.add("field")
    return replace(
        known,
        refused=refused,
        raises=raises,
        ignores_mask=frozenset(ignored),
        masks_square=masks_square,
        also_single=frozenset(also_single),
    )


def _single(field_of: Callable[[FieldCase], Array], case: FieldCase) -> bool:
    """Whether rounding the inputs to float32 leaves every bit of a field as it was."""
    seen = field_of(case)
    short = case.changed(
        x=rounded(case.x, "float32"),
        positive=rounded(case.positive, "float32"),
        negative=rounded(case.negative, "float32"),
    )
    if not seen.any() or _asked(lambda: field_of(short))[0]:
        return False
    return np.array_equal(seen, field_of(short))
