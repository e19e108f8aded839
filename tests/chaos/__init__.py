"""Fault trials: what is done to a run and what must still be true. `make chaos` runs all, the tests a few of each."""
