"""What a run found, read from its tables for people to look at: elites, ancestors, curves, goal switches, studies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.png import decode_png
from evofool.encoding.kinds import redraw
from evofool.errors import ConfigError, CorruptData
from evofool.records import Facts
from evofool.report.curves import Curves, curves
from evofool.report.formula import FUNCTIONS, Network, network, network_of
from evofool.report.study_files import StudyFindings, studies
from evofool.store import ancestry
from evofool.store.reader import Run, encoding_of, read_steadily
from evofool.store.remote.working_copy import named
from evofool.store.run import RunStore
from evofool.targets.zoo.imagenet import super_classes

__all__ = ["Ancestor", "Elite", "Findings", "find"]

ROOM_FOR_GENOMES = 3 << 20  # bytes of ancestors' genomes that a page may hold
_PEOPLE = ["individual_id", "generation", "slot", "parent_ids", "operators", "genome_sha256"]
_PLACED = ["generation", "cell", "class_index", "individual_id", "displaced_id", "log_odds", "confidence", "objective"]


@dataclass
class Elite:
    """The elite of a cell: its row of the table, and what can be drawn of it.

    Attributes:
        image: (height, width, 1 or 3) uint8, as it was scored.
        network: of a CPPN.
        group: the super-class; "" where that is not known.
    """

    row: Facts
    image: NDArray[np.uint8]
    network: Network | None
    group: str


@dataclass
class Ancestor:
    """An individual of the first-parent lines of the elites.

    Attributes:
        parent: the first parent that a page holds; None at the end of the line.
        between: how many of the line lie between it and `parent`, and are left out.
        classes: names of the classes whose cells it took.
        network, image: what it can be drawn from, at most one of the two.
    """

    row: Facts
    parent: int | None
    between: int
    classes: list[str]
    network: Network | None = None
    image: NDArray[np.uint8] | None = None


@dataclass
class Findings:
    """What a page shows of a run.

    Attributes:
        undrawn: why pictures cannot be drawn from genomes by a script; "" if they can.
        donors: (class, how many cells of other classes the children of its elites took), the most first.
        tree: {individual: its first parent} of all ancestors of the elites.
        seen_as: {individual: the name of the class it is surest of among those whose cells it took}.
        left_out: a sentence about each thing that could not be read.
    """

    run: Run
    name: str
    status: Facts
    elites: list[Elite]
    ancestors: dict[int, Ancestor]
    curves: Curves
    donors: list[tuple[str, int]]
    tree: dict[int, int | None]
    seen_as: dict[int, str]
    generations: dict[int, int]
    studies: list[StudyFindings]
    undrawn: str
    colour: str
    left_out: list[str]


def find(run: Run) -> Findings:
    """Read what a page shows of a run, finished or still being written: what is committed.

    Raises:
        ConfigError: it has no elites yet, or its newest ones need code of the user's own to be drawn.
        CorruptData: a file is damaged.
    """
    facts, left_out = run.provenance, list[str]()
    frame = run.elites(pictures=False)
    if frame.empty:
        raise ConfigError(f"{named(str(run.path))}: has no elites yet; `evofool status` says how far it is.")
    undrawn = _undrawn(run)
    elites = _elites(run, frame)
    people, placed, history, counts = read_steadily(run.store, _tables)
    names = dict(zip(facts["class_indices"], facts["class_names"]))
    surest, indices = ancestry.takers(placed)
    taken = {one: [names[index] for index in classes] for one, classes in indices.items()}
    parents = dict(zip(frame["individual_id"], frame["parent_ids"]))  # elites may be newer than the other tables
    parents |= {one: row["parent_ids"] for one, row in people.items()}
    tree = ancestry.first_parents(parents, frame["individual_id"])
    whole_from, cells = run.store.log.whole_from, run.store.cells
    lines, donors = curves(
        placed, history, whole_from, len(cells), run.config.search.lag, names, units=bool(cells.units)
    )
    ancestors = _ancestors(run, people, tree, taken, frame, counts, undrawn)
    if any(row.parent is None and row.row["parent_ids"] for row in ancestors.values()):
        left_out.append("storage.history has dropped some ancestors; lines of these end early.")
    return Findings(
        run,
        run.config.run_name,
        run.status(),
        elites,
        ancestors,
        lines,
        donors,
        tree,
        {one: names[row.class_index] for one, row in surest.items()},
        {i: people[i]["generation"] for i in tree if i in people}
        | dict(zip(frame["individual_id"], frame["generation"])),
        studies(run, left_out),
        undrawn,
        _colour(run),
        left_out,
    )


def _undrawn(run: Run) -> str:
    """Why a script cannot draw the run's genomes; "" if it can."""
    config = run.config.encoding
    if config.kind != "cppn":
        return f"the encoding {config.kind} has no formula: its pictures are shown as they were scored"
    own = [name for name in config.activations if name not in FUNCTIONS]
    if own:
        return f"it has activations of its own ({', '.join(own)}), so pictures are shown as they were scored"
    return ""


def _colour(run: Run) -> str:
    colour = run.config.encoding.colour
    return ("grey" if run.provenance["channels"] == 1 else "hsv") if colour == "auto" else str(colour)


def _elites(run: Run, frame: pd.DataFrame) -> list[Elite]:
    groups = super_classes() if run.provenance.get("imagenet_ids") else {}
    is_cppn = run.config.encoding.kind == "cppn"
    images = _images(run, frame)
    return [
        Elite(
            row,
            images[row["image_sha256"]],
            network_of(row["genome_json"]) if is_cppn else None,
            groups.get(row["class_name"], ""),
        )
        for row in frame.to_dict("records")
    ]


