"""The run directory: what was committed comes back, damage is found, kills and moves change nothing, readers see whole
tables, every individual can be bred again from its parents, and a resumed run is the same run.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import ROOT, Command
from handmade import verify_files
from keys import KINDS, OTHER
from PIL import Image

import evofool
from evofool.archive import cells as archives
from evofool.archive.scores import confidence
from evofool.base import provenance, rng
from evofool.base.png import decode_png, encode_png
from evofool.config import Config, flatten, load_config
from evofool.encoding import variation
from evofool.encoding.drawing.render import render
from evofool.encoding.kinds import draw
from evofool.encoding.names import operator_names
from evofool.errors import ConfigError, CorruptData, IncompatibleRun, RunLocked, Stopped, StorageError
from evofool.evaluate.evaluator import Evaluator
from evofool.records import NO_PARENT, GenerationResult, Statistics, individual_id
from evofool.runs import runner
from evofool.runs.observers.observer import Committed, GenerationPlaced, RunStopped, Warned
from evofool.store import files, folders, schemas, view, writing
from evofool.store.commits import TABLES, Commit, lock
from evofool.store.reader import Run, encoding_of
from evofool.store.restore import generations, restore
from evofool.store.run import RunStore

pytestmark = pytest.mark.slow  # whole runs: `make check` leaves them to `make test`

# design.md, "On disk"
COLUMNS = [
    "run_id",
    "class_index",
    "class_name",
    "confidence",
    "log_odds",
    "objective",
    "top1_class_index",
    "top1_confidence",
    "top5",
    "individual_id",
    "generation",
    "slot",
    "parent_ids",
    "operators",
    "encoding",
    "nodes",
    "connections",
    "genome",
    "genome_json",
    "image",
    "image_sha256",
    "target",
    "target_fingerprint",
    "preprocessing_hash",
    "as_of_generation",
]

GENERATIONS = 4  # of the run that the tests on damage take copies of; one commit each


def with_keys(config: Config, *overrides: str) -> Config:
    return load_config(config, list(overrides))


def tree(path: Path) -> dict[str, bytes]:
    """Every file of a run but the lock, which says who held it last."""
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file() and p.name != "lock"
    }


class Recorder(evofool.Observer):
    """Remembers what it is told, and can end the run on the spot as a kill would: with nothing more written."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.kill_after = kill_after
        self.statistics: list[Statistics] = []
        self.commits: list[tuple[int, str]] = []
        self.warnings: list[str] = []
        self.stops: list[str] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        self.statistics.append(event.statistics)
        if event.statistics.generation == self.kill_after:
            raise KeyboardInterrupt

    def on_commit(self, event: Committed) -> None:
        self.commits.append((event.generation, event.archive_hash))

    def on_warning(self, event: Warned) -> None:
        self.warnings.append(event.text)

    def on_stop(self, event: RunStopped) -> None:
        self.stops.append(event.reason)


