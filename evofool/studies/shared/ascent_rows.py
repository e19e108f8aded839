"""The table of `evofool ascend`: a row for each climb, and for each class of a run of evolution beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from evofool.archive.scores import confidence
from evofool.base.png import encode_png
from evofool.errors import ConfigError
from evofool.evaluate.pool import Pool, at_once
from evofool.records import Facts
from evofool.store.reader import Run
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.ascent_findings import EVOLUTION, REACHED
from evofool.studies.shared.climbing import Track
from evofool.studies.shared.pace import LEVELS, log_odds_of, pace
from evofool.targets.opening import OpenTarget

__all__ = ["ASCENT", "KEYS", "READS", "Climb", "Goal", "rows_of", "rows_of_evolution", "same_network", "table_of"]

ASCENT = pa.schema(
    [
        ("method", pa.string()),  # CLIMB, CONTROL or EVOLUTION
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("rules", pa.string()),  # in words; of evolution the run
        ("rules_id", pa.string()),  # a hash of all of them; of evolution run_id and archive_hash
        ("goal", pa.string()),  # the class's index, or a readout
        ("class_index", pa.int32()),  # null for units, as are all columns of classes
        ("class_name", pa.string()),
        ("layer", pa.string()),  # null for classes
        ("unit", pa.string()),  # likewise
        ("restart", pa.int32()),
        ("steps", pa.int32()),
        ("start_objective", pa.float64()),
        ("start_log_odds", pa.float32()),
        ("start_is_top1", pa.bool_()),
        ("best_step", pa.int32()),
        ("objective", pa.float64()),  # of the best picture
        ("log_odds", pa.float32()),  # likewise, scored in whole grey levels as all pictures are
        ("confidence", pa.float32()),
        ("is_top1", pa.bool_()),
        *((f"step_{level}", pa.int32()) for level in REACHED),  # null: not reached
        *((f"passes_{level}", pa.float64()) for level in REACHED),  # forward 1, backward 2, of one class
        ("passes", pa.float64()),  # of the whole climb
        ("note", pa.string()),  # STUCK or NO_GRADIENT, where that is why
        ("curve", pa.list_(pa.float32())),  # log-odds, of units the objective, at every step
        ("image_sha256", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),  # null for evolution
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
KEYS = ("method", "target_fingerprint", "rules_id", "goal", "restart")
READS = tuple(name for name in ASCENT.names if name not in ("curve", "image"))


@dataclass(frozen=True)
class Goal:
    """What is climbed to: a class, or a unit."""

    text: str  # the class's index, or the readout
    number: int  # the output, or the place among the readouts
    class_name: str | None
    layer: str | None = None


Climb: TypeAlias = tuple[Goal, int]  # and which restart


def rows_of(batch: Sequence[Climb], track: Track, pool: Pool) -> Iterator[Facts]:
    """The rows of climbs, without what is the same in all; the best pictures are scored once more, as any are."""
    scores = at_once(pool, "score_images", track.images)
    for row, (goal, again) in enumerate(batch):
        is_class = goal.layer is None
        odds = scores.log_odds[row, goal.number : goal.number + 1]
        curve = track.log_odds[row] if is_class else track.objective[row]
        facts: Facts = {
            "goal": goal.text,
            "class_index": goal.number if is_class else None,
            "class_name": goal.class_name,
            "layer": goal.layer,
            "unit": None if is_class else goal.text,
            "restart": again,
            "start_objective": track.objective[row, 0],
            "start_log_odds": track.log_odds[row, 0] if is_class else None,
            "start_is_top1": bool(track.is_top1[row, 0]) if is_class else None,
            "best_step": int(track.best[row]),
            "objective": track.objective[row, track.best[row]],
            "log_odds": odds[0] if is_class else None,
            "confidence": confidence(odds)[0] if is_class else None,
            "is_top1": bool(scores.top_classes[row, 0] == goal.number) if is_class else None,
            "passes": float(track.whole),
            "note": track.notes[row] or None,
            "curve": curve.astype(np.float32),
            "image_sha256": scores.image_sha256[row].tobytes().hex(),
            "image": {"bytes": encode_png(track.images[row]), "path": None},
        }
        reached = {"top1": track.is_top1[row]} | {str(v): track.log_odds[row] >= log_odds_of(v) for v in LEVELS}
        for level, mask in reached.items():
            step = int(mask.argmax()) if mask.any() and is_class else None
            facts[f"step_{level}"] = step
            facts[f"passes_{level}"] = None if step is None else float(track.first + track.each * step)
        yield facts


def same_network(run: Run, opened: OpenTarget) -> Run:
    """A run; raises ConfigError where it was made against another network."""
    if run.provenance["target_fingerprint"] != opened.fingerprint:
        raise ConfigError(
            f"--beside: {run.path} was run against {run.provenance['target']}, not against {opened.target.spec} as it "
            "is here; give a run against the same network."
        )
    return run


def rows_of_evolution(run: Run, name: str, elites: pd.DataFrame, goals: Sequence[Goal]) -> Iterator[Facts]:
    """The rows of classes that a run of evolution has elites of, without what is the same in all.

    Args:
        name: by which the run is told from others.

    Raises:
        ConfigError: as `pace`.
    """
    best, paces = elites.sort_values("log_odds").groupby("class_index").last(), pace(run)
    for goal in goals:
        elite = best.loc[goal.number]
        yield {
            "method": EVOLUTION,
            "rules": f"{run.config.encoding.kind}, {name}",
            "goal": goal.text,
            "class_index": goal.number,
            "class_name": goal.class_name,
            "restart": 0,
            "log_odds": elite["log_odds"],
            "confidence": elite["confidence"],
            "is_top1": elite["top1_class_index"] == goal.number,
            "image_sha256": elite["image_sha256"],
            **paces.loc[goal.number].to_dict(),
        }


def table_of(rows: list[Facts]) -> pa.Table:
    """Rows as a table of the schema; NaN becomes null."""
    plain = [{name: _plain(row.get(name)) for name in ASCENT.names} for row in rows]
    return pa.Table.from_pylist(plain, schema=ASCENT)


def _plain(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray) else value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and np.isnan(value) else value
