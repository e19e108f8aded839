"""Two hosts with a cable between them: the cable is cut, the head is lost, strangers knock.

Everything runs over the commands of `cluster/on-premise.yaml`, and the archive must be the inline one.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import psutil

import evofool
from chaos import evaluators
from chaos.machines import ADDRESSES, HEAD, TOKEN, Host, Hosts, two_hosts
from chaos.outcome import Outcome
from chaos.toy import Toy
from evofool.machines import launch

__all__ = ["SABOTAGE", "trial_cut_cables", "trial_lost_hosts", "trial_strangers", "trial_tls"]

PAUSE = "0.1"  # seconds of a forward pass
LONG_PAUSE = "0.2"  # while strangers knock
RUN = 300.0  # seconds that a run may take
# Ray declares a node dead after about 15 s; here after about 4.
HASTE = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "1000"}
HASTE |= {"RAY_health_check_failure_threshold": "3", "RAY_health_check_initial_delay_ms": "1000"}
NODES = f"""
import json, ray, sys, time
ray.init("{HEAD}", log_to_driver=False, logging_level="ERROR")
until = time.monotonic() + 60
while True:
    nodes = {{n["NodeID"]: n["NodeManagerHostname"] for n in ray.nodes() if n["Alive"]}}
    if len(nodes) == int(sys.argv[1]) or time.monotonic() > until:
        break
    time.sleep(0.1)
