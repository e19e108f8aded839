"""What a TAB offers, asked for as shells do: by environment variables."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

import evofool
from evofool.cli import app
from evofool.config import Config, load_config, preset_names

EXECUTABLE = str(Path(sys.executable).with_name("evofool"))
Offered = Callable[..., list[str]]


@pytest.fixture
def offered(capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """What is offered, in the folder, for the last of some words, which is the one being typed."""
    monkeypatch.chdir(folder)

    def ask(*words: str, shell: str = "bash") -> list[str]:
        asked = {"COMP_WORDS": "\n".join(["evofool", *words]), "COMP_CWORD": str(len(words))}
        if shell == "zsh":
            asked = {"_TYPER_COMPLETE_ARGS": " ".join(["evofool", *words])}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (asked | {"_EVOFOOL_COMPLETE": f"complete_{shell}"}).items():
                patch.setenv(name, value)
            capsys.readouterr()
            with contextlib.suppress(SystemExit):
                get_command(app).main([], prog_name="evofool")
        out, err = capsys.readouterr()
        assert err == ""  # it would land in the line being typed
        return out.strip("\n").split("\n") if out.strip() else []

    return ask


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
def test_runs_are_offered_and_then_their_classes(offered: Offered) -> None:
    for verb in ("show", "resume", "status", "elites", "verify", "export"):
        assert offered(verb, "") == ["runs/first"]
    assert offered("show", "mo") == []  # bash goes on with its own files
    assert offered("show", "more/") == ["more/second"]
    assert offered("show", "./runs/f") == ["./runs/first"]
    assert offered("merge", "runs/first", "r") == ["runs/first"]

    assert offered("show", "runs/first", "")[:3] == ["0", "1", "2"]
    assert offered("show", "runs/first", "c") == ["café"]
    cats = [r"tiger\ cat", r"tiger\ beetle"]
    assert offered("show", "runs/first", "ti") == cats
    assert offered("show", "runs/first", r"tiger\ c") == cats[:1]
    plain = ['_arguments \'*: :(("tiger cat"', '"tiger beetle"))\'']
    assert offered("show", "runs/first", "ti", shell="zsh") == plain


@pytest.mark.slow
def test_of_a_run_that_is_missing_damaged_or_far_nothing_is_offered(folder: Path, offered: Offered) -> None:
    assert offered("show", "runs/third", "") == []
    assert offered("show", "s3://nowhere/runs/first", "") == []
    (folder / "runs" / "first" / "elites" / "elites.parquet").write_bytes(b"PAR1 and no more")
    assert offered("show", "runs/first", "") == []


@pytest.mark.slow
def test_presets_and_files_are_offered_for_config(offered: Offered) -> None:
    assert set(offered("run", "")) == {*preset_names(), "mine.yaml"}
    assert offered("run", "q") == ["quickstart"]
    assert offered("run", "more/") == ["more/other.yml"]
    for words in (
        "config show",
        "config presets",
        *(f"cluster {verb}" for verb in ("plan", "tune", "doctor", "bench")),
    ):
        assert offered(*words.split(), "quick") == ["quickstart"], words
    assert offered("cluster", "launch", "sl") == ["slurm"]
    assert offered("cluster", "launch", "slurm", "quick") == ["quickstart"]
    assert "efficientnet-lite" in offered("targets", "list", "")


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
