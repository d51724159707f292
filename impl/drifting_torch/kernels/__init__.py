"""Compiled solvers, where they can be had.

Nothing here imports ``gpu``, and so Triton, before a kernel is wanted.
"""