def _images(run: Run, frame: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
    """The elites' pictures by their sha256.

    Of a run that goes on, the table on disk may lack the newest: these are drawn without torch, and may differ by a
    grey level from what was scored.
    """
    images: dict[str, NDArray[np.uint8]] = {}
    missing: dict[int, str] = {}
    columns = (frame[name] for name in ("image_sha256", "image", "individual_id", "class_name"))
    for sha256, image, identity, name in zip(*columns):
        where = f"{named(str(run.path))}: class {name}"
        if sha256 in images or not image["bytes"]:
            missing |= {int(identity): sha256} if sha256 not in images else {}
            continue
        images[sha256] = decode_png(image["bytes"], where)
        if hashlib.sha256(images[sha256].tobytes()).hexdigest() != sha256:
            raise CorruptData(f"{where}: its image is damaged; `evofool verify` says more.")
    if missing:
        encoding = encoding_of(run.store)
        genomes = read_steadily(run.store, lambda store: store.genomes(set(missing)))
        batch = encoding.from_bytes(list(genomes.values()))
        images |= {missing[identity]: redraw(encoding, batch, row) for row, identity in enumerate(genomes)}
    return images


def _tables(store: RunStore) -> tuple[dict[int, Facts], pd.DataFrame, pd.DataFrame, dict[int, int]]:
    """Individuals by id, placements, history, and how many bytes the stored genome of each individual has."""
    people = {row["individual_id"]: row for row in store.table("individuals").select(_PEOPLE).to_pylist()}
    placed = store.table("placements").select(_PLACED).to_pandas()
    if store.cells.units:  # which have neither
        placed["log_odds"] = placed["confidence"] = placed["objective"]
    placed["parent_ids"] = [people[identity]["parent_ids"] for identity in placed["individual_id"]]
    history = store.table("history").to_pandas()
    return people, placed, history, _sizes(store)


def _sizes(store: RunStore) -> dict[int, int]:
    stored = store.table("genomes")
    return dict(zip(stored["individual_id"].to_pylist(), map(len, stored["genome"].to_pylist())))


def _depths(tree: Mapping[int, int | None]) -> dict[int, int]:
    """How many steps each individual is from the end of its line."""
    depths: dict[int, int] = {}
    for start in tree:
        line: list[int] = []
        one: int | None = start
        while one is not None and one not in depths:
            line.append(one)
            one = tree[one]
        base = -1 if one is None else depths[one]
        for i, identity in enumerate(reversed(line)):
            depths[identity] = base + 1 + i
    return depths


def _kept(tree: Mapping[int, int | None], elites: Iterable[int], sizes: Mapping[int, int]) -> set[int]:
    """The individuals that a page has room for: all, or every second of each line, every fourth ...; always both ends
    and the parents of the elites. How far one is from the first of its line decides, so that lines share what they have
    in common."""
    depths, step = _depths(tree), 1
    always = {int(i) for i in elites} | {parent for i in elites if (parent := tree[int(i)]) is not None}
    while True:
        kept = {i for i, depth in depths.items() if depth % step == 0 or i in always}
        if sum(sizes.get(i, 0) for i in kept - always) <= ROOM_FOR_GENOMES or step > max(depths.values(), default=0):
            return kept
        step *= 2


def _ancestors(
    run: Run,
    people: Mapping[int, Facts],
    tree: Mapping[int, int | None],
    taken: Mapping[int, list[str]],
    frame: pd.DataFrame,
    sizes: Mapping[int, int],
    undrawn: str,
) -> dict[int, Ancestor]:
    elites = frame.drop_duplicates("individual_id").set_index("individual_id")
    kept = _kept(tree, elites.index, sizes)
    found = {}
    for one in sorted(kept):
        parent, between = tree[one], 0
        while parent is not None and parent not in kept:
            parent, between = tree[parent], between + 1
        row = people.get(one) or {name: elites.loc[one, name] for name in _PEOPLE if name in elites.columns}
        found[one] = Ancestor({**row, "individual_id": one}, parent, between, taken.get(one, []))
    _draw(run, found, set(elites.index), undrawn)
    return found


def _draw(run: Run, ancestors: dict[int, Ancestor], elites: set[int], undrawn: str) -> None:
    """Give ancestors that are no elites their networks, or their pictures where a script cannot draw them."""
    try:
        encoding = encoding_of(run.store)
    except ConfigError:  # activations of the user's own, whose code is not run
        return
    wanted = ancestors.keys() - elites
    genomes = read_steadily(run.store, lambda store: _genomes(store, wanted))
    for identity, blob in genomes.items():
        if hashlib.sha256(blob).hexdigest() != ancestors[identity].row["genome_sha256"]:
            raise CorruptData(f"{named(str(run.path))}: the genome of individual {identity} is damaged.")
        batch = encoding.from_bytes([blob])
        if undrawn:
            ancestors[identity].image = redraw(encoding, batch, 0)
        else:
            genes = encoding.genes(batch, 0)
            ancestors[identity].network = network(
                ((g["id"], g["activation"]) for g in genes if g["gene"] == "node"),
                ((g["source"], g["destination"], g["weight"]) for g in genes if g["gene"] == "connection"),
            )


def _genomes(store: RunStore, wanted: Iterable[int]) -> dict[int, bytes]:
    """Canonical bytes of those genomes that are stored; large ones of ancestors are not."""
    table = store.table("genomes")
    rows = np.flatnonzero(np.isin(table["individual_id"].to_numpy(), np.array(sorted(wanted), dtype=np.int64)))
    some = table.take(rows)
    return dict(zip(some["individual_id"].to_pylist(), some["genome"].to_pylist()))
