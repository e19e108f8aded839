"""Runs on other machines: the files of cluster/, `evofool cluster launch`, `submit`, and `doctor --address`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from conftest import ROOT, Command
from typer.testing import CliRunner

from evofool import open_run
from evofool.cli import app
from evofool.config import Config, load_config
from evofool.errors import ConfigError, EvofoolError, ResourcesMissing, Stopped
from evofool.evaluate.over_ray.nodes import Answer
from evofool.machines import doctor, launch
from evofool.machines import submit as submitting

CLUSTER = ROOT / "cluster"
CONFIG = ROOT / "configs" / "quickstart.yaml"
HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
AUTO = ["evaluation.evaluators=auto"]
NETWORK = ("aws", "on-premise", "kuberay", "slurm", "local")  # kinds that start Ray


def filled(kind: str, overrides: list[str] | None = None, **wishes: Any) -> launch.Filled:
    given = AUTO + (overrides or [])
    if kind == "on-premise":
        wishes.setdefault("hosts", HOSTS)
    return launch.fill(kind, CONFIG, given, load_config(CONFIG, given), launch.Wishes(**wishes))


def ray_schema() -> dict[str, Any]:
    package = importlib.util.find_spec("ray")
    assert package is not None and package.submodule_search_locations
    return dict(
        json.loads((Path(package.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    )


def documents(text: str) -> dict[str, Any]:
    """Kubernetes objects by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    spec = job["spec"]["rayClusterSpec"]
    pods = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    return [container for pod in pods for container in pod["spec"]["containers"]]


# ---------------------------------------------------------------------------------------------------- files as they are


def test_every_kind_has_a_file_and_every_file_a_kind() -> None:
    assert {path.name for path in CLUSTER.iterdir()} == set(launch.KINDS.values())
    assert (ROOT / "evofool" / "cluster").resolve() == CLUSTER  # one copy, which the wheel takes along


def check_machines(text: str) -> dict[str, Any]:
    config = yaml.safe_load(text)
    jsonschema.validate(config, ray_schema())
    return dict(config)


@pytest.mark.parametrize("kind", ["aws", "on-premise"])
def test_files_for_ray_up_fit_rays_own_schema(kind: str) -> None:
    check_machines(launch.template(kind))
    with pytest.raises(jsonschema.ValidationError):  # the schema does refuse what it does not know
        check_machines(launch.template(kind) + "\nworkers: 3\n")


@pytest.mark.parametrize("kind", ["aws", "on-premise"])
@pytest.mark.parametrize("image", [None, "evofool:0.1.0"])
def test_what_ray_up_would_use_passes_its_own_preparation(kind: str, image: str | None) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(check_machines(filled(kind, image=image, nodes=3).text))
    validate_config(config)
    assert sum(node["max_workers"] for name, node in config["available_node_types"].items() if "head" not in name) >= 2


@pytest.mark.parametrize("kind", NETWORK)
@pytest.mark.parametrize("as_filled", [False, True])
def test_security_rules_of_launch_files(kind: str, as_filled: bool) -> None:
    text = filled(kind).text if as_filled else launch.template(kind)
    for forbidden in ("0.0.0.0", "LoadBalancer", "NodePort", "hostPort", "hostNetwork", "privileged", "chmod 777"):
        assert forbidden not in text, forbidden
    assert "RAY_AUTH_TOKEN=" not in text and "insecure" not in text
    if kind == "kuberay":
        assert "stringData" not in text and "kind: Secret" not in text  # the operator makes the token
    else:
        assert "RAY_AUTH_TOKEN_PATH=" in text and "umask 077" in text
        starts = [line for line in text.splitlines() if "ray start --head" in line or "ray start --address" in line]
        assert text.count("RAY_AUTH_MODE=token") >= max(1, len(starts))
        assert "--dashboard-host=127.0.0.1" in text or "--include-dashboard=false" in text


@pytest.mark.parametrize("kind", ["aws", "on-premise"])
def test_every_start_command_has_the_token_and_a_tight_mask(kind: str) -> None:
    config = yaml.safe_load(launch.template(kind))
    starts = [
        line
        for role in ("head", "worker")
        for line in config[f"{role}_start_ray_commands"]
        if "ray start" in line
    ]  # fmt: skip
    assert len(starts) == 2
    for line in starts:
        assert (
            line.startswith("umask 077;") and "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token;" in line
        )
        assert subprocess.run(["bash", "-n", "-c", line]).returncode == 0
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])
    assert "--dashboard-host=127.0.0.1" in starts[0] and "--dashboard" not in starts[1]
    for section in ("initialization_commands", "setup_commands"):
        for line in config[section]:
            assert isinstance(line, str) and subprocess.run(["bash", "-n", "-c", line]).returncode == 0, line


