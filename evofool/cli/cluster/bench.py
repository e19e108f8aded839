"""`evofool cluster bench`: how near a search comes to the network alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evofool.base.places import as_path
from evofool.cli import completion, options, output
from evofool.cli.cluster import cluster_app
from evofool.cli.options import run_path

if TYPE_CHECKING:
    from evofool.machines.bench.results import Bench

BENCHED = {"name": "bench", "target": {"spec": "lenet:weights/lenet.safetensors"}}  # without CONFIG; as the quickstart


@cluster_app.command()
def bench(
    config: Annotated[
        str | None,
        Argument(
            metavar="[CONFIG]",
            help="YAML file or preset; without it, the quickstart's LeNet and CPPNs.",
            autocompletion=completion.configs,
        ),
    ] = None,
    overrides: options.Overrides = None,
    run: Annotated[
        Path | None,
        Option(help="Go on from this run's archive, which stays as it is. Default: one is made.", parser=run_path),
    ] = None,
    seconds: Annotated[float, Option(help="About how long to measure.")] = 120.0,
    repeats: Annotated[int, Option(help="Rounds, in each of which everything is measured once.")] = 5,
    no_ray: Annotated[bool, Option("--no-ray", help="Leave out what goes over Ray.")] = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Measure how near the whole search comes to the network alone here, and what each part of it costs."""
    if config is not None and "=" in config and not as_path(config).exists():  # the first override; CONFIG is left out
        overrides, config = [config, *(overrides or [])], None
    settings = options.read_config(BENCHED if config is None else config, overrides, allow_code)
    from evofool.machines.bench import measuring
    from evofool.targets.training.provision import provide

    provide(config, settings, output.tell)
    result = measuring.bench(
        settings,
        seconds=seconds,
        repeats=repeats,
        run=run,
        ray=not no_ray,
        allow_code=allow_code,
        tell=output.tell,
    )
    if as_json:
        output.print_json(result.as_dict())
    else:
        _print_bench(result)


def _print_bench(result: Bench) -> None:
    facts = result.as_dict()
    columns = ["", "of", "evaluations/s", "least", "most", "us each", "cores", "share"]
    rows = []
    for s in facts["stages"]:
        rates = [f"{s[key]:,.1f}" for key in ("per_second", "per_second_least", "per_second_most", "microseconds")]
        rows.append([s["name"], s["kind"], *rates, s["cores"], f"{s['share']:.1%}"])
    output.table(columns, rows, columns[2:])
    print(
        f"\nshare: of the processor time that end_to_end ({result.pool}) has for an evaluation; quantise is in render"
    )
    best = facts["forward"]
    print(
        f"forward: {best['processes']} processes of {best['threads']} threads, micro-batch {best['micro_batch']}, "
        f"{best['memory_format']}; {facts['machine']['cores']} cores, {facts['machine']['processor']}"
    )
    if facts["not_measured"]:
        print(f"forward: {facts['not_measured']}")
    for pool, ratio in facts["ratios"].items():
        search = facts["end_to_end"][pool]
        print(
            f"end_to_end ({pool}) / forward: {ratio['end_to_end']:,.1f} / {ratio['forward']:,.1f} evaluations/s = "
            f"{ratio['ratio']:.3f} ({min(ratio['ratio_rounds']):.3f} to {max(ratio['ratio_rounds']):.3f}); "
            f"{search['evaluators']} evaluators, idle {search['idle_share']:.1%}, driver "
            f"{1e6 * search['driver_seconds_per_evaluation']:,.1f} us an evaluation, {search['commits']} commits and "
            f"{search['views']} views in {search['evaluations']} evaluations"
        )