@pytest.fixture(scope="module")
def finished(lenet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a commit for each generation. Not to be changed: see `copy`."""
    data = {
        "target": {"spec": f"lenet:{lenet_file}"},
        "search": {"offspring": 30, "initial": 30, "generations": GENERATIONS},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 1},
    }
    return evofool.run(data, out=tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# ----------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize(("kind", "commit_every"), [("cppn", 1), ("cppn", 4), ("direct", 2)])
def test_tables_read_back_hold_what_the_search_found(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, commit_every: int
) -> None:
    results: list[GenerationResult] = []
    append = RunStore.append
    monkeypatch.setattr(RunStore, "append", lambda self, result: (results.append(result), append(self, result))[1])
    overrides = [f"encoding.kind={kind}", f"storage.commit_every={commit_every}", "variation.crossover_rate=0.5"]
    run = evofool.run(config, overrides, out=tmp_path / "run")
    store = RunStore(run.path)

    assert [commit.generation for commit in store.log.commits] == sorted({*range(commit_every - 1, 6, commit_every), 5})
    by_generation = {result.statistics.generation: result for result in results}
    assert [c.archive_hash for c in store.log.commits] == [
        by_generation[c.generation].archive_hash.hex() for c in store.log.commits
    ]
    people = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    genomes = store.genomes(set(people))
    seen = 0
    for result, (placements, top1, images, hashes, statistics) in zip(results, generations(store), strict=True):
        for name in ("cells", "slots", "log_odds", "displaced", "displaced_log_odds"):
            expected, found = getattr(result.placements, name), getattr(placements, name)
            assert found.tobytes() == expected.tobytes() and found.dtype == expected.dtype
        assert top1.tolist() == (result.scores.top_classes[placements.slots, 0] == placements.cells).tolist()
        assert images == [result.scores.image_sha256[slot].tobytes() for slot in placements.slots]
        assert hashes == [hashlib.sha256(result.genomes[int(slot)]).digest() for slot in placements.slots]
        assert asdict(statistics) == asdict(result.statistics)
        for slot, genome in result.genomes.items():
            row = people[int(individual_id(placements.generation, slot))]
            assert genomes[row["individual_id"]] == genome
            assert (row["generation"], row["slot"]) == (placements.generation, slot)
            assert row["parent_ids"] == [int(p) for p in result.offspring.parents[slot] if p != NO_PARENT]
            assert row["operators"] == operator_names(int(result.offspring.operators[slot]))
            top = result.scores.top_classes[slot]
            assert row["top1_class_index"] == top[0] == row["top5"][0]["class_index"]
            assert [answer["class_index"] for answer in row["top5"]] == top[top >= 0].tolist()
            assert np.float32(row["top1_confidence"]) == result.scores.top_confidences[slot, 0]
            assert (row["nodes"], row["connections"]) == result.sizes[slot]
            assert row["origin"] is None
            seen += 1
    assert seen == len(people), "only individuals that took a cell are stored"

    state = restore(store)
    assert state is not None and (state.generation, state.archive_hash) == (5, results[-1].archive_hash)
    archive = state.start
    for placements, top1 in state.pending:
        archive = archives.restore(archive, placements, top1)
    newest = {row["cell"]: row for row in store.table("placements").to_pylist()}
    assert archive.elites.tolist() == [newest[cell]["individual_id"] for cell in range(10)]
    assert {int(i) for i in archive.elites} <= state.genomes.keys()


def test_equal_runs_write_equal_tables(config: Config, tmp_path: Path) -> None:
    runs = [tree(evofool.run(config, out=tmp_path / name).path) for name in ("a", "b")]
    assert runs[0].keys() == runs[1].keys()
    # run.json, and through the run id the view, say which run it was; the history has seconds, and commits its sha256.
    same = [name for name in runs[0] if re.match("_evofool/(individuals|placements|genomes)/", name)]
    assert len(same) == 9
    assert all(runs[0][name] == runs[1][name] for name in same)


def test_history_and_placements_are_tables_of_what_was_told(config: Config, tmp_path: Path) -> None:
    recorder = Recorder()
    run = evofool.run(config, out=tmp_path / "run", observers=[recorder])
    history = run.history()
    assert history.to_dict("records") == [asdict(statistics) for statistics in recorder.statistics]
    assert recorder.commits == [(c.generation, c.archive_hash) for c in RunStore(run.path).log.commits]
    assert recorder.commits[-1] == (5, run.archive_hash)

    placements = run.placements()
    assert len(placements) == history["placements"].sum() == history["placements_total"].iloc[-1]
    elites: dict[int, Any] = {}
    for row in placements.to_dict("records"):
        before = elites.get(row["cell"])
        assert row["displaced_id"] == (before["individual_id"] if before else None)
        assert before is None or row["log_odds"] > before["log_odds"] == row["displaced_log_odds"]
        assert row["class_name"] == str(row["class_index"])
        assert row["individual_id"] == row["generation"] * 2**24 + row["slot"]
        assert np.float32(row["confidence"]) == confidence(np.array([row["log_odds"]], dtype=np.float32))[0]
        elites[row["cell"]] = row
    shown = run.elites().set_index("class_index")
    assert shown["individual_id"].to_dict() == {cell: row["individual_id"] for cell, row in elites.items()}


def test_status_counts_what_is_committed(finished: Path) -> None:
    run = evofool.open_run(finished)
    status, last = run.status(), run.history().iloc[-1]
    assert (status["generation"], status["commits"], status["cells"]) == (GENERATIONS - 1, GENERATIONS, 10)
    assert status["archive_hash"] == run.archive_hash
    for name in ("evaluations", "filled", "median", "minimum", "placements_total", "stale", "unique_elites"):
        assert status[name] == last[name]


def test_a_run_without_a_commit_can_be_read_and_is_empty(config: Config, tmp_path: Path) -> None:
    with pytest.raises(Stopped) as caught:
        evofool.run(config, out=tmp_path / "run", observers=[Recorder(kill_after=0)])
    assert "nothing was committed yet" in caught.value.safe
    run = evofool.open_run(tmp_path / "run")
    assert (run.archive_hash, run.status()["generation"], run.status()["commits"]) == (None, None, 0)
    assert [len(frame) for frame in (run.elites(), run.placements(), run.history())] == [0, 0, 0]
    with pytest.raises(ConfigError):
        run.elite(3)
    with pytest.raises(ConfigError, match="no commit yet"):
        evofool.run(config, out=tmp_path / "other", seed_from=[run.path])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_no_run_cannot_be_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=name):
        evofool.open_run(tmp_path / name)


# --------------------------------------------------------------------------------------------------- commit chain


def commit_files(run: Path) -> list[Path]:
    return sorted((run / "_evofool" / "commits").iterdir())


def refuse_state(run: Path) -> str:
    with pytest.raises(CorruptData) as caught:
        restore(RunStore(run))
    assert caught.value.exit_code == 4
    return caught.value.message


@pytest.mark.parametrize("number", range(GENERATIONS - 1))
def test_a_commit_that_is_missing_is_found(copy: Path, number: int) -> None:
    path = commit_files(copy)[number]
    path.unlink()
    with pytest.raises(CorruptData, match=f"{path.name}: missing"):
        evofool.open_run(copy)


def test_the_newest_commit_missing_is_as_if_it_had_never_been_made(copy: Path) -> None:
    whole = evofool.open_run(copy).archive_hash
    commit_files(copy)[-1].unlink()
    state = restore(RunStore(copy))
    assert state is not None and state.generation == GENERATIONS - 2
    recorder = Recorder()
    assert evofool.resume(copy, observers=[recorder]).archive_hash == whole
    assert "removed 4 files of an unfinished commit." in recorder.warnings


@pytest.mark.parametrize("number", range(GENERATIONS - 1))
def test_commits_that_changed_places_are_found(copy: Path, number: int) -> None:
    first, second = commit_files(copy)[number : number + 2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert first.name in refuse_state(copy)


@pytest.mark.parametrize("number", range(GENERATIONS))
def test_a_commit_written_twice_is_found(copy: Path, number: int) -> None:
    path = commit_files(copy)[number]
    shutil.copy(path, path.with_name(f"{GENERATIONS:08d}.json"))
    assert f"{GENERATIONS:08d}.json" in refuse_state(copy)


def test_a_commit_of_another_run_is_found(copy: Path, config: Config, tmp_path: Path) -> None:
    overrides = ["seed=2", "storage.commit_every=1", f"search.generations={GENERATIONS}"]
    other = evofool.run(config, overrides, out=tmp_path / "other").path
    for table, folder in {**TABLES, "commits": "_evofool/commits"}.items():
        for path in (other / folder).glob(f"{GENERATIONS - 1:08d}.*"):
            shutil.copy(path, copy / folder)
        assert table
    assert "does not follow the commit before it" in refuse_state(copy)


NO_COMMITS = (b"", b"{}", b"[]", b"null", b'{"number": 0}', b"\xff\xfe", b"[" * 100_000, b"half")


@pytest.mark.parametrize("number", [0, GENERATIONS - 1])
@pytest.mark.parametrize("blob", NO_COMMITS, ids=lambda blob: repr(blob[:9]))
def test_what_is_no_commit_is_found(copy: Path, number: int, blob: bytes) -> None:
    path = commit_files(copy)[number]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if blob == b"half" else blob)
    assert path.name in refuse_state(copy)


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def changed(value: Any) -> Any:
    if isinstance(value, str):
        return f"{'1' if value[:1] == '0' else '0'}{value[1:]}"
    return [0] if value == [] else value + 1


@pytest.mark.parametrize("number", range(GENERATIONS))
def test_every_edit_of_a_commit_is_found(copy: Path, number: int) -> None:
    path = commit_files(copy)[number]
    blob = path.read_bytes()
    undetected = []
    for leaf in leaves(json.loads(blob)):
        data = json.loads(blob)
        *sections, last = leaf
        place = data
        for section in sections:
            place = place[section]
        place[last] = changed(place[last])
        path.write_text(json.dumps(data, sort_keys=True, indent=1) + "\n")
        try:
            restore(RunStore(copy))
            undetected.append(".".join(leaf))
        except CorruptData:
            pass
    assert undetected == []


@pytest.mark.parametrize("number", range(GENERATIONS))
def test_a_flipped_bit_in_a_commit_is_found(copy: Path, number: int) -> None:
    path = commit_files(copy)[number]
    blob = path.read_bytes()
    undetected = []
    for position in range(0, len(blob), 29):
        path.write_bytes(blob[:position] + bytes([blob[position] ^ 1]) + blob[position + 1 :])
        try:
            restore(RunStore(copy))
            undetected.append(blob[max(0, position - 20) : position + 1])
        except CorruptData:
            pass
    assert undetected == []


def test_an_archive_hash_that_does_not_follow_from_the_placements_is_found(copy: Path) -> None:
    path = commit_files(copy)[-1]
    data = json.loads(path.read_bytes())
    data["archive_hash"] = changed(data["archive_hash"])
    del data["sha256"]
    path.write_bytes(Commit(**data).to_json())
    assert f"the archive hash of generation {GENERATIONS - 1} is not the one committed" in refuse_state(copy)


@pytest.mark.parametrize("column", ["individual_id", "cell", "log_odds"])
def test_a_placement_forged_with_all_its_checksums_is_found(copy: Path, column: str) -> None:
    path, table = commit_files(copy)[-1], sorted((copy / TABLES["placements"]).iterdir())[-1]
    rows = pq.read_table(table).to_pylist()
    everyone = RunStore(copy).table("individuals").to_pylist()
    another = next(row for row in everyone if row["slot"] != rows[0]["individual_id"] % 2**24)
    rows[0][column] = another["individual_id"] if column == "individual_id" else rows[0][column] + 1
    blob = schemas.to_parquet(rows, schemas.PLACEMENTS)
    table.write_bytes(blob)
    data = json.loads(path.read_bytes())
    data["files"]["placements"].update(size=len(blob), sha256=hashlib.sha256(blob).hexdigest())
    del data["sha256"]
    path.write_bytes(Commit(**data).to_json())
    message = refuse_state(copy)
    assert "archive hash" in message or "which is not stored" in message


# --------------------------------------------------------------------------------------------------- damaged files


def table_files(run: Path) -> list[Path]:
    return sorted(path for folder in TABLES.values() for path in (run / folder).iterdir())


@pytest.mark.parametrize("table", TABLES)
def test_one_changed_byte_in_any_table_is_found_and_the_file_named(copy: Path, table: str) -> None:
    for path in sorted((copy / TABLES[table]).iterdir()):
        blob = path.read_bytes()
        # The magic, the first page, the middle, the footer's metadata, its length, the last magic.
        for position in (0, 60, len(blob) // 2, len(blob) - 200, len(blob) - 7, len(blob) - 1):
            path.write_bytes(blob[:position] + bytes([blob[position] ^ 4]) + blob[position + 1 :])
            assert str(path) in refuse_state(copy)
        path.write_bytes(blob)
    assert restore(RunStore(copy)) is not None


@pytest.mark.parametrize("table", TABLES)
def test_a_table_cut_short_or_made_longer_or_missing_is_found(copy: Path, table: str) -> None:
    path = sorted((copy / TABLES[table]).iterdir())[1]
    blob = path.read_bytes()
    for other in (b"", blob[:4], blob[: len(blob) // 2], blob[:-1], blob + b"\0"):
        path.write_bytes(other)
        assert str(path) in refuse_state(copy)
    path.unlink()
    assert str(path) in refuse_state(copy)
    real = path.with_name("elsewhere")
    real.write_bytes(blob)
    path.symlink_to(real)
    assert str(path) in refuse_state(copy)


@pytest.mark.parametrize("table", TABLES)
def test_reading_damaged_tables_never_gives_other_rows(copy: Path, table: str) -> None:
    """A reader compares each file with what its commit says of it: pages have checksums, their headers have none."""
    expected = RunStore(copy).table(table)
    path = sorted((copy / TABLES[table]).iterdir())[1]
    blob = path.read_bytes()
    wrong = []
    for position in range(0, len(blob), max(1, len(blob) // 35)):
        path.write_bytes(blob[:position] + bytes([blob[position] ^ 4]) + blob[position + 1 :])
        try:
            if not RunStore(copy).table(table).equals(expected):
                wrong.append(position)
        except CorruptData as error:
            assert str(path) in error.message
    assert wrong == []


def test_a_reader_waits_for_a_table_that_its_driver_is_about_to_write_again(copy: Path) -> None:
    """As where locks do not hold, after a rival took it for a leftover."""
    expected = RunStore(copy).table("history")
    path = sorted((copy / TABLES["history"]).iterdir())[-1]
    aside = path.rename(path.with_suffix(".aside"))
    writer = threading.Timer(1.0, aside.rename, [path])
    writer.start()
    assert RunStore(copy).table("history").equals(expected)
    writer.join()


def test_a_damaged_name_in_a_footer_is_corrupt_data(copy: Path) -> None:
    """pyarrow decodes names only when asked for them; readers used to see a UnicodeDecodeError."""
    path = sorted((copy / TABLES["history"]).iterdir())[0]
    blob = path.read_bytes()
    expected = schemas.from_parquet(path, schemas.HISTORY)
    refused = 0
    for position in range(len(blob) - int.from_bytes(blob[-8:-4], "little") - 8, len(blob), 3):
        path.write_bytes(blob[:position] + bytes([blob[position] ^ 0x80]) + blob[position + 1 :])
        try:
            assert schemas.from_parquet(path, schemas.HISTORY).equals(expected)
        except CorruptData as error:
            assert str(path) in error.message
            refused += 1
    assert refused > 100


def test_resume_of_a_damaged_run_is_refused_and_changes_nothing(copy: Path) -> None:
    path = table_files(copy)[0]
    path.write_bytes(path.read_bytes()[:-1])
    before = tree(copy)
    with pytest.raises(CorruptData):
        evofool.resume(copy, ["search.generations=9"])
    assert tree(copy) == before


def test_a_lost_run_json_never_costs_the_commits(copy: Path, config: Config) -> None:
    (copy / "_evofool" / "run.json").unlink()
    before = tree(copy)
    with pytest.raises(evofool.EvofoolError):
        evofool.run(config, out=copy)
    assert tree(copy) == before


def test_a_lost_run_json_never_costs_the_commits_when_the_target_fails(copy: Path, config: Config) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    (copy / "_evofool" / "run.json").unlink()
    before = tree(copy)
    with pytest.raises(evofool.EvofoolError):
        evofool.run(config, out=copy, target=Broken(), **GREY)
    assert tree(copy) == before


def test_a_stored_configuration_that_was_edited_is_not_continued(copy: Path) -> None:
    path = copy / "_evofool" / "config.yaml"
    path.write_text(path.read_text().replace("mutation_rate: 0.1", "mutation_rate: 0.2"))
    before = tree(copy)
    with pytest.raises((CorruptData, IncompatibleRun)):
        evofool.resume(copy, ["search.generations=9"])
    assert tree(copy) == before


@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
@pytest.mark.parametrize("blob", [b"", b"\xff", b"[1]", b"{"], ids=repr)
def test_an_unreadable_description_of_a_run_is_corrupt_data(copy: Path, name: str, blob: bytes) -> None:
    path = copy / "_evofool" / name
    path.write_bytes(blob)
    with pytest.raises(CorruptData, match=re.escape(str(path))):
        evofool.open_run(copy)


def test_a_lost_configuration_of_a_run_is_corrupt_data(copy: Path) -> None:
    path = copy / "_evofool" / "config.yaml"
    path.unlink()
    with pytest.raises(CorruptData, match=re.escape(str(path))):
        evofool.open_run(copy)


def flipped(blob: bytes, position: int, bit: int) -> bytes:
    return blob[:position] + bytes([blob[position] ^ 1 << bit]) + blob[position + 1 :]


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "seeds.parquet"])
def test_any_bit_of_what_describes_a_run_that_changes_is_found(finished: Path, tmp_path: Path, name: str) -> None:
    """Comments, operational keys, provenance and the origins of seeds used to be believed as they were."""
    seeded = evofool.run(RunStore(finished).config, ["seed=5"], out=tmp_path / "run", seed_from=[finished]).path
    path = seeded / "_evofool" / name
    blob = path.read_bytes()
    for position in range(0, len(blob), max(1, len(blob) // 40)):
        path.write_bytes(flipped(blob, position, position % 8))
        for attempt in (lambda: restore(RunStore(seeded)), lambda: evofool.resume(seeded)):
            with pytest.raises(CorruptData, match=re.escape(str(path))):
                attempt()
        assert path.read_bytes() == flipped(blob, position, position % 8)
    path.write_bytes(blob)
    assert restore(RunStore(seeded)) is not None


def test_large_pictures_are_encoded_beside_the_search(
    config: Config, small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of a thousand ImageNet elites used to keep evaluators waiting for seconds."""
    path, free, encode = tmp_path / "beside" / "elites" / "elites.parquet", threading.Event(), encode_png
    monkeypatch.setattr(view, "_AT_ONCE", -1)
    monkeypatch.setattr(view, "encode_png", lambda image: encode(image) if free.wait(60) else b"")
    seen = []

    class Watch(evofool.Observer):
        def on_generation(self, event: GenerationPlaced) -> None:
            seen.append(path.exists())
            if event.statistics.generation == 4:
                free.set()

    run = evofool.run(config, ["storage.commit_every=1"], out=tmp_path / "beside", observers=[Watch()])
    assert seen[:5] == [False] * 5  # the first was begun in generation 0
    assert run.archive_hash == small_run.archive_hash
    assert evofool.verify(run.path)["generations"] == 6

    store = RunStore(run.path)
    before = path.read_bytes()
    path.unlink()
    free.clear()
    writer = view.ViewWriter(store, encoding_of(store), lambda genomes: render(encoding_of(store), genomes))
    writer.begin()
    writer.settle()
    assert not path.exists()
    free.set()
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        writer.settle()
    assert path.read_bytes() == before
    writer.close()


def test_bits_of_the_view_that_no_column_shows_are_checked_too(copy: Path) -> None:
    """A footer has statistics and attributes; verify and a resume with nothing to do used to look at rows only."""
    path = copy / "elites" / "elites.parquet"
    blob = path.read_bytes()
    for position in range(len(blob) - 2000, len(blob), 97):
        path.write_bytes(flipped(blob, position, position % 8))
        with pytest.raises(CorruptData, match=re.escape(str(path))):
            evofool.verify(copy)
        evofool.resume(copy)
        assert path.read_bytes() == blob


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["empty", "cut short", "one bit flipped"])
def test_a_damaged_view_is_corrupt_data_to_readers_and_is_made_anew_by_resume(copy: Path, keep: int) -> None:
    path = copy / "elites" / "elites.parquet"
    blob = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    largest = max((group.column(i) for i in range(group.num_columns)), key=lambda c: c.total_compressed_size)
    middle = largest.data_page_offset + largest.total_compressed_size // 2
    path.write_bytes(blob[:middle] + bytes([blob[middle] ^ 1]) + blob[middle + 1 :] if keep < 0 else blob[:keep])
    with pytest.raises(CorruptData, match=re.escape(str(path))):
        evofool.open_run(copy).elites()
    assert evofool.resume(copy).elites()["as_of_generation"].unique() == [GENERATIONS - 1]
    assert path.read_bytes() == blob


