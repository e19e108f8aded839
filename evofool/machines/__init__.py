"""What machines can do for a run, and getting it onto them."""
