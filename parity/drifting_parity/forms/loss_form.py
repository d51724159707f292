"""The call form of a loss of one feature (A.6).

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from drifting_parity.forms.form import Form, constant
from drifting_parity.forms.layout import FormError, Layout, NotTaken
from drifting_parity.forms.options import (
    NEGATIVES,
    PAPER,
    WEIGHTS,
    one_of,
    plain_setting,
    renamed,
    written,
)


class LossForm(Form):
    """The loss of one feature: ``function(gen, pos, neg, …) → loss``, ``loss[B]`` or ``(loss, …)``.

    ``layout``: the axes of its samples. ``loop``: axes that the code does not have and that a
    caller loops over (``"label"``, ``"vector"`` or both); cases with several of another axis that
    it does not have are not put to it. ``over_labels`` (default: mean) and ``over_vectors``
    (default: sum): how the values of several of them come together, those looped over and those
    that the code lists. ``negatives``: ``implicit`` where it takes the unconditional samples
    alone, else as for a field. ``weight``: whether it takes the kernel weight ``w``, the guidance
    scale ``alpha`` or ``log w``; ``weight_per``: for each ``sample`` or ``label``.
    ``temperatures``: those fixed in code that takes none.
    """

    method = "loss"
    roles = (
        *("generated", "positive", "unconditional", "negative", "temperatures", "temperature"),
        *("unconditional_weight", "generated_weight", "positive_weight"),
    )
    needed = ("generated", "positive")

    def __init__(
        self,
        function: Any,
        *,
        layout: str = "label sample vector channel",
        loop: str = "",
        over_labels: str = "mean",
        over_vectors: str = "sum",
        negatives: str = "implicit",
        weight: str = "w",
        weight_per: str = "sample",
        temperatures: tuple[float, ...] = PAPER,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        self.layout = Layout(layout)
        self.loop = tuple(loop.split())
        for axis in self.loop:
            one_of("an axis of loop", axis, ("label", "vector"))
            if axis in self.layout:
                raise FormError(f"loop has the axis {axis}, which layout {layout!r} has as well")
        for what, value in (("over_labels", over_labels), ("over_vectors", over_vectors)):
            one_of(what, value, ("mean", "sum"))
        one_of("negatives", negatives, NEGATIVES)
        one_of("weight", weight, WEIGHTS)
        one_of("weight_per", weight_per, ("sample", "label"))
        self.over = {"label": over_labels, "vector": over_vectors}
        self.negatives, self.weight, self.weight_per = negatives, weight, weight_per
        self.temperatures = tuple(temperatures)
        self.given = "unconditional" if self.takes("unconditional") else "negative"
        if negatives != "implicit" and not self.takes(self.given):
            raise FormError(f"negatives is {negatives!r}, and {self.place} takes none")
        self.empty: str = "None"

    def loss(self, case: Any, setting: Any) -> dict[str, Any]:
        """The loss of the case and its gradients, as the fields of ``LossObservation``."""
        shape = case.generated.shape
        gradient = np.zeros(shape)
        labels = range(shape[0]) if "label" in self.loop else [slice(None)]
        vectors = range(shape[2]) if "vector" in self.loop else [slice(None)]
        parts: list[tuple[Any, Any, Any, float]] = []
        for label in labels:
            for vector in vectors:
                first, second = _one(label), _one(vector)
                answer, share = self._part(case, first, second, setting, shape)
                parts.append((first, second, answer, share))
        others: dict[str, float] = {}
        total, listed = 0.0, np.zeros(shape[0])
        per_label = "label" in self.loop
        for label, vector, answer, share in parts:
            values, slopes = answer
            total += share * float(values.sum())
            gradient[label, :, vector] = self._own(slopes, gradient[label, :, vector].shape)
            for role, slope in slopes.items():
                if role != "generated":
                    largest = float(np.abs(slope).max()) if slope.size else 0.0
                    name = "unconditional" if role == "negative" else role
                    # Not max(), which would lose a NaN.
                    others[name] = float(np.maximum(others.get(name, 0.0), largest))
            split = self._by_label(values, shape, vector, share)
            if split is not None:
                per_label = True
                listed[label] += split
        lone = shape[0] if self.over["label"] == "mean" else 1
        observed = {"loss": total, "gradient": gradient, "other_gradients": others}
        if per_label:
            observed["per_label"] = listed * lone
        return observed

    def _own(self, slopes: dict[str, Any], shape: tuple[int, ...]) -> Any:
        return self.layout.unpack(slopes["generated"], shape)

    def _by_label(self, values: Any, shape: Any, vector: Any, share: float) -> Any:
        """The shares of the labels as far as the values tell; None if they do not."""
        if "label" in self.loop:
            return share * values.sum()
        if values.ndim == 0 or "label" not in self.layout:
            return None
        axes = self._axes_of(values, shape)
        return None if axes is None else share * values.reshape(axes).sum(axis=1)

    def _axes_of(self, values: Any, shape: Any) -> tuple[int, int] | None:
        """[label, vector] of a value that lists labels, in this order."""
        if values.size == shape[0]:
            return shape[0], 1
        batch = self.layout.batch()
        return (shape[0], shape[2]) if batch == ("label", "vector") else None

    def _part(
        self, case: Any, label: Any, vector: Any, setting: Any, shape: Any
    ) -> tuple[Any, float]:
        """One call: its value and gradients, and the share of its sum in the loss."""
        cut = SimpleNamespace(
            generated=case.generated[label, :, vector],
            positive=case.positive[label, :, vector],
            unconditional=_cut(case.unconditional, label, vector),
            unconditional_weight=_cut(case.unconditional_weight, label),
            generated_weight=_cut(case.generated_weight, label),
            positive_weight=_cut(case.positive_weight, label),
        )
        temperatures = tuple(float(value) for value in case.temperatures)
        inputs: dict[str, Any] = {
            "generated": self.layout.pack(cut.generated),
            "positive": self.layout.pack(cut.positive),
        }
        self._add_unconditional(inputs, cut)
        for role in ("generated_weight", "positive_weight"):
            weight = getattr(cut, role)
            if weight is not None:
                if not self.takes(role):
                    raise NotTaken(f"the code takes no {role}")
                inputs[role] = self._per_sample(weight, cut.generated.shape[2])
        self._add_temperatures(inputs, temperatures)
        facts = {
            **self.example(), "temperatures": temperatures, "channels": shape[3],
        }  # fmt: skip
        # The share is only known with the shape of the value: a first guess, put right after.
        share = self._share(cut.generated.shape, shape, None)
        value, slopes = self.ask(inputs, facts, setting, share * setting.upstream)
        known = self._share(cut.generated.shape, shape, value)
        if known != share:
            slopes = {role: slope * (known / share) for role, slope in slopes.items()}
        return (value, slopes), known

    def _share(self, part: Any, whole: Any, value: Any) -> float:
        """What the sum over a value is multiplied by in the loss of the case."""
        share = 1.0
        for axis, place in (("label", 0), ("vector", 2)):
            if axis in self.loop and self.over[axis] == "mean":
                share /= whole[place]
        if value is None or value.ndim == 0:
            return share
        batch = self.layout.batch()
        sizes = {"label": part[0], "vector": part[2]}
        forms = {tuple(sizes[axis] for axis in batch): batch}
        forms.setdefault((int(np.prod([sizes[axis] for axis in batch])),), batch)
        forms.setdefault((part[0],), ("label",))
        if value.shape not in forms:
            wanted = ", ".join(map(str, forms))
            raise FormError(
                f"{self.place} returned the shape {value.shape} for samples in the layout "
                f"{self.layout.text!r}, {part[0]} labels, {part[1]} generated and {part[2]} "
                f"vectors: expected a scalar or {wanted}"
            )
        for axis in forms[value.shape]:
            if self.over[axis] == "mean":
                share /= sizes[axis]
        return share

    def _add_unconditional(self, inputs: dict[str, Any], cut: Any) -> None:
        others, weight = cut.unconditional, cut.unconditional_weight
        if others is not None and not self.takes(self.given):
            raise NotTaken("the code takes no unconditional samples")
        if self.negatives != "implicit":
            parts = [cut.generated] if others is None else [cut.generated, others]
            together = np.concatenate(parts[:: -1 if self.negatives == "real first" else 1], axis=1)
            inputs[self.given] = self.layout.pack(together)
        elif others is not None:
            inputs[self.given] = self.layout.pack(others)
        elif self.takes(self.given) and not self.signature.optional(self.given):
            inputs[self.given] = self._nothing(cut.generated)
        if others is not None:
            self._add_weight(inputs, cut, weight)
        elif self.takes("unconditional_weight"):
            self._add_no_weight(inputs, cut)

    def _nothing(self, generated: Any) -> Any:
        if self.empty == "none at all":
            raise NotTaken("the code needs unconditional samples")
        return None if self.empty == "None" else self.layout.pack(generated[:, :0])

    def _add_no_weight(self, inputs: dict[str, Any], cut: Any) -> None:
        if self.signature.optional("unconditional_weight"):
            return
        if self.weight_per == "label":
            none = {"w": 0.0, "alpha": 1.0, "log w": -np.inf}[self.weight]
            inputs["unconditional_weight"] = self._per_label(np.full(len(cut.generated), none), cut)
        else:
            inputs["unconditional_weight"] = None

    def _add_weight(self, inputs: dict[str, Any], cut: Any, weight: Any) -> None:
        count, others = cut.generated.shape[1], cut.unconditional.shape[1]
        if not self.takes("unconditional_weight"):
            if weight is None or np.all(weight == 1):
                return
            raise NotTaken("the code takes no weight of the unconditional samples")
        if weight is None:
            weight = np.ones(cut.unconditional.shape[:2])
        if self.weight == "alpha":
            if count < 2:
                raise NotTaken("the code takes alpha, which says nothing of one generated sample")
            weight = 1 + weight * others / (count - 1)
        elif self.weight == "log w":
            with np.errstate(divide="ignore"):
                weight = np.log(weight)
        if self.weight_per == "label":
            value = self._per_label(constant(weight, self.weight), cut)
        else:
            if self.negatives != "implicit":
                own = np.full((len(weight), count), 0.0 if self.weight == "log w" else 1.0)
                order = (weight, own) if self.negatives == "real first" else (own, weight)
                weight = np.concatenate(order, axis=1)
            value = self._per_sample(weight, cut.generated.shape[2])
        inputs["unconditional_weight"] = value

    def _per_label(self, values: Any, cut: Any) -> Any:
        """One number for each label, a plain one where the code has no labels."""
        if "label" in self.layout:
            group = next(group for group in self.layout.groups if "label" in group)
            return np.repeat(values, cut.generated.shape[2]) if len(group) > 1 else values
        if len(values) != 1:
            raise NotTaken(f"the code takes one label, and the case has {len(values)}")
        return float(values[0])

    def _per_sample(self, weight: Any, vectors: int) -> Any:
        """Weights [label, sample] as the code has its samples; repeated where vectors are rows."""
        if any(set(group) == {"label", "vector"} for group in self.layout.groups):
            wide = np.broadcast_to(weight[:, :, None], (*weight.shape, vectors))
            return self.layout.pack(np.array(wide), ("label", "sample", "vector"))
        return self.layout.pack(weight, ("label", "sample"))

    def _add_temperatures(self, inputs: dict[str, Any], temperatures: tuple[float, ...]) -> None:
        if self.takes("temperatures"):
            inputs["temperatures"] = temperatures
        elif self.takes("temperature"):
            if len(temperatures) != 1:
                raise NotTaken(f"the code takes one temperature, and the case has {temperatures}")
            inputs["temperature"] = temperatures[0]
        elif not self.covers("temperatures") and temperatures != self.temperatures:
            raise NotTaken(f"the code has its own temperatures, {self.temperatures}")

    @staticmethod
    def sizes(*, labels: bool, vectors: bool) -> tuple[int, int]:
        """How many labels and vectors a small case has."""
        return 2 if labels else 1, 3 if vectors else 1

    def small(self, *, others: bool, sizes: tuple[int, int] | None = None) -> SimpleNamespace:
        """A small case, all of whose sizes differ, with unconditional samples or without."""
        random = np.random.default_rng(1)
        axes = (*self.loop, *self.layout.axes)
        labels, vectors = sizes or self.sizes(labels="label" in axes, vectors="vector" in axes)
        draws = [random.normal(size=(labels, count, vectors, 7)) for count in (4, 5, 6)]
        one = self.takes("temperature") and not self.takes("temperatures")
        return SimpleNamespace(
            generated=draws[0], positive=draws[1], unconditional=draws[2] if others else None,
            unconditional_weight=np.full((labels, 6), 0.5 if self._weighs() else 1.0)
            if others else None,
            generated_weight=None, positive_weight=None,
            temperatures=(0.2,) if one else self.temperatures,
        )  # fmt: skip

    def _weighs(self) -> bool:
        return self.takes("unconditional_weight")

    def _tried(self) -> list[Any]:
        answers: list[Any] = []
        if self.takes(self.given):
            answers += self._shown(self.loss(self.small(others=True), plain_setting(self)))
        for self.empty in ("None", "no rows", "none at all"):
            try:
                return answers + self._shown(
                    self.loss(self.small(others=False), plain_setting(self))
                )
            except NotTaken:
                if not answers:
                    raise
                return answers
            except FormError:
                raise
            except Exception:
                if not self.takes(self.given) or self.negatives != "implicit":
                    raise
        return answers

    def _shown(self, observed: dict[str, Any]) -> list[Any]:
        if not np.any(observed["gradient"]):
            raise FormError(
                f"{self.place} returned a loss without a gradient in the generated samples: they "
                "must not be detached, and the value must be a tensor of the loss"
            )
        return [observed["loss"], observed["gradient"]]

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        usual = {"negatives": "implicit", "weight": "w", "weight_per": "sample"}
        return written("loss", function, {
            "layout": self.layout.text, "loop": " ".join(self.loop), "names": renamed(self),
            **{key: getattr(self, key) for key, was in usual.items() if getattr(self, key) != was},
            "returns": self.returns,
        })  # fmt: skip


def _one(place: Any) -> Any:
    return slice(place, place + 1) if isinstance(place, int) else place


def _cut(array: Any, label: Any, vector: Any = None) -> Any:
    if array is None:
        return None
    return array[label] if vector is None else array[label, :, vector]
