"""Whether a run grows slower or larger with its age: cost of an evaluation and memory of the driver, early and late."""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import evofool
from benchmarks.measure import Settings, alone, alternate
from evofool.runs.observers.observer import GenerationPlaced, RunStopped
from evofool.store.run import RunStore

__all__ = ["in_short", "markdown", "measure"]

WINDOW = 40  # generations that are timed at a time
LOOKS = {False: (50, 500, 5000), True: (50, 100)}  # generations; by settings.quick
AT_MOST = {"cost": 1.2, "memory": 1.1}


class Watch(evofool.Observer):
    """When each generation ended, and what the process held at the end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_generation(self, event: GenerationPlaced) -> None:
        self.times.append(time.perf_counter())

    def on_stop(self, event: RunStopped) -> None:
        self.mib = psutil.Process().memory_info().rss / 2**20


def _run(spec: str, preset: str, looks: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """One run in one process, of which a copy is kept at each look; then each copy goes on for a while, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        path, rows = Path(folder) / "run", []
        for look in looks:
            watch = Watch()
            overrides = [f"target.spec={spec}", "evaluation.pool=inline", f"search.generations={look}"]
            evofool.run(f"configs/{preset}.yaml", overrides, out=path, observers=[watch])
            shutil.copytree(path, Path(folder) / str(look))
            individuals = RunStore(path).table("individuals").to_pandas()
            nodes = individuals.loc[individuals["generation"].between(look - WINDOW, look), "nodes"].mean()
            rows.append({"generation": look, "mib": watch.mib, "nodes": float(nodes)})

        def cost(look: int) -> float:
            watch, again = Watch(), Path(folder) / "again"
            shutil.copytree(Path(folder) / str(look), again)
            evofool.resume(again, [f"search.generations={look + WINDOW}"], observers=[watch])
            shutil.rmtree(again)
            return float(np.median(np.diff(watch.times)))

        found = alternate({str(look): partial(cost, look) for look in looks}, repeats)
        return [{**row, "seconds": found[str(row["generation"])]} for row in rows]


def measure(settings: Settings) -> dict[str, Any]:
    """Direct images, whose size is always the same, and CPPNs, which grow."""
    looks = LOOKS[settings.quick]
    presets = ("mnist_direct", "mnist_cppn")
    return {preset: alone(_run, settings.spec, preset, looks, settings.repeats) for preset in presets}


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of the last look."""
    lines = []
    for preset in ("mnist_direct", "mnist_cppn"):
        first, last = results[preset][0], results[preset][-1]
        ratios = np.divide(last["seconds"], first["seconds"])
        what = f"`{preset}`, generation {last['generation']:,} against {first['generation']}"
        cost = f"{np.median(ratios):.2f} times the cost ({ratios.min():.2f} to {ratios.max():.2f}), "
        found = f"{cost}{last['mib'] / first['mib']:.2f} times the memory"
        lines.append((what, found, f"at most {AT_MOST['cost']} and {AT_MOST['memory']}"))
    return lines


def markdown(results: dict[str, Any]) -> str:
    """A row for each preset and generation, and how it compares with the first."""
    lines = [
        f"Inline, one thread, {WINDOW} generations of 200 from each age on, in turns; the median and range of the "
        f"rounds. The aim is at most {AT_MOST['cost']} times the cost and {AT_MOST['memory']} times the memory of "
        "generation 50. Memory is that of one process from the first generation to the last.",
        "",
        "| preset | generation | ms a generation | of the first | driver RSS | of the first | nodes of those placed |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset in ("mnist_direct", "mnist_cppn"):
        first = results[preset][0]
        for row in results[preset]:
            ratios = np.divide(row["seconds"], first["seconds"])
            memory = row["mib"] / first["mib"]
            cost = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
            shown = [f"`{preset}`", f"{row['generation']:,}", f"{np.median(row['seconds']) * 1e3:.1f}", cost]
            placed = preset != "mnist_direct" and row["nodes"] == row["nodes"]  # not a number where none took a cell
            nodes = f"{row['nodes']:.0f}" if placed else ""
            shown += [f"{row['mib']:.0f} MiB", f"{memory:.2f}", nodes]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)
