"""`evofool run`, `resume`, `merge`, `compact`: what makes runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

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
    from evofool.runs.observers.progress import make_progress

    if seeds is not None and out is not None:
        raise ConfigError("--seeds makes several runs, so it goes without --out; say storage.path=FOLDER instead.")
    configs = [load_config(config, overrides)]
    if seeds is not None:
        numbers = seed_numbers(seeds, configs[0].name)
        configs = [load_config(config, [*(overrides or []), f"seed={number}"]) for number in numbers]
    from evofool.runs import runner  # with torch, for which a mistake in the configuration need not wait

    for settings in configs:
        with output.last_words(settings, out):
            finished = runner.run(
                settings,
                out=out,
                resume=resume,
                seed_from=seed_from or [],
                address=cluster(address, insecure_cluster),
                allow_code=allow_code,
                allow_numerics_change=allow_numerics_change,
                grace=grace,
                observers=[make_progress(settings.observers.progress)],
            )
        output.print_elites(finished)
        output.print_next(finished.path)


@app.command()
def resume(
    path: options.RunPath,
    overrides: options.Overrides = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    allow_numerics_change: options.NumericsChange = False,
    grace: options.Grace = 10.0,
) -> None:
    """Go on with a run; overrides may change stopping and operational keys, e.g. search.generations=500."""
    from evofool.config import load_config
    from evofool.runs.observers.progress import make_progress
    from evofool.store.run import stored_config

    config = load_config(stored_config(path), overrides)
    from evofool.runs import runner

    with output.last_words(config, path):
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
    output.print_elites(finished)


@app.command()
def merge(
    paths: Annotated[
        list[Path], Argument(metavar="RUN RUN...", help="Runs of one target and encoding.", parser=run_path)
    ],
    out: Annotated[Path, Option(help="The new run directory, or its URL.", parser=run_path)],
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
) -> None:
    """Make a new run of the best elite of every class; every elite is scored again and keeps its origin."""
    from evofool.runs import runner

    finished = runner.merge(paths, out, address=cluster(address, insecure_cluster), allow_code=allow_code)
    output.print_elites(finished)


@app.command()
def compact(
    path: options.RunPath,
    history: Annotated[
        str | None, Option(help="What to keep: full, lineage or elites; the run's storage.history by default.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Put a run's many small files together, and drop what is not to be kept; elites and archive_hash stay."""
    from evofool.store.commits import HISTORIES
    from evofool.store.compaction import compact as compacted
    from evofool.store.remote.working_copy import hold
    from evofool.store.run import RunStore

    if history not in (None, *HISTORIES):
        raise ConfigError(f"--history: {history!r} is not {', '.join(HISTORIES[:-1])} or {HISTORIES[-1]}.")
    RunStore(path)  # refuses what is no run, before a lock is made in it
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