def test_kuberay_asks_for_a_token_and_lets_nobody_else_in() -> None:
    found = documents(launch.template("kuberay"))
    job, policy = found["RayJob"], found["NetworkPolicy"]["spec"]
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert job["spec"]["backoffLimit"] > 0 and "--resume auto" in job["spec"]["entrypoint"]
    assert "umask 077" in job["spec"]["entrypoint"]
    assert policy["policyTypes"] == ["Ingress"]
    own, operator = policy["ingress"]
    label = policy["podSelector"]["matchLabels"]
    assert own["from"] == [{"podSelector": {"matchLabels": label}}] and operator["ports"] == [{"port": 8265}]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert all(pod["template"]["metadata"]["labels"] == label for pod in pods)
    assert job["spec"]["submitterPodTemplate"]["metadata"]["labels"] == label
    assert all(pod["template"]["spec"]["securityContext"]["runAsNonRoot"] for pod in pods)
    load_config(yaml.safe_load(found["ConfigMap"]["data"]["config.yaml"]))


@pytest.mark.parametrize("kind", ["slurm", "local"])
def test_scripts_parse_and_can_be_executed(kind: str) -> None:
    path = CLUSTER / launch.KINDS[kind]
    assert os.access(path, os.X_OK)
    for text in (path.read_text(), filled(kind).text):
        result = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert result.returncode == 0 and not result.stderr


def test_slurm_options_come_before_the_first_command_and_meet_the_traps() -> None:
    text = launch.template("slurm")
    head, _, body = text.partition("set -euo")
    assert "#SBATCH" not in body
    for needed in ("--exclusive", "--requeue", "--signal=B:USR1@", "--ntasks-per-node=1"):
        assert f"#SBATCH {needed}" in head
    for needed in ("RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300", "--min-nodes", "--temp-dir", "SRUN_CPUS_PER_TASK"):
        assert needed in body
    assert "--include-dashboard=" not in body  # for heads only: every other node would refuse to start
    assert body.index("RAY_ADDRESS=") < body.index("ray symmetric-run")


def test_options_given_to_ray_are_options_of_ray() -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    head_only = {"--port", "--include-dashboard", "--redis-shard-ports"}  # a worker node refuses them
    for kind in NETWORK:
        text = launch.template(kind).replace("\\\n", " ")
        if kind in ("aws", "on-premise"):
            config = yaml.safe_load(text)
            text = "\n".join([*config["head_start_ray_commands"], *config["worker_start_ray_commands"]])
        for line in text.splitlines():
            _, command, options = line.partition("ray start ")
            if command:
                used = set(re.findall(r"--[a-z-]+", options))
                assert used <= known, (kind, used - known)
                assert "--head" in used or not used & head_only, (kind, line)


STUBS = {
    "srun": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"',
    "scontrol": 'echo "$@" >> "$CALLS"',
    # Runs what stands behind --, as on the first node, or says it did while it did not.
    "ray": 'if [ -n "$BROKEN" ]; then exit 0; fi; while [ "$1" != -- ]; do shift; done; shift; "$@"',
    "evofool": "\n".join(
        [
            'trap "kill \\$!; exit 143" TERM',
            'echo "$@" >> "$CALLS"',
            'sleep "$SECONDS_TO_RUN" & touch "$READY"; wait; exit "$CODE"',
        ]
    ),
}


def start_slurm(folder: Path, **environment: str) -> tuple[subprocess.Popen[str], Path, Path]:
    """slurm.sh with stand-ins for Slurm, Ray and evofool: (process, what was called, file that says it runs)."""
    (folder / "bin").mkdir()
    for name, body in STUBS.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    calls, ready = folder / "calls", folder / "ready"
    settings = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "CALLS": str(calls), "READY": str(ready),
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "1", "SLURM_SUBMIT_DIR": str(folder),
        "SLURMD_NODENAME": "localhost", "SLURM_CPUS_PER_TASK": "9", "BROKEN": "", "SECONDS_TO_RUN": "0", "CODE": "0",
    }  # fmt: skip
    script = [str(CLUSTER / "slurm.sh")]
    process = subprocess.Popen(script, env={**settings, **environment}, stderr=subprocess.PIPE, text=True)
    return process, calls, ready


@pytest.mark.parametrize(
    ("environment", "code"), [({}, 0), ({"CODE": "5"}, 5), ({"BROKEN": "yes"}, 1)], ids=["done", "failed", "no ray"]
)
def test_a_slurm_job_ends_with_the_drivers_exit_code(environment: dict[str, str], code: int, tmp_path: Path) -> None:
    process, calls, _ = start_slurm(tmp_path, **environment)
    assert process.wait(timeout=30) == code
    if "BROKEN" not in environment:
        (line,) = calls.read_text().splitlines()
        assert re.fullmatch(
            r"run configs/quickstart.yaml evaluation.evaluators=auto --address (?!127)[\d.]+:2\d{4} --resume auto", line
        )
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) == 64
    assert not Path(f"/tmp/evofool-{os.getpid()}").exists() and not list(tmp_path.glob(".evofool-*"))


@pytest.mark.parametrize(("name", "requeued"), [("SIGUSR1", True), ("SIGTERM", False)])
def test_a_slurm_job_that_must_go_commits_and_queues_again(name: str, requeued: bool, tmp_path: Path) -> None:
    process, calls, ready = start_slurm(tmp_path, SECONDS_TO_RUN="30")
    deadline = time.monotonic() + 20
    control = tmp_path / f".evofool-{os.getpid()}" / "pid"
    while not (ready.exists() and control.exists() and control.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=20) == 143
    assert calls.read_text().count(f"requeue {os.getpid()}") == requeued


