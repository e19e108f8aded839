"""`evofool cluster doctor`: what of this machine, or of a cluster, would stand in the way of a run, and the way out."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from evofool.base.places import as_path, as_url, quoted
from evofool.base.provenance import versions
from evofool.config import load_config
from evofool.errors import EvofoolError
from evofool.evaluate.memory import gpus
from evofool.machines.submit import token_file
from evofool.store import files
from evofool.store.remote.objects import Objects
from evofool.targets.opening import open_target
from evofool.targets.training.provision import need_training_data, to_be_trained

if TYPE_CHECKING:
    from evofool.evaluate.over_ray.nodes import Answer

__all__ = ["Finding", "Look", "examine", "judge", "look"]

ALIKE = ("python", "evofool", "ray", "torch", "numpy")  # what a node must have as the driver has it


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `fix` says what to do about a warning or a failure."""

    subject: str
    level: str  # "ok", "warning" or "failure"
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Look:
    """What a node says of itself."""

    versions: dict[str, str]  # "" where a package is missing
    cores: int
    gpus: int
    auth: str  # its RAY_AUTH_MODE
    storage: str  # why it cannot write to the storage folder, "" if it can
    shared: bool  # whether it sees the driver's mark


def examine(config: str | None, storage: str, allow_code: bool, address: str | None = None) -> list[Finding]:
    """Look at versions, processors, Ray's environment, storage, and at a config's target and a cluster, if any.

    Args:
        config: path of a YAML file, or the name of a preset.
        storage: folder of the runs, or its URL.
        address: of the cluster: HOST:PORT or "auto".
    """
    findings = [*_machine(), _ray_address(), _ray_token(), _storage(storage)]
    if config is not None:
        findings.append(_target(config, allow_code))
    if address is not None:
        url = as_url(storage)
        on_nodes = _cluster(address, Path.cwd() if url else as_path(storage).absolute())
        # Nodes do not touch an object store: only the driver writes.
        findings += [finding for finding in on_nodes if not (url and finding.subject == "storage on nodes")]
    return findings


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0))
    text = f"{cores} cores usable, so evaluation.evaluators: auto is {cores} with one thread each"
    names = [torch.cuda.get_device_name(i) for i in range(gpus())]
    return [
        Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions("pandas").items())),
        Finding("processors", "ok", text),
        Finding("gpu", "ok", ", ".join(names) or "none seen by torch; evaluators use the CPU"),
    ]


def _ray_address() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding(
            "RAY_ADDRESS",
            "ok",
            "not set; a Ray that `ray start` began here is used, else one is started",
        )
    if address.startswith(("http://", "https://")):
        fix = "unset RAY_ADDRESS and set RAY_API_SERVER_ADDRESS to it, or give evofool run --address HOST:6379"
        return Finding("RAY_ADDRESS", "failure", f"{address} is the Jobs API, not a place for drivers", fix)
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("auto", "local") and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=3).close()
        except OSError as error:
            text = f"{address} does not answer ({error})"
            return Finding("RAY_ADDRESS", "failure", text, "start the head node, or unset it")
    return Finding("RAY_ADDRESS", "ok", address)


def _ray_token() -> Finding:
    mode, token = os.environ.get("RAY_AUTH_MODE", "not set"), token_file()
    if not token.is_file():
        return Finding("ray token", "ok", f"RAY_AUTH_MODE {mode}; no token at {token}")
    if token.stat().st_mode & 0o077:
        text = f"RAY_AUTH_MODE {mode}; others on this machine can read {token}"
        return Finding("ray token", "warning", text, f"chmod 600 {quoted(token)}")
    return Finding("ray token", "ok", f"RAY_AUTH_MODE {mode}; token in {token}")


