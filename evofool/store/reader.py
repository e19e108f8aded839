"""Reading a run in Python: DataFrames, lineage and pictures. Needs neither the target nor Ray."""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.base.places import quoted
from evofool.base.png import decode_png
from evofool.base.registry import VIEWS, load
from evofool.config import Config
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.activations import activation_sources, load_activations
from evofool.encoding.kinds import make_encoding, redraw
from evofool.errors import ClassNotFound, ConfigError, CorruptData, IncompatibleRun
from evofool.records import Facts, address_of
from evofool.store.remote.working_copy import locate, named
from evofool.store.run import RunStore
from evofool.store.view import CommittedView, generation_of, read_view

__all__ = ["Run", "answers", "encoding_of", "open_run", "read_steadily"]

_Read = TypeVar("_Read")


def open_run(path: str | Path) -> Run:
    """A run, finished or still being written, by its directory or its URL; of a URL a copy is made or updated.

    Raises:
        RunNotFound: it is not a run.
        StorageError: the object store cannot be read.
        CorruptData: run.json, config.yaml or a commit is damaged, or was edited.
    """
    return Run(RunStore(locate(path)))


def encoding_of(store: RunStore, allow_code: bool = False) -> Encoding:
    """The encoding of a stored run; `allow_code`: whether activations of the user's own may run their code.

    Raises:
        ConfigError: it has activations of the user's own, and code is not allowed.
        IncompatibleRun: their code is not what it was.
    """
    facts = store.provenance
    code = load_activations(activation_sources(store.config, allow_code, facts.get("code", {})))
    height, width = facts["image_size"]
    return make_encoding(store.config.encoding, (height, width), facts["channels"], code)


def answers(row: Facts) -> list[Facts]:
    """What the network says of an elite, by its row: `class_index` and `confidence`, from the likeliest class on.

    Up to five classes; of runs that were begun before `top5` was kept, one.
    """
    if row.get("top5") is None:
        return [{"class_index": row["top1_class_index"], "confidence": row["top1_confidence"]}]
    return list(row["top5"])


def read_steadily(store: RunStore, read: Callable[[RunStore], _Read]) -> _Read:
    """The result of `read` for a run as it is now; read again where a compaction deleted files meanwhile."""
    while True:
        store.log.catch_up()
        try:
            return read(store)
        except CorruptData:
            before = {(table, number) for table, number, _ in store.log.live_files()}
            store.log.catch_up()
            if before <= {(table, number) for table, number, _ in store.log.live_files()}:
                raise


