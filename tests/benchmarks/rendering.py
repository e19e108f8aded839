"""Rendering: evofool's batches against a plain torch loop and against neat-python, genome by genome."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from benchmarks import plain
from benchmarks.measure import Comparison, Crew, Settings, alternate, cores, table
from benchmarks.measure import in_short as short
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import Graphs
from evofool.encoding.drawing.render import render
from evofool.machines.bench.genomes import grown

__all__ = ["SIZES", "Neat", "Ours", "TorchLoop", "in_short", "markdown", "measure"]


@dataclass(frozen=True)
class Size:
    """What is rendered: square pictures of CPPNs with so many hidden nodes, so many at a time."""

    side: int
    hidden: int
    chunk: int

    @property
    def encoding(self) -> CppnEncoding:
        """Grey for MNIST's size, otherwise three outputs."""
        return CppnEncoding(self.side, self.side, "grey" if self.side == 28 else "hsv")

    def genomes(self) -> Graphs:
        """One chunk."""
        return grown(self.encoding, self.chunk, self.hidden)

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, {self.hidden} hidden nodes, chunks of {self.chunk}"


SIZES = {str(size): size for size in [*(Size(28, h, n) for h in (0, 8, 24) for n in (100, 200)), Size(224, 24, 16)]}
SMALL, LARGE = str(Size(28, 24, 100)), str(Size(224, 24, 16))
AT_LEAST = {SMALL: 10.0, LARGE: 4.0}  # times the plain loop


class Ours:
    """evofool, a chunk at a time.

    Args:
        arithmetic: as `encoding.arithmetic`.
    """

    def __init__(self, arithmetic: str) -> None:
        self.batches = {
            name: (replace(size.encoding, arithmetic=arithmetic), size.genomes()) for name, size in SIZES.items()
        }

    def __call__(self, name: str) -> int:
        return len(render(*self.batches[name]))


class TorchLoop:
    """A plain loop over genomes with whole-image tensors."""

    def __init__(self) -> None:
        self.tasks = {}
        for name, size in SIZES.items():
            batch = size.genomes()
            genomes = [plain.plain(size.encoding, batch, row) for row in range(size.chunk)]
            self.tasks[name] = genomes, plain.pixel_inputs(size.side)

    def __call__(self, name: str) -> int:
        genomes, inputs = self.tasks[name]
        for genome in genomes:
            plain.torch_picture(genome, inputs)
        return len(genomes)


class Neat:
    """neat-python's feed-forward network, pixel by pixel; a genome at a time, for it takes long."""

    def __init__(self) -> None:
        size = SIZES[SMALL]
        batch = size.genomes()
        self.genomes = [plain.plain(size.encoding, batch, row) for row in range(size.chunk)]
        self.pixels = plain.pixel_inputs(size.side).T.tolist()
        self.next = 0

    def __call__(self, name: str) -> int:
        plain.neat_picture(self.genomes[self.next % len(self.genomes)], self.pixels)
        self.next += 1
        return 1


def measure(settings: Settings) -> dict[str, Any]:
    """Rows of the table."""
    n, rows = cores(), []
    with (
        Crew(Ours, ("portable",), processes=n) as portable,
        Crew(Ours, ("torch",), processes=n) as torch,
        Crew(TorchLoop, processes=n) as loops,
        Crew(TorchLoop, threads=n) as threaded,
        Crew(Neat) as neat,
    ):

        def compare(name: str, processes: int, rivals: dict[str, Crew], at_least: float | None = None) -> None:
            ours = {"portable": portable, "torch": torch}
            crews = {**ours, **rivals}
            turns = {who: partial(crew.rate, name, settings.seconds, processes) for who, crew in crews.items()}
            found = alternate(turns, settings.repeats)
            sides = "1 thread" if processes == 1 else f"all {n} cores"
            for arithmetic in ours:
                rates = {who: found[who] for who in rivals}
                what = f"{name}, `arithmetic: {arithmetic}`"
                rows.append(Comparison(what, "genomes/s", sides, found[arithmetic], rates, at_least))

        compare(SMALL, 1, {"neat-python": neat}, 400)
        for name in SIZES:
            compare(name, 1, {"plain torch loop": loops}, AT_LEAST.get(name))
        for name in (SMALL, LARGE):  # the loop may use cores in the way that suits it better
            rivals = {f"plain torch loop, {n} processes": loops, f"plain torch loop, {n} threads": threaded}
            compare(name, n, rivals)
    return {"rows": [asdict(row) for row in rows]}


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of the rows that have an aim."""
    return short(results["rows"])


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    return (
        f"{table(results['rows'])}\n\nFrom genomes to uint8 pictures, the order of evaluation included; 224x224 with "
        "three outputs, as hue, saturation and value. On all cores evofool has one process of one thread for each core."
    )
