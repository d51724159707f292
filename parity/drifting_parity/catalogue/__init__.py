"""What there is, said without importing it: documents, index of checks, sources, ``explain``."""