def test_the_image_runs_as_a_user_and_holds_no_token() -> None:
    text = launch.template("docker")
    assert "\nUSER evofool\n" in text and "RAY_AUTH_MODE=token" in text and "RAY_AUTH_TOKEN" not in text
    assert "EXPOSE" not in text and "--extra-index-url" not in text


# --------------------------------------------------------------------------------------------------------------- launch


@pytest.mark.slow
@pytest.mark.parametrize("kind", launch.KINDS)
@pytest.mark.parametrize("config", ["quickstart", "imagenet_direct", "nguyen2015_mnist_cppn"])
def test_launch_prints_every_kind_for_any_config(kind: str, config: str, command: Command) -> None:
    hosts = ["--hosts", ",".join(HOSTS)] if kind == "on-premise" else []
    code, out, _ = command("cluster", "launch", kind, ROOT / "configs" / f"{config}.yaml", "seed=7", *hosts)
    assert code == 0
    assert out.count("\n") > 15
    if kind in ("aws", "on-premise"):
        check_machines(out)
    elif kind == "kuberay":
        assert load_config(yaml.safe_load(documents(out)["ConfigMap"]["data"]["config.yaml"])).seed == 7
    elif kind != "docker":
        assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0 and "seed=7" in out


def test_sizes_follow_the_config() -> None:
    def node(*overrides: str, nodes: int = 2, cpus: int | None = None, gpus: int | None = None) -> launch.Node:
        return launch.node_for(load_config(CONFIG, list(overrides)), nodes, cpus, gpus)

    assert node(*AUTO) == launch.Node(8, 0)
    assert node(*AUTO, "evaluation.threads=3") == launch.Node(9, 0)  # whole evaluators
    assert node("evaluation.evaluators=10", "evaluation.threads=2", nodes=4) == launch.Node(6, 0)
    assert node(*AUTO, "evaluation.device=cuda", "evaluation.evaluators_per_gpu=3") == launch.Node(3, 1)
    assert node("evaluation.evaluators=12", "evaluation.device=cuda", "evaluation.evaluators_per_gpu=3") == (
        launch.Node(6, 2)
    )
    assert node(*AUTO, gpus=4, cpus=64) == launch.Node(64, 4)


def test_what_a_kind_is_filled_with() -> None:
    aws = yaml.safe_load(filled("aws", nodes=5, gpus=1, cpus=7, storage="/efs").text)
    worker = aws["available_node_types"]["worker"]
    assert (worker["min_workers"], worker["max_workers"], aws["max_workers"]) == (4, 4, 4)
    assert worker["resources"] == {"CPU": 7, "GPU": 1} and worker["node_config"]["InstanceType"] == "g5.2xlarge"
    assert "nvidia" in worker["node_config"]["ImageId"] and "--num-cpus=7" in aws["head_start_ray_commands"][1]
    assert any("/efs" in line for line in aws["initialization_commands"])

    site = yaml.safe_load(filled("on-premise", image="lab/evofool:1").text)
    assert site["provider"] == {"type": "local", "head_ip": HOSTS[0], "worker_ips": list(HOSTS[1:])}
    assert site["docker"]["image"] == "lab/evofool:1" and list(site["file_mounts"]) == ["~/.ray/auth_token"]
    assert f"--node-ip-address={HOSTS[0]}" in site["head_start_ray_commands"][1]

    job = documents(filled("kuberay", nodes=3, gpus=2, image="lab/evofool:1", storage="/data").text)["RayJob"]
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 0, 2)
    for container in containers(job):
        assert container["image"] == "lab/evofool:1" and container["resources"]["limits"]["nvidia.com/gpu"] == 2
        assert container["volumeMounts"][0]["mountPath"] == "/data"
    assert "cd /data" in job["spec"]["entrypoint"]

    slurm = filled("slurm", nodes=7, gpus=4, cpus=16, storage="/scratch").text
    for line in ("#SBATCH --nodes=7", "#SBATCH --cpus-per-task=17", "#SBATCH --gpus-per-node=4", "CPUS=16", "GPUS=4"):
        assert f"\n{line}" in slurm
    assert "storage.path=/scratch/runs" in slurm
    assert "--gpus-per-node" not in filled("slurm").text

    assert "ARG EXTRAS=imagenet\n" in filled("docker", ["target.spec=efficientnet-lite:0"]).text
    assert "ARG EXTRAS=\n" in filled("docker").text


