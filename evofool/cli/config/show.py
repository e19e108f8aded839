"""`evofool config show`: a configuration with its defaults."""

from __future__ import annotations

import json

from evofool.cli import output
from evofool.cli.config import config_app
from evofool.cli.options import ConfigPath, Json, Overrides


@config_app.command("show")
def show(config: ConfigPath, overrides: Overrides = None, as_json: Json = False) -> None:
    """The whole configuration with defaults and overrides, each key with its kind and description."""
    from evofool.config import flatten, key_table, load_config

    settings = load_config(config, overrides)
    if as_json:
        output.print_json(settings.model_dump())
        return
    values, last = flatten(settings), ""
    for key, (kind, _, description) in key_table().items():
        section, _, name = key.rpartition(".")
        if section != last:
            print(f"{section}:")
        print(f"{'  ' if section else ''}{name}: {json.dumps(values[key])}   # {kind}: {description}")
        last = section
