"""`evofool run`, `resume`, `merge`: what makes runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evofool import output
from evofool.cli.options import Address, AllowCode, ConfigPath, Grace, NumericsChange, Overrides, RunPath, app, run_path
from evofool.errors import ConfigError

__all__: list[str] = []


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory or its URL; storage.path/name by default.", parser=run_path)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds one after another, e.g. 1-5 or 1,3,8; the name must hold {seed}.")
    ] = None,
    resume: Annotated[str, typer.Option(help="auto: go on if the run is there; must; never.")] = "auto",
    seed_from: Annotated[
        list[Path] | None,
        typer.Option(help="Start from the elites of this run; may be repeated.", parser=run_path),
    ] = None,
    address: Address = None,
    allow_code: AllowCode = False,
    allow_numerics_change: NumericsChange = False,
    grace: Grace = 10.0,
) -> None:
    """Run a search, or go on with one that is there."""
    from evofool.config import load_config
    from evofool.observers.progress import make_progress

    given = list(overrides or [])
    numbers: list[int | None] = [None]
    if seeds is not None:
        numbers = list(_seed_numbers(seeds))
        if out is not None or "{seed}" not in load_config(config, given).name:
            raise ConfigError(
                "--seeds needs {seed} in the name, and no --out; say for instance name=quickstart-{seed}."
            )
    settings = [load_config(config, given if n is None else [*given, f"seed={n}"]) for n in numbers]
    from evofool import runner

    for one in settings:
        finished = runner.run(
            one,
            out=out,
            resume=resume,
            seed_from=seed_from or [],
            address=address,
            allow_code=allow_code,
            allow_numerics_change=allow_numerics_change,
            grace=grace,
            observers=[make_progress(one.observers.progress)],
        )
        output.print_elites(finished, None, None)
        output.print_next(finished.path)


@app.command()
def resume(
    path: RunPath,
    overrides: Overrides = None,
    address: Address = None,
    allow_code: AllowCode = False,
    allow_numerics_change: NumericsChange = False,
    grace: Grace = 10.0,
) -> None:
    """Go on with a run; overrides may change stopping and operational keys, e.g. search.generations=500."""
    from evofool.config import load_config
    from evofool.observers.progress import make_progress
    from evofool.store.run import RunStore

    config = load_config(RunStore(path).config, list(overrides or []))
    from evofool import runner

    finished = runner.run(
        config,
        out=path,
        resume="must",
        address=address,
        allow_code=allow_code,
        allow_numerics_change=allow_numerics_change,
        grace=grace,
        observers=[make_progress(config.observers.progress)],
    )
    output.print_elites(finished, None, None)


@app.command()
def merge(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Runs of one target and encoding.", parser=run_path)
    ],
    out: Annotated[Path, typer.Option(help="The new run directory, or its URL.", parser=run_path)],
    address: Address = None,
    allow_code: AllowCode = False,
) -> None:
    """Make a new run of the best elite of every class; every elite is scored again and keeps its origin."""
    from evofool import runner

    finished = runner.merge(paths, out, address=address, allow_code=allow_code)
    output.print_elites(finished, None, None)


def _seed_numbers(text: str) -> list[int]:
    try:
        numbers: list[int] = []
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers += range(int(first), int(last) + 1) if dash else [int(first)]
        if not numbers:
            raise ValueError
    except ValueError:
        raise ConfigError(f"--seeds: {text!r} is not a list of seeds such as 1-5 or 1,3,8.") from None
    return numbers
