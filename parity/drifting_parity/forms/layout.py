"""In which order code takes the axes of its samples: ``label vector sample channel`` and others.

The harness holds samples as [label, sample, vector, channel]. A layout names the axes that the
code has, in its order: ``(label vector)`` is one axis made of two, the last one running fastest,
and ``1`` is an axis of size one. An axis that a layout leaves out must have size one in a case.

Part of ``drifting_parity_serve.py``: NumPy alone, Python 3.9.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

AXES = ("label", "sample", "vector", "channel")


class NotTaken(Exception):  # noqa: N818 -- no error: a case that this call form cannot put
    """The call form cannot take this case; the message says why."""


class FormError(Exception):
    """A call form that cannot work, in one sentence: what it got and what would be right."""


class Layout:
    """A parsed layout. Raises :class:`FormError` for an unknown axis, or one that comes twice."""

    def __init__(self, text: Any) -> None:
        self.text = text
        parts = re.findall(r"\([^()]*\)|[^\s()]+", text) if isinstance(text, str) else []
        self.groups = [part.strip("()").split() for part in parts]
        self.axes = [axis for group in self.groups for axis in group if axis != "1"]
        unknown = [axis for axis in self.axes if axis not in AXES]
        broken = re.sub(r"\([^()]*\)", "", str(text))
        if unknown or "(" in broken or ")" in broken or not self.axes:
            what = f": {unknown[0]!r} is no axis" if unknown else ""
            raise FormError(
                f"layout is {text!r}{what}, expected the axes {', '.join(AXES)} in the order of "
                "the code, as in 'label vector sample channel' or '(label vector) sample channel'"
            )
        if len(set(self.axes)) < len(self.axes):
            raise FormError(f"layout is {text!r}, which names an axis twice")
        for axis in ("sample", "channel"):
            if axis not in self.axes:
                raise FormError(f"layout is {text!r}, which lacks the axis {axis}")

    def __contains__(self, axis: str) -> bool:
        return axis in self.axes

    def pack(self, array: Any, axes: tuple[str, ...] = AXES) -> Any:
        """Bring an array with the given axes into this layout, those that it lacks left out."""
        for axis, size in zip(axes, array.shape):  # noqa: B905 -- Python 3.9 has no strict
            if axis not in self.axes and size != 1:
                raise NotTaken(f"the code takes one {axis}, and the case has {size}")
        groups = [[axis for axis in group if axis in axes] for group in self.groups]
        order = [axis for group in groups for axis in group]
        absent = [axis for axis in axes if axis not in order]
        sizes = dict(zip(axes, array.shape))  # noqa: B905 -- likewise
        moved = np.transpose(array, [axes.index(axis) for axis in order + absent])
        kept = [
            group
            for group, whole in zip(groups, self.groups)  # noqa: B905 -- likewise
            if group or (len(axes) == len(AXES) and whole == ["1"])
        ]
        return moved.reshape([int(np.prod([sizes[axis] for axis in group])) for group in kept])

    def unpack(self, array: Any, shape: tuple[int, ...]) -> Any:
        """Bring an array of this layout back to [label, sample, vector, channel] of that shape."""
        sizes = dict(zip(AXES, shape))  # noqa: B905 -- likewise
        order = [axis for group in self.groups for axis in group if axis != "1"]
        absent = [axis for axis in AXES if axis not in order]
        whole = np.reshape(array, [sizes[axis] for axis in order + absent])
        return np.transpose(whole, [(order + absent).index(axis) for axis in AXES])

    def batch(self) -> tuple[str, ...]:
        """Labels and vectors as far as the code has them, in its order: what a loss may list."""
        return tuple(axis for axis in self.axes if axis in {"label", "vector"})

    def sample_axis(self) -> int:
        """Which axis of the code's arrays counts samples; those need an axis of their own."""
        if ["sample"] not in self.groups:
            raise FormError(f"layout is {self.text!r}, and samples need an axis of their own")
        return self.groups.index(["sample"])
