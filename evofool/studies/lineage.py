"""Lineage: from whom do elites descend, and are those of related classes nearer kin?

Innovation Engines (Nguyen, Yosinski and Clune, GECCO 2015; Evolutionary Computation 24, 2016, p. 545) explain what
MAP-Elites finds by goal switching: champions of one class descend from champions of others. Here it is counted by three
definitions, each beside what chance gives (shared/switches.py); ancestors and growth are counted along lines of first
parents; distances of kin are set beside WordNet (shared/kinship.py); and over several runs, elites of one class are
compared with those of others (shared/likeness.py).

A new champion is an individual with a parent that takes a cell. Random individuals, which fill cells first, are none.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.store import ancestry
from evofool.store.reader import Run, read_steadily
from evofool.store.run import RunStore
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared import kinship, likeness, phylogeny, switches
from evofool.studies.shared.album import figure, summarise
from evofool.studies.shared.elites import OF_ELITE, VARIANTS, Elites, passes
from evofool.studies.shared.judging import cluster, judge, picture_pool, settings_of
from evofool.studies.shared.pictures import archived
from evofool.studies.shared.statistics import mean_interval, wilson
from evofool.studies.study import Study, Work
from evofool.targets.opening import OpenTarget
from evofool.targets.readout import refuse_layer

__all__ = ["LINEAGE", "STUDY", "Options"]

LATE = 0.1  # of the generations, the last
PEOPLE = ["individual_id", "generation", "slot", "parent_ids", "operators", "nodes", "connections", "origin"]
PLACED = ["generation", "cell", "class_index", "individual_id", "displaced_id", "log_odds", "confidence"]

_COUNTS = ("steps", "stepping_stones", "new_champions", "children", "nodes", "connections", "root_nodes")
LINEAGE = pa.schema(
    [
        *OF_ELITE,
        ("to_fingerprint", pa.string()),  # of the network of --to that saw the elite, and the layer; "" of other rows
        ("part", pa.string()),  # "elite", "seen" (by the network of --to), or "figure"
        ("image_sha256", pa.string()),
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("encoding", pa.string()),
        ("bin", pa.int32()),
        ("generation", pa.int32()),
        ("confidence", pa.float32()),
        ("root_id", pa.int64()),  # where its line of first parents begins
        *((name, pa.int32()) for name in (*_COUNTS, "root_connections")),
        ("from_classes", pa.list_(pa.int32())),  # from whose cells the parents of the cell's champions were drawn,
        ("from_counts", pa.list_(pa.float32())),  # and how many
        ("super_class", pa.string()),
        ("hypernym", pa.string()),
        ("across", pa.float32()),
        ("pixels", pa.list_(pa.float32())),
        ("spectrum", pa.list_(pa.float32())),
        ("to", pa.string()),
        ("seen", pa.list_(pa.float32())),  # log-odds of that network's classes, or means of its layer's channels
        ("figure", pa.string()),
        ("of", pa.string()),
        ("by", pa.string()),
        *((name, pa.float64()) for name in ("value", "low", "high", "p")),
        ("n", pa.int64()),
        ("null", pa.string()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


@dataclass(frozen=True)
class Options:
    to: Annotated[
        tuple[str, ...], "Another network, as target.spec, by whose outputs elites are compared too; repeat for more."
    ] = ()
    layer: Annotated[
        tuple[str, ...],
        "Layer of the networks of --to, by whose channels' means elites are compared too; repeat for more.",
    ] = ()
    export: Annotated[
        str, "Folder for each run's ancestry: CSV in the ALife data standard, and each elite's line as pictures."
    ] = ""
    window: Annotated[int, "Children that exchange parents by chance, at least: those of so many generations."] = 50


@dataclass(frozen=True)
class Family:
    """The elites of a run, its placements up to then, and its individuals.

    Attributes:
        placed: with parent_ids.
        people: rows of the table of individuals, by id.
        tree: first parents of the elites and all on their lines.
        drawn: from which cell each parent was drawn, as far as that is known (`switches.drawn_cells`).
        complete: whether all placements are there.
    """

    elites: Elites
    placed: pd.DataFrame
    people: dict[int, Facts]
    tree: dict[int, int | None]
    drawn: dict[tuple[int, int], int]
    complete: bool


def _rows(work: Work) -> Generator[pd.DataFrame]:
    options: Options = work.options
    if options.window < 2:
        raise ConfigError(f"--window: {options.window} children cannot exchange parents; give 2 or more.")
    if options.layer and not options.to:
        raise ConfigError("--layer: is of another network, by which elites are compared; name that as --to.")
    judges = {j.fingerprint: j for j in (judge(spec, allow_code=work.allow_code) for spec in options.to)}
    views = [(by, layer) for by in judges.values() for layer in (None, *dict.fromkeys(options.layer))]
    for by, layer in views:
        if layer is not None:
            refuse_layer(by.target, layer, "--layer")
    runs = work.first(work.subject)
    for run in runs:
        elites = Elites(run, allow_code=work.allow_code)
        who = (run.provenance["run_id"], elites.archive_hash)
        missing = work.missing([(*who, "")])
        if missing or options.export:
            family = _family(elites)
            if not family.placed["parent_ids"].map(len).any():
                work.leave_out(f"{run.path}: nobody in it has a parent, so there are no lines to follow.")
                continue
            if run.store.log.ancestors_from:
                work.leave_out(f"{run.path}: storage.history has dropped ancestors of its elites, so lines end early.")
                continue
            if missing:
                yield _of_run(family, options.window)
                work.tell(f"{run.path}: the lines of {len(elites.frame)} elites followed")
            if options.export:
                folder = Path(options.export) / (_folder(run, runs) if len(runs) > 1 else "")
                tables = family.people, family.placed, family.tree
                phylogeny.write(folder, run, elites.frame, *tables, allow_code=work.allow_code)
                work.tell(f"{run.path}: its ancestry is in {folder}")
        for by, layer in views:
            if work.missing([(*who, _view(by, layer))]):
                yield _seen(work, elites, by, layer)
                work.tell(
                    f"{run.path}: {len(elites.frame)} elites seen by {layer or 'the outputs'} of {by.target.spec}"
                )


def _folder(run: Run, runs: Sequence[Run]) -> str:
    """A name for a run's own folder: the run's, with what tells it from others of that name."""
    name = run.config.run_name
    alike = sum(other.config.run_name == name for other in runs) > 1
    return f"{name}-{run.provenance['run_id'][:6]}" if alike else name


def _family(elites: Elites) -> Family:
    """The tables of a run, up to the moment of its elites."""
    run, frame = elites.run, elites.frame
    last = int(frame["as_of_generation"].iloc[0])

    def read(store: RunStore) -> tuple[list[Facts], pd.DataFrame, bool]:
        placed = store.table("placements").select(PLACED).to_pandas(integer_object_nulls=True)
        return store.table("individuals").select(PEOPLE).to_pylist(), placed, not store.log.whole_from

    rows, placed, complete = read_steadily(run.store, read)
    people = {row["individual_id"]: row for row in rows}
    placed = placed[placed["generation"] <= last].reset_index(drop=True)
    placed["parent_ids"] = [people[one]["parent_ids"] for one in placed["individual_id"]]
    parents = {one: row["parent_ids"] for one, row in people.items()}
    tree = ancestry.first_parents(parents, frame["individual_id"])
    drawn = switches.drawn_cells(run.config, placed, run.provenance["cells"]) if complete else {}
    return Family(elites, placed, people, tree, drawn, complete)


def _of_run(family: Family, window: int) -> pd.DataFrame:
    """The rows of a run: one for each elite, then its figures."""
    frame = _elite_rows(family)
    head = {name: frame[name].iloc[0] for name in ("run_id", "as_of_generation", "target", "target_fingerprint")}
    head |= {"archive_hash": family.elites.archive_hash, "encoding": frame["encoding"].iloc[0]}
    figures = [*_descent(family, frame, window), *_lines(family, frame), *_kin(family, frame)]
    told = pd.DataFrame([{**head, "part": "figure", "class_name": "", **row} for row in figures])
    return _typed(pd.concat([frame.assign(part="elite"), told], ignore_index=True))


def _elite_rows(family: Family) -> pd.DataFrame:
    frame, people = family.elites.frame, family.people
    columns = [name for name in frame.columns if name in LINEAGE.names]
    images = [archived(row) for row in frame.to_dict("records")]
    lines = [ancestry.line(family.tree, int(one)) for one in frame["individual_id"]]
    roots = [people[ancestors[-1]] for ancestors in lines]
    _, taken = ancestry.takers(family.placed)
    indices = frame["class_index"].tolist()
    stones = [len({c for one in up[1:] for c in taken[one]} - {own}) for up, own in zip(lines, indices)]
    born = family.placed[family.placed["parent_ids"].map(len) > 0]
    origin = [family.drawn.get((one, 0), -1) for one in born["individual_id"]]
    cells = sorted(set(family.placed["cell"]))  # in whose order the elites are
    class_of = dict(zip(family.placed["cell"], family.placed["class_index"]))
    counts = [pd.Series([class_of[d] for c, d in zip(born["cell"], origin) if c == cell and d >= 0]) for cell in cells]
    counts = [series.value_counts().sort_index() for series in counts]
    synsets = _synsets(family)
    related = kinship.relatives(synsets)
    return frame[columns].assign(
        archive_hash=family.elites.archive_hash,
        to_fingerprint="",
        root_id=[ancestors[-1] for ancestors in lines],
        steps=[len(ancestors) - 1 for ancestors in lines],
        stepping_stones=stones,
        new_champions=[int((born["cell"] == cell).sum()) for cell in cells] if family.complete else None,
        children=[origin.count(cell) for cell in cells] if family.drawn else None,
        root_nodes=[root["nodes"] for root in roots],
        root_connections=[root["connections"] for root in roots],
        from_classes=[series.index.tolist() for series in counts],
        from_counts=[series.astype(float).tolist() for series in counts],
        super_class=related["super_class"],
        hypernym=related["hypernym"],
        across=[likeness.across(image) for image in images],
        pixels=[likeness.blurred(image) for image in images],
        spectrum=[likeness.spectrum(image) for image in images],
    )


def _synsets(family: Family) -> list[str | None]:
    """WordNet's ids of the elites' classes."""
    frame, facts = family.elites.frame, family.elites.run.provenance
    ids = dict(enumerate(facts.get("imagenet_ids") or []))
    return kinship.synset_of(frame["class_name"].tolist(), ids, frame["class_index"].tolist())


def _descent(family: Family, frame: pd.DataFrame, window: int) -> Iterator[Facts]:
    """New champions, goal switches by each definition, and how unequal parents are."""
    run, placed = family.elites.run, family.placed
    if not family.complete:
        return  # `storage.history` has dropped placements
    born = placed[placed["parent_ids"].map(len) > 0]
    champions = frame["new_champions"].to_numpy(dtype=float)
    yield _mean("new_champions", champions)
    descent = switches.descent(placed, run.config.search.lag, family.drawn, run.provenance["cells"])
    for by in ("first parent", "either parent")[: 1 + descent.crossed]:
        for row in switches.figures(descent, run.provenance["class_indices"], window, either=by == "either parent"):
            yield {**row, "by": by}
    parents = [int(p[0]) for p in born.drop_duplicates("individual_id")["parent_ids"]]
    everyone = set(placed["individual_id"].tolist())
    yield _share("fertile", len(set(parents)), len(everyone))
    each = np.sort(pd.Series(parents).value_counts().to_numpy())[::-1]
    most = each[: max(1, round(len(everyone) / 10))].sum()
    yield {"figure": "by_top_tenth", "value": float(most / each.sum()), "n": len(parents)}


def _lines(family: Family, frame: pd.DataFrame) -> Iterator[Facts]:
    """Figures of the lines of first parents."""
    yield _mean("steps", frame["steps"])
    yield _mean("stepping_stones", frame["stepping_stones"])
    for name in ("nodes", "connections"):
        if (frame[name] > 0).all():  # genomes of other kinds have none
            yield _mean(f"{name}_grown", frame[name].astype(float) - frame[f"root_{name}"].astype(float))
    last = int(frame["as_of_generation"].iloc[0])
    late = int((frame["generation"] > last - LATE * (last + 1)).sum())
    yield _share("late", late, len(frame))
    owners = frame["individual_id"].tolist()
    yield {"figure": "roots", "value": frame["root_id"].nunique(), "n": len(frame)}
    shared = kinship.common_ancestor(family.tree, owners)
    at = None if shared is None else family.people[shared]["generation"]
    yield {"figure": "common_ancestor_generation", "value": at, "n": len(frame)}
    yield {"figure": "diversity", "value": kinship.diversity(family.tree, owners), "n": len(frame)}


def _kin(family: Family, frame: pd.DataFrame) -> Iterator[Facts]:
    """Distances of kin, and how they go with WordNet."""
    owners = [int(one) for one in frame["individual_id"]]
    if len(owners) < 3:
        return
    generations = {one: int(family.people[one]["generation"]) for one in family.tree}
    apart = kinship.distances(family.tree, owners, generations)
    pairs = apart[np.triu_indices(len(owners), 1)]
    yield {"figure": "distance", "value": float(pairs.mean()), "n": len(pairs)}
    for relation in ("hypernym", "super_class"):
        for others_only in (False, True):
            found = kinship.closer(apart, frame[relation].tolist(), others_only=others_only)
            if found:
                whose = "pairs of two individuals" if others_only else "all pairs"
                yield {"figure": "siblings_apart", "of": relation, "by": whose, **found, "null": "classes permuted"}
    synsets = _synsets(family)
    if known := [i for i, one in enumerate(synsets) if one is not None]:
        unlike = kinship.path_distances([str(synsets[i]) for i in known])
        if len(known) > 2 and (found := kinship.mantel(apart[np.ix_(known, known)], unlike)):
            yield {"figure": "mantel", "of": "wordnet", "by": "all pairs", **found, "null": "classes permuted"}


def _mean(figure: str, values: pd.Series | NDArray[np.float64]) -> Facts:
    """A mean over elites or classes, with Student's interval."""
    numbers = np.asarray(values, dtype=float)
    low, high = mean_interval(numbers)
    return {"figure": figure, "value": float(numbers.mean()), "low": low, "high": high, "n": len(numbers)}


