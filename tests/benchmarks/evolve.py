"""Whole searches for fooling images on one LeNet: evofool's presets, pyribs, and a plain DEAP loop.

All score uint8 images with the same network through the same code; what counts is how many evaluations they need, and
how many of them they do in a second.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import evofool
from benchmarks import deap_search, pyribs_search
from benchmarks.measure import Comparison, Settings, alone, cores, table
from benchmarks.traces import GOAL, Trace, final

__all__ = ["in_short", "markdown", "measure"]

PRESETS = ("mnist_cppn", "mnist_direct")
TUTORIAL = str(pyribs_search.TUTORIAL)


def ours(spec: str, preset: str, seed: int, generations: int, pool: str) -> dict[str, Any]:
    """One run of a preset, commits and elites view included; a Trace as a dict."""
    overrides = [f"seed={seed}", f"target.spec={spec}", f"evaluation.pool={pool}", f"search.generations={generations}"]
    with tempfile.TemporaryDirectory() as folder:
        run = evofool.run(f"configs/{preset}.yaml", overrides, out=Path(folder) / "run")
        history = run.history()
        evaluators = 1 if pool == "inline" else cores()
        seconds = run.provenance["sessions"][0]["seconds"]
    trace = Trace(f"evofool, {preset}" + ("" if pool == "inline" else ", Ray"), seed, evaluators)
    for row in history.itertuples():
        trace.record(int(row.evaluations), float(row.median), float(row.minimum))
    return trace.close(int(history["evaluations"].iloc[-1]), seconds)


def _screened(spec: str, seeds: tuple[int, ...], budget: int) -> dict[str, list[dict[str, Any]]]:
    """Every setting of pyribs, until the median is at the goal or the budget is spent."""
    return {
        str(setting): [pyribs_search.search(spec, setting, seed, budget, until_minimum=False) for seed in seeds]
        for setting in pyribs_search.GRID
    }


def measure(settings: Settings) -> dict[str, Any]:
    """Traces of all searches, seed by seed so that all meet the same moods of the machine; screening of pyribs."""
    spec, quick = settings.spec, settings.quick
    generations, tried, budget, long_budget = (20, 1200, 4000, 6000) if quick else (200, 40_000, 40_000, 300_000)
    screening = alone(_screened, spec, settings.seeds[:2], tried)
    best = min(pyribs_search.GRID, key=lambda setting: pyribs_search.better(screening[str(setting)]))
    traces = []
    for seed in settings.seeds:
        traces += [alone(ours, spec, preset, seed, generations, "inline") for preset in PRESETS]
        traces.append(alone(pyribs_search.search, spec, pyribs_search.TUTORIAL, seed, long_budget))
        traces.append(alone(pyribs_search.search, spec, best, seed, long_budget))
        traces.append(deap_search.search(spec, seed, budget, cores()))
        traces.append(alone(ours, spec, "mnist_direct", seed, generations, "ray"))
    return {"traces": traces, "best": str(best), "screening": screening}


# ------------------------------------------------------------------------------------------------------------ tables


def markdown(results: dict[str, Any]) -> str:
    """Evaluations needed, evaluations a second, and the settings of pyribs that were tried."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for trace in results["traces"]:
        groups.setdefault(trace["name"], []).append(trace)
    return "\n\n".join(
        [
            _needed(groups),
            _ratios(groups),
            table([asdict(row) for row in _rates(groups, results["best"])]),
            "Settings of pyribs that were tried, with the first two seeds:",
            _needed(results["screening"]),
        ]
    )


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of the evaluations that pyribs needs."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for trace in results["traces"]:
        groups.setdefault(trace["name"], []).append(trace)
    lines = [line.removeprefix("- ") for line in _ratios(groups).splitlines() if line.startswith("- ")]
    return [(f"evaluations to a median of {GOAL}", line, "10 times") for line in lines]


def _needed(groups: dict[str, list[dict[str, Any]]]) -> str:
    """One row for each kind of search: medians over seeds, with the range in brackets."""
    columns = ["search", "seeds", f"median >= {GOAL} after", f"minimum >= {GOAL} after", "evaluations at the end"]
    columns += ["median there", "minimum there"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, traces in groups.items():
        cells = [name, str(len(traces)), _reached(traces, "median_at"), _reached(traces, "minimum_at")]
        cells.append(f"{statistics.median(trace['total'] for trace in traces):,.0f}")
        cells += [_spread(final(traces, "median")), _spread(final(traces, "minimum"))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _reached(traces: list[dict[str, Any]], what: str) -> str:
    """Evaluations to the goal, or in how many searches it was not reached."""
    values = sorted(trace[what] for trace in traces if trace[what] is not None)
    missing = len(traces) - len(values)
    parts = []
    if 2 * missing < len(traces):
        middle = statistics.median(values + [float("inf")] * missing)
        parts.append(f"{middle:,.0f} ({values[0]:,} to {values[-1]:,})")
    if missing:
        parts.append(f"not reached in {missing} of {len(traces)}")
    return "; ".join(parts)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.6f} ({min(values):.6f} to {max(values):.6f})"


def _ratios(groups: dict[str, list[dict[str, Any]]]) -> str:
    """How many times evofool's evaluations pyribs took, seed by seed; a search cut short counts as far as it came."""
    lines = []
    for preset in PRESETS:
        mine = {trace["seed"]: trace["median_at"] for trace in groups[f"evofool, {preset}"]}
        for name, traces in groups.items():
            if not name.startswith("pyribs"):
                continue
            pairs = [(trace["median_at"] or trace["total"], mine[trace["seed"]]) for trace in traces]
            if not all(own for _, own in pairs):
                lines.append(f"- {name}: `{preset}` did not reach {GOAL} with every seed")
                continue
            ratios = [rival / own for rival, own in pairs]
            cut = any(trace["median_at"] is None for trace in traces)
            lines.append(
                f"- {name}: {'more than ' * cut}{statistics.median(ratios):.3g} ({min(ratios):.3g} to "
                f"{max(ratios):.3g}) times the evaluations of `{preset}`"
            )
    return f"To a median of {GOAL}, seed by seed:\n\n" + "\n".join(lines)


def _rates(groups: dict[str, list[dict[str, Any]]], best: str) -> list[Comparison]:
    """Evaluations a second, evofool's with commits and view; a round is a seed."""

    def of(name: str) -> list[float]:
        return [trace["per_second"] for trace in groups[name]]

    one, unit = "1 process of 1 thread", "evaluations/s"
    rows = [
        Comparison(preset, unit, one, of(f"evofool, {preset}"), {name: of(name)})
        for preset in PRESETS
        for name in dict.fromkeys((TUTORIAL, best))
    ]
    (loop,) = (name for name in groups if name.startswith("DEAP"))
    n = groups[loop][0]["processes"]
    sides = f"{n} evaluators or workers of 1 thread, and a driver"
    return [*rows, Comparison("mnist_direct, Ray", unit, sides, of("evofool, mnist_direct, Ray"), {loop: of(loop)})]
