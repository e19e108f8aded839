"""The kinds of networks."""
