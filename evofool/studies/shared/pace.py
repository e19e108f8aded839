"""When the classes of a run of evolution were as sure as is asked, counted in passes, as an ascent's are."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from evofool.errors import ConfigError
from evofool.store.reader import Run

__all__ = ["LEVELS", "log_odds_of", "pace"]

LEVELS = (0.9, 0.99, 0.999, 0.9999)


def log_odds_of(level: float) -> float:
    """The log-odds of a probability."""
    return math.log(level / (1 - level))


def pace(run: Run) -> pd.DataFrame:
    """Of each class with an elite, what it took.

    Evolution shows each picture to all classes at once, so passes are those of all evaluations over the classes: what a
    class had to pay had they shared the bill. (An ascent's picture is of one class.)

    Returns:
        By class_index: passes_top1, passes_0.9, ..., float, NaN where that was not reached; and passes, of the whole
        run.

    Raises:
        ConfigError: `storage.history` has dropped generations that would tell.
    """
    if run.store.log.whole_from:
        raise ConfigError(
            f"{run.path}: storage.history has dropped placements of the generations before {run.store.log.whole_from}, "
            "which would tell when a class was reached; give a run with storage.history=full."
        )
    history, placements = run.history(), run.placements()
    people = run.store.table("individuals").to_pandas().set_index("individual_id")["top1_class_index"]
    each = dict(zip(history["generation"], history["evaluations"] / len(run.provenance["class_indices"])))
    placements["passes"] = placements["generation"].map(each)
    placements["is_top1"] = placements["individual_id"].map(people) == placements["class_index"]
    reached = {"top1": placements["is_top1"]}
    reached |= {str(level): placements["log_odds"] >= np.float32(log_odds_of(level)) for level in LEVELS}
    frame = pd.DataFrame(index=pd.Index(sorted(placements["class_index"].unique()), name="class_index"))
    for name, mask in reached.items():
        frame[f"passes_{name}"] = placements[mask].groupby("class_index")["passes"].min()
    return frame.assign(passes=max(each.values()))
