"""Over Ray: the same archive for any number of evaluators, any order, and after losses; and how Ray is treated."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray

import evofool
from evofool.config import Config, load_config
from evofool.encoding import variation
from evofool.errors import EvaluationFailed, ResourcesMissing, TargetError
from evofool.evaluate.over_ray import cluster as ray_cluster
from evofool.evaluate.over_ray import pool
from evofool.evaluate.over_ray.actor import Actor
from evofool.evaluate.problem import problem_of
from evofool.runs.observers.observer import GenerationPlaced, Warned
from evofool.targets.numerics import default_numerics
from evofool.targets.opening import open_target

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# A network whose forward pass takes a random time, so that chunks finish out of order; what it returns is fixed.
JITTERY = """
import random, time
import torch, evofool

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(10, 28 * 28, generator=generator) * 0.2)
        self.clock = random.Random()

    def forward(self, x):
        time.sleep(self.clock.random() * {seconds})
        return x.flatten(1) @ self.weight.T

def build():
    preprocessing = evofool.Preprocessing((28, 28), 1, (0.0,), (255.0,))
    return evofool.Target(Net(), preprocessing, tuple("abcdefghij"))
"""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One small Ray for all tests here; evofool finds it and must leave it alone."""
    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 128 << 20, "log_to_driver": False}
    ray.init(address="local", num_cpus=4, **options)
    yield
    assert ray.is_initialized(), "evofool shut down a Ray that it did not start"
    ray.shutdown()


@pytest.fixture
def long(config: Config) -> Config:
    """16 generations of 100, by default over two Ray evaluators."""
    search = {"offspring": 100, "initial": 100, "generations": 16}
    evaluation = {"pool": "ray", "evaluators": 2}
    return load_config({**config.model_dump(), "search": search, "evaluation": evaluation})


def session(run: evofool.Run) -> dict[str, Any]:
    last: dict[str, Any] = run.provenance["sessions"][-1]
    return last


# A run in stretches: how many evaluators, and up to which generation.
@pytest.mark.parametrize(("kind", "stretches"), [("cppn", [(3, 9), (1, 16)]), ("direct", [(2, 16)])])
def test_any_number_of_evaluators_gives_the_inline_archive(
    long: Config, tmp_path: Path, kind: str, stretches: list[tuple[int, int]]
) -> None:
    keys = [f"encoding.kind={kind}"]
    expected = evofool.run(long, [*keys, "evaluation.pool=inline"], out=tmp_path / "inline").archive_hash
    for count, stop in stretches:
        changed = [f"evaluation.evaluators={count}", f"search.generations={stop}"]
        run = evofool.run(long, [*keys, *changed], out=tmp_path / "ray")
        assert session(run)["evaluators"] == count
    assert run.archive_hash == expected


@pytest.fixture
def jittery(tmp_path: Path) -> str:
    path = tmp_path / "jittery.py"
    path.write_text(JITTERY.replace("{seconds}", "0.008"))
    return f"target.spec=python:{path}:build"


def test_completions_out_of_order_change_nothing(long: Config, tmp_path: Path, jittery: str) -> None:
    keys = [jittery, "evaluation.chunk=8", "evaluation.micro_batch=8", "search.lag=4"]
    inline = evofool.run(long, [*keys, "evaluation.pool=inline"], out=tmp_path / "inline", allow_code=True)
    run = evofool.run(long, [*keys, "evaluation.evaluators=3"], out=tmp_path / "ray", allow_code=True)
    assert session(run)["out_of_order_chunks"] >= 10
    assert sum(node["chunks"] for node in session(run)["nodes"]) == 16 * 13  # each once, whoever scored it too
    assert run.archive_hash == inline.archive_hash


class Striker(evofool.Observer):
    """Sends a signal to an evaluator while it scores, from a thread of its own so that the driver goes on."""

    def __init__(self, number: int, generations: tuple[int, ...]) -> None:
        self.number, self.generations, self.struck = number, generations, 0

    def on_generation(self, event: GenerationPlaced) -> None:
        if event.statistics.generation in self.generations:
            threading.Thread(target=self.strike, daemon=True).start()

    def strike(self) -> None:
        for _ in range(500):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # Ray shows the method that an actor runs in the title of its process.
                    if " ".join(process.cmdline()).startswith("ray::Actor.perform"):
                        process.send_signal(self.number)
                        self.struck += 1
                        return
            time.sleep(0.01)


def test_a_killed_evaluators_chunk_is_scored_elsewhere(long: Config, tmp_path: Path, jittery: str) -> None:
    keys = [jittery, "search.lag=2", "evaluation.chunk=8", "evaluation.micro_batch=8"]
    inline = evofool.run(long, [*keys, "evaluation.pool=inline"], out=tmp_path / "inline", allow_code=True)
    striker = Striker(signal.SIGKILL, generations=(3, 9))
    run = evofool.run(long, keys, out=tmp_path / "ray", allow_code=True, observers=[striker])
    assert striker.struck == 2
    assert session(run)["requeued_chunks"] >= 1
    assert run.archive_hash == inline.archive_hash


