"""`evofool cluster submit`: a run as a job of Ray's Jobs API, whose driver works on the cluster.

What the job needs of the current folder is packed here, not by Ray, so that weights the configuration names travel
even where .gitignore leaves them out, nothing secret does, and the size is known before anything is sent.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pathspec import GitIgnoreSpec

from evofool.base.addresses import is_loopback
from evofool.base.places import as_url, quoted
from evofool.config import Config, preset_named
from evofool.errors import ConfigError, EvofoolError, ResourcesMissing, Stopped, StorageError, first_line
from evofool.machines.launch import check_settings, named_files
from evofool.targets.training.provision import provide

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["LEFT_OUT", "Job", "Outcome", "check_address", "entrypoint", "gather", "submit", "token_file"]

MIB = 1 << 20
LIMIT = 100 * MIB  # bytes; Ray's dashboard refuses a larger upload
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
# Ray puts the job's folder in front of PYTHONPATH, and a torch.py that lies there would be taken for torch.
_NOT_FROM_HERE = 'PYTHONPATH="${PYTHONPATH#"$PWD"}"; export PYTHONPATH="${PYTHONPATH#:}";'
# Patterns as in .rayignore, which may add to them, or take one back with "!".
LEFT_OUT = (
    ".git/", ".venv*/", "venv/", "__pycache__/", ".*_cache/", ".hypothesis/", "*.egg-info/", "build/", "dist/",
    "node_modules/", "/runs/", "/weights/", "/data/", "*.safetensors", "*.pth", "*.pt", "*.ckpt",
    ".env", ".ssh/", ".aws/", ".kube/", ".ray/", ".netrc", "auth_token", "*.pem", "*.key",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What is submitted: a configuration as on the command line, and what it resolves to."""

    config: Path
    overrides: Sequence[str]
    settings: Config
    resume: str = "auto"
    allow_code: bool = False
    insecure_cluster: bool = False
    seeds: str | None = None  # as of `evofool run --seeds`: one after another, in one job
    include: Sequence[Path] = ()  # files to send whatever the patterns say


@dataclass(frozen=True)
class Outcome:
    """A submitted job; `status` and `exit_code` are None while it runs."""

    submission_id: str
    status: str | None = None
    exit_code: int | None = None


# ---------------------------------------------------------------------------------------------------------- addresses


def token_file() -> Path:
    """The file in which this machine has a cluster's token, if it has one."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def check_address(address: str, tell: Callable[[str], None] = lambda text: None, *, insecure: bool = False) -> None:
    """Refuse what is no address of the Jobs API, and, unless `insecure`, one beyond this machine without a token.

    Raises:
        ConfigError: naming the address and the way out.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ConfigError(f"--address: {address} is not http://HOST:8265.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(
            f"--address: {address} is not the Jobs API; give http://HOST:8265, or start the driver on the cluster with "
            "`evofool run --address HOST:6379`."
        )
    if parts.username or parts.password:
        raise ConfigError("--address: leave name and password out; the token comes from RAY_AUTH_TOKEN_PATH.")
    if port == 6379:
        raise ConfigError(f"--address: {address} is the port of drivers; the Jobs API has 8265 unless set otherwise.")
    has_token = bool(os.environ.get("RAY_AUTH_TOKEN")) or token_file().is_file()
    if has_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray sends the token only in this mode
    if insecure or is_loopback(parts.hostname):
        return
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or not has_token:
        raise ConfigError(
            f"--address: {address} is beyond this machine, so a token is needed: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN_PATH unless it is in ~/.ray/auth_token; or open a tunnel and give http://127.0.0.1:8265, "
            "or say --insecure-cluster."
        )
    if parts.scheme == "http":
        tell(f"{address}: the token goes over the network as it is; a tunnel (ssh -L) or https would hide it.")


# ------------------------------------------------------------------------------------------------------------ packing


