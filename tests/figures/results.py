"""docs/results.md from the tables in docs/results: `make results`.

What the page says without numbers stands in results.md.jinja; every number comes from a table, and a table that is not
there yet says so, with the command that makes it. docs/results.md is written only when this is run.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import jinja2
import pandas as pd
from sections import SECTIONS
from shown import figure, markdown, records

from evofool.records import Facts
from evofool.studies.reproduce import Options
from evofool.studies.shared.papers import EXPERIMENTS
from evofool.studies.shared.verdicts import Experiment
from evofool.studies.study import conduct

TEMPLATE = Path(__file__).with_name("results.md.jinja")
PAGE = Path(__file__).parent.parent.parent / "docs" / "results.md"


def reproduced(results: Path, paper: str) -> str:
    """All experiments of a paper, as far as tables have them."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(budget="none", results=str(results), runs=folder)
        outcome = conduct("reproduce", [paper], options, out=folder)
    lines = []
    for row, experiment in zip(outcome.summary, [each for each in EXPERIMENTS if each.paper == paper]):
        theirs = "" if row["theirs"] is None else f"{figure(row['theirs'])} ({row['mark']})"
        lines.append(
            [
                f"{experiment.found} ({experiment.where})",
                theirs,
                experiment.measure,
                _ours(row),
                "" if row["verdict"] == "not run" else f"{figure(row['null'])}, {experiment.against}",
                f"**{row['verdict']}**",
                _command(row, experiment),
            ]
        )
    columns = ["what they found", "their value", "measured here", "ours (95 %)", "null", "verdict", "command"]
    return markdown(columns, lines)


def _ours(row: Facts) -> str:
    if row["verdict"] == "not run":
        return ""
    never = "never" if row["value"] is None else figure(row["value"])
    interval = "" if row["low"] is None else f" ({figure(row['low'])} to {figure(row['high'])})"
    evaluations = "" if row["evaluations"] is None else f", {row['evaluations']:,} evaluations"
    return f"{never}{interval}, n {row['n']}{evaluations}"


def _command(row: Facts, experiment: Experiment) -> str:
    if row["verdict"] == "not run":
        return experiment.why_not or f"`evofool study reproduce {experiment.paper}`"
    return f"`{row['command']}`"


def measured(results: Path) -> str:
    """When and on what each table was measured, as far as it says."""
    lines = []
    noted = results / "measured.csv"
    known = records(pd.read_csv(noted)) if noted.is_file() else []
    for path in sorted(results.glob("*.csv")):
        if path == noted:
            continue
        if told := [row for row in known if row["table"] == path.stem]:
            lines += [[f"`{path.name}`", row["date"], row["evofool"], row["machine"]] for row in told]
            continue
        columns = pd.read_csv(path, nrows=1)
        said = str(columns["measured"].iloc[0]) if "measured" in columns else ""
        lines.append([f"`{path.name}`", *[*said.split(", ", 2), "", "", ""][:3]])
    return markdown(["table", "day", "version", "on, or how"], lines)


def page(results: Path) -> str:
    """docs/results.md from the tables of a folder."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    parts = {**SECTIONS, "reproduced": reproduced, "measured": measured}
    filled = {name: functools.partial(part, results) for name, part in parts.items()}
    return environment.from_string(TEMPLATE.read_text()).render(**filled)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.parent / "results"))
    print(PAGE)
