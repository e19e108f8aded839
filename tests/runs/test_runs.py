"""One archive, whatever happened to the run: interruptions, snapshots, DEAP's own loop, ask and tell (promise 1)."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deap import algorithms

import evofool
from evofool.archive.objectives import LOG_ODDS
from evofool.config import Config, load_config
from evofool.encoding.kinds import make_encoding
from evofool.errors import EvofoolError, TargetError
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.pool import Job
from evofool.records import Cells, Numerics
from evofool.runs.observers.observer import Committed, GenerationPlaced, Warned
from evofool.search.asking import AskTellPool
from evofool.search.loop import Search

pytestmark = pytest.mark.slow  # whole runs: `make check` leaves them to `make test`

LONG = {"offspring": 100, "initial": 100, "generations": 16}


@pytest.fixture
def long(config: Config) -> Config:
    """16 generations of 100."""
    return load_config({**config.model_dump(), "search": LONG})


def with_keys(config: Config, *overrides: str) -> Config:
    return load_config(config, list(overrides))


def archive_hash(config: Config, out: Path, **options: Any) -> str:
    result = evofool.run(config, out=out, **options).archive_hash
    assert result is not None
    return result


class Watcher(evofool.Observer):
    """Counts events, and looks at the archive after each."""

    def __init__(self) -> None:
        self.generations: list[int] = []
        self.commits = 0
        self.warnings: list[str] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        self.generations.append(event.statistics.generation)

    def on_commit(self, event: Committed) -> None:
        self.commits += 1

    def on_warning(self, event: Warned) -> None:
        self.warnings.append(event.text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cppn", "direct"])
@pytest.mark.parametrize("lag", [1, 2, 4])
def test_stopping_and_resuming_anywhere_gives_the_same_archive(
    long: Config, tmp_path: Path, kind: str, lag: int
) -> None:
    config = with_keys(long, f"encoding.kind={kind}", f"search.lag={lag}", "storage.commit_every=7")
    whole = archive_hash(config, tmp_path / "whole")
    # Below the lag, at it, inside a commit interval, at its end.
    for stop in (1, 2, 5, 14, 15, 16):
        pieces = archive_hash(with_keys(config, f"search.generations={stop}"), tmp_path / "pieces")
    assert pieces == whole
    assert archive_hash(with_keys(config, "seed=2"), tmp_path / "other") != whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_watching_and_snapshots_change_nothing(long: Config, tmp_path: Path, kind: str) -> None:
    config = with_keys(long, f"encoding.kind={kind}")
    plain = archive_hash(with_keys(config, "storage.commit_every=100", "storage.snapshot_every=1000"), tmp_path / "a")
    watcher = Watcher()
    often = with_keys(config, "storage.commit_every=1", "storage.snapshot_every=0")
    assert archive_hash(often, tmp_path / "b", observers=[watcher]) == plain
    assert watcher.generations == list(range(16)) and watcher.commits == 16


@pytest.mark.slow
def test_global_random_state_neither_matters_nor_changes(long: Config, tmp_path: Path) -> None:
    plain = archive_hash(long, tmp_path / "a")
    stop = threading.Event()

    def hammer() -> None:
        while not stop.wait(1e-4):
            random.random()
            np.random.random()  # noqa: NPY002 - the legacy global state is the point

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        assert archive_hash(long, tmp_path / "b") == plain
    finally:
        stop.set()
        thread.join()
    before = random.getstate()
    archive_hash(with_keys(long, "search.generations=3"), tmp_path / "c")
    assert random.getstate() == before


def make_search(config: Config, spec: str) -> tuple[Search, InlinePool]:
    target = evofool.load_target(spec)
    encoding = make_encoding(config.encoding, target.image_size, target.channels)
    numerics = Numerics(device="cpu", chunk=50, micro_batch=50, threads=1, memory_format="contiguous")
    cells = Cells(np.arange(10))
    pool = InlinePool(lambda: Evaluator(target, encoding, cells, numerics), numerics)
    return Search(config, encoding, pool, cells), pool


@pytest.mark.slow
@pytest.mark.parametrize("lag", [1, 2, 4])
def test_deaps_own_loop_gives_the_same_archive(long: Config, tmp_path: Path, lag: int) -> None:
    config = with_keys(long, f"search.lag={lag}")
    expected = archive_hash(config, tmp_path / "run")
    search, pool = make_search(config, config.target.spec)
    population, logbook = algorithms.eaGenerateUpdate(search.toolbox, ngen=16, verbose=False)
    pool.close()
    assert search.archive_hash.hex() == expected
    assert [entry["nevals"] for entry in logbook] == [100] * 16
    assert all(individual.fitness.valid for individual in population)
    assert max(i.fitness.values[0] for i in population) <= search.archive.log_odds.max()


def test_ask_and_tell_is_the_same_search(config: Config, tmp_path: Path) -> None:
    run = evofool.run(config, out=tmp_path / "run")
    search = evofool.make_search(config, image_size=(28, 28), channels=1, class_names=[str(i) for i in range(10)])
    target = evofool.load_target(config.target.spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(6):
            images = search.ask()
            assert images.dtype == np.uint8 and images.shape == (50, 28, 28, 1)
            with torch.inference_mode():
                search.tell(target.outputs(torch.from_numpy(images)), output="logits")
    finally:
        torch.set_num_threads(threads)
    assert search.archive_hash.hex() == run.archive_hash


def test_tell_refuses_what_was_not_asked_for(config: Config) -> None:
    search = evofool.make_search(config, image_size=(8, 8), channels=3, class_names=["a", "b"])
    with pytest.raises(EvofoolError, match="comes after ask"):
        search.tell(np.zeros((50, 2)))
    search.ask()
    with pytest.raises(EvofoolError, match=r"shape \(50, classes\)"):
        search.tell(np.zeros((49, 2)))
    search.tell(np.full((50, 2), 0.5))
    assert search.archive.filled.all()


def test_ask_tell_pool_cannot_score(config: Config) -> None:
    pool = AskTellPool(make_encoding(config.encoding, (8, 8), 1), Cells(np.arange(2)), LOG_ODDS, 2)
    with pytest.raises(EvofoolError, match=r"ask\(\) and tell\(\)"):
        pool.collect(0)


# ------------------------------------------------------------------------------------------------------ live targets


class Bright(torch.nn.Module):
    """Two classes: mean brightness of the left and of the right half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        return torch.stack([x[..., :half].mean(dim=(1, 2, 3)), x[..., half:].mean(dim=(1, 2, 3))], dim=1) * 20


