"""Checks of A.5 and A.3: feature vectors and the encoder."""
