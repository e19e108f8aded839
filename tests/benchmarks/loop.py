"""The whole search over Ray beside the bare network, on one machine: what `cluster bench` says of the presets."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.measure import Settings
from evofool.config import load_config
from evofool.machines.bench.measuring import bench

__all__ = ["in_short", "markdown", "measure"]

AT_LEAST = {"imagenet50_cppn": 0.90, "imagenet50_direct": 0.85, "mnist_cppn": 0.45, "mnist_direct": 0.55}
LARGE = ["search.offspring=200", "search.lag=2"]  # as the defaults were until 2026-11-30
CASES = [  # presets as they are, and with what is said of them
    ("imagenet50_cppn", []),
    ("imagenet50_cppn", LARGE),
    ("imagenet50_cppn", [*LARGE, "encoding.arithmetic=torch"]),
    ("imagenet50_direct", []),
    # With the paper's lag of 1 evaluators wait for every generation to be bred.
    ("mnist_cppn", []),
    ("mnist_cppn", ["search.lag=4"]),
    ("mnist_cppn", ["search.lag=4", "encoding.arithmetic=torch"]),
    ("mnist_direct", []),
    ("mnist_direct", ["search.lag=4"]),
]
# Of each. There is an elites view in every stretch of a search; in a real one it comes every storage.snapshot_every.
SECONDS = {"imagenet": 300.0, "mnist": 120.0}
QUICK_SECONDS = 10.0
AT_MOST_IDLE = 0.03  # of the evaluators of imagenet50_cppn


def measure(settings: Settings) -> dict[str, Any]:
    """What `evofool cluster bench configs/PRESET.yaml --json` gives, for each case."""
    found = {}
    for preset, said in CASES:
        if settings.quick and not preset.startswith("mnist"):
            continue
        target = [f"target.spec={settings.spec}"] if preset.startswith("mnist") else []
        config = load_config(f"configs/{preset}.yaml", [*target, *said])
        seconds = QUICK_SECONDS if settings.quick else SECONDS["mnist" if preset.startswith("mnist") else "imagenet"]
        told = bench(config, seconds=seconds, repeats=min(3, settings.repeats), tell=_tell)
        found[" ".join([preset, *said])] = told.as_dict()
    return {"presets": found}


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of the ratios."""
    lines = []
    for case, found in results["presets"].items():
        preset = case.partition(" ")[0]
        ratio, rounds = found["ratios"]["ray"], found["ratios"]["ray"]["ratio_rounds"]
        text = f"{ratio['ratio']:.2f} ({min(rounds):.2f} to {max(rounds):.2f}): "
        text += f"{ratio['end_to_end']:,.0f} of {ratio['forward']:,.0f} evaluations/s"
        lines.append((f"`{case}` over Ray, of the network alone", text, f"{AT_LEAST[preset]:.2f}"))
        if preset == "imagenet50_cppn":
            idle = found["end_to_end"]["ray"]["idle_share"]
            lines.append((f"evaluators idle in `{case}`", f"{idle:.1%}", f"at most {AT_MOST_IDLE:.0%}"))
    return lines


def markdown(results: dict[str, Any]) -> str:
    """Where the time goes: a row for each preset, with the share of each part."""
    parts = ["forward", "render", "vary", "place", "commit", "round trip"]
    lines = [
        "Evaluations a second over Ray, of the preset as it is where nothing else is said, as many evaluators as "
        "cores, and commits and views included; and of the bare network in the memory format, micro-batch and number "
        "of processes that are fastest here. The share of a part is its processor time, measured by itself, of all "
        "that both cores have for an evaluation of the whole.",
        "",
        f"| preset | search | network | ratio | idle | {' | '.join(parts)} |",
        f"|{'---|' * (5 + len(parts))}",
    ]
    for preset, found in results["presets"].items():
        ratio = found["ratios"]["ray"]
        shares = {stage["name"]: stage["share"] for stage in reversed(found["stages"])}  # the first of a name counts
        cells = [f"`{preset}`", f"{ratio['end_to_end']:,.1f}", f"{ratio['forward']:,.1f}", f"{ratio['ratio']:.2f}"]
        cells += [f"{found['end_to_end']['ray']['idle_share']:.1%}", *(f"{shares[part]:.1%}" for part in parts)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
