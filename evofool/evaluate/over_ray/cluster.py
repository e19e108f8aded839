"""Connecting to Ray as its users expect, and letting go of no more than was started."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import ray
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig

from evofool.base.addresses import OpenCluster, is_loopback
from evofool.config import EvaluationConfig
from evofool.errors import ConfigError, ResourcesMissing
from evofool.records import Facts

__all__ = ["Cluster", "connect", "connected"]


JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in which Ray tells a job's driver what its workers get


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray; `started` says whether this process started it, and so may end it."""

    started: bool

    def supply(self, resource: str) -> float:
        """How much of "CPU" or "GPU" the whole cluster has now."""
        return float(ray.cluster_resources().get(resource, 0.0))

    def facts(self) -> Facts:
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
        address: HOST:PORT, "auto" or "local"; None to look for one; an OpenCluster to use one without a token.
        local_cpus: what a cluster started here should offer.

    Raises:
        ConfigError: beyond this machine, and no token is asked for there.
        ResourcesMissing: nothing answers there, or it is the address of the Jobs API.
    """
    if ray.is_initialized():
        return Cluster(started=False)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else every worker prints a warning
    _leave_the_jobs_folder()
    named = address or os.environ.get("RAY_ADDRESS")
    where = "--address" if address else "RAY_ADDRESS"
    if named and named.startswith(("http://", "https://")):
        raise ResourcesMissing(
            f"{where}={named} is the address of Ray's Jobs API, which takes jobs, not drivers; "
            f"submit with `evofool submit CONFIG --address {named}`, or give HOST:6379."
        )
    if named and named not in ("auto", "local"):
        _refuse_silent(named, where)
    options: Facts = {
        "namespace": "evofool",
        "log_to_driver": False,
        "logging_level": "ERROR",
        "job_config": _job_config(),
    }
    if named != "local":
        try:
            ray.init(address=str(named or "auto"), **options)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError, AuthenticationError) as error:
            if named:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise ResourcesMissing(
                    f"{where}={named}: something answers there, but Ray refuses ({reason}); if the cluster asks for a "
                    "token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH unless it is in ~/.ray/auth_token."
                ) from None
        else:
            if not isinstance(address, OpenCluster):
                _refuse_open(named or "")
            return Cluster(started=False)
    # Chunks are small, so a large object store would only take memory from the evaluators.
    ray.init(address="local", include_dashboard=False, num_cpus=local_cpus, object_store_memory=256 << 20, **options)
    return Cluster(started=True)


@contextlib.contextmanager
def connected(settings: EvaluationConfig, address: str | None) -> Iterator[Cluster]:
    """A connection for the evaluators of a configuration: a cluster started here offers the cores they need."""
    wanted = settings.evaluators if isinstance(settings.evaluators, int) else 0
    cluster = connect(address, max(len(os.sched_getaffinity(0)), wanted * settings.threads))
    try:
        yield cluster
    finally:
        cluster.close()


def _refuse_open(named: str) -> None:
    """Leave a cluster that others can reach too, unless it asks them for a token. That it let us in says nothing."""
    where = named if named.startswith("ray://") else ray.get_runtime_context().gcs_address
    host = where.removeprefix("ray://").rpartition(":")[0]
    if is_loopback(host) or _answer(where) is grpc.StatusCode.UNAUTHENTICATED:
        return
    ray.shutdown()
    raise ConfigError(
        f"--address: the cluster at {where} asks nobody for a token, so whoever reaches its ports can run code there; "
        "start it with RAY_AUTH_MODE=token, as the files of cluster/ do, or say --insecure-cluster to use it as it is."
    )


def _answer(address: str) -> grpc.StatusCode:
    """What a head, or a server of Ray Client, says to a call without a token."""
    plain = address.removeprefix("ray://")
    call = "NodeInfoGcsService/CheckAlive" if plain == address else "RayletDriver/ClusterInfo"
    with _channel(plain) as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def _channel(address: str) -> Any:
    if not _has_tls():
        return grpc.insecure_channel(address)
    files = [Path(os.environ[f"RAY_TLS_{name}"]) for name in ("CA_CERT", "SERVER_KEY", "SERVER_CERT")]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*(file.read_bytes() for file in files)))


def _has_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


class _OwnPath(list[str]):
    """What workers get in front of their import path: of what Ray wants to add, what this process imports from too.

    Ray adds the working directory, so that a torch.py that lies there would run in every worker.
    """

    def extend(self, paths: Iterable[str]) -> None:
        super().extend(path for path in paths if _is_imported_from(path))


def _is_imported_from(folder: str) -> bool:
    return os.path.realpath(folder) in {os.path.realpath(entry) for entry in sys.path}


def _leave_the_jobs_folder() -> None:
    """The same for a job of Ray's: workers need its folder only if this process, which works there, imports from it."""
    if JOB in os.environ and not _is_imported_from("."):
        job = json.loads(os.environ[JOB])
        (job.get("runtime_env") or {}).pop("working_dir", None)
        os.environ[JOB] = json.dumps(job)


def _job_config() -> JobConfig:
    config = JobConfig()
    config._py_driver_sys_path = _OwnPath()
    return config


def _refuse_silent(address: str, where: str) -> None:
    """Ray waits long and dies hard on an address that does not answer, or not as Ray does, so knock first."""
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
    if _answer(address) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        tls = "leave RAY_USE_TLS out" if _has_tls() else "set RAY_USE_TLS=1 and its RAY_TLS_* files"
        raise ResourcesMissing(
            f"{where}={address}: something answers there, but not as Ray does; if only one side has Ray's TLS, {tls}."
        )
