"""`evofool cluster launch`: the launch files of `cluster/`, filled in for a configuration.

Each of these files works as it is. `fill` puts a configuration's sizes, names and paths in place of those in it, and
refuses what no such cluster could have. The folder `evofool/cluster` is a link to `cluster/`, so an installed package
has the same files.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from evofool.base.places import as_path, as_url
from evofool.base.registry import TRACKERS, load
from evofool.config import Config, load_config, to_yaml
from evofool.errors import ConfigError
from evofool.evaluate.room import demand, room

if TYPE_CHECKING:
    from evofool.targets.family import Family

__all__ = ["KINDS", "Filled", "Node", "Wishes", "check_settings", "fill", "named_files", "node_for", "template"]

KINDS = {  # kind -> file of cluster/
    "aws": "aws.yaml",
    "on-premise": "on-premise.yaml",
    "kuberay": "kuberay.yaml",
    "slurm": "slurm.sh",
    "local": "local.sh",
    "docker": "Dockerfile",
}
SHARED = "/mnt/evofool"  # the shared folder, as the files have it
CPUS = 8  # of a node, for evaluators, where nothing says otherwise
GIB_EVALUATOR, GIB_DRIVER = 2, 4  # measured: 0.8 to 1.4 and 0.7 to 3.3 (docs/results.md)
# AWS instance types with their vCPUs and GPUs, smallest first.
CPU_INSTANCES = {"m7i.xlarge": (4, 0)} | {f"m7i.{n}xlarge": (4 * n, 0) for n in (2, 4, 8, 16, 24, 48)}
GPU_INSTANCES = {"g5.xlarge": (4, 1)} | {
    f"g5.{n}xlarge": (4 * n, gpus) for n, gpus in ((2, 1), (4, 1), (8, 1), (16, 1), (12, 4), (24, 4), (48, 8))
}
CPU_IMAGE = "canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
GPU_IMAGE = "deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_FOLDER = re.compile(r"/[A-Za-z0-9._/-]{0,254}")


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for; None where the configuration decides."""

    nodes: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    storage: str | None = None
    image: str | None = None
    hosts: tuple[str, ...] = ()
    allow_code: bool = False


@dataclass(frozen=True)
class Node:
    """What evaluators use of one node."""

    cpus: int
    gpus: int

    @property
    def memory(self) -> int:
        """GiB for evaluators and, since it may be the head, the driver."""
        return GIB_EVALUATOR * self.cpus + GIB_DRIVER


@dataclass(frozen=True)
class Filled:
    """A launch file, and sentences about what it cannot settle itself."""

    text: str
    notes: Sequence[str] = ()


# ----------------------------------------------------------------------------------------------------- configurations


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _code(settings: Config) -> list[str]:
    """What keys name of the user's code: FILE.py:callable or package.module:callable, which needs --allow-code."""
    return [text.removeprefix("python:") for text in _strings(settings.model_dump()) if text.startswith("python:")]


def check_settings(settings: Config, allow_code: bool, runner: str) -> None:
    """Refuse a configuration that a cluster could not run.

    Args:
        runner: what would run it there, e.g. "the job".

    Raises:
        ConfigError: its pool is not Ray's, or it names code that may not run.
    """
    if settings.evaluation.pool != "ray":
        raise ConfigError("evaluation.pool: inline uses no cluster; add evaluation.pool=ray.")
    if _code(settings) and not allow_code:
        raise ConfigError(f"the config names code (python:...); add --allow-code if {runner} may run it.")


def named_files(settings: Config) -> list[Path]:
    """The local files that keys name: Python files, and weights of the target; as named, each once."""
    modules = [name.rpartition(":")[0] for name in _code(settings)]
    files = [as_path(name) for name in modules if name.endswith(".py") or as_path(name).is_file()]
    for spec, family in zip(settings.target.specs, _families(settings)):
        files += map(as_path, family.files(spec.partition(":")[2]))
    return list(dict.fromkeys(files))


def _families(settings: Config) -> list[Family]:
    from evofool.targets.families import family_of  # with torch, which most kinds of launch files do without

    return [family_of(spec) for spec in settings.target.specs]