def _storage(place: str) -> Finding:
    url = as_url(place)
    if problem := _refusal(place):
        fix = "choose another storage.path, or " + ("see docs/cluster.md" if url else "make room")
        return Finding("storage", "failure", problem, fix)
    if url:
        return Finding("storage", "ok", f"{url} puts objects only where there is none")
    folder = as_path(place).absolute()
    there = _existing(folder)
    text = f"{there} takes files, links and fsync"
    if there == folder:
        return Finding("storage", "ok", text)
    if there == folder.parent:
        return Finding("storage", "ok", f"{text}; a run will make {folder.name} in it")
    # A whole path that is missing is more often a disk that is not mounted, or a slip of the pen, than a wish.
    fix = f"mount it, correct the path, or mkdir -p {quoted(folder)}"
    text = f"there is no {folder}, nor {folder.parent}; a run would make it below {there}"
    return Finding("storage", "warning", text, fix)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest ancestor that exists."""
    while not folder.exists():
        folder = folder.absolute().parent
    return folder


def _refusal(place: str) -> str:
    """Why a folder or URL cannot take what a run writes; "" if it can."""
    try:
        if url := as_url(place):
            Objects(url).probe()
        else:
            files.probe(_existing(as_path(place)))
    except EvofoolError as error:
        return error.message
    return ""


def _target(config: str, allow_code: bool) -> Finding:
    try:
        settings = load_config(config)
        if file := to_be_trained(config, settings):
            need_training_data(file)
            return Finding("target", "ok", f"{file} is missing; `evofool run {quoted(config)}` trains it first")
        opened = open_target(settings.target, allow_code=allow_code)
    except EvofoolError as error:
        return Finding("target", "failure", error.message, "see docs/networks.md")
    target = opened.target
    height, width = target.image_size
    text = f"{target.spec}: {len(target.class_names)} classes, images {height} x {width} x {target.channels}, "
    return Finding("target", "ok", text + f"fingerprint {opened.fingerprint[:16]}...")


# ------------------------------------------------------------------------------------------------------------ clusters


def look(folder: str, mark: str) -> Look:
    """What this node says of itself; runs on every node of a cluster.

    Args:
        folder: absolute path of the storage folder.
        mark: absolute path of a file that the driver has written into that folder, or above it.
    """
    # num_gpus=0 hides GPUs from torch in some versions of Ray, but not from the folder of NVIDIA's driver.
    nvidia = Path("/proc/driver/nvidia/gpus")
    return Look(
        versions=versions("pandas"),
        cores=len(os.sched_getaffinity(0)),
        gpus=max(torch.cuda.device_count(), len(list(nvidia.iterdir())) if nvidia.is_dir() else 0),
        auth=os.environ.get("RAY_AUTH_MODE", ""),
        storage=_refusal(folder),
        shared=Path(mark).is_file(),
    )


def _cluster(address: str, folder: Path) -> list[Finding]:
    from evofool.evaluate.over_ray.cluster import connect
    from evofool.evaluate.over_ray.nodes import on_every_node

    findings = _addresses(address)
    try:
        cluster = connect(address, local_cpus=1)
    except EvofoolError as error:
        return [*findings, Finding("cluster", "failure", error.message, "see docs/cluster.md")]
    mark = _existing(folder) / f"_tmp-{secrets.token_hex(8)}"
    with contextlib.suppress(OSError):  # the finding on storage says so already
        mark.touch()
    try:
        return [*findings, *judge(on_every_node(look, (str(folder), str(mark))), versions("pandas"), mark.is_file())]
    finally:
        mark.unlink(missing_ok=True)
        cluster.close()


def _addresses(address: str) -> list[Finding]:
    """Traps of RAY_ADDRESS beside --address."""
    findings = []
    other = os.environ.get("RAY_ADDRESS")
    if other and other != address and address != "auto":
        text = f"RAY_ADDRESS is {other}, so drivers without --address go there and not to {address}"
        findings.append(Finding("RAY_ADDRESS", "warning", text, "unset it, or set it to the same"))
    if address.startswith("ray://"):
        text = f"{address} is Ray Client: when this machine loses the connection, the run ends"
        findings.append(
            Finding("--address", "warning", text, "start the driver on the cluster: evofool cluster submit")
        )
    return findings


def judge(answers: Sequence[Answer], driver: dict[str, str], marked: bool) -> list[Finding]:
    """Findings about a cluster.

    Args:
        answers: of `look`, from every node.
        driver: its versions, by package.
        marked: whether the driver could write its mark; if not, nobody can tell whether nodes share its folder.
    """
    total = {name: sum(answer.declared.get(name, 0) for answer in answers) for name in ("CPU", "GPU")}
    findings = [Finding("cluster", "ok", f"{len(answers)} nodes, {total['CPU']:g} CPU, {total['GPU']:g} GPU")]
    for answer in answers:
        if answer.error:
            fix = "install evofool there as here" if "No module named" in answer.error else "see its Ray logs"
            findings.append(Finding(f"node {_name(answer)}", "failure", answer.error, fix))
    looks = [(answer, answer.value) for answer in answers if not answer.error]
    return [*findings, _alike(looks, driver), _tokens(looks), *_resources(looks), _storage_on_nodes(looks, marked)]


def _name(answer: Answer) -> str:
    return f"{answer.host} ({answer.address})"


def _alike(looks: Sequence[tuple[Answer, Look]], driver: dict[str, str]) -> Finding:
    different = [
        f"{_name(answer)} has {name} {seen.versions.get(name) or 'missing'}, the driver {driver.get(name) or 'none'}"
        for answer, seen in looks
        for name in ALIKE
        if seen.versions.get(name) != driver.get(name)
    ]
    if different:
        fix = "give all nodes one image or environment: evaluators whose scores differ by a bit cannot join a run"
        serious = any(f" has {name} " in text for text in different for name in ("evofool", "ray"))
        return Finding("versions on nodes", "failure" if serious else "warning", "; ".join(different), fix)
    return Finding("versions on nodes", "ok", "everywhere " + ", ".join(f"{name} {driver.get(name)}" for name in ALIKE))


def _tokens(looks: Sequence[tuple[Answer, Look]]) -> Finding:
    exposed = [answer for answer, seen in looks if seen.auth.lower() != "token"]
    if not exposed:
        return Finding("auth", "ok", "RAY_AUTH_MODE token on every node")
    local = all(answer.address.startswith("127.") for answer in exposed)
    text = f"without a token: {', '.join(map(_name, exposed))}; whoever reaches a port there can run code"
    fix = "start every node with RAY_AUTH_MODE=token and one token file of mode 600, as the files of cluster/ do"
    return Finding("auth", "warning" if local else "failure", text, fix)


def _resources(looks: Sequence[tuple[Answer, Look]]) -> list[Finding]:
    findings = []
    for answer, seen in looks:
        declared, fix = answer.declared.get("GPU", 0), "start it with the right --num-gpus"
        if declared > seen.gpus:
            text = f"{_name(answer)} declares {declared:g} GPUs and has {seen.gpus}"
            findings.append(Finding("gpus on nodes", "failure", text, f"{fix}; see nvidia-smi"))
        elif declared < seen.gpus:
            text = f"{_name(answer)} has {seen.gpus} GPUs and declares {declared:g}, so some stay idle"
            findings.append(Finding("gpus on nodes", "warning", text, fix))
        if answer.declared.get("CPU", 0) > seen.cores:
            text = f"{_name(answer)} declares {answer.declared['CPU']:g} CPU and may use {seen.cores}"
            findings.append(Finding("cores on nodes", "warning", text, "start it with the right --num-cpus"))
    bad = {finding.subject for finding in findings}
    good = [subject for subject in ("gpus on nodes", "cores on nodes") if subject not in bad]
    return [*findings, *(Finding(subject, "ok", "as declared") for subject in good)]


def _storage_on_nodes(looks: Sequence[tuple[Answer, Look]], marked: bool) -> Finding:
    refused = [f"{_name(answer)}: {seen.storage}" for answer, seen in looks if seen.storage]
    apart = [_name(answer) for answer, seen in looks if marked and not seen.shared]
    # Only the driver writes, so this stands in the way of the next driver, if that starts on another node.
    fix = "mount one shared folder on every node, and give it as storage.path"
    if refused:
        return Finding("storage on nodes", "warning", "not writable: " + "; ".join(refused), fix)
    if apart:
        text = f"not the driver's folder: {', '.join(apart)}; a run could not be resumed from there"
        return Finding("storage on nodes", "warning", text, fix)
    return Finding("storage on nodes", "ok", "writable from every node" + ", and the same folder" * marked)