def test_a_lost_view_is_made_anew_by_resume(copy: Path) -> None:
    path = copy / "elites" / "elites.parquet"
    blob, whole = path.read_bytes(), evofool.open_run(copy).elites()
    path.unlink()
    assert evofool.open_run(copy).elites().columns.tolist() == COLUMNS
    pd.testing.assert_frame_equal(evofool.open_run(copy).elites(), whole)
    assert not path.exists(), "readers never write"
    evofool.resume(copy)
    assert path.read_bytes() == blob


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(schemas.to_parquet([], schemas.SEEDS))
    assert schemas.from_parquet(path, schemas.SEEDS).num_rows == 0
    with pytest.raises(CorruptData, match=re.escape(str(path))):
        schemas.from_parquet(path, schemas.GENOMES)


# ------------------------------------------------------------------------------------------------------ leftovers


def test_leftovers_of_a_kill_are_removed(copy: Path) -> None:
    before = tree(copy)
    folders = [*TABLES.values(), "_evofool/commits", "_evofool"]
    leftovers = [copy / folder / "_tmp-0123456789abcdef" for folder in folders]
    leftovers += [copy / folder / f"{GENERATIONS:08d}.parquet" for folder in TABLES.values()]
    for path in leftovers:
        path.write_bytes(b"half")
    store = RunStore(copy)
    assert store.recover() == len(leftovers)
    assert tree(copy) == before
    assert store.recover() == 0


def test_leftovers_of_a_kill_after_the_last_commit_are_removed(copy: Path) -> None:
    """A resume that had nothing to do used to leave them."""
    left = copy / "_evofool" / f"_tmp-{1:016x}"
    left.touch()
    before = tree(copy)
    del before[f"_evofool/{left.name}"]
    evofool.resume(copy)
    assert tree(copy) == before


def test_leftovers_of_a_kill_before_there_was_a_run_are_removed(config: Config, tmp_path: Path) -> None:
    """Only resuming used to tidy up, so a probe's 4 MiB could stay for ever."""
    left = tmp_path / "run" / "_evofool" / f"_tmp-{1:016x}"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"probe")
    evofool.run(config, out=tmp_path / "run")
    assert not left.exists()


def test_what_is_no_leftover_stays_and_links_are_not_followed(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.parquet"
    outside.write_bytes(b"mine")
    folders = [*TABLES.values(), "_evofool/commits"]
    kept = [copy / folder / name for folder in folders for name in ("notes.txt", "mine.parquet", ".hidden")]
    kept += [copy / "_tmp-mine", copy / "elites" / "_tmp-mine", copy / "_studies.parquet"]
    for path in kept:
        path.write_bytes(b"mine")
    for folder in folders:
        for name in ("_tmp-link", "00000077.parquet"):
            (copy / folder / name).symlink_to(outside)
        (copy / folder / "_tmp-folder").mkdir()
    before = tree(copy)
    RunStore(copy).recover()
    assert [name for name in before if name not in tree(copy)] == []
    assert outside.read_bytes() == b"mine"


def test_recovery_does_not_follow_a_folder_that_is_a_link(copy: Path, tmp_path: Path) -> None:
    foreign = Path(shutil.copytree(copy / "_history", tmp_path / "foreign"))
    (foreign / "results.parquet").write_bytes(b"keep me")
    (foreign / "00000099.parquet").write_bytes(b"keep me")
    shutil.rmtree(copy / "_history")
    (copy / "_history").symlink_to(foreign)
    before = tree(foreign)
    with pytest.raises(evofool.EvofoolError):
        evofool.resume(copy, ["search.generations=5"])
    assert tree(foreign) == before


# ---------------------------------------------------------------------------------------------------------- files


def test_put_replaces_and_create_never_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.put(path, b"one")
    files.put(path, b"two")
    assert path.read_bytes() == b"two"
    assert files.create(path, b"three") is False
    assert path.read_bytes() == b"two"
    assert files.create(tmp_path / "new", b"four") is True
    assert tree(tmp_path) == {"file": b"two", "new": b"four"}


def test_put_takes_its_temporary_name_elsewhere_if_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "aside").mkdir()
    sources = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (sources.append(self), replace(self, to))[1])
    files.put(tmp_path / "data" / "x", b"1", temporary_folder=tmp_path / "aside")
    assert [source.parent for source in sources] == [tmp_path / "aside"]
    assert sources[0].name.startswith("_"), "readers of a folder leave such names out"


