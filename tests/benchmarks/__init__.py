"""How fast evofool is beside programs that people would otherwise use: `make bench`. See bench.py."""
