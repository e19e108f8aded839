"""Genomes in, scores out."""