def test_arguments_of_scripts_survive_the_shell() -> None:
    text = filled("slurm", ["search.stop_when=['median >= 0.9', \"filled >= 3\"]"]).text
    line = next(line for line in text.splitlines() if line.startswith("ARGUMENTS="))
    shown = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\0" "${{ARGUMENTS[@]}}"'], capture_output=True, text=True
    )
    assert shown.stdout.split("\0")[:-1][-1] == "search.stop_when=['median >= 0.9', \"filled >= 3\"]"


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("swarm", [], ["KIND", "swarm", "slurm"]),
        ("slurm", ["--nodes", "0"], []),
        ("slurm", ["--image", "x"], ["--image"]),
        ("slurm", ["--hosts", "10.0.0.1"], ["--hosts"]),
        ("aws", ["evaluation.pool=inline"], ["evaluation.pool"]),
        ("aws", ["--cpus", "500"], ["vCPUs", "more nodes"]),
        ("aws", ["--storage", "runs"], ["--storage", "absolute"]),
        ("aws", ["--storage", "/x; rm"], ["--storage"]),
        ("aws", ["storage.path=/a b"], ["storage.path"]),
        ("aws", ["target.spec=python:net.py:build"], ["--allow-code"]),
        ("kuberay", ["--image", "a b"], ["--image"]),
        ("kuberay", ["evaluation.device=cpu", "--gpus", "1"], ["--gpus", "evaluation.device"]),
        ("kuberay", ["evaluation.device=cuda", "--gpus", "0"], ["--gpus"]),
        ("kuberay", ["evaluation.threads=4", "--cpus", "3"], ["--cpus", "evaluation.threads"]),
        ("on-premise", [], ["--hosts"]),
        ("on-premise", ["--hosts", "10.0.0.1,10.0.0.1"], ["twice"]),
        ("on-premise", ["--hosts", "10.0.0.1,"], ["--hosts"]),
        ("on-premise", ["--hosts", "8.8.8.8"], ["public"]),
        ("on-premise", ["--hosts", "127.0.0.1"], ["private"]),
        ("on-premise", ["--hosts", "10.0.0.1,10.0.0.2", "--nodes", "3"], ["--nodes"]),
        ("slurm", ["seed=x"], ["seed"]),
    ],
)
def test_launch_refuses_what_cannot_be_meant(
    kind: str, arguments: list[str], words: list[str], command: Command
) -> None:
    code, out, err = command("cluster", "launch", kind, CONFIG, *arguments)
    assert code == 2 and not out
    assert all(word in err for word in words), err


def test_launch_writes_a_new_file_only(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "job.sh"
    assert command("cluster", "launch", "slurm", CONFIG, "--out", out)[0] == 0
    assert os.access(out, os.X_OK) and f"sbatch {out}" in out.read_text()
    code, _, err = command("cluster", "launch", "slurm", CONFIG, "--out", out)
    assert code == 2 and str(out) in err


def test_launch_says_what_it_cannot_settle(command: Command) -> None:
    err = command("cluster", "launch", "kuberay", CONFIG, "--nodes", 2, "--cpus", 8)[2]
    assert "room for 16" in err and "weights/lenet.safetensors" in err


# --------------------------------------------------------------------------------------------------------------- submit


class FakeClient:
    """Stands for ray.job_submission.JobSubmissionClient."""

    def __init__(self, status: str = "SUCCEEDED", code: int | None = 0, lost: BaseException | None = None) -> None:
        self.statuses, self.code, self.lost = ["RUNNING", status], code, lost
        self.sent: dict[str, Any] = {}
        self.names: list[str] = []

    def __call__(self, address: str) -> FakeClient:
        self.address = address
        return self

    def submit_job(self, **arguments: Any) -> str:
        self.sent = arguments
        with zipfile.ZipFile(arguments["runtime_env"]["working_dir"]) as archive:
            self.names = archive.namelist()
        return "raysubmit_1"

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        yield "generation 1\n"
        if self.lost:
            raise self.lost

    def get_job_info(self, name: str) -> SimpleNamespace:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]  # it lags behind the log
        return SimpleNamespace(status=SimpleNamespace(value=status), driver_exit_code=self.code)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user has one, and no token anywhere."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = tmp_path / "work"
    for name in (
        "config.yaml", "weights/lenet.safetensors", "weights/other.safetensors", "runs/a/elites.parquet", ".git/HEAD",
        ".venv/bin/python", "pictures/one.png", "auth_token", "secret/my.pem", ".gitignore", "pkg/runs/kept.txt",
    ):  # fmt: skip
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / ".gitignore").write_text("weights/\npictures/\n")
    (place / "config.yaml").write_text(CONFIG.read_text())
    monkeypatch.chdir(place)
    return place


def job(*overrides: str, **more: Any) -> submitting.Job:
    given = ["storage.path=/mnt/evofool/runs", *overrides]
    return submitting.Job(Path("config.yaml"), given, load_config("config.yaml", given), **more)


def test_submit_sends_what_the_run_needs_and_nothing_secret(folder: Path) -> None:
    client, told, logged = FakeClient(), [], []
    outcome = submitting.submit(
        job("seed=3"), "http://127.0.0.1:8265", tell=told.append, log=logged.append, client=client
    )
    assert outcome == submitting.Outcome("raysubmit_1", "SUCCEEDED", 0)
    assert client.names == ["config.yaml", "pictures/one.png", "pkg/runs/kept.txt", "weights/lenet.safetensors"]
    assert shlex.split(client.sent["entrypoint"])[-7:] == [
        "evofool", "run", "config.yaml", "storage.path=/mnt/evofool/runs", "seed=3", "--resume", "auto",
    ]  # fmt: skip
    assert set(client.sent["runtime_env"]) == {"working_dir"}  # no environment: Ray stores and shows it
    assert logged == ["generation 1\n"] and any("raysubmit_1" in text for text in told)
    assert submitting.submit(job(), "http://127.0.0.1:8265", wait=False, client=client).status is None


