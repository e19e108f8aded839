"""The commands of `evofool config`."""

from __future__ import annotations

from evofool.cli.options import group

config_app = group("config", "Configurations.")
