"""What a run found, read from its tables for people to look at: elites, ancestors, curves, goal switches, studies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.png import decode_png
from evofool.encoding.kinds import redraw
from evofool.errors import ConfigError, CorruptData, EvofoolError
from evofool.records import Facts
from evofool.report.formula import FUNCTIONS, Network, network, network_of
from evofool.store import files, schemas
from evofool.store.reader import Run, encoding_of, read_steadily
from evofool.store.remote.working_copy import named
from evofool.store.run import RunStore
from evofool.targets.zoo.imagenet import super_classes

__all__ = ["Ancestor", "Curves", "Elite", "Findings", "StudyFindings", "find"]

POINTS = 200  # of a curve, at most
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
THRESHOLDS = (0.9, 0.99, 0.9999)
ROOM_FOR_GENOMES = 3 << 20  # bytes of ancestors' genomes that a page may hold
LARGEST_STUDY = 8 << 20  # bytes of a picture or a record of a study
MOST_ROWS = 40  # of a study for one elite
_PEOPLE = ["individual_id", "generation", "slot", "parent_ids", "operators", "genome_sha256"]
_PLACED = ["generation", "cell", "class_index", "individual_id", "log_odds", "confidence"]
_DIGESTS = ("_fingerprint", "_sha256", "_hash")
_IDS = ("run_id", "archive_hash", "as_of_generation", "individual_id", "class_index", "class_name", "bin")


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
class Curves:
    """Columns of numbers over the evaluations; a column that the tables cannot tell any more is empty."""

    evaluations: list[int] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    quantiles: dict[float, list[float]] = field(default_factory=dict)
    classes: dict[float, list[int]] = field(default_factory=dict)
    placements: list[int] = field(default_factory=list)  # so far
    switches: list[int] = field(default_factory=list)  # so far


@dataclass
class StudyFindings:
    """What a study left in the folder of the run.

    Attributes:
        picture: its SVG, as it is.
        columns, rows: of its table, by the id of the elite's individual and its class.
    """

    name: str
    facts: Facts
    picture: bytes
    columns: list[str]
    rows: dict[tuple[int, int], list[list[Any]]]


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
    seen_as, taken = _takers(placed, names)
    tree = _lines(people, frame)
    whole_from = run.store.log.whole_from
    curves, donors = _curves(placed, people, history, whole_from, len(run.store.cells), names)
    ancestors = _ancestors(run, people, tree, taken, frame, counts, undrawn)
    if any(row.parent is None and row.row["parent_ids"] for row in ancestors.values()):
        left_out.append("storage.history has dropped some ancestors; lines of these end early.")
    return Findings(
        run,
        run.config.run_name,
        run.status(),
        elites,
        ancestors,
        curves,
        donors,
        tree,
        seen_as,
        {i: people[i]["generation"] for i in tree if i in people}
        | dict(zip(frame["individual_id"], frame["generation"])),
        _studies(run, left_out),
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

    Of a run that goes on, the table on disk may lack the newest: these are drawn without torch, and may differ by a grey
    level from what was scored.
    """
    images: dict[str, NDArray[np.uint8]] = {}
    missing: dict[int, str] = {}
    for sha256, image, identity, name in zip(*(frame[c] for c in ("image_sha256", "image", "individual_id", "class_name"))):
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
    history = store.table("history").to_pandas()
    return people, placed, history, _sizes(store)


def _sizes(store: RunStore) -> dict[int, int]:
    stored = store.table("genomes")
    return dict(zip(stored["individual_id"].to_pylist(), map(len, stored["genome"].to_pylist())))


