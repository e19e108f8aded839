"""Does a network see what it was trained to see?"""
