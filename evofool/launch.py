"""`evofool doctor`: what of this machine would stand in the way of a run, and what to do about it."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from evofool.config import load_config
from evofool.errors import EvofoolError
from evofool.store import files
from evofool.targets import load_target

__all__ = ["Finding", "examine"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `fix` says what to do about a warning or a failure."""

    subject: str
    level: str  # "ok", "warning" or "failure"
    text: str
    fix: str = ""


def examine(config: str | None, storage: str, allow_code: bool) -> list[Finding]:
    """Look at versions, processors, Ray's environment, the storage folder and, if a config is given, its target."""
    findings = [_versions(), _processors(), _gpu(), _ray_address(), _ray_token(), _storage(Path(storage))]
    if config is not None:
        findings.append(_target(config, allow_code))
    return findings


def _versions() -> Finding:
    names = ("evofool", "ray", "torch", "torchvision", "deap", "numpy", "pyarrow", "pandas")
    text = ", ".join([f"python {platform.python_version()}", *(f"{name} {metadata.version(name)}" for name in names)])
    return Finding("versions", "ok", text)


def _processors() -> Finding:
    usable = len(os.sched_getaffinity(0))
    text = f"{usable} cores usable, so evaluation.evaluators: auto is {usable} with one thread each"
    return Finding("processors", "ok", text)


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return Finding("gpu", "ok", "none seen by torch; evaluators use the CPU")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("gpu", "ok", names)


def _ray_address() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("RAY_ADDRESS", "ok", "not set; a cluster on this machine is used if there is one, else started")
    if address.startswith(("http://", "https://")):
        fix = "unset RAY_ADDRESS and set RAY_API_SERVER_ADDRESS to it, or give evofool run --address HOST:6379"
        return Finding("RAY_ADDRESS", "failure", f"{address} is the Jobs API, not a place for drivers", fix)
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("auto", "local") and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=3).close()
        except OSError as error:
            return Finding(
                "RAY_ADDRESS", "failure", f"{address} does not answer ({error})", "start the head node, or unset it"
            )
    return Finding("RAY_ADDRESS", "ok", address)


def _ray_token() -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if not token.is_file():
        return Finding("ray token", "ok", f"RAY_AUTH_MODE {mode}; no token at {token}")
    if token.stat().st_mode & 0o077:
        text = f"RAY_AUTH_MODE {mode}; others on this machine can read {token}"
        return Finding("ray token", "warning", text, f"chmod 600 {token}")
    return Finding("ray token", "ok", f"RAY_AUTH_MODE {mode}; token in {token}")


def _storage(folder: Path) -> Finding:
    place = folder
    while not place.exists():
        place = place.absolute().parent
    try:
        files.probe(place)
    except EvofoolError as error:
        return Finding("storage", "failure", error.message, "choose another storage.path, or make room")
    return Finding("storage", "ok", f"{place} takes files, links and fsync")


def _target(config: str, allow_code: bool) -> Finding:
    try:
        settings = load_config(config)
        target = load_target(
            settings.target.spec,
            geometry=settings.target.geometry,
            output=settings.target.output,
            crops=settings.target.crops,
            allow_code=allow_code,
        )
    except EvofoolError as error:
        return Finding("target", "failure", error.message, "see the README on targets")
    height, width = target.image_size
    text = f"{target.spec}: {len(target.class_names)} classes, images {height} x {width} x {target.channels}, "
    return Finding("target", "ok", text + f"fingerprint {target.fingerprint()[:16]}...")
