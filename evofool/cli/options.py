"""The application and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evofool.base.addresses import OpenCluster
from evofool.errors import ConfigError

__all__ = [
    "Address",
    "AllowCode",
    "ConfigPath",
    "Grace",
    "Insecure",
    "Json",
    "NumericsChange",
    "Overrides",
    "RunPath",
    "Seeds",
    "app",
    "cluster",
    "group",
    "run_path",
    "seed_numbers",
]

app = typer.Typer(
    name="evofool",
    help="Find images that a classifier is sure about and that mean nothing to a person.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def group(name: str, text: str) -> typer.Typer:
    """Commands under a common first word."""
    commands = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(commands, name=name)
    return commands


def cluster(address: str | None, insecure: bool) -> str | None:
    """An address as --address and --insecure-cluster give it."""
    return OpenCluster(address or "") if insecure else address


def seed_numbers(text: str, name: str) -> list[int]:
    """The seeds that --seeds means.

    Args:
        name: of the runs, which must hold {seed}.
    """
    if "{seed}" not in name:
        raise ConfigError("--seeds needs {seed} in the name; say for instance name=quickstart-{seed}.")
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


def run_path(text: str) -> Path:
    """A run directory as it was given; of a URL its working copy."""
    from evofool.store.remote.working_copy import locate

    return locate(text)


RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run directory, or its s3://, gs:// or az:// URL.", parser=run_path)
]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. search.generations=50.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let a python: target run its code, this time.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster: HOST:PORT, auto or local. Default: RAY_ADDRESS, else one on this machine."),
]
Seeds = Annotated[
    str | None, typer.Option(help="Seeds one after another, e.g. 1-5 or 1,3,8; the name must hold {seed}.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure-cluster", help="Use a cluster that asks nobody for a token, this time.")
]
Grace = Annotated[
    float,
    typer.Option(
        help="Seconds that Ctrl-C or SIGTERM leave for the generation under way; then what is done is committed.", min=0
    ),
]
NumericsChange = Annotated[
    bool,
    typer.Option("--allow-numerics-change", help="Go on though scores may get other bits; marked in the next commit."),
]
