"""The figures of a run, and what they are made of."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Command
from fixtures import make

import evofool
from evofool.errors import ClassNotFound, ConfigError
from evofool.report.trends import QUANTILES, goal_switches, trends

FIXTURES = Path(make.__file__).parent


@pytest.fixture
def run(tmp_path: Path) -> evofool.Run:
    shutil.copytree(FIXTURES / "cppn", tmp_path / "run")
    return evofool.open_run(tmp_path / "run")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


def drawn(ax: Any) -> np.ndarray:
    """What a figure looks like, (height, width, 4) uint8."""
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


def test_trends_agree_with_the_history_and_with_the_elites(run: evofool.Run) -> None:
    frame, history, elites = trends(run), run.history(), run.elites()
    for column in ("generation", "evaluations", "classes_99", "classes_9999"):
        assert frame[column].tolist() == history[column].tolist()
    last = frame.iloc[-1]
    assert last[list(QUANTILES)].tolist() == np.quantile(elites["log_odds"], list(QUANTILES.values())).tolist()
    assert last["classes_90"] == (elites["confidence"] >= 0.9).sum() > last["classes_99"] - 1
    halfway = run.placements().query("generation <= 3").drop_duplicates("cell", keep="last")
    assert frame["q50"][3] == pytest.approx(np.quantile(halfway["log_odds"], 0.5))


def test_of_a_compacted_run_the_median_is_left(run: evofool.Run, command: Command) -> None:
    whole = trends(run)
    assert command("compact", run.path, "--history", "elites")[0] == 0
    compacted = evofool.open_run(run.path)
    frame = trends(compacted)
    assert frame.columns.tolist() == ["generation", "evaluations", "q50", "classes_99", "classes_9999"]
    median = compacted.history()["median"]
    assert np.allclose(1 / (1 + np.exp(-frame["q50"])), median)
    assert frame["classes_99"].tolist() == whole["classes_99"].tolist()
    for plot in (compacted.plot_curves, compacted.plot_classes):
        drawn(plot())
    with pytest.warns(UserWarning, match="kept only some of the placements"):
        drawn(compacted.plot_goal_switches())
    strip = compacted.plot_lineage(0)
    assert "of" in strip.get_title()


def placements(*rows: tuple[int, int, int, int | None, list[int]]) -> Any:
    """A run by hand, of two classes with two bins each: (individual, generation, cell, displaced, parents)."""
    columns = ["individual_id", "generation", "cell", "displaced_id", "parent_ids"]
    frame = pd.DataFrame(rows, columns=columns).astype({"displaced_id": object})
    frame["class_index"] = frame["cell"].map({0: 7, 1: 7, 2: 9, 3: 9})
    facts = {"class_indices": [7, 9], "cells": 4}
    config = SimpleNamespace(search=SimpleNamespace(lag=2))
    return SimpleNamespace(placements=lambda: frame, provenance=facts, config=config)


def test_goal_switches_are_counted_by_what_the_parent_held_when_it_bred() -> None:
    roots = [(10, 0, 0, None, []), (20, 0, 2, None, []), (30, 0, 3, None, [])]
    # 40 takes class 7 from 10, bred from 20, of class 9: a switch.
    switch = (40, 2, 0, 10, [20, 10])
    # 50 is bred from the archive after generation 1, when 10 still held class 7: no switch.
    late = (50, 3, 1, None, [10])
    # 60 is bred after generation 2, when 40 held class 7: a switch to 9.
    back = (60, 4, 2, 20, [40])
    # 10 had lost its cell by then; it held nothing, and nothing is counted.
    lost = (70, 5, 3, 30, [10])
    counts, share = goal_switches(placements(*roots, switch, late, back, lost))
    assert counts.tolist() == [[1, 1], [1, 0]]
    assert share == 2 / 3
    both = [(10, 0, 0, None, []), (10, 0, 2, None, []), (20, 2, 3, None, [10])]
    counts, share = goal_switches(placements(*both))
    assert counts.tolist() == [[0, 0.5], [0, 0.5]]
    assert share == 0
    assert math.isnan(goal_switches(placements(*roots))[1])


def test_curves_of_runs_share_axes_and_differ_without_colour(run: evofool.Run) -> None:
    for plot, lines in ((run.plot_curves, 1), (run.plot_classes, 3)):
        ax = plot()
        assert plot(ax, label="$again\\frac{") is ax
        styles = [(line.get_linestyle(), line.get_marker()) for line in ax.get_legend().get_lines()]
        assert len(styles) == len(set(styles)) == 2 * lines
        assert ax.get_legend().get_texts()[-1].get_text().startswith("$again")
        drawn(ax)
    median = run.plot_curves().get_lines()[0].get_ydata()
    assert median.tolist() == trends(run)["q50"].tolist()


def test_elites_and_ancestors_are_drawn_as_they_were_scored(run: evofool.Run) -> None:
    shown = [np.asarray(image.get_array()) for image in run.plot_elites(columns=4).get_images()]
    for image, index in zip(shown, run.elites()["class_index"], strict=True):
        assert np.array_equal(image, run.image(int(index)))
    row = run.elite("knots")
    ax = run.plot_lineage("knots")
    captions = [text.get_text().split("\n")[0] for text in ax.texts]
    line = run.lineage(row["individual_id"])
    assert captions[0] == "generation 0"
    assert captions[-1] == f"generation {row['generation']}"
    assert set(captions) <= {f"generation {g}" for g in line["generation"]}
    assert np.abs(np.asarray(ax.get_images()[-1].get_array()).astype(int) - run.image("knots")).max() <= 1
    assert len(run.plot_lineage("knots", most=2).get_images()) == 2
    people = run.lineage(row["individual_id"])["individual_id"]
    assert set(run.images(people)) == set(people)
    with pytest.raises(ClassNotFound):
        run.plot_lineage("nothing")


def test_hostile_names_are_text(run: evofool.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.text import Text

    run.store.provenance["class_names"] = ["$\\frac{$", "_", "\u202ea\n", "<b>", "%d", "x" * 500]
    frame = run.elites().assign(class_name=run.store.provenance["class_names"])
    monkeypatch.setattr(run, "elites", lambda **options: frame)
    for ax in (run.plot_goal_switches(), run.plot_elites(), run.plot_lineage("$\\frac{$")):
        drawn(ax)
        words = " ".join(text.get_text() for text in ax.findobj(Text))
        assert "$\\frac{$" in words
        assert "\u202e" not in words
        assert "x" * 20 not in words


def test_bad_requests_are_sentences(run: evofool.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="plot_lineage: most is 2 or more"):
        run.plot_lineage(0, most=1)
    with pytest.raises(ConfigError, match="plot_elites: columns and most are 1 or more"):
        run.plot_elites(columns=0)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"plots need the package matplotlib: pip install 'evofool\[plots\]'"):
        run.plot_curves()
