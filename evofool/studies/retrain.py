"""Retrain: is a network that learned from fooling images, as a class of their own, harder to fool?

Nguyen et al. 2015 (sections 3.6 to 3.8) evolve against DNN_1, put images of the runs' first and last generations into a
class more, train DNN_2 from scratch on data and these, evolve against it, and so on to DNN_15. Here a chain of networks
is made for each seed and each defence: the paper's, two modern ones, and controls that say what of it protects. Cells
are of the real classes alone; every run against every network scores as many images.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.base import rng
from evofool.base.places import as_path, as_url, quoted
from evofool.base.registry import known
from evofool.config import load_config
from evofool.config.sections import TargetConfig
from evofool.errors import ConfigError, IncompatibleRun
from evofool.records import Facts
from evofool.store.reader import Run
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.fooling_class import DEFENCES, SETS, SURE, SUREST, UNSEEN, Chain, Plan, images_of
from evofool.studies.shared.protection import figure, summarise
from evofool.studies.shared.tables import read_elites
from evofool.studies.study import Study, Work
from evofool.targets.opening import OpenTarget, open_target
from evofool.targets.target import outputs_in_batches
from evofool.targets.training import datasets
from evofool.targets.training.again import Taught, read_taught
from evofool.targets.training.datasets import with_channels
from evofool.targets.training.losses import OUTLIER

__all__ = ["RETRAIN", "STUDY", "Options"]

CONTROLLED = 3  # networks of a control, at most
SHOWN_CLASS = 3  # whose pictures the figure shows
NOISE, BATCH = 1000, 500  # images

RETRAIN = pa.schema(
    [
        ("plan", pa.string()),  # of all that decides what networks and runs are like
        ("defence", pa.string()),
        ("seed", pa.int64()),
        ("iteration", pa.int32()),
        ("run", pa.string()),
        ("run_id", pa.string()),
        ("archive_hash", pa.string()),
        ("encoding", pa.string()),
        ("main", pa.bool_()),  # of the encoding that networks learn from
        ("evaluations", pa.int64()),
        ("median", pa.float64()),
        ("minimum", pa.float64()),
        ("share_9999", pa.float64()),
        ("median_log_odds", pa.float64()),
        ("minimum_log_odds", pa.float64()),
        ("evaluations_to_99", pa.int64()),  # until the median is 0.99; null: never
        ("class_name", pa.string()),  # of the elite that is shown
        ("image_sha256", pa.string()),
        ("image", pa.binary()),  # PNG; null but of the first run
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("outputs", pa.int32()),
        ("train_images", pa.int64()),  # all
        ("fooling_images", pa.int64()),  # of these, those that are not the data set's or not of its classes
        ("fooling_distinct", pa.int64()),
        ("fooling_last", pa.int64()),  # distinct ones of last generations
        ("held_out_images", pa.int64()),
        ("held_out_accuracy", pa.float64()),
        ("false_alarms", pa.float64()),  # null: the network has no class for them
        *((f"recall_{name}", pa.float64()) for name in SETS),
        *((f"confidence_{name}", pa.float64()) for name in SETS),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


@dataclass(frozen=True)
class Options:
    """The study's own."""

    iterations: Annotated[int, f"Networks of a chain, DNN_1 to DNN_N; of controls {CONTROLLED} at most."] = 10
    seeds: Annotated[int, "Chains of each defence, of the network's own seed and those after it."] = 3
    defence: Annotated[
        tuple[str, ...],
        f"What networks learn from, {', '.join(DEFENCES)}, or all (may be repeated) [default: fooling].",
    ] = ("fooling",)
    first: Annotated[int, "Fooling images for DNN_2, the paper's 6000; by default as many as a class has."] = 0
    more: Annotated[int, "Fooling images for each network after, the paper's 1000; by default a sixth of --first."] = 0
    per_run: Annotated[int, "Images for which one run is needed."] = 20
    least: Annotated[int, "Runs against each network, at least."] = 20
    config: Annotated[str, "A preset or a file that says how to search."] = "mnist_cppn"
    generations: Annotated[int, "Generations of every run."] = 50
    data: Annotated[str | None, "Folder with the idx files of the network's data set, or with its pictures."] = None
    runs: Annotated[str, "Folder for networks and runs, which are kept and gone on with."] = "runs/retrain"