def node_for(settings: Config, nodes: int, cpus: int | None, gpus: int | None, free: int = CPUS) -> Node:
    """The size of each node: what the evaluators of the configuration take, or `cpus` and `gpus` if they fit on that.

    Args:
        nodes: of the cluster.
        cpus, gpus: of a node; None where the configuration decides.
        free: cores of a node where neither says.

    Raises:
        ConfigError: evaluators of the configuration would not fit on such a node.
    """
    evaluation = settings.evaluation
    threads, count = evaluation.threads, evaluation.evaluators
    each = None if count == "auto" else math.ceil(int(count) / nodes)  # evaluators of a node
    if evaluation.device == "cuda" and gpus is None:
        gpus = 1 if each is None else math.ceil(each / evaluation.evaluators_per_gpu)
    gpus = gpus or 0
    if evaluation.device == "cuda" and not gpus:
        raise ConfigError("--gpus: evaluation.device is cuda, which needs at least one GPU a node.")
    if evaluation.device == "cpu" and gpus:
        raise ConfigError(f"--gpus: {gpus} GPUs would lie idle, since evaluation.device is cpu; leave --gpus out.")
    least = gpus * evaluation.evaluators_per_gpu * threads if gpus else threads
    if cpus is None:
        free = math.ceil(free / threads) * threads
        cpus = least if gpus else (free if each is None else each * threads)
    if cpus < least:
        why = f"{gpus} GPUs x {evaluation.evaluators_per_gpu} evaluators x " if gpus else "an evaluator has "
        raise ConfigError(
            f"--cpus: {cpus} is too few: {why}{threads} evaluation.threads need{'' if gpus else 's'} {least}."
        )
    return Node(cpus, gpus)


# ------------------------------------------------------------------------------------------------------------ filling


