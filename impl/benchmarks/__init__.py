"""Reproducible measurements of speed and memory; not part of the wheel (``make bench``)."""
