"""Runs for the tests of reports: small searches against a network of random weights, with a name for each trick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

import evofool

SIZE = (48, 48)
HOSTILE = (
    '<img src=x onerror="window.hurt=1">',
    "</script><script>window.hurt=1</script>",
    "<!--<script>",
    'it\'s "quoted" & `ticked`',
    "\u202eesrever\u202c to the right\u200f",
    "{{ 7 * 7 }} {% raw %} ${window.hurt=1}",
    "javascript:window.hurt=1",
    "line\u2028separator",
    "قطة",
    "a-very-long-name-" * 20,
)


class Linear(nn.Module):
    """One layer, whose logits are wide apart."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(classes)
        weight = torch.randn(classes, channels, 6, 6, generator=generator)
        self.weight = nn.Parameter(weight.repeat_interleave(8, 2).repeat_interleave(8, 3).flatten(1) / 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return x.flatten(1) @ self.weight.T


def make(
    out: Path,
    *overrides: str,
    classes: int = 100,
    channels: int = 3,
    generations: int = 10,
    allow_code: bool = False,
) -> evofool.Run:
    """A finished run: as many classes, the first of which have hostile names."""
    names = tuple(HOSTILE[i] if i < len(HOSTILE) else f"class {i}" for i in range(classes))
    preprocessing = evofool.Preprocessing(SIZE, channels, (127.5,) * channels, (60.0,) * channels)
    target = evofool.Target(Linear(classes, channels), preprocessing, names)
    config = {
        "name": out.name,
        "search": {"offspring": 40, "initial": 40, "generations": generations},
        "evaluation": {"pool": "inline"},
        "storage": {"commit_every": 4},
    }
    return evofool.run(config, list(overrides), target=target, out=out, allow_code=allow_code)


def with_study(run: evofool.Run, text: str) -> None:
    """Give a run a study, all of whose texts are this one."""
    folder = run.path / "_studies"
    folder.mkdir()
    elites = run.elites()
    facts: dict[str, Any] = {"study": text, "question": text, "sentence": text, "subject": [text]}
    (folder / "planted.json").write_text(json.dumps(facts))
    script = "<script>window.hurt=1</script>"
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20" onload="window.hurt=1">'
    (folder / "planted.svg").write_text(f'{head}{script}<text y="15">planted</text></svg>')
    rows = [
        {"individual_id": i, "class_index": c, "shown_to": f"{text} {n}", "share": n / 4}
        for i, c in zip(elites["individual_id"], elites["class_index"])
        for n in range(2)
    ]
    pd.DataFrame(rows).to_parquet(folder / "planted.parquet")
