"""Genomes that are pixels."""
