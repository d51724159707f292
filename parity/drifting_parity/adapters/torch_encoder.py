"""The encoder and the autoencoder of ``drifting_torch`` behind the adapter interface."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import drifting_torch
from drifting_parity.adapters.torch_adapter import DTYPES, autocast, to_array, to_tensor
from drifting_parity.cases import Array, EncoderCase, Setting
from drifting_spec import Readings


def encoder_maps(case: EncoderCase, readings: Readings, setting: Setting) -> dict[str, Array]:
    """The tapped maps, through ``extract_feature_maps``."""
    encoder = loaded_encoder(case, readings).to(setting.device, DTYPES[setting.dtype])
    with autocast(setting), torch.no_grad():
        found = drifting_torch.extract_feature_maps(encoder, to_tensor(case.images, setting))
    return {name: to_array(each) for name, each in found.items()}


def reconstruct(case: EncoderCase, readings: Readings, setting: Setting) -> dict[str, Array]:
    """Every step of the decoder, seen by hooks, and the output."""
    assert case.mask is not None
    whole = drifting_torch.MaskedAutoencoder(loaded_encoder(case, readings))
    _load_decoder(whole.decoder, case.parameters)
    whole = whole.to(setting.device, DTYPES[setting.dtype])
    steps: dict[str, Array] = {}

    def kept(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            del module, inputs
            steps[name] = to_array(output)

        return keep

    whole.decoder.bridge.register_forward_hook(kept("bridge"))
    for position, block in enumerate(whole.decoder.blocks, start=1):
        block.register_forward_hook(kept(f"up{position}"))
    whole.decoder.head.register_forward_hook(kept("grid"))
    mask = torch.tensor(case.mask > 0, device=setting.device)
    with autocast(setting), torch.no_grad():
        output = whole(to_tensor(case.images, setting), mask)
    return steps | {"output": to_array(output)}


def parameter_counts(
    width: int, in_channels: int, patch_size: int, readings: Readings
) -> Mapping[str, int]:
    """Parameters of encoder and decoder, on modules without storage."""
    with torch.device("meta"):
        encoder = drifting_torch.MAEResNetEncoder(
            width, in_channels, patch_size=patch_size, readings=readings
        )
        decoder = drifting_torch.MAEDecoder(encoder)
    parts: dict[str, nn.Module] = {"encoder": encoder, "decoder": decoder}
    return {name: sum(each.numel() for each in part.parameters()) for name, part in parts.items()}


def loaded_encoder(case: EncoderCase, readings: Readings) -> drifting_torch.MAEResNetEncoder:
    """The case's encoder with its parameters, in double precision."""
    encoder = drifting_torch.MAEResNetEncoder(
        case.width,
        case.images.shape[1],
        patch_size=case.patch_size,
        blocks=case.blocks,
        readings=readings,
    ).double()
    drifting_torch.load_release_parameters(encoder, case.parameters_under(readings))
    return encoder.eval()


def _load_decoder(decoder: drifting_torch.MAEDecoder, parameters: Mapping[str, Array]) -> None:
    decoder.double()
    with torch.no_grad():
        for name, each in decoder.named_parameters():
            value = torch.tensor(parameters[f"decoder/{_decoder_name(name)}"])
            each.copy_(value.permute(3, 2, 0, 1) if value.dim() == 4 else value)


def _decoder_name(name: str) -> str:
    """Translate a parameter of ``MAEDecoder`` into the reference's name."""
    path, _, leaf = name.rpartition(".")
    path = {"bridge.0": "bridge", "bridge.1": "bridge_norm"}.get(path, path)
    path = re.sub(r"blocks\.(\d+)\.", lambda found: f"up{int(found[1]) + 1}/", path)
    kernel = leaf == "weight" and "norm" not in path
    return f"{path}/{'kernel' if kernel else {'weight': 'scale', 'bias': 'bias'}[leaf]}"
