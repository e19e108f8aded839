"""The ground: what knows nothing of the search."""
