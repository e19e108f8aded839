"""`storage.history` and compactions: the archive stays the same, only what may go is gone, and a kill costs nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Command
from handmade import Do

import evofool
from evofool.archive.state import State
from evofool.config import Config
from evofool.errors import ConfigError, CorruptData, RunLocked, Stopped, StorageError
from evofool.records import Statistics
from evofool.runs.observers.observer import GenerationPlaced, Warned
from evofool.runs.replay import replay, replayed_from
from evofool.store import compaction, schemas, writing
from evofool.store.commits import TABLES, CommitLog, lock
from evofool.store.compaction import compact
from evofool.store.restore import restore
from evofool.store.run import RunStore
from evofool.store.salvage import salvage

pytestmark = pytest.mark.slow  # whole runs

GENERATIONS, LONGER, LAG = 12, 20, 3
MODES = ("full", "lineage", "elites")


class Listener(evofool.Observer):
    """Keeps warnings, and can end the run on the spot as a kill would."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.kill_after = kill_after
        self.warnings: list[str] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        if event.statistics.generation == self.kill_after:
            raise KeyboardInterrupt

    def on_warning(self, event: Warned) -> None:
        self.warnings.append(event.text)


@pytest.fixture(scope="module")
def finished(lenet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps everything, of many commits. Not to be changed: see `copy`."""
    data = {
        "target": {"spec": f"lenet:{lenet_file}"},
        "search": {"offspring": 25, "initial": 25, "lag": LAG, "generations": GENERATIONS},
        "variation": {"crossover_rate": 0.3},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 1},
    }
    return evofool.run(data, out=tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture(scope="module")
def longer(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> evofool.Run:
    """The same after more generations, never compacted."""
    path = shutil.copytree(finished, tmp_path_factory.mktemp("longer") / "run")
    return evofool.resume(path, [f"search.generations={LONGER}"])


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def go_on(path: Path, *more: str, **options: Any) -> evofool.Run:
    return evofool.resume(path, [f"search.generations={LONGER}", *more], **options)


def table(path: Path, name: str) -> list[dict[str, Any]]:
    return list(RunStore(path).table(name).to_pylist())


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file() and p.name != "lock"
    }


def same_state(a: State | None, b: State | None) -> None:
    """Both would be resumed as the same search."""
    assert a is not None and b is not None
    assert (a.generation, a.archive_hash, a.start_hash) == (b.generation, b.archive_hash, b.start_hash)
    assert a.statistics == b.statistics and a.genomes == b.genomes
    for left, right in zip([a.start, *(p for p, _ in a.pending)], [b.start, *(p for p, _ in b.pending)], strict=True):
        for name, value in vars(left).items():
            assert np.array_equal(value, getattr(right, name)), name
    assert [top1.tolist() for _, top1 in a.pending] == [top1.tolist() for _, top1 in b.pending]


# ------------------------------------------------------------------------------------------------ the same archive


@pytest.mark.parametrize(("kind", "lag", "history"), [("cppn", 1, "elites"), ("direct", 3, "lineage")])
def test_history_changes_no_archive_whatever_happens_to_the_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lag: int, history: str
) -> None:
    keys = [f"encoding.kind={kind}", f"search.lag={lag}", "search.offspring=15", "search.generations=14"]
    whole = evofool.run(config, keys, out=tmp_path / "whole")
    monkeypatch.setattr(compaction, "FLOOR", 20)
    keys += [f"storage.history={history}", "storage.commit_every=1"]
    path = tmp_path / "pieces"
    for kill_after in (3, 4, 9):
        with pytest.raises(Stopped):
            evofool.run(config, keys, out=path, observers=[Listener(kill_after)])
    pieces = evofool.run(config, keys, out=path)
    assert pieces.archive_hash == whole.archive_hash
    names = [field for field in Statistics.__dataclass_fields__ if field != "seconds"]
    pd.testing.assert_frame_equal(pieces.history()[names], whole.history()[names])
    pd.testing.assert_frame_equal(pieces.elites().drop(columns="run_id"), whole.elites().drop(columns="run_id"))
    made = [c.compacts["history"] for c in RunStore(path).log.commits if c.compacts]
    assert len(made) >= 2 and set(made) == {history}
    assert evofool.verify(path)["bit_for_bit"] == len(whole.elites())


@pytest.mark.parametrize("history", MODES)
def test_a_compacted_run_goes_on_as_the_same_search(
    copy: Path, finished: Path, longer: evofool.Run, history: str
) -> None:
    result = compact(RunStore(copy), history)
    assert result.bytes < result.bytes_before / 2
    same_state(restore(RunStore(copy)), restore(RunStore(finished)))
    assert go_on(copy).archive_hash == longer.archive_hash
    evofool.verify(copy)


# ------------------------------------------------------------------------------------------------- what is kept


def needed(path: Path, end: int) -> set[int]:
    """Elites after generation `end` and all from whom the generations in flight descend, from the whole tables."""
    rows = [row for row in table(path, "placements") if row["generation"] <= end]
    then = {row["cell"]: row["individual_id"] for row in rows if row["generation"] <= end - LAG + 1}
    return set(then.values()) | {row["individual_id"] for row in rows if row["generation"] > end - LAG + 1}


@pytest.mark.parametrize("history", ["lineage", "elites"])
def test_exactly_those_who_are_to_be_kept_are_with_all_their_placements(
    copy: Path, finished: Path, history: str
) -> None:
    kept = needed(finished, GENERATIONS - 1)
    if history == "lineage":
        parents = {row["individual_id"]: row["parent_ids"] for row in table(finished, "individuals")}
        frontier = list(kept)
        while frontier:
            frontier = [p for identity in frontier for p in parents[identity] if p not in kept]
            kept.update(frontier)
    assert len(kept) < len(table(finished, "individuals")), "somebody is to go"
    result = compact(RunStore(copy), history)
    for name in ("individuals", "placements", "genomes"):
        assert table(copy, name) == [row for row in table(finished, name) if row["individual_id"] in kept]
    assert table(copy, "history") == table(finished, "history")
    assert result.individuals == len(kept)
    first = GENERATIONS - LAG + 1
    assert result.placements_from == RunStore(copy).log.whole_from == first
    since = [row for row in table(finished, "placements") if row["generation"] >= first]
    assert since and [row for row in table(copy, "placements") if row["generation"] >= first] == since


def test_a_full_compaction_loses_nothing_but_files(copy: Path, finished: Path) -> None:
    compact(RunStore(copy), "full")
    for name, folder in TABLES.items():
        assert table(copy, name) == table(finished, name)
        assert [p.name for p in (copy / folder).iterdir()] == [f"{GENERATIONS:08d}.parquet"]
    assert RunStore(copy).log.whole_from == 0
    assert replay(RunStore(copy), 1000) == GENERATIONS
    commits = sorted((copy / "_evofool" / "commits").iterdir())
    assert len(commits) == GENERATIONS + 1, "the names of commits are never free again"
    assert all(b"compacts" not in path.read_bytes() for path in commits[:-1]), "as versions before wrote them"


def test_compacting_again_makes_no_commit_unless_more_may_go(copy: Path) -> None:
    made = [compact(RunStore(copy), history).commits for history in ("lineage", "full", "lineage", "elites", "full")]
    assert [n - GENERATIONS for n in made] == [1, 1, 1, 2, 2]


def test_what_is_kept_follows_the_key_when_it_changes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FLOOR", 0)
    go_on(copy, "storage.history=elites", "search.generations=14")
    first = RunStore(copy).log.whole_from
    assert first > 0
    listener = Listener()
    path = go_on(copy, "storage.history=full", observers=[listener]).path
    assert [w for w in listener.warnings if "storage.history: full holds from here on" in w and str(first) in w]
    log = RunStore(path).log
    assert log.base and log.base.generation < 14, "no compaction since"
    since = {row["generation"] for row in table(path, "history") if row["generation"] >= first and row["placements"]}
    assert since <= {row["generation"] for row in table(path, "placements")}
    again = Listener()
    go_on(path, "search.generations=21", observers=[again])
    assert again.warnings == [], "said once"


@pytest.mark.parametrize("history", ["lineage", "elites"])
def test_large_genomes_go_and_stay_as_they_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: str
) -> None:
    import torch

    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(48, 4, generator=generator)
    net = Do(lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1) @ weight)
    facts = {"preprocessing": evofool.Preprocessing((48, 48), 3, (127.0,) * 3, (128.0,) * 3), "class_names": "abcd"}
    data = {
        "target": {"spec": "live"},
        "encoding": {"kind": "direct"},
        "search": {"offspring": 12, "initial": 12, "lag": 2, "generations": 12},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 1},
    }
    whole = evofool.run(data, out=tmp_path / "whole", target=net, **facts)
    monkeypatch.setattr(compaction, "FLOOR", 10)
    path = tmp_path / "run"
    for stop in (5, 9, 12):
        keys = [f"storage.history={history}", f"search.generations={stop}"]
        run = evofool.run(data, keys, out=path, target=net, **facts)
    assert run.archive_hash == whole.archive_hash
    assert RunStore(path).log.base is not None
    compact(RunStore(path), history)
    stored = {row["individual_id"] for row in table(path, "genomes")}
    assert stored == restore(RunStore(path)).genomes.keys(), "ancestors' large genomes are gone"
    evofool.verify(path, target=net, **facts)
    # Once nobody of then is an elite any more, the compaction's genomes are dropped as those of any commit are.
    store = RunStore(path)
    store.recover()
    assert store._large.keys() == {store.log.base.number}
    last = store.log.base
    more = {"numerics": last.numerics, "counters": last.counters}
    writing.append(store.log, None, last.generation, last.archive_hash, {}, dropped_genomes=[last.number], **more)
    with pytest.raises(ConfigError, match=r"storage\.history .* large genomes of then are no longer kept"):
        replay(RunStore(path), 5)


# ----------------------------------------------------------------------------------------------- kills and faults


class Dead(BaseException):
    """The process is no more: nothing after this point is done."""


def after(step: int, act: Callable[[], Any]) -> Any:
    """os.fsync, os.link, Path.unlink and os.open fail for good from the step-th call on, by `act`."""
    patch, calls = pytest.MonkeyPatch(), iter(range(10**6))

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls) >= step:
                act()
            return real(*arguments, **options)

        return call

    for owner, name in ((os, "fsync"), (os, "link"), (Path, "unlink"), (os, "open")):
        patch.setattr(owner, name, counted(getattr(owner, name)))
    return contextlib.closing(_Undo(patch))


class _Undo:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.close = patch.undo


def die() -> None:
    raise Dead


def fail() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(("act", "error"), [(die, Dead), (fail, StorageError)])
def test_a_compaction_that_ends_anywhere_leaves_the_run_as_before_or_as_after(
    copy: Path, finished: Path, tmp_path: Path, act: Callable[[], Any], error: type[BaseException]
) -> None:
    expected, outcomes = restore(RunStore(finished)), []
    compact(RunStore(copy), "full")  # few files, so that there are few steps
    for step in range(1000):
        path = Path(shutil.copytree(copy, tmp_path / "run"))
        try:
            with after(step, act):
                compact(RunStore(path), "elites")
        except error:
            done = False
        else:
            done = True
        store = RunStore(path)
        compacted = len(store.log.commits) > GENERATIONS + 1
        outcomes.append((done, compacted))
        store.recover()
        live = {store.log.path(name, number) for name, number, _ in store.log.live_files()}
        assert {p for folder in TABLES.values() for p in (path / folder).iterdir()} == live
        same_state(restore(store), expected)
        if len(outcomes) < 2 or outcomes[-2] != outcomes[-1]:
            evofool.verify(path)
            assert compact(RunStore(path), "elites").commits == GENERATIONS + 2
        shutil.rmtree(path)
        if done:
            break
    assert outcomes[0] == (False, False) and outcomes[-1] == (True, True)
    assert (False, True) in outcomes, "ended between the commit and the last file that goes"
    assert len(outcomes) > 25


def test_damage_is_not_compacted_away(copy: Path) -> None:
    path = RunStore(copy).log.path("placements", 2)
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)
    before = tree(copy)
    with pytest.raises(CorruptData, match=r"placements/00000002\.parquet"):
        compact(RunStore(copy), "elites")
    assert tree(copy) == before


def test_what_could_not_be_read_back_is_not_written(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(copy)
    largest = max(RunStore(copy).table(name).combine_chunks().nbytes for name in TABLES)
    monkeypatch.setattr(schemas, "MAX_BYTES", largest * 9 // 10)
    with pytest.raises(ConfigError, match=r"storage\.history: full .* keep less"):
        compact(RunStore(copy), "full")
    assert tree(copy) == before


@pytest.mark.parametrize("name", [*TABLES, "commit"])
def test_a_flipped_bit_in_a_compaction_is_found(copy: Path, tmp_path: Path, name: str) -> None:
    compact(RunStore(copy), "lineage")
    log = RunStore(copy).log
    path = log.folder / f"{GENERATIONS:08d}.json" if name == "commit" else log.path(name, GENERATIONS)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(CorruptData, match=path.name):
            restore(RunStore(copy))
    with pytest.raises(CorruptData, match=f"nothing can be salvaged; .*{path.name}"):
        salvage(copy, tmp_path / "saved")


@pytest.mark.parametrize(
    "facts",
    [
        {"history": "some"},
        {"generation": GENERATIONS},
        {"generation": -2},
        {"generation": True},
        {"archive_hash": "0"},
        {"more": 1},
    ],
)
def test_a_commit_that_cannot_be_a_compaction_is_refused(copy: Path, facts: dict[str, Any]) -> None:
    compact(RunStore(copy), "lineage")
    commit = RunStore(copy).log.commits[-1]
    path = RunStore(copy).log.folder / f"{commit.number:08d}.json"
    for forged in (
        replace(commit, compacts={**commit.compacts, **facts}),
        replace(commit, generation=commit.generation - 1),
        replace(commit, archive_hash="0" * 64),
    ):
        path.write_bytes(forged.to_json())
        with pytest.raises(CorruptData, match=path.name):
            CommitLog(copy)
    path.write_bytes(replace(commit, compacts={**commit.compacts, "archive_hash": "0" * 64}).to_json())
    with pytest.raises(CorruptData, match="the archive hash of generation"):
        restore(RunStore(copy))


def test_damage_after_a_compaction_costs_what_came_after(copy: Path, tmp_path: Path, longer: evofool.Run) -> None:
    compact(RunStore(copy), "elites")
    go_on(copy)
    RunStore(copy).log.path("history", GENERATIONS + 3).write_bytes(b"")
    saved = salvage(copy, tmp_path / "saved")
    assert (saved.commits, saved.generations) == (GENERATIONS + 3, GENERATIONS + 2)
    assert f"{GENERATIONS + 3:08d}.parquet" in saved.reason
    assert go_on(tmp_path / "saved").archive_hash == longer.archive_hash


@pytest.mark.parametrize(("history", "kind"), [("full", "bit"), ("elites", "missing")])
def test_damage_to_commits_before_a_compaction_costs_nothing(
    copy: Path, tmp_path: Path, longer: evofool.Run, command: Command, kind: str, history: str
) -> None:
    longer_copy = shutil.copytree(longer.path, tmp_path / "longer")
    compact(RunStore(copy), history)
    newest = go_on(copy).archive_hash
    log, state = RunStore(copy).log, restore(RunStore(copy))
    for number in (1, 3):
        path = log.folder / f"{number:08d}.json"
        if kind == "bit":
            path.write_bytes(path.read_bytes().replace(b'"generation": ', b'"generation": 1'))
        else:
            path.unlink()
    code, out, _ = command("verify", copy, "--salvage", tmp_path / "saved")
    assert code == 0 and "00000001.json" in out and newest in out
    saved = RunStore(tmp_path / "saved")
    assert [commit.number for commit in saved.log.commits] == list(range(len(log.commits) - GENERATIONS))
    same_state(restore(saved), state)
    further = ["search.generations=22"]
    assert evofool.resume(tmp_path / "saved", further).archive_hash == evofool.resume(longer_copy, further).archive_hash
    evofool.verify(tmp_path / "saved", replay=2)


def test_damage_before_and_after_a_compaction_costs_what_came_after(copy: Path, tmp_path: Path) -> None:
    compact(RunStore(copy), "elites")
    go_on(copy)
    log = RunStore(copy).log
    (log.folder / "00000000.json").write_bytes(b"{}")
    (log.folder / f"{GENERATIONS + 3:08d}.json").unlink()
    saved = salvage(copy, tmp_path / "saved")
    assert (saved.commits, saved.generations) == (3, GENERATIONS + 2)
    assert saved.archive_hash == log.commits[GENERATIONS + 2].archive_hash
    assert "00000000.json" in saved.reason


# ---------------------------------------------------------------------------------------------------------- readers


def test_lineage_is_whole_under_lineage_and_says_where_it_ends_under_elites(
    copy: Path, finished: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    elites = evofool.open_run(finished).elites()
    deepest = int(elites.loc[elites["generation"].idxmax(), "individual_id"])
    whole = evofool.open_run(finished).lineage(deepest)
    assert whole["generation"].min() < LAG and whole.attrs["evofool"]["not_kept"] == []
    compact(RunStore(copy), "lineage")
    pd.testing.assert_frame_equal(evofool.open_run(copy).lineage(deepest), whole)
    compact(RunStore(copy), "elites")
    kept = {row["individual_id"] for row in table(copy, "individuals")}
    short = evofool.open_run(copy).lineage(deepest)
    assert set(short["individual_id"]) <= kept and len(short) < len(whole)
    ends = {p for parents in short["parent_ids"] for p in parents} - kept
    assert short.attrs["evofool"]["not_kept"] == sorted(ends) and ends
    shown = elites.loc[elites["individual_id"] == deepest, "class_name"].iloc[0]
    assert f"storage.history: elites has not kept {len(ends)} of the ancestors" in command("show", copy, shown)[1]
    assert json.loads(command("show", copy, shown, "--json")[1])["ancestors_not_kept"] == sorted(ends)
    gone = min(ends)
    with pytest.raises(ConfigError, match=r"storage\.history has dropped"):
        evofool.open_run(copy).lineage(gone)
    # Under lineage nobody may be missing.
    other = Path(shutil.copytree(finished, tmp_path / "other"))
    monkeypatch.setattr(compaction, "_is_in", lambda rows, ids, real=compaction._is_in: real(rows, set(ids) - {gone}))
    compact(RunStore(other), "lineage")
    with pytest.raises(CorruptData, match=f"the parent {gone} "):
        evofool.open_run(other).lineage(deepest)


def test_readers_are_told_what_is_whole(copy: Path, finished: Path, command: Command) -> None:
    status = json.loads(command("status", copy, "--json")[1])
    assert (status["history"], status["placements_from"]) == ("full", 0)
    assert evofool.open_run(copy).placements().attrs["evofool"] == {"whole_from": 0}  # and warns of nothing
    compact(RunStore(copy), "elites")
    first = GENERATIONS - LAG + 1
    assert json.loads(command("status", copy, "--json")[1])["placements_from"] == first
    with pytest.warns(UserWarning, match=rf"storage\.history kept only some .* before generation {first}"):
        placements = evofool.open_run(copy).placements()
    whole = evofool.open_run(finished).placements()
    both = [frame[frame["generation"] >= first].reset_index(drop=True) for frame in (placements, whole)]
    pd.testing.assert_frame_equal(*both, check_dtype=False)  # ids that may be null are objects in pandas
    pd.testing.assert_frame_equal(evofool.open_run(copy).history(), evofool.open_run(finished).history())


@pytest.mark.parametrize("history", ["lineage", "elites"])
def test_a_run_started_from_a_compacted_one_is_the_same(
    copy: Path, finished: Path, config: Config, tmp_path: Path, history: str
) -> None:
    compact(RunStore(copy), history)
    hashes = [
        evofool.run(config, out=tmp_path / f"{i}", seed_from=[path]).archive_hash
        for i, path in enumerate((finished, copy))
    ]
    assert hashes[0] == hashes[1]


def test_a_reader_is_not_disturbed_by_a_compaction_meanwhile(
    copy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = schemas.from_parquet

    def late(path: Path, schema: Any, blob: Any) -> Any:
        if path.stem == f"{GENERATIONS - 1:08d}" and RunStore(copy).log.base is None:
            with monkeypatch.context() as patch:
                patch.setattr(schemas, "from_parquet", real)
                compact(RunStore(copy), "lineage")
        return real(path, schema, blob)

    expected = evofool.open_run(finished).history()
    monkeypatch.setattr(schemas, "from_parquet", late)
    pd.testing.assert_frame_equal(evofool.open_run(copy).history(), expected)
    assert RunStore(copy).log.base is not None
    RunStore(copy).log.path("history", GENERATIONS).unlink()
    with pytest.raises(CorruptData, match="history"):
        evofool.open_run(copy).history()


def test_replay_begins_at_the_compaction(copy: Path, command: Command) -> None:
    compact(RunStore(copy), "lineage")
    with pytest.raises(ConfigError, match=r"storage\.history dropped placements .* before 12"):
        replay(RunStore(copy), 5)
    go_on(copy)
    assert replayed_from(RunStore(copy)) == GENERATIONS
    assert replay(RunStore(copy), 1000) == LONGER - GENERATIONS
    said = command("verify", copy, "--replay", 5)[1]
    assert "5 of them bred again from generation 12 on" in said
    assert "placements are whole from generation 10 on" in said
    store = RunStore(copy)
    rows = table(copy, "individuals")
    last = next(row for row in reversed(rows) if row["parent_ids"] and row["generation"] >= GENERATIONS)
    table_of = store.table

    def forged(name: str, since: int = 0) -> Any:
        if name != "individuals":
            return table_of(name, since)
        changed = [{**row, "parent_ids": [1]} if row["individual_id"] == last["individual_id"] else row for row in rows]
        return schemas.pa.Table.from_pylist(changed, schema=schemas.INDIVIDUALS)

    store.table = forged  # type: ignore[method-assign]
    with pytest.raises(CorruptData, match="gives other parents"):
        replay(store, 1000)


def test_the_command(copy: Path, tmp_path: Path, command: Command, config: Config) -> None:
    before = sum(p.stat().st_size for folder in TABLES.values() for p in (copy / folder).iterdir())
    (copy / "_evofool" / "individuals" / "00000099.parquet").write_bytes(b"left by a kill")
    code, out, _ = command("compact", copy, "--history", "lineage", "--json")
    result = json.loads(out)
    assert code == 0
    now = sum(p.stat().st_size for folder in TABLES.values() for p in (copy / folder).iterdir())
    assert (result["bytes_before"], result["bytes"]) == (before, now) and now < before
    assert result["archive_hash"] == evofool.open_run(copy).archive_hash
    code, out, _ = command("compact", copy, "--history", "elites")
    assert code == 0 and f"{now:,} bytes before" in out and "whole from generation 10 on" in out
    assert command("compact", copy)[0] == 0
    assert RunStore(copy).config.storage.history == "full", "only what was asked for"
    assert command("compact", copy, "--history", "all")[0] == 2
    assert command("compact", tmp_path / "none")[0] == 2
    with lock(copy):
        assert command("compact", copy)[0] == RunLocked.exit_code
    with pytest.raises(Stopped):
        evofool.run(config, out=tmp_path / "begun", observers=[Listener(0)])
    code, _, err = command("compact", tmp_path / "begun")
    assert code == 2 and "has no commit yet" in err
