"""Agreement by chance: how often answers would be right if classes were dealt to pictures anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evofool.base import rng
from evofool.records import Facts

__all__ = ["by_chance"]

PERMUTATIONS = 1000


def by_chance(wanted: Sequence[object], answers: Sequence[object], blocks: Sequence[object]) -> Facts:
    """The share of pictures whose answer is the wanted one, when the wanted ones are permuted within each block.

    Args:
        wanted: of n pictures, the class that each was made for.
        answers: what was said of each; None, which is never wanted, where nothing was.
        blocks: pictures of which the wanted classes are exchanged with each other: those of one run, or of one run and
            one super-class.

    Returns:
        value: the expected share, exactly; low, high: between which 95 % of PERMUTATIONS lie; p: of how many
        permutations, counting the observed one, the share is at least the observed; n. None without pictures.
    """
    frame = pd.DataFrame({"wanted": list(wanted), "answer": list(answers), "block": list(blocks)}, dtype=object)
    n = len(frame)
    if not n:
        return {"value": None, "low": None, "high": None, "p": None, "n": 0}
    codes, _ = pd.factorize(pd.concat([frame["wanted"], frame["answer"]]), use_na_sentinel=True)
    made, said = codes[:n], codes[n:]
    expected, draws = 0.0, np.zeros(PERMUTATIONS, dtype=np.int64)
    for number, rows in enumerate(frame.groupby("block", sort=False).indices.values()):
        here, there = made[rows], said[rows]
        classes, counts = np.unique(here, return_counts=True)
        expected += float((counts * (there[:, None] == classes).sum(axis=0)).sum()) / len(rows)
        order = np.argsort(rng.uniforms(0, "chance", number, (PERMUTATIONS, len(rows))), axis=1, kind="stable")
        draws += (here[order] == there).sum(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    observed = int((made == said).sum())
    p = (1 + int((draws >= observed).sum())) / (1 + PERMUTATIONS)
    return {"value": expected / n, "low": float(low) / n, "high": float(high) / n, "p": p, "n": n}
