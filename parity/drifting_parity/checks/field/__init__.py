"""Checks of the drifting field: Algorithms 1 and 2 and the equations behind them."""
