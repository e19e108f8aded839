"""What all studies share: their table, charts and intervals, and commands that are made from their options."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Command

from evofool.base.registry import STUDIES
from evofool.errors import ConfigError, CorruptData
from evofool.records import Facts
from evofool.store import schemas
from evofool.studies.shared import tables
from evofool.studies.shared.charts import Panel, dots, heat_maps
from evofool.studies.shared.statistics import median_ranks, wilson
from evofool.studies.shared.tables import StudyTable
from evofool.studies.study import Study, Work, conduct

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.float64())], metadata={"schema_version": "1"})


def group(key: str, rows: int = 2) -> pd.DataFrame:
    return pd.DataFrame({"key": key, "value": np.arange(rows) / 7})


def table_in(folder: Path) -> StudyTable:
    return StudyTable(folder, "made_up", SCHEMA, ("key",), {"study": "made_up"})


# --------------------------------------------------------------------------------------------------------- the table


def test_parts_are_written_behind_the_rows_and_read_in_the_order_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 20)
    table = table_in(tmp_path)
    for key in "dcb":
        assert table.add(group(key)) == [(key,)]
    table.merge()
    table.add(group("a"))
    table.merge()
    assert pd.read_parquet(table.path)["key"].tolist() == list("ddccbbaa")
    assert table.read([("a",), ("c",)])["key"].tolist() == list("aacc") and ("d",) in table and ("e",) not in table
    assert [path.name for path in tmp_path.iterdir()] == ["made_up.parquet"]
    assert pq.read_metadata(table.path).num_row_groups > 1
    with pytest.raises(ValueError, match="stored already"):
        table.add(group("a"))


def test_of_two_processes_neither_loses_rows_nor_stores_them_twice(tmp_path: Path) -> None:
    first, second = table_in(tmp_path), table_in(tmp_path)
    first.add(group("a"))
    second.add(group("a"))
    second.add(group("b"))
    first.merge()
    second.merge()
    assert pd.read_parquet(first.path)["key"].tolist() == list("aabb")
    third, fourth = table_in(tmp_path), table_in(tmp_path)
    third.add(group("c"))
    third.merge()
    fourth.add(group("c"))
    fourth.add(group("d"))
    fourth.merge()
    assert pd.read_parquet(first.path)["key"].tolist() == list("aabbccdd")


def test_a_kill_between_the_table_and_its_parts_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_in(tmp_path)
    table.add(group("a"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        table.merge()
    assert list(table.parts.iterdir()) and table.path.is_file()
    again = table_in(tmp_path)
    again.merge()
    assert pd.read_parquet(again.path)["key"].tolist() == ["a", "a"] and not again.parts.exists()


@pytest.mark.slow
def test_a_table_of_other_columns_and_one_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "made_up.parquet"
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(CorruptData, match="Move it away"):
        table_in(tmp_path)
    long = pa.array(["x" * (1 << 20)] * 1000)
    pq.write_table(pa.table({"key": long, "value": np.zeros(1000)}, schema=SCHEMA), path, compression="zstd")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CorruptData, match="256 MiB"):
        table_in(tmp_path)
    assert sum(len(batch) for batch in schemas.batches(path, SCHEMA, ["value"])) == 1000


# --------------------------------------------------------------------------------------------------------- intervals


def test_the_interval_of_a_median_covers_it_in_95_of_100() -> None:
    for n in (6, 7, 20, 101, 999):
        low, high = median_ranks(np.random.default_rng(n).permutation(n).astype(float))
        assert low is not None and high is not None and low + high == n - 1
        # The median lies below the k-th smallest of n with the binomial's probability of fewer than k successes.
        beyond = 2 * sum(math.comb(n, k) for k in range(int(low) + 1)) / 2**n
        assert beyond <= 0.05, n
        wider = 2 * sum(math.comb(n, k) for k in range(int(low) + 3)) / 2**n
        assert wider > 0.05, n  # it is not much wider than it must be
    assert median_ranks(np.arange(5.0)) == (None, None)


def test_the_interval_of_all_and_of_none_ends_there() -> None:
    for n in range(1, 200):
        assert wilson(n, n)[1] == 1 and wilson(0, n)[0] == 0


# ------------------------------------------------------------------------------------------------------------ charts


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_charts_write_every_number_and_round_none_up_to_1() -> None:
    row = {"label": "x" * 300, "value": 0.9999999, "low": 0.25, "high": 1.0, "n": 12}
    shown = texts(dots("title", [Panel("panel", [row, {"label": "none", "value": None, "n": 0}], (0, 1))]))
    assert "0.999 (0.25 to 1), n 12" in shown and "–, n 0" in shown and max(map(len, shown)) < 100
    maps = {"share": {("a", "a"): 0.99999, ("a", "b"): 0.5, ("b", "a"): None, ("b", "b"): 1.0}}
    shown = texts(heat_maps("title", maps, "down", "across"))
    assert {"0.999", "0.500", "–", "1.000"} <= set(shown)


def test_a_long_chart_says_what_it_leaves_out() -> None:
    rows = [{"label": str(i), "value": float(i), "n": 1} for i in range(70)]
    shown = texts(dots("title", [Panel("panel", rows)]))
    assert "59" in shown and "60" not in shown and "10 more are in the table." in shown


# ---------------------------------------------------------------------------------------------- commands from options


@dataclass(frozen=True)
class Options:
    """One of each type."""

    must: Annotated[str, "A text that has to be given."]
    many: Annotated[tuple[str, ...], "A text that may be repeated."] = ()
    how_often: Annotated[int, "A whole number."] = 3
    part: Annotated[float, "A number."] = 0.5
    plain: Annotated[bool, "A switch."] = False
    other: Annotated[str | None, "A text that may be missing."] = None


def _rows(work: Work) -> Generator[pd.DataFrame]:
    for key in work.first([work.subject, repr(work.options)]):
        if work.missing([(key,)]):
            yield group(key)


def _summarise(frame: pd.DataFrame) -> list[Facts]:
    return [{"figure": key, "value": np.float32(np.nan), "low": None, "high": None, "n": 2} for key in frame["key"]]


MADE_UP = Study("network", SCHEMA, ("key",), _rows, _summarise, lambda s, f: (dots("t", []), "So."), Options)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A study of a network that only this test has, and an empty folder to be in."""
    monkeypatch.setitem(STUDIES, "made_up", ("Is it?", f"{__name__}:MADE_UP"))
    monkeypatch.chdir(tmp_path)
    yield


