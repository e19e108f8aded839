"""`evofool run`, `resume`, `merge`, `compact`: what makes runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evofool.cli import output
from evofool.cli.options import (
    Address,
    AllowCode,
    ConfigPath,
    Grace,
    Insecure,
    Json,
    NumericsChange,
    Overrides,
    RunPath,
    Seeds,
    app,
    cluster,
    run_path,
    seed_numbers,
)
from evofool.errors import ConfigError

__all__: list[str] = []


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory or its URL; storage.path/name by default.", parser=run_path)
    ] = None,
    seeds: Seeds = None,
    resume: Annotated[str, typer.Option(help="auto: go on if the run is there; must; never.")] = "auto",
    seed_from: Annotated[
        list[Path] | None,
        typer.Option(help="Start from the elites of this run; may be repeated.", parser=run_path),
    ] = None,
    address: Address = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    allow_numerics_change: NumericsChange = False,
    grace: Grace = 10.0,
) -> None:
    """Run a search, or go on with one that is there."""
    from evofool.config import load_config
    from evofool.runs.observers.progress import make_progress

    given = list(overrides or [])
    numbers: list[int | None] = [None]
    if seeds is not None:
        if out is not None:
            raise ConfigError("--seeds makes several runs, so it goes without --out; say storage.path=FOLDER instead.")
        numbers = list(seed_numbers(seeds, load_config(config, given).name))
    settings = [load_config(config, given if n is None else [*given, f"seed={n}"]) for n in numbers]
    from evofool.runs import runner

    for one in settings:
        finished = runner.run(
            one,
            out=out,
            resume=resume,
            seed_from=seed_from or [],
            address=cluster(address, insecure_cluster),
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
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    allow_numerics_change: NumericsChange = False,
    grace: Grace = 10.0,
) -> None:
    """Go on with a run; overrides may change stopping and operational keys, e.g. search.generations=500."""
    from evofool.config import load_config
    from evofool.runs.observers.progress import make_progress
    from evofool.store.run import stored_config

    config = load_config(stored_config(path), list(overrides or []))
    from evofool.runs import runner

    finished = runner.run(
        config,
        out=path,
        resume="must",
        address=cluster(address, insecure_cluster),
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
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
) -> None:
    """Make a new run of the best elite of every class; every elite is scored again and keeps its origin."""
    from evofool.runs import runner

    finished = runner.merge(paths, out, address=cluster(address, insecure_cluster), allow_code=allow_code)
    output.print_elites(finished, None, None)


@app.command()
def compact(
    path: RunPath,
    history: Annotated[
        str | None, typer.Option(help="What to keep: full, lineage or elites; the run's storage.history by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a run's many small files together, and drop what is not to be kept; elites and archive_hash stay."""
    from evofool.store.commits import HISTORIES
    from evofool.store.compaction import compact as compacted
    from evofool.store.remote.working_copy import hold
    from evofool.store.run import RunStore

    if history not in (None, *HISTORIES):
        raise ConfigError(f"--history: {history!r} is not {', '.join(HISTORIES[:-1])} or {HISTORIES[-1]}.")
    RunStore(path)  # before a lock is made where there is no run
    with hold(path):
        store = RunStore(path)
        store.recover()
        result = compacted(store, history or store.config.storage.history)
    if as_json:
        output.print_json(vars(result))
        return
    print(f"{result.bytes_before:,} bytes before, {result.bytes:,} after; {result.individuals:,} individuals kept")
    if result.placements_from:
        print(f"placements are whole from generation {result.placements_from} on (storage.history: {result.history})")
    print(f"archive_hash {result.archive_hash}")
