"""The elites view: RUN/elites/elites.parquet, one row for each filled cell, made from commits alone.

It can be made again if it is lost. It is replaced in one step, so a reader sees the old table or the new one. Between
two commits' views, readers of ours make their own from the commits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.base import provenance
from evofool.base.places import quoted
from evofool.base.png import decode_png, encode_png
from evofool.encoding.contract import Encoding
from evofool.encoding.kinds import draw
from evofool.errors import CorruptData, IncompatibleRun
from evofool.records import Facts, Genomes
from evofool.store import files, schemas
from evofool.store.remote.working_copy import VIEW
from evofool.store.rows import Rows
from evofool.store.run import RunStore

__all__ = ["CommittedView", "CurrentElites", "ViewWriter", "compare_view", "generation_of", "read_view"]

_BATCH = 256  # genomes drawn at a time
_AT_ONCE = 4 << 20  # bytes of images that are encoded while the search waits: a fraction of a second
_TABLES = ("placements", "individuals", "genomes")  # that the view is made from
_OF_INDIVIDUAL = [name for name in schemas.ELITES.names if name in schemas.INDIVIDUALS.names]


class CurrentElites:
    """Which individual holds which cell, after the commits read so far; each commit's files are read once."""

    def __init__(self) -> None:
        self._placements: dict[int, Facts] = {}  # cell -> row
        self._individuals: dict[int, Facts] = {}  # individual id -> row
        self._genomes: dict[int, bytes] = {}  # individual id -> canonical bytes
        self._described: dict[int, Facts] = {}  # individual id -> columns that do not change while it is an elite
        self._sound: set[int] = set()  # ids of individuals whose genomes match their checksums
        self._seen = 0  # commits

    def catch_up(self, store: RunStore) -> None:
        """Read the commits that were not read yet.

        Raises:
            CorruptData: a file is damaged, or an elite's genome is missing or not the one its individual names.
        """
        if self._seen < len(store.log.commits):
            self._take({name: store.table(name, self._seen).to_pylist() for name in _TABLES})
            self._seen = len(store.log.commits)
        for identity, person in self._individuals.items():
            if identity not in self._sound:
                if hashlib.sha256(self._genomes.get(identity, b"")).hexdigest() != person["genome_sha256"]:
                    raise CorruptData(f"{store.path}: the genome of individual {identity} is missing or damaged.")
                self._sound.add(identity)

    def note(self, number: int, rows: Rows) -> None:
        """Take the rows of a commit from the driver that wrote it, so that its files need not be read."""
        if number == self._seen:
            self._take(rows)
            self._seen = number + 1

    def _take(self, rows: Rows) -> None:
        for row in rows["placements"]:
            self._placements[row["cell"]] = row
        holders = {row["individual_id"] for row in self._placements.values()}
        self._individuals |= {r["individual_id"]: r for r in rows["individuals"] if r["individual_id"] in holders}
        self._genomes |= {r["individual_id"]: r["genome"] for r in rows["genomes"] if r["individual_id"] in holders}
        for by_id in (self._individuals, self._genomes):
            for identity in by_id.keys() - holders:
                del by_id[identity]
        self._sound &= holders

    def genomes_by_image(self) -> dict[str, bytes]:
        """The sha256 (hex) of each elite's image -> canonical bytes of its genome."""
        return {self._individuals[i]["image_sha256"]: blob for i, blob in sorted(self._genomes.items())}

    def rows(self, store: RunStore, encoding: Encoding) -> list[Facts]:
        """The rows of the view, in order of cells; the bytes of their images are empty."""
        last, facts, cells = store.log.last, store.provenance, store.cells
        names, bins = [facts["class_names"][i] for i in cells.columns], cells.bin_indices.tolist()
        units = [cells.units[i] for i in cells.columns] if cells.units else []
        self._described = {
            identity: self._described.get(identity) or self._describe(identity, encoding, blob)
            for identity, blob in self._genomes.items()
        }
        return [
            {
                "run_id": facts["run_id"],
                "class_index": placed["class_index"],
                "class_name": names[cell],
                **({"bin": bins[cell]} if cells.bins > 1 else {}),
                **({"layer": units[cell].layer, "unit": units[cell].channel} if units else {}),
                "confidence": None if units else _confidence(placed["log_odds"]),
                "log_odds": placed["log_odds"],
                "objective": placed["objective"],
                **self._described[placed["individual_id"]],
                "image": {"bytes": b"", "path": None},
                "encoding": encoding.kind,
                "target": facts["target"],
                "target_fingerprint": facts["target_fingerprint"],
                "preprocessing_hash": facts["preprocessing_hash"],
                "as_of_generation": last.generation if last else None,
            }
            for cell, placed in sorted(self._placements.items())
        ]

    def _describe(self, identity: int, encoding: Encoding, blob: bytes) -> Facts:
        batch = encoding.from_bytes([blob])
        return {
            **{name: self._individuals[identity].get(name) for name in _OF_INDIVIDUAL},
            "genome": encoding.genes(batch, 0),
            "genome_json": json.dumps(encoding.to_json(batch, 0)),
        }


