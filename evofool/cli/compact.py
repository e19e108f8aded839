"""`evofool compact`: one table in place of those of all commits."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from evofool.cli import options, output
from evofool.cli.options import app
from evofool.errors import ConfigError


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
