"""What counts, and who holds which cell."""