def _schema(store: RunStore) -> pa.Schema:
    return schemas.elites(store.cells, store.provenance["schema_version"])


def _confidence(log_odds: float) -> float:
    return float(confidence(np.array([log_odds], dtype=np.float32))[0])


def read_view(store: RunStore) -> pa.Table:
    """The view as it is on disk; empty before the first one was written.

    Raises:
        CorruptData: it is damaged.
    """
    path, schema = store.path / VIEW, _schema(store)
    return schemas.from_parquet(path, schema) if path.is_file() else schema.empty_table()


def generation_of(view: pa.Table) -> int:
    """The generation of the last commit that a view shows; -1 of none."""
    facts = json.loads((view.schema.metadata or {}).get(b"PANDAS_ATTRS", "{}"))
    generation: int = facts["evofool"]["generation"] if facts else -1
    return generation


def compare_view(store: RunStore, encoding: Encoding) -> tuple[list[Facts], list[NDArray[np.uint8]]]:
    """The rows of the view as the commits have them, and the images of the view on disk, which must agree with them.

    Raises:
        CorruptData: they do not, or it is missing; the message says where.
    """
    path = store.path / VIEW
    again = f"`evofool resume {quoted(store.path)}` writes it again"
    if not path.is_file():
        raise CorruptData(f"{path}: missing; {again} from the commits.")
    stored = read_view(store).to_pylist()
    current = CurrentElites()
    current.catch_up(store)
    rows = current.rows(store, encoding)
    schema = _schema(store)
    # As a file gives them back: numbers are rounded to the type of their column.
    expected: list[Facts] = pa.Table.from_pylist(rows, schema=schema).to_pylist()
    if list(map(_cell, stored)) != list(map(_cell, expected)):
        raise CorruptData(f"{path}: holds other classes than the commits; {again}.")
    images = []
    for row, on_disk, committed in zip(rows, stored, expected):
        name = f"{path}: class {committed['class_name']}"
        image = decode_png(on_disk["image"]["bytes"], name)
        if hashlib.sha256(image.tobytes()).hexdigest() != committed["image_sha256"]:
            raise CorruptData(f"{name}: its image is not the one that was scored (a pixel differs).")
        images.append(image)
        for column, value in committed.items():
            other = on_disk[column]
            if column != "image" and other != value:
                raise CorruptData(f"{name}: {column} is {str(other)[:60]}, the commits say {str(value)[:60]}.")
        row["image"] = on_disk["image"]
    # Damage outside the columns: of the footer, its statistics, the attributes.
    if _written_alike(store) and path.read_bytes() != schemas.to_parquet(rows, schema, _attributes(store)):
        raise CorruptData(f"{path}: damaged outside its columns; {again}.")
    return expected, images


def _cell(row: Facts) -> tuple[int, int]:
    return row["class_index"], row.get("bin", 0)


def _written_alike(store: RunStore) -> bool:
    """Whether the last session had this one's versions of evofool and pyarrow: then equal rows are equal bytes."""
    wrote = [store.provenance, *store.provenance["sessions"]][-1]["versions"]
    now = provenance.versions()
    return all(wrote.get(name) == now[name] for name in ("evofool", "pyarrow"))


def _attributes(store: RunStore) -> Facts:
    last = store.log.last
    return {
        "run_id": store.provenance["run_id"],
        "archive_hash": last.archive_hash if last else None,
        "generation": last.generation if last else None,
        "config_fingerprint": store.provenance["config_fingerprint"],
        "evofool": store.provenance["versions"]["evofool"],
    }


