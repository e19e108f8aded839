"""`evofool cluster plan`: what it foretells, against what short real runs then took; and that it leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evofool
from evofool.config import Config, load_config, to_yaml
from evofool.errors import ConfigError
from evofool.machines import plan as planning
from evofool.machines.disk import Sizes
from evofool.machines.plan import evaluations_in, generations_of
from evofool.machines.probe import Reading
from evofool.machines.rehearsal import BreedingMemory, FirstGenerations, PlacementCurve
from evofool.records import Numerics
from evofool.runs.observers.observer import Committed
from evofool.store import compaction
from evofool.store.commits import TABLES

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

EXECUTABLE = str(Path(sys.executable).with_name("evofool"))


def search(**keys: Any) -> Config:
    return load_config({"target": {"spec": "lenet:x"}, "search": {"offspring": 30, "initial": 70, "lag": 3, **keys}})


@pytest.mark.parametrize("limit", [1, 70, 71, 209, 210, 211, 240, 241, 1000])
def test_the_generation_that_reaches_max_evaluations_is_the_last(limit: int) -> None:
    config = search(max_evaluations=limit, generations=None)
    generations = generations_of(config)
    assert generations is not None
    assert evaluations_in(config, generations) >= limit > evaluations_in(config, generations - 1)


def test_the_earlier_of_two_limits_counts_and_there_may_be_none() -> None:
    assert generations_of(search(generations=4, max_evaluations=10_000)) == 4
    assert generations_of(search(generations=100, max_evaluations=240)) == 4
    assert generations_of(search(generations=None)) is None
    assert [evaluations_in(search(), n) for n in (0, 1, 3, 4)] == [0, 70, 210, 240]


@pytest.mark.parametrize(
    ("settings", "supply", "count", "words"),
    [
        ({}, {"CPU": 8, "GPU": 0}, 8, ""),
        ({"threads": 3}, {"CPU": 8, "GPU": 0}, 2, ""),
        ({"evaluators": 3}, {"CPU": 8, "GPU": 0}, 3, ""),
        ({"evaluators": 12}, {"CPU": 8, "GPU": 0}, 8, "12 evaluators are asked for, 8 can be scheduled; 4 will wait"),
        ({"threads": 16}, {"CPU": 8, "GPU": 0}, 1, "no evaluator can be scheduled"),
        ({"device": "cuda", "evaluators_per_gpu": 2}, {"CPU": 8, "GPU": 3}, 6, ""),
        ({"pool": "inline"}, {"CPU": 8, "GPU": 0}, 1, ""),
    ],
)
def test_evaluators_are_those_that_a_cluster_would_schedule(
    settings: dict[str, Any], supply: dict[str, float], count: int, words: str
) -> None:
    config = load_config({"target": {"spec": "lenet:x"}, "evaluation": settings})
    numerics = Numerics(settings.get("device", "cpu"), 50, 50, config.evaluation.threads, "contiguous")
    warnings: list[str] = []
    assert planning._evaluators(config, numerics, supply, "the cluster at X", warnings) == count
    assert words in " ".join(warnings) and bool(words) == bool(warnings)


def test_more_evaluators_than_cores_on_this_machine_share_them() -> None:
    config = load_config({"target": {"spec": "lenet:x"}, "evaluation": {"evaluators": 5}})
    warnings: list[str] = []
    numerics = Numerics("cpu", 50, 50, 1, "contiguous")
    assert planning._evaluators(config, numerics, {"CPU": 2.0, "GPU": 0}, "this machine", warnings) == 5
    assert "share 2 cores" in warnings[0]


def test_placements_beyond_what_was_seen_follow_a_power_law() -> None:
    cppn = PlacementCurve(((100, 10), (200, 16), (400, 25)), direct=False)
    assert cppn.at(50) == 5 and cppn.at(300) == 20.5 and cppn.at(400) == 25
    assert cppn.at(4000) == pytest.approx(25 * 10**0.6)  # no steeper
    assert cppn.at(4000, "low") < cppn.at(4000) < cppn.at(4000, "high")
    assert PlacementCurve(((100, 10), (200, 20)), direct=True).at(2000) == pytest.approx(200)
    assert PlacementCurve(((100, 10),), direct=True).at(200) == pytest.approx(20)


# ----------------------------------------------------------------------------------------------- against a real run


def plan_and_run(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[planning.Plan, evofool.Run]:
    """A plan, the folder it was made in (empty as before), and the run it is about, in a process of its own."""
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.5)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(folder)
    plan = planning.plan(config)
    assert list(folder.iterdir()) == []
    (folder / "c.yaml").write_text(to_yaml(config))
    arguments = [EXECUTABLE, "run", "c.yaml", "--out", "run", "--address", "local"]
    subprocess.run(arguments, check=True, capture_output=True)
    return plan, evofool.open_run(folder / "run")


def bytes_of(run: Path) -> int:
    return sum(path.stat().st_size for path in run.rglob("*") if path.is_file())


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_a_short_run_takes_what_was_foretold(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    settings = load_config(config, [f"encoding.kind={kind}", "search.generations=15"])
    plan, run = plan_and_run(settings, tmp_path, monkeypatch)
    last, session = run.history().iloc[-1], run.provenance["sessions"][-1]
    assert plan["evaluations"].value == last["evaluations"] == 750
    assert plan["forward passes"].value == 15 and plan["images through the network"].value == 750
    assert 0.5 < plan["placements"].value / last["placements_total"] < 2
    assert 0.5 < plan["disk"].value * (1 << 20) / bytes_of(run.path) < 2
    assert 1 / 1.5 < plan["memory of the process"].value / session["driver_peak_rss_mib"] < 1.5
    time = plan["time"]
    assert time.low is not None and time.low <= time.value
    assert plan["evaluations a second of one evaluator"].how == "measured" and time.how == "estimated"
    assert plan.facts["cells"] == 10 and plan.facts["image"] == "28 x 28 x 1" and plan.facts["evaluators"] == 1


@pytest.mark.slow
@pytest.mark.proof
def test_what_history_drops_is_not_foretold(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(compaction, "FLOOR", 50)
    asked = ["encoding.kind=direct", "search.generations=60", "storage.snapshot_every=1000", "storage.commit_every=1"]
    plans = {
        history: planning.plan(load_config(config, [*asked, f"storage.history={history}"]))["disk"]
        for history in ("full", "lineage", "elites")
    }
    assert plans["elites"].value < plans["full"].value / 1.3
    assert plans["elites"].low is not None and plans["lineage"].low is not None
    assert plans["lineage"].low < plans["lineage"].value / 1.3 and "ancestor" in plans["lineage"].rule
    sizes: list[int] = []  # after each commit: what is foretold is the largest, before a compaction

    class Listener(evofool.Observer):
        def on_commit(self, event: Committed) -> None:
            sizes.append(bytes_of(tmp_path / "run"))

    evofool.run(load_config(config, [*asked, "storage.history=elites"]), out=tmp_path / "run", observers=[Listener()])
    assert 0.5 < plans["elites"].value * (1 << 20) / max(sizes[-30:]) < 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.proof
def test_a_short_run_on_ray_takes_the_memory_that_was_foretold(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_config(config, ["evaluation.pool=ray", "evaluation.evaluators=2"])
    plan, run = plan_and_run(settings, tmp_path, monkeypatch)
    session = run.provenance["sessions"][-1]
    assert plan.facts["evaluators"] == 2 == session["evaluators"]
    assert 1 / 1.5 < plan["memory of one evaluator"].value / session["evaluator_peak_rss_mib"] < 1.5
    assert 1 / 1.5 < plan["memory of the driver"].value / session["driver_peak_rss_mib"] < 1.5


# --------------------------------------------------------------------------------------------------------- warnings


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """Puts made-up measurements in place of measuring."""

    def put(facts: dict[str, float]) -> None:
        rows = dict.fromkeys(TABLES, 100.0)
        sizes = Sizes(rows, dict.fromkeys(TABLES, 1000.0), 2000.0, 9000.0, 3000.0, 300.0, 400.0, 1)
        breeding = BreedingMemory(base_mib=500.0, bytes_a_row=facts.get("bytes_a_row", 1000.0), genome_bytes=300.0)
        first = FirstGenerations(
            driver_seconds=facts.get("driver_seconds", 0.1),
            placements=PlacementCurve(((100, 10), (200, 20)), direct=False),
            individuals=20,
            gpu_mib=0.0,
            sizes=sizes,
        )
        reading = Reading(100, 1.0)
        measurement = planning._Measurement(reading, reading, (600.0, 700.0), breeding, first)
        monkeypatch.setattr(planning, "_measure", lambda *_: measurement)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    return put


def test_what_does_not_fit_into_memory_is_said(config: Config, measured: Callable[[dict[str, float]], None]) -> None:
    measured({})
    assert planning.plan(config).warnings == []
    measured({"bytes_a_row": 1e12})
    assert "lower search.offspring" in planning.plan(config).warnings[0]


def test_open_ends_are_said(config: Config, measured: Callable[[dict[str, float]], None]) -> None:
    measured({})
    plan = planning.plan(load_config(config, ["search.generations=null"]))
    assert (
        plan["generations"].value == planning.OPEN_END and "only search.stop_when or an interrupt" in plan.warnings[0]
    )
    plan = planning.plan(load_config(config, ["search.stop_when=['median >= 0.9']"]))
    assert "may end this run earlier" in plan.warnings[0]
    plan = planning.plan(load_config(config, ["search.generations=null", "search.max_time=5"]))
    assert plan["time"].value == 5 and "only search.max_time ends" in plan.warnings[0]


def test_time_counts_the_driver_where_it_waits(config: Config, measured: Callable[[dict[str, float]], None]) -> None:
    measured({"driver_seconds": 2.0})
    inline = planning.plan(config)["time"]
    assert inline.value == pytest.approx(6 * (0.5 + 2.0))
    ray = planning.plan(load_config(config, ["evaluation.pool=ray", "evaluation.evaluators=1"]))["time"]
    assert ray.value == pytest.approx(6 * 2.0)


def test_crops_multiply_the_forward_passes(config: Config) -> None:
    settings = load_config(config, ["target.crops=10", "search.offspring=60"])
    plan = planning.Plan({})
    planning._work(plan, settings, Numerics("cpu", 50, 50, 1, "contiguous"), 6)
    assert plan["forward passes"].value == (2 * 1 + 4 * 2) * 10
    assert plan["images through the network"].value == (2 * 50 + 4 * 100) * 10


def test_the_command_prints_json_and_wrong_configs_are_refused(
    config: Config,
    measured: Callable[[dict[str, float]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from evofool import cli

    measured({})
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evofool", "cluster", "plan", "c.yaml", "search.generations=9", "--json"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    data = json.loads(capsys.readouterr().out)
    assert exit.value.code == 0 and {f["name"]: f["value"] for f in data["figures"]}["evaluations"] == 450
    assert {f["how"] for f in data["figures"]} == {"exact", "measured", "estimated"}
    monkeypatch.setattr(sys, "argv", ["evofool", "cluster", "plan", "c.yaml"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0 and "images through the network" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]
    for key in ("target.spec=python:evil.py:build", "target.classes=[zebra]", "encoding.colour=hsv"):
        with pytest.raises(ConfigError):
            planning.plan(load_config(config, [key]))
