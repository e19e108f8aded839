"""`evofool report` without a browser: what it reads, what it refuses, what it writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import found
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Command
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

import evofool
from evofool.encoding.exchange import render
from evofool.report import findings, formula, page, trends
from evofool.store.remote import objects
from evofool.store.run import _json

FIXTURE = Path(__file__).parent.parent / "fixtures" / "cppn"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A run that was stored long ago, copied."""
    shutil.copytree(FIXTURE, tmp_path / "run")
    return tmp_path / "run"


def test_a_copied_run_needs_neither_torch_nor_ray(stored: Path) -> None:
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['ray'] = None\n"
        f"sys.argv = ['evofool', 'report', {str(stored)!r}]\nfrom evofool import cli\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = stored / "_report" / "report.html"
    assert done.stdout == f"{written}\n"
    after = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file() and path != written}
    assert after == before
    text = written.read_text()
    assert text.startswith(page.MARK)
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:|//)", text)


def test_a_formula_is_the_picture(stored: Path) -> None:
    """Each line of it is Python, which gives the picture when it is evaluated at every pixel."""
    for row in evofool.open_run(stored).elites().to_dict("records"):
        image = render(row["genome_json"])
        colour = "grey" if image.shape[2] == 1 else "hsv"
        text = formula.formula(formula.network_of(row["genome_json"]), colour, digits=9)
        height, width = image.shape[:2]
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        names = {"x": x, "y": y, "d": np.hypot(x, y), "bias": np.ones_like(x)}
        code = {
            "sine": np.sin,
            "sigmoid": lambda p: 2 / (1 + np.exp(-p)) - 1,
            "gaussian": lambda p: np.exp(-(p**2)),
            "linear": lambda p: np.clip(p, -3, 3) / 3,
        }
        exec(text, code, names)
        if colour == "grey":
            grey = np.floor(np.clip((names["grey"] + 1) / 2, 0, 1) * 255 + 0.5)
            assert (np.abs(grey - image[..., 0]) > 1).mean() < 0.01
        else:
            value = np.clip((names["value"] + 1) / 2, 0, 1) * np.ones_like(x)
            assert (np.abs(np.floor(value * 255 + 0.5) - image.max(axis=2)) > 1).mean() < 0.01


def test_curves_are_those_of_the_history(stored: Path) -> None:
    """Quantiles and counts come from placements, one by one; the history says some of them on its own."""
    run = evofool.open_run(stored)
    curves, history = findings.find(run).curves, run.history()
    assert np.allclose(curves.quantiles[0.5], history["median"])
    assert curves.classes[0.99] == list(history["classes_99"])
    assert curves.classes[0.9999] == list(history["classes_9999"])
    assert curves.evaluations == list(history["evaluations"])
    counts, share = trends.goal_switches(run)
    assert curves.switches[-1] == round(share * counts.sum()) > 0


def test_a_page_with_little_room_keeps_every_few_ancestors(monkeypatch: pytest.MonkeyPatch, stored: Path) -> None:
    run = evofool.open_run(stored)
    whole = findings.find(run).ancestors
    monkeypatch.setattr(findings, "ROOM_FOR_GENOMES", 400)
    some = findings.find(run).ancestors
    assert len(some) < len(whole)
    for identity in some:

        def steps(ancestors: dict[int, findings.Ancestor], one: int | None = identity) -> int:
            count = 0
            while one is not None:
                count, one = count + 1 + ancestors[one].between, ancestors[one].parent
            return count

        assert steps(some) == steps(whole)


def test_runs_whose_history_was_dropped(command: Command, tmp_path: Path) -> None:
    run = found.make(tmp_path / "run", classes=20)
    before = findings.find(run)
    assert command("compact", run.path, "--history", "elites")[0] == 0
    after = findings.find(evofool.open_run(run.path))
    assert [e.row["individual_id"] for e in after.elites] == [e.row["individual_id"] for e in before.elites]
    assert after.curves.switches == []
    assert np.allclose(after.curves.quantiles[0.5], before.curves.quantiles[0.5])
    assert "dropped" in after.left_out[0]
    page.page([after], "evofool report")


def test_a_study_that_cannot_be_read_is_left_out_with_a_sentence(stored: Path) -> None:
    run = evofool.open_run(stored)
    found.with_study(run, "planted")
    assert [study.name for study in findings.find(run).studies] == ["planted"]
    (stored / "_studies" / "planted.parquet").write_bytes(b"PAR1 is no table")
    (stored / "_studies" / "other.json").write_text("[]")
    (stored / "_studies" / "half.json").write_text(json.dumps({"question": 3, "sentence": ""}))
    (stored / "_studies" / "half.svg").write_text("<svg/>")
    told = findings.find(run)
    assert told.studies == []
    assert [sentence.split(" could")[0] for sentence in told.left_out] == [
        f"the study {name}" for name in ("half", "other", "planted")
    ]


