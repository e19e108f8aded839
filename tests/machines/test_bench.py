"""`evofool cluster bench`: what is measured, in which order, and that its figures move with what they stand for."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command

import evofool
from evofool.base.source import Source
from evofool.config import Config, load_config, to_yaml
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.opening import open_pool
from evofool.machines.bench import measuring
from evofool.machines.bench.continued import Continued, Stretch, copy_of
from evofool.machines.bench.forward import Rival, Rivals
from evofool.machines.bench.genomes import grown, hidden_nodes
from evofool.machines.bench.measuring import in_turns
from evofool.machines.bench.results import Bench, Stage
from evofool.machines.bench.workbench import ARCHIVE, DEEP, Workbench
from evofool.machines.probe import opened_problem, repeated
from evofool.machines.sweep import Choice
from evofool.records import Numerics, Scores
from evofool.store.restore import restore

NUMERICS = Numerics("cpu", 50, 50, 1, "contiguous")
SLEEP = 0.05  # seconds of a forward pass of the sleeping network
SLEEPER = f"""
import time, torch, evofool

class Sleeper(torch.nn.Module):
    def forward(self, x):
        time.sleep({SLEEP})
        return x.flatten(1)[:, :3]

def build():
    return evofool.Target(Sleeper(), evofool.Preprocessing((8, 8), 1, (127.5,), (127.5,)), ("a", "b", "c"))
