"""The frozen records that cross walls between rooms: arrays inside, no behaviour to speak of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NO_PARENT",
    "Cells",
    "Facts",
    "GenerationResult",
    "Genomes",
    "Numerics",
    "Offspring",
    "Placements",
    "Scores",
    "Statistics",
    "Unit",
    "address_of",
    "individual_id",
]

Facts: TypeAlias = dict[str, Any]  # a row of a table, or what a JSON object holds
Genomes: TypeAlias = Any  # a batch, of the encoding's own: (n, height, width, channels) float32, or Graphs

NO_PARENT = -1
_SLOT_BITS = 24


@overload
def individual_id(generation: int, slot: int) -> np.int64: ...


@overload
def individual_id(generation: int, slot: NDArray[np.int64]) -> NDArray[np.int64]: ...


def individual_id(generation: int, slot: int | NDArray[np.int64]) -> np.int64 | NDArray[np.int64]:
    """The id of an individual inside its run, generation * 2**24 + slot, never reused; of each slot of an array."""
    return (np.int64(generation) << _SLOT_BITS) + slot


def address_of(identity: int) -> tuple[int, int]:
    """(generation, slot) of an individual id."""
    return int(identity) >> _SLOT_BITS, int(identity) & ((1 << _SLOT_BITS) - 1)


@dataclass(frozen=True)
class Unit:
    """What has a cell in place of a class: a number inside the network."""

    layer: str
    channel: int
    name: str  # the readout, e.g. "features.3:17@3,4"


@dataclass(frozen=True)
class Cells:
    """The cells of an archive, in order of class, then bin. K classes with B bins each make C = K * B cells.

    Where units have cells in place of classes, whatever is said of a class here and elsewhere holds for a unit.
    """

    classes: NDArray[np.int64]  # (K,) output indices of the target; of units their places in `units`
    bins: int = 1  # B, of each class
    # The bin of each image, the same for all classes: (n, h, w, channels) uint8 to (n,); None for a single bin.
    describe: Callable[[NDArray[np.uint8]], NDArray[np.int32]] | None = None
    units: tuple[Unit, ...] = ()  # (K,) the units; () where cells are of classes

    def __len__(self) -> int:
        return len(self.classes) * self.bins

    @property
    def columns(self) -> NDArray[np.int64]:
        """(C,) which of the K classes each cell is of."""
        return np.repeat(np.arange(len(self.classes)), self.bins)

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """(C,) the output index of each cell's class."""
        return self.classes[self.columns]

    @property
    def bin_indices(self) -> NDArray[np.int64]:
        """(C,) the bin of each cell."""
        return np.tile(np.arange(self.bins), len(self.classes))


@dataclass(frozen=True)
class Numerics:
    """All that may change the bits of a score (design: promise 2), besides the target itself."""

    device: str  # "cpu" or "cuda"
    chunk: int  # individuals sent to one evaluator
    micro_batch: int  # rows of one forward pass
    threads: int  # torch threads of one evaluator
    memory_format: str  # "contiguous" or "channels_last"
    precision: str = "float32"  # or "tf32", "bfloat16", "float16"
    compile: str = "none"  # or a mode of torch.compile

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Numerics:
        """The numerics among the facts that a run stores; a field that older runs lack is at its default."""
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__ if name in facts})


@dataclass(frozen=True)
class Offspring:
    """The individuals bred for one generation; row = slot."""

    generation: int
    genomes: Genomes
    parents: NDArray[np.int64]  # (n, 2) individual ids; NO_PARENT in place of a missing one
    operators: NDArray[np.uint32]  # (n,) bit set over the encoding's operator names
    origins: tuple[str, ...] | None = None  # "RUN_ID:INDIVIDUAL_ID" of seeded individuals
    own: NDArray[np.int64] | None = None  # (n,) which of the K classes each is tried for; None: all of them

    def __len__(self) -> int:
        return len(self.parents)


