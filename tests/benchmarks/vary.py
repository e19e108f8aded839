"""Variation: evofool's array-wide operators against DEAP's on lists, and CPPN variation by itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from typing import Any

import numpy as np
from deap import tools

from benchmarks.measure import Comparison, Crew, Settings, alternate, table
from benchmarks.measure import in_short as short
from evofool.config import load_config
from evofool.config.sections import VariationConfig
from evofool.encoding import variation
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.machines.bench.genomes import grown

__all__ = ["Deap", "Ours", "in_short", "markdown", "measure"]

ETA, RATE = 15.0, 0.1
PIXELS = VariationConfig(
    mutation="polynomial", mutation_rate=RATE, mutation_eta=ETA, crossover_rate=1.0, crossover_eta=ETA
)
DIRECT = {784: (DirectEncoding(28, 28, "grey"), 200), 150_528: (DirectEncoding(224, 224, "hsv"), 20)}
HIDDEN = (0, 16, 30)
OFFSPRING = 200
CPPN_CONFIG = "configs/mnist_cppn.yaml"


class Ours:
    """evofool's operators; every call is another generation."""

    def __init__(self) -> None:
        self.tasks: dict[str, Callable[[int], int]] = {}
        self.generation = count(1)
        for genes, (encoding, rows) in DIRECT.items():
            parents = np.random.default_rng(genes).random((2, rows, *encoding.shape), dtype=np.float32)
            self._direct(genes, encoding, parents)
        rates = load_config(CPPN_CONFIG).variation
        for hidden in HIDDEN:
            self._cppn(hidden, rates)

    def _direct(self, genes: int, encoding: DirectEncoding, parents: np.ndarray) -> None:
        first, second = parents
        self.tasks[f"mutate {genes}"] = lambda g: len(variation.mutate(encoding, PIXELS, 1, g, first)[0])
        self.tasks[f"mate {genes}"] = lambda g: len(variation.mate(encoding, PIXELS, 1, g, first, second)[0])

    def _cppn(self, hidden: int, rates: VariationConfig) -> None:
        encoding = CppnEncoding(28, 28, "grey")
        first, second = (grown(encoding, OFFSPRING, hidden, seed) for seed in (0, 1))

        def vary(generation: int) -> int:
            children, _ = variation.mate(encoding, rates, 1, generation, first, second)
            return len(variation.mutate(encoding, rates, 1, generation, children)[0])

        self.tasks[f"cppn {hidden}"] = vary

    def __call__(self, name: str) -> int:
        return self.tasks[name](next(self.generation))


class Deap:
    """DEAP's operators on lists of floats; parents are copied, as they work in place."""

    def __init__(self) -> None:
        random.seed(1)
        self.pairs = {genes: [[random.random() for _ in range(genes)] for _ in range(2)] for genes in DIRECT}

    def __call__(self, name: str) -> int:
        what, _, genes = name.partition(" ")
        first, second = self.pairs[int(genes)]
        if what == "mutate":
            tools.mutPolynomialBounded(first[:], ETA, 0.0, 1.0, RATE)
            return 1
        return len(tools.cxSimulatedBinaryBounded(first[:], second[:], ETA, 0.0, 1.0))


def measure(settings: Settings) -> dict[str, Any]:
    """Rows of the table."""
    rows = []
    with Crew(Ours) as ours, Crew(Deap) as deap:

        def rates(name: str, **crews: Crew) -> dict[str, list[float]]:
            turns = {who: lambda c=c: c.rate(name, settings.seconds) for who, c in crews.items()}
            return alternate(turns, settings.repeats)

        for task, what, at_least in (
            ("mutate 784", "polynomial mutation, 784 genes", 20),
            ("mutate 150528", "polynomial mutation, 150,528 genes", 15),
            ("mate 784", "SBX, 784 genes", 15),
        ):
            found = rates(task, ours=ours, DEAP=deap)
            rows.append(Comparison(what, "children/s", "1 thread", found.pop("ours"), found, at_least))
        for hidden in HIDDEN:
            found = rates(f"cppn {hidden}", ours=ours)
            what = f"CPPN variation, {hidden} hidden nodes, {OFFSPRING} at a time"
            at_least = 30_000 if hidden == 16 else None
            rows.append(Comparison(what, "children/s", "1 thread", found["ours"], {}, at_least))
    return {"rows": [asdict(row) for row in rows]}


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of the rows that have an aim."""
    return short(results["rows"])


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    return (
        f"{table(results['rows'])}\n\nBoth DEAP's crossover and its mutation work on lists of floats. Its crossover "
        "gives two children of a pair, and both are counted; evofool's gives one. CPPN variation is crossover and "
        "mutation at the rates of `mnist_cppn`; 16 hidden nodes are about 20 nodes."
    )