def test_of_many_threads_exactly_one_creates(tmp_path: Path) -> None:
    for attempt in range(10):
        made: list[int] = []
        gate = threading.Barrier(16)

        def work(number: int, path: Path = tmp_path / str(attempt), gate: Any = gate, made: Any = made) -> None:
            gate.wait()
            if files.create(path, f"{number}".encode() * 1000):
                made.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert (tmp_path / str(attempt)).read_bytes() == f"{made[0]}".encode() * 1000
    assert sorted(tree(tmp_path)) == sorted(str(attempt) for attempt in range(10))


def python(code: str, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_of_many_processes_exactly_one_creates(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from evofool.store import files
        folder, number = Path(sys.argv[1]), sys.argv[2]
        (folder / f"ready-{number}").touch()
        while not (folder / "go").exists():
            time.sleep(0.001)
        print(sum(files.create(folder / f"commit-{i}", number.encode()) for i in range(20)))
    """
    processes = [python(code, tmp_path, number) for number in range(4)]
    while len(list(tmp_path.glob("ready-*"))) < 4:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=20) for process in processes]
    assert sum(int(out) for out, _ in outputs) == 20, outputs


FAILURES = {
    "disk full": (errno.ENOSPC, "the disk is full"),
    "over quota": (errno.EDQUOT, "the disk is full"),
    "broken disk": (errno.EIO, "cannot write (Input/output error)"),
    "read-only": (errno.EROFS, "cannot write (Read-only file system)"),
}


def fail(number: int) -> Callable[..., Any]:
    def raising(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return raising


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_put_that_fails_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, step: str
) -> None:
    path = tmp_path / "file"
    files.put(path, b"old")
    number, words = FAILURES[failure]
    monkeypatch.setattr(*((Path, "replace") if step == "replace" else (os, step)), fail(number))
    with pytest.raises(StorageError) as caught:
        files.put(path, b"new")
    monkeypatch.undo()
    assert caught.value.exit_code == 74
    assert str(path) in caught.value.message and words in caught.value.message
    assert tree(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", ["open", "fsync", "link"])
def test_create_and_probe_that_fail_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, step: str
) -> None:
    number, words = FAILURES[failure]
    monkeypatch.setattr(os, step, fail(number))
    with pytest.raises(StorageError, match="file"):
        files.create(tmp_path / "file", b"new")
    with pytest.raises(StorageError) as caught:
        files.probe(tmp_path)
    monkeypatch.undo()
    assert str(tmp_path) in caught.value.message and words.partition("(")[2] in caught.value.message
    assert tree(tmp_path) == {}
    files.probe(tmp_path)
    assert tree(tmp_path) == {}


def test_a_commit_that_cannot_be_written_is_not_acknowledged(config: Config, tmp_path: Path) -> None:
    class Full(Recorder):
        def on_generation(self, event: GenerationPlaced) -> None:
            if event.statistics.generation == 2:
                patch.setattr(os, "fsync", fail(errno.ENOSPC))

    whole = evofool.run(config, out=tmp_path / "whole").archive_hash
    observer = Full()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StorageError) as caught:
        evofool.run(config, out=tmp_path / "run", observers=[observer])
    assert "generation 1 is committed" in caught.value.safe
    assert caught.value.go_on == f"evofool resume {tmp_path / 'run'}"
    assert [generation for generation, _ in observer.commits] == [1]
    assert evofool.open_run(tmp_path / "run").status()["generation"] == 1
    assert evofool.resume(tmp_path / "run").archive_hash == whole


MOUNTED = """
    import json, os, sys
    from pathlib import Path
    import evofool
    from evofool.errors import StorageError
    from evofool.evaluate.evaluator import Evaluator

    spec, folder = sys.argv[1], Path(sys.argv[2])
    data = {
        "target": {"spec": spec},
        "search": {"offspring": 10, "initial": 10, "generations": 5},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 1},
    }
    scored, score = [], Evaluator.score
    Evaluator.score = lambda self, genomes: (scored.append(1), score(self, genomes))[1]

    class Fill(evofool.Observer):
        def on_commit(self, event):
            if event.generation == 3:
                with open(folder / "tight" / "filler", "wb") as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                            file.flush()
                    except OSError:
                        pass

    def attempt(place, **options):
        scored.clear()
        try:
            run = evofool.run(data, out=folder / place, **options)
            return {"hash": run.archive_hash}
        except StorageError as error:
            return {"code": error.exit_code, "text": error.message, "safe": error.safe, "scored": len(scored)}

    told = {}
    told["full"] = attempt("full/run")
    told["left"] = sorted(os.listdir(folder / "full"))
    told["sealed"] = attempt("sealed/run")
    told["sealed resume"] = attempt("sealed/old")
    told["whole"] = attempt("tight/whole")
    told["filled"] = attempt("tight/run", observers=[Fill()])
    told["resume on full disk"] = attempt("tight/run")
    (folder / "tight" / "filler").unlink()
    told["resumed"] = attempt("tight/run")
    print(json.dumps(told))
"""


@pytest.mark.slow
@pytest.mark.needs_mounts
def test_full_and_read_only_disks_are_found_before_any_evaluation(
    lenet_file: Path, finished: Path, tmp_path: Path
) -> None:
    for name in ("full", "sealed", "tight"):
        (tmp_path / name).mkdir()
    shell = f"""
        set -e
        mount -t tmpfs -o size=1m none {tmp_path}/full
        mount -t tmpfs -o size=16m none {tmp_path}/tight
        mount -t tmpfs -o size=16m none {tmp_path}/sealed
        cp -r {finished} {tmp_path}/sealed/old
        mount -o remount,ro {tmp_path}/sealed
        exec "$@"
    """
    script = [sys.executable, "-c", textwrap.dedent(MOUNTED), f"lenet:{lenet_file}", str(tmp_path)]
    result = subprocess.run(["unshare", "-m", "sh", "-c", shell, "sh", *script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    full, sealed = "disk is full", "Read-only"
    expected = {"full": full, "sealed": sealed, "sealed resume": sealed, "resume on full disk": full}
    for name, words in expected.items():
        assert told[name]["code"] == 74, name
        assert words in told[name]["text"]
        assert told[name]["scored"] == 0, f"{name}: found before any evaluation"
    assert told["left"] == []
    assert told["filled"]["code"] == 74
    assert "generation 3 is committed" in told["filled"]["safe"]
    assert told["resumed"]["hash"] == told["whole"]["hash"]


# ----------------------------------------------------------------------------------------------------------- lock


def test_a_second_holder_is_told_who_has_the_run_and_a_death_releases_it(copy: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from evofool.store.commits import lock
        with lock(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """
    process = python(code, copy)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        before = tree(copy)
        for attempt in (lambda: evofool.resume(copy, ["search.generations=9"]), lambda: lock(copy).__enter__()):
            with pytest.raises(RunLocked) as caught:
                attempt()
            assert caught.value.exit_code == 5
            assert f"process {process.pid} on {socket.gethostname()}" in caught.value.message
        assert evofool.open_run(copy).status()["generation"] == GENERATIONS - 1, "readers need no lock"
        assert tree(copy) == before
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with lock(copy), pytest.raises(RunLocked, match=f"process {os.getpid()} "), lock(copy):
        pass
    with lock(copy):
        pass


def test_a_file_system_without_locks_is_said(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StorageError, match=r"lock: cannot be locked .*storage.path"), lock(copy):
        pass


def test_of_two_drivers_only_one_writes_a_commit(copy: Path) -> None:
    """Where a file system does not lock (some NFS), put-if-absent still keeps the log whole."""
    stores = [RunStore(copy) for _ in range(2)]
    more = {"dropped_genomes": [], "numerics": {}, "counters": {}}
    writing.append(stores[0].log, None, GENERATIONS, "0" * 64, {}, **more)
    with pytest.raises(RunLocked):
        writing.append(stores[1].log, None, GENERATIONS, "1" * 64, {}, **more)
    assert RunStore(copy).log.commits[-1].archive_hash == "0" * 64
    assert len(RunStore(copy).log.commits) == GENERATIONS + 1


def one_table(log: Any, blob: bytes) -> None:
    writing.append(
        log, None, GENERATIONS, "0" * 64, {"history": (blob, 1)}, dropped_genomes=[], numerics={}, counters={}
    )


def test_the_loser_of_two_drivers_leaves_the_tables_of_the_winner_alone(copy: Path) -> None:
    """Its own table used to take the place of the one that the winner's commit was about to name."""
    loser, winner = (RunStore(copy).log for _ in range(2))
    create = files.create

    def late(path: Path, data: bytes) -> bool:
        if path.suffix == ".json" and data.count(b"history"):
            with pytest.raises(RunLocked):
                patch.undo()
                one_table(loser, b"loser")
        return create(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "create", late)
        one_table(winner, b"winner")
    verify_files(RunStore(copy).log)
    assert winner.path("history", GENERATIONS).read_bytes() == b"winner"


def test_what_another_driver_took_for_a_leftover_is_put_back(copy: Path) -> None:
    """Without locks a second driver recovers while the first is between its tables and its commit."""
    first, second = (RunStore(copy).log for _ in range(2))
    create = files.create

    def late(path: Path, data: bytes) -> bool:
        if path.suffix == ".json":
            assert second.remove_leftovers() == 1
        return create(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "create", late)
        one_table(first, b"first")
    verify_files(RunStore(copy).log)
    assert second.remove_leftovers() == 0, "a commit made since is nobody's leftover"
    verify_files(RunStore(copy).log)


@pytest.mark.parametrize("step", ["listing", "reading", "deleting"])
def test_a_disk_that_fails_while_a_log_is_read_or_tidied_is_a_storage_error(copy: Path, step: str) -> None:
    """Errors of the system calls that are not writes used to come through as they were."""
    log = RunStore(copy).log
    (log.folder / f"_tmp-{0:016x}").touch()
    attempt: dict[str, tuple[Any, str, Callable[[], Any]]] = {
        "listing": (os, "listdir", log.remove_leftovers),
        "reading": (Path, "read_bytes", lambda: verify_files(log)),
        "deleting": (Path, "unlink", log.remove_leftovers),
    }
    owner, name, work = attempt[step]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail(errno.EIO))
        with pytest.raises(StorageError, match="Input/output error"):
            work()
    verify_files(log)


