"""Checks of the generator (A.2)."""