class Poisoned(Bright):
    """Gives NaN or infinity for a third of the images, decided by their content."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = super().forward(x)
        bad = (x.sum(dim=(1, 2, 3)) * 7).long() % 3 == 0
        scores[bad] = torch.tensor([float("nan"), float("inf")])
        return scores


LIVE: dict[str, Any] = {
    "preprocessing": evofool.Preprocessing((12, 16), 3, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "class_names": ["left", "right"],
}


def live_config(**search: Any) -> dict[str, Any]:
    return {"search": {"offspring": 30, "initial": 30, "generations": 8, **search}, "evaluation": {"pool": "inline"}}


def test_a_live_module_is_searched_and_left_as_it_was(tmp_path: Path) -> None:
    module = Bright().train()
    run = evofool.run(live_config(), target=module, out=tmp_path / "run", **LIVE)
    elites = run.elites()
    assert list(elites["class_name"]) == ["left", "right"] and (elites["confidence"] > 0.99).all()
    assert run.image("left").shape == (12, 16, 3)
    assert module.training
    assert run.provenance["target"] == "live"
    again = evofool.resume(tmp_path / "run", ["search.generations=12"], target=module, **LIVE)
    assert again.status()["generation"] == 11
    whole = evofool.run(live_config(generations=12), target=module, out=tmp_path / "whole", **LIVE)
    assert whole.archive_hash == again.archive_hash
    assert evofool.verify(tmp_path / "run", target=module, **LIVE)["bit_for_bit"] == 2


def test_scores_that_are_not_finite_never_enter_and_are_counted(tmp_path: Path) -> None:
    run = evofool.run(live_config(), target=Poisoned(), out=tmp_path / "run", **LIVE)
    history = run.history()
    assert history["non_finite"].sum() > 30
    assert np.isfinite(run.elites()["log_odds"]).all()
    assert np.isfinite(run.placements()["log_odds"]).all()


def test_a_network_that_gives_only_nan_is_refused(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 2), float("nan"))

    with pytest.raises(TargetError, match="NaN or infinite"):
        evofool.run(live_config(), target=Broken(), out=tmp_path / "run", **LIVE)
    assert not (tmp_path / "run").exists()


def test_classes_can_be_a_subset_of_the_outputs(config: Config, tmp_path: Path) -> None:
    run = evofool.run(with_keys(config, "target.classes=['7', 3]"), out=tmp_path / "run")
    elites = run.elites()
    assert sorted(elites["class_index"]) == [3, 7]
    full = evofool.run(config, out=tmp_path / "full").placements()
    part = run.placements()
    # Generation 0 is the same for both, and a probability is always over all outputs.
    for index in (3, 7):
        ours, theirs = (p[(p["class_index"] == index) & (p["generation"] == 0)] for p in (part, full))
        assert list(ours["log_odds"]) == list(theirs["log_odds"])


@pytest.mark.parametrize(
    ("key", "reached"),
    [
        ("search.max_evaluations=120", lambda s: s["generation"] == 2 and s["evaluations"] == 150),
        ("search.stop_when=['filled >= 10']", lambda s: s["generation"] == 0),
        ("search.stop_when=['filled >= 10', 'stale >= 99']", lambda s: s["generation"] == 5),
        ("search.max_time=0.000001", lambda s: s["generation"] == 0),
    ],
)
def test_every_way_to_stop(config: Config, tmp_path: Path, key: str, reached: Any) -> None:
    assert reached(evofool.run(with_keys(config, key), out=tmp_path / "run").status())


def test_a_frozen_archive_is_said_to_be_one(tmp_path: Path) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros((len(x), 2))

    watcher = Watcher()
    config = live_config(offspring=2, initial=2, generations=105)
    evofool.run(config, target=Constant(), out=tmp_path / "run", observers=[watcher], **LIVE)
    assert [w for w in watcher.warnings if "no placement for 100 generations" in w]


# ---------------------------------------------------------------------------------------------------- seeds and merge


def test_seeded_runs_start_from_the_elites_and_say_where_they_came_from(config: Config, tmp_path: Path) -> None:
    first = evofool.run(config, out=tmp_path / "first")
    second = evofool.run(with_keys(config, "seed=9"), out=tmp_path / "second", seed_from=[first.path])
    begin = second.placements().query("generation == 0").set_index("class_index")["log_odds"]
    assert list(begin.sort_index()) == list(first.elites().sort_values("class_index")["log_odds"])
    origins = set(second.placements().query("generation == 0")["origin"])
    ids = {f"{first.provenance['run_id']}:{i:x}" for i in first.elites()["individual_id"]}
    assert origins == ids
    assert second.provenance["seeded_from"][0]["archive_hash"] == first.archive_hash
    roots = second.lineage(int(second.elites()["individual_id"].iloc[0]))
    assert set(roots[roots["generation"] < 2]["origin"].dropna()) <= ids


def test_a_seeded_run_resumes_too(config: Config, tmp_path: Path) -> None:
    first = evofool.run(config, out=tmp_path / "first")
    options = {"seed_from": [first.path]}
    whole = archive_hash(with_keys(config, "seed=9"), tmp_path / "whole", **options)
    archive_hash(with_keys(config, "seed=9", "search.generations=1"), tmp_path / "pieces", **options)
    assert archive_hash(with_keys(config, "seed=9"), tmp_path / "pieces") == whole


def test_merging_takes_the_best_of_every_class(config: Config, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for seed, path in enumerate(paths):
        evofool.run(with_keys(config, f"seed={seed}"), out=path)
    merged = evofool.merge(paths, tmp_path / "merged")
    parts = [evofool.open_run(path).elites().set_index("class_index")["log_odds"] for path in paths]
    assert list(merged.elites().set_index("class_index")["log_odds"]) == list(np.maximum(*parts))
    assert evofool.verify(tmp_path / "merged")["bit_for_bit"] == 10
    assert evofool.resume(tmp_path / "merged", ["search.generations=4"]).status()["generation"] == 3


def test_runs_of_other_encodings_do_not_merge(config: Config, tmp_path: Path) -> None:
    evofool.run(config, out=tmp_path / "a")
    evofool.run(with_keys(config, "encoding.kind=direct"), out=tmp_path / "b")
    with pytest.raises(EvofoolError, match="encoding is not this run's"):
        evofool.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("encoding", ["cppn", "direct"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_every_elite_verifies_bit_for_bit(encoding: str, memory_format: str, config: Config, tmp_path: Path) -> None:
    settings = with_keys(config, f"encoding={{kind: {encoding}}}", f"evaluation.memory_format={memory_format}")
    run = evofool.run(settings, out=tmp_path / "run")
    assert evofool.verify(run.path)["bit_for_bit"] == 10
    assert run.elites().attrs["evofool"]["archive_hash"] == run.archive_hash


def test_a_rate_that_changes_with_the_generation_does_so_in_a_run_and_after_a_resume(
    config: Config, tmp_path: Path
) -> None:
    still = "variation={mutation_rate: 1.0, activation_rate: 0.0, add_connection: 0.0, delete_connection: 0.0, "
    still += "split_connection: 0.0, delete_node: 0.0, schedules: {mutation_rate: {kind: steps, at: {3: 0.0}}}}"
    settings = with_keys(config, still, "search.lag=1")
    run = evofool.run(settings, out=tmp_path / "whole")
    placements = run.placements()
    made = {g: {name for row in rows for name in row} for g, rows in placements.groupby("generation")["operators"]}
    assert made[0] == {"initial"}
    assert made[1] | made[2] == {"mutate_weights"}
    assert all(made[g] == set() for g in made if g >= 3)
    evofool.run(settings, ["search.generations=2"], out=tmp_path / "parts")
    assert evofool.resume(tmp_path / "parts", ["search.generations=6"]).archive_hash == run.archive_hash


def test_views_ask_evaluators_once_and_draw_every_elite_once(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    submit = InlinePool.submit

    def spy(self: InlinePool, job: Job) -> None:
        if job.verb == "render":
            drawn.append(len(job))
        submit(self, job)

    monkeypatch.setattr(InlinePool, "submit", spy)
    run = evofool.run(config, out=tmp_path / "run")  # a view at each of three commits, and one at the end
    assert len(drawn) <= 4
    assert len(run.elites()["image_sha256"].unique()) <= sum(drawn) <= run.placements()["individual_id"].nunique()
