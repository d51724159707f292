"""Checks of what the paper says about itself, put to the reference."""
