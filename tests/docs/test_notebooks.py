"""The notebooks of docs/notebooks run from top to bottom, and what is stored in them is what they show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import notebooks
import pages
import pytest

MOST_BYTES = 400 << 10  # of a notebook with its outputs: a page that opens at once


def shown(cell: Any) -> list[tuple[str, set[str]]]:
    """What a cell shows: each output's kinds, and the words of its first line, which is a table's columns."""
    return [
        (" ".join(sorted(output.data)), set(re.findall(r"[A-Za-z_]{3,}", output.data["text/plain"].split("\n")[0])))
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.proof] * (p.stem == "own_network")) for p in notebooks.NOTEBOOKS],
)
def test_a_notebook_runs_and_shows_what_is_stored_in_it(path: Path, tmp_path: Path, lenet_file: Path) -> None:
    ran = notebooks.run(path, tmp_path, lenet_file, notebooks.shorter)
    stored = notebooks.read(path)
    for cell, kept in zip(ran.cells, stored.cells, strict=True):
        if cell.cell_type == "code":
            assert shown(cell) == shown(kept), f"make notebooks\n{kept.source}"
            assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.source


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_whole_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text()
    assert len(text) <= MOST_BYTES
    assert not re.search(r"/(tmp|home|root)/|\bTraceback\b", text)
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "make notebooks"
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = link.partition("#")
        there = (path.parent / file).resolve()
        assert there.is_file(), link
        assert not heading or heading in pages.anchors(there), link


def test_there_are_notebooks() -> None:
    assert [path.stem for path in notebooks.NOTEBOOKS] == ["first_run", "own_network"]
