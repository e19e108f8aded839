"""`evofool cluster launch`: launch files, filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.base.places import quoted
from evofool.cli import completion, options, output
from evofool.cli.cluster import cluster_app
from evofool.cli.options import file_path
from evofool.errors import ConfigError


@cluster_app.command()
def launch(
    kind: Annotated[
        str,
        Argument(
            metavar="KIND",
            help="aws, on-premise, kuberay, slurm, local or docker, as in cluster/.",
            autocompletion=completion.launches,
        ),
    ],
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    out: Annotated[Path | None, Option(help="File to write, a new one. Default: print.", parser=file_path)] = None,
    nodes: Annotated[int | None, Option(help="Nodes, the head among them; 2 by default.", min=1)] = None,
    cpus: Annotated[int | None, Option(help="Cores of a node for evaluators.", min=1)] = None,
    gpus: Annotated[int | None, Option(help="GPUs of a node.", min=0)] = None,
    storage: Annotated[str | None, Option(help="Shared folder; runs go to its folder runs.")] = None,
    image: Annotated[str | None, Option(help="Container image with evofool (cluster/Dockerfile).")] = None,
    hosts: Annotated[str | None, Option(help="on-premise: private addresses with commas, head first.")] = None,
    allow_code: options.AllowCode = False,
) -> None:
    """Print the launch file of a cluster for a config: sizes from the config, tokens on, nothing public."""
    from evofool.config import load_config
    from evofool.machines import launch as launching

    launching.template(kind)  # before anything else: a wrong KIND is refused
    settings = load_config(config, overrides)
    machines = tuple(host.strip() for host in hosts.split(",")) if hosts is not None else ()
    wishes = launching.Wishes(nodes, cpus, gpus, storage, image, machines, allow_code)
    filled = launching.fill(kind, config, overrides or [], settings, wishes)
    for note in filled.notes:
        output.tell(note)
    if out is None:
        print(filled.text, end="")
        return
    if out.exists():
        raise ConfigError(f"--out: {out} is there already; name a new file, or remove it.")
    # The first lines say how to use the file, by its name.
    output.write(out, filled.text.replace(f"cluster/{launching.KINDS[kind]}", quoted(out)).encode())
    if launching.KINDS[kind].endswith(".sh"):
        out.chmod(0o755)
