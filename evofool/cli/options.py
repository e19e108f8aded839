"""The application and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Address",
    "AllowCode",
    "ConfigPath",
    "Grace",
    "Json",
    "NumericsChange",
    "Overrides",
    "RunPath",
    "app",
    "group",
    "run_path",
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


def run_path(text: str) -> Path:
    """A run directory as it was given; of a URL its working copy."""
    from evofool.store.remote import locate

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
