"""The other side of ``command:``: an adapter that answers the judge over ``spec/PROTOCOL.md``.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import traceback
from typing import Any

import numpy as np

from drifting_parity.forms.feature_form import FeatureForm
from drifting_parity.forms.field_form import FieldForm
from drifting_parity.forms.form import Form
from drifting_parity.forms.layout import NotTaken
from drifting_parity.forms.loss_form import LossForm

PROTOCOL = 1
VARIABLE = "DRIFTING_PARITY_FD"
LONGEST_HEADER = 1 << 24
MOST_BYTES = 1 << 31
ARRAY_TYPES = ("<f8", "<i8", "|b1")


def field(function: Any, **options: Any) -> Form:
    """V by Algorithm 2, ``f(x, y_pos, y_neg, T, …)``; options of :class:`FieldForm`."""
    return FieldForm(function, **options)


def loss(function: Any, **options: Any) -> Form:
    """The loss of one feature; options of :class:`LossForm`."""
    return LossForm(function, **options)


def class_loss(function: Any, layout: str = "sample vector channel", **options: Any) -> Form:
    """The loss of one class, ``f(x[N, L, C], pos, …)`` or with ``x[N, D]``."""
    return LossForm(function, layout=layout, **options)


def features(function: Any, **options: Any) -> Form:
    """The loss over many features; options of :class:`FeatureForm`."""
    return FeatureForm(function, **options)


def module(kind: Any, layout: str = "sample channel 1 1", **options: Any) -> Form:
    """A module on images [N, C, H, W]: a class (built once with ``build``) or an object."""
    return LossForm(kind, layout=layout, **options)


class Case(dict):  # pyright: ignore[reportMissingTypeArgument] -- what JSON holds
    """A case: its inputs as attributes, its mappings as those of Python."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the case has no {name}: {', '.join(self)}") from None


def serve(*forms: Form, name: str = "", **methods: Any) -> None:
    """Answer the judge until it has gone.

    ``forms``: what :func:`field`, :func:`loss` and so on return. ``methods``: further ones by the
    names of the protocol, each a function that takes its arguments and returns what it answers;
    it raises :class:`NotTaken` for what it cannot take.
    """
    number = os.environ.get(VARIABLE)
    if number is None:
        command = " ".join(sys.argv)
        raise SystemExit(
            f"{VARIABLE} is not set: this is run by the judge, as in drifting-parity report "
            f"--implementation 'command:python {command}'"
        )
    judge = socket.socket(fileno=int(number))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=judge.close)
    try:
        _Server(judge, forms, name, methods).run()
    except (EOFError, OSError):
        return


