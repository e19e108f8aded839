"""docs/results.md is what `make results` writes from docs/results, and none of its numbers is typed."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pages
import pandas as pd
import pytest

FIGURES = pages.ROOT / "tests" / "figures"
RESULTS = pages.ROOT / "docs" / "results"
# What may stand in the page's own words: years, names, settings of the searches, thresholds; no result.
GIVEN = [
    r"(CVPR|GECCO) 2015|nguyen2015_\w+|2015 (code|weights)|2026-11-30",
    r"mnist-5k|efficientnet-lite[012]( and 2)?|imagenet50_\w+|bagnet\d+|seed 1|version \d.\d.\d",
    r"\d+ generations of 200|5,000 generations of 400|generations of 200|\(200 or 400|\((2|4)00, lag 2\)|lag 2|eta 15",
    r"95 %|50, 75, 87\.5 and 93\.75 %|0\.99 or more|The 50 elites|the 50 elites|of 100 labelled|50,176 pixels",
    r"a median of 0\.3|10,000 (evaluations|images)|width 1|120,000 images|500 images 240 times|60,000 twice",
    r"2,000 images|steps of 200",
]


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The module that makes the page; what it imports beside it is not kept."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(FIGURES)
    import results

    yield results
    for name in set(sys.modules) - before:
        if str(FIGURES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_page_is_what_make_results_writes(results: object) -> None:
    assert results.PAGE.read_text() == results.page(RESULTS), "make results"  # type: ignore[attr-defined]


def test_a_number_of_the_page_is_one_of_a_table(results: object, tmp_path: Path) -> None:
    """Another number in a table is another number on the page; without the tables there are no numbers, but words."""
    folder = tmp_path / "results"
    shutil.copytree(RESULTS, folder)
    frame = pd.read_csv(folder / "defaults.csv")
    frame.assign(median=frame["median"].mask(frame["setting"] == "before", 7.5313)).to_csv(
        folder / "defaults.csv", index=False
    )
    assert "7.531" in results.page(folder) and "7.531" not in results.page(RESULTS)  # type: ignore[attr-defined]
    shutil.rmtree(folder)
    folder.mkdir()
    bare = results.page(folder)  # type: ignore[attr-defined]
    assert bare.count("Not measured yet") > 15 and bare.count("**not run**") > 20 and "**weaker**" not in bare


def test_no_result_is_typed() -> None:
    text = (FIGURES / "results.md.jinja").read_text()
    text = re.sub(r"\{\{.*?\}\}|```.*?```|<!--.*?-->|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    for pattern in GIVEN:
        text = re.sub(pattern.replace(" ", r"\s"), "", text)
    found = [line for line in text.splitlines() if re.search(r"\d", line)]
    assert found == []