"""


# -------------------------------------------------------------------------------------------------------- the genomes


@pytest.mark.parametrize("colour", ["grey", "hsv"])
def test_grown_genomes_have_exactly_so_many_hidden_nodes_and_no_cycle(colour: str) -> None:
    encoding = CppnEncoding(28, 28, colour)
    genomes = grown(encoding, 40, 30, seed=5)
    assert len(genomes) == 40 and set(hidden_nodes(genomes).tolist()) == {30}
    for row in range(40):
        encoding.check(encoding.take(genomes, [row]))
    connections = {encoding.size(genomes, row)[1] for row in range(40)}
    assert len(connections) > 3 and min(connections) >= 30 + 4 * encoding.channels
    hidden = genomes.activations[genomes.node_ids >= 1 << 62]
    assert set(encoding.activation_codes.tolist()) <= set(hidden.tolist())
    again, other = grown(encoding, 40, 30, seed=5), grown(encoding, 40, 30, seed=6)
    assert [encoding.to_bytes(genomes, i) for i in range(40)] == [encoding.to_bytes(again, i) for i in range(40)]
    assert encoding.to_bytes(genomes, 0) != encoding.to_bytes(other, 0)


# ---------------------------------------------------------------------------------------------------------- the turns


def test_stages_take_turns_in_reversed_order_and_share_the_time_by_weight() -> None:
    order: list[tuple[str, float]] = []

    def stage(name: str, weight: float) -> Stage:
        def take(seconds: float) -> float:
            order.append((name, seconds))
            return float(len(order))

        return Stage(name, "", 1, take, weight)

    stages = [stage("a", 1.0), stage("b", 1.0), stage("c", 2.0)]
    in_turns(stages, 3, 12.0)
    assert "".join(name for name, _ in order) == "abccbaabc"
    assert dict(order) == {"a": 1.0, "b": 1.0, "c": 2.0}
    assert [s.rounds for s in stages] == [[1.0, 6.0, 7.0], [2.0, 5.0, 8.0], [3.0, 4.0, 9.0]]


def test_work_is_done_at_least_once_and_until_the_time_is_over() -> None:
    reading = repeated(lambda: time.sleep(0.01), 3, 0.0)
    assert reading.evaluations == 3 and reading.seconds >= 0.01
    reading = repeated(lambda: time.sleep(0.01), 3, 0.05)
    assert reading.evaluations <= 15 and reading.seconds >= 0.05 and reading.per_second <= 300


def stage(name: str, kind: str, rounds: list[float], cores: int = 1) -> Stage:
    return Stage(name, kind, cores, lambda seconds: 0.0, rounds=rounds)


@pytest.fixture
def result() -> Bench:
    """Measured by nobody."""
    stretch = Stretch(
        evaluations=400,
        seconds=2.0,
        generations=2,
        evaluators=2,
        core_seconds=3.0,
        driver_seconds=0.4,
        commits=1,
        views=1,
    )
    return Bench(
        stages=[
            stage("render", ARCHIVE, [800.0, 1000.0, 1200.0]),
            stage("end_to_end", "inline", [100.0, 110.0, 90.0]),
            stage("end_to_end", "ray", [150.0, 160.0, 200.0], cores=2),
        ],
        forwards=[stage("forward", "", [300.0, 310.0, 299.0], 2), stage("forward", "", [320.0, 330.0, 200.0], 2)],
        choices=[Choice(NUMERICS, 2), Choice(Numerics("cpu", 64, 64, 2, "channels_last"), 1)],
        stretches={"inline": [stretch], "ray": [stretch, stretch]},
        pool="ray",
        facts={
            "not_measured": "micro-batches from 128 on are slower",
            "machine": {"cores": 2, "processor": "a processor"},
        },
    )


def test_a_ratio_is_the_quotient_of_the_two_figures_beside_it(result: Bench) -> None:
    data = result.as_dict()
    assert (
        data["ratio"] == 160 / 320 == data["ratios"]["ray"]["ratio"] and data["ratios"]["inline"]["ratio"] == 100 / 320
    )
    for ratio in data["ratios"].values():
        assert ratio["ratio"] == ratio["end_to_end"] / ratio["forward"]
    assert data["ratios"]["ray"]["ratio_rounds"] == [150 / 320, 160 / 330, 200 / 200]
    assert data["forward"]["micro_batch"] == 64 and data["forward"]["processes"] == 1
    shown = {(s["name"], s["kind"]): s for s in data["stages"]}
    render = shown["render", ARCHIVE]
    assert (render["per_second_least"], render["per_second"], render["per_second_most"]) == (800, 1000, 1200)
    assert (render["microseconds_least"], render["microseconds"]) == (pytest.approx(1e6 / 1200), 1000)
    # 1 ms of one core, where the whole has two cores for 1 / 160 s
    assert render["share"] == pytest.approx(0.001 / (2 / 160)) and shown["end_to_end", "ray"]["share"] == 1
    assert shown["forward", ""]["share"] == pytest.approx(data["ratio"])
    search = data["end_to_end"]["ray"]
    assert search["idle_share"] == 1 - 3 / (2 * 2) and search["driver_seconds_per_evaluation"] == 0.4 / 400
    assert search["evaluations"] == 800 and search["commits"] == search["views"] == 2


# ------------------------------------------------------------------------------------------------------ what it times


def continued(config: Config, run: Path, folder: Path, pool: type[Any] | None = None, code: bool = False) -> Any:
    """A search that goes on from a run, and what keeps its pool open."""
    source = Source(config.target.spec, code)
    problem = opened_problem(config, source)
    context = open_pool(problem)
    opened = context.__enter__()[0]
    return Continued(problem, copy_of(run, folder), pool(opened) if pool else opened), context


def files_of(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


WASTE = 0.3  # seconds of every generation


class Wasteful:
    """A pool that does nothing for a while before it gives scores back."""

    def __init__(self, pool: InlinePool) -> None:
        self.pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pool, name)

    def collect(self, generation: int) -> Scores:
        time.sleep(WASTE)
        return self.pool.collect(generation)


@pytest.mark.slow
@pytest.mark.parametrize("lag", [1, 2])
def test_a_stretch_counts_what_it_did_and_leaves_the_run_alone(
    config: Config, small_run: evofool.Run, tmp_path: Path, one_thread: None, lag: int
) -> None:
    before = files_of(small_run.path)
    config = load_config(config, [f"search.lag={lag}", "storage.commit_every=3", "storage.snapshot_every=1000"])
    search, context = continued(config, small_run.path, tmp_path / "copy")
    assert not search.search.in_flight
    for _ in range(2):
        generation = search.search.statistics.generation
        stretch = search.stretch(0.2)
        assert stretch.evaluations == 50 * stretch.generations and stretch.generations >= 2
        assert stretch.seconds >= 0.2 and stretch.views == 1 and stretch.commits >= 1
        # One before it, to warm up; and what is in flight after it.
        assert search.search.statistics.generation == generation + 1 + stretch.generations + lag - 1
        assert 0 < stretch.idle < 1 and stretch.evaluators == 1
        assert stretch.driver_seconds == pytest.approx(stretch.seconds - stretch.core_seconds)
        assert not search.search.in_flight
    context.__exit__(None, None, None)
    assert files_of(small_run.path) == before
    state = restore(search.recorder.store)  # checks every file and the chain of hashes
    assert state.generation == search.search.statistics.generation
    view = evofool.open_run(tmp_path / "copy").elites()
    assert len(view) == 10 and small_run.status()["generation"] < view.as_of_generation[0] <= state.generation


@pytest.mark.slow
def test_what_is_timed_is_the_search_itself(config: Config, tmp_path: Path, one_thread: None) -> None:
    """It finds what the run would have found."""
    config = load_config(config, ["search.lag=1"])
    run = evofool.run(config, out=tmp_path / "run")
    search, context = continued(config, run.path, tmp_path / "copy")
    search.stretch(0.1)
    context.__exit__(None, None, None)
    again = evofool.resume(run.path, [f"search.generations={search.search.statistics.generation + 1}"])
    assert again.archive_hash == search.search.archive_hash.hex()


@pytest.mark.slow
def test_a_pool_that_wastes_time_is_slower_and_idle(
    config: Config, small_run: evofool.Run, tmp_path: Path, one_thread: None
) -> None:
    search, context = continued(config, small_run.path, tmp_path / "wasteful", Wasteful)
    stretch = search.stretch(1.0)
    context.__exit__(None, None, None)
    assert stretch.per_second <= 50 / WASTE
    assert stretch.idle >= stretch.generations * WASTE / stretch.seconds


@pytest.mark.slow
def test_a_slow_network_slows_the_network_alone_and_the_search_alike(
    config: Config, tmp_path: Path, one_thread: None
) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    spec = f"target.spec=python:{tmp_path}/sleeper.py:build"
    config = load_config(config, [spec, "evaluation.micro_batch=25", "evaluation.chunk=25", "search.offspring=25"])
    run = evofool.run(config, out=tmp_path / "run", allow_code=True)
    rival = Rival(config, Source(config.target.spec, True), 0)
    assert rival.prepare(Numerics("cpu", 25, 25, 1, "channels_last"))
    alone, from_bytes = rival.measure(0.2).per_second, rival.measure_bytes(0.2).per_second
    search, context = continued(config, run.path, tmp_path / "copy", code=True)
    whole = search.stretch(0.5).per_second
    context.__exit__(None, None, None)
    limit = 25 / SLEEP
    assert max(alone, from_bytes, whole) <= limit


def test_the_network_alone_may_have_any_processes_and_threads(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    rivals = Rivals(config, Source(config.target.spec), "cpu")  # the config's pool is inline: no limit for a rival
    assert rivals.arrangements() == [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]
    assert rivals.share(Choice(NUMERICS, 4)) == 1.0


@pytest.mark.slow
def test_the_workbench_measures_every_part(config: Config, tmp_path: Path, one_thread: None) -> None:
    config = load_config(config, ["storage.commit_every=7", "evaluation.chunk=50"])
    bench = Workbench(config, Source(config.target.spec), 0)
    assert bench.pace(NUMERICS) > 0
    bench.make(4, 50, tmp_path / "run")
    facts = bench.open(tmp_path / "run", tmp_path / "copies")
    assert facts["generations"] == 100 and facts["evaluations"] == 400 and facts["hidden_nodes"] > 0
    rows = {key: bench.part(*key, 0.0).evaluations for key in bench.parts()}
    assert rows == {
        ("render", ARCHIVE): 50,
        ("render", DEEP): 50,
        ("vary", ARCHIVE): 50,
        ("vary", DEEP): 50,
        ("quantise", ""): 50,
        ("score", ""): 50,
        ("place", ""): 50,
        ("commit", ""): 350,
    }
    commits = len(bench.spare.log.commits)
    bench.part("commit", "", 0.0)
    assert len(bench.spare.log.commits) == commits + 1


# -------------------------------------------------------------------------------------------------------- the command


KEYS = {"ratio", "ratios", "pool", "stages", "forward", "end_to_end", "archive", "machine", "numerics", "repeats"}


def checked(out: str, pools: set[str]) -> dict[str, Any]:
    """What every benchmark's JSON holds."""
    data: dict[str, Any] = json.loads(out)
    assert data.keys() >= KEYS and data["ratios"].keys() == data["end_to_end"].keys() == pools
    assert data["ratio"] == data["ratios"][data["pool"]]["ratio"]
    for pool, ratio in data["ratios"].items():
        assert ratio["ratio"] == pytest.approx(ratio["end_to_end"] / ratio["forward"])
        search = data["end_to_end"][pool]
        assert data["repeats"] <= search["views"] <= search["commits"] and search["evaluations"] > 0
    assert all(len(stage["rounds"]) == data["repeats"] and stage["per_second"] > 0 for stage in data["stages"])
    assert data["machine"]["processor"] and data["machine"]["versions"]["torch"]
    assert data["archive"]["generations"] >= 100
    return data


