"""`evofool cluster tune`: the fastest shapes, layout and threads here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from evofool.cli import options, output
from evofool.cli.cluster import cluster_app

if TYPE_CHECKING:
    from evofool.machines.sweep import Choice
    from evofool.machines.tune import Tuning
    from evofool.records import Facts


@cluster_app.command()
def tune(
    config: options.ConfigPath,
    overrides: options.Overrides = None,
    seconds: Annotated[float, Option(help="About how long to measure.", min=1.0)] = 60.0,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Measure which batch sizes, memory format and threads are fastest here, over all evaluators of this machine."""
    settings = options.read_config(config, overrides, allow_code)
    from evofool.machines import tune
    from evofool.targets.training.provision import provide

    provide(config, settings, output.tell)
    result = tune.tune(settings, seconds=seconds, allow_code=allow_code, tell=output.tell)
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