@pytest.mark.parametrize("resuming", [False, True])
def test_the_probe_of_the_file_system_is_made_under_the_lock(
    config: Config, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resuming: bool
) -> None:
    """A driver that makes a run removes leftovers, and must not take the probe of another that waits for one."""
    path = copy if resuming else tmp_path / "run"
    probes = []

    def probe(folder: Path) -> None:
        with pytest.raises(RunLocked), lock(path):
            pass
        probes.append(folder)

    monkeypatch.setattr(files, "probe", probe)
    evofool.run(RunStore(copy).config if resuming else config, ["search.generations=5"], out=path)
    assert probes == [path / "_evofool"]


def test_of_two_drivers_only_one_makes_the_run(config: Config, tmp_path: Path) -> None:
    """Where nothing locks, the second used to replace run.json, and was told to say what is the default anyway."""
    made = evofool.run(config, out=tmp_path / "run")
    facts = {k: v for k, v in made.provenance.items() if k != "schema_version"}
    before = tree(tmp_path / "run")
    with pytest.raises(RunLocked):
        RunStore.create(tmp_path / "run", config, {**facts, "run_id": "0" * 16}, None)
    assert tree(tmp_path / "run") == before
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunLocked, match="just made this run"):
        answers = iter((False, True))  # nothing there at first; once we have the lock, another's run is
        patch.setattr(runner, "check_place", lambda path: next(answers))
        patch.setattr(folders, "check_place", lambda path: next(answers))
        evofool.run(config, out=tmp_path / "run")
    assert tree(tmp_path / "run") == before


# -------------------------------------------------------------------------------------------------- large genomes


def colour_net(side: int = 4) -> torch.nn.Module:
    """A network for RGB images of any size, with fixed weights."""
    generator = torch.Generator().manual_seed(3)
    linear = torch.nn.Linear(3 * side * side, 10)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(side), torch.nn.Flatten(), linear)


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GREY = {"preprocessing": evofool.Preprocessing((28, 28), 1, (0.0,), (255.0,)), "class_names": NAMES}
LARGE: dict[str, Any] = {
    "preprocessing": evofool.Preprocessing((48, 48), 3, (127.0,) * 3, (128.0,) * 3),
    "class_names": NAMES,
}


def large_config(lag: int, commit_every: int) -> Config:
    return load_config(
        {
            "target": {"spec": "live"},
            "encoding": {"kind": "direct"},
            "search": {"offspring": 24, "initial": 24, "lag": lag, "generations": 14},
            "evaluation": {"pool": "inline"},
            "storage": {"commit_every": commit_every},
        }
    )


def needed_genomes(store: RunStore, last: int) -> set[int]:
    """Who is needed after a generation: elites, and whoever lost a cell so lately that those in flight may descend."""
    rows = [row for row in store.table("placements").to_pylist() if row["generation"] <= last]
    newest = {row["cell"]: row["individual_id"] for row in rows}
    lately = {row["displaced_id"] for row in rows if row["generation"] > last - store.config.search.lag}
    return set(newest.values()) | lately - {None}


def check_kept_genomes(path: Path) -> None:
    store = RunStore(path)
    commits = {store.log.path("genomes", commit.number): commit for commit in store.log.commits}
    needed = needed_genomes(store, store.log.commits[-1].generation)
    stored: set[int] = set()
    for file in (path / TABLES["genomes"]).iterdir():
        ids = set(pq.read_table(file)["individual_id"].to_pylist())
        assert ids & needed, f"{file.name} holds no genome that anybody needs"
        assert ids <= needed_genomes(store, commits[file].generation), "none was written that nobody needed any more"
        stored |= ids
    assert needed <= stored
    everyone = set(store.table("individuals")["individual_id"].to_pylist())
    assert len(everyone) - len(stored) >= 20, "ancestors' genomes are dropped"


@pytest.mark.slow
@pytest.mark.parametrize(("lag", "commit_every"), [(4, 1), (1, 5)])
def test_large_genomes_are_kept_only_while_needed_and_resume_is_the_same_run(
    tmp_path: Path, lag: int, commit_every: int
) -> None:
    config, options = large_config(lag, commit_every), {"target": colour_net(), **LARGE}
    whole = evofool.run(config, out=tmp_path / "whole", **options)
    check_kept_genomes(whole.path)
    for stop in (1, 3, 4, 8, 13):
        evofool.run(config, [f"search.generations={stop}"], out=tmp_path / "pieces", **options)
    check_kept_genomes(tmp_path / "pieces")
    with pytest.raises(Stopped):
        evofool.resume(tmp_path / "pieces", ["search.generations=14"], observers=[Recorder(kill_after=13)], **options)
    again = evofool.resume(tmp_path / "pieces", **options)
    assert again.archive_hash == whole.archive_hash
    check_kept_genomes(again.path)
    assert again.image("seven").shape == (48, 48, 3)


def test_small_genomes_of_all_individuals_stay(small_run: Run) -> None:
    store = RunStore(small_run.path)
    everyone = set(store.table("individuals")["individual_id"].to_pylist())
    assert len(store.genomes(everyone)) == len(everyone) > len(needed_genomes(store, 5))
    with pytest.raises(CorruptData, match="not stored"):
        store.genomes({5 << 40})


# ----------------------------------------------------------------------------------------------------------- view


def plain(value: Any) -> Any:
    """What pandas, polars and duckdb give for one value, as plain Python."""
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_pandas_polars_and_duckdb_read_the_same_elites(config: Config, tmp_path: Path, kind: str) -> None:
    run = evofool.run(config, [f"encoding.kind={kind}"], out=tmp_path / "run")
    expected = run.elites()
    assert expected.columns.tolist() == COLUMNS
    assert expected["class_index"].tolist() == list(range(10)), "one row for each filled cell"
    for folder in (run.path, run.path / "elites"):
        frame = pd.read_parquet(folder)
        pd.testing.assert_frame_equal(frame, expected)
        assert frame.attrs["evofool"] == {
            "run_id": run.provenance["run_id"],
            "archive_hash": run.archive_hash,
            "generation": 5,
            "config_fingerprint": evofool.config.fingerprint(run.config),
            "evofool": evofool.__version__,
        }
    rows = pq.read_table(run.path / "elites" / "elites.parquet").to_pylist()
    for column in set(COLUMNS) - {"genome"}:
        assert [plain(value) for value in expected[column]] == [row[column] for row in rows]
    assert [plain(row) for row in pl.read_parquet(run.path / "elites").to_dicts()] == rows
    relation = duckdb.sql(f"SELECT * FROM read_parquet('{run.path}/elites/*.parquet')")
    assert [dict(zip(relation.columns, plain(row))) for row in relation.fetchall()] == rows


