"""Modules are found behind the functions that call them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drifting_torch import extract_feature_maps
from drifting_torch.arguments.modules import modules_behind

LAYER = nn.Linear(2, 2)


def reads_a_global(x: Tensor) -> Tensor:
    return LAYER(x)


class Holder:
    LAYER = "an attribute that has a global's name"

    def method(self, x: Tensor) -> Any:
        return self.LAYER, x


def around(inner: Any) -> Any:
    def calls(x: Tensor) -> Any:
        return inner(x)

    return calls


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (LAYER, ""),
        (LAYER.forward, ""),
        (partial(LAYER), ""),
        (partial(nn.functional.linear, LAYER), ""),
        (reads_a_global, "LAYER"),
        (around(LAYER), "inner"),
        (around(around(LAYER)), "inner"),
        (around(partial(LAYER.forward)), "inner"),
        (torch.no_grad()(LAYER.forward), "func"),
    ],
    ids=[
        "itself",
        "method",
        "partial",
        "argument",
        "global",
        "closure",
        "deep",
        "mixed",
        "no_grad",
    ],
)
def test_the_module_is_found(function: Any, name: str) -> None:
    assert list(modules_behind(function)) == [(name, LAYER)]


@pytest.mark.parametrize(
    "function", [torch.relu, Holder().method, around(len), lambda x: x.LAYER, None, "text"]
)
def test_nothing_else_is_found(function: Any) -> None:
    assert list(modules_behind(function)) == []


def test_functions_that_call_each_other_end() -> None:
    def first(x: int) -> int:
        return second(x) if x else 0

    def second(x: int) -> int:
        return first(x - 1)

    assert list(modules_behind(first)) == []


def test_features_of_a_lambda_compile() -> None:
    encoder = nn.Conv2d(3, 4, 3).eval()
    hidden = around(encoder)
    compiled = torch.compile(
        lambda images: extract_feature_maps(hidden, images), fullgraph=True, backend="eager"
    )
    assert compiled(torch.zeros(1, 3, 8, 8))["map0"].shape == (1, 4, 6, 6)
