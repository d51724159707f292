"""Checks of the loss of one feature and of many (A.6)."""
