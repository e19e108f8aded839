"""What a TAB offers, asked for as shells do: in a process of its own, by environment variables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import evofool
from evofool.config import Config, load_config, preset_names

EXECUTABLE = str(Path(sys.executable).with_name("evofool"))


def offered(folder: Path, *words: str, shell: str = "bash") -> list[str]:
    """What is offered for the last of the words, which is the one being typed."""
    asked = {"COMP_WORDS": "\n".join(["evofool", *words]), "COMP_CWORD": str(len(words))}
    if shell == "zsh":
        asked = {"_TYPER_COMPLETE_ARGS": " ".join(["evofool", *words])}
    result = subprocess.run(
        [EXECUTABLE],
        env=os.environ | asked | {"_EVOFOOL_COMPLETE": f"complete_{shell}"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stderr == ""  # it would land in the line being typed
    return result.stdout.strip("\n").split("\n") if result.stdout.strip() else []


@pytest.fixture
def folder(config: Config, tmp_path: Path) -> Path:
    """A folder with a run of classes whose names have spaces, another in a folder below, and a config."""
    names = [*map(str, range(7)), "tiger cat", "tiger beetle", "café"]
    evofool.run(load_config(config, ["search.generations=1"]), out=tmp_path / "runs" / "first")
    view = tmp_path / "runs" / "first" / "elites" / "elites.parquet"
    rename(view, names)
    (tmp_path / "more" / "second" / "_evofool").mkdir(parents=True)
    (tmp_path / "runs" / "pictures").mkdir()  # no run
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    (tmp_path / "more" / "other.yml").write_text("seed: 1\n")
    return tmp_path


def rename(view: Path, names: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(view)
    column = table.schema.get_field_index("class_name")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(names)), view)


@pytest.mark.slow
def test_runs_are_offered_and_then_their_classes(folder: Path) -> None:
    for verb in ("show", "resume", "status", "elites", "verify", "export"):
        assert offered(folder, verb, "") == ["runs/first"]
    assert offered(folder, "show", "mo") == []  # bash goes on with its own files
    assert offered(folder, "show", "more/") == ["more/second"]
    assert offered(folder, "show", "./runs/f") == ["./runs/first"]
    assert offered(folder, "merge", "runs/first", "r") == ["runs/first"]

    assert offered(folder, "show", "runs/first", "")[:3] == ["0", "1", "2"]
    assert offered(folder, "show", "runs/first", "c") == ["café"]
    cats = [r"tiger\ cat", r"tiger\ beetle"]
    assert offered(folder, "show", "runs/first", "ti") == cats
    assert offered(folder, "show", "runs/first", r"tiger\ c") == cats[:1]
    plain = ['_arguments \'*: :(("tiger cat"', '"tiger beetle"))\'']
    assert offered(folder, "show", "runs/first", "ti", shell="zsh") == plain


@pytest.mark.slow
def test_nothing_is_offered_and_nothing_said_where_a_run_is_missing_damaged_or_far(folder: Path) -> None:
    assert offered(folder, "show", "runs/third", "") == []
    assert offered(folder, "show", "s3://nowhere/runs/first", "") == []
    (folder / "runs" / "first" / "elites" / "elites.parquet").write_bytes(b"PAR1 and no more")
    assert offered(folder, "show", "runs/first", "") == []


@pytest.mark.slow
def test_presets_and_files_are_offered_for_config(folder: Path) -> None:
    assert set(offered(folder, "run", "")) == {*preset_names(), "mine.yaml"}
    assert offered(folder, "run", "q") == ["quickstart"]
    assert offered(folder, "run", "more/") == ["more/other.yml"]
    for words in (
        "config show",
        "config presets",
        *(f"cluster {verb}" for verb in ("plan", "tune", "doctor", "bench")),
    ):
        assert offered(folder, *words.split(), "quick") == ["quickstart"], words
    assert offered(folder, "cluster", "launch", "sl") == ["slurm"]
    assert offered(folder, "cluster", "launch", "slurm", "quick") == ["quickstart"]
    assert "efficientnet-lite" in offered(folder, "targets", "list", "")


@pytest.mark.slow
def test_a_tab_loads_neither_torch_nor_ray(folder: Path) -> None:
    asked = {"COMP_WORDS": "evofool\nshow\nruns/first\n", "COMP_CWORD": "3", "_EVOFOOL_COMPLETE": "complete_bash"}
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", EXECUTABLE],
        env=os.environ | asked,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.startswith("0\n1\n")
    assert not re.search(r"\| +(torch|ray|pandas|scipy|deap)$", loaded.stderr, flags=re.MULTILINE)
