"""Over Ray: evaluators, nodes, heads and drivers are lost in the middle of chunks. The archive must be the inline one.

One Ray serves many runs of a toy target whose forward pass takes a while, so that most losses hit a chunk in flight.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import ray
from ray.cluster_utils import Cluster

import evofool
from chaos.outcome import Outcome
from chaos.toy import TARGET, Toy
from evofool.evaluate.over_ray.pool import RayPool
from evofool.runs.observers.observer import GenerationPlaced, Warned

__all__ = [
    "trial_counts",
    "trial_driver_kills",
    "trial_hangs",
    "trial_head_losses",
    "trial_kills",
    "trial_memory",
    "trial_node_losses",
    "trial_segfaults",
]

PAUSE = 0.02  # seconds of a forward pass
PER_RUN = 5  # faults in one run
GENERATIONS = 60
OLDEST_LOSS = 60.0  # seconds that a run may take longer for a loss
# Dies of memory while the file MEMORY says so, which it then deletes: once for each time that the file is made.
HUNGRY = TARGET.replace(
    '        time.sleep(float(os.environ.get("CHAOS_PAUSE", "0")))\n',
    '        time.sleep(float(os.environ.get("CHAOS_PAUSE", "0")))\n'
    "        try:\n"
    '            os.unlink("MEMORY")\n'
    "        except FileNotFoundError:\n"
    "            pass\n"
    "        else:\n"
    '            raise torch.OutOfMemoryError("as told")\n',
)


def toy(folder: Path, target: str = TARGET, **keys: Any) -> Toy:
    """Runs over Ray, long enough for a few losses."""
    evaluation = {"pool": "ray", "evaluators": 2, "chunk": 5, "micro_batch": 5, **keys}
    return Toy(folder, GENERATIONS, target, evaluation=evaluation)


def inline(made: Toy) -> str:
    """The archive hash of the same run in this process, where nothing happens."""
    run = evofool.run(made.config, ["evaluation.pool=inline"], out=made.folder / "inline", allow_code=True)
    assert run.archive_hash is not None
    return run.archive_hash


@contextlib.contextmanager
def one_ray(cpus: int) -> Iterator[None]:
    """A Ray of this process's own, found by every run in it."""
    os.environ["CHAOS_PAUSE"] = str(PAUSE)
    os.environ.pop("RAY_ADDRESS", None)
    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 128 << 20, "log_to_driver": False}
    options["logging_level"] = "ERROR"
    ray.init(address="local", num_cpus=cpus, **options)
    try:
        yield
    finally:
        ray.shutdown()
        os.environ["CHAOS_PAUSE"] = "0"


