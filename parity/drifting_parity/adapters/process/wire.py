"""Values as messages: a JSON header and raw little-endian arrays, shaped by type hints.

``packer(hint)`` turns a value of the hinted type into plain JSON and a list of arrays,
``unpacker(hint)`` turns them back. Both refuse whatever does not fit the hint, so that nothing but
numbers, text and arrays of the expected kind passes: no pickle, no code.

A message is 8 bytes (the header's length, little-endian), the header in UTF-8
``{"arrays": [[dtype, shape], …], "body": …}``, then the arrays' bytes in that order. What the
bodies are is said in ``spec/PROTOCOL.md``.
"""

from __future__ import annotations

import json
import math
import select
import socket
import struct
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]
Tree = Any
"""What JSON can hold; ``{"array": n}`` stands for the n-th array."""

Pack = Callable[[Any, list[AnyArray]], Tree]
Unpack = Callable[[Tree, Sequence[AnyArray]], Any]

DTYPES: Final[Mapping[Any, str]] = {np.float64: "<f8", np.int64: "<i8", np.bool_: "|b1"}
LONGEST_HEADER: Final = 1 << 24
MOST_BYTES: Final = 1 << 31
"""Of the arrays of one message. The largest case of the harness is below 2**28."""

MOST_AXES: Final = 16

PIECE: Final = 1 << 22
"""Bytes for which room is made before they are there: a header may promise any size."""

LONGEST_KEY: Final = 200


class Unfit(TypeError):  # noqa: N818 -- reads as what it is said of: a value, an answer
    """A value that is not of the type it should be."""


# Packing: what an adapter returned, or what a check asks, to JSON and arrays.


@cache
def packer(hint: Any) -> Pack:
    """How values of ``hint`` are packed; the function raises :class:`Unfit` for others."""
    return _for(hint, _PACK)


@cache
def unpacker(hint: Any) -> Unpack:
    """How values of ``hint`` are unpacked; the function raises :class:`Unfit` for others."""
    return _for(hint, _UNPACK)


def _for(hint: Any, makers: Mapping[str, Callable[[Any], Any]]) -> Any:
    origin = get_origin(hint)
    if origin is np.ndarray:
        scalar = get_args(get_args(hint)[1])[0]
        return makers["array"](DTYPES[scalar])
    if origin in {Union, types.UnionType}:
        (kind,) = (item for item in get_args(hint) if item is not type(None))
        return makers["optional"](kind)
    if origin is Literal:
        return makers["choice"](get_args(hint))
    if origin is not None and issubclass(origin, Mapping):
        return makers["mapping"](get_args(hint)[1])
    if origin is tuple and get_args(hint)[-1] is not Ellipsis:
        return makers["tuple"](get_args(hint))
    if origin is not None and issubclass(origin, Sequence):
        return makers["list"](hint)
    if is_dataclass(hint):
        return makers["dataclass"](hint)
    return makers["plain"](hint)


def _name(value: object) -> str:
    kind = type(value)
    if value is None:
        return "None"
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_):
        raise Unfit(f"{_name(value)}, expected a number")
    if isinstance(value, int | float | np.integer | np.floating):
        return float(value)
    # A zero-dimensional array or tensor of one number.
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return _number(value.item())
    raise Unfit(f"{_name(value)}, expected a number")


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise Unfit(f"{_name(value)}, expected an integer")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit(f"{_name(value)}, expected text")
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise Unfit(f"{_name(value)}, expected None")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit(f"{_name(value)}, expected True or False")
    return value


_PLAIN: Final[Mapping[Any, Callable[[Any], Any]]] = {
    float: _number,
    int: _integer,
    str: _text,
    bool: _truth,
    type(None): _nothing,
}


def _plain(hint: Any) -> Callable[[Any, Any], Any]:
    convert = _PLAIN[hint]
    return lambda value, _: convert(value)


def _choice(allowed: tuple[Any, ...]) -> Callable[[Any, Any], Any]:
    def check(value: Any, _: Any) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise Unfit(f"{value!r:.50}, expected one of {', '.join(map(str, allowed))}")
        return value

    return check


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.isprintable() or len(key) > LONGEST_KEY:
        raise Unfit(f"the key {str(key)[:50]!a}, expected a short printable text")
    return key


