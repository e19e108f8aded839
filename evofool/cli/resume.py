"""`evofool resume`: go on with a run."""

from __future__ import annotations

from evofool.cli import options, output
from evofool.cli.options import app, cluster


@app.command()
def resume(
    path: options.RunPath,
    overrides: options.Overrides = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    allow_numerics_change: options.NumericsChange = False,
    grace: options.Grace = 10.0,
) -> None:
    """Go on with a run; overrides may change stopping and operational keys, e.g. search.generations=500."""
    from evofool.config import load_config
    from evofool.store.run import stored_config
    from evofool.targets.specs import check_section

    config = load_config(stored_config(path), overrides)
    check_section(config.target, allow_code=allow_code)
    from evofool.runs import runner

    with output.last_words(config, path):
        finished = runner.run(
            config,
            out=path,
            resume="must",
            address=cluster(address, insecure_cluster),
            allow_code=allow_code,
            allow_numerics_change=allow_numerics_change,
            grace=grace,
            progress=True,
        )
    output.print_elites(finished)