def scoring() -> list[psutil.Process]:
    """Evaluators that score just now, of any Ray that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::Actor.perform"):  # Ray shows the method in the title
                found.append(process)
    return found


class Nemesis(evofool.Observer):
    """Does something at given generations, beside the driver rather than in its way."""

    def __init__(self, strike: Callable[[], bool], generations: list[int]) -> None:
        self.strike, self.generations, self.struck = strike, set(generations), 0
        self.warnings: list[str] = []
        self.threads: list[threading.Thread] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        if event.statistics.generation in self.generations:
            self.threads.append(threading.Thread(target=self._strike, daemon=True))
            self.threads[-1].start()

    def on_warning(self, event: Warned) -> None:
        self.warnings.append(event.text)

    def _strike(self) -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if self.strike():
                self.struck += 1
                return
            time.sleep(0.005)


def disturbed(
    trials: int, folder: Path, seed: int, strike: Callable[[random.Random], bool], *, made: Toy, per_run: int = PER_RUN
) -> Outcome:
    """Runs in which something is done `trials` times in all."""
    draw, outcome = random.Random(seed), Outcome()
    whole = inline(made)
    while outcome.trials < trials:
        faults, run = min(per_run, trials - outcome.trials), folder / f"run-{outcome.trials}"
        space = (GENERATIONS - 15) // faults
        nemesis = Nemesis(lambda: strike(draw), [5 + space * i + draw.randrange(space) for i in range(faults)])
        began = time.monotonic()
        with outcome.trial(f"run from fault {outcome.trials}"):
            outcome.trials += faults - 1
            done = evofool.run(made.config, out=run, allow_code=True, observers=[nemesis])
            for thread in nemesis.threads:
                thread.join()
            facts = done.provenance["sessions"][-1]
            outcome.counts["faults"] += nemesis.struck
            outcome.counts["chunks sent again"] += facts["requeued_chunks"]
            outcome.counts["chunks compared"] += facts["compared_chunks"]
            assert done.archive_hash == whole, "another archive"
            assert nemesis.struck == faults, f"only {nemesis.struck} of {faults} faults met an evaluator"
            took = time.monotonic() - began
            assert took < faults * OLDEST_LOSS, f"{took:.0f} s for {faults} faults"
        shutil.rmtree(run, ignore_errors=True)
    return outcome


def nobody_helps() -> Any:
    """No idle evaluator scores a chunk that another has: what is lost has to be sent again."""
    return mock.patch.object(RayPool, "_straggler", lambda self: None)


def send(number: int) -> Callable[[random.Random], bool]:
    """A signal to some evaluator that is scoring."""

    def strike(draw: random.Random) -> bool:
        found = scoring()
        if found:
            draw.choice(found).send_signal(number)
        return bool(found)

    return strike


def trial_kills(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """kill -9 of an evaluator in the middle of a chunk."""
    with one_ray(2):
        return disturbed(trials, folder, seed, send(signal.SIGKILL), made=toy(folder))


def trial_segfaults(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """A segmentation fault of an evaluator in the middle of a chunk."""
    with one_ray(2):
        return disturbed(trials, folder, seed, send(signal.SIGSEGV), made=toy(folder))


def trial_hangs(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """An evaluator that stops for ever in the middle of a chunk; nobody else may finish it."""
    with one_ray(2), nobody_helps():
        made = toy(folder, chunk_timeout=3.0)
        return disturbed(trials, folder, seed, send(signal.SIGSTOP), made=made, per_run=2)


def trial_memory(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """A network that says its device is out of memory: its process ends itself."""
    request = folder / "memory"
    with one_ray(2):
        made = toy(folder, HUNGRY.replace("MEMORY", str(request)))

        def strike(draw: random.Random) -> bool:
            request.touch()
            until = time.monotonic() + 5
            while request.exists() and time.monotonic() < until:
                time.sleep(0.01)
            return not request.exists()

        return disturbed(trials, folder, seed, strike, made=made)


def trial_counts(trials: int | None, folder: Path, seed: int = 0) -> Outcome:
    """1, 2, 3 and 5 evaluators, left alone and killed; each begun by three and finished by so many."""
    draw, outcome = random.Random(seed), Outcome()
    with one_ray(5):
        made = toy(folder)
        whole = inline(made)
        cases = [(n, kill) for n in (1, 2, 3, 5) for kill in (False, True)]
        for n, kill in cases[:trials]:
            run = folder / f"run-{n}-{kill}"
            with outcome.trial(f"{n} evaluators, kills: {kill}"):
                nemesis = Nemesis(lambda: send(signal.SIGKILL)(draw), [25, 35, 45] if kill else [])
                for count, stop in ((3, GENERATIONS // 3), (n, GENERATIONS)):
                    keys = [f"evaluation.evaluators={count}", f"search.generations={stop}"]
                    done = evofool.run(made.config, keys, out=run, allow_code=True, observers=[nemesis])
                assert done.archive_hash == whole, "another archive"
                outcome.counts["kills"] += nemesis.struck
            shutil.rmtree(run, ignore_errors=True)
    return outcome


# ------------------------------------------------------------------------------------------- drivers, nodes and heads


def driver(made: Toy, run: Path, address: str, *options: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, on a Ray that goes on without it."""
    command = [sys.executable, "-m", "evofool", *made.arguments(run), "--address", address, *options]
    environment = {**os.environ, "CHAOS_PAUSE": str(PAUSE)}
    output = (made.folder / "output").open("wb")
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)


