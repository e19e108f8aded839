"""`evofool score`, `tune`, `plan`, `bench`: what a target says of pictures, and what a run would take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evofool.cli import output
from evofool.cli.options import Address, AllowCode, ConfigPath, Insecure, Json, Overrides, app, cluster, run_path
from evofool.errors import EvofoolError

__all__: list[str] = []

SHOWN = 40  # pictures listed on the screen; the file has all
BENCHED = {"name": "bench", "target": {"spec": "lenet:weights/lenet.safetensors"}}  # without CONFIG; as the quickstart


def _tell(sentence: str) -> None:
    print(output.plain(sentence), file=sys.stderr)


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")],
    target: Annotated[str, typer.Option(help="As target.spec, e.g. efficientnet-lite:0.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("scores.parquet"),
    classes: Annotated[
        list[str] | None, typer.Option(help="Class whose scores are kept, by name or index; may be repeated.")
    ] = None,
    geometry: Annotated[str, typer.Option(help="native or published, as target.geometry.")] = "native",
    crops: Annotated[int, typer.Option(help="1 or 10, as target.crops.")] = 1,
    returns: Annotated[
        str, typer.Option("--output", help="declared, logits, probabilities or log_probabilities, as target.output.")
    ] = "declared",
    pool: Annotated[str, typer.Option(help="inline or ray.")] = "inline",
    address: Address = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Score any pictures with a target; what cannot be scored is named, and then the exit code is 2."""
    from evofool.studies import score

    request = score.Request(
        images,
        target,
        classes or "all",
        allow_code,
        geometry,
        crops,
        returns,
        pool=pool,
        address=cluster(address, insecure_cluster),
    )
    result = score.score_to(out, request, _tell)
    if as_json:
        output.print_json({"file": str(out), "pictures": result.rows, "left_out": result.left_out})
    else:
        rows = [_line(row) for row in result.rows[:SHOWN]]
        output.table(["picture", "size", "top-1 class", "confidence", "entropy"], rows, {"confidence", "entropy"})
        more = f", {len(result.rows) - SHOWN} of them not shown" if len(result.rows) > SHOWN else ""
        print(f"\n{len(result.rows)} pictures{more}; all scores are in {output.plain(str(out))}")
    if result.left_out:
        print(f"{len(result.left_out)} of {len(result.left_out) + len(result.rows)} left out", file=sys.stderr)
        raise typer.Exit(2)


def _line(row: dict[str, Any]) -> list[str]:
    size = f"{row['width']} x {row['height']} {row['mode']}"
    sure = f"{row['top1_confidence']:.6f}"
    return [row["path"], size, row["top1_class_name"], sure, f"{row['entropy']:.3f}"]


