"""The call form of a field: V of Algorithm 2.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from drifting_parity.forms.form import Form
from drifting_parity.forms.layout import FormError, Layout, NotTaken
from drifting_parity.forms.options import NEGATIVES, one_of, plain_setting, renamed, written


class FieldForm(Form):
    """V of Algorithm 2: ``function(x, y_pos, y_neg, T, mask_self) → V`` or ``(V, …)``.

    ``negatives``: ``generated first`` where the negatives that the code takes begin with the
    generated samples, ``real first`` where they end with them, ``implicit`` where the code adds
    the generated samples itself. ``masks``: whether code without a flag masks the self pairs
    (True: cases without such pairs are not put to it; False: those with). ``layout`` as of
    :class:`Layout`; a ``label`` is a leading batch axis.
    """

    method = "field"
    roles = (
        *("generated", "positive", "negative", "unconditional", "temperature", "temperatures"),
        *("mask", "negative_weight"),
    )
    needed = ("generated", "positive")
    answer = "V"

    def __init__(
        self,
        function: Any,
        *,
        layout: str = "sample channel",
        negatives: str = "",
        masks: bool = True,
        temperature: float | None = None,
        **options: Any,
    ) -> None:
        names = dict(options.pop("names", None) or {})
        if "x" in names:
            names["generated"] = names.pop("x")
        super().__init__(function, names=names, **options)
        self.layout = Layout(layout)
        self.layout.sample_axis()
        self.given = "negative" if self.takes("negative") else "unconditional"
        takes = self.takes(self.given)
        self.negatives = negatives or ("generated first" if takes else "implicit")
        one_of("negatives", self.negatives, NEGATIVES)
        if self.negatives != "implicit" and not takes:
            raise FormError(f"negatives is {negatives!r}, and {self.place} takes none")
        self.masks = masks
        self.temperature = temperature

    def field(self, case: Any, setting: Any) -> Any:
        """V [N, C] at the case's inputs."""
        count = len(case.x)
        inputs: dict[str, Any] = {
            "generated": self.pack(case.x),
            "positive": self.pack(case.positive),
        }
        self._add_negatives(inputs, case, count)
        self.add_temperature(inputs, case.temperature)
        if self.takes("mask"):
            inputs["mask"] = bool(case.mask_self)
        elif case.mask_self != self.masks and self.negatives != "implicit":
            raise NotTaken(f"the code {'always' if self.masks else 'never'} masks self pairs")
        facts = {**self.example(), "channels": case.x.shape[1], "temperatures": ()}
        value, _ = self.ask(inputs, facts, setting, None)
        wanted = inputs["generated"].shape
        if value.shape != wanted:
            raise FormError(
                f"{self.place} returned the shape {value.shape} for generated samples {wanted}, "
                f"expected {wanted}: one drift for each of them"
            )
        return self.layout.unpack(value, (1, count, 1, case.x.shape[1]))[0, :, 0]

    def pack(self, array: Any) -> Any:
        """Samples [N, C] in the code's layout."""
        return self.layout.pack(array[None, :, None, :])

    def _add_negatives(self, inputs: dict[str, Any], case: Any, count: int) -> None:
        negative, weight = case.negative, case.negative_weight
        if self.negatives == "implicit":
            if not case.mask_self:
                raise NotTaken("the code adds the generated samples to the negatives itself")
            own = None if weight is None else weight[:count]
            if own is not None and np.any(own != 1):
                raise NotTaken("the code takes no weight of the generated samples")
            negative, weight = negative[count:], None if weight is None else weight[count:]
            if not len(negative):
                if self.takes(self.given) and not self.signature.optional(self.given):
                    inputs[self.given] = None
                return
            if not self.takes(self.given):
                raise NotTaken("the code takes no negatives but the generated samples")
        elif self.negatives == "real first" and case.mask_self:
            order = np.r_[count : len(negative), :count]
            negative, weight = negative[order], None if weight is None else weight[order]
        inputs[self.given] = self.pack(negative)
        if weight is None:
            return
        if not self.takes("negative_weight"):
            raise NotTaken("the code takes no weight of the negatives")
        inputs["negative_weight"] = self.layout.pack(weight[None, :], ("label", "sample"))

    def add_temperature(self, inputs: dict[str, Any], value: float) -> None:
        """Add the temperature as the code takes it."""
        if self.takes("temperature"):
            inputs["temperature"] = float(value)
        elif self.takes("temperatures"):
            inputs["temperatures"] = (float(value),)
        elif value != self.temperature:
            raise NotTaken("the code takes no temperature")

    def _tried(self) -> list[Any]:
        random = np.random.default_rng(1)
        x, positive, other = (random.normal(size=(count, 7)) for count in (4, 5, 2))
        others = [other, other[:0]] if self.takes(self.given) else [other[:0]]
        known = (1.0, True, False) if self.takes("mask") else (1.0, self.masks)
        for item in others:
            case = SimpleNamespace(
                x=x, positive=positive, negative=np.concatenate([x, item]),
                temperature=self.temperature or 1.0, negative_weight=None,
                mask_self=known[1] or self.negatives == "implicit",
            )  # fmt: skip
            try:
                return [self.field(case, plain_setting(self))]
            except (FormError, NotTaken):
                raise
            except Exception:
                # Code that cannot take more negatives than samples is still to be judged.
                if item is others[-1]:
                    raise
        raise NotImplementedError

    def line(self, function: str = "function") -> str:
        """The one line to paste."""
        return written("field", function, {
            "layout": self.layout.text if self.layout.text != "sample channel" else "",
            "negatives": self.negatives, "names": renamed(self), "returns": self.returns,
        })  # fmt: skip
