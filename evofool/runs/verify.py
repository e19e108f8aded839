"""`evofool verify`: is what the run directory says still true?

Checksums of every file, the chain of commits, the hash chain of the archive, the elites view against the commits, and
every elite: its genome is drawn again and must give the archived image, and the image is scored again and must give
the archived log-odds, bit for bit if they are of the run's latest numerics epoch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import Module

from evofool.archive.scores import confidence
from evofool.errors import ConfigError, CorruptData, IncompatibleRun
from evofool.evaluate.evaluator import other_canary
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.memory import platform
from evofool.evaluate.pool import at_once
from evofool.evaluate.problem import problem_of
from evofool.records import Facts, Numerics, Scores, address_of
from evofool.runs import replay as replaying
from evofool.store.reader import encoding_of
from evofool.store.remote.working_copy import locate
from evofool.store.restore import restore
from evofool.store.run import RunStore
from evofool.store.view import compare_view
from evofool.targets.opening import open_target, refuse_other_target
from evofool.targets.target import Target

__all__ = ["TOLERANCE", "verify"]

# Of confidence, where an elite was scored in an earlier numerics epoch; of activations a share, or of the unit below 1.
TOLERANCE = 1e-4


def verify(
    path: str | Path, *, replay: int = 0, allow_code: bool = False, target: Module | Target | None = None, **live: Any
) -> Facts:
    """Verify a run directory; counts and the archive hash.

    Args:
        replay: how many generations to breed again as well, from the first that can be (see replay.py).
        allow_code: whether python: targets, and other code of the user, may run.
        target: the live network of a run that was made with one; a bare module with preprocessing= and class_names=.

    Raises:
        CorruptData: the first thing that is wrong, by name.
        IncompatibleRun: the target is another one, or this machine has other numerics.
        ConfigError: nothing is committed, or nothing can be bred again, or the target cannot be opened.
    """
    store = RunStore(locate(path))
    state = restore(store)
    last = store.log.last
    if state is None or last is None:
        raise ConfigError(f"{path}: has no commit yet, so there is nothing to verify.")
    encoding = encoding_of(store, allow_code)
    replayed = replaying.replay(store, replay, allow_code=allow_code) if replay else 0
    rows, images = compare_view(store, encoding)
    opened = open_target(store.config.target, live=target, allow_code=allow_code, **live)
    refuse_other_target(store.provenance["target_fingerprint"], store.path, opened)
    code = store.provenance.get("code", {})
    problem = problem_of(store.config, opened, allow_code=allow_code, code=code, searches=False)
    numerics = Numerics.of(last.numerics)
    if numerics.device == "cuda" and not torch.cuda.is_available():
        raise IncompatibleRun(f"{path}: was scored on a GPU, and there is none here.")
    ends = [commit.generation for commit in store.log.commits]
    exact = 0
    pool = InlinePool(lambda: problem.evaluator(numerics), numerics)
    if pool.canary != last.numerics["canary"]:
        where = f"{path}: is undamaged as files, but this machine"
        raise other_canary(where, last.numerics, numerics, {platform(numerics.device)})
    genomes = store.genomes({row["individual_id"] for row in rows})
    drawn = dict(zip(genomes, at_once(pool, "render", encoding.from_bytes(list(genomes.values())))))
    # Each at its own place of a forward pass, on which the last bits of a score may depend.
    places = _places([address_of(row["individual_id"])[1] for row in rows], numerics.micro_batch)
    shown = np.zeros((max(places) + 1, *images[0].shape), dtype=np.uint8)
    shown[places] = images
    scores: Scores = at_once(pool, "score_images", shown)
    units = bool(problem.cells.units)
    column_of = {int(index): column for column, index in enumerate(problem.cells.classes)}
    for i, row in enumerate(rows):
        name = f"{path}: class {row['class_name']}"
        if not np.array_equal(drawn[row["individual_id"]], images[i]):
            raise CorruptData(f"{name}: its genome draws another image than the archived one.")
        if scores.bins is not None and scores.bins[places[i]] != row["bin"]:
            raise CorruptData(
                f"{name}: its image belongs into bin {scores.bins[places[i]]}, the archive has it in {row['bin']}."
            )
        odds = scores.log_odds[places[i], column_of[row["class_index"]]]
        archived, what = (row["objective"], "activation") if units else (row["log_odds"], "log-odds")
        if odds == np.float32(archived):
            exact += 1
            continue
        if units:
            difference = abs(float(odds) - archived) / max(1.0, abs(archived))
        else:
            difference = abs(float(confidence(odds[None])[0]) - row["confidence"])
        epoch = store.log.commits[bisect_left(ends, row["generation"])].numerics["epoch"]
        if epoch == last.numerics["epoch"] or difference > TOLERANCE:
            raise CorruptData(f"{name}: its image scores {odds:.9g} {what}, the archive says {archived:.9g}.")
    return {
        "path": str(path),
        "elites": len(rows),
        "bit_for_bit": exact,
        "within_tolerance": len(rows) - exact,
        "generations": state.generation + 1,
        "replayed": replayed,
        "replayed_from": replaying.replayed_from(store) if replay else None,
        "placements_from": store.log.whole_from,
        "commits": len(store.log.commits),
        "archive_hash": last.archive_hash,
        "numerics_epoch": last.numerics["epoch"],
    }


def _places(slots: list[int], size: int) -> list[int]:
    """Rows for images, all different, each as far into a forward pass of `size` rows as its slot was."""
    passes: Counter[int] = Counter()
    rows = []
    for slot in slots:
        rows.append(passes[slot % size] * size + slot % size)
        passes[slot % size] += 1
    return rows