def wait_for_commit(run: Path, process: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + 60
    while not any((run / "_evofool" / "commits").glob("*.json")):
        assert process.poll() is None and time.monotonic() < until, output.read_text(errors="replace")[-1500:]
        time.sleep(0.02)


def trial_driver_kills(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """kill -9 of a driver over Ray, then it is resumed to its end."""
    draw, outcome = random.Random(seed), Outcome()
    with one_ray(2):
        made = toy(folder)
        whole, address = inline(made), ray.get_runtime_context().gcs_address
        os.environ["RAY_AUTH_MODE"] = "token"  # Ray guards what it starts on one machine
        for trial in range(trials):
            run = folder / f"run-{trial}"
            with outcome.trial(f"kill {trial}"):
                process = driver(made, run, address)
                wait_for_commit(run, process, made.folder / "output")
                time.sleep(draw.uniform(0, 1.5))
                outcome.counts["with a chunk in flight"] += bool(scoring())
                process.kill()
                process.wait()
                done = evofool.run(made.config, out=run, allow_code=True)
                assert done.archive_hash == whole, "another archive"
            shutil.rmtree(run, ignore_errors=True)
    return outcome


@contextlib.contextmanager
def several_nodes(count: int) -> Iterator[Cluster]:
    """A head without evaluators, and nodes of one core each: raylets of their own on this machine."""
    os.environ["CHAOS_PAUSE"] = str(PAUSE)
    os.environ.pop("RAY_ADDRESS", None)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()
        os.environ["CHAOS_PAUSE"] = "0"


def trial_node_losses(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """A node's raylet is killed while its evaluator scores: that ends itself, and another goes on on a third node.

    In every other trial nobody else may score the lost chunks before they are sent again.
    """
    draw, outcome = random.Random(seed), Outcome()
    made = toy(folder)
    whole = inline(made)
    for trial in range(trials):
        run = folder / f"run-{trial}"
        helped = trial % 2 == 1
        help_or_not = contextlib.nullcontext() if helped else nobody_helps()
        with outcome.trial(f"node {trial}"), several_nodes(3) as cluster, help_or_not:
            orphans: list[psutil.Process] = []

            def strike(orphans: list[psutil.Process] = orphans) -> bool:
                if found := scoring():
                    orphans.append(draw.choice(found))
                    orphans[0].parent().kill()
                return bool(found)

            nemesis = Nemesis(strike, [10])
            address = evofool.OpenCluster(cluster.address)  # several_nodes asks for no token
            done = evofool.run(made.config, out=run, allow_code=True, address=address, observers=[nemesis])
            for thread in nemesis.threads:
                thread.join()
            assert nemesis.struck == 1, "no evaluator was scoring"
            assert done.archive_hash == whole, "another archive"
            assert not psutil.wait_procs(orphans, timeout=5)[1], "an orphan goes on"
            again = done.provenance["sessions"][-1]["requeued_chunks"]
            assert again or helped, "what the node had was not sent again"
            outcome.counts["chunks sent again"] += again
        shutil.rmtree(run, ignore_errors=True)
    return outcome


def trial_head_losses(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """The head's control process is killed; the driver ends, and the run is resumed on a new cluster."""
    draw, outcome = random.Random(seed), Outcome()
    made = toy(folder)
    whole = inline(made)
    os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"  # noqa: SIM112 - it is spelt so
    for trial in range(trials):
        run = folder / f"run-{trial}"
        with outcome.trial(f"head {trial}"):
            with several_nodes(1) as cluster:
                process = driver(made, run, cluster.address, "--insecure-cluster")
                wait_for_commit(run, process, made.folder / "output")
                time.sleep(draw.uniform(0, 0.5))
                cluster.head_node.kill_gcs_server()
                began = time.monotonic()
                process.wait(60)
                outcome.counts["s at most until the driver had ended"] = max(
                    outcome.counts["s at most until the driver had ended"], round(time.monotonic() - began)
                )
            with one_ray(2):
                done = evofool.run(made.config, out=run, allow_code=True)
            assert done.archive_hash == whole, "another archive"
        shutil.rmtree(run, ignore_errors=True)
    return outcome
