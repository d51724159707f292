"""Any backbone as an encoder, tapped at layers by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from drifting_torch import FeatureVectorizationConfig, LayerTaps, extract_features


class Backbone(nn.Module):
    """Two stages and a head; ``unused`` is never reached, ``shared`` twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stages = nn.Sequential(nn.Conv2d(4, 6, 2, 2), nn.ReLU())
        self.shared = nn.Identity()
        self.pair = Pair()
        self.unused = nn.Linear(1, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.shared(self.stages(self.stem(x))))
        self.pair(x)
        return self.head(x.mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_maps_by_the_names_of_layers() -> None:
    torch.manual_seed(0)
    backbone = Backbone().eval()
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    maps = LayerTaps(backbone, ["stem", "stages.1"])(images)
    assert list(maps) == ["stem", "stages.1"]
    torch.testing.assert_close(maps["stages.1"], backbone.stages(backbone.stem(images)))
    maps["stages.1"].sum().backward()
    assert images.grad is not None
    assert images.grad.any()
    assert not backbone.stem._forward_hooks


def test_it_is_an_encoder_of_features() -> None:
    encoder = LayerTaps(Backbone(), {"early": "stem", "late": "stages"}).eval()
    images = torch.randn(2, 3, 8, 8)
    vectors = extract_features(encoder, images, FeatureVectorizationConfig())
    assert any(key.startswith("early") for key in vectors)
    assert any(key.startswith("late") for key in vectors)
    assert len(encoder.state_dict()) == len(Backbone().state_dict())


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        ([], ValueError, "layers is empty"),
        ("stem", TypeError, "layers is 'stem', expected several"),
        (["stages.3"], ValueError, "layers holds 'stages.3', expected names of layers as stages"),
        ([""], ValueError, "layers holds ''"),
    ],
)
def test_names_that_there_are_not(layers: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LayerTaps(Backbone(), layers)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("layer", "error", "words"),
    [
        ("unused", ValueError, "'unused' was reached 0 times"),
        ("shared", ValueError, "'shared' was reached 2 times"),
        ("pair", TypeError, "'pair' gives tuple, expected a tensor"),
    ],
)
def test_layers_that_give_no_map(layer: str, error: type[Exception], words: str) -> None:
    backbone = Backbone()
    with pytest.raises(error, match=words):
        LayerTaps(backbone, [layer])(torch.zeros(1, 3, 8, 8))
    assert not any(module._forward_hooks for module in backbone.modules())
