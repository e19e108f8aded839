"""`verify --replay`: everybody was bred as the run says. `verify --salvage`: what is whole of a damaged run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Command

import evofool
from evofool.config import Config, load_config
from evofool.errors import ConfigError, CorruptData
from evofool.runs.replay import replay
from evofool.store import files, schemas
from evofool.store.restore import restore
from evofool.store.run import RunStore
from evofool.store.salvage import salvage

pytestmark = pytest.mark.slow  # whole runs


@pytest.fixture
def longer(config: Config) -> Config:
    """12 generations, a commit after every third."""
    keys = {"offspring": 40, "initial": 40, "generations": 12}
    return load_config({**config.model_dump(), "search": keys, "storage": {"commit_every": 3}})


@pytest.fixture
def run(longer: Config, tmp_path: Path) -> evofool.Run:
    return evofool.run(longer, out=tmp_path / "run")


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


# ------------------------------------------------------------------------------------------------------------ replay


@pytest.mark.parametrize(
    "keys",
    [
        ["encoding.kind=cppn", "search.lag=1"],
        ["encoding.kind=cppn", "search.lag=3", "search.insertion=argmax"],
        ["encoding.kind=direct", "search.lag=2", "search.selection=individuals"],
    ],
)
def test_everybody_can_be_bred_again(longer: Config, tmp_path: Path, keys: list[str]) -> None:
    path = evofool.run(longer, keys, out=tmp_path / "run").path
    for generations, expected in ((5, 5), (12, 12), (1000, 12)):
        assert replay(RunStore(path), generations) == expected
    assert evofool.verify(path, replay=12)["replayed"] == 12


def test_a_seeded_run_can_be_bred_again(run: evofool.Run, longer: Config, tmp_path: Path) -> None:
    seeded = evofool.run(longer, ["seed=2"], out=tmp_path / "seeded", seed_from=[run.path])
    assert replay(RunStore(seeded.path), 12) == 12


def changed(path: Path, column: str, value: Any) -> None:
    """Change one value of the last individual and sign the new file, as somebody would who hides it."""
    store = RunStore(path)
    number = max(n for table, n, _ in store.log.live_files() if table == "individuals")
    file = store.log.path("individuals", number)
    rows = pq.read_table(file).to_pylist()
    rows[-1][column] = value
    data = schemas.to_parquet(rows, schemas.INDIVIDUALS)
    file.write_bytes(data)
    commit = path / "_evofool" / "commits" / f"{number:08d}.json"
    facts = json.loads(commit.read_bytes())
    store.log.commits[number].files["individuals"].update(
        size=len(data), sha256=files.sha256_of(file), rows=facts["files"]["individuals"]["rows"]
    )
    commit.write_bytes(store.log.commits[number].to_json())


@pytest.mark.parametrize(("column", "value"), [("parent_ids", [1, 2]), ("operators", ["crossover"])])
def test_a_false_ancestry_is_found_though_every_checksum_is_right(run: evofool.Run, column: str, value: Any) -> None:
    last = max(row["individual_id"] for row in RunStore(run.path).table("individuals").to_pylist())
    changed(run.path, column, value)
    restore(RunStore(run.path))  # as files, all is well
    with pytest.raises(CorruptData, match=f"individual {last} .*gives other {column.partition('_')[0]}"):
        replay(RunStore(run.path), 12)


def test_replay_is_a_number_above_0(run: evofool.Run, command: Command) -> None:
    assert "12 generations, 4 of them bred again" in command("verify", run.path, "--replay", 4)[1]
    assert command("verify", run.path, "--replay", 0)[0] == 2


# ----------------------------------------------------------------------------------------------------------- salvage


def test_a_whole_run_is_copied_and_goes_on_as_it_would_have(run: evofool.Run, longer: Config, tmp_path: Path) -> None:
    before = tree(run.path)
    saved = salvage(run.path, tmp_path / "saved")
    assert (saved.commits, saved.generations, saved.reason) == (4, 12, "")
    assert tree(run.path) == before
    resumed = evofool.resume(tmp_path / "saved", ["search.generations=20"])
    assert resumed.archive_hash == evofool.run(longer, ["search.generations=20"], out=tmp_path / "other").archive_hash
    evofool.verify(tmp_path / "saved")


def damage(path: Path, kind: str) -> str:
    """Damage the third commit or one of its files; what of it will be named."""
    commit = path / "_evofool" / "commits" / "00000002.json"
    table = path / "_evofool" / "individuals" / "00000002.parquet"
    if kind == "commit missing":
        commit.unlink()
        return commit.name
    if kind == "file missing":
        table.unlink()
        return "individuals/00000002.parquet"
    victim = commit if kind.startswith("commit") else table
    data = bytearray(victim.read_bytes())
    if kind.endswith("cut"):
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    return victim.name


@pytest.mark.parametrize("kind", ["commit missing", "commit bit", "commit cut", "file missing", "file bit", "file cut"])
def test_the_longest_whole_prefix_is_saved(run: evofool.Run, tmp_path: Path, command: Command, kind: str) -> None:
    expected = RunStore(run.path).log.commits[1].archive_hash
    whole = run.archive_hash
    named = damage(run.path, kind)
    before = tree(run.path)
    with pytest.raises(CorruptData):
        evofool.verify(run.path)
    code, out, _ = command("verify", run.path, "--salvage", tmp_path / "saved")
    assert code == 0
    assert f"2 commits, 6 generations, archive_hash {expected}" in out
    assert named in out
    assert tree(run.path) == before
    saved = RunStore(tmp_path / "saved")
    assert saved.provenance["salvaged_from"]["commits"] == 2
    assert saved.log.last is not None
    assert evofool.resume(tmp_path / "saved").archive_hash == whole  # nothing was lost but time
    evofool.verify(tmp_path / "saved", replay=12)


def test_what_cannot_be_salvaged_leaves_nothing_behind(run: evofool.Run, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        salvage(run.path, tmp_path / "there")
    shutil.copytree(run.path, tmp_path / "bad")
    for path in (tmp_path / "bad" / "_evofool" / "genomes").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CorruptData, match=r"nothing can be salvaged; .*genomes"):
        salvage(tmp_path / "bad", tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
