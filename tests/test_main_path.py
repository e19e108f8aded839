"""The main path, in seconds: a run that stops, goes on elsewhere, proves itself and is read in pandas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import Command

import evofool
from evofool.config import Config, to_yaml


@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_a_run_is_made_resumed_verified_and_read(
    config: Config, kind: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(to_yaml(config))
    kinds = [f"encoding.kind={kind}"]
    assert command("run", "c.yaml", *kinds, "search.generations=3", "observers.progress=none")[0] == 0
    assert command("resume", "runs/test", "search.generations=6")[0] == 0
    whole = evofool.run(config, kinds, out="whole")
    code, out, _ = command("verify", "runs/test", "--replay", "6")
    assert code == 0 and f"archive_hash {whole.archive_hash}" in out and "10 bit for bit" in out
    frame = pd.read_parquet("runs/test")
    assert frame["class_name"].tolist() == list("0123456789") and frame["confidence"].between(0, 1).all()
    assert frame.drop(columns=["run_id"]).equals(whole.elites().drop(columns=["run_id"]))
    history = evofool.open_run("runs/test").history()
    assert history["generation"].tolist() == list(range(6)) and history["evaluations"].iloc[-1] == 300
