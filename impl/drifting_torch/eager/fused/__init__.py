"""The compiled sibling of ``affinity_powers``: C++ that this machine's own compiler makes."""