TOP = 5  # answers of a network that are kept of an image


@dataclass(frozen=True)
class Scores:
    """What evaluators report of individuals; row = slot."""

    # (n, K), of the classes that have cells. Units have none: here, and wherever else in memory log-odds are of cells,
    # their activations stand in this place, since these are what is compared and hashed; tables have null.
    log_odds: NDArray[np.float32]
    objective: NDArray[np.float32]  # (n, K) what cells rank by; the log-odds unless search.objective says else
    top_classes: NDArray[np.int32]  # (n, TOP) the likeliest of all outputs of the target; -1 where it has fewer
    top_confidences: NDArray[np.float32]  # (n, TOP)
    image_sha256: NDArray[np.uint8]  # (n, 32)
    bins: NDArray[np.int32] | None = None  # (n,) the bin of each image; None where classes have a single bin

    def __len__(self) -> int:
        return len(self.log_odds)

    @staticmethod
    def of(log_odds: NDArray[np.float32]) -> Scores:
        """Scores, ranked by log-odds (n, K), of which nothing else is known: no answers, and no images."""
        n = len(log_odds)
        none, hashes = np.zeros((n, TOP), dtype=np.float32), np.zeros((n, 32), dtype=np.uint8)
        return Scores(log_odds, log_odds, np.full((n, TOP), -1, dtype=np.int32), none, hashes)

    @staticmethod
    def not_finite(n: int, classes: int) -> Scores:
        """The scores of individuals that could not be scored: they take no cell, and count as not finite."""
        return Scores.of(np.full((n, classes), np.nan, dtype=np.float32))

    @staticmethod
    def concatenate(parts: list[Scores]) -> Scores:
        """The scores of several batches as those of one, in order; bins of a batch that has none are 0."""
        columns = {name: [getattr(part, name) for part in parts] for name in Scores.__dataclass_fields__}
        bins = columns.pop("bins")
        if any(each is not None for each in bins):  # individuals that could not be scored have none
            columns["bins"] = [np.zeros(len(p), np.int32) if each is None else each for p, each in zip(parts, bins)]
        return Scores(**{name: np.concatenate(column) for name, column in columns.items()})


@dataclass(frozen=True)
class Placements:
    """Individuals that take a cell in one generation, in cell order; at most one for each cell."""

    generation: int
    cells: NDArray[np.int32]
    slots: NDArray[np.int32]
    log_odds: NDArray[np.float32]
    displaced: NDArray[np.int64]  # individual ids, NO_PARENT where the cell was empty
    displaced_log_odds: NDArray[np.float32]  # -inf where the cell was empty
    objective: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True)
class Statistics:
    """The state of the search after one generation; a row of the history."""

    generation: int
    offspring: int  # individuals scored in this generation
    evaluations: int  # individuals scored so far
    placements: int  # cells that got a new elite in this generation
    placements_total: int
    non_finite: int  # individuals of this generation with a score that is not finite
    filled: int  # cells with an elite
    unique_elites: int
    median: float  # confidence over filled cells; of units the activation, NaN without any
    minimum: float  # over all cells: 0 while one is empty; of units NaN while one is
    classes_99: int  # cells with confidence >= 0.99; 0 of units
    classes_9999: int
    top1_share: float  # share of filled cells whose elite's top-1 class is the cell's; 0 of units
    stale: int  # generations since the last placement
    seconds: float = field(default=0.0, compare=False)  # wall clock since this session began; telemetry, not result


@dataclass(frozen=True)
class GenerationResult:
    """The result of one finished generation: what the store writes and observers see."""

    offspring: Offspring
    scores: Scores
    placements: Placements
    statistics: Statistics
    archive_hash: bytes  # 32 bytes, see archive.cells.chain_hash
    genomes: dict[int, bytes]  # slot -> canonical bytes, of individuals that took a cell
    sizes: dict[int, tuple[int, int]]  # slot -> (nodes, connections)
