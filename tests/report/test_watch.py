"""Following a run: what is told is what was committed, each commit is read once, and any terminal can show it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.watching import on_a_terminal
from conftest import ROOT, Command
from rich.cells import cell_len
from rich.console import Console

import evofool
from evofool.cli import watch
from evofool.errors import CorruptData, RunNotFound, StorageError
from evofool.report.screen import lines, screen
from evofool.report.watch import QUANTILES, Follower, Glance
from evofool.store.commits import TABLES, CommitLog, lock
from evofool.store.compaction import compact
from evofool.store.run import RunStore

FIXTURE = ROOT / "tests" / "fixtures" / "cppn"


def followed(path: Path) -> Follower:
    follower = Follower(path)
    follower.catch_up()
    return follower


def bring(path: Path, commits: range, source: Path = FIXTURE) -> None:
    """Copy a run as far as some commits, as whoever mirrors it does: tables first."""
    for folder in ("elites", *TABLES.values(), "_evofool/commits"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    for name in ("run.json", "config.yaml"):
        shutil.copy(source / "_evofool" / name, path / "_evofool" / name)
    for number in commits:
        for folder in (*TABLES.values(), "_evofool/commits"):
            for file in (source / folder).glob(f"{number:08d}.*"):
                shutil.copy(file, path / folder)


def test_quantiles_and_counts_are_those_of_the_cells() -> None:
    glance, run = followed(FIXTURE).glance(), evofool.open_run(FIXTURE)
    history, placements = run.history(), run.placements()
    assert glance.history["evaluations"].tolist() == history["evaluations"].tolist() == glance.samples[:, 0].tolist()
    assert glance.samples[:, -2:].tolist() == history[["classes_99", "classes_9999"]].to_numpy().tolist()
    for generation, row in enumerate(glance.samples):
        last = placements[placements["generation"] <= generation].groupby("cell").last()
        assert np.allclose(row[1:6], np.quantile(last["log_odds"], QUANTILES))
        assert row[6] == (last["confidence"] >= 0.9).sum()
    held = last.sort_values("individual_id", ascending=False)["individual_id"].unique()
    assert [elite.individual_id for elite in glance.newest] == held[: len(glance.newest)].tolist()
    assert all(elite.picture is not None for elite in glance.newest)
    assert glance.ended and glance.rates[1] > 0 and glance.left == 0


def test_each_commit_is_read_once_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int]] = []
    original = CommitLog.read
    monkeypatch.setattr(
        CommitLog,
        "read",
        lambda log, table, number, facts: (read.append((table, number)), original(log, table, number, facts))[1],
    )
    bring(tmp_path, range(1))
    follower = followed(tmp_path)
    bring(tmp_path, range(1, 3))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert follower.catch_up() and not follower.catch_up()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    tables = [entry for entry in read if entry[0] != "genomes"]
    assert sorted(tables) == sorted((table, number) for table in ("history", "placements") for number in range(3))
    assert same(follower.glance(), followed(FIXTURE).glance())


def same(one: Glance, other: Glance) -> bool:
    arrays = [(one.samples, other.samples), *((one.history[name], other.history[name]) for name in other.history)]
    pictures = [(a.picture, b.picture) for a, b in zip(one.newest, other.newest)]
    alike = all(np.array_equal(a, b) for a, b in (*arrays, *pictures))  # type: ignore[arg-type]
    return alike and [e.names for e in one.newest] == [e.names for e in other.newest] and one.last == other.last


@pytest.mark.parametrize("history", ["full", "elites"])
def test_a_compaction_on_the_way_changes_nothing(tmp_path: Path, history: str) -> None:
    bring(tmp_path, range(3))
    follower = followed(tmp_path)
    before = follower.glance()
    with lock(tmp_path):
        compact(RunStore(tmp_path), history)
    assert follower.catch_up() and same(follower.glance(), before)
    # Whoever comes later has no quantiles of generations whose placements are gone.
    later = followed(tmp_path).glance()
    assert len(later.samples) == (len(before.samples) if history == "full" else 1)
    assert later.samples[-1].tolist() == before.samples[-1].tolist()
    assert later.history["median"].tolist() == before.history["median"].tolist()


def test_another_run_at_the_place_is_begun_anew(tmp_path: Path) -> None:
    bring(tmp_path / "run", range(3))
    follower = followed(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    bring(tmp_path / "run", range(2), source=ROOT / "tests" / "fixtures" / "direct")
    assert follower.catch_up()
    assert same(follower.glance(), followed(tmp_path / "run").glance()) and follower.glance().encoding == "direct"


def hostile(glance: Glance) -> Glance:
    name = "\x1b]0;owned\x07\x1b[31m[bold]</title>\u202e" + "x" * 300
    newest = tuple(replace(elite, names=(name, name)) for elite in glance.newest)
    return replace(glance, name=name, target=name, newest=newest, note=name)


@pytest.mark.parametrize(("width", "height"), [(20, 8), (50, 50), (80, 24), (120, 44), (300, 80)])
def test_it_fits_every_terminal_and_names_cannot_steer_it(width: int, height: int) -> None:
    seen = followed(FIXTURE).glance()
    for glance in (seen, hostile(seen), replace(seen, ended=False), Glance("new", "new", "t", "cppn", 10)):
        console = Console(
            file=(out := io.StringIO()), width=width, height=height, force_terminal=True, color_system=None
        )
        console.print(screen(glance, width, height))
        shown = out.getvalue()
        assert "\x1b" not in shown and "\x07" not in shown and "\u202e" not in shown
        assert all(cell_len(line) <= width for line in shown.splitlines())
        assert shown.count("\n") < height or height < 24
    assert "\x1b" not in "\n".join(lines(hostile(seen)))


# --------------------------------------------------------------------------------------------------- the command line


def test_a_pipe_gets_a_plain_snapshot(command: Command) -> None:
    code, out, _ = command("watch", FIXTURE)
    assert code == 0 and "8 generations of 8" in out and "quantiles" in out and "\x1b" not in out
    assert command("watch", FIXTURE, "--once")[1] == out


def test_a_run_without_a_commit_is_no_error(tmp_path: Path, command: Command) -> None:
    bring(tmp_path, range(0))
    code, out, _ = command("watch", tmp_path)
    assert code == 0 and "nothing committed yet" in out
    follower = followed(tmp_path)
    assert not follower.glance().last
    bring(tmp_path, range(3))
    assert follower.catch_up() and same(follower.glance(), followed(FIXTURE).glance())


def test_what_is_no_sound_run_is_refused_in_a_sentence(tmp_path: Path, command: Command) -> None:
    bring(tmp_path, range(3))
    table = tmp_path / "_evofool/placements/00000001.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    facts = tmp_path / "_evofool" / "run.json"
    for do, code, text in (
        (lambda: None, 4, "00000001.parquet: damaged"),
        (
            lambda: facts.write_text(facts.read_text().replace('"schema_version": 1', '"schema_version": 2')),
            4,
            "run.json",
        ),
        (lambda: shutil.rmtree(tmp_path), 2, "no such run"),
    ):
        do()
        found, _, said = command("watch", tmp_path)
        assert found == code and text in said and said.count("\n") == 1


@pytest.mark.slow
def test_neither_torch_nor_ray_is_loaded() -> None:
    code = (
        "import sys, os; from evofool import cli\n"
        "for words in (['watch'], ['show', '0', '--format', 'svg'], ['show', '0', '--format', 'python']):\n"
        "    sys.argv = ['evofool', words[0], sys.argv[-1], *words[1:]]; run = sys.argv[2]\n"
        "    try: cli.main()\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "    sys.argv.append(run)\n"
        "assert not {'torch', 'ray', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(FIXTURE)], check=True, stdout=subprocess.DEVNULL)


def wait_for(written: bytearray, text: bytes) -> None:
    until = time.monotonic() + 60
    while text not in written:
        assert time.monotonic() < until, bytes(written[-2000:])
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        lambda process, tty: os.write(tty, b"q"),
        pytest.param(lambda process, tty: process.send_signal(signal.SIGINT), marks=pytest.mark.proof),
    ],
)
def test_it_goes_on_with_the_run_until_it_is_told_to_end(tmp_path: Path, end: Callable[..., Any]) -> None:
    bring(tmp_path, range(1))
    with on_a_terminal("watch", tmp_path) as (process, tty, written):
        wait_for(written, b"3 generations")
        bring(tmp_path, range(1, 3))
        wait_for(written, b"8 generations")
        end(process, tty)
        assert process.wait(30) == 0
    assert written.rstrip().endswith(b"\x1b[?1049l") and "▀".encode() in written


def test_what_stands_in_the_way_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsteady:
        trouble: Exception | None = None

        def catch_up(self) -> bool:
            if self.trouble:
                raise self.trouble
            return False

        def glance(self) -> Glance:
            return Glance("run", "run", "t", "cppn", 10)

    follower = Unsteady()
    follower.trouble = StorageError("s3://bucket/run: cannot read it (no answer in time).")
    reader = watch._Reader(follower, 0.01)  # type: ignore[arg-type]
    until = time.monotonic() + 5
    while not reader.said() and time.monotonic() < until:
        time.sleep(0.01)
    assert "no answer in time" in reader.said() and "tries again" in reader.said()
    monkeypatch.setattr(watch, "PATIENCE", 0.0)
    follower.trouble = CorruptData("a table: damaged.")
    with pytest.raises(CorruptData):
        while time.monotonic() < until:
            reader.said()
            time.sleep(0.01)
    follower.trouble = RunNotFound("gone")
    with pytest.raises(RunNotFound):
        while time.monotonic() < until:
            time.sleep(0.05)
            reader.said()