def _pack_array(dtype: str) -> Pack:
    wanted = np.dtype(dtype)
    kinds = {"f": "fiu", "i": "iu", "b": "b"}[wanted.kind]

    def pack(value: Any, arrays: list[AnyArray]) -> Tree:
        try:
            array = np.asarray(value)
        except ValueError:
            raise Unfit(f"{_name(value)}, expected an array") from None
        if array.dtype.kind in "OSU":
            raise Unfit(f"{_name(value)}, expected an array of numbers")
        if array.dtype.kind not in kinds:
            raise Unfit(f"an array of dtype {array.dtype}, expected {wanted.name}")
        arrays.append(np.ascontiguousarray(array, wanted).reshape(array.shape))
        return {"array": len(arrays) - 1}

    return pack


def _unpack_array(dtype: str) -> Unpack:
    wanted = np.dtype(dtype)

    def unpack(tree: Tree, arrays: Sequence[AnyArray]) -> Any:
        place = tree.get("array") if isinstance(tree, dict) else None
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(arrays):
            raise Unfit(f"{_name(tree)}, expected an array")
        if arrays[place].dtype != wanted:
            raise Unfit(f"an array of dtype {arrays[place].dtype}, expected {wanted.name}")
        return arrays[place]

    return unpack


def _within(make: Callable[[Any], Any]) -> Mapping[str, Callable[[Any], Any]]:
    """Makers of what holds other values, ``make`` being :func:`packer` or :func:`unpacker`."""

    def optional(kind: Any) -> Any:
        inner = make(kind)

        def convert(value: Any, arrays: Any) -> Any:
            return None if value is None else inner(value, arrays)

        return convert

    def mapping(kind: Any) -> Any:
        inner = make(kind)

        def convert(value: Any, arrays: Any) -> Any:
            if not isinstance(value, Mapping):
                raise Unfit(f"{_name(value)}, expected a mapping")
            items = cast("Mapping[Any, Any]", value).items()
            return {_key(key): _under(f"[{key!r}] is", inner, item, arrays) for key, item in items}

        return convert

    def exactly(kinds: tuple[Any, ...]) -> Any:
        inner = [make(kind) for kind in kinds]

        def convert(value: Any, arrays: Any) -> Any:
            if not isinstance(value, list | tuple) or len(cast("Any", value)) != len(inner):
                raise Unfit(f"{_name(value)}, expected {len(inner)} values")
            pairs = zip(inner, cast("Any", value), strict=True)
            return tuple(item(part, arrays) for item, part in pairs)

        return convert

    def listed(hint: Any) -> Any:
        inner = make(get_args(hint)[0])

        def convert(value: Any, arrays: Any) -> Any:
            if not isinstance(value, list | tuple | np.ndarray):
                raise Unfit(f"{_name(value)}, expected a sequence")
            return tuple(inner(item, arrays) for item in cast("Any", value))

        return convert

    return {"optional": optional, "mapping": mapping, "tuple": exactly, "list": listed}


def _under(part: str, convert: Callable[[Any, Any], Any], value: Any, arrays: Any) -> Any:
    try:
        return convert(value, arrays)
    except Unfit as problem:
        raise Unfit(f"{part} {problem}") from None


def _pack_dataclass(kind: Any) -> Pack:
    hints = get_type_hints(kind)
    inner = {item.name: packer(hints[item.name]) for item in fields(kind)}

    def pack(value: Any, arrays: list[AnyArray]) -> Tree:
        if not isinstance(value, kind):
            raise Unfit(f"{_name(value)}, expected {kind.__name__}")
        return {
            name: _under(f".{name} is", item, getattr(value, name), arrays)
            for name, item in inner.items()
        }

    return pack


def _unpack_dataclass(kind: Any) -> Unpack:
    hints = get_type_hints(kind)
    inner = {item.name: unpacker(hints[item.name]) for item in fields(kind)}
    needed = {
        item.name
        for item in fields(kind)
        if item.default is MISSING and item.default_factory is MISSING
    }

    def unpack(tree: Tree, arrays: Sequence[AnyArray]) -> Any:
        if not isinstance(tree, dict):
            raise Unfit(f"{_name(tree)}, expected {kind.__name__}")
        given = cast("dict[str, Any]", tree)
        for name in (*sorted(needed - given.keys()), *sorted(given.keys() - inner.keys())):
            what = "lacks" if name in needed else "has, and should not,"
            raise Unfit(f"the answer {what} {name[:50]!a} of {kind.__name__}")
        return kind(
            **{
                name: _under(f".{name} is", inner[name], value, arrays)
                for name, value in given.items()
            }
        )

    return unpack


