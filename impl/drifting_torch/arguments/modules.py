"""Modules behind what a caller hands in, and the ones that are refused there.

A generator or an encoder is any function; often it is a lambda that calls the module it is about.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator

import torch
from torch import nn


def modules_behind(function: object) -> Iterator[tuple[str, nn.Module]]:
    """The module that ``function`` is, or those that it refers to, with the name it has for them.

    Looks through bound methods, ``functools.partial`` and the variables of functions, those around
    them and the modules among the globals that they read; functions around them are followed too.
    """
    if torch.compiler.is_compiling() and not isinstance(function, nn.Module):
        return  # Compilers do not trace through the inspection of code.
    seen: set[int] = set()
    pending: list[tuple[str, object]] = [("", function)]
    while pending:
        name, each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, nn.Module):
            yield name, each
        elif isinstance(each, functools.partial):
            bound = (*each.args, *each.keywords.values())
            pending += [(name, held) for held in (each.func, *bound)]
        elif isinstance(each, types.MethodType):
            pending += [(name, each.__self__), (name, each.__func__)]
        elif isinstance(each, types.FunctionType):
            pending += [(inner, held) for inner, held in _variables(each)]


def _variables(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """What a function refers to: variables around it, and modules among the globals it reads."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for step in dis.get_instructions(function):
        if step.opname == "LOAD_GLOBAL":
            held = function.__globals__.get(step.argval)
            if isinstance(held, nn.Module):
                yield step.argval, held


def check_no_batch_statistics(name: str, function: object) -> None:
    """Refuse modules whose BatchNorm takes its statistics from the batch it is given.

    Features of one sample would depend on the others, and on how a batch is split.
    """
    for variable, module in modules_behind(function):
        for path, each in module.named_modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm) and (  # pyright: ignore[reportPrivateUsage]
                each.training or each.running_mean is None
            ):
                state, way = "without running statistics", ""
                if each.training:
                    state, way = "in training mode", f" ({variable or name}.eval() freezes them)"
                raise ValueError(
                    f"{name} has the {type(each).__name__} {_place(variable, path)} {state}, "
                    f"expected none: a sample's features must not depend on its batch{way}"
                )


def check_evaluated(name: str, function: object) -> None:
    """Refuse a frozen module that behaves as in training: its features would not be repeatable."""
    check_no_batch_statistics(name, function)
    for variable, module in modules_behind(function):
        for path, each in module.named_modules():
            if each.training:
                place = _place(variable, path)
                what = name if place == "itself" else f"{name}'s {place}"
                raise ValueError(
                    f"{what} is in training mode, expected eval mode: call "
                    f"{variable or name}.eval()"
                )


def _place(variable: str, path: str) -> str:
    named = ".".join(each for each in (variable, path) if each)
    return repr(named) if named else "itself"
