"""Parameters of the authors' release, read into the modules of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from drifting_torch.arguments.arrays import tensor_of


class ReleaseNamed(Protocol):
    """A module that knows its parameters by the release's names: encoder and generator."""

    def release_parameters(self) -> dict[str, Tensor]:
        """Views of the parameters, laid out as in the release, by the names that it gives them."""
        ...

    def release_description(self) -> str:
        """Describe which module this is, for the message that parameters do not fit."""
        ...

    def release_subtree(self, given: dict[str, object]) -> dict[str, object]:
        """Of everything handed over, the module's own parameters, by their bare names."""
        ...


def load_release_parameters(module: ReleaseNamed, parameters: Mapping[str, object]) -> None:
    """Give an encoder or a generator the parameters of one of the authors' release.

    Parameters
    ----------
    module
        A :class:`MAEResNetEncoder` built with ``readings.taps='release'`` (their stages close
        with a GroupNorm), or a :class:`DriftingTransformer`.
    parameters
        Arrays by the release's names, as ``encoder/stages_0/layers_0/conv1/kernel`` or
        ``LightningDiT_0/pos_embed``; nested mappings are read as such paths. Of an autoencoder
        only what lies below ``encoder`` is read; a generator may lie below any path. Two of a kind
        (a moving average beside it) are refused. Convolutions are laid out [H, W, in, out],
        matrices [in, out]. Tensors, and arrays of NumPy and JAX, of any real dtype, byte order and
        strides; pairs of bytes without a dtype, which is how NumPy saves bfloat16, are read as
        that.

    Raises
    ------
    ValueError
        Naming every parameter that is missing, left over or of another shape; nothing is changed.

    Examples
    --------
    >>> from drifting_spec import RELEASE                                    # doctest: +SKIP
    >>> encoder = MAEResNetEncoder(256, readings=RELEASE)                    # doctest: +SKIP
    >>> load_release_parameters(encoder, parameters)                         # doctest: +SKIP
    >>> encoder.eval().requires_grad_(False)                                 # doctest: +SKIP
    """
    given = module.release_subtree(_flat(parameters))
    wanted = module.release_parameters()
    missing, left_over = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"left over: {', '.join(left_over)}"] if left_over else []
    values: dict[str, Tensor] = {}
    for name in sorted(set(wanted) & set(given)):
        try:
            value = tensor_of(given[name])
        except TypeError as problem:
            problems.append(f"{name} is {problem}")
            continue
        values[name] = value
        if value.shape != wanted[name].shape:
            expected = tuple(wanted[name].shape)
            problems.append(f"{name} has shape {tuple(value.shape)}, expected {expected}")
    if problems:
        raise ValueError(
            f"parameters do not fit {module.release_description()}: {'; '.join(problems)}"
        )
    with torch.no_grad():
        for name, value in values.items():
            wanted[name].copy_(value)


def _flat(parameters: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat


def below(given: Mapping[str, object], root: str, what: str) -> dict[str, object]:
    """What lies below the path element ``root``; everything, where nothing does.

    ``ValueError`` if there are several such places, each with ``what``.
    """
    inside: dict[str, dict[str, object]] = {}
    for name, value in given.items():
        above, passed, rest = f"/{name}".partition(f"/{root}/")
        if passed:
            inside.setdefault(f"{above}{passed}".strip("/"), {})[rest] = value
    _check_one(list(inside), what)
    return next(iter(inside.values()), dict(given))


def beside(given: Mapping[str, object], anchor: str, what: str) -> dict[str, object]:
    """What lies below the path at which ``anchor`` stands; everything, where it does not.

    ``ValueError`` if it stands at several, each with ``what``.
    """
    paths = [name.removesuffix(anchor) for name in given if f"/{name}".endswith(f"/{anchor}")]
    _check_one([path.strip("/") for path in paths], what)
    if not paths:
        return dict(given)
    (path,) = paths
    return {
        name.removeprefix(path): value for name, value in given.items() if name.startswith(path)
    }


def _check_one(places: list[str], what: str) -> None:
    if len(places) > 1:
        raise ValueError(
            f"parameters holds the {what} {', '.join(sorted(places))}, expected one: hand over "
            "what lies below it"
        )
