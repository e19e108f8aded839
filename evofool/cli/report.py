"""`evofool report`: what runs found, as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from evofool.base.places import quoted
from evofool.cli import options
from evofool.cli.options import app, file_path

NAME = "report.html"


@app.command()
def report(
    paths: options.RunPaths,
    out: Annotated[
        Path | None,
        Option(
            help="File to write; an older report is replaced. By default RUN/_report/report.html; of several runs, or "
            "of one in an object store, report.html here.",
            parser=file_path,
        ),
    ] = None,
) -> None:
    """Write one HTML file of elites, ancestors, curves and studies, that opens anywhere without a network."""
    from evofool.report.page import write
    from evofool.store.remote.working_copy import named

    names = [named(str(path)) for path in paths]
    command = ["evofool report", *map(quoted, names), *(["--out", quoted(out)] if out else [])]
    if out is None:
        is_a_folder = len(paths) == 1 and names[0] == str(paths[0])
        out = paths[0] / "_report" / NAME if is_a_folder else Path(NAME)
    write(paths, out, " ".join(command))
    print(out)
