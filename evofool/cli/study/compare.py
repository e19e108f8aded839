"""`evofool study compare`: runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from evofool.cli import options, output
from evofool.cli.options import run_path
from evofool.cli.study import study_app
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.records import Facts


@study_app.command()
def compare(
    paths: Annotated[
        list[Path],
        Argument(metavar="RUN...", help="Runs; those with one config but the seed form a group.", parser=run_path),
    ],
    as_json: options.Json = False,
) -> None:
    """Which runs are better?

    Runs side by side: the median over runs, its 95 % bootstrap interval, and Mann-Whitney's test between groups.
    """
    from evofool.studies import compare as study

    runs = study.compare(paths)
    if runs.empty:
        raise ConfigError("none of these runs has a commit yet.")
    summary, tests = study.summarise(runs)
    if as_json:
        records = json.loads(runs.to_json(orient="records", double_precision=15))
        output.print_json({"runs": records, "groups": summary, "tests": tests})
        return
    columns = ["run", "seed", "generations", "median", "minimum", "classes_9999", "median_at", "minimum_at"]
    _print_figures(columns, runs.to_dict("records"), columns[1:])
    columns = ["group", "runs", "figure", "median", "low", "high", "never"]
    print()
    _print_figures(columns, summary, columns[3:])
    if tests:
        print()
        _print_figures(["first", "second", "figure", "p"], tests, ["p"])


def _print_figures(columns: list[str], rows: list[Facts], numeric: list[str]) -> None:
    output.table(columns, [[output.figure(row[column]) for column in columns] for row in rows], numeric)
