"""Units of layers as cells: what they rank by is hashed, confidences are null, and a run is a run in all else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from conftest import Command
from numpy.typing import NDArray

import evofool
from evofool.archive.cells import chain_hash
from evofool.base.png import decode_png
from evofool.config import Config, fingerprint, load_config
from evofool.errors import ConfigError, CorruptData, EvofoolError, IncompatibleRun
from evofool.records import Placements
from evofool.runs import verify as verifying
from evofool.targets.zoo.trained import MEAN, STD

UNITS = ["0:*", "2:5@3,4", "5:7:relu"]
NAMES = [*(f"0:{i}" for i in range(20)), "2:5@3,4", "5:7:relu"]


def units(config: Config, *texts: str) -> Config:
    return load_config(config, {"target.readouts": list(texts or UNITS)})


@pytest.fixture
def unit_run(config: Config, tmp_path: Path) -> evofool.Run:
    """A finished run of 22 cells."""
    return evofool.run(units(config), out=tmp_path / "run")


def means(lenet_file: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 20) of each image the mean of each channel of the first convolution, by numpy."""
    tensors = safetensors.numpy.load_file(lenet_file)
    views = np.lib.stride_tricks.sliding_window_view((images[..., 0] - MEAN) / STD, (5, 5), axis=(1, 2))
    found: NDArray[np.float64] = np.einsum("nyxij,cij->nc", views, tensors["0.weight"][:, 0].astype(np.float64)) / 576
    return found + tensors["0.bias"]


def test_each_unit_has_the_elite_that_excites_it_most_and_no_confidence(
    unit_run: evofool.Run, lenet_file: Path
) -> None:
    elites = pd.read_parquet(unit_run.path)
    assert list(elites["class_name"]) == NAMES and list(elites["class_index"]) == list(range(22))
    assert list(elites.columns[1:7]) == ["class_index", "class_name", "layer", "unit", "confidence", "log_odds"]
    assert list(elites["layer"]) == ["0"] * 20 + ["2", "5"] and list(elites["unit"]) == [*range(20), 5, 7]
    assert elites[["confidence", "log_odds"]].isna().all(axis=None)
    images = np.stack([decode_png(image["bytes"], "") for image in elites["image"]])
    own = np.diagonal(means(lenet_file, images))
    np.testing.assert_allclose(elites["objective"][:20], own, atol=1e-5)
    others = means(lenet_file, images)[:, :20]
    assert (others.max(axis=0) <= own + 1e-5).all(), "no other elite excites a unit more: it would have its cell"
    first = unit_run.placements().groupby("cell")["objective"].first()
    assert (elites["objective"] >= first).all() and (elites["objective"] > first).sum() > 15, "it climbs"


def test_tables_have_null_where_units_have_nothing_and_the_hash_is_of_activations(unit_run: evofool.Run) -> None:
    store = unit_run.store
    placements = store.table("placements").to_pandas()
    assert placements[["log_odds", "confidence", "displaced_log_odds"]].isna().all(axis=None)
    people = store.table("individuals").to_pandas().set_index("individual_id")
    chain = bytes(32)
    for generation in range(6):
        rows = placements[placements["generation"] == generation]
        slots, values = (rows["individual_id"] & 0xFFFFFF).to_numpy(np.int32), rows["objective"].to_numpy()
        hashed = Placements(generation, rows["cell"].to_numpy(), slots, values, values, values, values)  # type: ignore[arg-type]
        them = people.loc[rows["individual_id"]]
        images, genomes = ([bytes.fromhex(h) for h in them[f"{of}_sha256"]] for of in ("image", "genome"))
        chain = chain_hash(chain, hashed, images, genomes)
    assert chain.hex() == unit_run.archive_hash
    history, status = unit_run.history(), unit_run.status()
    assert history[["classes_99", "classes_9999", "top1_share"]].isna().all(axis=None)
    assert history["median"].iloc[-1] == unit_run.elites()["objective"].median() == status["median"]
    assert history["minimum"].iloc[-1] == unit_run.elites()["objective"].min()
    assert not {"classes_99", "classes_9999", "top1_share"} & status.keys()


def test_a_cell_that_is_empty_leaves_no_minimum(config: Config, tmp_path: Path) -> None:
    run = evofool.run(
        units(config, "0:0", "0:1", "0:2"),
        ["search.insertion=argmax", "search.generations=1", "search.initial=1", "search.lag=1"],
        out=tmp_path / "run",
    )
    assert run.status()["filled"] == 1 and "minimum" not in run.status() and run.history()["minimum"].isna().all()
    resumed = evofool.resume(run.path, ["search.generations=2"])
    assert resumed.history()["generation"].tolist() == [0, 1]


def test_it_resumes_verifies_replays_and_seeds(config: Config, unit_run: evofool.Run, tmp_path: Path) -> None:
    evofool.run(units(config), ["search.generations=3"], out=tmp_path / "parts")
    assert evofool.resume(tmp_path / "parts", ["search.generations=6"]).archive_hash == unit_run.archive_hash
    proof = evofool.verify(unit_run.path, replay=6)
    assert (proof["bit_for_bit"], proof["elites"], proof["replayed"]) == (22, 22, 6)
    with pytest.raises(IncompatibleRun, match=r"target\.readouts: .* -> \['0:1'\]"):
        evofool.resume(unit_run.path, ["target.readouts=[0:1]"])
    seeded = evofool.run(config, ["search.generations=2"], out=tmp_path / "classes", seed_from=[unit_run.path])
    assert seeded.elites()["confidence"].notna().all(), "elites of units may start a run of classes"


