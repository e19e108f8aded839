"""Cells that are a class and a bin: three a class, from placing to pandas."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import evofool
from evofool.base.png import decode_png
from evofool.config import Config, to_yaml
from evofool.errors import CorruptData
from evofool.evaluate import problem
from evofool.records import Cells
from evofool.targets.target import Target

BINS = 3


def third(images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Dark, grey or bright."""
    return np.digitize(images.mean(axis=(1, 2, 3)), [115, 140]).astype(np.int32)


def cells_of(config: Config, target: Target) -> Cells:
    return Cells(target.class_indices(config.target.classes), BINS, third)


# A run of this configuration that is killed as soon as a generation was bred and scored.
KILLED = """
import os, sys
import evofool, test_bins
from evofool.evaluate import problem

class Killer(evofool.Observer):
    def on_generation(self, event):
        if event.statistics.generation == 4:
            os.kill(os.getpid(), 9)

problem.cells_of = test_bins.cells_of
evofool.run(sys.argv[1], out=sys.argv[2], observers=[Killer()])
"""


@pytest.fixture
def binned(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(problem, "cells_of", cells_of)
    return config


@pytest.mark.slow
def test_three_bins_a_class_are_placed_committed_killed_resumed_verified_and_read(
    binned: Config, tmp_path: Path
) -> None:
    whole = evofool.run(binned, out=tmp_path / "whole")
    (tmp_path / "c.yaml").write_text(to_yaml(binned))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "c.yaml"), str(tmp_path / "killed")]
    assert subprocess.run(command, cwd=Path(__file__).parent).returncode == -signal.SIGKILL
    assert evofool.open_run(tmp_path / "killed").status()["generation"] == 3
    run = evofool.resume(tmp_path / "killed")
    assert run.archive_hash == whole.archive_hash != evofool.run(binned, ["seed=2"], out=tmp_path / "two").archive_hash
    assert evofool.verify(run.path, replay=6)["bit_for_bit"] == run.status()["filled"] > 10

    frame = pd.read_parquet(run.path)
    assert list(frame.columns[:4]) == ["run_id", "class_index", "class_name", "bin"]
    assert frame.equals(run.elites()) and not frame.duplicated(["class_index", "bin"]).any()
    assert set(frame["bin"]) == set(range(BINS)) and len(frame) > frame["class_index"].nunique()
    images = np.stack([decode_png(image["bytes"], "elite") for image in frame["image"]])
    assert third(images).tolist() == frame["bin"].tolist()
    best = frame.loc[frame[frame["class_index"] == 3]["log_odds"].idxmax()]
    assert run.elite("3")["individual_id"] == best["individual_id"]
    placements = run.placements()
    assert (placements["cell"] // BINS == placements["class_index"]).all() and placements["cell"].max() >= 10


def test_an_elite_in_a_bin_that_is_not_its_own_is_found(
    binned: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evofool.run(binned, out=tmp_path / "run")
    monkeypatch.setattr(problem, "cells_of", lambda *of: Cells(cells_of(*of).classes, BINS, lambda i: 2 - third(i)))
    with pytest.raises(CorruptData, match="belongs into bin"):
        evofool.verify(run.path)