_PACK: Final[Mapping[str, Callable[[Any], Any]]] = {
    **_within(packer),
    "plain": _plain,
    "choice": _choice,
    "array": _pack_array,
    "dataclass": _pack_dataclass,
}
_UNPACK: Final[Mapping[str, Callable[[Any], Any]]] = {
    **_within(unpacker),
    "plain": _plain,
    "choice": _choice,
    "array": _unpack_array,
    "dataclass": _unpack_dataclass,
}


# Messages.


def message(body: Tree, arrays: Sequence[AnyArray] = ()) -> bytes:
    """One message, ready to be sent."""
    shapes = [[array.dtype.str, array.shape] for array in arrays]
    header = json.dumps({"arrays": shapes, "body": body}).encode()
    return b"".join(
        (struct.pack("<Q", len(header)), header, *(array.tobytes() for array in arrays))
    )


def receive(
    source: socket.socket, deadline: float = math.inf, also: Sequence[socket.socket] = ()
) -> tuple[Tree, list[AnyArray]]:
    """Read one message: its body and its arrays, which may be written to.

    ``deadline`` is a value of ``time.monotonic``. Raises ``TimeoutError`` when it passes,
    ``EOFError`` when the other side is gone or one of ``also`` has something to say before the
    message is complete, :class:`Unfit` for what is no message.
    """
    (length,) = struct.unpack("<Q", _exactly(source, 8, deadline, also))
    if length > LONGEST_HEADER:
        raise Unfit(f"a header of {length} bytes")
    try:
        header = json.loads(bytes(_exactly(source, length, deadline, also)))
        described = [
            (np.dtype(DTYPE_NAMES[kind]), _shape(shape)) for kind, shape in header["arrays"]
        ]
        body = header["body"]
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise Unfit(f"no message: {type(problem).__name__}") from None
    sizes = [kind.itemsize * math.prod(shape) for kind, shape in described]
    if sum(sizes) > MOST_BYTES:
        raise Unfit(f"arrays of {sum(sizes)} bytes, at most {MOST_BYTES} are taken")
    arrays: list[AnyArray] = []
    for (kind, shape), size in zip(described, sizes, strict=True):
        raw = _exactly(source, size, deadline, also)
        arrays.append(np.ndarray(shape, kind, raw))
    return body, arrays


DTYPE_NAMES: Final = {name: name for name in DTYPES.values()}


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(cast("list[Any]", shape)) > MOST_AXES:
        raise ValueError(shape)
    sides = cast("list[Any]", shape)
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 0 for side in sides):
        raise ValueError(shape)
    # Of an empty array as well: NumPy refuses one whose other sides are absurd.
    if math.prod(side or 1 for side in sides) > MOST_BYTES:
        raise Unfit(f"an array of {len(sides)} axes and shape {sides!s:.60}")
    return tuple(sides)


def _exactly(
    source: socket.socket, count: int, deadline: float, also: Sequence[socket.socket]
) -> bytearray:
    buffer = bytearray()
    while len(buffer) < count:
        piece = bytearray(min(count - len(buffer), PIECE))
        view, filled = memoryview(piece), 0
        while filled < len(view):
            _wait(source, deadline, also)
            got = source.recv_into(view[filled:])
            if got == 0:
                raise EOFError
            filled += got
        buffer = buffer + piece if buffer else piece
    return buffer


def _wait(source: socket.socket, deadline: float, also: Sequence[socket.socket]) -> None:
    if deadline == math.inf and not also:
        return
    # Not select(): its file descriptors end at 1024.
    poll = select.poll()
    for each in (source, *also):
        poll.register(each, select.POLLIN)
    left = deadline - time.monotonic()
    if left <= 0:
        # Also if there is more to read: a peer may send without end.
        raise TimeoutError
    ready = poll.poll(None if left == math.inf else max(0.0, 1000 * left))
    if any(number == source.fileno() for number, _ in ready):
        return
    if ready:
        raise EOFError
    raise TimeoutError


__all__ = ["MOST_BYTES", "Unfit", "message", "packer", "receive", "unpacker"]