@pytest.mark.slow
def test_hugging_faces_datasets_loads_the_elites_as_pictures(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the metadata of the schema alone; views that an earlier version wrote say it too."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    import datasets

    stored = evofool.open_run(ROOT / "tests" / "fixtures" / "cppn")
    for run in (small_run, stored):
        files = str(run.path / "elites" / "elites.parquet")
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.column_names == [name for name in COLUMNS if name != "top5" or run is small_run]
        for row, index in zip(loaded, run.elites()["class_index"], strict=True):
            picture = row["image"]
            assert isinstance(picture, Image.Image)
            assert np.array_equal(np.atleast_3d(np.asarray(picture)), run.image(int(index)))


def test_ids_of_genes_keep_their_bits_in_pandas(small_run: Run) -> None:
    """62 bits do not fit a float64, which pandas makes of nested integers beside nulls."""
    for frame in (small_run.elites(), pd.read_parquet(small_run.path)):
        hidden = 0
        for genes in frame["genome"]:
            nodes = {gene["id"] for gene in genes if gene["gene"] == "node"}
            connections = [gene for gene in genes if gene["gene"] == "connection"]
            ends = {int(gene[end]) for gene in connections for end in ("source", "destination")}
            assert ends - nodes <= set(range(4)), "a connection goes from an input or a node to a node"
            hidden += len(nodes) - 1
        assert hidden > 0


def test_rows_of_the_view_are_the_newest_placements_and_their_individuals(small_run: Run) -> None:
    store = RunStore(small_run.path)
    newest = {row["class_index"]: row for row in store.table("placements").to_pylist()}
    people = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    encoding = encoding_of(store)
    genomes = store.genomes({row["individual_id"] for row in newest.values()})
    for row in pq.read_table(small_run.path / "elites" / "elites.parquet").to_pylist():
        placed = newest[row["class_index"]]
        person = people[placed["individual_id"]]
        for name in ("individual_id", "log_odds", "confidence"):
            assert row[name] == placed[name]
        for name in ("slot", "parent_ids", "operators", "nodes", "connections", "image_sha256"):
            assert row[name] == person[name]
        for name in ("generation", "top1_class_index", "top1_confidence"):
            assert row[name] == person[name]
        assert (row["class_name"], row["as_of_generation"]) == (str(row["class_index"]), 5)
        assert row["run_id"] == store.provenance["run_id"]
        assert row["target_fingerprint"] == store.provenance["target_fingerprint"]
        image = decode_png(row["image"]["bytes"], "here")
        assert image.shape == (28, 28, 1)
        assert hashlib.sha256(image.tobytes()).hexdigest() == row["image_sha256"]
        batch = encoding.from_bytes([genomes[row["individual_id"]]])
        assert json.loads(row["genome_json"]) == json.loads(json.dumps(encoding.to_json(batch, 0)))
        kinds = [gene["gene"] for gene in row["genome"]]
        assert kinds.count("node") == row["nodes"] - 4, "inputs are nodes without genes"
        assert kinds.count("connection") == row["connections"]


def test_an_elite_and_its_image_by_name_and_index(small_run: Run) -> None:
    for class_ in ("7", 7):
        assert small_run.elite(class_)["class_index"] == 7
    image = small_run.image(7)
    assert hashlib.sha256(image.tobytes()).hexdigest() == small_run.elite(7)["image_sha256"]
    assert small_run.image(7, size=50).shape == (50, 50, 1)
    assert small_run.image(7, size=(20, 30)).shape == (20, 30, 1)
    for unknown in ("eleven", 11, -1):
        with pytest.raises(ConfigError, match=str(unknown)):
            small_run.elite(unknown)
    for size in (0, (5, 0), 100_000):
        with pytest.raises(ConfigError, match="size"):
            small_run.image(7, size=size)


def test_class_names_that_are_numbers_come_before_indices(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    options = {"target": net, **GREY, "class_names": [str(9 - i) for i in range(10)]}
    data = {"search": {"offspring": 20, "initial": 20, "generations": 1}, "evaluation": {"pool": "inline"}}
    run = evofool.run(data, out=tmp_path / "run", **options)
    assert run.elite("2")["class_index"] == 7
    assert run.elite(2)["class_name"] == "2"


class Reader(threading.Thread):
    """Reads both views over and over, and keeps what must never get worse."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run_path, self.done, self.frames, self.error = run, threading.Event(), [], None

    def run(self) -> None:
        try:
            while not (self.run_path / "elites" / "elites.parquet").exists() and not self.done.is_set():
                self.done.wait(0.001)
            while not self.done.is_set():
                for place in (self.run_path, self.run_path / "elites"):
                    frame = pd.read_parquet(place)
                    kept = frame[["class_index", "log_odds", "as_of_generation", "image_sha256"]]
                    images = [row["bytes"] for row in frame["image"]]
                    self.frames.append((frame.attrs["evofool"], kept, images))
                self.done.wait(0.01)  # the run needs this process, too
        except BaseException as error:
            self.error = error


@pytest.mark.slow
def test_readers_during_a_run_see_whole_tables_that_only_get_better(config: Config, tmp_path: Path) -> None:
    recorder, reader = Recorder(), Reader(tmp_path / "run")
    reader.start()
    try:
        overrides = ["search.generations=15", "search.offspring=20", "storage.commit_every=1"]
        evofool.run(config, overrides, out=tmp_path / "run", observers=[recorder])
    finally:
        reader.done.set()
        reader.join()
    if reader.error:
        raise reader.error
    committed = dict(recorder.commits)
    best, newest = pd.Series(-np.inf, index=range(10)), -1
    for attrs, frame, images in reader.frames:
        assert attrs["archive_hash"] == committed[attrs["generation"]], "the view of a commit"
        # pandas opens a folder's file for its schema and again for its rows, which may then be those of a newer view.
        assert len(frame["as_of_generation"].unique()) == 1, "rows of one table, not of two"
        assert frame["as_of_generation"].iloc[0] >= attrs["generation"]
        assert frame["class_index"].tolist() == list(range(10)), "each class once"
        assert attrs["generation"] >= newest
        log_odds = frame.set_index("class_index")["log_odds"]
        assert (log_odds >= best).all()
        best, newest = log_odds, attrs["generation"]
        for image, sha256 in zip(images, frame["image_sha256"]):
            assert hashlib.sha256(decode_png(image, "here").tobytes()).hexdigest() == sha256
    assert len({attrs["generation"] for attrs, _, _ in reader.frames}) >= 4, "the reader was there during the run"


def test_a_view_comes_with_the_first_commit_and_then_as_rarely_as_asked_for(config: Config, tmp_path: Path) -> None:
    seen = []

    class Look(evofool.Observer):
        def on_generation(self, event: GenerationPlaced) -> None:
            place = tmp_path / "run" / "elites" / "elites.parquet"
            seen.append(set(pd.read_parquet(place)["as_of_generation"]) if place.exists() else None)

    evofool.run(config, ["storage.snapshot_every=1000"], out=tmp_path / "run", observers=[Look()])
    assert seen == [None, *[{1}] * 5]
    assert set(pd.read_parquet(tmp_path / "run")["as_of_generation"]) == {5}, "but always at the end"
    evofool.resume(tmp_path / "run", ["search.generations=9"], observers=[Look()])
    assert seen[6:] == [{5}] * 3


@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_readers_see_what_is_committed_though_the_view_on_disk_is_older_or_missing(
    config: Config, tmp_path: Path, kind: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evofool.run(config, {"encoding.kind": kind, "search.generations": 3}, out=tmp_path / "run")
    place = run.path / "elites" / "elites.parquet"
    first, old = run.elites(), place.read_bytes()
    new = evofool.resume(run.path, "search.generations=6").elites()
    assert not new["individual_id"].equals(first["individual_id"])
    (tmp_path / "empty").mkdir()
    for blob in (old, None):
        place.unlink() if blob is None else place.write_bytes(blob)
        before, seen = tree(run.path), evofool.open_run(run.path)
        for _ in range(2):
            pd.testing.assert_frame_equal(seen.elites(), new)
        assert seen.elites().attrs == new.attrs and np.array_equal(seen.image("3"), run.image("3"))
        ids = [row["individual_id"] for row in json.loads(command("elites", run.path, "--json")[1])]
        assert ids == new["individual_id"].tolist()
        rows = re.findall(r"^\d +\S.* (\d+)$", command("elites", run.path)[1], flags=re.MULTILINE)
        assert rows == [str(i) for i in new["individual_id"]]
        assert f"{new['log_odds'][3]:.6g}" in command("show", run.path, "3")[1]
        assert command("export", run.path, "--out", tmp_path / "empty", "--sheet-only")[0] == 0
        assert tree(run.path) == before, "readers never write"
    # A machine that draws other pictures shows the figures, and for pictures the view there is.
    monkeypatch.setattr(view, "draw", lambda encoding, genomes: draw(encoding, genomes) ^ 1)
    code, out, _ = command("elites", run.path)
    assert code == 0 and all(str(i) in out for i in new["individual_id"])
    code, _, err = command("show", run.path, "3")
    assert code == 3 and "numerics of this machine" in err and f"evofool resume {run.path}" in err
    place.write_bytes(old)
    with pytest.warns(UserWarning, match="elites of generation 2, not the newest"):
        pd.testing.assert_frame_equal(evofool.open_run(run.path).elites(), first)


def png(width: int, height: int, colour: int = 0, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(mode: str, kind: str) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (4, 4)).save(sink, format=kind)
    return sink.getvalue()


HOSTILE = {
    "empty": b"",
    "text": b"not a picture",
    "other format": saved("RGB", "BMP"),
    "transparent": saved("RGBA", "PNG"),
    "palette": saved("P", "PNG"),
    "cut short": saved("RGB", "PNG")[:-30],
    "no rows": png(4, 4),
    "large": png(10_000, 10_000),
    "larger": png(60_000, 60_000),
    "wide": png(2**31 - 1, 1),
    "no size": png(0, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_hostile_picture_is_corrupt_data(name: str) -> None:
    with pytest.raises(CorruptData, match="where it was found"):
        decode_png(HOSTILE[name], "where it was found")


# -------------------------------------------------------------------------------------------------------- lineage


@pytest.mark.parametrize("kind", ["cppn", "direct"])
@pytest.mark.parametrize(("lag", "selection"), [(1, "cells"), (2, "individuals"), (3, "cells")])
def test_every_individual_is_bred_again_from_the_parents_it_names(
    config: Config, tmp_path: Path, kind: str, lag: int, selection: str
) -> None:
    """From stored rows alone: the parents' genomes, the seed and the individual's address give its genome again."""
    config = with_keys(
        config,
        f"encoding.kind={kind}",
        f"search.lag={lag}",
        f"search.selection={selection}",
        "search.offspring=40",
        "search.generations=8",
        "variation.crossover_rate=0.5",
        "variation.rewire_connection=0.3",
    )
    store = RunStore(evofool.run(config, out=tmp_path / "run").path)
    encoding, seed = encoding_of(store), config.seed
    people = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    genomes = store.genomes(set(people))
    archive, after = archives.empty(10), {}
    for placements, top1, *_ in generations(store):
        archive = after[placements.generation] = archives.restore(archive, placements, top1)

    def check(row: dict[str, Any], batch: Any) -> None:
        assert hashlib.sha256(encoding.to_bytes(batch, row["slot"])).hexdigest() == row["genome_sha256"]

    with_two, operators = 0, set()
    for generation in range(config.search.generations or 0):
        members = [row for row in people.values() if row["generation"] == generation]
        if generation < lag:
            batch = variation.initial(encoding, seed, generation, config.search.initial)
            for row in members:
                assert (row["parent_ids"], row["operators"]) == ([], ["initial"])
                check(row, batch)
            continue
        elites = after[generation - lag].elites
        candidates = elites[elites != NO_PARENT] if selection == "cells" else np.unique(elites[elites != NO_PARENT])
        uniform = rng.uniforms(seed, "select", generation, (40, 2))
        # A child's genome must not depend on who else was bred: all other slots get one and the same parent.
        anybody = genomes[min(genomes)]
        first, second = [anybody] * 40, [anybody] * 40
        for row in members:
            drawn = [int(candidates[int(u * len(candidates))]) for u in uniform[row["slot"]]]
            assert row["parent_ids"] == drawn[: len(row["parent_ids"])] and row["parent_ids"]
            first[row["slot"]] = genomes[row["parent_ids"][0]]
            if len(row["parent_ids"]) == 2:
                second[row["slot"]] = genomes[row["parent_ids"][1]]
                with_two += 1
        arguments = (encoding, config.variation, seed, generation)
        children, crossed = variation.mate(*arguments, encoding.from_bytes(first), encoding.from_bytes(second))
        children, bits = variation.mutate(*arguments, children)
        for row in members:
            assert crossed[row["slot"]] == (len(row["parent_ids"]) == 2)
            names = ["crossover"] * int(crossed[row["slot"]]) + operator_names(int(bits[row["slot"]]))
            assert row["operators"] == names
            operators |= set(names)
            check(row, children)
    assert with_two >= 3 and "crossover" in operators
    assert any(len(set(row["parent_ids"])) == 2 for row in people.values()), "some have two different parents"


def test_every_lineage_goes_back_to_a_random_individual(small_run: Run) -> None:
    lag = small_run.config.search.lag
    people = RunStore(small_run.path).table("individuals").to_pandas().set_index("individual_id")
    deepest = 0
    for identity in small_run.elites()["individual_id"]:
        lineage = small_run.lineage(int(identity)).set_index("individual_id")
        assert lineage.index[0] == identity and lineage.index.is_monotonic_decreasing and lineage.index.is_unique
        for member, row in lineage.iterrows():
            parents = set(row["parent_ids"])
            assert parents <= set(lineage.index)
            assert all(people.loc[parent, "generation"] <= row["generation"] - lag for parent in parents)
            assert bool(parents) != (row["generation"] < lag)
            assert list(row["operators"]) == list(people.loc[member, "operators"])
        named = {parent for parents in lineage["parent_ids"] for parent in parents}
        assert named == set(lineage.index[1:]), "nobody is in it who is no ancestor"
        deepest = max(deepest, len(lineage))
    assert deepest > 2
    assert small_run.lineage(hex(int(identity))).equals(small_run.lineage(int(identity)))


def test_lineage_names_the_classes_that_each_ancestor_held(small_run: Run) -> None:
    placements = small_run.placements()
    for identity in small_run.elites()["individual_id"].unique():
        for row in small_run.lineage(int(identity)).to_dict("records"):
            took = placements.loc[placements["individual_id"] == row["individual_id"], "class_name"]
            assert row["classes"] == took.tolist() != []


def test_lineage_of_nobody_is_refused(small_run: Run) -> None:
    with pytest.raises(ConfigError, match="only those that took a cell are stored"):
        small_run.lineage((5 << 24) + 9_999)
    with pytest.raises(ConfigError, match="zz"):
        small_run.lineage("zz")


def test_lineage_of_a_seeded_run_ends_in_an_origin(small_run: Run, tmp_path: Path) -> None:
    config = with_keys(small_run.config, "seed=5", "search.lag=1")
    run = evofool.run(config, out=tmp_path / "seeded", seed_from=[small_run.path])
    old = {f"{small_run.provenance['run_id']}:{i:x}" for i in small_run.elites()["individual_id"]}
    for identity in run.elites()["individual_id"]:
        lineage = run.lineage(int(identity))
        ends = lineage[lineage["parent_ids"].map(len) == 0]
        assert len(ends) and (ends["generation"] == 0).all()
        assert set(ends["origin"]) <= old
        assert lineage.loc[lineage["parent_ids"].map(len) > 0, "origin"].isna().all()


# --------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("kind", "lag", "insertion", "selection"),
    [
        ("cppn", 1, "every_class", "cells"),
        ("direct", 1, "argmax", "individuals"),
        ("cppn", 2, "argmax", "cells"),
        ("direct", 2, "every_class", "individuals"),
        ("cppn", 4, "argmax", "individuals"),
        ("direct", 4, "every_class", "cells"),
    ],
)
def test_stops_and_kills_anywhere_give_the_same_archive(
    config: Config, tmp_path: Path, kind: str, lag: int, insertion: str, selection: str
) -> None:
    config = with_keys(
        config,
        f"encoding.kind={kind}",
        f"search.lag={lag}",
        f"search.insertion={insertion}",
        f"search.selection={selection}",
        "search.offspring=20",
        "search.initial=15",
        "search.generations=9",
        "variation.crossover_rate=0.3",
    )
    whole = evofool.run(config, out=tmp_path / "whole")
    path = tmp_path / "pieces"
    with pytest.raises(Stopped):  # before the first commit
        evofool.run(config, out=path, observers=[Recorder(kill_after=0)])
    evofool.run(config, ["search.generations=1"], out=path)
    evofool.resume(path, ["search.generations=3"])
    with pytest.raises(Stopped):  # between commits, and with one more behind it
        evofool.resume(path, ["search.generations=9"], observers=[Recorder(kill_after=6)])
    assert evofool.open_run(path).status()["generation"] == 5
    pieces = evofool.resume(path)
    assert pieces.archive_hash == whole.archive_hash
    names = [field for field in Statistics.__dataclass_fields__ if field != "seconds"]
    pd.testing.assert_frame_equal(pieces.history()[names], whole.history()[names])
    pd.testing.assert_frame_equal(pieces.placements(), whole.placements())
    pd.testing.assert_frame_equal(pieces.elites().drop(columns="run_id"), whole.elites().drop(columns="run_id"))


def test_another_seed_lag_or_rate_is_another_archive(config: Config, tmp_path: Path) -> None:
    """The hash tells runs apart, so that equal hashes above mean something."""
    changes = ("seed=1", "seed=2", "search.lag=1", "variation.mutation_rate=0.2", "search.insertion=argmax")
    short = ["search.generations=5", "search.offspring=20"]
    hashes = {evofool.run(config, [*short, change], out=tmp_path / change).archive_hash for change in changes}
    assert len(hashes) == len(changes)


def test_resume_of_a_finished_run_is_a_no_op(copy: Path) -> None:
    before, times = tree(copy), {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.name not in ("lock", "_evofool")}
    recorder = Recorder()
    run = evofool.resume(copy, observers=[recorder])
    assert run.archive_hash == evofool.open_run(copy).archive_hash
    assert tree(copy) == before
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.name not in ("lock", "_evofool")} == times
    assert recorder.statistics == [] and "nothing to do" in recorder.stops[0]


def test_a_run_may_move_between_sessions(config: Config, tmp_path: Path) -> None:
    whole = evofool.run(config, out=tmp_path / "whole").archive_hash
    evofool.run(config, ["search.generations=3"], out=tmp_path / "first")
    (tmp_path / "far" / "away").mkdir(parents=True)
    shutil.move(tmp_path / "first", tmp_path / "far" / "away" / "renamed")
    assert evofool.resume(tmp_path / "far" / "away" / "renamed", ["search.generations=6"]).archive_hash == whole


def test_weights_may_move_but_not_change_between_sessions(config: Config, lenet_file: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = evofool.run(config, out=tmp_path / "whole").archive_hash
    path = evofool.run(config, ["search.generations=3"], out=tmp_path / "run").path
    moved, other = tmp_path / "moved.safetensors", tmp_path / "other.safetensors"
    shutil.copy(lenet_file, moved)
    tensors = load_file(lenet_file)
    tensors["7.bias"][0] += 1
    save_file(tensors, other, {"format": "evofool.lenet.1", "class_names": json.dumps([str(i) for i in range(10)])})
    before = tree(path)
    with pytest.raises(IncompatibleRun, match="--seed-from") as caught:
        evofool.resume(path, [f"target.spec=lenet:{other}", "search.generations=6"])
    assert caught.value.exit_code == 3
    assert tree(path) == before
    assert evofool.resume(path, [f"target.spec=lenet:{moved}", "search.generations=6"]).archive_hash == whole
    assert evofool.resume(path).config.target.spec == f"lenet:{moved}"


def test_a_target_that_was_loaded_may_be_given_as_it_is(config: Config, lenet_file: Path, tmp_path: Path) -> None:
    whole = evofool.run(config, out=tmp_path / "whole").archive_hash
    target = evofool.load_target(f"lenet:{lenet_file}")
    path = evofool.run(config, ["search.generations=3"], target=target, out=tmp_path / "run").path
    assert evofool.open_run(path).config.target.spec == "live"
    assert evofool.resume(path, ["search.generations=6"], target=target).archive_hash == whole
    with pytest.raises(ConfigError, match="live module; give it again"):
        evofool.resume(path)


TARGET_CODE = f"""
import torch
import evofool

def build():
    generator = torch.Generator().manual_seed(3)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 10))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    preprocessing = evofool.Preprocessing((12, 12), 3, (127.0,) * 3, (128.0,) * 3, resize=10, crop=8)
    return evofool.Target(net, preprocessing, {NAMES!r})