def test_a_hung_evaluator_is_killed_and_its_chunk_scored_again(
    long: Config, tmp_path: Path, jittery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.RayPool, "_straggler", lambda self: None)  # else nobody waits for it
    keys = [
        jittery,
        "search.generations=12",
        "evaluation.chunk_timeout=3",
        "evaluation.chunk=8",
        "evaluation.micro_batch=8",
    ]
    inline = evofool.run(long, [*keys, "evaluation.pool=inline"], out=tmp_path / "inline", allow_code=True)
    striker = Striker(signal.SIGSTOP, generations=(4,))
    run = evofool.run(long, keys, out=tmp_path / "ray", allow_code=True, observers=[striker])
    assert striker.struck == 1
    assert session(run)["requeued_chunks"] >= 1
    assert run.archive_hash == inline.archive_hash


@pytest.mark.proof
def test_a_hung_evaluator_holds_nobody_up(long: Config, tmp_path: Path, jittery: str) -> None:
    keys = [jittery, "search.generations=12", "evaluation.chunk=8", "evaluation.micro_batch=8"]
    inline = evofool.run(long, [*keys, "evaluation.pool=inline"], out=tmp_path / "inline", allow_code=True)
    striker = Striker(signal.SIGSTOP, generations=(4,))
    run = evofool.run(long, keys, out=tmp_path / "ray", allow_code=True, observers=[striker])
    assert striker.struck == 1
    assert session(run)["requeued_chunks"] == 0  # it is not lost: evaluation.chunk_timeout is ten minutes
    assert run.archive_hash == inline.archive_hash


@pytest.mark.proof
def test_a_network_that_kills_its_process_every_time_is_given_up(
    long: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_ATTEMPTS", 2)  # a process takes seconds to start
    path = tmp_path / "deadly.py"
    deadly = JITTERY.replace("{seconds}", "0").replace(
        "        return x.flatten",
        "        import inspect, os\n"
        "        in_search = all(frame.function != 'canary' for frame in inspect.stack())\n"
        "        if in_search: os.kill(os.getpid(), 9)\n        return x.flatten",
    )
    path.write_text(deadly)
    keys = [f"target.spec=python:{path}:build", "evaluation.evaluators=1", "search.lag=1"]
    with pytest.raises(EvaluationFailed, match=r"generation 0, slots 0 to") as caught:
        evofool.run(long, keys, out=tmp_path / "run", allow_code=True)
    assert caught.value.exit_code == 7
    assert caught.value.go_on == f"evofool resume {tmp_path / 'run'}"


def test_a_targets_own_error_comes_back_as_one(long: Config, tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(JITTERY.replace("{seconds}", "0").replace("@ self.weight.T", "@ self.weight[:9].T"))
    with pytest.raises(TargetError, match=r"returned \(.*9\)"):
        evofool.run(long, [f"target.spec=python:{path}:build"], out=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "run").exists()


def test_too_little_of_a_resource_is_said_with_demand_and_supply(long: Config, tmp_path: Path) -> None:
    keys = ["evaluation.threads=64", "evaluation.ready_timeout=2"]
    with pytest.raises(ResourcesMissing, match=r"each needs 64 CPU, and the whole cluster has 4 CPU"):
        evofool.run(long, keys, out=tmp_path / "run")


@pytest.mark.proof
def test_more_evaluators_than_fit_is_a_warning(long: Config, tmp_path: Path) -> None:
    warnings: list[str] = []

    class Listener(evofool.Observer):
        def on_warning(self, event: Warned) -> None:
            warnings.append(event.text)

    keys = ["evaluation.evaluators=3", "evaluation.threads=2", "search.generations=3"]
    run = evofool.run(long, keys, out=tmp_path / "run", observers=[Listener()])
    assert warnings == ["3 evaluators were asked for; the cluster has room for 2."]
    assert session(run)["evaluators"] == 2


def test_images_do_not_travel(long: Config) -> None:
    """A chunk's reply is scores and hashes: far smaller than its images would be."""
    numerics = default_numerics("cpu", "lenet")
    problem = problem_of(long, open_target(long.target), allow_code=False)
    actor = ray.remote(Actor).options(num_cpus=1).remote()
    ray.get(actor.hello.remote(problem.recipe(numerics)))
    scores, _, _ = ray.get(actor.perform.remote("score", variation.initial(problem.genomes, 1, 0, 50)))
    ray.kill(actor)
    size = sum(array.nbytes for array in vars(scores).values() if array is not None)
    assert size == 50 * (2 * 4 * 10 + 5 * (4 + 4) + 32) < 50 * 28 * 28  # log-odds and objective, top-5, hash


# ------------------------------------------------------------------------------------------------------- connecting


@pytest.fixture
def fresh_python() -> Any:
    """Connects to each of some places in turn, in a process that has no Ray yet; the line that it says of each."""

    def run(*places: str, **environment: str) -> list[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | environment
        command = [sys.executable, "-c", CONNECT, *places]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120).stdout.splitlines()

    return run


CONNECT = """
import os, sys
import ray
from evofool.errors import EvofoolError
from evofool.evaluate.over_ray.cluster import connect
for place in sys.argv[1:]:
    name, _, address = place.rpartition("=")  # of a variable, or of none
    os.environ.update({name: address} if name else {})
    try:
        cluster = connect(None if name or not address else address, 1)
        print("started" if cluster.started else "found", cluster.supply("CPU"))
        cluster.close()
        ray.shutdown()
    except EvofoolError as error:
        print(error.exit_code, error)
"""


def test_a_running_cluster_is_found_by_address_and_variable_and_left_running(fresh_python: Any) -> None:
    address = ray.get_runtime_context().gcs_address
    # Ray guards a cluster that it starts here with a token, and a driver has to say so.
    said = fresh_python(address, f"RAY_ADDRESS={address}", "local", RAY_AUTH_MODE="token")
    assert said == ["found 4.0", "found 4.0", "started 1.0"]
    assert ray.cluster_resources()["CPU"] == 4


def test_addresses_that_cannot_be_meant(fresh_python: Any) -> None:
    silent, jobs, shape = fresh_python("127.0.0.1:9", "RAY_ADDRESS=http://127.0.0.1:8265", "somewhere")
    assert silent.startswith("3 --address=127.0.0.1:9: nothing answers there")
    assert jobs.startswith("3 RAY_ADDRESS=http://127.0.0.1:8265 is the address of Ray's Jobs API")
    assert shape.startswith("3 --address=somewhere is not HOST:PORT")


SEEN = """
import sys
from evofool.evaluate.over_ray.cluster import connect
import ray
cluster = connect("local", 1)
seen = ray.remote(lambda: (sys.path, "ray.data" in sys.modules))
print(*ray.get(seen.remote()), sep=chr(10))
cluster.close()
"""


@pytest.mark.proof
def test_workers_do_not_import_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "script.py").write_text(SEEN)
    command = [sys.executable, str(tmp_path / "elsewhere" / "script.py")]
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, cwd=tmp_path)
    path, data = result.stdout.splitlines()
    assert str(tmp_path / "elsewhere") in path  # the driver's own: a live target's class may be defined there
    assert repr(str(tmp_path)) not in path
    assert data == "False"


