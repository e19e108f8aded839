"""What every study promises: a question, options with help, an effect found where one is, files that stand alone.

Each row of the table of studies is tried on what tests/contract/planted.py has for it.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, get_args, get_type_hints
from xml.etree import ElementTree

import pandas as pd
import pyarrow.parquet as pq
import pytest
from contract.planted import FIXTURES, Planted

from evofool.base.registry import STUDIES
from evofool.errors import Stopped
from evofool.studies import study as studies
from evofool.studies.study import SUBJECTS, Outcome, Study, Work, conduct, load_study

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

SHAPES = {"svg", "title", "desc", "g", "rect", "line", "circle", "path", "polyline", "polygon", "text", "tspan"}


@pytest.fixture(scope="module", params=list(STUDIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(name: str, trained_on_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Planted]:
    """What is planted for the study, made once."""
    if name not in FIXTURES:
        pytest.fail(
            f"the study {name} has nothing to be tried on: write a function (folder, effect) -> Planted in "
            "tests/contract/planted.py, whose docstring says what of, and add it to FIXTURES there."
        )
    subjects: dict[bool, Planted] = {}

    def make(effect: bool) -> Planted:
        if effect not in subjects:
            subjects[effect] = FIXTURES[name](tmp_path_factory.mktemp(name), effect)
        return subjects[effect]

    return make


@pytest.fixture(scope="module")
def whole(name: str, made: Callable[[bool], Planted], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The study, conducted without a stop on what has the effect."""
    planted = made(True)
    return conduct(
        name, planted.subject, planted.options, live=planted.live, out=tmp_path_factory.mktemp("whole") / "out"
    )


def test_it_asks_a_question_and_its_options_have_help(name: str) -> None:
    study, question = load_study(name)
    assert question.endswith("?") and study.subject in SUBJECTS and study.smoke > 0
    assert dataclasses.fields(study.options) or study.options is studies.NoOptions
    hints = get_type_hints(study.options, include_extras=True)
    for field in dataclasses.fields(study.options):
        assert get_args(hints[field.name])[1].endswith("."), f"{field.name} has no sentence of help"


def test_its_table_has_its_keys_and_a_version(name: str, whole: Outcome) -> None:
    study, _ = load_study(name)
    assert study.keys and set(study.keys) <= set(study.schema.names)
    assert b"schema_version" in study.schema.metadata
    assert pq.read_schema(whole.files[0]).equals(study.schema)
    assert b"schema_version" in pq.read_schema(whole.files[0]).metadata
    assert pd.read_parquet(whole.files[0]).attrs["evofool"]["study"] == name


def test_a_planted_effect_is_found_and_none_where_there_is_none(
    name: str, made: Callable[[bool], Planted], whole: Outcome, tmp_path: Path
) -> None:
    assert made(True).found(whole.summary) is True
    planted = made(False)
    assert (
        planted.found(conduct(name, planted.subject, planted.options, live=planted.live, out=tmp_path).summary) is False
    )


def watch(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[int]:
    """Rows of the groups that studies compute from now on, one number each; an interrupt comes after some of them."""
    groups: list[int] = []
    load = load_study

    def loaded(name: str) -> tuple[Study, str]:
        study, question = load(name)

        def rows(work: Work) -> Generator[Any]:
            for group in study.rows(work):
                groups.append(len(group))
                yield group
                if len(groups) == stop_after:
                    raise KeyboardInterrupt

        return dataclasses.replace(study, rows=rows), question

    monkeypatch.setattr(studies, "load_study", loaded)
    return groups


def test_stopped_and_begun_again_it_gives_the_same_table(
    name: str, made: Callable[[bool], Planted], whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = made(True)
    rows = pq.read_table(whole.files[0])
    with monkeypatch.context() as patch:
        first = watch(patch, stop_after=1)
        with pytest.raises(Stopped) as stopped:
            conduct(name, planted.subject, planted.options, live=planted.live, out=tmp_path)
    assert str(tmp_path) in str(stopped.value.safe) and not (tmp_path / f"{name}.json").exists()
    assert len(pd.read_parquet(tmp_path / f"{name}.parts")) == first[0]
    with monkeypatch.context() as patch:
        rest = watch(patch)
        outcome = conduct(name, planted.subject, planted.options, live=planted.live, out=tmp_path)
        assert first[0] + sum(rest) == rows.num_rows and pq.read_table(outcome.files[0]).equals(rows)
        assert outcome.summary == whole.summary and outcome.sentence == whole.sentence
        before = outcome.files[0].read_bytes()
        rest.clear()
        again = conduct(name, planted.subject, planted.options, live=planted.live, out=tmp_path)
        assert rest == [] and again.files[0].read_bytes() == before and again.summary == whole.summary
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.{k}" for k in ("parquet", "svg", "json"))


def test_a_limit_gives_fewer_rows_apart_from_the_others(
    name: str, made: Callable[[bool], Planted], whole: Outcome, tmp_path: Path
) -> None:
    planted, (study, _) = made(True), load_study(name)
    before = whole.files[0].read_bytes()
    one = conduct(name, planted.subject, planted.options, live=planted.live, out=whole.files[0].parent, limit=1)
    assert 0 < len(one.frame) < len(whole.frame)
    assert {path.name for path in one.files} == {f"{name}-limit1.{kind}" for kind in ("parquet", "svg", "json")}
    assert whole.files[0].read_bytes() == before and json.loads(one.files[2].read_text())["limit"] == 1
    started = time.monotonic()
    conduct(name, planted.subject, planted.options, live=planted.live, out=tmp_path, limit=study.smoke)
    assert time.monotonic() - started < 20


def test_its_picture_is_svg_without_anything_foreign(whole: Outcome) -> None:
    svg = whole.files[1].read_text()
    root = ElementTree.fromstring(svg)
    assert root.attrib["width"] == "800" and root.findtext("{*}title")
    for element in root.iter():
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in SHAPES
        assert not any("href" in name or name.startswith("on") for name in element.attrib)


def test_its_facts_have_question_sentence_n_and_intervals(name: str, whole: Outcome) -> None:
    facts = json.loads(whole.files[2].read_text())
    assert facts["question"] == STUDIES[name][0] and facts["sentence"].endswith(".") and facts["evofool"]
    assert facts["n"] == len(whole.frame) and facts["summary"] == whole.summary and "options" in facts
    for row in whole.summary:
        assert {"figure", "value", "low", "high", "n"} <= set(row) and row["n"] >= 0
        if row["low"] is not None and row["high"] is not None:
            assert row["low"] <= row["value"] <= row["high"]
    assert any(row["low"] is not None for row in whole.summary)


READ = """
import json, sys
from xml.etree import ElementTree
sys.modules["torch"] = sys.modules["ray"] = None
import pandas
table, picture, facts = sys.argv[1:]
print(len(pandas.read_parquet(table)), ElementTree.parse(picture).getroot().tag, json.load(open(facts))["n"])
"""


def test_its_files_are_read_without_torch_and_ray(whole: Outcome) -> None:
    said = subprocess.run([sys.executable, "-c", READ, *map(str, whole.files)], capture_output=True, text=True)
    assert said.stdout.split()[0] == str(len(whole.frame)), said.stderr
