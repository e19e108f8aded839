"""The closed circle: breed, score, place. Start with loop.py."""
