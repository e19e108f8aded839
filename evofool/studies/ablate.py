"""Ablate: what does the confidence in an elite rest on: its repetition, one region, single genes?

Nguyen et al. 2015 (section 3.4, figure 10) removed repeated elements of some images by hand, and in many the confidence
fell a little. Here every elite is changed in three ways, and its own network says what each change costs, in log-odds:

occlusion   each tile of four grids erased; the tiles of one grid erased one after the other, in random orders
motifs      what repeats found by autocorrelation, and its copies erased one after the other; beside that the same area
            at random places, and pictures of the same spectrum without the motif
genes       of CPPNs: each connection deleted, each node and output frozen, each sine made linear; beside that the same
            differences of pixels at random places

Whether a network adds up copies, or goes by the best one, shows in the form of the curve (shared/losses.py).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa

from evofool.base.registry import known
from evofool.errors import ConfigError
from evofool.evaluate.pool import Pool
from evofool.records import Facts
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared import changes
from evofool.studies.shared.ablation_figure import figure
from evofool.studies.shared.ablation_findings import ELITE, of_elites, summarise
from evofool.studies.shared.elites import OF_ELITE, VARIANTS, Elites
from evofool.studies.shared.erasing import FILLS
from evofool.studies.shared.judging import cluster, judge_of, picture_pool, settings_of
from evofool.studies.shared.pictures import thumbnail
from evofool.studies.study import Study, Work
from evofool.targets.target import Target

__all__ = ["ABLATION", "STUDY", "Options"]

PARTS = ("occlusion", "motifs", "genes")
GENES = "genes"

ABLATION = pa.schema(
    [
        *OF_ELITE,
        ("image_sha256", pa.string()),
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("encoding", pa.string()),
        ("part", pa.string()),
        ("fill", pa.string()),  # what erased pixels became; "" of genes
        (
            "change",
            pa.string(),
        ),  # none, tile, scattered, tiles; motif, random, phases; connection, node, output, sine ...
        ("scrambled", pa.bool_()),  # of genes: whether it is their pixels' differences at random places
        ("grid", pa.int32()),
        ("tile", pa.int32()),  # row by row
        ("copies", pa.int32()),  # that the picture has, or tiles; 0: nothing repeats
        ("removed", pa.int32()),
        ("draw", pa.int32()),
        ("gene", pa.string()),  # its id, hex
        ("activation", pa.string()),  # of a node, before
        ("erased", pa.float32()),  # share of the pixels
        ("pixels_changed", pa.int32()),
        ("mean_change", pa.float32()),  # grey levels, over all pixels and channels
        ("changed_sha256", pa.string()),  # of the pixels that were scored
        ("confidence", pa.float32()),
        ("log_odds", pa.float32()),
        ("loss", pa.float32()),  # of log-odds, by the change
        ("class_is_top1", pa.bool_()),  # null: the network's outputs were not finite
        ("thumbnail", pa.binary()),  # PNG, of pictures that were not changed
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
NULLABLE = dict.fromkeys(("grid", "tile", "copies", "removed", "draw"), "Int32") | dict.fromkeys(
    ("scrambled", "class_is_top1"), "boolean"
)
KEYS = ("run_id", "archive_hash", "individual_id", "part", "fill")


@dataclass(frozen=True)
class Options:
    """What is changed, and what is put in the place of what is erased."""

    part: Annotated[
        tuple[str, ...], "occlusion, motifs or genes; may be repeated. All by default; genes are of CPPNs alone."
    ] = ()
    fill: Annotated[
        tuple[str, ...],
        "What erased pixels become: mean (the picture's mean colour), blur (a smooth copy) or noise (pixels of other "
        "places); may be repeated. By default mean and blur.",
    ] = ()


def _rows(work: Work) -> Generator[pd.DataFrame]:
    parts = _chosen("--part", work.options.part, PARTS, PARTS)
    fills = _chosen("--fill", work.options.fill, FILLS, FILLS[:2])
    for run in work.subject:
        elites = Elites(run, allow_code=work.allow_code, limit=work.limit)
        keys = list(_keys(elites, parts, fills))
        if not keys:
            raise ConfigError(
                f"--part: genes are of CPPNs, and the elites of {run.path} are encoded as "
                f"{' and '.join(sorted(set(elites.frame['encoding'])))}; say --part occlusion or --part motifs."
            )
        if not (missing := work.missing(keys)):
            continue
        settings = settings_of(run, work.pool)
        home = judge_of(run, work.live, allow_code=work.allow_code)
        passes = 0
        with (
            cluster(settings, work.address),
            picture_pool(run, home, settings, address=work.address, warn=work.tell) as pool,
        ):
            for key in missing:
                rows, scored = _group(elites, home.target, pool, *key[2:])
                passes += scored
                yield rows
        individuals = len({key[2] for key in missing})
        work.tell(f"{run.path}: {individuals} individuals, {passes:,} changed pictures scored")


def _chosen(option: str, given: tuple[str, ...], names: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
    for name in given:
        if name not in names:
            raise ConfigError(f"{option}: there is no {name!r}; {known(name, names)}")
    return tuple(dict.fromkeys(given)) or default


def _keys(elites: Elites, parts: tuple[str, ...], fills: tuple[str, ...]) -> Iterator[tuple[str, str, int, str, str]]:
    """The groups of rows that a run's elites make, individual by individual."""
    of_run = elites.run.provenance["run_id"], elites.archive_hash
    for individual, encoding in dict(zip(elites.frame["individual_id"], elites.frame["encoding"])).items():
        for part in parts:
            if part != GENES:
                yield from ((*of_run, int(individual), part, fill) for fill in fills)
            elif encoding == "cppn":
                yield *of_run, int(individual), part, ""


def _group(
    elites: Elites, target: Target, pool: Pool, individual: int, part: str, fill: str
) -> tuple[pd.DataFrame, int]:
    """The rows of one group, of every cell that the individual holds; and the pictures that were scored."""
    rows = np.flatnonzero(elites.frame["individual_id"] == individual)
    image = elites.picture(int(rows[0]), VARIANTS[0], target)
    if part == GENES:
        made = changes.of_genes(elites, int(rows[0]))
    else:
        made = {"occlusion": changes.of_tiles, "motifs": changes.of_motifs}[part](image, fill, individual)
    classes = elites.frame["class_index"].iloc[rows].to_numpy()
    scored, passes = changes.scored(pool, made, classes)
    columns = ["run_id", "as_of_generation", "class_index", "class_name", "individual_id", "image_sha256", "target"]
    elite = elites.frame.iloc[rows][[*columns, "target_fingerprint", "encoding"]]
    frame = pd.DataFrame(scored).merge(elite, on="class_index", how="left", sort=False)
    frame = frame.assign(archive_hash=elites.archive_hash, part=part, fill=fill)
    small = thumbnail(image)
    frame["thumbnail"] = [small if change == "none" else None for change in frame["change"]]
    return frame.reindex(columns=ABLATION.names).astype(NULLABLE), passes


def _figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    return figure(summary, frame, of_elites(frame))


STUDY = Study(
    subject="runs",
    schema=ABLATION,
    keys=KEYS,
    rows=_rows,
    summarise=summarise,
    figure=_figure,
    options=Options,
    things="elites of each run",
    smoke=10,
    reads=(
        *ELITE,
        *("part", "fill", "change", "scrambled", "grid", "tile", "copies", "removed"),
        *("pixels_changed", "loss", "class_is_top1", "thumbnail"),
    ),
    evaluates=True,
)