def template(kind: str) -> str:
    """A file of `cluster/` as it is.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"KIND: {kind!r} is none; there are {', '.join(KINDS)}.")
    return (resources.files("evofool") / "cluster" / KINDS[kind]).read_text(encoding="utf-8")


def fill(kind: str, config: Path, overrides: list[str], settings: Config, wishes: Wishes) -> Filled:
    """The launch file of a kind for a configuration.

    Args:
        config, overrides: as on the command line, for kinds that repeat it.
        settings: what the two resolve to.

    Raises:
        ConfigError: an unknown kind, or sizes, names or a configuration that the kind can do nothing with.
    """
    text = template(kind)
    if kind == "docker":
        trackers = [load(TRACKERS[name]).extra for name in settings.observers.trackers]
        families = [family.extra for family in _families(settings)]
        extras = dict.fromkeys(filter(None, [*families, *trackers]))
        return Filled(_swap(text, r"^ARG EXTRAS=.*", f"ARG EXTRAS={','.join(extras)}"))
    check_settings(settings, wishes.allow_code, "the launched run")
    nodes = _nodes(kind, wishes)
    free = max(1, len(os.sched_getaffinity(0)) // nodes) if kind == "local" else CPUS
    node = node_for(settings, nodes, wishes.cpus, wishes.gpus, free)
    notes = list(_idle(settings, nodes, node))
    if kind in ("slurm", "local"):
        if wishes.image:
            raise ConfigError(f"--image: {kind} starts evofool from the environment it is installed in; leave it out.")
        storage = f"{wishes.storage.rstrip('/')}/runs" if wishes.storage else None
        arguments = _arguments(config, overrides, storage, wishes.allow_code)
        return Filled(_script(text, kind, nodes, node, arguments), notes)
    if wishes.image and not _IMAGE.fullmatch(wishes.image):
        raise ConfigError(f"--image: {wishes.image!r} is not the name of an image, such as evofool:0.1.0.")
    shared, runs = _storage(kind, settings, wishes)
    if kind == "kuberay":
        notes += [f"{file}: the run looks for it at {shared}/{file}; put it there." for file in named_files(settings)]
        return Filled(_kuberay(text, settings, nodes, node, wishes, runs).replace(SHARED, shared), notes)
    text = _machines(text, kind, nodes, node, wishes)
    submit = " ".join(_arguments(config, overrides, runs, wishes.allow_code).splitlines())  # it is in a comment
    text = text.replace(f"CONFIG storage.path={SHARED}/runs", submit).replace(SHARED, shared)
    return Filled(text, notes)


def _nodes(kind: str, wishes: Wishes) -> int:
    if wishes.hosts and kind != "on-premise":
        raise ConfigError(f"--hosts: {kind} finds its machines itself; leave it out.")
    if kind != "on-premise":
        return wishes.nodes or 2
    if not wishes.hosts:
        raise ConfigError("--hosts: on-premise needs the addresses of its machines, e.g. --hosts 10.0.0.1,10.0.0.2.")
    for host in wishes.hosts:
        _good_host(host)
    if len(set(wishes.hosts)) < len(wishes.hosts):
        raise ConfigError(f"--hosts: {', '.join(wishes.hosts)} has an address twice.")
    if wishes.nodes not in (None, len(wishes.hosts)):
        raise ConfigError(f"--nodes: {wishes.nodes}, but --hosts has {len(wishes.hosts)}; leave --nodes out.")
    return len(wishes.hosts)


def _good_host(host: str) -> None:
    if not _HOST.fullmatch(host):
        raise ConfigError(f"--hosts: {host!r} is neither an address nor a name; give them with commas between.")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if address.is_unspecified or address.is_loopback:
        raise ConfigError(f"--hosts: the other machines do not reach {host}; give the private address.")
    if address.is_global:
        raise ConfigError(f"--hosts: {host} is a public address; give the private one, for nodes to talk over.")


def _idle(settings: Config, nodes: int, node: Node) -> Iterator[str]:
    """A note if the cluster has room for more evaluators than the configuration names."""
    evaluation, count = settings.evaluation, settings.evaluation.evaluators
    each = demand(evaluation.threads, "cuda" if node.gpus else "cpu", evaluation.evaluators_per_gpu)
    most = nodes * room({"CPU": node.cpus, "GPU": node.gpus}, each)
    if count != "auto" and int(count) < most:
        yield f"evaluation.evaluators is {count}, and there is room for {most}; evaluation.evaluators=auto uses all."


def _storage(kind: str, settings: Config, wishes: Wishes) -> tuple[str, str]:
    """(shared folder, folder of runs or its URL), both absolute."""
    path = settings.storage.path
    shared, runs = SHARED, f"{SHARED}/runs"
    if wishes.storage is not None:
        shared = wishes.storage.rstrip("/")
        runs = f"{shared}/runs"
    elif url := as_url(path):
        runs = url
    elif path.startswith("/"):
        shared = runs = path.rstrip("/")
    if not _FOLDER.fullmatch(shared) or ".." in shared.split("/"):
        where = "--storage" if wishes.storage is not None else "storage.path"
        raise ConfigError(f"{where}: {kind} needs an absolute path of plain characters, such as {SHARED}.")
    return shared, runs


def _arguments(config: Path, overrides: list[str], runs: str | None, allow_code: bool) -> str:
    """The words of a shell behind `evofool run` or `evofool cluster submit`."""
    storage = [f"storage.path={runs}"] if runs else []
    return shlex.join([str(config), *overrides, *storage, *["--allow-code"] * allow_code])


def _swap(text: str, pattern: str, new: str) -> str:
    """Replace every match; a pattern without one means that a file of cluster/ was changed without this module."""
    swapped, count = re.subn(pattern, lambda _: new, text, flags=re.MULTILINE)
    if not count:
        raise AssertionError(f"no {pattern} in the launch file")
    return swapped


def _script(text: str, kind: str, nodes: int, node: Node, arguments: str) -> str:
    text = _swap(text, r"^ARGUMENTS=\(.*\)$", f"ARGUMENTS=({arguments})")
    text = _swap(text, r"^CPUS=\d+", f"CPUS={node.cpus}")
    text = _swap(text, r"^GPUS=\d+", f"GPUS={node.gpus}")
    if kind == "local":
        return _swap(text, r"^NODES=\d+", f"NODES={nodes}")
    text = _swap(text, r"^#SBATCH --nodes=\d+", f"#SBATCH --nodes={nodes}")
    text = _swap(text, r"^#SBATCH --cpus-per-task=\d+", f"#SBATCH --cpus-per-task={node.cpus + 1}")
    return _swap(text, r"^##SBATCH --gpus-per-node=0\n", f"#SBATCH --gpus-per-node={node.gpus}\n" * bool(node.gpus))


def _machines(text: str, kind: str, nodes: int, node: Node, wishes: Wishes) -> str:
    """aws.yaml and on-premise.yaml, for Ray's cluster launcher."""
    text = _swap(text, r"max_workers: \d+", f"max_workers: {nodes - 1}")
    text = _swap(text, r"--num-cpus=\d+", f"--num-cpus={node.cpus}")
    if kind == "aws":
        text = _swap(text, r"min_workers: \d+", f"min_workers: {nodes - 1}")
        text = _swap(text, r"resources: {.*}", f"resources: {{CPU: {node.cpus}, GPU: {node.gpus}}}")
        text = _swap(text, r"InstanceType: .*", f"InstanceType: {_instance(node)}")
        if node.gpus:
            text = text.replace(CPU_IMAGE, GPU_IMAGE)
    else:
        text = _swap(text, r"192\.0\.2\.10\b", wishes.hosts[0])
        text = _swap(text, r"worker_ips: \[.*\]", f"worker_ips: [{', '.join(wishes.hosts[1:])}]")
    if wishes.image:
        text = _swap(text, r"^.*  # checkout\n", "")
        options = f"['--volume={SHARED}:{SHARED}', '--ulimit=nofile=65536:65536']"
        docker = f"{{image: '{wishes.image}', container_name: evofool, run_options: {options}}}"
        text = _swap(text, r"^docker: {}", f"docker: {docker}")
        if kind == "aws":
            install = "sudo apt-get -o DPkg::Lock::Timeout=300 install -y docker.io"
            first = f"  - {install} && sudo usermod -aG docker $USER\n"
            text = _swap(text, r"^initialization_commands:\n", "initialization_commands:\n" + first)
    return text


