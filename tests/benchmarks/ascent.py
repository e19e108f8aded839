"""Ascent: steps a second of `evofool ascend` against a plain torch loop that knows nothing of it.

    python tests/benchmarks/ascent.py [SPEC ...] [--batch 16] [--steps 30] [--rounds 5]

Both climb log-odds by Adam on pixels in a box, as many pictures at a time, with one thread; in turns, reversed in every
other round. Printed is the median ratio with its range. The plain loop keeps no picture and rounds none.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from evofool.config import load_config
from evofool.evaluate.opening import open_pool
from evofool.evaluate.pool import Pool
from evofool.evaluate.problem import picture_problem
from evofool.studies.shared.canvases import Pixels
from evofool.studies.shared.climbing import climb
from evofool.studies.shared.rules import Rules
from evofool.targets.opening import open_target
from evofool.targets.target import Target


def plain(target: Target, of: torch.Tensor, steps: int) -> float:
    """Seconds of a loop as one would write it."""
    p = target.preprocessing
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (p.mean, p.std))
    x = torch.rand(len(of), p.channels, *target.image_size) * 255
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=2.0, maximize=True)
    began = time.perf_counter()
    for _ in range(steps):
        optimiser.zero_grad()
        z = target.module((x - mean) / std)
        own = z.gather(1, of[:, None])[:, 0]
        (own - z.scatter(1, of[:, None], -torch.inf).logsumexp(dim=1)).sum().backward()
        optimiser.step()
        with torch.no_grad():
            x.clamp_(0, 255)
    return time.perf_counter() - began


def ours(target: Target, pool: Pool, of: torch.Tensor, steps: int) -> float:
    """Seconds of evofool, which scores the start, too, so of a step more."""
    addresses = [(unit, 0) for unit in of.tolist()]
    canvas = Pixels(target, Rules(start="grey"), addresses)
    began = time.perf_counter()
    climb(pool, canvas, Rules(steps=steps), addresses)
    return (time.perf_counter() - began) * steps / (steps + 1)


def main() -> None:
    """Every network in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("specs", nargs="*", default=["lenet:weights/lenet.safetensors", "efficientnet-lite:0"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for spec in given.specs:
        shapes = {"micro_batch": given.batch, "chunk": given.batch}
        config = load_config({"target": {"spec": spec}, "evaluation": {"pool": "inline", **shapes}})
        opened = open_target(config.target)
        of = torch.arange(given.batch) % len(opened.target.class_names)
        with open_pool(picture_problem(config, opened)) as (pool, _, _):
            plain(opened.target, of, 2), ours(opened.target, pool, of, 2)
            times = []
            for number in range(given.rounds):
                order = (True, False) if number % 2 else (False, True)
                seconds = {
                    mine: ours(opened.target, pool, of, given.steps) if mine else plain(opened.target, of, given.steps)
                    for mine in order
                }
                times.append((seconds[False], seconds[True]))
        ratios = sorted(theirs / mine for theirs, mine in times)
        rates = [given.steps / np.median(column) for column in zip(*times)]
        print(
            f"{spec}: {rates[1]:.2f} steps/s of {given.batch} pictures, the plain loop {rates[0]:.2f}; ratio "
            f"{np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
