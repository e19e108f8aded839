"""`evofool launch`, `submit`: runs on other machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evofool.cli import output
from evofool.cli.options import AllowCode, ConfigPath, Insecure, Json, Overrides, Seeds, app, seed_numbers
from evofool.errors import ConfigError

__all__: list[str] = []


@app.command()
def launch(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="aws, on-premise, kuberay, slurm, local or docker, as in cluster/."),
    ],
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="File to write, a new one. Default: print.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes, the head among them; 2 by default.", min=1)] = None,
    cpus: Annotated[int | None, typer.Option(help="Cores of a node for evaluators.", min=1)] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of a node.", min=0)] = None,
    storage: Annotated[str | None, typer.Option(help="Shared folder; runs go to its folder runs.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image with evofool (cluster/Dockerfile).")] = None,
    hosts: Annotated[str | None, typer.Option(help="on-premise: private addresses with commas, head first.")] = None,
    allow_code: AllowCode = False,
) -> None:
    """Print the launch file of a cluster for a config: sizes from the config, tokens on, nothing public."""
    from evofool.config import load_config
    from evofool.machines import launch as launching

    given = list(overrides or [])
    launching.template(kind)
    settings = load_config(config, given)
    machines = tuple(host.strip() for host in hosts.split(",")) if hosts is not None else ()
    wishes = launching.Wishes(nodes, cpus, gpus, storage, image, machines, allow_code)
    filled = launching.fill(kind, config, given, settings, wishes)
    for note in filled.notes:
        _tell(note)
    if out is None:
        print(filled.text, end="")
        return
    if out.exists():
        raise ConfigError(f"--out: {out} is there already; name a new file, or remove it.")
    # The first lines say how to use the file, by its name.
    output.write(out, filled.text.replace(f"cluster/{launching.KINDS[kind]}", str(out)).encode())
    if launching.KINDS[kind].endswith(".sh"):
        out.chmod(0o755)


@app.command()
def submit(
    config: ConfigPath,
    address: Annotated[str, typer.Option(help="Jobs API of the cluster: http://HOST:8265.")],
    overrides: Overrides = None,
    seeds: Seeds = None,
    resume: Annotated[str, typer.Option(help="auto: go on if the run is there; must; never.")] = "auto",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job to its end.")] = False,
    include: Annotated[
        list[Path] | None,
        typer.Option(help="File to send though a pattern leaves it out; may be repeated."),
    ] = None,
    allow_code: AllowCode = False,
    insecure_cluster: Insecure = False,
    as_json: Json = False,
) -> None:
    """Send a run to a cluster as a job, with this folder; the exit code is the run's."""
    from evofool.config import load_config
    from evofool.machines import submit as submitting

    given = list(overrides or [])
    settings = load_config(config, given)
    if seeds is not None:
        seed_numbers(seeds, settings.name)
    job = submitting.Job(config, given, settings, resume, allow_code, insecure_cluster, seeds, include or [])
    outcome = submitting.submit(job, address, wait=not no_wait, tell=_tell, log=_log)
    if as_json:
        output.print_json(vars(outcome))
    else:
        print(outcome.submission_id + (f" {outcome.status}" if outcome.status else ""))
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _tell(text: str) -> None:
    print(output.plain(text), file=sys.stderr)


def _log(text: str) -> None:
    print(output.plain(text), end="", file=sys.stderr, flush=True)
