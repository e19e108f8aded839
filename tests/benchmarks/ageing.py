"""Whether a run grows slower or larger with its age: cost of an evaluation and memory of the driver, early and late."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import evofool
from benchmarks.measure import Settings, alone
from evofool.store.run import RunStore

__all__ = ["markdown", "measure"]

WINDOW = 40  # generations up to the one looked at
LOOKS = {False: (50, 500, 5000), True: (50, 100)}  # generations; by settings.quick
AT_MOST = {"cost": 1.2, "memory": 1.1}


class Watch(evofool.Observer):
    """When each generation ended, and what the process held then."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.bytes: list[int] = []

    def on_generation(self, statistics: Any, facts: dict[str, Any]) -> None:
        self.times.append(time.perf_counter())
        self.bytes.append(psutil.Process().memory_info().rss)


def _run(spec: str, preset: str, generations: int, looks: tuple[int, ...]) -> list[dict[str, float]]:
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"target.spec={spec}", "evaluation.pool=inline", f"search.generations={generations}"]
        run = evofool.run(f"configs/{preset}.yaml", overrides, out=Path(folder) / "run", observers=[watch])
        individuals = RunStore(run.path).table("individuals").to_pandas()
    rows = []
    for look in looks:
        some = individuals[individuals["generation"].between(look - WINDOW, look)]
        rows.append(
            {
                "generation": look,
                "seconds": float(np.median(np.diff(watch.times[look - WINDOW : look]))),
                "mib": watch.bytes[look - 1] / 2**20,
                "nodes": float(some["nodes"].mean()) if len(some) else float("nan"),
            }
        )
    return rows


def measure(settings: Settings) -> dict[str, Any]:
    """Direct images, whose size is always the same, and CPPNs, which grow."""
    looks = LOOKS[settings.quick]
    return {preset: alone(_run, settings.spec, preset, looks[-1], looks) for preset in ("mnist_direct", "mnist_cppn")}


def markdown(results: dict[str, Any]) -> str:
    """A row for each preset and generation, and how it compares with the first."""
    lines = [
        f"Inline, one thread; the median over the {WINDOW} generations of 200 before. At most {AT_MOST['cost']} times "
        f"the cost and {AT_MOST['memory']} times the memory of generation 50 is the aim.",
        "",
        "| preset | generation | ms a generation | of the first | driver RSS | of the first | nodes of those placed |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset in ("mnist_direct", "mnist_cppn"):
        first = results[preset][0]
        for row in results[preset]:
            cost, memory = row["seconds"] / first["seconds"], row["mib"] / first["mib"]
            shown = [f"`{preset}`", f"{row['generation']:,}", f"{row['seconds'] * 1e3:.1f}", f"{cost:.2f}"]
            nodes = "" if preset == "mnist_direct" else f"{row['nodes']:.0f}"
            shown += [f"{row['mib']:.0f} MiB", f"{memory:.2f}", nodes]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)
