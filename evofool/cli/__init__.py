"""The command line. Results go to stdout, progress and messages to stderr; errors end with their exit code.

Everything heavy is imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Exit, Option

from evofool.cli import config, machines, output, reports, runs, studies, targets  # noqa: F401 - each adds its commands
from evofool.cli.options import app
from evofool.errors import EvofoolError, StorageError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; the exit code is that of the error (see errors.py)."""
    try:
        app()
    except EvofoolError as error:
        output.explain(error)
        sys.exit(error.exit_code)
    except OSError as error:
        output.explain(StorageError(f"{error.filename or 'input/output'}: {error.strerror or error}."))
        sys.exit(StorageError.exit_code)


def _print_versions(requested: bool) -> None:
    if requested:
        from evofool.base.provenance import versions

        print(", ".join(f"{name} {version}" for name, version in versions().items()))
        raise Exit


@app.callback()
def _root(
    version: Annotated[
        bool, Option("--version", callback=_print_versions, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    pass