def _takers(placed: pd.DataFrame, names: Mapping[int, str]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Of each individual the class it was surest of when it took a cell, and all classes whose cells it took."""
    seen_as: dict[int, tuple[float, str]] = {}
    taken: dict[int, list[str]] = {}
    for identity, index, odds in zip(placed["individual_id"], placed["class_index"], placed["log_odds"]):
        name = names[index]
        taken.setdefault(identity, []).append(name)
        if identity not in seen_as or odds > seen_as[identity][0]:
            seen_as[identity] = (odds, name)
    return {identity: name for identity, (_, name) in seen_as.items()}, taken


def _lines(people: Mapping[int, Facts], frame: pd.DataFrame) -> dict[int, int | None]:
    """{individual: its first parent} of all elites and the ancestors on their first-parent lines; None at the ends."""
    first = {i: p[0] if len(p) else None for i, p in zip(frame["individual_id"], frame["parent_ids"])}
    tree: dict[int, int | None] = {}
    for start in frame["individual_id"]:
        one: int | None = int(start)
        while one is not None and one not in tree:
            parents = people[one]["parent_ids"] if one in people else []
            parent = parents[0] if parents else first.get(one)
            tree[one] = int(parent) if parent is not None and int(parent) in people else None
            one = tree[one]
    return tree


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


def _curves(
    placed: pd.DataFrame,
    people: Mapping[int, Facts],
    history: pd.DataFrame,
    whole_from: int,
    cells: int,
    names: Mapping[int, str],
) -> tuple[Curves, list[tuple[str, int]]]:
    curves = Curves()
    generations = history["generation"].to_numpy()
    if not len(generations):
        return curves, []
    shown = np.unique(np.linspace(0, len(generations) - 1, min(POINTS, len(generations))).round().astype(int))
    curves.generations = generations[shown].tolist()
    curves.evaluations = history["evaluations"].to_numpy()[shown].tolist()
    curves.placements = history["placements_total"].to_numpy()[shown].tolist()
    if whole_from:  # what came before the last compaction is only in the history
        curves.quantiles = {0.5: history["median"].to_numpy()[shown].tolist()}
        curves.classes = {
            limit: history[name].to_numpy()[shown].tolist()
            for limit, name in ((0.99, "classes_99"), (0.9999, "classes_9999"))
        }
        return curves, []
    placed = placed.sort_values("generation", kind="stable")
    at, cell, confidence = (placed[name].to_numpy() for name in ("generation", "cell", "confidence"))
    ends = np.searchsorted(at, curves.generations, side="right")
    held, begin = np.full(cells, np.nan, dtype=np.float32), 0
    curves.quantiles, curves.classes = {q: [] for q in QUANTILES}, {t: [] for t in THRESHOLDS}
    for end in ends:
        held[cell[begin:end]] = confidence[begin:end]  # of several of a cell the last counts
        begin = end
        filled = held[~np.isnan(held)]
        for q, value in zip(QUANTILES, np.quantile(filled, QUANTILES) if len(filled) else [math.nan] * 5):
            curves.quantiles[q].append(float(value))
        for limit in THRESHOLDS:
            curves.classes[limit].append(int((filled >= np.float32(limit)).sum()))
    switched, donors = _switches(placed, people, names)
    curves.switches = np.cumsum(switched)[ends - 1].tolist() if len(switched) else []
    return curves, donors


def _switches(
    placed: pd.DataFrame, people: Mapping[int, Facts], names: Mapping[int, str]
) -> tuple[NDArray[np.bool_], list[tuple[str, int]]]:
    """Of each placement whether it is a goal switch: a cell is taken by a child none of whose parents had ever held it.

    Also how many cells each class gave away so: the class that the child's first parent was surest of.
    """
    pairs = set(zip(placed["individual_id"].tolist(), placed["cell"].tolist()))
    surest = _takers(placed, names)[0]
    switched = np.zeros(len(placed), dtype=bool)
    given: dict[str, int] = {}
    for i, (identity, cell) in enumerate(zip(placed["individual_id"].tolist(), placed["cell"].tolist())):
        parents = people[identity]["parent_ids"]
        if parents and not any((parent, cell) in pairs for parent in parents):
            switched[i] = True
            donor = surest.get(parents[0])
            if donor is not None:
                given[donor] = given.get(donor, 0) + 1
    return switched, sorted(given.items(), key=lambda item: -item[1])


def _studies(run: Run, left_out: list[str]) -> list[StudyFindings]:
    found = []
    for record in sorted((run.path / "_studies").glob("*.json")):
        try:
            found.append(_study(record, run.provenance["run_id"]))
        except (EvofoolError, OSError, ValueError, KeyError, TypeError) as error:
            text = error.message if isinstance(error, EvofoolError) else f"{type(error).__name__}: {error}"
            left_out.append(f"the study {record.stem} could not be read ({named(text)}).")
    return found


def _study(record: Path, run_id: str) -> StudyFindings:
    for path in (record, picture := record.with_suffix(".svg")):
        if path.stat().st_size > LARGEST_STUDY:
            raise CorruptData(f"{path.name} has over {LARGEST_STUDY >> 20} MiB")
    facts = files.read_json(record)
    if not all(isinstance(facts.get(name), str) for name in ("question", "sentence")):
        raise CorruptData(f"{record.name} has no question, or no sentence")
    table = record.with_suffix(".parquet")
    columns, rows = _rows(table, run_id) if table.is_file() else ([], {})
    return StudyFindings(record.stem, facts, picture.read_bytes(), columns, rows)


def _rows(table: Path, run_id: str) -> tuple[list[str], dict[tuple[int, int], list[list[Any]]]]:
    """Of a study's table the rows about single elites: those of the newest archive it has of this run.

    Columns that say the same in every row, and those that name the elite, are left out.
    """
    frame = schemas.any_table(table).to_pandas()
    if not {"individual_id", "class_index"} <= set(frame.columns) or frame.empty:
        return [], {}
    if "run_id" in frame.columns:
        frame = frame[frame["run_id"] == run_id]
    if "as_of_generation" in frame.columns and len(frame):
        frame = frame[frame["as_of_generation"] == frame["as_of_generation"].max()]
    told = [name for name in frame.columns if name not in _IDS and not name.endswith(_DIGESTS) and _is_told(frame[name])]
    groups = frame.groupby(["individual_id", "class_index"])
    if (groups.size() > 1).any():  # what is the same in all rows of an elite is about the elite, and said elsewhere
        told = [name for name in told if (groups[name].nunique(dropna=False) > 1).any()]
    rows: dict[tuple[int, int], list[list[Any]]] = {}
    for key, values in zip(
        zip(frame["individual_id"].tolist(), frame["class_index"].tolist()),
        frame[told].itertuples(index=False, name=None),
    ):
        mine = rows.setdefault(key, [])
        if len(mine) < MOST_ROWS:
            mine.append([_plain(value) for value in values])
    return told, rows


def _is_told(column: pd.Series) -> bool:
    kinds = (str, int, float, bool, np.generic)
    values = column.dropna()
    return all(isinstance(value, kinds) for value in values) and column.astype(str).nunique() > 1


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for what is missing or not finite."""
    if value is pd.NA or value is None:
        return None
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value

