"""`evofool merge`: the best elites of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.cli import completion, options, output
from evofool.cli.options import app, cluster, run_path


@app.command()
def merge(
    paths: Annotated[
        list[Path],
        Argument(
            metavar="RUN RUN...",
            help="Runs of one target and encoding.",
            parser=run_path,
            autocompletion=completion.runs,
        ),
    ],
    out: Annotated[Path, Option(help="The new run directory, or its URL.", parser=run_path)],
    pool: Annotated[
        str | None, Option(help="inline or ray; by default inline for up to 200 elites, else the first run's pool.")
    ] = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
) -> None:
    """Make a new run of the best elite of every class; every elite is scored again and keeps its origin."""
    from evofool.runs import runner
    from evofool.runs.observers.progress import make_progress

    finished = runner.merge(
        paths,
        out,
        pool=pool,
        address=cluster(address, insecure_cluster),
        allow_code=allow_code,
        observers=[make_progress("lines")],
    )
    output.print_elites(finished)
