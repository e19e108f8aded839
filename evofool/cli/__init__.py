"""The command line. Results go to stdout, progress and messages to stderr; errors end with their exit code.

A command is in the file of its name: `evofool run` in run.py, `evofool targets list` in targets/list.py; study.py makes
those of studies. Everything heavy is imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

from typer import Context, Exit, Option

from evofool.cli import output
from evofool.cli.options import app
from evofool.errors import EvofoolError, StorageError

__all__ = ["app", "main"]

COMMANDS = (  # in the order of --help; each file adds its command when it is loaded
    *("run", "resume", "status", "elites", "show", "report", "watch", "verify", "export", "merge", "compact"),
    *("study", "ascend"),
    *("targets.list", "targets.layers", "targets.check", "targets.import", "targets.train"),
    *("config.show", "config.schema", "config.presets"),
    *("cluster.doctor", "cluster.plan", "cluster.tune", "cluster.bench", "cluster.launch", "cluster.submit"),
)
for _name in COMMANDS:
    importlib.import_module(f"evofool.cli.{_name}")

FIRST_DAY = """evofool finds images that a classifier is sure about and that mean nothing to a person. A first day:

  evofool config presets                          the searches that go by name
  evofool run quickstart                          one of them, after training its network: an elite for each class
  evofool elites runs/quickstart                  the table of the elites
  evofool show runs/quickstart 3                  one of them, in the terminal
  evofool report runs/quickstart                  a page of all it found: gallery, ancestors, curves
  evofool export runs/quickstart --out pictures   pictures, CSV, a contact sheet

All commands: evofool --help"""


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


@app.callback(invoke_without_command=True)
def _root(
    context: Context,
    version: Annotated[
        bool, Option("--version", callback=_print_versions, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(FIRST_DAY)
