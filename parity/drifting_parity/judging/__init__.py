"""The judge: which readings an implementation takes, and its verdict on every clause."""
