"""`evofool cluster doctor`: what would stand in the way of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from evofool.cli import completion, options, output
from evofool.cli.cluster import cluster_app
from evofool.cli.options import cluster, file_path


@cluster_app.command()
def doctor(
    config: Annotated[
        Path | None,
        Argument(
            metavar="[CONFIG]",
            help="Also look at this config's target.",
            parser=file_path,
            autocompletion=completion.configs,
        ),
    ] = None,
    storage: Annotated[str, Option(help="Folder runs are to be kept in, or its URL.")] = "runs",
    address: Annotated[
        str | None, Option(help="Also look at every node of this Ray cluster: HOST:PORT or auto.")
    ] = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """What of this machine, or of a cluster, would stand in the way of a run, and what to do about it."""
    from evofool.machines.doctor import examine

    findings = examine(
        str(config) if config else None, storage, allow_code, address and cluster(address, insecure_cluster)
    )
    if as_json:
        output.print_json([vars(finding) for finding in findings])
    else:
        output.table(["", "", ""], [[f.subject, f.level, f.text + (f" -> {f.fix}" if f.fix else "")] for f in findings])
    if any(finding.level == "failure" for finding in findings):
        raise Exit(1)
