"""Pictures made from tables."""