def _share(figure: str, count: int, n: int) -> Facts:
    low, high = wilson(count, n)
    return {"figure": figure, "value": count / n, "low": low, "high": high, "n": n}


def _view(by: OpenTarget, layer: str | None) -> str:
    """The column `to_fingerprint` of what a network, or a layer of it, makes of elites."""
    return by.fingerprint if layer is None else f"{by.fingerprint} {layer}"


def _seen(work: Work, elites: Elites, by: OpenTarget, layer: str | None) -> pd.DataFrame:
    """What another network makes of a run's elites: the log-odds of all its classes, or what a layer of it gives."""
    settings = settings_of(elites.run, work.pool)
    seen: list[NDArray[np.float32] | None] = [None] * len(elites.frame)
    with (
        cluster(settings, work.address),
        picture_pool(elites.run, by, settings, address=work.address, warn=work.tell) as pool,
    ):
        for answers, at, rows in passes(elites, by.target, VARIANTS[0], pool, layer):
            for place, row in zip(at, rows):
                seen[row] = answers.log_odds[place] if layer is None else answers[place]
    columns = [name for name in elites.frame.columns if name in LINEAGE.names]
    to = by.target.spec if layer is None else f"{layer} of {by.target.spec}"
    facts = {"archive_hash": elites.archive_hash, "to": to, "to_fingerprint": _view(by, layer)}
    return _typed(elites.frame[columns].assign(**facts, part="seen", seen=seen))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """All columns of the table, in types in which a value may be missing."""
    frame = frame.reindex(columns=LINEAGE.names)
    frame["to_fingerprint"] = frame["to_fingerprint"].fillna("")
    for field in LINEAGE:
        if pa.types.is_integer(field.type):
            frame[field.name] = pd.array(frame[field.name], dtype="Int64")
        elif pa.types.is_floating(field.type):
            frame[field.name] = pd.array(frame[field.name], dtype="Float64")
        else:
            frame[field.name] = frame[field.name].astype(object).where(frame[field.name].notna(), None)
    return frame


STUDY = Study(
    subject="runs",
    schema=LINEAGE,
    keys=("run_id", "archive_hash", "to_fingerprint"),
    rows=_rows,
    summarise=summarise,
    figure=figure,
    options=Options,
    things="runs",
    smoke=2,
    evaluates=True,
)