print(json.dumps(nodes))
"""


def nodes(hosts: Hosts, count: int) -> dict[str, str]:
    """{node id: host} of living nodes, once there are so many."""
    said = hosts.head.do(sys.executable, "-c", NODES, str(count), env=hosts.opened(hosts.head))
    found: dict[str, str] = json.loads(said.splitlines()[-1])
    assert len(found) == count, found
    return found


def scores(host: Host) -> bool:
    """Whether an evaluator there scores just now."""
    for process in psutil.Process(host.init).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::Actor.perform"):
                return True
    return False


class Run:
    """A driver on the head, and what it is to give."""

    def __init__(self, hosts: Hosts, made: Toy, path: Path) -> None:
        self.hosts, self.made, self.path = hosts, made, path
        self.output = made.folder / "output"
        with self.output.open("wb") as output:
            arguments = [*made.arguments(path), "--address", HEAD, "--resume", "auto"]
            self.process = hosts.driver(*arguments, stdout=output, stderr=subprocess.STDOUT)

    def wait_until_scoring(self, host: Host) -> None:
        """Until something is committed and an evaluator of the host has a chunk."""
        evaluators.wait_for_commit(self.path, self.process, self.output)
        until = time.monotonic() + 30
        while not scores(host):
            assert self.process.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.005)

    def finished(self, whole: str) -> dict[str, Any]:
        """Wait for its end; what it says of this session."""
        assert self.process.wait(RUN) == 0, self.said()
        run = evofool.open_run(self.path)
        assert run.archive_hash == whole, "another archive"
        session: dict[str, Any] = run.provenance["sessions"][-1]
        return session

    def said(self) -> str:
        return self.output.read_text(errors="replace")[-1500:]


def hosts_of(session: dict[str, Any], known: dict[str, str], chunks: int) -> None:
    """Evaluators on both hosts must have scored, and every chunk of the archive must be somebody's."""
    shares = {share["node"]: share for share in session["nodes"]}
    assert {node: share["host"] for node, share in shares.items()} == known, session["nodes"]
    assert all(share["chunks"] >= chunks // 10 for share in shares.values()), session["nodes"]
    assert sum(share["chunks"] for share in shares.values()) == chunks, session["nodes"]


def toy(folder: Path) -> tuple[Toy, str, int]:
    """Runs, the archive hash of each, and how many chunks it has."""
    made = evaluators.toy(folder, evaluators="auto")
    return made, evaluators.inline(made), made.generations * 20 // 5


# --------------------------------------------------------------------------------------------------------------- faults


def trial_cut_cables(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """The cable is pulled while the worker scores, until Ray takes it for dead; then it is put back and started again.

    Every second time the head has no evaluator, so that the run has to wait for the worker.
    """
    draw, outcome = random.Random(seed), Outcome()
    made, whole, _ = toy(folder)
    for trial in range(trials):
        alone, path = trial % 2 == 0, folder / f"run-{trial}"
        with outcome.trial(f"cable {trial}"), two_hosts({"CHAOS_PAUSE": PAUSE, **HASTE}, int(not alone)) as hosts:
            nodes(hosts, 2)
            run = Run(hosts, made, path)
            run.wait_until_scoring(hosts.worker)
            time.sleep(draw.uniform(0, 0.5))
            outcome.counts["with a chunk in flight"] += scores(hosts.worker)
            hosts.cut()
            nodes(hosts, 1)
            assert run.process.poll() is None, run.said()
            hosts.mend()
            hosts.start_worker()
            session = run.finished(whole)
            outcome.counts["chunks sent again"] += session["requeued_chunks"]
            back = sum(share["host"] == "worker" for share in session["nodes"]) == 2
            outcome.counts["runs that used the worker again"] += back
            assert not alone or (back and session["requeued_chunks"]), session
        shutil.rmtree(path, ignore_errors=True)
    return outcome


def trial_lost_hosts(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """The head loses its power, and the driver with it; the same command goes on on a new head."""
    draw, outcome = random.Random(seed), Outcome()
    made, whole, _ = toy(folder)
    for trial in range(trials):
        path = folder / f"run-{trial}"
        with outcome.trial(f"head {trial}"), two_hosts({"CHAOS_PAUSE": PAUSE}) as hosts:
            nodes(hosts, 2)
            run = Run(hosts, made, path)
            run.wait_until_scoring(hosts.worker)
            time.sleep(draw.uniform(0, 1.0))
            hosts.head.end()
            assert run.process.wait(10) != 0, "the driver had ended before"
            hosts.head = hosts.host("head")
            hosts.wire()
            hosts.start_head()
            hosts.start_worker()
            nodes(hosts, 2)
            session = Run(hosts, made, path).finished(whole)
            assert {share["host"] for share in session["nodes"]} == {"head", "worker"}, session
            outcome.counts["chunks left to the new head"] += sum(share["chunks"] for share in session["nodes"])
        shutil.rmtree(path, ignore_errors=True)
    return outcome


# ------------------------------------------------------------------------------------------------------------ strangers

STRANGERS = {"nobody": None, "somebody": "f" * 64}  # their tokens
OPEN = ("GET /metrics", "GET /api/healthz")  # Ray answers these to anybody
# What a stranger on the network tries at every port: noise, HTTP, and calls of Ray's without a token and with another.
KNOCK = """
import json, os, socket, sys
from concurrent.futures import ThreadPoolExecutor
import grpc

METHODS = [f"/ray.rpc.{name}" for name in (
    "NodeInfoGcsService/CheckAlive", "NodeInfoGcsService/GetAllNodeInfo", "JobInfoGcsService/AddJob",
    "InternalKVGcsService/InternalKVKeys", "ActorInfoGcsService/RegisterActor", "RayletDriver/ClusterInfo",
    "NodeManagerService/RequestWorkerLease", "NodeManagerService/ShutdownRaylet", "CoreWorkerService/PushTask",
    "CoreWorkerService/KillActor", "ObjectManagerService/Pull", "JobAgentService/InitializeJobEnv",
)]
JOB = json.dumps({"entrypoint": "touch " + sys.argv[2]})
HEAD = "Host: 127.0.0.1\\r\\nContent-Type: application/json\\r\\nContent-Length: "
WRONG = (("authorization", "Bearer " + "f" * 64),)

def say(port, what):
    with socket.create_connection((sys.argv[1], port), timeout=5) as link:
        link.settimeout(1)
        link.sendall(what)
        try:
            return link.recv(4096).decode("latin1")
        except OSError:
            return ""

def call(channel, method, metadata):
    try:
        channel.unary_unary(method)(b"", timeout=2, metadata=metadata)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"

def knock(port):
    found = {"noise": say(port, os.urandom(4096))}
    for path in ("/api/jobs/", "/api/job_agent/jobs/"):
        found["POST " + path] = say(port, f"POST {path} HTTP/1.1\\r\\n{HEAD}{len(JOB)}\\r\\n\\r\\n{JOB}".encode())
    for path in ("/metrics", "/api/v0/nodes", "/api/healthz", "/nodes"):
        found["GET " + path] = say(port, f"GET {path} HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n".encode())
    with grpc.insecure_channel(f"{sys.argv[1]}:{port}") as channel:
        for method in METHODS:
            for metadata, how in ((None, ""), (WRONG, " wrong token")):
                found[method + how] = call(channel, method, metadata)
                if found[method + how] in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    return port, found  # nobody there speaks it
    return port, found

with ThreadPoolExecutor(32) as pool:
    for port, found in pool.map(knock, map(int, sys.argv[3:])):
        print(json.dumps([port, found]))
"""


def trial_strangers(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """A host without the token tries every port of a cluster that works, and changes nothing."""
    outcome = Outcome()
    made, whole, chunks = toy(folder)
    for trial in range(trials):
        path = folder / f"run-{trial}"
        with outcome.trial(f"stranger {trial}"), two_hosts({"CHAOS_PAUSE": LONG_PAUSE}) as hosts:
            known = nodes(hosts, 2)
            run = Run(hosts, made, path)
            run.wait_until_scoring(hosts.worker)
            with ThreadPoolExecutor() as pool:
                at_once = [pool.submit(_join, hosts, made, folder / how, token) for how, token in STRANGERS.items()]
                at_once += [pool.submit(_knock, hosts, host, folder, outcome) for host in (hosts.head, hosts.worker)]
                for work in at_once:
                    work.result()
            assert not (folder / "sentinel").exists(), "a stranger's job ran"
            assert run.process.poll() is None, f"the run was over too early: {run.said()}"
            hosts_of(run.finished(whole), known, chunks)
        shutil.rmtree(path, ignore_errors=True)
    return outcome


def _knock(hosts: Hosts, host: Host, folder: Path, outcome: Outcome) -> None:
    """At all ports of a host, from the other end of the cable."""
    listening = host.ports()
    assert listening.get(8265, {"127.0.0.1"}) == {"127.0.0.1"}, "the dashboard listens to others"
    ports = [port for port, at in listening.items() if at != {"127.0.0.1"}]
    strange = [p for p in ports if p not in (6379, 10001, 52365) and not 10002 <= p < 20000 and p < 32768]
    assert not strange, f"{host.name} listens at {strange}, of which docs/cluster.md says nothing"
    ends = {hosts.head.name: (ADDRESSES[0], hosts.worker), hosts.worker.name: (ADDRESSES[1], hosts.head)}
    address, other = ends[host.name]
    said = other.do(sys.executable, "-c", KNOCK, address, str(folder / "sentinel"), *map(str, ports))
    answers = dict(map(json.loads, said.splitlines()))
    assert set(answers) == set(ports), said
    for port, found in answers.items():
        outcome.counts["ports tried"] += 1
        for what, answer in found.items():
            taken = answer.startswith(("HTTP/1.1 2", "OK"))
            assert not taken or what in OPEN, f"{host.name}:{port} {what}: {answer[:300]}"
            outcome.counts["refused for want of the token"] += answer == "UNAUTHENTICATED" or " 401 " in answer[:16]


def _join(hosts: Hosts, made: Toy, home: Path, token: str | None) -> None:
    """A driver without the token, or with another, is refused."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    environment = {**hosts.worker.environment, "HOME": str(home)}
    if token:
        (home / "token").write_text(token)
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home / "token")}
    command = [sys.executable, "-m", "evofool", *made.arguments(home / "run"), "--address", HEAD]
    code, said = hosts.worker.run(*command, env=environment)
    assert code == 3 and "token" in said and "Traceback" not in said, f"{code}: {said}"
    assert not (home / "run").exists()


# ----------------------------------------------------------------------------------------------------------- encryption

LISTEN = """
import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
link.bind(("cable", 0))
print("listening", flush=True)
seen = 0
while True:
    packet = link.recv(65536)
    seen += sys.argv[1].encode() in packet
    print(seen, flush=True)
"""


def trial_tls(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """The cluster with Ray's TLS and certificates of our own, with somebody who listens at the cable; then without."""
    outcome = Outcome()
    made, whole, chunks = toy(folder)
    for trial in range(trials):
        for tls in (True, False):
            path = folder / f"run-{trial}-{tls}"
            environment = {"CHAOS_PAUSE": "0.01", **(_certificates(folder) if tls else {})}
            with outcome.trial(f"TLS {trial}, {tls}"), two_hosts(environment) as hosts:
                outcome.trials -= not tls
                with (folder / "heard").open("w") as heard:
                    hosts.worker.start(sys.executable, "-c", LISTEN, TOKEN, stdout=heard)
                known = nodes(hosts, 2)
                hosts_of(Run(hosts, made, path).finished(whole), known, chunks)
                times = int((folder / "heard").read_text().split()[-1])
                if tls:
                    assert not times, f"the token was heard {times} times"
                    _join_in_the_clear(hosts, made, folder)
                else:
                    assert times, "the listener hears nothing"  # so that silence above means something
                    outcome.counts["times the token was heard without TLS"] += times
            shutil.rmtree(path, ignore_errors=True)
    return outcome


def _certificates(folder: Path) -> dict[str, str]:
    """An authority, and a certificate by it for both hosts: the environment that has Ray use them."""
    names = ",".join(f"IP:{address}" for address in (*ADDRESSES, "127.0.0.1"))
    (folder / "names").write_text(f"subjectAltName={names},DNS:localhost,DNS:head,DNS:worker\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=evofool -keyout node.key -out node.csr",
        "x509 -req -in node.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out node.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    files = {"SERVER_CERT": "node.crt", "SERVER_KEY": "node.key", "CA_CERT": "ca.crt"}
    return {"RAY_USE_TLS": "1"} | {f"RAY_TLS_{name}": str(folder / file) for name, file in files.items()}


def _join_in_the_clear(hosts: Hosts, made: Toy, folder: Path) -> None:
    """A driver with the token but without a certificate is refused."""
    clear = {key: value for key, value in hosts.opened(hosts.worker).items() if "TLS" not in key}
    command = [sys.executable, "-m", "evofool", *made.arguments(folder / "clear"), "--address", HEAD]
    code, said = hosts.worker.run(*command, env=clear)
    assert code == 3 and "RAY_USE_TLS=1" in said and not (folder / "clear").exists(), said


# ------------------------------------------------------------------------------------------------------------- sabotage


@contextlib.contextmanager
def _no_token() -> Iterator[None]:
    """The launch file asks nobody for a token."""
    fill, driver = launch.fill, Hosts.driver

    def filled(*arguments: Any) -> Any:
        return SimpleNamespace(text=fill(*arguments).text.replace("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"))

    def opened(host: Host) -> dict[str, str]:
        return {**host.environment, "RAY_AUTH_MODE": "disabled"}

    def started(hosts: Hosts, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        return driver(hosts, *arguments, "--insecure-cluster", **more)

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(launch, "fill", filled))
        patches.enter_context(mock.patch.object(Hosts, "opened", staticmethod(opened)))
        patches.enter_context(mock.patch.object(Hosts, "driver", started))
        yield


SABOTAGE: dict[str, Callable[[], Any]] = {"no-token": _no_token}
