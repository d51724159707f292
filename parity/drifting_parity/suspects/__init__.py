"""The textbook loss in PyTorch, and the catalogued deviations as changes of its steps."""

from drifting_parity.suspects.textbook import Textbook

__all__ = ["Textbook"]