"""

SEMANTIC = [key for key in OTHER if key not in KINDS]
# The run below is inline and stops after two generations; its shapes are 16 and 8.
ALTERNATIVES = {**OTHER, "evaluation.pool": "ray", "search.generations": 3}
NUMERICS = {"chunk": 32, "micro_batch": 4, "threads": 2, "memory_format": "contiguous", "precision": "bfloat16"}


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generations against a network for which every key has another valid value: in colour, and cropped."""
    folder = tmp_path_factory.mktemp("colour")
    (folder / "net.py").write_text(TARGET_CODE)
    data = {
        "target": {"spec": f"python:{folder / 'net.py'}:build"},
        "search": {"offspring": 16, "initial": 16, "generations": 2},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 1},
    }
    return evofool.run(data, out=folder / "run", allow_code=True).path


@pytest.fixture
def colour_copy(colour_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(colour_run, tmp_path / "copy"))


@pytest.mark.parametrize("key", [key for key in SEMANTIC if key != "target.combine"])  # which wants several networks
def test_a_semantic_key_that_changes_is_another_run(colour_run: Path, tmp_path: Path, key: str) -> None:
    value = OTHER[key]
    if key == "target.spec":
        (tmp_path / "other.py").write_text(TARGET_CODE + "\n# other code\n")
        value = f"python:{tmp_path / 'other.py'}:build"
    before = tree(colour_run)
    with pytest.raises(IncompatibleRun) as caught:
        evofool.resume(colour_run, [f"{key}={json.dumps(value)}", "search.generations=3"], allow_code=True)
    assert caught.value.exit_code == 3
    message = caught.value.message
    assert f"--seed-from {colour_run}" in message
    if key != "target.spec":
        assert f"\n  {key}: {flatten(RunStore(colour_run).config)[key]!r} -> {value!r}\n" in message
        assert len(re.findall(r"^  \S+: .* -> ", message, re.MULTILINE)) == 1
    assert tree(colour_run) == before