class Run:
    """A run, read from its files. Each call reads them anew, and so follows a run that is still being written.

    Attributes:
        path: the run directory.
        store: what the methods read from; its configuration and provenance are as they were when it was opened.
        logbook: DEAP's Logbook of the session, of a run that this process has made or resumed; else None.
    """

    def __init__(self, store: RunStore, logbook: Any = None) -> None:
        self.path, self.store, self.logbook = store.path, store, logbook
        self._committed = CommittedView()
        self._made: tuple[int, bool, pa.Table] | None = None  # number of commits, with pictures?, the elites

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, generation={self.status()['generation']})"

    def _repr_html_(self) -> str:
        return str(load(VIEWS["page"])(self))

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self.store.config

    @property
    def provenance(self) -> Facts:
        """What run.json says: versions, target, numerics, sessions."""
        return dict(self.store.provenance)

    @property
    def output_names(self) -> dict[int, str]:
        """Names of the network's outputs by their indices, as far as they are known: at least of those with cells."""
        facts = self.store.provenance
        known = {} if self.store.cells.units else dict(zip(facts["class_indices"], facts["class_names"]))
        return known | dict(enumerate(facts.get("output_names", [])))

    @property
    def archive_hash(self) -> str | None:
        """The archive hash (hex) after the last committed generation; None before the first commit."""
        return self.status().get("archive_hash")

    def status(self) -> Facts:
        """What the run is, and the counters of its last commit."""
        store = self.store
        store.log.catch_up()
        last = store.log.last
        facts: Facts = {"path": named(str(self.path))}
        facts |= {name: store.provenance[name] for name in ("run_id", "target", "encoding", "cells")}
        facts |= {"history": store.config.storage.history, "placements_from": store.log.whole_from}
        if last is None:
            return {**facts, "generation": None, "commits": 0}
        facts |= {"generation": last.generation, "commits": len(store.log.commits), "archive_hash": last.archive_hash}
        return {**facts, **last.counters}

    def elites(self, *, pictures: bool = True, allow_code: bool = False) -> pd.DataFrame:
        """One row for each filled cell; the columns are listed in docs/archive.md. `attrs["evofool"]` names the run.

        In a notebook `elites().evofool` shows the pictures (report/accessor.py).

        Arguments, errors and warnings: see `elites_table`.
        """
        table = self.elites_table(pictures=pictures, allow_code=allow_code)
        frame = table.to_pandas()
        load(VIEWS["accessor"])  # which pandas knows from then on
        # As pandas.read_parquet does, and pyarrow's to_pandas does not.
        frame.attrs = json.loads((table.schema.metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
        return frame

    def elites_table(self, *, pictures: bool = True, allow_code: bool = False) -> pa.Table:
        """The elites after the last commit: the table on disk where it is as new, else rows made from the commits.

        Warns if the newest cannot be shown, for one of the reasons below, and gives the table on disk.

        Args:
            pictures: whether to draw those that the table on disk lacks; else their bytes are empty.
            allow_code: whether activations of the user's own may run their code.

        Raises:
            CorruptData: a file is damaged.
            ConfigError, IncompatibleRun: there is no table on disk yet, and code is not allowed, or this machine draws
                other pictures than were scored.
        """
        store = self.store
        store.log.catch_up()
        written, last, commits = read_view(store), store.log.last, len(store.log.commits)
        if last is None or generation_of(written) >= last.generation:
            return written
        if self._made and self._made[0] == commits and self._made[1] >= pictures:
            return self._made[2]
        try:
            encoding = encoding_of(store, allow_code)
            read_steadily(store, self._committed.catch_up)
            table = self._committed.table(store, encoding, written, pictures=pictures)
        except (ConfigError, IncompatibleRun) as error:
            error.message += f" `evofool resume {quoted(self.path)}` writes the table of elites."
            if not written.num_rows:
                raise
            old = f"{self.path}: these are the elites of generation {generation_of(written)}, not the newest"
            warnings.warn(f"{old}: {error.message}", stacklevel=3)
            return written
        self._made = (len(store.log.commits), pictures, table)
        return table

    def placements(self) -> pd.DataFrame:
        """One row for each placement, in order: the cell, its new elite and the displaced one, parents and operators.

        Warns if `storage.history` has dropped placements: from generation `attrs["evofool"]["whole_from"]` on all are
        stored.
        """
        frame = read_steadily(self.store, _placements)
        if first := frame.attrs["evofool"]["whole_from"]:
            warnings.warn(
                f"{self.path}: storage.history kept only some of the placements before generation {first}.",
                stacklevel=2,
            )
        return frame

    def history(self) -> pd.DataFrame:
        """One row for each generation, whatever `storage.history` says: the counters of records.Statistics."""
        return read_steadily(self.store, lambda store: store.table("history").to_pandas())

    def lineage(self, individual_id: int | str) -> pd.DataFrame:
        """An individual and all its ancestors, newest first.

        Args:
            individual_id: as in the tables, or its hexadecimal form as text.

        Returns:
            individual_id, generation, slot, parent_ids, operators, origin, and `classes`: the names of the classes
            whose cells the individual took. `attrs["evofool"]["not_kept"]` has the ids of ancestors that are missing
            because `storage.history: elites` has dropped them.

        Raises:
            ConfigError: no such individual is stored (only those that took a cell are).
            CorruptData: a table is damaged, or an ancestor is missing for no such reason.
        """
        try:
            start = int(individual_id, 16) if isinstance(individual_id, str) else int(individual_id)
        except ValueError:
            raise ConfigError(f"{individual_id!r} is not the id of an individual: a number, or its hex form.") from None
        return read_steadily(self.store, lambda store: _lineage(store, start))

    def elite(self, class_: str | int, *, allow_code: bool = False) -> Facts:
        """The row of `elites` of a class, by name or output index; of several bins, the one of highest log-odds.

        Raises, besides what `elites` does:
            ClassNotFound: no such class, or its cell is empty.
            ConfigError: it is the name of several classes.
        """
        elites = self.elites(allow_code=allow_code)
        # A class may be named "3" and be at another index, so names come first.
        facts = self.provenance
        named = [i for i, name in zip(facts["class_indices"], facts["class_names"]) if name == str(class_)]
        if len(named) > 1 and not isinstance(class_, int):
            numbers = " and ".join(map(str, named))
            raise ConfigError(f"{self.path}: {class_!r} is the name of classes {numbers}; give the number of one.")
        rows = elites[elites["class_name"] == str(class_)] if len(named) < 2 else elites[:0]
        if rows.empty and str(class_).lstrip("-").isdigit():
            rows = elites[elites["class_index"] == int(class_)]
        if rows.empty:
            names = [str(name) for name in elites["class_name"]]
            near = difflib.get_close_matches(str(class_), names, n=3, cutoff=0.4) or names[:5]
            raise ClassNotFound(
                f"{self.path}: no elite of class {class_!r}; there are {len(names)}, among them {', '.join(near)}."
            )
        by = "objective" if self.store.cells.units else "log_odds"
        return {str(key): value for key, value in rows.loc[rows[by].idxmax()].to_dict().items()}

    def image(
        self, class_: str | int, size: int | tuple[int, int] | None = None, *, allow_code: bool = False
    ) -> NDArray[np.uint8]:
        """The image of a class's elite, (height, width, 1 or 3) uint8.

        Args:
            size: None for the archived image, bit for bit. A side in pixels or (height, width) draws the genome at
                that size: CPPNs stay sharp, since they are functions of coordinates; direct genomes are enlarged.
            allow_code: whether activations of the user's own may run their code.

        Raises:
            ClassNotFound: no such class, or its cell is empty.
            ConfigError: `size` is out of range, or code is not allowed.
            CorruptData: the archived image or the genome is damaged.
        """
        row = self.elite(class_, allow_code=allow_code)
        if size is None:
            image = decode_png(row["image"]["bytes"], f"{self.path}: class {row['class_name']}")
            if hashlib.sha256(image.tobytes()).hexdigest() != row["image_sha256"]:
                raise CorruptData(f"{self.path}: the image of class {row['class_name']} is damaged.")
            return image
        shape = (size, size) if isinstance(size, int) else size
        if min(shape) < 1 or shape[0] * shape[1] > 1 << 26:
            raise ConfigError(f"size: {shape[0]} x {shape[1]} pixels cannot be drawn; give 1 to 8192.")
        encoding = encoding_of(self.store, allow_code)
        genome = read_steadily(self.store, lambda store: store.genomes({int(row["individual_id"])}))
        return redraw(encoding, encoding.from_bytes(list(genome.values())), 0, shape)

    def images(self, individual_ids: Iterable[int], *, allow_code: bool = False) -> dict[int, NDArray[np.uint8]]:
        """Pictures of any individuals, such as ancestors, drawn anew from their genomes at the size that was scored.

        Args:
            allow_code: whether activations of the user's own may run their code.

        Returns:
            By id, (height, width, 1 or 3) uint8, of those whose genomes are stored: large ones of ancestors are not.

        Raises:
            ConfigError: code is not allowed.
            CorruptData: a genome is damaged.
        """
        wanted, encoding = {int(i) for i in individual_ids}, encoding_of(self.store, allow_code)

        def read(store: RunStore) -> dict[int, bytes]:
            return store.genomes(wanted & set(store.table("genomes")["individual_id"].to_pylist()))

        genomes = read_steadily(self.store, read)
        return {i: redraw(encoding, encoding.from_bytes([genome]), 0) for i, genome in genomes.items()}

    def genome(self, class_: str | int) -> Any:
        """The genome of a class's elite as an `evofool.Genome`, which a notebook shows. Raises as `elite`."""
        return load(VIEWS["genome"])(self.elite(class_)["genome_json"])

    def plot_curves(self, ax: Any = None, *, label: str | None = None) -> Any:
        """Median log-odds of the elites over evaluations; the bands have half of the classes, and four fifths.

        Where `storage.history` has dropped placements, the median alone. As every `plot_`, of matplotlib (the extra
        `plots`), and without the network.

        Args:
            ax: matplotlib's Axes to draw on, which several runs may share; new ones by default.
            label: of the line; the run's name by default.

        Returns:
            The Axes.

        Raises:
            ConfigError: matplotlib is missing.
            CorruptData: a table is damaged.
        """
        return load(VIEWS["curves"])(self, ax, label)

    def plot_classes(self, ax: Any = None, *, label: str | None = None) -> Any:
        """How many classes have an elite of confidence 0.9, 0.99 and 0.9999, over evaluations; see `plot_curves`."""
        return load(VIEWS["classes"])(self, ax, label)

    def plot_elites(self, ax: Any = None, *, columns: int = 10, most: int = 100) -> Any:
        """The pictures of the elites with their classes and confidences; see `plot_curves`.

        Args:
            columns: pictures in a row.
            most: pictures to draw, from the first class on.
        """
        return load(VIEWS["elites"])(self, ax, columns, most)

    def plot_lineage(self, class_: str | int, ax: Any = None, *, most: int = 12) -> Any:
        """The ancestors of a class's elite by first parents, from generation 0 on, as a strip of pictures.

        Under each are its generation and the classes whose cells it took; see `plot_curves`. A genome that the run has
        not kept is a grey square.

        Args:
            most: pictures; of a longer line some at equal distances.

        Raises, besides what `plot_curves` does:
            ClassNotFound: no such class, or its cell is empty.
        """
        return load(VIEWS["lineage"])(self, class_, ax, most)

    def plot_goal_switches(self, ax: Any = None) -> Any:
        """From which classes' elites those of each class were bred, as numbers of placements; see `plot_curves`.

        A placement counts for the classes that its first parent held when it was bred, in equal parts; it is a goal
        switch where its own is none of them (Nguyen, Yosinski and Clune, GECCO 2015).
        """
        return load(VIEWS["goal_switches"])(self, ax)


def _placements(store: RunStore) -> pd.DataFrame:
    people = store.table("individuals").to_pandas()
    people = people[["individual_id", "slot", "parent_ids", "operators", "nodes", "connections", "origin"]]
    names = dict(zip(store.provenance["class_indices"], store.provenance["class_names"]))
    placements = store.table("placements").to_pandas(integer_object_nulls=True)
    placements.insert(3, "class_name", placements["class_index"].map(names))
    frame = placements.merge(people, on="individual_id", how="left", validate="many_to_one")
    frame.attrs["evofool"] = {"whole_from": store.log.whole_from}
    return frame


def _lineage(store: RunStore, start: int) -> pd.DataFrame:
    people = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    if start not in people:
        dropped = address_of(start)[0] < store.log.whole_from
        raise ConfigError(
            f"{store.path}: no individual {start}; only those that took a cell are stored"
            + (", and storage.history has dropped some of those." if dropped else ".")
        )
    names = dict(zip(store.provenance["class_indices"], store.provenance["class_names"]))
    classes: dict[int, list[str]] = {}
    for row in store.table("placements").to_pylist():
        classes.setdefault(row["individual_id"], []).append(names[row["class_index"]])
    ids, frontier, missing = {start}, [start], set[int]()
    while frontier:
        parents = {p for identity in frontier for p in people[identity]["parent_ids"]} - ids
        for parent in sorted(parents - people.keys()):
            if address_of(parent)[0] >= store.log.ancestors_from:
                raise CorruptData(f"{store.path}: the parent {parent} of an individual is not stored.")
            missing.add(parent)
        frontier = list(parents & people.keys())
        ids.update(frontier)
    columns = ("individual_id", "generation", "slot", "parent_ids", "operators", "origin")
    frame = pd.DataFrame(
        [{**{k: people[i][k] for k in columns}, "classes": classes.get(i, [])} for i in sorted(ids, reverse=True)]
    )
    frame.attrs["evofool"] = {"not_kept": sorted(missing)}
    return frame
