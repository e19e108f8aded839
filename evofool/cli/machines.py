"""`evofool doctor`, `tune`, `plan`, `bench`, `launch`, `submit`: what machines can do for a run, and runs on others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from evofool.cli import options, output
from evofool.cli.options import app, cluster, run_path, seed_numbers
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.machines.bench.results import Bench
    from evofool.machines.sweep import Choice
    from evofool.machines.tune import Tuning
    from evofool.records import Facts

BENCHED = {"name": "bench", "target": {"spec": "lenet:weights/lenet.safetensors"}}  # without CONFIG; as the quickstart


@app.command()
def doctor(
    config: Annotated[Path | None, Argument(metavar="[CONFIG]", help="Also look at this config's target.")] = None,
    storage: Annotated[str, Option(help="Folder runs are to be kept in, or its URL.")] = "runs",
    address: Annotated[
        str | None, Option(help="Also look at every node of this Ray cluster: HOST:PORT or auto.")
    ] = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """What of this machine, or of a cluster, would stand in the way of a run, and what to do about it."""
    from evofool.machines.doctor import examine

    findings = examine(
        str(config) if config else None, storage, allow_code, address and cluster(address, insecure_cluster)
    )
    if as_json:
        output.print_json([vars(finding) for finding in findings])
    else:
        output.table(["", "", ""], [[f.subject, f.level, f.text + (f" -> {f.fix}" if f.fix else "")] for f in findings])
    if any(finding.level == "failure" for finding in findings):
        raise Exit(1)


@app.command()
def tune(
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    seconds: Annotated[float, Option(help="About how long to measure.", min=1.0)] = 60.0,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Measure which batch sizes, memory format and threads are fastest here, over all evaluators of this machine."""
    from evofool.config import load_config
    from evofool.machines import tune

    result = tune.tune(load_config(config, overrides), seconds=seconds, allow_code=allow_code, tell=output.tell)
    lines = tune.lines_of(result.best.numerics) if result.worth_it else []
    if as_json:
        output.print_json(
            {
                "present": _choice(result.present, result),
                "best": _choice(result.best, result),
                "gain": result.gain,
                "gain_rounds": result.ratios,
                "worth_it": result.worth_it,
                "lines": lines,
                "not_measured": result.not_measured,
                "choices": [_choice(choice, result) for choice in result.choices],
            }
        )
    else:
        _print_tuning(config, result, lines)


def _choice(choice: Choice, result: Tuning) -> Facts:
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


def _print_tuning(config: Path, result: Tuning, lines: list[str]) -> None:
    columns = ["memory_format", "micro_batch", "chunk", "threads", "evaluators", "per_second", "per_evaluator"]
    rows = []
    for choice in result.choices[:12]:
        facts = _choice(choice, result)
        figures = [f"{facts[c]:.1f}" if isinstance(facts[c], float) else facts[c] for c in columns]
        rounds = f"{min(choice.rounds):.1f} to {max(choice.rounds):.1f}" if choice.rounds else "measured once"
        remark = "present" if choice is result.present else "best" if choice is result.best else ""
        rows.append([*figures, rounds, remark])
    output.table([*columns, "rounds", ""], rows, columns[1:])
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
    print(f"\nto use it, put this into {output.plain(str(config))}:")
    print("\n".join(lines))
    print(
        "\nThese are numerics keys: scores get other bits, so a run already begun keeps its own, and resuming it with "
        "these\nends with exit code 3 unless --allow-numerics-change is given."
    )


@app.command()
def plan(
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """What a run would take, without making it: evaluations, time, evaluators, memory, disk."""
    from evofool.config import load_config
    from evofool.machines import plan

    settings = load_config(config, overrides)
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


@app.command()
def bench(
    config: Annotated[
        str | None, Argument(metavar="[CONFIG]", help="YAML file; without it, the quickstart's LeNet and CPPNs.")
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
    from evofool.config import load_config
    from evofool.machines.bench import measuring

    if config is not None and "=" in config and not Path(config).exists():  # the first override; CONFIG is left out
        overrides, config = [config, *(overrides or [])], None
    result = measuring.bench(
        load_config(BENCHED if config is None else config, overrides),
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


@app.command()
def launch(
    kind: Annotated[
        str, Argument(metavar="KIND", help="aws, on-premise, kuberay, slurm, local or docker, as in cluster/.")
    ],
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    out: Annotated[Path | None, Option(help="File to write, a new one. Default: print.")] = None,
    nodes: Annotated[int | None, Option(help="Nodes, the head among them; 2 by default.", min=1)] = None,
    cpus: Annotated[int | None, Option(help="Cores of a node for evaluators.", min=1)] = None,
    gpus: Annotated[int | None, Option(help="GPUs of a node.", min=0)] = None,
    storage: Annotated[str | None, Option(help="Shared folder; runs go to its folder runs.")] = None,
    image: Annotated[str | None, Option(help="Container image with evofool (cluster/Dockerfile).")] = None,
    hosts: Annotated[str | None, Option(help="on-premise: private addresses with commas, head first.")] = None,
    allow_code: options.AllowCode = False,
) -> None:
    """Print the launch file of a cluster for a config: sizes from the config, tokens on, nothing public."""
    from evofool.config import load_config
    from evofool.machines import launch as launching

    launching.template(kind)  # before anything else: a wrong KIND is refused
    settings = load_config(config, overrides)
    machines = tuple(host.strip() for host in hosts.split(",")) if hosts is not None else ()
    wishes = launching.Wishes(nodes, cpus, gpus, storage, image, machines, allow_code)
    filled = launching.fill(kind, config, overrides or [], settings, wishes)
    for note in filled.notes:
        output.tell(note)
    if out is None:
        print(filled.text, end="")
        return
    if out.exists():
        raise ConfigError(f"--out: {out} is there already; name a new file, or remove it.")
    # The first lines say how to use the file, by its name.
    output.write(out, filled.text.replace(f"cluster/{launching.KINDS[kind]}", str(out)).encode())
    if launching.KINDS[kind].endswith(".sh"):
        out.chmod(0o755)


@app.command()
def submit(
    config: options.ConfigPath,
    address: Annotated[str, Option(help="Jobs API of the cluster: http://HOST:8265.")],
    overrides: options.Overrides = None,
    seeds: options.Seeds = None,
    resume: options.Resume = "auto",
    no_wait: Annotated[bool, Option("--no-wait", help="Do not follow the job to its end.")] = False,
    include: Annotated[
        list[Path] | None, Option(help="File to send though a pattern leaves it out; may be repeated.")
    ] = None,
    allow_code: options.AllowCode = False,
    insecure_cluster: options.Insecure = False,
    as_json: options.Json = False,
) -> None:
    """Send a run to a cluster as a job, with this folder; the exit code is the run's."""
    from evofool.config import load_config
    from evofool.machines import submit as submitting

    settings = load_config(config, overrides)
    if seeds is not None:
        seed_numbers(seeds, settings.name)
    job = submitting.Job(config, overrides or [], settings, resume, allow_code, insecure_cluster, seeds, include or [])
    outcome = submitting.submit(job, address, wait=not no_wait, tell=output.tell, log=_log)
    if as_json:
        output.print_json(vars(outcome))
    else:
        print(outcome.submission_id + (f" {outcome.status}" if outcome.status else ""))
    if outcome.exit_code:
        raise Exit(outcome.exit_code)


def _log(text: str) -> None:
    print(output.plain(text), end="", file=sys.stderr, flush=True)
