"""Reading a run in Python: DataFrames, lineage and pictures. Needs neither the target nor Ray."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.png import decode_png
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.activations import activation_sources, load_activations
from evofool.encoding.drawing import reference
from evofool.encoding.kinds import make_encoding
from evofool.errors import ConfigError, CorruptData
from evofool.records import Facts, address_of
from evofool.store.remote.working_copy import locate, named
from evofool.store.run import RunStore
from evofool.store.view import read_view

__all__ = ["Run", "encoding_of", "open_run", "read_steadily"]

_Read = TypeVar("_Read")


def open_run(path: str | Path) -> Run:
    """A run directory, finished or still being written, or a URL: then the run as it is now, in a copy.

    Raises:
        ConfigError: it is not a run.
        CorruptData: its log is damaged.
    """
    return Run(RunStore(locate(path)))


def encoding_of(store: RunStore, allow_code: bool = False) -> Encoding:
    """The encoding of a stored run.

    Raises:
        ConfigError: it has activations of the user's own, and code is not allowed.
        IncompatibleRun: their code is not what it was.
    """
    facts = store.provenance
    code = load_activations(activation_sources(store.config, allow_code, facts.get("code", {})))
    height, width = facts["image_size"]
    return make_encoding(store.config.encoding, (height, width), facts["channels"], code)


def read_steadily(store: RunStore, read: Callable[[RunStore], _Read]) -> _Read:
    """What `read` gives of a run as it is now; once more where a driver took files away meanwhile, since others stand
    for them."""
    while True:
        store.log.catch_up()
        try:
            return read(store)
        except CorruptData:
            read_of = [file[:2] for file in store.log.live_files()]
            store.log.catch_up()
            there = {file[:2] for file in store.log.live_files()}
            if there.issuperset(read_of):
                raise


class Run:
    """A run as its files tell it. Tables are read anew by each call, so they follow a run that is going on.

    Attributes:
        path: the run directory.
        store: the run; its configuration and provenance are those of when this was made.
        logbook: DEAP's Logbook of this session, where the run was made by `evofool.run` just now; else None.
    """

    def __init__(self, store: RunStore, logbook: Any = None) -> None:
        self.path, self.store, self.logbook = store.path, store, logbook

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, generation={self.status()['generation']})"

    @property
    def config(self) -> Any:
        """The resolved configuration."""
        return self.store.config

    @property
    def provenance(self) -> Facts:
        """What run.json says: versions, target, numerics, sessions."""
        return dict(self.store.provenance)

    @property
    def archive_hash(self) -> str | None:
        """Hex; after the last committed generation. None before the first commit."""
        self.store.log.catch_up()
        last = self.store.log.last
        return last.archive_hash if last else None

    def status(self) -> Facts:
        """The counters of the last commit."""
        store = self.store
        store.log.catch_up()
        last = store.log.last
        facts = {name: store.provenance[name] for name in ("run_id", "target", "encoding", "cells")}
        facts |= {"history": store.config.storage.history, "placements_from": store.log.whole_from}
        if last is None:
            return {"path": named(str(self.path)), **facts, "generation": None, "commits": 0}
        return {
            "path": named(str(self.path)),
            **facts,
            "generation": last.generation,
            "commits": len(store.log.commits),
            "archive_hash": last.archive_hash,
            **last.counters,
        }

    def elites(self) -> pd.DataFrame:
        """One row for each filled cell; the columns are listed in the README. `attrs["evofool"]` names the run."""
        table = read_view(self.store)
        frame = table.to_pandas()
        # pyarrow leaves out what pandas.read_parquet puts here.
        frame.attrs = json.loads((table.schema.metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
        return frame

    def placements(self) -> pd.DataFrame:
        """Every placement, in order: who took which cell, with what, displacing whom, made from whom by what.

        Warns where `storage.history` has kept some only before a generation; it is `attrs["evofool"]["whole_from"]`.
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
            individual_id: as in the tables, or its hex form.

        Returns:
            individual_id, generation, slot, parent_ids, operators, origin, and `classes`: the names of the classes
            whose cell the individual took. `attrs["evofool"]["not_kept"]` has the ids of ancestors at which it ends
            because `storage.history: elites` dropped them.

        Raises:
            ConfigError: no such individual is stored (only those that took a cell are).
        """
        try:
            start = int(individual_id, 16) if isinstance(individual_id, str) else int(individual_id)
        except ValueError:
            raise ConfigError(f"{individual_id!r} is not the id of an individual: a number, or its hex form.") from None
        return read_steadily(self.store, lambda store: _lineage(store, start))

    def elite(self, class_: str | int) -> Facts:
        """The row of one class, by name or output index; of several bins, that of the surest.

        Raises:
            ConfigError: no such class, or its cell is empty.
        """
        elites = self.elites()
        # A class may be named "3" and be at another index, so names come first.
        rows = elites[elites["class_name"] == str(class_)]
        if rows.empty and str(class_).lstrip("-").isdigit():
            rows = elites[elites["class_index"] == int(class_)]
        if rows.empty:
            import difflib

            known = [str(name) for name in elites["class_name"]]
            near = difflib.get_close_matches(str(class_), known, n=3, cutoff=0.4) or known[:5]
            raise ConfigError(
                f"{self.path}: no elite of class {class_!r}; there are {len(known)}, among them {', '.join(near)}."
            )
        return {str(key): value for key, value in rows.loc[rows["log_odds"].idxmax()].to_dict().items()}

    def image(
        self, class_: str | int, size: int | tuple[int, int] | None = None, *, allow_code: bool = False
    ) -> NDArray[np.uint8]:
        """The image of a class's elite, (height, width, 1 or 3) uint8.

        Args:
            size: None for the archived image, bit for bit. A side in pixels or (height, width) draws the genome at
                that size: a CPPN is a formula and stays sharp, pixels are enlarged.
            allow_code: whether activations of the user's own may run their code.

        Raises:
            ConfigError: no such class, or its cell is empty.
            CorruptData: the archived image is damaged.
        """
        row = self.elite(class_)
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
        return reference.render(encoding, encoding.from_bytes(list(genome.values())), 0, shape)


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
            f"{store.path}: no individual {start:x}; only those that took a cell are stored"
            + (", and storage.history has dropped some of those." if dropped else ".")
        )
    names = dict(zip(store.provenance["class_indices"], store.provenance["class_names"]))
    classes: dict[int, list[str]] = {}
    for row in store.table("placements").to_pylist():
        classes.setdefault(row["individual_id"], []).append(names[row["class_index"]])
    found, frontier, not_kept = {start}, [start], set[int]()
    while frontier:
        parents = {p for identity in frontier for p in people[identity]["parent_ids"]} - found
        for missing in sorted(parents - people.keys()):
            if address_of(missing)[0] >= store.log.ancestors_from:
                raise CorruptData(f"{store.path}: the parent {missing:x} of an individual is not stored.")
            not_kept.add(missing)
        frontier = list(parents & people.keys())
        found.update(frontier)
    keep = ("individual_id", "generation", "slot", "parent_ids", "operators", "origin")
    frame = pd.DataFrame(
        [{**{k: people[i][k] for k in keep}, "classes": classes.get(i, [])} for i in sorted(found, reverse=True)]
    )
    frame.attrs["evofool"] = {"not_kept": sorted(not_kept)}
    return frame
