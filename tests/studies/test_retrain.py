"""Chains of networks that learn from what fooled those before them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from contract.planted import coloured, striped
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evofool.base.png import decode_png
from evofool.base.source import Source
from evofool.errors import ConfigError, IncompatibleRun
from evofool.store.reader import open_run
from evofool.studies.retrain import Options, _plan
from evofool.studies.shared.bands import LEVELS, Bands, bands
from evofool.studies.shared.fooling_class import DEFENCES, UNSEEN, Chain, _distinct, images_of
from evofool.studies.shared.statistics import clustered_medians
from evofool.studies.study import Outcome, Work, conduct
from evofool.targets.families import load_target
from evofool.targets.training.again import read_taught
from evofool.targets.training.datasets import load_dataset
from evofool.targets.training.losses import LOSSES, OUTLIER
from evofool.targets.training.train import Recipe, train_network

FIRST = 16


def options(folder: Path, **more: Any) -> Options:
    """Of a study of a few seconds."""
    config = folder / "search.yaml"
    config.write_text(
        "target: {spec: 'lenet:none'}\nsearch: {offspring: 20, initial: 20}\nstorage: {commit_every: 1}\n"
    )
    small = {"iterations": 2, "seeds": 1, "least": 1, "generations": 3, "first": FIRST, "per_run": FIRST // 2}
    return Options(**(small | {"config": str(config), "data": str(folder), "runs": str(folder / "runs")} | more))


@pytest.fixture(scope="module")
def spec(trained_on_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return striped(tmp_path_factory.mktemp("striped"))


@pytest.fixture(scope="module")
def folder(spec: str) -> Path:
    return Path(spec.partition(":")[2]).parent


@pytest.fixture(scope="module")
def study(spec: str, folder: Path) -> Outcome:
    """Two networks."""
    return conduct("retrain", [spec], options(folder), out=folder / "out")


@pytest.fixture(scope="module")
def chains(spec: str, folder: Path, study: Outcome) -> dict[str, Chain]:
    """Of every defence; the runs against DNN_1, which they have in common, are there."""
    work = Work(spec, options(folder))
    plan = _plan(work, read_taught(spec))
    return {defence: Chain(plan, defence, 1) for defence in DEFENCES}


def runs_against(rows: pd.DataFrame, folder: Path) -> list[Any]:
    return [open_run(next(folder.glob(f"runs/**/{name}"))) for name in rows["run"]]


def fingerprint(network: str) -> str:
    return load_target(Source(network)).fingerprint()


def test_an_image_is_learned_from_once() -> None:
    """Neither twice in one step, as where one image holds several cells, nor again in a later step."""
    images = np.array([0, 0, 1, 2, 1, 3], dtype=np.uint8).reshape(6, 1, 1, 1)
    known = {hashlib.sha256(images[3].tobytes()).digest()}
    assert _distinct(images, known, np.array([5, 4, 3, 2, 1, 0]), 6) == [5, 4, 1]
    assert _distinct(images, known, np.arange(6), 6) == []


@pytest.mark.slow
def test_archives_have_the_real_classes_alone_and_every_run_as_many_evaluations(study: Outcome, folder: Path) -> None:
    second = study.frame[study.frame["iteration"] == 2]
    assert second["outputs"].unique().tolist() == [4] and len(second) == 1 + UNSEEN + 2
    for run, archive_hash in zip(runs_against(second, folder), second["archive_hash"]):
        assert run.elites()["class_name"].tolist() == ["0", "1", "2"] and run.archive_hash == archive_hash
    assert study.frame["evaluations"].unique().tolist() == [60] and study.frame["run_id"].is_unique
    assert second["encoding"].value_counts().to_dict() == {"cppn": 3, "direct": 2}
    first = study.frame[study.frame["iteration"] == 1]
    assert first["recall_seen"].isna().all() and first["confidence_noise"].notna().all()
    assert second["recall_seen"].iloc[0] > 0.9 and second["fooling_images"].iloc[0] == FIRST


@pytest.mark.slow
def test_a_class_holds_distinct_images_of_first_and_last_generations(study: Outcome, folder: Path) -> None:
    first = study.frame[(study.frame["iteration"] == 1) & study.frame["main"]]
    drawn = pd.read_parquet(next(folder.glob("runs/**/fooling/drawn1.parquet")))
    *used, unseen, unseen_too = (images_of(run) for run in runs_against(first, folder))
    elites = {sha(image) for images in used for image in images}
    assert len(used) == 2 and len(drawn) == drawn["image_sha256"].nunique() == FIRST
    assert set(drawn["image_sha256"][drawn["last"]]) == elites  # all of them, here no more than half of the class
    assert not set(drawn["image_sha256"]) & {sha(image) for images in (unseen, unseen_too) for image in images}


def sha(image: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


@pytest.mark.slow
def test_controls_are_what_they_are_called(chains: dict[str, Chain], spec: str) -> None:
    prints = {defence: fingerprint(chain.network(2)) for defence, chain in chains.items()}
    assert prints["empty"] == fingerprint(spec) and len(set(prints.values())) == len(DEFENCES)  # bit for bit
    learned = {defence: chain.training_set(2) for defence, chain in chains.items()}
    assert {defence: len(data.class_names) for defence, data in learned.items()} == dict(
        zip(DEFENCES, (4, 4, 3, 3, 4, 3))
    )
    data = chains["empty"].data
    added = {defence: each.train_images[~np.isin(each.train_labels, (0, 1, 2))] for defence, each in learned.items()}
    counts = {defence: (len(images), len({sha(image) for image in images})) for defence, images in added.items()}
    assert counts == dict(zip(DEFENCES, ((FIRST, FIRST), (FIRST, FIRST // 2), *[(FIRST, FIRST)] * 3, (0, 0))))
    real = learned["real"]
    assert sorted(map(sha, real.train_images)) == sorted(map(sha, data.train_images))  # none is gained or lost
    assert np.array_equal(learned["outlier_exposure"].train_images, learned["fooling"].train_images)


KILLED = """
import importlib, os, signal, sys
module, function, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
importlib.import_module("evofool.targets.training.train").THREADS = 1
holder = importlib.import_module(module)
inner = getattr(holder, function)
def counted(*arguments, **options):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*arguments, **options)
setattr(holder, function, counted)
from evofool.studies.retrain import Options, _plan
from evofool.studies.study import conduct
spec, out, asked = sys.argv[4:]
conduct("retrain", [spec], Options(**eval(asked)), out=out)
"""


@pytest.mark.slow
@pytest.mark.proof
def test_after_kills_in_a_run_and_in_training_the_same_command_gives_the_same_table(
    spec: str, folder: Path, study: Outcome, tmp_path: Path
) -> None:
    asked = options(folder, runs=str(tmp_path / "runs"))
    for module, function, call in (
        ("store.writing", "append", "2"),  # a run has the first of its commits
        ("targets.training.train", "write_safetensors", "1"),  # DNN_2 is trained, and not yet written
    ):
        place = (f"evofool.{module}", function, call)
        command = [sys.executable, "-c", KILLED, *place, spec, str(tmp_path / "out"), repr(vars(asked))]
        assert subprocess.run(command, capture_output=True).returncode == -9
        assert list(tmp_path.glob("runs/**/dnn1/*")) and not list(tmp_path.glob("runs/**/dnn2.safetensors"))
    outcome = conduct("retrain", [spec], asked, out=tmp_path / "out")
    named = ["target", "run", "run_id"]  # by their folder, and anew for every run
    pd.testing.assert_frame_equal(outcome.frame.drop(columns=named), study.frame.drop(columns=named))


def test_losses_that_learn_from_outliers() -> None:
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)) * 6
    labels = torch.tensor([0, 1, 2, 3, OUTLIER, OUTLIER, 4, OUTLIER])
    out = labels == OUTLIER
    usual = LOSSES["cross_entropy"](logits[~out], labels[~out])
    z = logits.numpy().astype(np.float64)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    exposure = float(usual) - 0.5 * log_p[out.numpy()].mean()
    energy = -np.log(np.exp(z).sum(axis=1))
    inside = np.maximum(0, energy[~out.numpy()] + 25) ** 2
    outside = np.maximum(0, -7 - energy[out.numpy()]) ** 2
    assert float(LOSSES["outlier_exposure"](logits, labels)) == pytest.approx(exposure, rel=1e-5)
    margin = float(usual) + 0.1 * (inside.mean() + outside.mean())
    assert float(LOSSES["energy_margin"](logits, labels)) == pytest.approx(margin, rel=1e-5)
    assert outside.max() > 0 and float(LOSSES["outlier_exposure"](logits[~out], labels[~out])) == float(usual)


def test_medians_of_clusters_and_what_they_are_more_than_their_partners() -> None:
    draw = np.random.default_rng(1)
    shifts = draw.normal(0, 1, 8)  # of seeds, common to both sides
    here, there = ([shift + draw.normal(mean, 0.1, 20) for shift in shifts] for mean in (0.5, 0))
    value, low, high = clustered_medians(here, there)
    assert low <= value <= high and 0.4 < low < 0.5 < high < 0.6
    alone = clustered_medians(here)
    assert alone[2] - alone[1] > 5 * (high - low)  # seeds differ, and their partners as much
    first = here[0]
    assert clustered_medians([first])[0] == np.median(first) and clustered_medians([np.full(3, np.inf)])[0] == np.inf


def test_curves_have_a_line_a_band_and_every_pixel_of_a_strip() -> None:
    rows = [{"x": i, "value": i / 10, "low": i / 10 - 0.1, "high": i / 10 + 0.1} for i in (1, 2, 3)]
    picture = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28) % 251
    lines = {"<&one>": rows, "two": [{**rows[0], "low": None, "high": None}, {**rows[1], "value": None}]}
    svg = bands("t", [Bands("p", lines, (0, 1))], "x", ("strip", {1: picture.astype(np.uint8)}))
    root = ElementTree.fromstring(svg)
    assert len(root.findall("{*}polygon")) == 1 and "&lt;&amp;one&gt;" in svg
    steps = [path.attrib["d"] for path in root.findall("{*}path") if "scale" in path.attrib["transform"]]
    widths = [int(step.partition("h")[2].partition("v")[0]) for path in steps for step in path.split("M")[1:]]
    assert sum(widths) == 28 * 28 and len(steps) == LEVELS


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"defence": ("foolin",)}, "--defence: 'foolin' is none; did you mean fooling?"),
        ({"iterations": 0}, "--iterations: is 1 or more, not 0."),
        ({"runs": "s3://bucket/x"}, "--runs: s3://bucket/x is a URL"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    spec: str, folder: Path, more: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        conduct("retrain", [spec], replace(options(folder), **more), out=tmp_path)
    assert str(refused.value).startswith(says)


def test_networks_that_nobody_can_train_again_are_refused(tmp_path: Path) -> None:
    for network, says in (
        ("efficientnet-lite:0", "efficientnet-lite:0: only networks that `evofool targets train lenet|"),
        (f"lenet:{tmp_path}/none", f"TARGET: no file {tmp_path}/none; make one with"),
    ):
        with pytest.raises(ConfigError) as refused:
            conduct("retrain", [network], Options(), out=tmp_path)
        assert str(refused.value).startswith(says)


@pytest.mark.slow
def test_networks_of_pictures_in_a_folder_are_taught_again(trained_on_one_thread: None, tmp_path: Path) -> None:
    data = load_dataset("imagefolder", 1, coloured(tmp_path / "pictures"), 28)
    train_network(Recipe("lenet", 0.05, epochs=1), data, 1, tmp_path / "dnn1.safetensors", lambda line: None)
    asked = options(tmp_path, data=str(tmp_path / "pictures"))
    frame = conduct("retrain", [f"lenet:{tmp_path}/dnn1.safetensors"], asked, out=tmp_path / "out").frame
    assert frame.groupby("iteration")["outputs"].first().tolist() == [2, 3]
    assert frame["recall_other_data"].isna().all() and frame["confidence_noise"].notna().all()
    drawn = pd.read_parquet(next(tmp_path.glob("runs/**/fooling/drawn1.parquet")))
    assert len(drawn) == FIRST and decode_png(drawn["image"][0], "").shape == (28, 28, 3)
    with pytest.raises(ConfigError, match="--data: no folder"):
        wrong = replace(asked, data="none", runs=str(tmp_path / "others"))
        conduct("retrain", [f"lenet:{tmp_path}/dnn1.safetensors"], wrong, out=tmp_path / "out2")
    assert not (tmp_path / "others").exists()


@pytest.mark.slow
def test_runs_against_another_network_are_not_taken_for_this_ones(
    spec: str, folder: Path, study: Outcome, tmp_path: Path
) -> None:
    file = next(folder.glob("runs/**/fooling/dnn2.safetensors"))
    before = file.read_bytes()
    with safe_open(str(file), framework="pt") as opened:
        facts = opened.metadata()
    save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file, facts)
    with pytest.raises(IncompatibleRun, match=r"against another network than lenet:.*rm -r"):
        conduct("retrain", [spec], options(folder), out=tmp_path)
    file.write_bytes(before)
