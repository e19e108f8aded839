"""From genomes to images, bit for bit."""
