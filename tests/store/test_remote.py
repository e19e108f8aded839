"""Runs in object stores, against an S3 server on this machine. What stores do wrong is in chaos/objects.py."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command
from obstore.exceptions import GenericError, NotSupportedError
from obstore.store import MemoryStore, from_url

import evofool
from evofool.base.places import as_url
from evofool.config import Config, load_config
from evofool.errors import ConfigError, CorruptData, RunLocked, Stopped, StorageError
from evofool.machines import launch, submit
from evofool.report.watch import Follower
from evofool.runs.observers.observer import Committed, Observer
from evofool.store import commits, compaction, writing
from evofool.store.remote import objects, working_copy
from evofool.store.remote.objects import Objects
from evofool.store.run import RunStore

KEY, SECRET = "AKIACANARYCANARY", "canary+secret/canary"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket; the environment has what leads to it, and a cache of its own."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{server}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "EVOFOOL_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    there = boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
    yield "s3://bucket"
    there.objects.all().delete()
    there.delete()


def contents(url: str) -> dict[str, bytes]:
    """Every object below a URL."""
    store = from_url(url)
    return {entry["path"]: bytes(store.get(entry["path"]).bytes()) for batch in store.list() for entry in batch}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class At(Observer):
    """Does something once, at a commit."""

    def __init__(self, generation: int, do: Callable[[], Any]) -> None:
        self.generation, self.do = generation, do

    def on_commit(self, event: Committed) -> None:
        if event.generation == self.generation:
            self.do()


# --------------------------------------------------------------------------------------------------------- whole runs


@pytest.mark.slow
def test_a_machine_that_is_lost_costs_nothing(
    bucket: str, config: Config, small_run: evofool.Run, tmp_path: Path, server: str
) -> None:
    url = f"{bucket}/runs/mine"

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(evofool.EvofoolError) as stopped:
        evofool.run(config, out=url, observers=[At(3, die)])
    assert url in str(stopped.value.safe) and stopped.value.go_on == f"evofool resume {url}"
    assert str(tmp_path) not in f"{stopped.value.message} {stopped.value.safe}"
    shutil.rmtree(tmp_path / "cache")
    # What a driver leaves behind that dies between its tables and its commit, and one that is about to commit.
    from_url(url).put("_history/00000000-0123456789abcdef.parquet", b"left behind")
    from_url(url).put("_history/00000009-0123456789abcdef.parquet", b"about to be named")

    run = evofool.resume(url)
    assert run.archive_hash == small_run.archive_hash
    there = contents(url)
    assert "_history/00000000-0123456789abcdef.parquet" not in there
    assert "_history/00000009-0123456789abcdef.parquet" in there

    shutil.rmtree(tmp_path / "cache")
    assert evofool.verify(url)["archive_hash"] == small_run.archive_hash
    again = evofool.open_run(url)
    assert again.status()["path"] == url
    assert len(again.provenance["sessions"]) == len(run.provenance["sessions"])
    names = ["class_name", "log_odds", "individual_id", "image_sha256"]
    pd.testing.assert_frame_equal(again.elites()[names], small_run.elites()[names])

    from pyarrow.fs import S3FileSystem

    s3 = S3FileSystem(endpoint_override=server, scheme="http", access_key=KEY, secret_key=SECRET, region="us-east-1")
    for folder in ("bucket/runs/mine/elites", "bucket/runs/mine"):
        pd.testing.assert_frame_equal(pd.read_parquet(folder, filesystem=s3)[names], small_run.elites()[names])

    for name, blob in {**there, **contents(url), **files_below(tmp_path / "cache")}.items():
        assert KEY.encode() not in blob and SECRET.encode() not in blob, name


@pytest.mark.slow
def test_a_run_in_a_store_is_compacted_there_too(
    bucket: str, config: Config, small_run: evofool.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, keys = f"{bucket}/compacted", ["storage.history=lineage", "storage.commit_every=1"]
    monkeypatch.setattr(compaction, "FLOOR", 20)
    run = evofool.run(config, keys, out=url)
    assert run.archive_hash == small_run.archive_hash
    assert RunStore(run.path).log.base is not None

    with working_copy.hold(run.path):
        compaction.compact(RunStore(run.path), "elites")
    last = len(RunStore(run.path).log.commits) - 1
    segments = [name for name in contents(url) if re.search(r"/\d{8}-[0-9a-f]{16}\.parquet$", name)]
    assert len(segments) == len(commits.TABLES)
    assert all(f"/{last:08d}-" in name for name in segments)

    shutil.rmtree(tmp_path / "cache")
    assert evofool.verify(url)["archive_hash"] == small_run.archive_hash
    more = [f"search.generations={config.search.generations + 2}"]
    assert evofool.resume(url, more).archive_hash == evofool.run(config, more, out=tmp_path / "local").archive_hash


@pytest.mark.slow
def test_of_two_drivers_on_two_machines_one_goes_on(
    bucket: str, config: Config, small_run: evofool.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, hashes = f"{bucket}/rivals", []

    def rival() -> None:
        with monkeypatch.context() as other:
            other.setenv("EVOFOOL_CACHE", str(tmp_path / "other machine"))
            hashes.append(evofool.resume(url).archive_hash)

    with pytest.raises(RunLocked, match="another driver wrote commit 1") as lost:
        evofool.run(config, out=url, observers=[At(1, rival)])
    assert url in lost.value.message and lost.value.exit_code == 5
    assert hashes == [small_run.archive_hash] == [evofool.open_run(url).archive_hash]
    evofool.verify(url)


@pytest.mark.slow
def test_of_two_drivers_that_make_a_run_one_does(
    bucket: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/made"
    create = working_copy.Remote.create

    def later(self: working_copy.Remote) -> None:
        monkeypatch.setattr(working_copy.Remote, "create", create)
        with monkeypatch.context() as other:
            other.setenv("EVOFOOL_CACHE", str(tmp_path / "other machine"))
            evofool.run(config, out=url)
        create(self)

    monkeypatch.setattr(working_copy.Remote, "create", later)
    with pytest.raises(RunLocked, match="has just made this run") as lost:
        evofool.run(config, ["seed=2"], out=url)
    assert lost.value.go_on == f"evofool resume {url}"
    assert evofool.open_run(url).config.seed == 1
    assert sum("config-" in name for name in contents(url)) == 1


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_elsewhere(
    bucket: str, config: Config, tmp_path: Path, lenet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evofool.studies import transfer

    url, spec = f"{bucket}/runs/test", f"lenet:{lenet_file}"
    evofool.run(config, out=url)
    scored = transfer._scored

    def killed(*arguments: Any) -> Any:
        yield next(scored(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(transfer, "_scored", killed)
        evofool.transfer(url, spec)
    assert [name for name in contents(url) if name.startswith("_studies/transfer.parts/")]
    shutil.rmtree(tmp_path / "cache")  # another machine
    variants: list[str] = []
    monkeypatch.setattr(transfer, "_scored", lambda e, by, v, pool: variants.extend(v) or scored(e, by, v, pool))
    assert len(evofool.transfer(url, spec)) == 20 and variants == ["re_rendered"]
    assert sorted(name for name in contents(url) if name.startswith("_studies")) == [
        f"_studies/transfer.{kind}" for kind in ("json", "parquet", "svg")
    ]


@pytest.mark.slow
def test_commands_take_urls(bucket: str, config: Config, tmp_path: Path, command: Command, lenet_file: Path) -> None:
    evofool.run(config, [f"storage.path={bucket}/runs"])
    url = f"{bucket}/runs/test"
    code, out, _ = command("status", url)
    assert code == 0 and url in out and str(tmp_path) not in out
    assert command("elites", url, "--json")[0] == 0
    assert command("show", url, "3", "--json")[0] == 0
    code, out, said = command("resume", url, "search.generations=8", "observers.progress=lines")
    assert code == 0, said
    assert f"the archive is in {url}" in said and str(tmp_path / "cache") not in said + out
    assert evofool.open_run(url).status()["generation"] == 7
    code, out, said = command("study", "compare", url, url)
    assert code == 0 and url in out
    code, out, said = command("study", "transfer", url, "--to", f"lenet:{lenet_file}", "--pool", "inline")
    assert code == 0, said
    assert f"{url}/_studies/transfer.parquet" in out
    shutil.rmtree(tmp_path / "cache")
    merged = evofool.merge([url, evofool.run(config, ["seed=2"], out=tmp_path / "two").path], f"{bucket}/runs/both")
    assert merged.status()["filled"] == 10
    assert (working_copy.locate(url) / "_studies" / "transfer.parquet").read_bytes() == contents(url)[
        "_studies/transfer.parquet"
    ]
    kept = {f"_studies/{name}.{kind}" for name in ("compare", "transfer") for kind in ("parquet", "svg", "json")}
    assert kept == {name for name in contents(url) if name.startswith("_studies")}
    assert kept == {f"_studies/{path.name}" for path in (working_copy.locate(url) / "_studies").iterdir()}
    shutil.rmtree(tmp_path / "cache")
    assert evofool.resume(f"{bucket}/runs/both", ["search.generations=2"]).status()["generation"] == 1  # its seeds too
    code, _, said = command("status", f"{bucket}/runs/none")
    assert code == 2 and f"{bucket}/runs/none: not a run" in said
    code, _, said = command("verify", url, "--salvage", f"{bucket}/whole")
    assert code == 2 and "is no folder" in said
    quickstart = ["configs/quickstart.yaml", f"target.spec=lenet:{lenet_file}"]
    code, _, said = command("run", *quickstart, "storage.path=s3://nowhere/runs")
    assert code == 74 and "s3://nowhere/runs/quickstart" in said and "no such bucket" in said
    code, out, _ = command("cluster", "doctor", "--storage", f"{bucket}/runs")
    assert f"{bucket}/runs puts objects only where there is none" in out
    assert not any("probe" in name for name in contents(bucket))


# ----------------------------------------------------------------------------------------------- the working copy


@pytest.fixture
def kept(bucket: str, config: Config) -> str:
    """URL of a finished run."""
    evofool.run(config, out=f"{bucket}/kept")
    return f"{bucket}/kept"


@pytest.mark.slow
def test_a_copy_that_differs_is_made_anew(kept: str, config: Config) -> None:
    whole, path = evofool.open_run(kept).archive_hash, working_copy.locate(kept)
    table = next((path / "_evofool" / "individuals").iterdir())
    table.write_bytes(b"damaged")
    evofool.verify(kept)
    (path / "_evofool" / "commits" / "00000001.json").write_bytes(b"damaged")
    assert evofool.open_run(kept).archive_hash == whole
    # Ahead of the store, as after a commit that the store has lost.
    log = commits.CommitLog(path)
    writing.append(log, None, 7, "0" * 64, {}, dropped_genomes=[], numerics={}, counters={})
    assert evofool.open_run(kept).archive_hash == whole
    # Another run of that name.
    for name in contents(kept):
        from_url(kept).delete(name)
    with pytest.raises(ConfigError, match="not a run"):
        evofool.open_run(kept)
    evofool.run(config, ["seed=5"], out=kept)
    assert evofool.open_run(kept).config.seed == 5


@pytest.mark.slow
def test_what_the_store_has_lost_is_told(kept: str, tmp_path: Path) -> None:
    store, there = from_url(kept), contents(kept)
    table = next(name for name in there if name.startswith("_evofool/placements/00000001"))
    for name, match in {
        table: f"{table}: missing",
        "_evofool/commits/00000001.json": "commits/00000001.json: missing",
        "_evofool/run.json": "has commits but no",
    }.items():
        shutil.rmtree(tmp_path / "cache")
        store.delete(name)
        with pytest.raises(CorruptData, match=match):
            evofool.open_run(kept)
        store.put(name, there[name][:-9] if name == table else there[name])
        if name == table:
            with pytest.raises(CorruptData, match="damaged"):
                evofool.open_run(kept)
            store.put(name, there[name])
    assert evofool.open_run(kept).status()["generation"] == 5


@pytest.mark.slow
def test_reading_beside_a_driver_of_this_machine_asks_the_store_nothing(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commits.lock(working_copy.locate(kept)):
        monkeypatch.setattr(objects, "_open", lambda url: pytest.fail("the store was asked"))
        assert evofool.open_run(kept).status()["generation"] == 5


@pytest.mark.slow
def test_a_copy_of_the_working_copy_is_a_run_of_its_own(kept: str, tmp_path: Path) -> None:
    before = contents(kept)
    shutil.copytree(working_copy.locate(kept), tmp_path / "apart")
    assert evofool.resume(tmp_path / "apart", ["search.generations=8"]).status()["generation"] == 7
    assert contents(kept) == before


# ---------------------------------------------------------------------------------------------- stores and URLs


class Odd:
    """An obstore store in memory whose puts go wrong."""

    def __init__(self, put: Callable[..., Any]) -> None:
        self.memory = MemoryStore()
        self.get, self.delete, self.list = self.memory.get, self.memory.delete, self.memory.list
        self.put = lambda name, data, **mode: put(self.memory, name, data, **mode)


def _refuse(error: Exception) -> Callable[..., Any]:
    def put(memory: MemoryStore, name: str, data: bytes, **mode: Any) -> Any:
        raise error

    return put


@pytest.mark.parametrize(
    "put, match",
    [
        (lambda memory, name, data, mode="overwrite": memory.put(name, data), "overwrote"),
        (_refuse(NotImplementedError("conditional put")), "cannot put objects only if absent"),
        (_refuse(NotSupportedError("no")), "cannot put objects only if absent"),
        (_refuse(GenericError("status code: 501 NotImplemented: If-None-Match")), "cannot put objects only if absent"),
    ],
)
def test_a_store_without_put_if_absent_is_refused_before_any_work(
    put: Callable[..., Any], match: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOFOOL_CACHE", str(tmp_path / "cache"))
    store = Odd(put)
    monkeypatch.setattr(objects, "_open", lambda url: store)
    monkeypatch.setattr("evofool.runs.session.open_pool", lambda *a, **k: pytest.fail("work had begun"))
    with pytest.raises(ConfigError, match=match) as refused:
        evofool.run(config, out="s3://odd/run")
    assert "s3://odd/run" in refused.value.message
    assert not store.memory.list().collect()


def test_errors_hold_no_secrets_and_say_how_to_go_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOFOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda _: None)
    said = f"status code: 403 <Error><AWSAccessKeyId>{KEY}</AWSAccessKeyId> https://u:{SECRET}@host/?sig={SECRET}"
    monkeypatch.setattr(objects, "_open", lambda url: Odd(_refuse(GenericError(said))))
    with pytest.raises(StorageError, match="permission denied") as refused:
        evofool.run(config, out="s3://bucket/run")
    error = refused.value
    assert error.exit_code == 74 and error.go_on == "evofool resume s3://bucket/run" and error.safe
    assert not any(secret in f"{error.message}{error.safe}{error.__cause__}" for secret in (KEY, SECRET))


def test_without_a_connection_or_the_package(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOFOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(objects, "RETRIES", {"max_retries": 0})
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    for name, value in {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ACCESS_KEY_ID": KEY}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(StorageError, match="AWS_ALLOW_HTTP"):
        evofool.open_run("s3://bucket/run")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(StorageError, match=r"s3://bucket/run.*connection refused"):
        evofool.open_run("s3://bucket/run")
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigError, match=r"pip install 'evofool\[cloud\]'"):
        evofool.open_run("s3://bucket/run")


@pytest.mark.parametrize(
    "place, url",
    [
        ("s3://bucket/runs/name/", "s3://bucket/runs/name"),
        (Path("s3://bucket/runs") / "name", "s3://bucket/runs/name"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
        ("runs/name", None),
        ("/runs/s3:/name", None),
        ("./s3:/name", None),
    ],
)
def test_urls_are_told_from_paths(place: str | Path, url: str | None) -> None:
    assert as_url(place) == url


@pytest.mark.parametrize(
    "place",
    [
        f"s3://user:{SECRET}@bucket/run",
        f"s3://bucket/run?token={SECRET}",
        "https://bucket/run",
        "file:///runs",
        "s3://bucket/../run",
        "s3://bucket//run",
        "s3://",
        "s3://bucket/a b",
        "s3://bucket/%2e%2e/run",
    ],
)
def test_urls_that_cannot_be_meant_are_refused(place: str, config: Config) -> None:
    with pytest.raises(ConfigError) as refused:
        as_url(place)
    assert SECRET not in refused.value.message
    with pytest.raises(ConfigError, match=r"storage\.path") as refused:
        load_config(config, [f"storage.path={place}"])
    assert SECRET not in refused.value.message


@pytest.mark.parametrize("kind", ["aws", "on-premise", "kuberay"])
def test_launch_files_and_jobs_keep_the_url(kind: str, config: Config) -> None:
    given = ["storage.path=s3://bucket/runs", "evaluation.pool=ray"]
    settings = load_config(config, given)
    hosts = ("10.0.0.1", "10.0.0.2") if kind == "on-premise" else ()
    wishes = launch.Wishes(nodes=2, hosts=hosts)
    text = launch.fill(kind, Path("config.yaml"), given, settings, wishes).text
    assert "s3://bucket/runs" in text and "/mnt/evofool/runs" not in text
    submit._refuse(submit.Job(Path("config.yaml"), given, settings))


def test_a_bucket_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOFOOL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="s3://bucket/NAME"):
        evofool.open_run("s3://bucket")


def test_a_stranger_cannot_name_the_store_of_a_folder(
    small_run: evofool.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOFOOL_CACHE", str(tmp_path / "cache"))
    (small_run.path.parent / "origin.json").write_text('{"url": "s3://elsewhere/run"}')
    assert working_copy.of(small_run.path) is None


def test_a_lost_answer_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, left = MemoryStore(), [3]

    def put(memory: MemoryStore, name: str, data: bytes, **mode: Any) -> Any:
        left[0] -= 1
        if left[0] == 1:
            raise GenericError("status code: 409 ConditionalRequestConflict")
        result = memory.put(name, data, **mode)
        if left[0] == 0:
            raise GenericError("connection closed")
        return result

    store = Odd(put)
    there = Objects("s3://bucket/run", store)
    monkeypatch.setattr(there, "pause", lambda _: None)
    assert there.create("other", b"mine")
    assert there.create("a", b"mine")  # 409, and then the answer is lost
    assert not there.create("a", b"another's")
    assert there.get("a") == b"mine" and not memory.list().collect()


@pytest.mark.slow
def test_the_cache_is_for_nobody_else(kept: str, tmp_path: Path) -> None:
    assert working_copy.locate(kept).parent.stat().st_mode & 0o077 == 0


def test_a_run_in_a_store_is_watched_as_it_grows(config: Config, bucket: str, command: Command) -> None:
    url = f"{bucket}/runs/watched"
    evofool.run(config, ["search.generations=2"], out=url)
    follower = Follower(working_copy.locate(url))
    assert follower.catch_up() and follower.glance().last["generation"] == 1
    evofool.resume(url, ["search.generations=6"])
    assert follower.catch_up() and follower.glance().last["generation"] == 5 and follower.glance().path == url
    assert "6 generations of 6" in command("watch", url)[1]
