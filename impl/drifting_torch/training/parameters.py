"""The parameters that a moving average follows, by names that no wrapping changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What compiling and other wrappers put between the parts of a parameter's name."""


def spread_over(value: Tensor) -> object:
    """The mesh of processes that a DTensor, as FSDP2's, is spread over; None for a plain tensor.

    Asked so, since ``torch.distributed.tensor`` is slow to import and not part of every PyTorch.
    """
    return getattr(value, "device_mesh", None)


def wide(value: Tensor) -> Tensor:
    """The value without a graph, in float32 at least."""
    narrow = value.dtype.is_floating_point and value.dtype.itemsize < 4
    return value.detach().float() if narrow else value.detach()


def averaged_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that can be averaged, by the names that they have in the bare module.

    Integers, as codes of quantised weights, are no more averaged than buffers are. ``ValueError``
    for parameters that have no values yet, naming them.
    """
    inner: nn.Module = module
    while isinstance(held := _wrapped_by(inner), nn.Module):
        inner = held
    found: dict[str, Tensor] = dict(inner.named_parameters())
    empty = [name for name, each in found.items() if is_lazy(each) or each.device.type == "meta"]
    if empty:
        raise ValueError(
            f"the module's parameters {', '.join(empty)} have no values yet (lazy or on meta), "
            "expected some to average"
        )
    found = {
        name: each
        for name, each in found.items()
        if each.dtype.is_floating_point or each.dtype.is_complex
    }
    bare = {_without_wrappers(name): each for name, each in found.items()}
    return bare if len(bare) == len(found) else found


def _wrapped_by(module: nn.Module) -> object:
    if isinstance(module, DistributedDataParallel | DataParallel):
        return module.module
    return getattr(module, "_orig_mod", None)


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _without_leading_module(name: str) -> str:
    return _without_wrappers(name).removeprefix("module.")


def _without_module(name: str) -> str:
    return ".".join(part for part in _without_wrappers(name).split(".") if part != "module")


def matched_names(held: Iterable[str], wanted: Iterable[str]) -> dict[str, str] | None:
    """For each wanted name the held one of the same parameter, wrapped or not; None if unlike."""
    held, wanted = list(held), list(wanted)
    forms: list[Callable[[str], str]] = [
        str,
        _without_wrappers,
        _without_leading_module,
        _without_module,
    ]
    for form in forms:
        ours, theirs = {form(name): name for name in wanted}, {form(name): name for name in held}
        if len(ours) == len(wanted) and len(theirs) == len(held) and set(ours) == set(theirs):
            return {name: theirs[key] for key, name in ours.items()}
    return None


def misfit(name: str, found: Tensor, wanted: Tensor) -> str | None:
    """How a value differs from one that it is to be averaged with; None if they fit.

    Device and dtype may differ, but for real and complex numbers.
    """
    if found.shape != wanted.shape:
        return f"{name} of shape {tuple(found.shape)}, expected {tuple(wanted.shape)}"
    if not (found.dtype.is_floating_point or found.dtype.is_complex):
        return f"{name} of dtype {found.dtype}, expected {wanted.dtype}"
    if found.dtype.is_complex != wanted.dtype.is_complex:
        return f"{name} of dtype {found.dtype}, expected {wanted.dtype}"
    here, there = _spread(found), _spread(wanted)
    if here != there:
        return f"{name} {here or 'in one piece'}, expected {there or 'in one piece'}"
    return None


def _spread(value: Tensor) -> str:
    mesh = spread_over(value)
    return "" if mesh is None else f"spread over {mesh} as {getattr(value, 'placements', None)}"


def check_state(
    state: Mapping[str, object], decays: Iterable[float]
) -> dict[float, Mapping[str, Tensor]]:
    """Demand averages of these decays."""
    if "averages" not in state:
        raise KeyError(f"the state has {sorted(state)}, expected what state_dict() gave")
    held = state["averages"]
    if not isinstance(held, Mapping) or not all(
        isinstance(each, Mapping) for each in held.values()
    ):
        raise TypeError(
            f"the state's averages are {type(held).__name__}, expected a mapping from decays to "
            "mappings from names to tensors"
        )
    wanted = set(decays)
    if set(held) != wanted:
        raise ValueError(f"the state has decays {sorted(held, key=str)}, expected {sorted(wanted)}")
    return dict(held)


def fitted(held: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the averages ``held`` as the module's parameters ``wanted`` need them."""
    names = matched_names(held, wanted)
    if names is None:
        odd = sorted(
            set(map(_without_leading_module, held)) ^ set(map(_without_leading_module, wanted))
        )
        raise ValueError(f"the state and the module differ in the parameters {odd}")
    for name, theirs in names.items():
        value = held[theirs]
        if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"the state's {name} is {type(value).__name__}, expected a tensor")
        if problem := misfit(name, value, wanted[name]):
            raise ValueError(f"the state has {problem}")
    return {
        name: torch.empty_like(wide(wanted[name])).copy_(held[theirs].detach())
        for name, theirs in names.items()
    }
