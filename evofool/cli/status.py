"""`evofool status`: the counters of a run."""

from __future__ import annotations

from evofool.cli import output
from evofool.cli.options import Json, RunPath, app


@app.command()
def status(path: RunPath, as_json: Json = False) -> None:
    """Counters of the last commit."""
    from evofool.store.reader import open_run

    run = open_run(path)
    counters, sessions = run.status(), run.provenance["sessions"]
    last = {k: v for k, v in sessions[-1].items() if k not in ("versions", "cluster")} if sessions else {}
    if as_json:
        output.print_json(counters | ({"last_session": last} if sessions else {}))
    else:
        output.table(["", ""], [*counters.items(), *((f"last session: {k}", v) for k, v in last.items())])
