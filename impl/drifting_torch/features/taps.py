"""Maps of any backbone, by the names of its layers (A.3 taps stages of its own encoder)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class LayerTaps(nn.Module):
    """An encoder that returns what named layers of a module give.

    Parameters
    ----------
    module
        The backbone. What it returns itself is left out.
    layers
        Layers by their names in ``module.named_modules()``: a sequence of them, or a mapping from
        the features' names to them. Each gives one tensor in a call, a map [B, C, H, W] or vectors
        [B, V, C].

    Raises
    ------
    ValueError
        For no layers, one that the module does not have, and in a call for one that was not
        reached, or more than once.
    TypeError
        In a call, for a layer that gives anything but a tensor.
    """

    def __init__(self, module: nn.Module, layers: Sequence[str] | Mapping[str, str]) -> None:
        super().__init__()
        if isinstance(layers, str):
            raise TypeError(f"layers is {layers!r}, expected several names of layers")
        named = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
        if not named:
            raise ValueError("layers is empty, expected at least one name of a layer")
        there = dict(module.named_modules())
        for layer in named.values():
            if layer not in there or not layer:
                near = difflib.get_close_matches(layer, there, n=3) or list(there)[1:4]
                raise ValueError(
                    f"layers holds {layer!r}, expected names of layers as {', '.join(near)}"
                )
        self.module = module
        self.layers = named

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The tapped tensors by name, in the order of ``layers``."""
        given: dict[str, list[Any]] = {name: [] for name in self.layers}
        there = dict(self.module.named_modules())
        handles = [
            there[layer].register_forward_hook(
                lambda _module, _inputs, output, into=given[name]: into.append(output)
            )
            for name, layer in self.layers.items()
        ]
        try:
            self.module(images)
        finally:
            for handle in handles:
                handle.remove()
        for name, outputs in given.items():
            layer = self.layers[name]
            if len(outputs) != 1:
                raise ValueError(
                    f"layer {layer!r} was reached {len(outputs)} times in a call, expected once"
                )
            if not isinstance(outputs[0], Tensor):
                raise TypeError(
                    f"layer {layer!r} gives {type(outputs[0]).__name__}, expected a tensor"
                )
        return {name: outputs[0] for name, outputs in given.items()}
