"""`evofool config schema`: the JSON Schema of all configurations."""

from __future__ import annotations

from evofool.cli import output
from evofool.cli.config import config_app


@config_app.command("schema")
def schema() -> None:
    """The JSON Schema of configurations, for editors."""
    from evofool.config import Config

    output.print_json(Config.model_json_schema())