def test_a_picture_that_is_not_the_scored_one_is_damage(command: Command, stored: Path) -> None:
    path = stored / "elites" / "elites.parquet"
    table = pq.read_table(path)
    place, pictures = table.schema.get_field_index("image"), table["image"].to_pylist()
    swapped = pa.array(pictures[::-1], table.schema.field("image").type)
    pq.write_table(table.set_column(place, table.schema.field("image"), swapped), path)
    code, _, said = command("report", stored)
    assert code == 4 and "its image is damaged; `evofool verify` says more" in said


def test_a_formula_adds_up_in_order_and_has_no_line_for_what_only_hands_on() -> None:
    split = 1 << 62
    network = formula.network([(4, "sine"), (split, "identity")], [(0, split, 1.0), (split, 4, 2.0), (3, 4, -0.5)])
    assert formula.formula(network, "grey") == "grey = sine(2*x - 0.5)"
    assert [weight for weight, _ in network.nodes[-1].addends] == [
        -0.5,
        2.0,
    ]  # in the order in which images add them up


def test_a_run_that_is_being_written(tmp_path: Path) -> None:
    """What is committed is shown, also where the table of elites on disk is older, or not yet there."""
    run = found.make(tmp_path / "run", classes=12)
    whole = [e.image for e in findings.find(run).elites]
    (run.path / "elites" / "elites.parquet").unlink()
    drawn = findings.find(evofool.open_run(run.path)).elites
    assert [np.abs(a.image.astype(int) - b).max() <= 1 for a, b in zip(drawn, whole)] == [True] * 12


def test_refusals(command: Command, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(code: int, words: str, *arguments: object) -> None:
        exit_code, _, error = command("report", *arguments)
        assert exit_code == code, error
        assert words in error
        assert len(error.strip().splitlines()) <= 3
        assert "Traceback" not in error

    refused(2, "no such run", tmp_path / "nothing")
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    refused(2, "exists and is no report of evofool", stored, "--out", taken)
    assert taken.read_text() == "mine"
    refused(2, "is a folder", stored, "--out", tmp_path)
    refused(74, "cannot", stored, "--out", taken / "report.html")
    assert command("report", stored, "--out", tmp_path / "new.html")[0] == 0
    assert command("report", stored, "--out", tmp_path / "new.html")[0] == 0  # a report may be replaced

    empty = tmp_path / "empty"
    shutil.copytree(stored, empty)
    for file in [*empty.glob("_evofool/commits/*"), *empty.glob("elites/*")]:
        file.unlink()
    refused(2, "has no elites yet", empty)
    damaged = tmp_path / "damaged"
    shutil.copytree(stored, damaged)
    placements = next(damaged.glob("_evofool/placements/*"))
    placements.write_bytes(placements.read_bytes()[:-40])
    refused(4, str(placements.name), damaged)
    newer = tmp_path / "newer"
    shutil.copytree(stored, newer)
    facts = json.loads((newer / "_evofool" / "run.json").read_text())
    facts |= {"schema_version": 9, "evofool": "9.0"}
    facts.pop("sha256")
    (newer / "_evofool" / "run.json").write_bytes(_json(facts))
    refused(4, "another version of evofool (9.0)", newer)


def test_a_run_in_an_object_store(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched, the page is written here, and a store that does not answer is a sentence."""
    monkeypatch.setenv("EVOFOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    store = MemoryStore()
    monkeypatch.setattr(objects, "_open", lambda url: store)
    found.make(Path("s3://bucket/run"), classes=6, generations=4)
    there = {entry["path"] for batch in store.list() for entry in batch}
    assert command("report", "s3://bucket/run")[:2] == (0, "report.html\n")
    assert {entry["path"] for batch in store.list() for entry in batch} == there
    text = (tmp_path / "report.html").read_text()
    assert "evofool verify s3://bucket/run" in text
    assert str(tmp_path) not in text

    def silent(*arguments: object, **named: object) -> None:
        raise GenericError("connection refused")

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(objects, "_open", lambda url: SimpleNamespace(get=silent, list=silent, head=silent))
    code, _, error = command("report", "s3://bucket/run")
    assert code == 74
    assert "s3://bucket/run" in error and "Traceback" not in error
