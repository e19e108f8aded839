"""Tables and the chain of commits on disk; reading a run."""
