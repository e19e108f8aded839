"""`evofool ascend`: pictures that follow a network's gradient. Its options are those of the study."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from evofool.cli import options, output
from evofool.cli.options import app, cluster, run_path
from evofool.cli.study import chosen, own_options, parameter, print_outcome, refuse_spec
from evofool.studies.shared.rules import Options

_OWN = list(own_options(Options))
_PARAMETERS = (
    parameter(
        "spec",
        Annotated[str, Argument(metavar="SPEC", help="As target.spec, e.g. efficientnet-lite:0.")],
        inspect.Parameter.empty,
    ),
    *_OWN,
    parameter(
        "out", Annotated[Path, Option(help="The run directory to make, or its URL.", parser=run_path)], "runs/ascent"
    ),
    parameter(
        "limit", Annotated[int | None, Option(metavar="N", help="Only the first N classes or units.", min=1)], None
    ),
    parameter("pool", Annotated[str | None, Option(help="inline or ray; by default inline.")], None),
    parameter("address", options.Address, None),
    parameter("insecure_cluster", options.Insecure, False),
    parameter("allow_code", options.AllowCode, False),
    parameter("as_json", options.Json, False),
)


def ascend(**given: Any) -> None:
    """Climb a network's gradient to every class; the best pictures become a run, with a table of how soon."""
    settings = Options(**chosen(_OWN, given))
    settings.refuse()
    refuse_spec(given["spec"], "SPEC", given["allow_code"])
    from evofool.studies import ascend as study

    outcome, run = study.ascend(
        given["spec"],
        settings,
        out=given["out"],
        limit=given["limit"],
        pool=given["pool"],
        address=cluster(given["address"], given["insecure_cluster"]),
        allow_code=given["allow_code"],
        tell=output.tell,
    )
    print_outcome(study.STUDY, outcome, given["as_json"])
    if run is not None and not given["as_json"]:
        output.print_next([run.path])


ascend.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
ascend.__annotations__ = {each.name: each.annotation for each in _PARAMETERS}
app.command()(ascend)
