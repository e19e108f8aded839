"""`evofool run --design`: effects that were planted are found, and runs and table survive what stops them."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Command
from scipy.stats import ttest_rel

import evofool
from evofool.errors import IncompatibleRun, Stopped, StorageError
from evofool.evaluate import sharing
from evofool.runs import designs
from evofool.runs.observers.observer import GenerationPlaced
from evofool.studies.design import FIGURES, effects

FACTORS = {"planted": ["no", "yes"], "nothing": ["a", "b"], "seeded": ["x", "y"]}


def made_up(seeds: int, noise: float = 0.0) -> pd.DataFrame:
    """Runs whose figures are the seed's own, 0.25 more with `planted`, and `noise` times anything with `seeded`."""
    numbers = np.random.default_rng(5)
    rows = []
    for seed in range(seeds):
        own = {figure: float(numbers.integers(64)) for figure in FIGURES}
        shift = noise * numbers.normal()
        for planted, nothing, seeded in itertools.product(*FACTORS.values()):
            more = 0.25 * (planted == "yes") + shift * (seeded == "y")
            row = {figure: value + more for figure, value in own.items()}
            rows.append({"planted": planted, "nothing": nothing, "seeded": seeded, "seed": str(seed), **row})
    return pd.DataFrame(rows)


def test_a_planted_effect_is_found_and_nothing_is_exactly_nothing() -> None:
    runs = made_up(4, noise=1.0)
    found = {(row["factor"], row["figure"]): row for row in effects(runs.sample(frac=1, random_state=1), FACTORS)}
    for figure in FIGURES:
        planted, nothing, seeded = (found[factor, figure] for factor in FACTORS)
        assert planted["value"] == pytest.approx(0.25, abs=1e-12) and planted["verdict"] == "higher"
        assert planted["low"] == pytest.approx(0.25, abs=1e-12) == pytest.approx(planted["high"], abs=1e-12)
        assert (nothing["value"], nothing["low"], nothing["high"], nothing["verdict"]) == (0.0, 0.0, 0.0, "no effect")
        by_seed = [runs[runs["seeded"] == level].groupby("seed")[figure].mean() for level in ("y", "x")]
        expected = ttest_rel(*by_seed).confidence_interval()  # another implementation
        assert (seeded["low"], seeded["high"]) == pytest.approx(tuple(expected))
        assert seeded["n"] == 4 and seeded["verdict"] == "no effect" and seeded["null"] == "no difference"
    single = effects(made_up(1), FACTORS)
    assert all(row["low"] is None and row["verdict"] == "one seed" and row["n"] == 1 for row in single)


def test_one_factor_at_a_time_is_compared_with_the_run_that_has_all_at_the_first_level() -> None:
    runs = made_up(3)
    away = (runs[list(FACTORS)] != [levels[0] for levels in FACTORS.values()]).sum(axis=1)
    found = effects(runs[away <= 1], FACTORS)
    assert {(row["factor"], row["value"], row["n"]) for row in found} == {
        ("planted", 0.25, 3),
        ("nothing", 0.0, 3),
        ("seeded", 0.0, 3),
    }