class _Server:
    def __init__(
        self, judge: socket.socket, forms: tuple[Form, ...], name: str, methods: dict[str, Any]
    ) -> None:
        self._judge = judge
        self._forms = forms
        self._name = name or (forms[0].name if forms else "unnamed")
        self._methods: dict[str, Any] = dict(methods)
        for form in forms:
            self._methods[form.method] = _without_readings(getattr(form, form.method))

    def run(self) -> None:
        """The introduction, then one answer for each call."""
        request, _ = receive(self._judge)
        self._judge.sendall(message({"id": 0, **self._introduction(request)}, []))
        while True:
            request, arrays = receive(self._judge)
            body, results = self._answer(request, arrays)
            self._judge.sendall(message({"id": request["id"], **body}, results))

    def _introduction(self, request: Any) -> dict[str, Any]:
        if request.get("protocol") != PROTOCOL:
            asked = f"the judge speaks protocol {request.get('protocol')}"
            mine = f"drifting_parity_serve.py speaks {PROTOCOL}"
            return {"problem": f"{asked}, and {mine}: take the judge's own copy of it"}
        try:
            for form in self._forms:
                form.smoke()
                form.conduct()
        except Exception as problem:
            return {"problem": _described(problem)}
        first = self._forms[0] if self._forms else None
        return {
            "protocol": PROTOCOL,
            "name": self._name,
            "configurable": False,
            "dtypes": list(first.dtypes if first else ("float64", "float32")),
            "devices": list(first.devices if first else ("cpu",)),
            "offers": list(self._methods),
        }

    def _answer(self, request: Any, arrays: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        results: list[Any] = []
        kept = [array.tobytes() for array in arrays]
        try:
            arguments = [unpacked(item, arrays) for item in request["arguments"].values()]
            answer = packed(self._methods[request["call"]](*arguments), results)
            body: dict[str, Any] = {"result": answer}
        except NotTaken as reason:
            body, results = {"not_observable": str(reason)}, []
        except Exception as problem:
            body, results = {"raised": _described(problem)}, []
        except BaseException as problem:
            body, results = {"raised": _described(problem), "left": True}, []
        body["conduct"] = [["inputs", what] for form in self._forms for what in form.conduct()]
        if any(old != new.tobytes() for old, new in zip(kept, arrays)):  # noqa: B905 -- Python 3.9
            body["conduct"].append(["inputs", "changed its inputs in place"])
        return body, results


def _without_readings(function: Any) -> Any:
    def called(case: Any, readings: Any, setting: Any) -> Any:
        del readings
        return function(case, setting)

    return called


def _described(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    here = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""  # noqa: PTH119 -- a name alone
    return f"{type(problem).__name__}: {problem}{here}"


# Messages.


def unpacked(tree: Any, arrays: list[Any]) -> Any:
    """Arguments as they came, with their arrays."""
    if isinstance(tree, dict):
        if list(tree) == ["array"] and isinstance(tree["array"], int):
            return arrays[tree["array"]]
        return Case({key: unpacked(item, arrays) for key, item in tree.items()})
    if isinstance(tree, list):
        return [unpacked(item, arrays) for item in tree]
    return tree


def packed(value: Any, arrays: list[Any]) -> Any:
    """What was answered, ready for JSON; its arrays go to ``arrays``."""
    if isinstance(value, dict):
        return {str(key): packed(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [packed(item, arrays) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    array = np.asarray(value)
    if isinstance(value, np.generic):
        return value.item()
    kind = {"f": "<f8", "i": "<i8", "u": "<i8", "b": "|b1"}.get(array.dtype.kind)
    if kind is None:
        raise TypeError(f"{type(value).__name__} is no answer: numbers, arrays and text are")
    arrays.append(np.array(array, kind, order="C"))
    return {"array": len(arrays) - 1}


def message(body: Any, arrays: list[Any]) -> bytes:
    """One message."""
    listed = [[array.dtype.str, list(array.shape)] for array in arrays]
    header = json.dumps({"arrays": listed, "body": body}).encode()
    return struct.pack("<Q", len(header)) + header + b"".join(item.tobytes() for item in arrays)


def receive(source: socket.socket) -> tuple[Any, list[Any]]:
    """Read one message; ``EOFError`` when the judge is gone, ``OSError`` for what is none."""
    (length,) = struct.unpack("<Q", _exactly(source, 8))
    if length > LONGEST_HEADER:
        raise OSError(f"a header of {length} bytes")
    header = json.loads(_exactly(source, length).decode())
    arrays: list[Any] = []
    for kind, shape in header["arrays"]:
        size = np.dtype(kind).itemsize * int(np.prod([int(side) for side in shape], dtype=object))
        if kind not in ARRAY_TYPES or not 0 <= size <= MOST_BYTES:
            raise OSError(f"an array of {kind!r} and shape {shape}")
        arrays.append(np.frombuffer(_exactly(source, size), kind).reshape(shape))
    return header["body"], arrays


def _exactly(source: socket.socket, count: int) -> bytearray:
    read = bytearray()
    while len(read) < count:
        part = source.recv(min(count - len(read), 1 << 20))
        if not part:
            raise EOFError
        read += part
    return read