def test_a_preset_goes_by_name_with_the_weights_it_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, provided = FakeClient(), []
    monkeypatch.setattr(submitting, "provide", lambda source, settings, tell: provided.append(str(source)))
    overrides = ["storage.path=/mnt/evofool/runs"]
    by_name = submitting.Job(Path("quickstart"), overrides, load_config("quickstart", overrides))
    submitting.submit(by_name, "http://127.0.0.1:8265", client=client)
    assert " exec evofool run quickstart storage.path=/mnt/evofool/runs --resume auto" in client.sent["entrypoint"]
    assert "weights/lenet.safetensors" in client.names and provided == ["quickstart"]


@pytest.mark.parametrize(
    ("before", "after"), [("{folder}", ""), ("{folder}:/opt/lib", "/opt/lib"), ("/opt/lib", "/opt/lib"), ("", "")]
)
def test_a_job_does_not_import_from_its_folder(folder: Path, before: str, after: str) -> None:
    """Ray puts the folder in front of PYTHONPATH; what stood there before stays."""
    command = submitting.entrypoint(job(), folder).replace("exec evofool run", "exec printf '%s|' \"$PYTHONPATH\"")
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": before.format(folder=folder)}
    done = subprocess.run(["bash", "-c", command], env=path, cwd=folder, capture_output=True, text=True)
    assert done.stdout.startswith(f"{after}|config.yaml|"), done


def test_seeds_are_one_job_of_several_runs(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.job_submission

    client = FakeClient()
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", client)
    words = ["cluster", "submit", "config.yaml", "storage.path=/x", "--address", "http://127.0.0.1:8265", "--seeds"]
    assert command(*words, "1-5", "name=many-{seed}")[0] == 0
    assert client.sent["entrypoint"].endswith("--resume auto --seeds 1-5")
    code, _, err = command(*words, "1-5")
    assert code == 2 and "{seed}" in err
    code, _, err = command(*words, "x", "name=many-{seed}")
    assert code == 2 and "'x' is not a list of seeds" in err


def test_rayignore_adds_and_takes_back(folder: Path) -> None:
    (folder / ".rayignore").write_text("# pictures are not needed\npictures/\n!*.safetensors\n!/weights/\n")
    names = list(submitting.gather(folder, []))
    assert names == ["config.yaml", "pkg/runs/kept.txt", "weights/lenet.safetensors", "weights/other.safetensors"]


def test_patterns_mean_what_they_mean_to_ray(folder: Path) -> None:
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    (folder / ".rayignore").write_text("\n".join(submitting.LEFT_OUT))
    (ray_ignores,) = get_excludes_from_ignore_files(folder, include_gitignore=False)
    ours = set(submitting.gather(folder, []))
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("ignore")):
        assert (path.relative_to(folder).as_posix() in ours) == (not ray_ignores(path)), path


def test_the_repository_leaves_the_same_out_for_ray_job_submit() -> None:
    lines = (ROOT / ".rayignore").read_text().splitlines()
    assert tuple(line for line in lines if not line.startswith("#")) == submitting.LEFT_OUT


