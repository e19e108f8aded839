"""Is evofool right on a GPU? `make gpu-check`: check.sh asks, check.py reports, steps.py has the questions."""
