"""The commands of `evofool cluster`."""

from __future__ import annotations

from evofool.cli.options import group

cluster_app = group("cluster", "Machines: what stands in the way, what a run would take, runs on others.")
