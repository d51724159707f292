"""Checks of guidance, the queue and the training step (A.7 to A.9)."""
