"""Gradient ascent on SqueezeNet and efficientnet-lite0: `make figures-ascend`.

Writes docs/results/ascend.csv (every climb), ascend_grid_NETWORK.jpg (six regularisers and none, of eight classes) and
ascend_units.jpg (what excites four channels of each of three layers). Every part is a study in runs/ascend, so what is
there is not climbed again; `--only table|grid|units` and `--classes N` do some of it.

    table   25 classes x 5 ways and a control, 100 steps   about 40 minutes of one core for lite0, 70 for SqueezeNet
    grid    8 classes x 7 ways, 100 steps                  about 17 and 27
    units   12 channels, fourier, 128 steps                about 8 and 14

The ways of the table are the paper's step up its softmax, and up log-odds; Adam; a spectrum; and shuffled gradients.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from mnist import machine
from PIL import Image, ImageDraw
from rows import write

from evofool.base.png import decode_png
from evofool.studies.shared.rules import Options
from evofool.studies.study import conduct

NETWORKS = {
    "lite0": "efficientnet-lite:0",
    "squeezenet": "torchvision:squeezenet1_0/weights/squeezenet.safetensors",
}
RUNS, RESULTS = Path("runs/ascend"), Path("docs/results")
CLASSES = tuple(str(i) for i in range(3, 1000, 40))  # every fortieth, dogs among them as often as in ImageNet
EIGHT = ("goldfish", "flamingo", "tabby", "monarch", "jeep", "beacon", "soccer ball", "volcano")
PAPER = {"objective": "softmax", "step": "progress", "early": 0.02, "late": 0.1}  # Figure 13's setting, without decay
WAYS: dict[str, dict[str, Any]] = {
    "softmax, progress": PAPER,
    "log-odds, progress": {"step": "progress"},
    "log-odds, Adam": {},
    "log-odds, Adam, fourier": {"canvas": "fourier"},
    "paper's decay": {**PAPER, "decay": 0.01},
}
REGULARISERS: dict[str, dict[str, Any]] = {
    "none": {},
    "L2 decay": {"decay": 0.03},
    "blur": {"blur": 0.7, "blur_every": 4},
    "total variation": {"tv": 0.2},
    "small norm": {"clip_norm": 30.0, "blur": 0.5, "blur_every": 4},
    "small contribution": {"clip_contribution": 50.0, "blur": 0.5, "blur_every": 4},
    "shifted, turned, scaled": {"jitter": 8, "rotation": 10.0, "scale": 10.0},
}
UNITS = {
    "lite0": ("_blocks.2", "_blocks.6", "_blocks.12"),
    "squeezenet": ("features.3", "features.7", "features.12"),
}
COLUMNS = (
    "method",
    "target",
    "rules",
    "class_name",
    "restart",
    "start_log_odds",
    "best_step",
    "log_odds",
    "confidence",
)


def climbed(network: str, name: str, options: Options, classes: int | None = None) -> pd.DataFrame:
    """The rows of one ascent, with pictures; those that are there are read."""
    outcome = conduct(
        "ascend", [NETWORKS[network]], options, out=RUNS / network / name, limit=classes, tell=lambda text: None
    )
    images = pd.read_parquet(outcome.files[0], columns=["method", "goal", "image"])
    print(f"{network}, {name}: {outcome.sentence}", flush=True)
    return outcome.frame.merge(images, on=["method", "goal"], how="left")


def table(network: str, classes: int | None) -> pd.DataFrame:
    """Classes in every way; shuffled gradients as the control of Adam on pixels."""
    parts = []
    for name, way in WAYS.items():
        options = Options(steps=100, classes=CLASSES, control=not way, **way)
        frame = climbed(network, f"table-{name.replace(' ', '-')}", options, classes)
        parts.append(frame.assign(network=network, way=name).drop(columns="image"))
    return pd.concat(parts)


def grid(network: str, classes: int | None) -> Image.Image:
    """A row for each regulariser, a column for each class."""
    rows = []
    for name, way in REGULARISERS.items():
        options = Options(objective="logit", steps=100, classes=EIGHT, **way)
        frame = climbed(network, f"grid-{name.replace(' ', '-')}", options, classes)
        cells = [(picture(row.image), f"{row.class_name} {row.confidence:.3f}") for row in frame.itertuples()]
        rows.append((name, cells))
    return sheet(rows)


def units(network: str, classes: int | None) -> list[tuple[str, list[tuple[Image.Image, str]]]]:
    """A row for each layer, of four channels."""
    rows = []
    robust = Options(canvas="fourier", steps=128, jitter=8, rotation=10.0, scale=10.0)
    for layer in UNITS[network]:
        options = replace(robust, readout=tuple(f"{layer}:{channel}" for channel in (0, 1, 2, 3)))
        frame = climbed(network, f"units-{layer}", options, classes)
        rows.append((f"{network} {layer}", [(picture(row.image), row.unit) for row in frame.itertuples()]))
    return rows


def picture(image: dict[str, bytes]) -> Image.Image:
    """A picture of the table."""
    return Image.fromarray(decode_png(image["bytes"], "a climb"))


def sheet(rows: list[tuple[str, list[tuple[Image.Image, str]]]], side: int = 128, head: int = 150) -> Image.Image:
    """Pictures in rows, each row with its name on the left and what each picture is below it."""
    wide = max(len(cells) for _, cells in rows)
    whole = Image.new("RGB", (head + wide * (side + 8), len(rows) * (side + 22)), "white")
    draw = ImageDraw.Draw(whole)
    for y, (name, cells) in enumerate(rows):
        draw.text((8, y * (side + 22) + side // 2), name, fill="black")
        for x, (shown, text) in enumerate(cells):
            at = head + x * (side + 8), y * (side + 22)
            whole.paste(shown.resize((side, side), Image.Resampling.LANCZOS), at)
            draw.text((at[0], at[1] + side + 4), text[:21], fill="black")
    return whole


def main() -> None:
    """What is missing of each part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=["table", "grid", "units"])
    parser.add_argument("--network", choices=list(NETWORKS))
    parser.add_argument("--classes", type=int)
    given = parser.parse_args()
    networks = [given.network] if given.network else list(NETWORKS)
    RESULTS.mkdir(exist_ok=True)
    if given.only in (None, "table"):
        rows = pd.concat([table(network, given.classes) for network in networks])
        levels = [name for name in rows.columns if name.startswith(("step_", "passes_"))]
        rows = rows[["network", "way", *COLUMNS, *levels, "passes", "note"]]
        write("ascend", rows)
    if given.only in (None, "grid"):
        for network in networks:
            grid(network, given.classes).save(RESULTS / f"ascend_grid_{network}.jpg", quality=88)
    if given.only in (None, "units"):
        rows_of_units = [row for network in networks for row in units(network, given.classes)]
        sheet(rows_of_units).save(RESULTS / "ascend_units.jpg", quality=88)


if __name__ == "__main__":
    machine()
    main()
