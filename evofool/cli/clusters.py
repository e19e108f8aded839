"""`evofool launch`: runs on other machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evofool import output
from evofool.cli.options import AllowCode, ConfigPath, Overrides, app
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
    from evofool import launch as launching
    from evofool.config import load_config

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


def _tell(text: str) -> None:
    print(output.plain(text), file=sys.stderr)