@app.command()
def tune(
    config: ConfigPath,
    overrides: Overrides = None,
    write: Annotated[bool, typer.Option("--write", help="Put the best into CONFIG, if it gains over 3 %.")] = False,
    seconds: Annotated[float, typer.Option(help="About how long to measure.", min=1.0)] = 60.0,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Measure which batch sizes, memory format and threads are fastest here, over all evaluators of this machine."""
    from evofool.config import load_config
    from evofool.machines import tune

    before = load_config(config)
    result = tune.tune(load_config(config, list(overrides or [])), seconds=seconds, allow_code=allow_code, tell=_tell)
    best, present = result.best, result.present
    written = write and result.worth_it
    problem = None
    if written:
        try:
            tune.write(config, before, best.numerics)
        except EvofoolError as error:
            problem, written = error, False
    lines = tune.lines_of(best.numerics) if result.worth_it else []
    if as_json:
        output.print_json(
            {
                "present": _choice(present, result),
                "best": _choice(best, result),
                "gain": result.gain,
                "gain_rounds": result.ratios,
                "worth_it": result.worth_it,
                "lines": lines,
                "written": written,
                "not_measured": result.not_measured,
                "choices": [_choice(choice, result) for choice in result.choices],
            }
        )
    else:
        _print_tuning(config, result, lines, written)
    if problem is not None:
        raise problem


def _choice(choice: Any, result: Any) -> dict[str, Any]:
    n = choice.numerics
    return {
        "present": choice is result.present,
        "memory_format": n.memory_format,
        "micro_batch": n.micro_batch,
        "chunk": n.chunk,
        "threads": n.threads,
        "evaluators": choice.evaluators,
        "per_second": choice.per_second,
        "per_evaluator": choice.per_second / choice.evaluators,
        "rounds": choice.rounds,
    }


def _print_tuning(config: Path, result: Any, lines: list[str], written: bool) -> None:
    columns = ["memory_format", "micro_batch", "chunk", "threads", "evaluators", "per_second", "per_evaluator"]
    rows = []
    for choice in result.choices[:12]:
        facts = _choice(choice, result)
        shown = [f"{facts[c]:.1f}" if isinstance(facts[c], float) else facts[c] for c in columns]
        rounds = f"{min(choice.rounds):.1f} to {max(choice.rounds):.1f}" if choice.rounds else "measured once"
        rows.append([*shown, rounds, "present" * facts["present"] or "best" * (choice is result.best)])
    output.table([*columns, "rounds", ""], rows, set(columns[1:]))
    print("\nper_second: evaluations of all evaluators of this machine together; on Ray each gives per_evaluator")
    if result.not_measured:
        print(result.not_measured)
    spread = (
        f"{result.gain:.3f} times the present choice, {min(result.ratios):.3f} to {max(result.ratios):.3f} in turns"
    )
    if not lines:
        print("nothing gains more than 3 % over the present choice" + f" (the best: {spread})" * (result.gain > 1))
        return
    print(f"the best is {spread}")
    where = output.plain(str(config))
    print(f"\nwritten into {where}:" if written else f"\nto use it, put this into {where}, or say --write:")
    print("\n".join(lines))
    print(
        "\nThese are numerics keys: scores get other bits, so a run already begun keeps its own, and resuming it with "
        "these\nends with exit code 3 unless --allow-numerics-change is given."
    )


@app.command()
def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    address: Address = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """What a run would take, without making it: evaluations, time, evaluators, memory, disk."""
    from evofool.config import load_config
    from evofool.machines import plan

    settings = load_config(config, list(overrides or []))
    result = plan.plan(settings, address=cluster(address, insecure_cluster), allow_code=allow_code, tell=_tell)
    if as_json:
        figures = [vars(figure) for figure in result.figures]
        output.print_json({"facts": result.facts, "figures": figures, "warnings": result.warnings})
        return
    output.table(["", ""], [[name, value] for name, value in result.facts.items()])
    print()
    rows = []
    for f in result.figures:
        known = f.low is not None and f.high is not None
        between = f"{_amount(f.low, f.unit)} to {_amount(f.high, f.unit)}" if known else ""
        rows.append([f.name, _amount(f.value, f.unit), between, f.how, f.rule])
    output.table(["", "about", "between", "how", "by"], rows, {"about", "between"})
    for text in result.warnings:
        _tell(text)


def _amount(value: Any, unit: str) -> str:
    """A figure for people: long times as minutes or hours, small memory as KiB."""
    if unit == "s" and value >= 120:
        value, unit = (value / 3600, "h") if value >= 7200 else (value / 60, "min")
    elif unit == "MiB" and value < 1:
        value, unit = value * 1024, "KiB"
    elif unit == "MiB" and value >= 10240:
        value, unit = value / 1024, "GiB"
    return f"{value:,.0f} {unit}".rstrip() if value >= 100 or value == int(value) else f"{value:.3g} {unit}".rstrip()


@app.command()
def bench(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="YAML file; without it, the quickstart's LeNet and CPPNs.")
    ] = None,
    overrides: Overrides = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Go on from this run's archive, which stays as it is. Default: one is made.", parser=run_path
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure.")] = 120.0,
    repeats: Annotated[int, typer.Option(help="Rounds, in each of which everything is measured once.")] = 5,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Leave out what goes over Ray.")] = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Measure how near the whole search comes to the network alone here, and what each part of it costs."""
    from evofool.config import load_config
    from evofool.machines import bench

    given = list(overrides or [])
    if config is not None and "=" in config and not Path(config).exists():
        given, config = [config, *given], None
    result = bench.bench(
        load_config(BENCHED if config is None else config, given),
        seconds=seconds,
        repeats=repeats,
        run=run,
        ray=not no_ray,
        allow_code=allow_code,
        tell=_tell,
    )
    if as_json:
        output.print_json(result.as_dict())
    else:
        _print_bench(result)


def _print_bench(result: Any) -> None:
    columns = ["", "of", "evaluations/s", "least", "most", "us each", "cores", "share"]
    rows = []
    for s in result.shown:
        rates = [f"{s[key]:,.1f}" for key in ("per_second", "per_second_least", "per_second_most", "microseconds")]
        rows.append([s["name"], s["kind"], *rates, s["cores"], f"{s['share']:.1%}"])
    output.table(columns, rows, set(columns[2:]))
    facts = result.as_dict()
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
