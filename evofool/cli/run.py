"""`evofool run`: a search, several with other seeds, or those of a design."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from evofool.cli import options, output
from evofool.cli.options import app, cluster, file_path, run_path, seed_numbers
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.studies.design import Designed


@app.command()
def run(
    config: options.ConfigOrNone = None,
    overrides: options.Overrides = None,
    out: Annotated[
        Path | None, Option(help="Run directory or its URL; storage.path/name by default.", parser=run_path)
    ] = None,
    seeds: options.Seeds = None,
    design: Annotated[
        Path | None,
        Option(help="YAML file with factors, their levels and seeds: makes all runs of it.", parser=file_path),
    ] = None,
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

    given: dict[str, Any] = {
        "seed_from": seed_from or [],
        "address": cluster(address, insecure_cluster),
        "allow_code": allow_code,
        "allow_numerics_change": allow_numerics_change,
        "grace": grace,
        "progress": True,
    }
    if design is not None:
        if seeds is not None:
            raise ConfigError(f"--seeds: {design} has its own seeds; change `seeds` there.")
        if resume != "auto":
            raise ConfigError("--resume: a design goes on with the runs that are there; leave it out.")
        if config is not None and "=" not in str(config):
            raise ConfigError(f"{config}: {design} names its configuration itself; change `config` there.")
        _run_design(design, [str(config)] * (config is not None) + list(overrides or []), out, given)
        return
    if config is None:
        raise ConfigError("evofool run takes a CONFIG, such as quickstart, or --design FILE; see evofool run --help.")
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
            finished = runner.run(config, changes, out=out, resume=resume, **given)
        output.print_elites(finished)
        made.append(finished.path)
    output.print_next(made)


def _run_design(design: Path, overrides: list[str], out: Path | None, given: dict[str, Any]) -> None:
    """Make the runs of a design, and print what comes of them."""
    from evofool.config.designs import load_design

    if out is not None:
        from evofool.store.remote.working_copy import named

        out = Path(named(str(out)))
    planned = load_design(design, overrides, out=out)
    trials = planned.trials()
    for trial in {trial.config.target.spec: trial for trial in trials}.values():
        options.read_config(planned.config, trial.overrides, given["allow_code"])
    from evofool.studies.design import AGAIN, run_design

    with output.last_words(trials[0].config, planned.folder, AGAIN):
        done = run_design(design, overrides, out=out, tell=output.tell, **given)
    _print_design(done)


def _print_design(done: Designed) -> None:
    """Print the effects of a design, the sentence and the files."""
    columns = ["factor", "level", "against", "figure", "value", "95 % interval", "n", "verdict"]
    rows = [
        [
            *(row[name] for name in columns[:4]),
            output.number(row["value"]),
            "" if row["low"] is None else f"{output.number(row['low'])} to {output.number(row['high'])}",
            row["n"],
            row["verdict"],
        ]
        for row in done.effects
    ]
    output.table(columns, rows, columns[4:7])
    print(f"\n{output.plain(done.sentence)}\n")
    print("\n".join(output.plain(str(file)) for file in done.files))
