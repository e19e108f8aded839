"""What every observer is promised, and what none can do to a run: those of the table TRACKERS, and the progress."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import evofool
from evofool.base.registry import TRACKERS, load
from evofool.config import Config, load_config, to_yaml
from evofool.errors import Stopped, StorageError
from evofool.evaluate.opening import SLOW
from evofool.runs.observers.observer import GenerationPlaced, Observer, RunStarted, Warned
from evofool.runs.observers.progress import Lines, LiveTable
from evofool.store.run import RunStore

pytestmark = pytest.mark.slow  # whole runs

METHODS = [name for name in vars(Observer) if name.startswith("on_")]
OBSERVERS = {**TRACKERS, "progress lines": Lines, "progress live": LiveTable, "progress none": Observer}


@pytest.fixture(params=OBSERVERS)
def observer(request: pytest.FixtureRequest) -> Observer:
    maker = OBSERVERS[request.param]
    made: Observer = (load(maker) if isinstance(maker, str) else maker)()
    return made


def followed(observer: Observer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the events that it is told, as they come. What it raises is raised in the test."""
    told: list[str] = []

    def follow(name: str, method: Any) -> Any:
        def tell(event: Any) -> None:
            told.append(name)
            try:
                method(event)
            except Exception as error:
                told.append(f"raised {error!r}")
                raise

        return tell

    for name in METHODS:
        monkeypatch.setattr(observer, name, follow(name, getattr(observer, name)))
    return told


class Raising(Observer):
    """Raises in one of its methods, whenever that is called."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.called: list[str] = []
        self.method, self.error = method, error

    def __getattribute__(self, name: str) -> Any:
        if name not in METHODS:
            return super().__getattribute__(name)
        self.called.append(name)

        def tell(event: Any) -> None:
            if name == self.method and (name != "on_generation" or event.statistics.generation == 2):
                raise self.error

        return tell


class Listener(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.placed: list[GenerationPlaced] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        self.placed.append(event)

    def on_warning(self, event: Warned) -> None:
        self.warnings.append(event.text)


# ---------------------------------------------------------------------------------------------------- every observer


def test_events_come_in_order(
    observer: Observer, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = followed(observer, monkeypatch)
    evofool.run(config, out=tmp_path / "run", observers=[observer])
    pair = ["on_generation", "on_commit", "on_generation"]  # a commit is made before its generation is told
    assert told == ["on_start", *pair, *pair, *pair, "on_stop", "on_end"]
    told.clear()
    evofool.resume(tmp_path / "run", observers=[observer])
    assert told == ["on_stop"], "there was nothing to do"
    evofool.resume(tmp_path / "run", ["search.generations=8"], observers=[observer])
    assert told == ["on_stop", "on_start", *pair, "on_stop", "on_end"]


@pytest.mark.parametrize("error", [StorageError("no room"), ValueError("a bug"), KeyboardInterrupt()])
def test_after_an_error_the_end_still_comes(
    observer: Observer, error: BaseException, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, append = followed(observer, monkeypatch), RunStore.append

    def fail(store: RunStore, result: Any) -> None:
        if result.statistics.generation == 3:
            raise error
        append(store, result)

    monkeypatch.setattr(RunStore, "append", fail)
    with pytest.raises(Stopped if isinstance(error, KeyboardInterrupt) else type(error)):
        evofool.run(config, out=tmp_path / "run", observers=[observer])
    assert (told[0], told[-1]) == ("on_start", "on_end") and "on_stop" not in told
    assert told.count("on_generation") == 3 and not any("raised" in name for name in told)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_named_in_the_configuration_changes_nothing_of_the_run(
    name: str, config: Config, small_run: evofool.Run, tmp_path: Path, command: Any
) -> None:
    config = load_config(config, [f"observers.trackers=[{name}]"])
    run = evofool.run(config, out=tmp_path / "tracked")
    assert run.archive_hash == small_run.archive_hash
    assert len(pd.read_parquet(run.path)) == len(run.elites()) == 10
    assert evofool.verify(run.path)["generations"] == 6
    code, _, _ = command("resume", run.path, "search.generations=7", "observers.progress=none")
    assert code == 0 and len(pd.read_parquet(run.path)) == 10


@pytest.mark.parametrize("name", TRACKERS)
def test_a_trackers_package_is_in_an_extra(name: str) -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extra = load(TRACKERS[name]).extra
    assert not extra or extra in extras["optional-dependencies"]


# ------------------------------------------------------------------------------------------------ those that misbehave


@pytest.mark.parametrize("method", METHODS)
def test_one_that_raises_is_left_out_and_told_of_once(
    method: str, config: Config, small_run: evofool.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SLOW, "inline", "opening takes seconds")  # so that on_wait is called too
    raising, listener = Raising(method, ValueError("a bug")), Listener()
    evofool.run(config, out=tmp_path / "watched", observers=[Warner(), raising, listener])
    told = [text for text in listener.warnings if "Raising" in text]
    assert len(told) == 1
    assert re.search(rf"its {method} raised ValueError: a bug \(test_observers.py, line \d+\)", told[0])
    run = evofool.open_run(tmp_path / "watched")
    assert run.archive_hash == small_run.archive_hash
    assert commits(run) == commits(small_run)
    calls = raising.called
    assert calls.count("on_end") == 1 and calls[-1] == "on_end"
    assert method in ("on_end", "on_stop") or calls.count("on_generation") < 6
    assert len(listener.placed) == 6


class Warner(Observer):
    """Has a warning told, so that those that raise there are tried."""

    def on_start(self, event: RunStarted) -> None:
        raise LookupError("first")


def commits(run: evofool.Run) -> list[tuple[int, str]]:
    return [(commit.generation, commit.archive_hash) for commit in RunStore(run.path).log.commits]


def test_where_nobody_listens_the_log_says_it(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "evofool"):
        evofool.run(config, out=tmp_path / "run", observers=[Raising("on_start", ValueError("a bug"))])
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "the observer Raising is left out of the rest of this run"
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(7)])
def test_an_observer_may_end_the_run(error: BaseException, config: Config, tmp_path: Path) -> None:
    with pytest.raises(Stopped if isinstance(error, KeyboardInterrupt) else SystemExit):
        evofool.run(config, out=tmp_path / "run", observers=[Raising("on_generation", error)])


def arrays_of(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from arrays_of(getattr(value, field.name))


@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_no_observer_can_write_to_what_it_is_shown(kind: str, config: Config, tmp_path: Path) -> None:
    class Vandal(Listener):
        def on_start(self, event: RunStarted) -> None:
            event.config.search.stop_when.append("stale >= 0")
            event.provenance.clear()

        def on_generation(self, event: GenerationPlaced) -> None:
            super().on_generation(event)
            event.result.genomes.clear()
            for array in arrays_of(event):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0

    config = load_config(config, [f"encoding.kind={kind}"])
    expected = evofool.run(config, out=tmp_path / "alone")
    vandal = Vandal()
    run = evofool.run(config, out=tmp_path / "run", observers=[vandal])
    assert not vandal.warnings and len(vandal.placed) == 6
    assert run.archive_hash == expected.archive_hash and evofool.verify(run.path)["generations"] == 6
    shown = list(arrays_of(vandal.placed[-1]))
    assert len(shown) > 10 and all(array.base is not None for array in shown), "views, not copies"


# ---------------------------------------------------------------------------------------------------------- TensorBoard


def logged(path: Path) -> pd.DataFrame:
    """What TensorBoard makes of the logs of a run: a column for each name, a row for each generation."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path / "_tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert events.Tags()["tensors"] == ["config/text_summary"]
    frame = pd.DataFrame({tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]})
    assert all(len(events.Scalars(tag)) == len(frame) for tag in frame), "no generation twice"
    return frame