@pytest.mark.slow
def test_bad_input_is_refused_in_one_sentence(
    command: Command, config: Config, small_run: evofool.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, other = tmp_path / "c.yaml", tmp_path / "other.safetensors"
    file.write_text(to_yaml(config))
    from safetensors.torch import load_file, save_file

    weights = Path(config.target.spec.removeprefix("lenet:"))
    tensors = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    names = json.dumps([str(i) for i in range(10)])
    save_file(tensors, str(other), {"format": "evofool.lenet.1", "class_names": names})
    run = ("--run", small_run.path)
    for arguments, sentence in (
        ((file, "--repeats", "0"), "at least one round"),
        ((file, "--seconds", "-1"), "some time"),
        ((file, "--run", tmp_path / "none"), "no such run"),
        ((file, *run), "6 of the 100 generations"),
        ((file, f"target.spec=lenet:{other}", *run), "another target"),
        ((file, "encoding.kind=direct", *run), "another encoding"),
        ((file, "target.classes=[1, 2]", *run), "other target.classes"),
        ((file, "encoding.arithmetic=torch", *run), "another encoding"),
        ((file, "target.spec=python:evil.py:build"), "--allow-code"),
        ((), "evofool targets train lenet"),  # the quickstart's weights are not there
        (("seed=3",), "evofool targets train lenet"),
        (("seed=x",), "seed"),
        ((tmp_path / "none.yaml",), "no such config"),
    ):
        code, out, err = command("cluster", "bench", *arguments)
        assert code == 2 and sentence in err and not out and err.count("\n") == 1, (arguments, err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml", "other.safetensors", "run"]


def test_the_table_shows_both_figures_beside_each_ratio(
    command: Command, config: Config, tmp_path: Path, result: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(measuring, "bench", lambda config, **options: asked.update(options, config=config) or result)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(config))
    code, out, _ = command(
        "cluster", "bench", file, "seed=9", "--repeats", "3", "--seconds", "7", "--no-ray", "--run", tmp_path
    )
    assert code == 0 and asked.pop("config").seed == 9 and callable(asked.pop("tell"))
    assert asked == {"seconds": 7.0, "repeats": 3, "run": tmp_path, "ray": False, "allow_code": False}
    assert "end_to_end (ray) / forward: 160.0 / 320.0 evaluations/s = 0.500 (0.469 to 1.000)" in out
    assert "end_to_end (inline) / forward: 100.0 / 320.0 evaluations/s = 0.312" in out
    assert "idle 25.0%, driver 1,000.0 us an evaluation" in out and "1 processes of 2 threads" in out
    assert "micro-batches from 128 on are slower" in out
    assert json.loads(command("cluster", "bench", file, "--json")[1])["ratio"] == 0.5


@pytest.mark.proof
@pytest.mark.slow
def test_the_command_measures_in_this_process_and_tidies_up(
    command: Command, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.yaml"
    file.write_text(
        to_yaml(load_config(config, ["evaluation.pool=ray", "encoding.kind=direct", "search.offspring=20"]))
    )
    evofool.run(file, ["evaluation.pool=inline", "search.generations=100"], out=tmp_path / "run")
    before = files_of(tmp_path)
    code, out, err = command(
        "cluster", "bench", file, "--run", "run", "--no-ray", "--seconds", 3, "--repeats", 2, "--json"
    )
    assert code == 0, err
    data = checked(out, {"inline"})
    assert (
        data["pool"] == "inline" and not data["archive"]["made"] and data["archive"]["evaluations"] == 2 * 50 + 98 * 20
    )
    assert {s["kind"] for s in data["stages"]} >= {ARCHIVE, "inline", "with uint8 input"}
    assert DEEP not in {s["kind"] for s in data["stages"]}
    assert files_of(tmp_path) == before and not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.proof
def test_the_command_measures_over_ray(
    command: Command, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.yaml"
    file.write_text(to_yaml(load_config(config, ["evaluation.pool=ray", "search.offspring=20"])))
    code, out, err = command("cluster", "bench", file, "--seconds", 3, "--repeats", 1, "--json")
    assert code == 0, err
    data = checked(out, {"inline", "ray"})
    assert data["pool"] == "ray" and data["archive"]["made"] and "making an archive: 100 generations" in err
    assert any(stage["name"] == "round trip" for stage in data["stages"])
    cores = data["machine"]["cores"]
    assert data["end_to_end"]["ray"]["evaluators"] == cores and 0 <= data["end_to_end"]["ray"]["idle_share"] < 1
    assert {(s["name"], s["kind"]) for s in data["stages"]} >= {("render", DEEP), ("vary", DEEP)}
    assert np.isfinite(data["end_to_end"]["ray"]["driver_seconds_per_evaluation"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml"]