def gather(folder: Path, needed: Sequence[Path]) -> dict[str, Path]:
    """{name in the job's folder: file} of what is sent.

    Args:
        needed: files inside `folder` that are sent whatever the patterns say.

    Raises:
        ConfigError: more than LIMIT, and names the largest files; or a needed file is not in the folder.
    """
    file = folder / ".rayignore"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    left_out = GitIgnoreSpec.from_lines([*LEFT_OUT, *lines])
    paths = {_within(file, folder): file for file in needed}
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        folders[:] = sorted(f for f in folders if not left_out.match_file(f"{(here / f).as_posix()}/"))
        for name in sorted(files):
            path = (here / name).as_posix()
            # Ray would obey ignore files a second time, and leave out what is needed.
            if name not in (".gitignore", ".rayignore") and not left_out.match_file(path):
                paths[path] = Path(place) / name
    paths = {name: file for name, file in paths.items() if file.is_file()}  # no pipes, no dangling links
    sizes = {name: file.stat().st_size for name, file in paths.items()}
    if sum(sizes.values()) > LIMIT:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        names = ", ".join(f"{name} ({sizes[name] / MIB:.1f} MiB)" for name in largest)
        raise ConfigError(
            f"{folder}: {sum(sizes.values()) / MIB:.0f} MiB would be sent, and Ray takes {LIMIT // MIB}; the "
            f"largest are {names}: name what the run does not need in .rayignore, or put it on the shared storage."
        )
    return paths


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write a zip of {name: file} that is the same bytes for the same files, so that Ray stores it once."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, file in sorted(files.items()):
            info = zipfile.ZipInfo(name)  # with the date of 1980
            info.external_attr = (0o755 if os.access(file, os.X_OK) else 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(info, file.read_bytes())


# --------------------------------------------------------------------------------------------------------- submitting


def entrypoint(job: Job, folder: Path) -> str:
    """The command the job runs, in its copy of the folder."""
    config = preset_named(job.config) or _within(job.config, folder)
    words = ["evofool", "run", config, *job.overrides, "--resume", job.resume]
    words += ["--seeds", job.seeds] if job.seeds else []
    words += ["--allow-code"] * job.allow_code + ["--insecure-cluster"] * job.insecure_cluster
    return f"{_NOT_FROM_HERE} exec {shlex.join(words)}"


def _within(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.normpath(file.absolute())).relative_to(os.path.normpath(folder.absolute())).as_posix()
    except ValueError:
        raise ConfigError(
            f"{file}: lies outside {folder}, which is what the job gets; submit from its folder."
        ) from None


def _refuse(job: Job) -> None:
    check_settings(job.settings, job.allow_code, "the job")
    place = job.settings.storage.path
    if not place.startswith("/") and not as_url(place):
        raise ConfigError(
            f"storage.path: {place} would lie in the job's folder, which Ray removes; give a folder of "
            "the cluster that stays, e.g. storage.path=/mnt/evofool/runs, or s3://BUCKET/runs."
        )
    if job.resume not in ("auto", "must", "never"):
        raise ConfigError(f"--resume: is auto, must or never, not {job.resume!r}.")


def _needed(job: Job, folder: Path, tell: Callable[[str], None]) -> list[Path]:
    """The config, unless it is a preset, and the files it names, of those that the job would look for in its folder."""
    needed = [] if preset_named(job.config) else [job.config]
    for file in [*named_files(job.settings), *job.include]:
        if file.is_absolute() and not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(folder.absolute())):
            tell(f"{file}: not sent; the job looks for it there on the cluster.")
            continue
        if not file.is_file():
            raise ConfigError(f"{file}: no such file here, so it cannot go with the job; give one that exists.")
        if file.is_absolute() and file not in job.include:
            raise ConfigError(f"{file}: the job has another folder; name it as {_within(file, folder)}.")
        needed.append(file)
    return needed


def submit(
    job: Job,
    address: str,
    *,
    wait: bool = True,
    tell: Callable[[str], None] = lambda text: None,
    log: Callable[[str], None] = lambda text: None,
    client: Callable[[str], JobSubmissionClient] | None = None,
) -> Outcome:
    """Send a run to a cluster, with a copy of the current folder, and, if `wait`, follow it to its end.

    Args:
        tell: receives sentences.
        log: receives what the job prints.
        client: makes what speaks to the Jobs API at an address; by default Ray's own.

    Raises:
        ConfigError: the job cannot be meant or is too large, or a preset's LeNet is missing and cannot be trained.
        ResourcesMissing: nothing answers, or refuses.
    """
    folder = Path.cwd()
    _refuse(job)
    check_address(address, tell, insecure=job.insecure_cluster)
    provide(job.config, job.settings, tell)  # here, so that the job and all that resume its run have the same network
    files = gather(folder, _needed(job, folder, tell))
    connection = _connect(address, client)
    with tempfile.TemporaryDirectory(prefix="evofool-") as scratch:
        archive = Path(scratch) / "folder.zip"
        pack(files, archive)
        tell(f"{len(files)} files, {archive.stat().st_size / MIB:.1f} MiB, go to {address}")
        try:
            name = connection.submit_job(
                entrypoint=entrypoint(job, folder),
                runtime_env={"working_dir": str(archive)},
                metadata={"evofool_run": job.settings.run_name},
            )
        except OSError as error:
            raise StorageError(f"{archive}: could not be sent ({error}).") from None
        except (RuntimeError, ValueError) as error:
            raise ResourcesMissing(f"{address}: the job was refused ({first_line(error)}).") from None
    logs = f"ray job logs {name} --address {quoted(address)}"
    tell(f"submitted as {name}; its log: {logs}; its end: ray job stop {name} ...")
    return _follow(connection, name, address, log) if wait else Outcome(name)


def _connect(address: str, client: Callable[[str], JobSubmissionClient] | None) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient  # only now: check_address may have set the mode Ray reads

    try:
        return client(address) if client else JobSubmissionClient(address)
    except Exception as error:  # Ray has no common class for these: requests', its own, plain ones
        text = first_line(error)
        if "401" in text or "403" in text or "uthenticat" in text or "nauthorized" in text:
            raise ResourcesMissing(
                f"{address}: the cluster asks for its token ({text}); set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH "
                "unless it is in ~/.ray/auth_token."
            ) from None
        raise ResourcesMissing(
            f"{address}: the Jobs API does not answer ({text}); is the head up, with its dashboard, and a tunnel open?"
        ) from None


def _follow(connection: JobSubmissionClient, name: str, address: str, log: Callable[[str], None]) -> Outcome:
    async def stream() -> None:
        async for text in connection.tail_job_logs(name):
            log(text)

    again = f"ray job logs {name} --address {quoted(address)} --follow"
    try:
        asyncio.run(stream())
        details = connection.get_job_info(name)
        while (status := str(getattr(details.status, "value", details.status))) not in ENDED:
            time.sleep(0.5)  # the status comes a little after the end of the log
            details = connection.get_job_info(name)
    except KeyboardInterrupt:
        raise Stopped(f"{name} goes on without being followed.", go_on=again) from None
    except Exception as error:  # as above
        raise EvofoolError(
            f"{address}: lost sight of {name} ({first_line(error)}); the job goes on if its cluster does.",
            go_on=f"{again}; if the cluster is gone, evofool cluster submit as before",
        ) from None
    code = details.driver_exit_code
    return Outcome(name, status, 0 if status == "SUCCEEDED" else code if code else 1)
