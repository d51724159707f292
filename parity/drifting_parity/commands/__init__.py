"""The commands of ``drifting-parity``, one module each, and how they write their output."""
