"""The commands of `evofool targets`."""

from __future__ import annotations

from evofool.cli.options import group

targets_app = group("targets", "Networks to fool.")
