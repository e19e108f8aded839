"""What pandas and notebooks show of runs that are stored in fixtures: `df.evofool`, and HTML for runs and genomes."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from fixtures import make

import evofool
import evofool.pandas
from evofool.base.png import decode_png
from evofool.errors import ConfigError, CorruptData
from evofool.report import accessor

FIXTURES = Path(make.__file__).parent
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\"' onload='x",
    "\u202edrac\u202c\n{{ 7*7 }}",
]


class Parts(HTMLParser):
    """The tags, attributes and text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for other, value in self.attributes if other == name]

    def images(self) -> list[np.ndarray]:
        start = "data:image/png;base64,"
        assert all(source.startswith(start) for source in self.values("src"))
        return [decode_png(base64.b64decode(source.removeprefix(start)), "src") for source in self.values("src")]


@pytest.fixture(params=make.RUNS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> evofool.Run:
    shutil.copytree(FIXTURES / request.param, tmp_path / request.param)
    return evofool.open_run(tmp_path / request.param)


@pytest.fixture
def colour(tmp_path: Path) -> evofool.Run:
    """CPPNs in colour."""
    shutil.copytree(FIXTURES / "cppn", tmp_path / "colour")
    return evofool.open_run(tmp_path / "colour")


def pictures(run: evofool.Run) -> list[np.ndarray]:
    return [run.image(int(index)) for index in run.elites()["class_index"]]


def test_a_gallery_has_the_pictures_as_archived_in_the_order_of_the_rows(run: evofool.Run) -> None:
    elites = run.elites().iloc[::-1]
    page = Parts(elites.evofool._repr_html_())
    for shown, archived in zip(page.images(), pictures(run)[::-1], strict=True):
        assert np.array_equal(shown, archived)
    assert [title.split(",")[0] for title in page.values("alt")] == elites["class_name"].tolist()


def test_names_in_html_are_inert(colour: evofool.Run) -> None:
    elites = colour.elites()
    elites["class_name"] = (HOSTILE * 2)[: len(elites)]
    for html in (str(elites.evofool.gallery()), colour._repr_html_()):
        page = Parts(html)
        assert page.tags <= {
            "div",
            "figure",
            "img",
            "figcaption",
            "bdi",
            "br",
            "p",
            "table",
            "caption",
            "tr",
            "th",
            "td",
        }
        assert {name for name, _ in page.attributes} <= {"style", "title", "src", "alt", "width", "height", "scope"}
        assert "\u202e" not in html
    shown = Parts(str(elites.evofool.gallery()))
    for name in HOSTILE[:3]:
        assert name in shown.text, "readable all the same"
        assert any(name in title for title in shown.values("title"))
    assert "?drac??{{ 7*7 }}" in shown.text


def test_large_pictures_are_shrunk_and_a_line_says_how_many_are_left(colour: evofool.Run) -> None:
    elites = colour.elites()
    page = Parts(str(elites.evofool.gallery(most=2, size=4)))
    assert [image.shape for image in page.images()] == [(4, 4, 3)] * 2
    assert f"{len(elites) - 2} more: gallery(most={len(elites)}) shows all." in page.text
    assert "No elites" in str(elites[:0].evofool.gallery())
    with pytest.raises(ConfigError, match=r"size=0 is not in 1 \.\. 1024"):
        elites.evofool.gallery(size=0)


def test_render_draws_genomes_anew(run: evofool.Run) -> None:
    elites = run.elites()
    drawn = elites.evofool.render()
    assert drawn.dtype == np.uint8
    assert np.abs(drawn.astype(int) - np.stack(pictures(run))).max() <= 1
    assert elites.evofool.render(40).shape == (len(elites), 40, 40, drawn.shape[3])
    large = elites[:2].evofool.render((30, 50))
    assert np.array_equal(large[1], run.image(int(elites["class_index"][1]), (30, 50)))


def test_what_cannot_be_drawn_is_said_in_a_sentence(colour: evofool.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    elites = colour.elites()
    grey = evofool.open_run(FIXTURES / "lenet").elites()
    both = pd.concat([elites, grey])
    with pytest.raises(ConfigError, match=r"class 0 is drawn as \(9, 9, 1\), the first row as \(9, 9, 3\)"):
        both.evofool.render(9)
    monkeypatch.setattr(accessor, "MAX_BYTES", 1 << 20)
    with pytest.raises(ConfigError, match=r"600 pictures of \(32, 32, 3\) are over 1 MiB; draw fewer"):
        pd.concat([elites] * 100).evofool.render(32)
    with pytest.raises(ConfigError, match="no rows to draw"):
        elites[:0].evofool.render()
    with pytest.raises(ConfigError, match="the column genome_json of the elites table is missing"):
        elites.drop(columns="genome_json").evofool.render()
    with pytest.raises(CorruptData, match=r"^class bars: not the JSON of a genome"):
        elites.assign(genome_json="{}").evofool.render()
    assert not hasattr(elites[["class_name", "confidence"]], "evofool")


def test_pngs_are_the_archived_pictures_and_replace_no_file(run: evofool.Run, tmp_path: Path) -> None:
    elites, folder = run.elites(), tmp_path / "new" / "pictures"
    paths = elites.evofool.to_png(folder)
    for path, archived in zip(paths, pictures(run), strict=True):
        assert np.array_equal(decode_png(path.read_bytes(), str(path)), archived)
    before = {path: path.read_bytes() for path in paths[1:]}
    paths[0].unlink()
    with pytest.raises(ConfigError, match=rf"{paths[1].name} is there already; give another folder, or overwrite=True"):
        elites.evofool.to_png(folder, 32)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert elites.evofool.to_png(folder, 32, overwrite=True) == paths
    assert decode_png(paths[1].read_bytes(), "png").shape[:2] == (32, 32)


def test_rows_of_one_class_have_files_of_their_own(colour: evofool.Run, tmp_path: Path) -> None:
    twice = pd.concat([colour.elites()[:2]] * 2).assign(class_name="../../a b")
    names = [path.relative_to(tmp_path).as_posix() for path in twice.evofool.to_png(tmp_path / "x")]
    assert names == ["x/0000_______a_b.png", "x/0001_______a_b.png", "x/0000_______a_b-2.png", "x/0001_______a_b-2.png"]


def test_pictures_that_are_missing_are_drawn_and_damaged_ones_are_named(colour: evofool.Run) -> None:
    elites = colour.elites()
    lean = Parts(str(elites.drop(columns=["image", "image_sha256"]).evofool.gallery()))
    for shown, archived in zip(lean.images(), pictures(colour), strict=True):
        assert np.abs(shown.astype(int) - archived).max() <= 1
    with pytest.raises(CorruptData, match="class dots: its image is damaged"):
        elites.assign(image=elites["image"].iloc[[0] * len(elites)].tolist()).evofool.gallery()
    with pytest.raises(ConfigError, match="neither a picture nor a genome_json"):
        elites.assign(image=None).drop(columns="genome_json").evofool.gallery()


def test_frames_of_any_reader_have_it(colour: evofool.Run) -> None:
    file = f"{colour.path}/elites/elites.parquet"
    expected = str(colour.elites().evofool.gallery())
    for frame in (
        pd.read_parquet(file),
        pd.read_parquet(file, dtype_backend="pyarrow"),
        pl.read_parquet(file).to_pandas(),
        duckdb.sql(f"SELECT * FROM '{file}'").df(),
    ):
        assert str(frame.evofool.gallery()) == expected


def test_a_run_shows_its_counters_and_says_what_is_damaged(colour: evofool.Run) -> None:
    page = Parts(colour._repr_html_())
    assert len(page.images()) == 6
    best = colour.elites().sort_values("log_odds", ascending=False)["class_name"].iloc[0]
    assert page.values("alt")[0].startswith(best)
    for text in (str(colour.path), "6 of 6", "192", colour.archive_hash):
        assert text in page.text
    (colour.path / "elites" / "elites.parquet").write_bytes(b"PAR1")
    assert "cannot be read as Parquet" in Parts(colour._repr_html_()).text


def test_a_genome_shows_its_picture_and_its_genes(run: evofool.Run) -> None:
    row = run.elite(0)
    genome = run.genome(0)
    page = Parts(genome._repr_html_())
    assert row["genome_json"] and genome.data["encoding"] == row["encoding"]
    genes = len(genome.data.get("nodes", [])) + len(genome.data.get("connections", []))
    assert genes == len(row["genome"])
    assert page.text.count("genes") == (genes > 0)
    (image,) = page.images()
    assert np.array_equal(image, genome.render(image.shape[:2]))
    assert repr(genome).startswith(f"Genome({row['encoding']}")
    with pytest.raises(CorruptData, match="not the JSON of a genome"):
        evofool.Genome("[]")


ALONE = """
import sys
import pandas
import evofool
assert not hasattr(pandas.DataFrame, "evofool")
run = evofool.open_run(sys.argv[1])
run.elites().evofool.gallery()
run.elites().evofool.render(64)
run._repr_html_()
run.genome(0)._repr_html_()
run.plot_lineage(0)
print([name for name in ("torch", "ray") if name in sys.modules])
import evofool.pandas
"""


def test_none_of_it_loads_the_network_or_changes_a_file(colour: evofool.Run) -> None:
    before = {path: path.read_bytes() for path in colour.path.rglob("*") if path.is_file()}
    done = subprocess.run([sys.executable, "-c", ALONE, str(colour.path)], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert {path: path.read_bytes() for path in colour.path.rglob("*") if path.is_file()} == before