def _instance(node: Node) -> str:
    table = GPU_INSTANCES if node.gpus else CPU_INSTANCES
    # One vCPU more than evaluators take: the driver's.
    fitting = [name for name, (cpus, gpus) in table.items() if cpus > node.cpus and gpus >= node.gpus]
    if not fitting:
        cpus, gpus = (max(column) for column in zip(*table.values()))
        raise ConfigError(
            f"--cpus, --gpus: no instance type known here has over {node.cpus} vCPUs and {node.gpus} GPUs; the largest "
            f"has {cpus} and {gpus}, so take more nodes of fewer."
        )
    return fitting[0]


def _kuberay(text: str, settings: Config, nodes: int, node: Node, wishes: Wishes, runs: str) -> str:
    block = textwrap.indent(to_yaml(load_config(settings, [f"storage.path={runs}"])), "    ")
    text = _swap(text, r"(?<=  config\.yaml: \|\n)(?:    .*\n)+", block)
    text = _swap(text, r"num-cpus: '\d+'", f"num-cpus: '{node.cpus}'")
    gpus = f", nvidia.com/gpu: {node.gpus}" * bool(node.gpus)
    text = _swap(text, r"cpu: \d+, memory: \d+Gi", f"cpu: {node.cpus + 1}, memory: {node.memory}Gi{gpus}")
    text = _swap(text, r"(?<= )replicas: \d+", f"replicas: {nodes - 1}")
    text = _swap(text, r"maxReplicas: \d+", f"maxReplicas: {nodes - 1}")
    if wishes.allow_code:
        text = _swap(text, r"--resume auto(?=')", "--resume auto --allow-code")
    return _swap(text, r"(?<=image: ).*", wishes.image) if wishes.image else text
