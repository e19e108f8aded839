"""`evofool cluster submit`: a run as a job of Ray's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Exit, Option

from evofool.cli import options, output
from evofool.cli.cluster import cluster_app
from evofool.cli.options import file_path, seed_numbers


@cluster_app.command()
def submit(
    config: options.ConfigPath,
    address: Annotated[str, Option(help="Jobs API of the cluster: http://HOST:8265.")],
    overrides: options.Overrides = None,
    seeds: options.Seeds = None,
    resume: options.Resume = "auto",
    no_wait: Annotated[bool, Option("--no-wait", help="Do not follow the job to its end.")] = False,
    include: Annotated[
        list[Path] | None,
        Option(help="File to send though a pattern leaves it out; may be repeated.", parser=file_path),
    ] = None,
    allow_code: options.AllowCode = False,
    insecure_cluster: options.Insecure = False,
    as_json: options.Json = False,
) -> None:
    """Send a run to a cluster as a job, with this folder; the exit code is the run's."""
    from evofool.config import load_config
    from evofool.machines import submit as submitting

    settings = load_config(config, overrides)
    if seeds is not None:
        seed_numbers(seeds, settings.name)
    job = submitting.Job(config, overrides or [], settings, resume, allow_code, insecure_cluster, seeds, include or [])
    outcome = submitting.submit(job, address, wait=not no_wait, tell=output.tell, log=_log)
    if as_json:
        output.print_json(vars(outcome))
    else:
        print(outcome.submission_id + (f" {outcome.status}" if outcome.status else ""))
    if outcome.exit_code:
        raise Exit(outcome.exit_code)


def _log(text: str) -> None:
    output.say(output.plain(text))
