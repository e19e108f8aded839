"""`evofool cluster bench`: how near the whole search comes to the bare network, and what each part of it costs.

Start reading in measuring.py, which has all the others measured in turns.
"""