def _images(
    store: RunStore, encoding: Encoding, genomes: dict[str, bytes], images_of: Callable[[Genomes], NDArray[np.uint8]]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(sha256, image) for each of {sha256 (hex) of its image: canonical bytes of a genome}.

    Raises:
        CorruptData: a genome no longer gives the image that was scored.
    """
    items = list(genomes.items())
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        for (sha256, _), image in zip(batch, images_of(encoding.from_bytes([genome for _, genome in batch]))):
            if hashlib.sha256(image.tobytes()).hexdigest() != sha256:
                raise CorruptData(
                    f"{store.path}: a genome draws another image than the one that was scored (sha256 "
                    f"{sha256[:16]}...); the numerics of this machine differ from the run's."
                )
            yield sha256, image


class CommittedView:
    """The view as it has to be after the last commit, for readers of a run whose view on disk is older, or missing.

    Nothing is written. What was read and drawn is kept, so that each commit is read once.
    """

    def __init__(self) -> None:
        self._current = CurrentElites()
        self._pngs: dict[str, bytes] = {}  # sha256 (hex) of the image -> its PNG

    def catch_up(self, store: RunStore) -> None:
        """Read the commits that were not read yet. Raises as `CurrentElites.catch_up`."""
        self._current.catch_up(store)

    def table(self, store: RunStore, encoding: Encoding, written: pa.Table, *, pictures: bool) -> pa.Table:
        """The elites after `catch_up`.

        Args:
            written: the view on disk, most of whose pictures will do.
            pictures: whether to draw the others; else they are empty bytes.

        Raises:
            IncompatibleRun: this machine draws another picture than the one that was scored.
        """
        rows, genomes = self._current.rows(store, encoding), self._current.genomes_by_image()
        known = dict(zip(written["image_sha256"].to_pylist(), written["image"].combine_chunks().field("bytes")))
        self._pngs = {sha256: png for sha256, png in self._pngs.items() if sha256 in genomes}
        self._pngs |= {sha256: png.as_py() for sha256, png in known.items() if sha256 in genomes}
        if pictures:
            missing = {sha256: genome for sha256, genome in genomes.items() if sha256 not in self._pngs}
            try:
                for sha256, image in _images(store, encoding, missing, lambda batch: draw(encoding, batch)):
                    self._pngs[sha256] = encode_png(image)
            except CorruptData as error:  # not of a file: a genome is compared with its checksum when it is read
                raise IncompatibleRun(error.message) from None
        for row in rows:
            row["image"] = {"bytes": self._pngs.get(row["image_sha256"], b""), "path": None}
        return schemas.table_of(rows, _schema(store), _attributes(store))


class ViewWriter:
    """Writes the view. The PNGs of current elites are kept in memory, so that each is encoded once.

    Args:
        images_of: renders a batch of genomes exactly as they were scored, (n, h, w, channels) uint8.
    """

    def __init__(self, store: RunStore, encoding: Encoding, images_of: Callable[[Genomes], NDArray[np.uint8]]) -> None:
        self.store = store
        self.encoding = encoding
        self.images_of = images_of
        self._current = CurrentElites()
        store.on_commit = self._current.note
        self._pngs: dict[str, Future[bytes]] = {}  # sha256 of the image -> its PNG
        self._begun: tuple[list[Facts], Facts] | None = None  # rows without images, attributes
        self._encoder = ThreadPoolExecutor(1)

    def write(self) -> None:
        """Rewrite elites/elites.parquet from the commits, now. Raises as `begin`."""
        self.begin()
        self.settle(wait=True)

    def begin(self) -> None:
        """Take the elites of the last commit for the next view, and begin to encode their new images.

        Up to _AT_ONCE bytes of images this waits and writes the view; more are encoded while the search goes on.

        Raises:
            CorruptData: an elite's genome no longer gives the image that was scored.
        """
        self._current.catch_up(self.store)
        rows = self._current.rows(self.store, self.encoding)
        self._begun = (rows, _attributes(self.store)) if rows and self.store.log.last else None
        self.settle(wait=self._encode(self._current.genomes_by_image()) <= _AT_ONCE)

    def settle(self, *, wait: bool = False) -> None:
        """Write the view that was begun, if any, once its images are encoded; `wait` for them, or leave it for now."""
        if self._begun is None or not (wait or all(png.done() for png in self._pngs.values())):
            return
        rows, attributes = self._begun
        for row in rows:
            row["image"] = {"bytes": self._pngs[row["image_sha256"]].result(), "path": None}
        path = self.store.path / VIEW
        blob = schemas.to_parquet(rows, _schema(self.store), attributes)
        files.put(path, blob, temporary_folder=self.store.path / "_evofool")
        self._begun = None
        if self.store.remote:
            self.store.remote.send(path, self.store.log)

    def close(self) -> None:
        """Encode no more; a view that was begun is not written."""
        self._encoder.shutdown(wait=False, cancel_futures=True)

    def _encode(self, genomes: dict[str, bytes]) -> int:
        """Draw the genomes whose images have no PNG yet and begin to encode them; returns the bytes of these images.

        PNGs of other images than those of `genomes` (image sha256 -> canonical bytes) are dropped.
        """
        new = {sha256: genome for sha256, genome in genomes.items() if sha256 not in self._pngs}
        size = 0
        for sha256, image in _images(self.store, self.encoding, new, self.images_of):
            self._pngs[sha256] = self._encoder.submit(encode_png, image)
            size += image.nbytes
        self._pngs = {sha256: self._pngs[sha256] for sha256 in genomes}
        return size
