"""The commands of `evofool study`."""

from __future__ import annotations

from evofool.cli.options import group

study_app = group("study", "Questions asked of runs and of pictures.")
