"""`evofool cluster plan`: what a run would be and take."""

from __future__ import annotations

from evofool.cli import options, output
from evofool.cli.cluster import cluster_app
from evofool.cli.options import cluster


@cluster_app.command()
def plan(
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """What a run would take, without making it: evaluations, time, evaluators, memory, disk."""
    settings = options.read_config(config, overrides, allow_code)
    from evofool.machines import plan
    from evofool.targets.training.provision import provide

    provide(config, settings, output.tell)
    result = plan.plan(settings, address=cluster(address, insecure_cluster), allow_code=allow_code, tell=output.tell)
    if as_json:
        figures = [vars(figure) for figure in result.figures]
        output.print_json({"facts": result.facts, "figures": figures, "warnings": result.warnings})
        return
    output.table(["", ""], list(result.facts.items()))
    print()
    rows = []
    for f in result.figures:
        bounds = [_amount(bound, f.unit) for bound in (f.low, f.high) if bound is not None]
        rows.append([f.name, _amount(f.value, f.unit), " to ".join(bounds), f.how, f.rule])
    output.table(["", "about", "between", "how", "by"], rows, {"about", "between"})
    for text in result.warnings:
        output.tell(text)


def _amount(value: float, unit: str) -> str:
    """A figure for people: long times in minutes or hours, much memory in GiB and little in KiB."""
    if unit == "s" and value >= 120:
        value, unit = (value / 3600, "h") if value >= 7200 else (value / 60, "min")
    elif unit == "MiB" and value < 1:
        value, unit = value * 1024, "KiB"
    elif unit == "MiB" and value >= 10240:
        value, unit = value / 1024, "GiB"
    return f"{value:,.0f} {unit}".rstrip() if value >= 100 or value == int(value) else f"{value:.3g} {unit}".rstrip()