@pytest.fixture
def design(tmp_path: Path, lenet_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four combinations of two seeds: twice the images, and something that changes nothing."""
    monkeypatch.chdir(tmp_path)
    network = shutil.copy(lenet_file, tmp_path / "net.safetensors")
    base = {
        "target": {"spec": f"lenet:{network}"},
        "search": {"offspring": 20, "initial": 20, "max_evaluations": 60},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 1},
    }
    Path("base.yaml").write_text(yaml.safe_dump(base))
    factors = {
        "images": {"few": {}, "more": {"search.max_evaluations": 120}},
        "nothing": {"often": {}, "rarely": {"storage.commit_every": 7}},
    }
    content = {"name": "d", "config": "base.yaml", "factors": factors, "seeds": [1, 2]}
    Path("design.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path / "design.yaml"


def result(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The table without what is another in every run."""
    return frame.drop(columns="run_id").to_dict("records")


@pytest.mark.slow
def test_runs_of_a_design_are_those_made_alone_by_evaluators_opened_once(
    design: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = sharing.open_pool
    monkeypatch.setattr(sharing, "open_pool", lambda *a, **k: opened.append(1) or real(*a, **k))
    code, out, said = command("run", "--design", design)
    assert code == 0 and len(opened) == 1 and "run 8 of 8: images more, nothing rarely, seed 2" in said
    frame = pd.read_parquet("runs/d/design.parquet")
    assert [*frame.columns[:4]] == ["images", "nothing", "run", "seed"] and len(frame) == 8
    pd.testing.assert_frame_equal(frame, pd.read_csv("runs/d/design.csv", dtype={"seed": str}))
    alone = evofool.run("base.yaml", ["seed=2", "search.max_evaluations=120"], out="alone")
    [same] = frame[(frame["images"] == "more") & (frame["nothing"] == "often") & (frame["seed"] == "2")].to_dict(
        "records"
    )
    assert same["archive_hash"] == alone.archive_hash, "what another run left in flight is not this run's"
    inside = evofool.open_run(Path("runs/d") / same["run"])
    assert inside.provenance["sessions"][-1]["evaluations"] == 120, "and is not counted with it"
    assert same["mean"] == pytest.approx(alone.elites()["confidence"].sum() / 10)

    summary = json.loads(Path("runs/d/design.json").read_text())["summary"]
    of = {(row["factor"], row["figure"]): row for row in summary}
    assert all(
        (of["nothing", f]["value"], of["nothing", f]["low"], of["nothing", f]["high"]) == (0, 0, 0) for f in FIGURES
    )
    assert (of["images", "evaluations"]["value"], of["images", "evaluations"]["verdict"]) == (60, "higher")
    assert (
        of["images", "median_log_odds"]["value"] > 0
        and "no effect" in out
        and "<svg" in Path("runs/d/design.svg").read_text()
    )

    before = Path("runs/d/design.csv").read_bytes()
    monkeypatch.setattr(designs.runner, "run", None)  # nothing is run again
    assert command("run", "--design", design)[0] == 0
    assert Path("runs/d/design.csv").read_bytes() == before


class Signal(evofool.Observer):
    """Sends this process a signal in the fourth generation placed."""

    def __init__(self, number: int) -> None:
        self.number, self.left = number, 4

    def on_generation(self, event: GenerationPlaced) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), self.number)


@pytest.mark.slow
def test_what_stops_a_design_costs_nothing_that_was_done(design: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(design.read_text())
    del content["factors"]["nothing"]
    design.write_text(yaml.safe_dump({**content, "seeds": [1]}))
    whole = evofool.run_design(design, out="whole")
    with pytest.raises(Stopped) as stopped:
        evofool.run_design(design, out="cut", observers=[Signal(signal.SIGTERM)])
    assert "1 of 2 runs" in str(stopped.value.safe) and "the same command" in str(stopped.value.go_on)
    code = (
        "import sys, test_design as t, evofool; evofool.run_design('design.yaml', out='cut', observers=[t.Signal(9)])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    calls = itertools.count()
    with monkeypatch.context() as patch:
        real = os.fsync

        def full(handle: int) -> None:
            if next(calls) > 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="disk is full") as refused:
            evofool.run_design(design, out="cut")
    assert "1 of 2 runs" in str(refused.value.safe) and "the same command" in str(refused.value.go_on)
    mended = evofool.run_design(design, out="cut")
    assert result(mended.frame) == result(whole.frame) and mended.effects == whole.effects
    assert mended.sentence == whole.sentence


@pytest.mark.slow
def test_runs_of_another_network_or_length_are_not_mixed_in(design: Path) -> None:
    text = design.read_text()
    design.write_text(text.replace("- 1\n- 2\n", "- 1\n"))
    evofool.run_design(design)
    Path("base.yaml").write_text(Path("base.yaml").read_text().replace("max_evaluations: 60", "max_evaluations: 40"))
    with pytest.raises(evofool.EvofoolError, match="3 generations, more than the design asks for"):
        evofool.run_design(design)
    Path("base.yaml").write_text(Path("base.yaml").read_text().replace("max_evaluations: 40", "max_evaluations: 60"))
    evofool_lenet(Path("net.safetensors"))
    design.write_text(text)
    with pytest.raises(IncompatibleRun, match="scored by another network"):
        evofool.run_design(design)


def evofool_lenet(path: Path) -> None:
    """Another network in place of the one in a file."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) * 1.5 for name in file.keys()}  # noqa: SIM118 - no dict
        metadata = file.metadata()
    save_file(tensors, str(path), metadata)
