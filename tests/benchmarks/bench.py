"""Measures evofool against programs from PyPI and against plain loops, for docs/benchmarks.md: `make bench`.

    python tests/benchmarks/bench.py [--only render,vary] [--repeats N] [--seeds 1-5] [--quick]
    python tests/benchmarks/bench.py --from docs/benchmarks.json        the page and the plot again, nothing measured

These are scripts, not tests: a timing never fails anything. That the rivals compute the same as evofool is tested, in
tests/test_benchmarks.py. Nothing else should run on the machine meanwhile.

A SECTION OF YOUR OWN: write a module here with

    measure(settings: Settings) -> dict     what was measured, of a kind that JSON can hold
    markdown(results: dict) -> str          its tables, from nothing but that
    in_short(results: dict) -> list         (what, found, aim) of what the table at the end shows of it

and give it a row in SECTIONS. `Comparison` in measure.py is the row of a table of rates.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the package `benchmarks` lies, for workers too

from benchmarks import ageing, driver, evolve, loop, rendering, simulation, vary, watching
from benchmarks.measure import Settings, machine, one_line

SECTIONS: dict[str, tuple[str, ModuleType]] = {
    "loop": ("The whole search beside the network alone", loop),
    "render": ("Rendering CPPNs", rendering),
    "vary": ("Variation", vary),
    "driver": ("The driver alone", driver),
    "ageing": ("Early and late in a run", ageing),
    "watching": ("A run that is watched", watching),
    "simulation": ("More evaluators, simulated", simulation),
    "rivals": ("The whole search, on one LeNet", evolve),
}
RESULTS, QUICK_RESULTS = Path("docs/benchmarks.json"), Path("runs/bench-quick.json")


def seed_numbers(text: str) -> tuple[int, ...]:
    """The seeds of "1-5" or "1,4,7-9"."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to measure; what else is known stays")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, in each of which every program has its turn")
    parser.add_argument("--seeds", type=seed_numbers, default=(1, 2, 3, 4, 5), help="of whole searches")
    parser.add_argument("--weights", default="weights/lenet.safetensors", help="the LeNet to be fooled")
    parser.add_argument("--quick", action="store_true", help="a check that all of it works; its figures mean nothing")
    parser.add_argument("--out", type=Path, help=f"the results, {RESULTS} by default; page and plot lie beside them")
    parser.add_argument("--from", dest="source", type=Path, help="results to show again instead of measuring")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := set(given.only) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return given


def measured(given: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The results of the sections asked for, beside those of the others that `out` has; written after each section."""
    settings = Settings(
        repeats=2 if given.quick else given.repeats,
        seeds=given.seeds[:1] if given.quick else given.seeds,
        quick=given.quick,
        spec=f"lenet:{given.weights}",
    )
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for name in given.only:
        print(f"measuring: {name}", file=sys.stderr)
        section = SECTIONS[name][1].measure(settings)
        results[name] = {"machine": machine(), "quick": given.quick, **section}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(_rounded(results), separators=(",", ":")) + "\n")
    return results


def _rounded(value: Any) -> Any:
    """Six figures of every number: the file is kept in the repository."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def page(results: dict[str, Any]) -> str:
    """Every section, and all of them in short, as Markdown."""
    parts = [
        "# What `make bench` found",
        "Written from docs/benchmarks.json by `python tests/benchmarks/bench.py --from docs/benchmarks.json`.",
    ]
    lines = ["| what | found | aim |", "|---|---|---|"]
    for name, (title, module) in SECTIONS.items():
        if name in results:
            quick = " A quick check: these figures mean nothing." if results[name]["quick"] else ""
            parts += [f"## {title}", f"{one_line(results[name]['machine'])}{quick}", module.markdown(results[name])]
            lines += [f"| {' | '.join(line)} |" for line in module.in_short(results[name])]
    parts += ["## In short", "\n".join(lines)]
    if "rivals" in results:
        parts.append("![Confidence against evaluations](benchmarks.png)")
    return "\n\n".join(parts) + "\n"


def show(results: dict[str, Any], out: Path) -> None:
    """Print the page and write it beside the results, and draw the plot where there are curves."""
    text = page(results)
    print(text)
    out.with_suffix(".md").write_text(text)
    if "rivals" in results:
        from benchmarks.plot import draw

        draw(results["rivals"]["traces"], out.with_suffix(".png"))


def main() -> None:
    """Measure or read, then show."""
    given = arguments()
    out = given.source or given.out or (QUICK_RESULTS if given.quick else RESULTS)
    show(json.loads(out.read_text()) if given.source else measured(given, out), out)


if __name__ == "__main__":
    main()