def test_a_ray_that_another_process_started_for_itself_is_not_joined(fresh_python: Any) -> None:
    assert fresh_python("") == ["started 1.0"]


def test_only_what_ray_start_noted_and_still_answers_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(ray_cluster, "read_ray_address", lambda: address)
        assert ray_cluster._noted() == address
    assert ray_cluster._noted() == ""
    monkeypatch.setattr(ray_cluster, "read_ray_address", lambda: None)
    assert ray_cluster._noted() == ""


def test_a_head_that_is_silent_for_long_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    now, answers = [100.0], [True]
    monkeypatch.setattr(ray_cluster, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: answers[0])
    cluster = ray_cluster.Cluster(started=False, address="10.0.0.1:6379")
    cluster.check()
    answers[0] = False
    for seconds in (1.0, ray_cluster.PATIENCE - 1.0):
        now[0] += seconds
        cluster.check()
    now[0] += 1.5
    with pytest.raises(ResourcesMissing, match=r"at 10\.0\.0\.1:6379 for 40 s"):
        cluster.check()
    assert cluster.gone


LAST_WORDS = """
import os, sys
from evofool.cli.output import last_words
from evofool.config import load_config
config = load_config({"name": "mine", "target": {"spec": "efficientnet-lite:0"}}, ["evaluation.pool=" + sys.argv[1]])
with last_words(config, None):
    if sys.argv[2] == "dies":
        os._exit(1)
"""


@pytest.mark.parametrize(("kind", "end", "speaks"), [("ray", "dies", 1), ("ray", "lives", 0), ("inline", "dies", 0)])
def test_a_driver_that_ray_ends_has_last_words(kind: str, end: str, speaks: int) -> None:
    command = [sys.executable, "-c", LAST_WORDS, kind, end]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stderr.count("go on with: evofool resume runs/mine") == speaks, result.stderr


def test_an_initialised_ray_is_used_as_it_is() -> None:
    cluster = ray_cluster.connect(None, 1)
    assert not cluster.started
    cluster.close()
    assert ray.is_initialized()