def test_options_become_flags_with_their_help_and_types(made_up: None, command: Command) -> None:
    out = " ".join(command("study", "made_up", "--help")[1].split())
    assert "Is it?" in out and "A whole number. [default: 3]" in out and "TARGET" in out
    assert "--out" in out and "--limit" in out and "--pool" not in out and "studies/made_up" in out
    keys = ["--must", "a", "--many", "b", "--many", "c", "--how-often", "5", "--plain"]
    code, out, err = command("study", "made_up", "lenet:x", *keys)
    assert code == 0, err
    assert "Options(must='a', many=('b', 'c'), how_often=5, part=0.5, plain=True, other=None)" in out
    assert sorted(path.name for path in Path("studies/made_up").iterdir()) == [
        f"made_up.{kind}" for kind in ("json", "parquet", "svg")
    ]
    assert command("study", "made_up", "lenet:x")[0] == 2  # --must is missing
    assert command("study", "made_up", "lenet:x", "--must", "a", "--how-often", "often")[0] == 2


def test_conduct_refuses_what_makes_no_sense(made_up: None) -> None:
    with pytest.raises(ConfigError, match="no study 'made_upp'; did you mean made_up"):
        conduct("made_upp", ["x"])
    with pytest.raises(ConfigError, match="of one network; 2 were given"):
        conduct("made_up", ["x", "y"], Options("a"))
    with pytest.raises(ConfigError, match="give 1 or more"):
        conduct("made_up", ["x"], Options("a"), limit=0)
    assert len(conduct("made_up", ["x"], Options("a"), limit=1).frame) == 2
    assert not Path("studies/made_up/made_up.parquet").exists()


def test_the_answer_to_another_call_is_not_replaced_in_silence_and_none_of_its_rows_is_lost(made_up: None) -> None:
    said: list[str] = []
    conduct("made_up", ["x"], Options("a"), tell=said.append)
    conduct("made_up", ["x"], Options("a"), tell=said.append)
    assert not said  # the same call, which may be repeated
    conduct("made_up", ["y"], Options("b", many=("c",)), tell=said.append)
    [sentence] = said
    assert "made_up.json and .svg were the answer for x, must=a how_often=3 part=0.5;" in sentence
    assert set(pd.read_parquet("studies/made_up/made_up.parquet")["key"]) >= {"x", "y"}
    assert json.loads(Path("studies/made_up/made_up.json").read_text())["subject"] == ["y"]
