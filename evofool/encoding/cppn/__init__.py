"""Genomes that are compositional pattern-producing networks."""
