"""`evofool elites`: the table of a run's elites."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from evofool.cli import output
from evofool.cli.options import Json, RunPath, app


@app.command()
def elites(
    path: RunPath,
    sort: Annotated[str, Option(help="Column to sort by.")] = "class_index",
    limit: Annotated[int | None, Option(help="Rows to print.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """The elites, one row for each class."""
    from evofool.store.reader import open_run

    run = open_run(path)
    if as_json:
        frame = output.sort_elites(run.elites(pictures=False), sort)[:limit].drop(columns=["image", "genome"])
        output.print_json(output.records(frame))
    else:
        output.print_elites(run, sort, limit)
