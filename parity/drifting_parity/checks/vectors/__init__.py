"""Checks against recorded and hand-worked values, and on real digits."""
