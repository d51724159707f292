"""The call form of a whole training step (A.9) in PyTorch.

Not part of ``drifting_parity_serve.py``: the generator that a step trains is the harness's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.torch_adapter import to_array, to_tensor
from drifting_parity.adapters.torch_training import LinearGenerator
from drifting_parity.cases import Manifest, Readings, Setting, StepCase, StepObservation
from drifting_parity.forms.arrays import kind_of, to_numpy
from drifting_parity.forms.layout import FormError
from drifting_parity.forms.signature import SYNONYMS, Signature, place

USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("generator", "net", "network", "gen"),
    "encoder": ("featureencoder", "featurefn", "phi"),
    "noise": ("eps", "epsilon", "z", "latents"),
    "labels": ("label", "classlabels", "y"),
    "alpha": ("alphas", "guidance", "guidancescale", "cfgscale"),
    "positive": SYNONYMS["positive"],
    "unconditional": SYNONYMS["unconditional"],
    "optimizer": ("opt", "optim"),
    "clip": ("gradclip", "gradientclip", "maxnorm", "clipnorm", "maxgradnorm"),
    "parts": ("microbatches", "accumulation"),
}
NEEDED: Final = ("model", "encoder", "noise", "labels", "alpha", "positive", "optimizer")
ANSWERS: Final = ("loss", "feature_loss", "raw_loss", "gradient_norm")
UNCLIPPED: Final = 1e8


class Step:
    """``function(model, encoder, noise, labels, alpha, pos, unc, optimizer, …) → {loss, …}``.

    The model is ``model(noise[B, D], labels[B], alpha[B]) → [B, C, H, W]``, label-major; ``noise``
    comes as [L, N, D], ``labels`` and ``alpha`` as [L], real samples as [L, P, C, H, W]. The
    encoder maps images [B, C, H, W] to the map [B, K, H, W], or with ``encoder="vectors"`` to its
    locations [B, H·W, K], and nothing else of it counts as a feature. The step draws no noise of
    its own, updates the model by the optimizer, and tells ``loss``, ``feature_loss``, ``raw_loss``
    (the vanilla term) and ``gradient_norm`` (before clipping) by these keys or attributes, or by
    those that ``returns`` gives for them.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        names: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        returns: Mapping[str, Any] | None = None,
        encoder: str = "map",
    ) -> None:
        if encoder not in {"map", "vectors"}:
            raise FormError(f"encoder is {encoder!r}, expected 'map' or 'vectors'")
        self.name = name or getattr(function, "__name__", "step")
        self.constants = dict(constants or {})
        self.returns = {key: key for key in ANSWERS} | dict(returns or {})
        self.encoder = encoder
        self.place = place(function)
        self.signature = Signature(
            function, tuple(USUAL), dict(names or {}), self.constants, NEEDED, USUAL
        )

    def training_step(self, case: StepCase, setting: Setting) -> StepObservation:
        """One step on the case's linear generator, by plain gradient descent."""
        if setting.dtype not in {"float64", "float32"} or setting.autocast:
            raise NotObservable("the step is asked in single and double precision alone")
        model = LinearGenerator(case, setting)
        before = {name: to_array(item).copy() for name, item in model.named_parameters()}
        values = self._values(case, model, setting)
        answer = self.signature.call(values, self.constants)
        told = {key: self._told(answer, key) for key in ANSWERS}
        updates = {
            name: (before[name] - to_array(item)) / case.rate
            for name, item in model.named_parameters()
        }
        count = len(case.labels) * case.noise.shape[1]
        calls: list[tuple[Tensor, ...]] = []
        for call in model.seen:
            if sum(len(item[0]) for item in calls) < count:
                calls.append(call)
        if not calls:
            raise FormError(f"{self.place} did not call the model")
        reached = [to_array(torch.cat(parts)) for parts in zip(*calls, strict=True)]
        return StepObservation(
            **told,
            updates=updates,
            seen=dict(zip(("noise", "labels", "alpha"), reached, strict=True)),
        )

    def _values(self, case: StepCase, model: Any, setting: Setting) -> dict[str, Any]:
        takes = self.signature.argument
        values: dict[str, Any] = {
            "model": model,
            "encoder": self._encoder(to_tensor(case.encoder, setting)),
            "noise": to_tensor(case.noise, setting),
            "labels": torch.tensor(case.labels, device=setting.device),
            "alpha": to_tensor(case.alpha, setting),
            "positive": to_tensor(case.positive, setting),
            "optimizer": torch.optim.SGD(model.parameters(), lr=case.rate),
        }
        if case.unconditional is not None:
            if "unconditional" not in takes:
                raise NotObservable("the step takes no unconditional samples")
            values["unconditional"] = to_tensor(case.unconditional, setting)
        elif "unconditional" in takes and not self.signature.optional("unconditional"):
            values["unconditional"] = None
        for role, value, usual in (
            ("clip", case.clip, case.clip > UNCLIPPED),
            ("parts", case.parts, case.parts == 1),
        ):
            if role in takes:
                values[role] = value
            elif not usual:
                raise NotObservable(f"the step takes no {role}")
        return values

    def _encoder(self, matrix: Tensor) -> Callable[[Tensor], Tensor]:
        def encode(images: Tensor) -> Tensor:
            maps = torch.einsum("kc,bchw->bkhw", matrix, images)
            return maps if self.encoder == "map" else maps.flatten(2).transpose(1, 2)

        return encode

    def _told(self, answer: Any, key: str) -> float:
        name = self.returns[key]
        try:
            inside = answer[name] if isinstance(answer, Mapping) else getattr(answer, name)
            return float(to_numpy(inside))
        except (KeyError, AttributeError):
            raise NotObservable(f"the step does not tell its {key}") from None
        except (TypeError, ValueError):
            raise FormError(
                f"{self.place} returned {kind_of(answer)}, whose {name!r} is no number"
            ) from None

    def smoke(self) -> None:
        """One small step, which must move the model; :class:`FormError` if it does not."""
        random = np.random.default_rng(1)
        case = StepCase(
            Manifest("smoke"),
            noise=random.normal(size=(2, 3, 8)),
            labels=np.array([1, 0]),
            alpha=np.ones(2),
            positive=random.normal(size=(2, 4, 2, 2, 2)),
            unconditional=None,
            weights=random.normal(size=(8, 8)),
            classes=random.normal(size=(2, 8)),
            guidance=random.normal(size=8),
            encoder=random.normal(size=(3, 2)),
            clip=10 * UNCLIPPED,
        )
        observed = self.training_step(case, Setting())
        if not np.any(observed.updates["weights"]):
            raise FormError(f"{self.place} did not update the model by the optimizer")

    def conduct(self) -> list[str]:
        """Nothing: a step may change what it is given."""
        return []


class StepAdapter(Adapter):
    """An adapter made of the call form of a training step."""

    def __init__(self, form: Step) -> None:
        self.form = form
        self.name = form.name

    def smoke(self) -> None:
        """Try it on a small case; :class:`FormError` says what is not right."""
        self.form.smoke()

    def training_step(
        self, case: StepCase, readings: Readings, setting: Setting
    ) -> StepObservation:
        """One step of A.9 on a linear generator."""
        del readings
        try:
            return self.form.training_step(case, setting)
        except FormError as problem:
            raise TypeError(str(problem)) from None
