"""The call form of a loss over many features: dicts or lists of them, with configuration objects.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from drifting_parity.forms.form import Form, constant
from drifting_parity.forms.layout import FormError, Layout, NotTaken
from drifting_parity.forms.options import (
    PAPER,
    WEIGHTS,
    one_of,
    plain_setting,
    renamed,
    written,
)

RAW = ("generated_samples", "positive_samples", "unconditional_samples")


class FeatureForm(Form):
    """The loss over many features: ``function({key: gen}, {key: pos}, …) → loss``.

    ``features``: whether they come as a ``dict`` or a ``list`` (in the order of the keys).
    ``layout``: of each of them; ``weight`` and ``weight_per`` as for the loss of one feature. Raw
    samples [label, sample, …] for the vanilla term go to arguments such as ``generated_samples``;
    their weight, and temperatures, may go into what is ``derived``.
    """

    method = "feature_loss"
    roles = (
        *("generated", "positive", "unconditional", "negative", "temperatures", *RAW),
        *("unconditional_weight", "raw_weight"),
    )
    needed = ("generated", "positive")

    def __init__(
        self,
        function: Any,
        *,
        features: str = "dict",
        layout: str = "label sample vector channel",
        weight: str = "w",
        weight_per: str = "label",
        temperatures: tuple[float, ...] = PAPER,
        **options: Any,
    ) -> None:
        super().__init__(function, **options)
        self.layout = Layout(layout)
        for what, value, known in (
            ("features", features, ("dict", "list")),
            ("weight", weight, WEIGHTS),
            ("weight_per", weight_per, ("sample", "label")),
        ):
            one_of(what, value, known)
        self.features, self.weight, self.weight_per = features, weight, weight_per
        self.temperatures = tuple(temperatures)
        self.given = "unconditional" if self.takes("unconditional") else "negative"

    def feature_loss(self, case: Any, setting: Any) -> dict[str, Any]:
        """The loss of the case and its gradients, as the fields of ``FeatureObservation``."""
        temperatures = tuple(float(value) for value in case.temperatures)
        inputs: dict[str, Any] = {
            "generated": self._packed(case.generated),
            "positive": self._packed(case.positive),
        }
        if case.unconditional is not None:
            if not self.takes(self.given):
                raise NotTaken("the code takes no unconditional samples")
            inputs[self.given] = self._packed(case.unconditional)
            self._add_weight(inputs, case)
        else:
            for role in (self.given, "unconditional_weight"):
                if self.takes(role) and not self.signature.optional(role):
                    inputs[role] = None
        self._add_raw(inputs, case)
        if self.takes("temperatures"):
            inputs["temperatures"] = temperatures
        elif not self.covers("temperatures") and temperatures != self.temperatures:
            raise NotTaken(f"the code has its own temperatures, {self.temperatures}")
        first = next(iter(case.generated.values()))
        facts = {
            "temperatures": temperatures, "channels": first.shape[-1],
            "raw_weight": float(case.raw_weight),
        }  # fmt: skip
        value, slopes = self.ask(inputs, facts, setting, setting.upstream)
        if value.ndim:
            raise FormError(
                f"{self.place} returned the shape {value.shape}, expected a scalar: the loss over "
                "all features"
            )
        own = slopes["generated"]
        keys = list(case.generated)
        listed = [own[key] for key in keys] if isinstance(own, dict) else own
        observed: dict[str, Any] = {
            "loss": float(value),
            "gradients": {
                key: self.layout.unpack(slope, case.generated[key].shape)
                for key, slope in zip(keys, listed)  # noqa: B905 -- Python 3.9 has no strict
            },
        }
        if case.generated_samples is not None:
            observed["raw_gradient"] = slopes["generated_samples"].reshape(
                case.generated_samples.shape
            )
        return observed

    def _packed(self, arrays: Any) -> Any:
        packed = {key: self.layout.pack(array) for key, array in arrays.items()}
        return packed if self.features == "dict" else list(packed.values())

    def _add_raw(self, inputs: dict[str, Any], case: Any) -> None:
        for role in RAW:
            value = getattr(case, role)
            if value is None:
                if self.takes(role) and not self.signature.optional(role):
                    raise NotTaken(f"the code needs {role}")
                continue
            if not self.takes(role):
                raise NotTaken("the code has no vanilla term of raw samples")
            if "label" not in self.layout and len(value) == 1:
                value = value[0]
            inputs[role] = np.ascontiguousarray(value)
        if self.takes("raw_weight"):
            inputs["raw_weight"] = float(case.raw_weight)
        elif not self.covers("raw_weight") and case.raw_weight != 1.0:
            raise NotTaken("the code takes no weight of the vanilla term")

    def _add_weight(self, inputs: dict[str, Any], case: Any) -> None:
        weight = case.unconditional_weight
        if not self.takes("unconditional_weight"):
            if weight is None or np.all(weight == 1):
                return
            raise NotTaken("the code takes no weight of the unconditional samples")
        first = next(iter(case.generated.values()))
        labels, count = first.shape[:2]
        others = next(iter(case.unconditional.values())).shape[1]
        weight = np.ones(labels) if weight is None else np.asarray(weight)
        weight = np.array(np.broadcast_to(weight.reshape(labels, -1), (labels, others)))
        if self.weight == "alpha":
            if count < 2:
                raise NotTaken("the code takes alpha, which says nothing of one generated sample")
            weight = 1 + weight * others / (count - 1)
        elif self.weight == "log w":
            with np.errstate(divide="ignore"):
                weight = np.log(weight)
        if self.weight_per == "sample":
            inputs["unconditional_weight"] = self.layout.pack(weight, ("label", "sample"))
            return
        values = constant(weight, self.weight)
        lone = "label" not in self.layout
        if lone and labels != 1:
            raise NotTaken(f"the code takes one label, and the case has {labels}")
        inputs["unconditional_weight"] = float(values[0]) if lone else values

    def _tried(self) -> list[Any]:
        random = np.random.default_rng(1)
        labels = 2 if "label" in self.layout else 1
        wide = {"a": 3, "b": 2} if "vector" in self.layout else {"a": 1, "b": 1}
        draws = [
            {key: random.normal(size=(labels, count, size, 7)) for key, size in wide.items()}
            for count in (4, 5, 6)
        ]
        raw = [random.normal(size=(labels, count, 2, 3, 3)) for count in (4, 5, 6)]
        takes_raw = self.takes("generated_samples")
        shown: list[Any] = []
        for others in (True, False):
            case = SimpleNamespace(
                generated=draws[0], positive=draws[1],
                unconditional=draws[2] if others else None,
                unconditional_weight=np.full(labels, 0.5 if self.takes("unconditional_weight")
                                             else 1.0) if others else None,
                generated_samples=raw[0] if takes_raw else None,
                positive_samples=raw[1] if takes_raw else None,
                unconditional_samples=raw[2] if takes_raw and others else None,
                raw_weight=1.0, temperatures=self.temperatures,
            )  # fmt: skip
            try:
                observed = self.feature_loss(case, plain_setting(self))
            except NotTaken:
                if not others and not shown:
                    raise
                continue
            slopes = list(observed["gradients"].values())
            if not all(np.any(slope) for slope in slopes):
                raise FormError(f"{self.place} returned a loss without a gradient in a feature")
            shown += [observed["loss"], *slopes]
        return shown

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        return written("features", function, {
            "features": self.features, "layout": self.layout.text, "names": renamed(self),
            "returns": self.returns,
        })  # fmt: skip
