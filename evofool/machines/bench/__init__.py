"""`evofool bench`: how near the whole search comes to the bare network, and what each part of it costs.

forward.py     the rival: the network alone, in a plain loop, in whatever shapes suit it best
genomes.py     what is rendered and varied: from an archive, and grown to a number of hidden nodes
archives.py    the archive that all goes on from: a copy of a run's, or one made for the purpose
continued.py   a real search that goes on from it: `end_to_end`
workbench.py   the parts one by one, in a process of their own
over_ray.py    the search and an empty round trip over Ray
measuring.py   all of these in turns
results.py     what comes out
"""

from evofool.machines.bench.genomes import grown
from evofool.machines.bench.measuring import bench
from evofool.machines.bench.results import Bench, Stage

__all__ = ["Bench", "Stage", "bench", "grown"]
