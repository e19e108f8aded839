"""Connecting to Ray as its users expect, and letting go of no more than was started."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import ray
from ray._private.utils import read_ray_address
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig
from ray.util.client import ray as ray_client

from evofool.base.addresses import OpenCluster, is_loopback
from evofool.base.places import quoted
from evofool.config.sections import EvaluationConfig
from evofool.errors import ConfigError, ResourcesMissing, StorageError
from evofool.evaluate.memory import gpus
from evofool.evaluate.over_ray.imports import is_imported_from
from evofool.records import Facts

__all__ = ["Cluster", "connect", "connected"]

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in which Ray tells a job's driver what its workers get


PATIENCE = 40.0  # seconds of silence of the head; after 60 Ray ends this process
PROBE_SECONDS = 1.0


@dataclass
class Cluster:
    """A connection to Ray.

    Attributes:
        started: whether this process started it, and so may end it.
        address: HOST:PORT of its head, or of its server for Ray Client; "" where Ray Client was connected elsewhere.
        gone: whether `check` found it so.
    """

    started: bool
    address: str
    gone: bool = False
    _heard: float = math.inf  # when the head last answered
    _looked: float = -math.inf

    @classmethod
    def found(cls, named: str = "", *, started: bool) -> Cluster:
        """The one that this process is connected to, by an address if it was `named`."""
        if named.startswith("ray://"):  # this process may not reach the head itself
            return cls(started, named.removeprefix("ray://"))
        return cls(started, "" if ray_client.is_connected() else ray.get_runtime_context().gcs_address)

    def check(self) -> None:
        """Raise ResourcesMissing where the head is gone, before Ray ends this process without a word of ours."""
        now = time.monotonic()
        if not self.address or now - self._looked < PROBE_SECONDS:
            return
        self._looked, self._heard = now, min(self._heard, now)
        if _answers(self.address):
            self._heard = now
        elif now - self._heard > PATIENCE:
            self.gone = True
            raise ResourcesMissing(
                f"the Ray cluster is gone: its head has not answered at {self.address} for {PATIENCE:.0f} s; start it "
                "again, or leave --address and RAY_ADDRESS out for a Ray of this run's own."
            )

    def supply(self, resource: str) -> float:
        """How much of "CPU" or "GPU" the whole cluster has now."""
        return float(ray.cluster_resources().get(resource, 0.0))

    def free(self, resource: str) -> float:
        """How much of that nobody uses now."""
        return float(ray.available_resources().get(resource, 0.0))

    def facts(self) -> Facts:
        """Versions and size, for provenance."""
        return {
            "ray": ray.__version__,
            "address": "" if self.started else self.address,
            "nodes": sum(1 for node in ray.nodes() if node["Alive"]),
            "cpus": self.supply("CPU"),
            "gpus": self.supply("GPU"),
        }

    def close(self) -> None:
        """End Ray if this process started it. One that is gone is let go of, since Ray would wait for it for long."""
        if self.started and not self.gone:
            ray.shutdown()


def connect(address: str | None, local_cpus: int, refuse: Callable[[], None] = lambda: None) -> Cluster:
    """Connect to Ray as its users expect: `address`, else RAY_ADDRESS, else what `ray start` began here; or start one.

    A Ray that another run started for itself is not joined: it would end with that run.

    Args:
        address: HOST:PORT, "auto", or "local" to start one; None to look for one; an OpenCluster may have no token.
        local_cpus: cores that a cluster started here offers.
        refuse: is called before one is started here, and may raise what stands in the way.

    Raises:
        ConfigError: other machines can reach the cluster, and it asks nobody for a token.
        ResourcesMissing: nothing answers at the address, Ray refuses, or it is the address of the Jobs API.
        StorageError: a cluster started here has no place for its token.
    """
    if ray.is_initialized():
        return Cluster.found(started=False)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else every worker prints a warning
    _leave_the_jobs_folder()
    named = address or os.environ.get("RAY_ADDRESS")
    where = "--address" if address else "RAY_ADDRESS"
    if not named and (noted := _noted()):
        named, where = noted, "`ray start` on this machine"
    if named and named.startswith(("http://", "https://")):
        raise ResourcesMissing(
            f"{where}={named} is the address of Ray's Jobs API, which takes jobs, not drivers; "
            f"submit with `evofool cluster submit CONFIG --address {quoted(named)}`, or give HOST:6379."
        )
    if named and named not in ("auto", "local"):
        _refuse_silent(named, where)
    config = JobConfig()
    config._py_driver_sys_path = _OwnPath()
    options: Facts = {"namespace": "evofool", "log_to_driver": False, "logging_level": "ERROR"}
    if not str(named).startswith("ray://"):  # Ray Client cannot send it, and its driver is on the cluster
        options["job_config"] = config
    if named and named != "local":
        try:
            ray.init(address=str(named), **options)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError, AuthenticationError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ResourcesMissing(
                f"{where}={named}: something answers there, but Ray refuses ({reason}); if the cluster asks for a "
                "token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH unless it is in ~/.ray/auth_token."
            ) from None
        if not isinstance(address, OpenCluster):
            _refuse_open(named)
        return Cluster.found(named, started=False)
    # Chunks are small, so a large object store would only take memory from the evaluators. GPUs as torch sees them: Ray
    # asks NVIDIA's library, which does not answer everywhere.
    room: Facts = {"num_cpus": local_cpus, "num_gpus": gpus(), "object_store_memory": 256 << 20}
    refuse()
    try:
        ray.init(address="local", include_dashboard=False, **room, **options)
    except (OSError, AuthenticationError) as error:
        _explain_token(error)
        raise
    return Cluster.found(started=True)


def _explain_token(error: OSError | AuthenticationError) -> None:
    """Raise StorageError where Ray could not read or write the token that guards a cluster started here."""
    path, home = os.environ.get("RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray"
    write = "write 64 hexadecimal digits that nobody can guess into a file, readable by you alone"
    if isinstance(error, AuthenticationError) and path:
        raise StorageError(f"RAY_AUTH_TOKEN_PATH: {path} holds no token; unset it, or {write}.") from None
    if isinstance(error, OSError) and error.filename and Path(error.filename).is_relative_to(home):
        raise StorageError(
            f"{home}: Ray cannot write its token there ({error.strerror}); set HOME to a folder that can be written, "
            f"or {write}, and set RAY_AUTH_TOKEN_PATH to it."
        ) from None


def connected(
    settings: EvaluationConfig, address: str | None, refuse: Callable[[], None] = lambda: None
) -> contextlib.closing[Cluster]:
    """`connect` for the evaluators of a configuration: a cluster started here offers the cores they need."""
    evaluators = settings.evaluators if isinstance(settings.evaluators, int) else 0
    cores = max(len(os.sched_getaffinity(0)), evaluators * settings.threads)
    return contextlib.closing(connect(address, cores, refuse))


def _refuse_open(named: str) -> None:
    """Leave a cluster that other machines can reach and that asks nobody for a token: being let in proves nothing."""
    where = named if named.startswith("ray://") else ray.get_runtime_context().gcs_address
    host = where.removeprefix("ray://").rpartition(":")[0]
    if is_loopback(host) or _status_without_token(where) is grpc.StatusCode.UNAUTHENTICATED:
        return
    ray.shutdown()
    raise ConfigError(
        f"--address: the cluster at {where} asks nobody for a token, so whoever reaches its ports can run code there; "
        "start it with RAY_AUTH_MODE=token, as the files of cluster/ do, say --insecure-cluster to use it as it is, or "
        "--address local for a Ray of this run's own."
    )


def _noted() -> str:
    """The address that `ray start` left on this machine, if something still answers there; else ""."""
    address = read_ray_address() or ""
    return address if address and _answers(address) else ""


def _answers(address: str) -> bool:
    """Whether anything takes a connection at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _status_without_token(address: str) -> grpc.StatusCode:
    """How a head, or a server of Ray Client, answers a call that carries no token."""
    plain = address.removeprefix("ray://")
    call = "NodeInfoGcsService/CheckAlive" if plain == address else "RayletDriver/ClusterInfo"
    if _has_tls():
        files = [Path(os.environ[f"RAY_TLS_{name}"]) for name in ("CA_CERT", "SERVER_KEY", "SERVER_CERT")]
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        connection = grpc.secure_channel(plain, credentials)
    else:
        connection = grpc.insecure_channel(plain)
    with connection as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def _has_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


class _OwnPath(list[str]):
    """Folders that Ray puts in front of the import path of workers, without those this process does not import from.

    Ray would add the working directory, and a torch.py in it would run in every worker.
    """

    def extend(self, paths: Iterable[str]) -> None:
        super().extend(path for path in paths if is_imported_from(path))


def _leave_the_jobs_folder() -> None:
    """Keep the working directory of a job of Ray's, which is this process's, from workers in the same way."""
    if JOB in os.environ and not is_imported_from("."):
        job = json.loads(os.environ[JOB])
        (job.get("runtime_env") or {}).pop("working_dir", None)
        os.environ[JOB] = json.dumps(job)


def _refuse_silent(address: str, where: str) -> None:
    """Refuse an address where nothing answers, or not as Ray does: Ray itself waits long for it, and may abort."""
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
    if _status_without_token(address) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        tls = "leave RAY_USE_TLS out" if _has_tls() else "set RAY_USE_TLS=1 and its RAY_TLS_* files"
        raise ResourcesMissing(
            f"{where}={address}: something answers there, but not as Ray does; if only one side has Ray's TLS, {tls}."
        )
