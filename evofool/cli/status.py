"""`evofool status`: the counters of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evofool.cli import output
from evofool.cli.options import Json, RunPath, app

if TYPE_CHECKING:
    from evofool.records import Facts


@app.command()
def status(path: RunPath, as_json: Json = False) -> None:
    """Counters of the last commit."""
    from evofool.store.reader import open_run

    run = open_run(path)
    counters, sessions = run.status(), run.provenance["sessions"]
    last = {k: v for k, v in sessions[-1].items() if k not in ("versions", "cluster")} if sessions else {}
    if as_json:
        output.print_json(counters | ({"last_session": last} if sessions else {}))
        return
    nodes = [_node(node) for node in last.pop("nodes", [])]
    told = {**counters, **{f"last session: {k}": v for k, v in last.items()}}
    rows = [(name, _figure(value)) for name, value in told.items()]
    output.table(["", ""], [*rows, *(("last session: node", node) for node in nodes)])


def _figure(value: object) -> str:
    """A value for people; a confidence below 1 is never shown as 1."""
    return "none yet" if value is None else output.number(value) if isinstance(value, float) else str(value)


def _node(node: Facts) -> str:
    gpu = f", {node['gpu']}" if "gpu" in node else ""
    return f"{node['host']} ({node['node'][:8]}){gpu}, {node['chunks']} chunks"