def test_an_activation_that_is_not_the_archived_one_is_found(
    unit_run: evofool.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = verifying.compare_view

    def changed(*given: Any) -> Any:
        rows, images = real(*given)
        rows[3]["objective"] += 1e-3
        return rows, images

    monkeypatch.setattr(verifying, "compare_view", changed)
    with pytest.raises(CorruptData, match=r"class 0:3: its image scores \S+ activation, the archive says"):
        evofool.verify(unit_run.path)


@pytest.mark.slow
@pytest.mark.ray
def test_over_ray_the_archive_is_the_same(unit_run: evofool.Run, config: Config, tmp_path: Path) -> None:
    options = ["evaluation.pool=ray", "evaluation.evaluators=2"]
    assert evofool.run(units(config), options, out=tmp_path / "ray").archive_hash == unit_run.archive_hash


def test_every_command_that_reads_shows_activations(unit_run: evofool.Run, command: Command, tmp_path: Path) -> None:
    path = unit_run.path
    best = unit_run.elites().set_index("class_name")["objective"]
    code, out, _ = command("elites", path, "--sort", "objective", "--limit", 1)
    assert code == 0 and best.idxmax() in out and "activation" in out and "22 of 22 units filled" in out
    assert "confidence" not in out
    code, out, _ = command("elites", path, "--json")
    assert code == 0 and [row["confidence"] for row in json.loads(out)] == [None] * 22
    code, out, _ = command("show", path, "2:5@3,4")
    assert code == 0 and f"{best['2:5@3,4']:.6g}" in out and "confidence" not in out
    code, out, _ = command("show", path, "0:1", "--json")
    assert code == 0 and json.loads(out)["log_odds"] is None and json.loads(out)["unit"] == 1
    assert command("show", path, "0:1", "--format", "python")[1].startswith("# 0:1 (activation ")
    code, out, _ = command("status", path)
    assert code == 0 and "classes_99" not in out
    code, _, _ = command("export", path, "--out", tmp_path / "out")
    assert code == 0 and (tmp_path / "out" / "0020_2_5_3_4.png").is_file()
    assert command("report", path, "--out", tmp_path / "r.html")[0] == 0
    page = (tmp_path / "r.html").read_text()
    assert "median activation" in page and "Activation of the elites" in page and "confidence, highest" not in page
    code, out, _ = command("watch", path, "--once")
    assert code == 0 and "median activation" in out and "quantiles of activation" in out and ">=0.99" not in out
    assert "median activation" in unit_run._repr_html_()
    code, _, err = command("study", "compare", path, path, "--out", tmp_path / "c")
    assert code == 2 and "its cells are of units (target.readouts), not of classes" in err
    assert "activation" in unit_run.plot_curves().get_ylabel()
    with pytest.raises(ConfigError, match="which have no confidence"):
        unit_run.plot_classes()


def test_runs_of_units_and_of_classes_are_reported_apart(
    unit_run: evofool.Run, config: Config, command: Command, tmp_path: Path
) -> None:
    other = evofool.run(config, ["search.generations=1"], out=tmp_path / "classes")
    code, _, err = command("report", unit_run.path, other.path, "--out", tmp_path / "r.html")
    assert code == 2 and "report them apart" in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("target.classes=[3]", "target.readouts: gives cells to units in place of classes"),
        ("search.objective=margin", "search.objective: is margin, but cells of target.readouts rank by"),
        ("search.stop_when=['top1_share > 0.5']", "search.stop_when: top1_share is of classes"),
        ("target.readouts=[0:20]", "target.readouts: 0:20 is of channel 20, and 0 of lenet"),
        ("target.readouts=['0:1@3']", "'0:1@3' is no readout"),
        ("evaluation.compile=default", "compiles the layer 0 away, which target.readouts reads"),
    ],
)
def test_what_makes_no_sense_with_units_is_refused(config: Config, override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        evofool.run(units(config), [override], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_median_of_activations_may_stop_a_run(config: Config, tmp_path: Path) -> None:
    run = evofool.run(units(config), ["search.stop_when=['median >= -100']"], out=tmp_path / "run")
    assert run.status()["generation"] == 0


def test_a_run_without_units_is_what_it_was(config: Config, small_run: evofool.Run) -> None:
    """Its hash and fingerprint: tests/golden and tests/test_stored_runs.py; here that nothing new is in its files."""
    assert (
        fingerprint(config) == fingerprint(load_config(config, {"target.readouts": []})) != fingerprint(units(config))
    )
    assert "units" not in small_run.provenance and not {"layer", "unit"} & set(small_run.elites().columns)


def test_deaps_loop_runs_units_and_no_classifier_can_tell_them(config: Config, unit_run: evofool.Run) -> None:
    from deap import algorithms

    search = evofool.make_search(units(config))
    algorithms.eaGenerateUpdate(search.toolbox, 6)
    assert search.archive_hash.hex() == unit_run.archive_hash
    search.ask()
    with pytest.raises(EvofoolError, match=r"tell\(\): cells are of units"):
        search.tell(np.zeros((50, 10)), "logits")
    with pytest.raises(ConfigError, match=r"target\.readouts: what is asked and told has no layers"):
        evofool.make_search(units(config), image_size=(28, 28), channels=1, class_names=["a", "b"])
