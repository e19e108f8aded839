"""`evofool study score --readout`: the pictures that excite a unit most, in an order that is known."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Command
from PIL import Image
from torch import nn

import evofool
from evofool.errors import ConfigError
from evofool.studies.score import Options
from evofool.studies.shared.exciting import EXCITATIONS
from evofool.studies.study import Outcome, conduct
from evofool.targets.target import Preprocessing, Target

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def target() -> Target:
    """Its layer "0" has three units: the mean of the red pixels, minus it, and 0 for every picture."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1, bias=False)
    layer.weight.data[:] = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 0]])[:, :, None, None]
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    return Target(net, Preprocessing((8, 8), 3, (0.0,) * 3, (1.0,) * 3), tuple("abcd"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures, of which number i is of 20 i red."""
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        pixels = np.full((8, 8, 3), [20 * i, 99, 7], dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i:02d}.png")
    return tmp_path / "pictures"


def ask(folder: Path, target: Target, *readouts: str, top: int = 9) -> Outcome:
    options = Options(target, readout=readouts, top=top)  # type: ignore[arg-type]
    return conduct("score", [folder], options, out=folder.parent / "out")


def test_the_pictures_come_in_the_order_of_what_the_unit_gives(target: Target, folder: Path) -> None:
    outcome = ask(folder, target, "0:0", "0:1", "0:2")
    table = pd.read_parquet(outcome.files[0])
    assert list(table.columns) == EXCITATIONS.names and len(table) == 36
    red = table[table["readout"] == "0:0"].sort_values("path")
    assert red["activation"].tolist() == [20.0 * i for i in range(12)] and set(red["unit"]) == {0}
    found = {(row["readout"], row["rank"]): Path(row["path"]).stem for row in outcome.summary if row["rank"]}
    assert [found["0:0", rank] for rank in range(1, 10)] == [f"{i:02d}" for i in range(11, 2, -1)]
    assert [found["0:1", rank] for rank in range(1, 10)] == [f"{i:02d}" for i in range(9)]
    figures = {(row["readout"], row["figure"]): row for row in outcome.summary}
    median, above = figures["0:0", "median_activation"], figures["0:0", "share_above_0"]
    assert (median["value"], median["n"], above["value"]) == (110.0, 12, 11 / 12) and median["low"] < 110 < median[
        "high"
    ]
    nothing = figures["0:2", "share_above_0"]
    assert nothing["value"] == 0 and nothing["low"] == 0 < nothing["high"], "a dead unit is excited by none of them"
    assert "Of 12 pictures 11.png excites 0:0 of live most, to 220; the median of all is 110" in outcome.sentence


def test_the_contact_sheet_shows_the_pictures_themselves(target: Target, folder: Path) -> None:
    outcome = ask(folder, target, "0:0", top=3)
    tree = ElementTree.parse(outcome.files[1])
    shown = [image.get("href", "").partition("base64,")[2] for image in tree.iter(f"{SVG}image")]
    reds = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[0, 0, 0] for data in shown]
    assert reds == [220, 200, 180]


def test_what_is_stored_is_not_computed_again_and_stands_apart_from_classes(target: Target, folder: Path) -> None:
    first = ask(folder, target, "0:0")
    plain = conduct("score", [folder], Options(target), out=folder.parent / "out")  # type: ignore[arg-type]
    assert plain.files[0].name == "score.parquet" and first.files[0].name == "score-readouts.parquet"
    before = first.files[0].read_bytes()
    assert ask(folder, target, "0:0").files[0].read_bytes() == before
    assert len(pd.read_parquet(ask(folder, target, "0:0", "0:1").files[0])) == 24


def test_in_python_and_on_the_command_line(
    target: Target, folder: Path, command: Command, lenet_file: Path, tmp_path: Path
) -> None:
    frame = evofool.score(folder, target, readouts=["0:*"])
    assert len(frame) == 36 and frame["activation"].max() == 220
    spec = f"lenet:{lenet_file}"
    code, out, _ = command(
        "study", "score", folder, "--target", spec, "--readout", "0:3", "--top", 2, "--out", tmp_path / "c"
    )
    assert code == 0 and "median_activation" in out and "Of 12 pictures" in out
    for options, said in (
        (["--readout", "0:20"], "--readout: 0:20 is of channel 20"),
        (["--readout", "0:1", "--top", "0"], "--top: 0 pictures cannot be shown; give 1 to 100."),
        (["--readout", "0:1", "--classes", "3"], "--classes: with --readout it is units"),
        (["--readout", "first:1"], "--readout: it reads the layer 'first', which"),
    ):
        code, _, err = command("study", "score", folder, "--target", spec, *options, "--out", tmp_path / "d")
        assert code == 2 and said in err
    with pytest.raises(ConfigError, match="none of 1 pictures could be scored"):
        (tmp_path / "x.png").write_bytes(b"no picture")
        evofool.score(tmp_path / "x.png", target, readouts="0:0")
