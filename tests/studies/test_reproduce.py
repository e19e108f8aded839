"""The papers' experiments: the rule of the verdict, what is read, what is made, and that nothing is made twice."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evofool.config import load_config
from evofool.errors import ConfigError
from evofool.runs import designs
from evofool.studies.reproduce import Options
from evofool.studies.shared.papers import EXPERIMENTS, PAPERS
from evofool.studies.shared.protocols import ANSWERS, MADE_BY, RUNS
from evofool.studies.shared.verdicts import (
    ABOUT,
    AT_LEAST,
    NO_DIFFERENCE,
    READ,
    REPORTED,
    VERDICTS,
    Experiment,
    OfRuns,
    verdict,
)
from evofool.studies.study import Outcome, conduct

INF = float("inf")


@pytest.mark.parametrize(
    ("theirs", "claim", "interval", "said"),
    [
        (0.5, ABOUT, (0.4, 0.6), "same"),
        (0.5, ABOUT, (0.6, 0.7), "stronger"),
        (0.5, AT_LEAST, (0.6, 0.7), "same"),
        (0.5, ABOUT, (0.2, 0.4), "weaker"),
        (0.5, ABOUT, (0.0, 0.4), "contradicts"),
        (0.5, AT_LEAST, (-0.3, -0.2), "contradicts"),
        (0.5, ABOUT, (-0.1, 0.6), "unclear"),
        (0.5, ABOUT, (None, None), "unclear"),
        (None, ABOUT, (0.1, INF), "same"),
        (None, ABOUT, (-0.2, -0.1), "contradicts"),
        (None, ABOUT, (-0.1, 0.1), "unclear"),
        (None, NO_DIFFERENCE, (-0.1, 0.1), "consistent"),
        (None, NO_DIFFERENCE, (0.1, 0.2), "contradicts"),
    ],
)
def test_the_verdict_follows_from_the_interval_their_value_and_the_null(
    theirs: float | None, claim: str, interval: tuple[float | None, float | None], said: str
) -> None:
    experiment = Experiment("x", "mnist", "", "", "", None, theirs=theirs, claim=claim)
    assert verdict(experiment, *interval) == said and said in VERDICTS
    mirrored = dataclasses.replace(experiment, fewer=True, theirs=None if theirs is None else -theirs)
    low, high = interval
    if low is not None and high is not None:
        assert verdict(mirrored, -high, -low) == said  # what is found is fewer, and so is theirs
        higher = dataclasses.replace(experiment, theirs=None if theirs is None else theirs + 3)
        assert verdict(higher, low + 3, high + 3, null=3.0) == said


def test_every_experiment_can_be_made_or_says_why_not() -> None:
    names = [(each.paper, each.name) for each in EXPERIMENTS]
    assert len(set(names)) == len(names) and {each.paper for each in EXPERIMENTS} == set(PAPERS)
    for each in EXPERIMENTS:
        assert each.found and each.measure and each.mark in (READ, REPORTED)
        if isinstance(each.ours, OfRuns):
            assert {each.ours.runs, each.ours.less or each.ours.runs} <= set(RUNS)
        elif each.ours is None:
            assert each.why_not
        else:
            assert {each.ours.answer, each.ours.null_answer or each.ours.answer} <= set(ANSWERS) or each.why_not
        if each.ours and each.ours.table:
            assert each.ours.table in MADE_BY
    for runs in RUNS.values():
        for budget in runs.seeds:
            load_config(runs.config, {**runs.overrides, **runs.more.get(budget, {})})
    for answer in ANSWERS.values():
        assert isinstance(answer.of, str) or set(answer.of) <= set(RUNS)


def ask(folder: Path, paper: str = "mnist", limit: int | None = None, **options: Any) -> Outcome:
    (folder / "results").mkdir(exist_ok=True)
    chosen = Options(**{"results": str(folder / "results"), "runs": str(folder / "runs"), **options})
    return conduct("reproduce", [paper], chosen, out=folder / "out", limit=limit, pool="inline")


def test_tables_are_read_and_what_is_in_none_is_not_run(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    row = {"to": "lenet:x-2.safetensors", "variant": "same_pixels", "elites": "all", "low": 0.7, "high": 0.8, "n": 300}
    rows = [
        row | {"figure": "same_top1", "value": 0.75},
        row | {"figure": "same_by_chance", "value": 0.78},
        row | {"figure": "source_surer", "value": 0.75},
    ]
    pd.DataFrame(rows).to_csv(results / "transfer.csv", index=False)
    found = {each["figure"]: each for each in ask(tmp_path, budget="none").summary}
    assert found["transfer_same_answer"]["verdict"] == "unclear"  # the table's own null lies inside
    assert found["transfer_source_surer"]["verdict"] == "weaker" and found["transfer_source_surer"]["n"] == 300
    assert found["transfer_source_surer"]["command"] == "make figures-transfer"
    assert found["cppn_median"]["verdict"] == "not run" and found["cppn_median"]["value"] is None
    pd.DataFrame([*rows, rows[0] | {"variant": "photographs"}]).to_csv(results / "transfer.csv", index=False)
    with pytest.raises(ConfigError, match=r"transfer.csv: is no table .* 2 rows, not one, have .*same_top1"):
        ask(tmp_path, budget="none")  # of which of them is the paper's?
    row["to"] = "nothing"
    pd.DataFrame([row]).to_csv(results / "transfer.csv", index=False)
    with pytest.raises(ConfigError, match=r"transfer.csv: is no table .* there is no column 'figure'"):
        ask(tmp_path, budget="none")


def test_a_number_of_an_earlier_call_counts_until_anew(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    frame = (
        ask(tmp_path, budget="none")
        .frame.iloc[[0, 0, 0]]
        .assign(
            value=[0.99995, 0.99996, 0.99997],
            unit=["seed 1", "seed 2", "seed 3"],
            source="elsewhere",
            command="evofool x",
        )
    )
    frame.to_csv(tmp_path / "results" / "reproduce.csv", index=False)
    first = ask(tmp_path, budget="none").summary[0]
    assert (first["verdict"], first["n"], first["value"], first["command"]) == ("same", 3, 0.99996, "evofool x")
    assert ask(tmp_path, budget="none", anew=True).summary[0]["verdict"] == "not run"
    (tmp_path / "results" / "reproduce.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        ConfigError, match=r"reproduce.csv: is no table as evofool writes it: KeyError: 'paper'; --anew"
    ):
        ask(tmp_path, budget="none")


def test_wrong_words_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing to reproduce in .mnits.; did you mean mnist\?"):
        ask(tmp_path, "mnits")
    with pytest.raises(ConfigError, match="--budget: 'tiny' is not small, full or none"):
        ask(tmp_path, budget="tiny")
    with pytest.raises(ConfigError, match="--results: there is no folder nowhere"):
        ask(tmp_path, results="nowhere")


@pytest.mark.slow
@pytest.mark.needs_mnist5k
def test_what_is_missing_is_made_once_and_a_kill_loses_one_run_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lenet_file: Path
) -> None:
    tiny = {"search.generations": 3, "search.offspring": 20, "search.initial": 20, "target.spec": f"lenet:{lenet_file}"}
    runs = dataclasses.replace(RUNS["mnist_cppn"], overrides=tiny)
    monkeypatch.setitem(RUNS, "mnist_cppn", runs)
    made: list[str] = []
    run = designs.runner.run

    def counted(*given: Any, **options: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(str(options["out"]))
        return run(*given, **options)

    monkeypatch.setattr(designs.runner, "run", counted)
    with pytest.raises((KeyboardInterrupt, Exception)):
        ask(tmp_path, limit=1)
    assert len(made) == 2
    before, made[:] = list(made), []
    outcome = ask(tmp_path, limit=1)
    assert len(made) == 1 and made[0] not in before
    made[:] = []
    again = ask(tmp_path, limit=1)
    assert made == [] and again.summary == outcome.summary
    [row] = outcome.summary
    assert row["n"] == 3 and row["low"] <= row["value"] <= row["high"] and re.match("evofool study rep", row["command"])
    assert list(outcome.frame["unit"]) == ["seed 1", "seed 2", "seed 3"]
