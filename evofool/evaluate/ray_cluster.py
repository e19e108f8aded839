"""Connecting to Ray as its users expect, and letting go of no more than was started."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.job_config import JobConfig

from evofool.errors import ResourcesMissing

__all__ = ["Cluster", "connect"]


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray; `started` says whether this process started it, and so may end it."""

    started: bool

    def supply(self, resource: str) -> float:
        """How much of "CPU" or "GPU" the whole cluster has now."""
        return float(ray.cluster_resources().get(resource, 0.0))

    def facts(self) -> dict[str, Any]:
        """Versions and size, for provenance."""
        return {
            "ray": ray.__version__,
            "nodes": sum(1 for node in ray.nodes() if node["Alive"]),
            "cpus": self.supply("CPU"),
            "gpus": self.supply("GPU"),
        }

    def close(self) -> None:
        """End Ray if this process started it."""
        if self.started:
            ray.shutdown()


def connect(address: str | None, local_cpus: int) -> Cluster:
    """Connect to Ray as its users expect: `address`, else RAY_ADDRESS, else a cluster on this machine, else start one.

    Args:
        address: HOST:PORT, "auto" or "local"; None to look for one.
        local_cpus: what a cluster started here should offer.

    Raises:
        ResourcesMissing: nothing answers there, or it is the address of the Jobs API.
    """
    if ray.is_initialized():
        return Cluster(started=False)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else every worker prints a warning
    named = address or os.environ.get("RAY_ADDRESS")
    where = "--address" if address else "RAY_ADDRESS"
    if named and named.startswith(("http://", "https://")):
        raise ResourcesMissing(
            f"{where}={named} is the address of Ray's Jobs API, which takes jobs, not drivers; "
            f"submit with `ray job submit --address {named} -- evofool run ...`, or give HOST:6379."
        )
    if named and named not in ("auto", "local"):
        _refuse_silent(named, where)
    options: dict[str, Any] = {
        "namespace": "evofool",
        "log_to_driver": False,
        "logging_level": "ERROR",
        "job_config": _job_config(),
    }
    if named != "local":
        try:
            ray.init(address=named or "auto", **options)
            return Cluster(started=False)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            if named:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise ResourcesMissing(
                    f"{where}={named}: something answers there, but Ray refuses ({reason}); if the cluster asks for a "
                    "token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH unless it is in ~/.ray/auth_token."
                ) from None
    # Chunks are small, so a large object store would only take memory from the evaluators.
    ray.init(address="local", include_dashboard=False, num_cpus=local_cpus, object_store_memory=256 << 20, **options)
    return Cluster(started=True)


class _OwnPath(list[str]):
    """What workers get in front of their import path: of what Ray wants to add, what this process imports from too.

    Ray adds the working directory, so that a torch.py that lies there would run in every worker.
    """

    def extend(self, paths: Iterable[str]) -> None:
        own = {os.path.realpath(entry) for entry in sys.path}
        super().extend(path for path in paths if os.path.realpath(path) in own)


def _job_config() -> JobConfig:
    config = JobConfig()
    config._py_driver_sys_path = _OwnPath()
    return config


def _refuse_silent(address: str, where: str) -> None:
    """Ray waits long and dies hard on an address that does not answer, so knock first."""
    plain = address.removeprefix("ray://")
    host, _, port = plain.rpartition(":")
    if not host or not port.isdigit():
        raise ResourcesMissing(f"{where}={address} is not HOST:PORT, auto or local.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        raise ResourcesMissing(
            f"{where}={address}: nothing answers there ({error.strerror or error}); is the head node up?"
        ) from None
