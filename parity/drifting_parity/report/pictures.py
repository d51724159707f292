"""What the plots of a report show: numbers of the judged code beside the reference's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drift:
    """Drifts of points in a plane that lies in ``channels`` channels, the reference's and its own.

    ``x`` [N, 2] and ``positive`` [P, 2] are coordinates in the plane; ``expected`` and ``observed``
    [N, 2] the parts of the drifts in it, lengths as drawn. ``longer`` is how much longer the judged
    code's are than the reference's before they are drawn at one length (1 where they are drawn as
    they are); ``outside`` the share of their length that leaves the plane; ``error`` the distance
    of the two directions, all channels and points taken together.
    """

    what: str
    channels: int
    temperatures: tuple[float, ...]
    x: tuple[tuple[float, float], ...]
    positive: tuple[tuple[float, float], ...]
    expected: tuple[tuple[float, float], ...]
    observed: tuple[tuple[float, float], ...]
    longer: float
    outside: float
    error: float


@dataclass(frozen=True)
class Sweep:
    """One quantity of a case varied: what was measured at each of ``at``, NaN where nothing was.

    ``direction`` is the distance of the gradient's direction from the reference's; ``gradient`` and
    ``value`` are lengths and values over the reference's.
    """

    at: tuple[float, ...]
    direction: tuple[float, ...]
    gradient: tuple[float, ...]
    value: tuple[float, ...]


@dataclass(frozen=True)
class Pictures:
    """What could be drawn; ``notes`` say what could not, ``readings`` what the reference takes."""

    readings: str
    drift: Drift | None = None
    temperature: Sweep | None = None
    channels: Sweep | None = None
    samples: Sweep | None = None
    notes: tuple[str, ...] = ()