def test_too_large_a_folder_is_refused_before_anything_is_sent(folder: Path) -> None:
    for name, size in (("big.bin", 70), ("huge.bin", 90), ("small.bin", 1)):
        with (folder / name).open("wb") as file:
            file.truncate(size << 20)  # sparse: takes no room
    client = FakeClient()
    with pytest.raises(ConfigError, match=r"161 MiB.*takes 100.*huge\.bin \(90\.0 MiB\), big\.bin.*\.rayignore"):
        submitting.submit(job(), "http://127.0.0.1:8265", client=client)
    assert not client.sent


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["storage.path=runs"], "storage.path"),
        (["evaluation.pool=inline"], "evaluation.pool"),
        (["target.spec=python:net.py:build"], "--allow-code"),
        (["target.spec=lenet:weights/none.safetensors"], "none.safetensors"),
    ],
)
def test_submit_refuses_what_would_fail_there(folder: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        submitting.submit(job(*overrides), "http://127.0.0.1:8265", client=FakeClient())


def test_a_file_beside_the_folder_is_refused_and_one_by_a_detour_has_its_own_name(folder: Path) -> None:
    (folder.parent / "beside.txt").write_text("")
    with pytest.raises(ConfigError, match=r"beside\.txt: lies outside"):
        submitting.gather(folder, [folder / ".." / "beside.txt"])
    assert "config.yaml" in submitting.gather(folder, [folder / ".." / folder.name / "config.yaml"])


def test_code_goes_along_only_if_allowed(folder: Path) -> None:
    client = FakeClient()
    (folder / "net.py").write_text("")
    submitting.submit(
        job("target.spec=python:net.py:build", allow_code=True), "http://localhost:8265", client=client, wait=False
    )
    assert "net.py" in client.names and client.sent["entrypoint"].endswith("--allow-code")


def test_a_module_that_is_installed_there_is_no_file_to_send(folder: Path) -> None:
    overrides = ["variation.operators={mutate: python:theirs.operators:mutate}", "search.objective=python:own.py:rank"]
    settings = load_config("config.yaml", overrides)
    assert set(launch.named_files(settings)) == {Path("own.py"), Path("weights/lenet.safetensors")}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("head:6379", "evofool run --address"),
        ("ray://head:10001", "Jobs API"),
        ("http://127.0.0.1:6379", "8265"),
        ("http://127.0.0.1:x", "http://HOST:8265"),
        ("http://me:secret@127.0.0.1:8265", "password"),
        ("http://10.0.0.1:8265", "RAY_AUTH_MODE=token"),
        ("https://cluster.example", "RAY_AUTH_MODE=token"),
    ],
)
def test_addresses_that_are_refused(folder: Path, address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        submitting.submit(job(), address, client=FakeClient())
    assert "secret" not in refused.value.message


def test_a_token_opens_the_way_beyond_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = folder.parent / "token"
    token.write_text("x" * 32)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    told: list[str] = []
    submitting.check_address("http://10.0.0.1:8265", told.append)
    assert os.environ["RAY_AUTH_MODE"] == "token" and "tunnel" in told[0]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE=token"):
        submitting.check_address("http://10.0.0.1:8265")


def test_an_insecure_cluster_has_to_be_asked_for(folder: Path) -> None:
    client = FakeClient()
    with pytest.raises(ConfigError, match="--insecure-cluster"):
        submitting.submit(job(), "http://10.0.0.1:8265", client=client)
    submitting.submit(job(insecure_cluster=True), "http://10.0.0.1:8265", client=client, wait=False)
    assert client.sent["entrypoint"].endswith("--insecure-cluster")  # its driver would refuse as well


def test_a_failed_job_gives_its_own_exit_code(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.job_submission

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", FakeClient("FAILED", 5))
    code, out, err = command(
        "cluster",
        "submit",
        "config.yaml",
        "storage.path=/mnt/evofool/runs",
        "--address",
        "http://127.0.0.1:8265",
        "--json",
    )
    assert code == 5 and json.loads(out)["status"] == "FAILED" and "generation 1" in err
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", FakeClient("STOPPED", None))
    assert command("cluster", "submit", "config.yaml", "storage.path=/x", "--address", "http://127.0.0.1:8265")[0] == 1


def test_what_goes_wrong_on_the_way(folder: Path) -> None:
    def silent(address: str) -> Any:
        raise ConnectionError("Failed to connect to Ray at address")

    def refusing(address: str) -> Any:
        raise RuntimeError("Request failed with status code 401: Unauthorized")

    with pytest.raises(ResourcesMissing, match=r"does not answer.*tunnel"):
        submitting.submit(job(), "http://127.0.0.1:8265", client=silent)
    with pytest.raises(ResourcesMissing, match=r"token.*RAY_AUTH_MODE"):
        submitting.submit(job(), "http://127.0.0.1:8265", client=refusing)
    with pytest.raises(EvofoolError, match="lost sight of raysubmit_1") as lost:
        submitting.submit(job(), "http://127.0.0.1:8265", client=FakeClient(lost=RuntimeError("WebSocket closed")))
    assert "evofool cluster submit" in str(lost.value.go_on)
    with pytest.raises(Stopped, match="raysubmit_1 goes on") as left:
        submitting.submit(job(), "http://127.0.0.1:8265", client=FakeClient(lost=KeyboardInterrupt()))
    assert left.value.exit_code == 130


def test_a_config_elsewhere_is_refused(folder: Path) -> None:
    given = ["storage.path=/mnt/evofool/runs"]
    other = submitting.Job(CONFIG, given, load_config(CONFIG, given))
    with pytest.raises(ConfigError, match="outside"):
        submitting.submit(other, "http://127.0.0.1:8265", client=FakeClient())


# --------------------------------------------------------------------------------------------------------------- doctor

HERE = {"python": "3.12.1", "evofool": "0.1.0", "ray": "2.60.0", "torch": "2.9.0", "numpy": "2.4.0"}


def seen(host: str = "a", declared: dict[str, float] | None = None, address: str = "10.0.0.1", **other: Any) -> Answer:
    facts: dict[str, Any] = {"versions": HERE, "cores": 8, "gpus": 0, "auth": "token", "storage": "", "shared": True}
    return Answer(host, address, declared or {"CPU": 8.0}, doctor.Look(**(facts | other)))


def levels(*answers: Answer, marked: bool = True) -> dict[str, tuple[str, str]]:
    return {finding.subject: (finding.level, finding.text) for finding in doctor.judge(answers, HERE, marked)}


def test_a_good_cluster_is_called_good() -> None:
    findings = levels(seen(), seen("b", {"CPU": 8.0, "GPU": 2.0}, gpus=2))
    assert {level for level, _ in findings.values()} == {"ok"}
    assert findings["cluster"][1] == "2 nodes, 16 CPU, 2 GPU"


@pytest.mark.parametrize(
    ("answer", "subject", "level", "words"),
    [
        (seen("b", versions={**HERE, "torch": "2.10.0"}), "versions on nodes", "warning", "torch 2.10.0"),
        (seen("b", versions={**HERE, "evofool": "0.0.9"}), "versions on nodes", "failure", "evofool 0.0.9"),
        (seen("b", auth=""), "auth", "failure", "b (10.0.0.1)"),
        (seen("b", auth="disabled", address="127.0.0.1"), "auth", "warning", "127.0.0.1"),
        (seen("b", {"CPU": 8.0, "GPU": 2.0}, gpus=1), "gpus on nodes", "failure", "declares 2 GPUs and has 1"),
        (seen("b", gpus=4), "gpus on nodes", "warning", "4 GPUs"),
        (seen("b", {"CPU": 64.0}), "cores on nodes", "warning", "may use 8"),
        (seen("b", storage="/mnt: cannot write"), "storage on nodes", "warning", "cannot write"),
        (seen("b", shared=False), "storage on nodes", "warning", "resumed"),
        (Answer("b", "10.0.0.2", error="No module named 'evofool'"), "node b (10.0.0.2)", "failure", "evofool"),
    ],
)
def test_what_is_wrong_with_one_node_is_named(answer: Answer, subject: str, level: str, words: str) -> None:
    found = levels(seen(), answer)[subject]
    assert found[0] == level and words in found[1]


def test_look_at_this_machine(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    here = doctor.look(str(tmp_path / "runs" / "deep"), str(tmp_path / "mark"))
    assert here.shared and not here.storage and here.cores == len(os.sched_getaffinity(0))
    assert here.versions["ray"] and set(doctor.ALIKE) <= set(here.versions)
    assert not doctor.look(str(tmp_path), str(tmp_path / "none")).shared
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mark"]


def test_traps_of_addresses(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    code, out, _ = command("cluster", "doctor", "--address", "http://127.0.0.1:8265", "--json")
    found = [(f["subject"], f["level"]) for f in json.loads(out)]
    assert code == 1 and ("RAY_ADDRESS", "warning") in found and ("cluster", "failure") in found
    assert "evofool cluster submit" in out
    monkeypatch.delenv("RAY_ADDRESS")
    out = command("cluster", "doctor", "--address", "ray://127.0.0.1:1", "--json")[1]
    assert "Ray Client" in out and "nothing answers" in out


# ----------------------------------------------------------------------------------------------------------------- docs


def test_commands_of_the_docs_exist_with_their_options() -> None:
    shown = (ROOT / "docs" / "cluster.md").read_text() + "".join(map(launch.template, launch.KINDS))
    commands = re.findall(r"`((?:evofool|ray) [^`]+)`", shown.replace("\n", " "))
    assert len(commands) > 15
    for line in commands:
        program, *words = line.split()
        names = words[:2] if words[0] in ("cluster", "study", "targets", "config") else words[:1]
        options = re.findall(r"(?<=\s)--[a-z-]+", line)
        if program == "evofool":
            result = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200"})
            assert result.exit_code == 0 and all(option in result.output for option in options), line
    for file in re.findall(r"cluster/[\w.-]+\.(?:yaml|sh)|cluster/Dockerfile", shown):
        assert (ROOT / file).is_file(), file


# ------------------------------------------------------------------------------------------------------------- for real


def environment(**more: str) -> dict[str, str]:
    """Of a process that shares no Ray with others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    bin = str(Path(sys.executable).parent)
    return {**kept, "PATH": f"{bin}:{kept['PATH']}", "PYTHONPATH": str(ROOT), **more}


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.slow
def test_local_script_runs_over_two_nodes_and_leaves_nothing(config: Config, tmp_path: Path) -> None:
    from evofool.config import to_yaml

    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    out = tmp_path / "run"
    run = ["evaluation.pool=ray", "evaluation.evaluators=2", f"--out={out}"]
    before = {path.name for path in Path("/tmp").glob("evofool.*")}
    result = subprocess.run(
        [CLUSTER / "local.sh", file, *run], env=environment(PORT="26479"), capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((out / "_evofool" / "run.json").read_text())
    assert {path.name for path in Path("/tmp").glob("evofool.*")} == before
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "26479" not in processes


def evofool(*arguments: object, settings: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "evofool", *map(str, arguments)]  # -P: as the command does
    return subprocess.run(command, env=settings, cwd=folder, capture_output=True, text=True, timeout=180)


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Two Ray nodes with a token and the Jobs API on 127.0.0.1; the environment that opens them."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    settings = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), RAY_USAGE_STATS_ENABLED="0")
    ray = str(Path(sys.executable).with_name("ray"))
    common = [ray, "start", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1"]
    jobs = ["--dashboard-host=127.0.0.1", "--dashboard-port=26595", "--dashboard-agent-listen-port=26596"]
    started = []
    with tempfile.TemporaryDirectory(prefix="evofool-test-", dir="/tmp") as short, (tmp_path / "log").open("w") as log:
        try:
            head = ["--head", "--port=26579", "--ray-client-server-port=26610", f"--temp-dir={short}/ray", *jobs]
            head.append("--include-dashboard=true")
            other = ["--address=127.0.0.1:26579", "--dashboard-agent-listen-port=26597"]
            for options, ports in ((head, (26579, 26595)), (other, ())):
                started.append(subprocess.Popen([*common, *options], env=settings, stdout=log, stderr=log))
                deadline = time.monotonic() + 60
                while any(socket.socket().connect_ex(("127.0.0.1", port)) for port in ports):
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.2)
            yield settings
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(timeout=60)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.proof
def test_doctor_and_submit_on_two_nodes(two_nodes: dict[str, str], lenet_file: Path, tmp_path: Path) -> None:
    jobs, drivers = "http://127.0.0.1:26595", "127.0.0.1:26579"
    folder, runs = tmp_path / "work", tmp_path / "runs"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "lenet.safetensors").write_bytes(lenet_file.read_bytes())
    (folder / "config.yaml").write_text(CONFIG.read_text())
    (folder / ".gitignore").write_text("weights/\n")  # plays no part
    (folder / "torch.py").write_text(f"open({str(tmp_path / 'sentinel')!r}, 'w')\n")  # nobody is to import it
    small = ["search.generations=3", "search.offspring=50", "search.initial=50", f"storage.path={runs}"]

    open_one = {name: value for name, value in two_nodes.items() if not name.startswith("RAY_AUTH")}
    refused = evofool("cluster", "submit", "config.yaml", *small, "--address", jobs, settings=open_one, folder=folder)
    assert refused.returncode == 3 and "token" in refused.stderr, refused.stderr

    closed = evofool("cluster", "doctor", "--address", drivers, "--json", settings=open_one, folder=folder)
    findings = {finding["subject"]: finding for finding in json.loads(closed.stdout)}
    assert closed.returncode == 1 and "token" in findings["cluster"]["text"], closed.stdout

    deadline = time.monotonic() + 60
    while True:  # until the second node has joined
        seen = evofool(
            "cluster", "doctor", "--address", drivers, "--storage", runs, "--json", settings=two_nodes, folder=folder
        )
        findings = {finding["subject"]: finding for finding in json.loads(seen.stdout)}
        if findings["cluster"]["text"].startswith("2 nodes") or time.monotonic() > deadline:
            break
    assert findings["cluster"]["text"] == "2 nodes, 2 CPU, 0 GPU"
    assert {findings[name]["level"] for name in ("auth", "storage on nodes", "versions on nodes")} == {"ok"}, findings

    sent = evofool(
        "cluster", "submit", "config.yaml", *small, "--address", jobs, "--json", settings=two_nodes, folder=folder
    )
    assert sent.returncode == 0 and json.loads(sent.stdout)["status"] == "SUCCEEDED", sent.stderr
    assert "3 generations done" in sent.stderr
    first = open_run(runs / "quickstart")
    assert len(first.elites()) == 10
    assert not (tmp_path / "sentinel").exists(), "torch.py of the job's folder was imported"


@pytest.mark.proof  # a minute more
@pytest.mark.ray
@pytest.mark.slow
def test_a_failed_job_says_why_and_a_driver_may_be_elsewhere(
    two_nodes: dict[str, str], lenet_file: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "lenet.safetensors").write_bytes(lenet_file.read_bytes())
    (tmp_path / "config.yaml").write_text(CONFIG.read_text())
    small = ["search.generations=3", "search.offspring=50", "search.initial=50", f"storage.path={runs}"]
    alone = evofool("run", "config.yaml", *small, "evaluation.pool=inline", settings=two_nodes, folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    again = evofool(
        *("cluster", "submit", "config.yaml", *small, "seed=9", "--address", "http://127.0.0.1:26595"),
        settings=two_nodes,
        folder=tmp_path,
    )
    assert again.returncode == 3, again.stderr  # the run's own exit code: another seed is another run

    by_client = ["--address", "ray://127.0.0.1:26610", "name=client"]
    client = evofool("run", "config.yaml", *small, *by_client, settings=two_nodes, folder=tmp_path)
    assert client.returncode == 0 and "the Ray cluster at 127.0.0.1:26610" in client.stderr, client.stderr
    assert open_run(runs / "client").archive_hash == open_run(runs / "quickstart").archive_hash


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.needs_hosts
def test_a_cluster_that_asks_nobody_for_a_token_is_refused(config: Config, tmp_path: Path) -> None:
    from chaos.machines import ADDRESSES, HEAD, Host

    from evofool.config import to_yaml

    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    host = Host("open", tmp_path / "hosts", environment(HOME=str(tmp_path), RAY_USAGE_STATS_ENABLED="0"))
    try:
        host.do("ip", "addr", "add", f"{ADDRESSES[0]}/24", "dev", "lo")
        start = f"ray start --head --node-ip-address={ADDRESSES[0]} --port=6379 --num-cpus=1 --include-dashboard=false"
        host.do(*start.split())
        (tmp_path / "token").write_text("0123456789abcdef" * 4)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
        run = [sys.executable, "-m", "evofool", "run", str(tmp_path / "config.yaml"), "evaluation.pool=ray"]
        run += ["evaluation.evaluators=1", "--out", str(tmp_path / "run"), "--address"]
        # That a driver has a token does not mean that it is asked for it.
        for where, more in (("auto", {}), (HEAD, token)):
            code, said = host.run(*run, where, env={**host.environment, **more})
            assert code == 2 and "asks nobody for a token" in said and "--insecure-cluster" in said, said
        assert not (tmp_path / "run").exists()
        code, said = host.run(sys.executable, "-m", "evofool", "cluster", "doctor", "--address", HEAD)
        assert code == 1 and "asks nobody for a token" in said, said
        code, said = host.run(*run, HEAD, "--insecure-cluster")
        assert code == 0, said
    finally:
        host.end()
