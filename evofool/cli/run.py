"""`evofool run`: a search, or several with other seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from evofool.cli import options, output
from evofool.cli.options import app, cluster, run_path, seed_numbers
from evofool.errors import ConfigError


@app.command()
def run(
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    out: Annotated[
        Path | None, Option(help="Run directory or its URL; storage.path/name by default.", parser=run_path)
    ] = None,
    seeds: options.Seeds = None,
    resume: options.Resume = "auto",
    seed_from: Annotated[
        list[Path] | None, Option(help="Start from the elites of this run; may be repeated.", parser=run_path)
    ] = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    allow_numerics_change: options.NumericsChange = False,
    grace: options.Grace = 10.0,
) -> None:
    """Run a search, or go on with one that is there."""
    from evofool.config import load_config

    if seeds is not None and out is not None:
        raise ConfigError("--seeds makes several runs, so it goes without --out; say storage.path=FOLDER instead.")
    keys = [list(overrides or [])]
    settings = options.read_config(config, keys[0], allow_code)
    if seeds is not None:
        keys = [[*keys[0], f"seed={number}"] for number in seed_numbers(seeds, settings.name)]
    from evofool.runs import runner  # with torch, for which a mistake in the configuration need not wait

    made: list[Path] = []
    for changes in keys:
        settings = load_config(config, changes)
        with output.last_words(settings, out):
            finished = runner.run(
                config,
                changes,
                out=out,
                resume=resume,
                seed_from=seed_from or [],
                address=cluster(address, insecure_cluster),
                allow_code=allow_code,
                allow_numerics_change=allow_numerics_change,
                grace=grace,
                progress=True,
            )
        output.print_elites(finished)
        made.append(finished.path)
    output.print_next(made)