def same_as_history(run: evofool.Run) -> None:
    history, found = run.history().set_index("generation"), logged(run.path)
    assert set(history) - set(found) == set() and len(history) > 5
    for name in set(history) & set(found) - {"seconds"}:  # kept from before the kill on both sides
        np.testing.assert_array_equal(found[name], history[name].astype(np.float32), err_msg=name)
    np.testing.assert_allclose(found["seconds"], history["seconds"], atol=0.1)


def test_tensorboard_shows_the_history_also_after_a_kill(config: Config, tmp_path: Path) -> None:
    config = load_config(config, ["observers.trackers=[tensorboard]", "storage.commit_every=4"])
    run = evofool.run(config, out=tmp_path / "run")
    same_as_history(run)
    assert {"evaluators", "requeued", "evaluations_per_second"} <= set(logged(run.path))
    with pytest.raises(Stopped):
        evofool.resume(tmp_path / "run", ["search.generations=12"], observers=[Kill(10)])
    assert len(logged(run.path)) == 10 and evofool.open_run(run.path).status()["generation"] == 7
    same_as_history(evofool.resume(tmp_path / "run", ["search.generations=12"]))


class Kill(Observer):
    def __init__(self, generation: int) -> None:
        self.generation = generation

    def on_generation(self, event: GenerationPlaced) -> None:
        if event.statistics.generation == self.generation:
            raise KeyboardInterrupt


def test_without_its_package_nothing_is_begun(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    import torch.utils
    import torch.utils.tensorboard

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delattr(torch.utils, "tensorboard")
    (tmp_path / "c.yaml").write_text(to_yaml(load_config(config, ["observers.trackers=[tensorboard]"])))
    code, _, said = command("run", tmp_path / "c.yaml", f"storage.path={tmp_path}", "evaluation.pool=inline")
    assert code == 2 and "pip install 'evofool[tensorboard]'" in said and "observers.trackers=[]" in said
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