@pytest.fixture(scope="module")
def colour_hash(colour_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """The archive hash of that run after three generations."""
    path = shutil.copytree(colour_run, tmp_path_factory.mktemp("hash") / "run")
    return evofool.resume(path, ["search.generations=3"], allow_code=True).archive_hash


@pytest.mark.parametrize("key", [key for key, kind in KINDS.items() if kind in ("operational", "stopping")])
def test_operational_and_stopping_keys_may_change(colour_copy: Path, colour_hash: str, key: str) -> None:
    overrides = [f"{key}={json.dumps(ALTERNATIVES[key])}"]
    if key != "evaluation.pool":  # with ray it is enough that a finished run is found to be one
        overrides.append("search.generations=3")
    run = evofool.resume(colour_copy, overrides, allow_code=True)
    assert flatten(RunStore(colour_copy).config)[key] == ALTERNATIVES[key]
    assert run.archive_hash == (colour_hash if key != "evaluation.pool" else evofool.open_run(colour_copy).archive_hash)


@pytest.mark.parametrize("name", [*NUMERICS, "device", "compile"])
def test_a_numerics_key_that_changes_is_refused(colour_run: Path, name: str) -> None:
    value = {**NUMERICS, "device": "cuda", "compile": "default"}[name]
    before = tree(colour_run)
    with pytest.raises(IncompatibleRun) as caught:
        evofool.resume(colour_run, [f"evaluation.{name}={value}", "search.generations=3"], allow_code=True)
    assert caught.value.exit_code == 3
    old = RunStore(colour_run).provenance["numerics"][name]
    assert f"\n  evaluation.{name}: {old!r} -> {value!r}\n" in caught.value.message
    assert "--allow-numerics-change" in caught.value.message
    assert tree(colour_run) == before


@pytest.mark.parametrize("name", NUMERICS)
def test_an_allowed_change_of_numerics_is_an_epoch_of_the_next_commit(colour_copy: Path, name: str) -> None:
    override = f"evaluation.{name}={NUMERICS[name]}"
    recorder = Recorder()
    evofool.resume(
        colour_copy,
        [override, "search.generations=3"],
        allow_code=True,
        allow_numerics_change=True,
        observers=[recorder],
    )
    assert any("numerics epoch 1" in text for text in recorder.warnings)
    commits = RunStore(colour_copy).log.commits
    assert [commit.numerics["epoch"] for commit in commits] == [0, 0, 1]
    assert commits[-1].numerics[name] == NUMERICS[name] != commits[0].numerics[name]
    # What was allowed once goes on without being allowed again, and is no further epoch.
    evofool.resume(colour_copy, ["search.generations=4"], allow_code=True)
    assert RunStore(colour_copy).log.commits[-1].numerics == commits[-1].numerics


def test_the_shapes_a_run_has_may_be_said_aloud(colour_copy: Path, colour_hash: str) -> None:
    said = ["evaluation.chunk=16", "evaluation.micro_batch=8", "evaluation.memory_format=channels_last"]
    run = evofool.resume(colour_copy, [*said, "evaluation.device=cpu", "search.generations=3"], allow_code=True)
    assert run.archive_hash == colour_hash


def test_another_canary_is_refused_unless_allowed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluator, "canary", lambda self: "0" * 64)
    monkeypatch.setattr(provenance, "facts", lambda: {"processor": "another", "cores": 2})
    before = tree(copy)
    with pytest.raises(IncompatibleRun, match="--allow-numerics-change") as caught:
        evofool.resume(copy, ["search.generations=5"])
    assert caught.value.exit_code == 3
    assert tree(copy) == before
    evofool.resume(copy, ["search.generations=5"], allow_numerics_change=True)
    last = RunStore(copy).log.last
    assert last is not None and (last.numerics["canary"], last.numerics["epoch"]) == ("0" * 64, 1)


def test_a_python_target_is_not_run_again_because_a_run_names_it(colour_run: Path) -> None:
    before = tree(colour_run)
    with pytest.raises(ConfigError, match="--allow-code"):
        evofool.resume(colour_run, ["search.generations=3"])
    assert tree(colour_run) == before


def test_modes_of_resume(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "run"
    config = with_keys(config, "search.generations=1")
    with pytest.raises(ConfigError, match="no run to go on with"):
        evofool.run(config, out=path, resume="must")
    with pytest.raises(ConfigError, match="not auto, must or never"):
        evofool.run(config, out=path, resume="always")
    assert not path.exists()
    made = evofool.run(config, out=path, resume="never").archive_hash
    before = tree(path)
    with pytest.raises(ConfigError, match="is there already"):
        evofool.run(config, out=path, resume="never")
    with pytest.raises(ConfigError, match="no such run"):
        evofool.resume(tmp_path / "other")
    assert tree(path) == before
    assert evofool.run(config, out=path, resume="must").archive_hash == made
    assert evofool.run(config, ["search.generations=2"], out=path, resume="auto").archive_hash != made


def test_the_default_place_is_path_and_name_with_the_seed(config: Config, tmp_path: Path) -> None:
    overrides = [f"storage.path={tmp_path / 'all'}", "name=r{seed}", "seed=3", "search.generations=1"]
    assert evofool.run(config, overrides).path == tmp_path / "all" / "r3"


@pytest.mark.parametrize("kind", ["file", "foreign", "link", "dangling", "linked file"])
def test_what_is_there_already_is_left_alone(config: Config, finished: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_bytes(b"mine")
    elif kind == "foreign":
        place.mkdir()
        (place / "thesis.tex").write_bytes(b"mine")
    elif kind == "linked file":
        (tmp_path / "file").write_bytes(b"mine")
        place.symlink_to(tmp_path / "file")
    else:
        place.symlink_to(finished if kind == "link" else tmp_path / "nowhere")
    before, run_before = tree(tmp_path), tree(finished)
    with pytest.raises(ConfigError, match=re.escape(str(place))):
        evofool.run(config, out=place)
    assert (tree(tmp_path), tree(finished)) == (before, run_before)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_made_beforehand_is_used(config: Config, tmp_path: Path) -> None:
    (tmp_path / "run" / "_evofool").mkdir(parents=True)
    assert evofool.run(config, ["search.generations=1"], out=tmp_path / "run").archive_hash


def test_a_run_that_never_began_leaves_nothing(config: Config, tmp_path: Path) -> None:
    with pytest.raises(evofool.EvofoolError):
        evofool.run(config, ["evaluation.device=cuda"], out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_nothing_on_disk_is_a_pickle(small_run: Run) -> None:
    for name, blob in tree(small_run.path).items():
        assert name.endswith((".parquet", ".json", ".yaml"))
        assert not blob.startswith(b"\x80") and b"cpickle" not in blob.lower()
        if name.endswith(".parquet"):
            metadata = pq.read_schema(io.BytesIO(blob)).metadata
            assert metadata[b"schema_version"] == b"1"
    assert isinstance(yaml.safe_load((small_run.path / "_evofool" / "config.yaml").read_text()), dict)
    assert isinstance(pq.read_table(small_run.path / "elites").schema.field("image").type, pa.StructType)
