"""What is changed in a loss to see what a part of it does: Table 1's factors, and S or λ left out.

None of it is the paper's method; without it nothing is multiplied or left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from drifting_torch.arguments.tensors import check_factors


@dataclass(frozen=True)
class Ablation:
    """``attraction`` a and ``repulsion`` b make V = a·V⁺ − b·V⁻, both relative to x (T1, P-29).

    Without ``feature_normalization`` S is 1, without ``drift_normalization`` V is not divided by λ.
    """

    attraction: float = 1.0
    repulsion: float = 1.0
    feature_normalization: bool = True
    drift_normalization: bool = True

    def __post_init__(self) -> None:
        factors = check_factors(self.attraction, self.repulsion)
        for name, value in zip(("attraction", "repulsion"), factors, strict=True):
            object.__setattr__(self, name, value)
        for name in ("feature_normalization", "drift_normalization"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}, expected True or False")

    @property
    def scales(self) -> bool:
        """Whether attraction or repulsion is multiplied."""
        return not (self.attraction == 1.0 and self.repulsion == 1.0)

    @property
    def changes(self) -> bool:
        """Whether anything is other than in the paper."""
        return self.scales or not (self.feature_normalization and self.drift_normalization)


NO_ABLATION = Ablation()
"""The paper's method. Made once, outside of anything that torch.compile traces."""