def _defences(options: Options) -> list[str]:
    """Which were asked for, each once."""
    for name in options.defence:
        if name not in (*DEFENCES, "all"):
            raise ConfigError(f"--defence: {name!r} is none; {known(name, (*DEFENCES, 'all'))}")
    return list(DEFENCES) if "all" in options.defence else list(dict.fromkeys(options.defence))


def _plan(work: Work, taught: Taught) -> Plan:
    options: Options = work.options
    for name in ("iterations", "seeds", "per_run", "least", "generations"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: is 1 or more, not {getattr(options, name)}.")
    for name, number in (("--first", options.first), ("--more", options.more)):
        if number < 0:
            raise ConfigError(f"{name}: is a number of images, not {number}; leave it out for as many as the data ask.")
    if as_url(options.runs):
        raise ConfigError(f"--runs: {options.runs} is a URL; networks and runs are kept in a folder of this machine.")
    per_class = int(taught.facts["train_images"]) // len(taught.classes)
    first = options.first or per_class
    config = load_config(options.config, {"target.spec": work.subject})
    other = "direct" if config.encoding.kind != "direct" else "cppn"
    search: Facts = {
        "search.stop_when": [],
        "search.generations": options.generations,
        "search.max_evaluations": None,
        "search.max_time": None,
    }
    return Plan(
        spec=work.subject,
        taught=taught,
        load=functools.cache(lambda seed: taught.data(seed, options.data)),  # of which reading takes seconds
        config=options.config,
        overrides=(search, {**search, "encoding.kind": other}),
        first=first,
        more=options.more or max(1, round(first / 6)),
        per_run=first if work.limit else options.per_run,
        runs=work.limit or options.least,
        folder=as_path(options.runs),
        options={
            "pool": work.pool or "inline",
            "address": work.address,
            "allow_code": work.allow_code,
            "progress": False,
        },
        tell=work.tell,
    )


def _rows(work: Work) -> Generator[pd.DataFrame]:
    taught, options = read_taught(work.subject), work.options
    defences, plan = _defences(options), _plan(work, taught)
    steps = [
        (defence, taught.seed + number, iteration)
        for iteration in range(1, options.iterations + 1)
        for defence in defences
        if iteration <= CONTROLLED or defence == "fooling"
        for number in range(options.seeds)
    ]
    chains = {step[:2]: Chain(plan, *step[:2]) for step in steps}
    other_data = _other_data(taught, work)
    for _, defence, seed, iteration in work.missing((plan.digest, *step) for step in work.first(steps)):
        plan.load(seed)  # what is wrong with the data is told before any run
        yield _step(chains[defence, seed], iteration, other_data)
        work.tell(f"{defence}, seed {seed}: DNN_{iteration} is done")


def _other_data(taught: Taught, work: Work) -> NDArray[np.uint8] | None:
    """Real images of other things: of Fashion-MNIST, or of MNIST where that is what the network learned from; there are
    none beside a user's pictures."""
    if taught.facts["dataset"] == datasets.IMAGE_FOLDER:
        return None
    name = "mnist-5k" if taught.facts["dataset"] == "fashion-mnist" else "fashion-mnist"
    if not datasets.is_at_hand(name):
        way = "pip install 'evofool[mnist5k]'" if name == "mnist-5k" else "apt install dataset-fashion-mnist"
        work.tell(f"{name} is not here, so nobody is asked what networks make of it ({way})")
        return None
    return datasets.load_dataset(name, 1).held_out_images[:NOISE, :, :, None]


def _step(chain: Chain, iteration: int, other_data: NDArray[np.uint8] | None) -> pd.DataFrame:
    """The rows of one network: one for each run against it."""
    network = open_target(TargetConfig.model_validate({"spec": chain.network(iteration)}))
    made = chain.runs(iteration)
    for run in (run for runs in made for run in runs):
        if run.provenance["target_fingerprint"] != network.fingerprint:
            raise IncompatibleRun(
                f"{run.path}: was made against another network than {network.target.spec} is now; remove what was made "
                f"against it: rm -r {quoted(run.path.parent)}."
            )
    facts = _of_network(chain, iteration, network, other_data)
    rows = [_of_run(run, main) | facts for runs, main in zip(made, (True, False)) for run in runs]
    for row in rows[1:]:
        row["image"] = None
    frame = pd.DataFrame(rows).assign(
        plan=chain.plan.digest, defence=chain.defence, seed=chain.seed, iteration=iteration
    )
    return frame.astype({"evaluations_to_99": "Int64"})


def _of_run(run: Run, main: bool) -> Facts:
    """What a run came to; its archive has the real classes alone."""
    elites, archive_hash = read_elites(run)
    history = run.history()
    reached = history.loc[history["median"] >= SURE, "evaluations"]
    shown = elites.iloc[min(SHOWN_CLASS, len(elites) - 1)]
    return {
        "run": run.path.name,
        "run_id": run.provenance["run_id"],
        "archive_hash": archive_hash,
        "encoding": run.config.encoding.kind,
        "main": main,
        "evaluations": int(history["evaluations"].iloc[-1]),
        "median": float(elites["confidence"].median()),
        "minimum": float(elites["confidence"].min()),
        "share_9999": float((elites["confidence"] >= SUREST).mean()),
        "median_log_odds": float(elites["log_odds"].median()),
        "minimum_log_odds": float(elites["log_odds"].min()),
        "evaluations_to_99": int(reached.iloc[0]) if len(reached) else None,
        "class_name": shown["class_name"],
        "image_sha256": shown["image_sha256"],
        "image": shown["image"]["bytes"],
    }


def _of_network(chain: Chain, iteration: int, network: OpenTarget, other_data: NDArray[np.uint8] | None) -> Facts:
    """What a network was taught, and what it makes of held-out images and of images that are of no class."""
    data, learned, classes = chain.data, chain.training_set(iteration), len(chain.plan.taught.classes)
    answers = _outputs(network, with_channels(data.held_out_images)).argmax(axis=1)
    has_class = len(network.target.class_names) > classes
    drawn, extra = chain.learned_from(iteration), (learned.train_labels == OUTLIER) | (learned.train_labels >= classes)
    facts: Facts = {
        "target": network.target.spec,
        "target_fingerprint": network.fingerprint,
        "outputs": len(network.target.class_names),
        "train_images": len(learned.train_labels),
        "fooling_images": int(extra.sum()),
        "fooling_distinct": len(drawn),
        "fooling_last": int(drawn.last.sum()),
        "held_out_images": len(data.held_out_labels),
        "held_out_accuracy": float((answers == data.held_out_labels).mean()),
        "false_alarms": float((answers == classes).mean()) if has_class else None,
    }
    noise = (rng.uniforms(chain.seed, "retrain.noise", 0, (NOISE, *data.shape)) * 256).astype(np.uint8)
    sets: dict[str, NDArray[np.uint8] | None] = {"noise": noise, "other_data": other_data}
    if iteration > 1:
        runs, others = chain.runs(iteration - 1)
        before = chain.images(iteration - 1)
        sets["seen"] = before.pixels[before.last] if len(drawn) else None
        sets["unseen"] = np.concatenate([images_of(run) for run in runs[-UNSEEN:]])
        sets["other_encoding"] = np.concatenate([images_of(run) for run in others])
    for name in SETS:
        images = sets.get(name)
        facts[f"recall_{name}"] = facts[f"confidence_{name}"] = None
        if images is not None and len(images):
            outputs = _outputs(network, images).astype(np.float64)
            odds = outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)
            facts[f"confidence_{name}"] = float(np.median(np.exp(odds[:, :classes].max(axis=1))))
            if has_class:
                facts[f"recall_{name}"] = float((outputs.argmax(axis=1) == classes).mean())
    return facts


def _outputs(network: OpenTarget, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, outputs) for (n, height, width, channels) images."""
    return outputs_in_batches(network.target, images, BATCH)


STUDY = Study(
    subject="network",
    schema=RETRAIN,
    keys=("plan", "defence", "seed", "iteration"),
    rows=_rows,
    summarise=summarise,
    figure=figure,
    options=Options,
    things="networks, and of the runs against each",
    smoke=1,
    evaluates=True,
)
