"""`evofool ascend`: how fast, and how often, does following a network's gradient make it sure, beside evolution?

Nguyen et al. 2015 (section 3.9) climb from the mean picture and noise, and reach 99.99 % without a table of how often;
their code notes the steps at which a picture is first the answer, and first as sure as 0.9 and more. So does this. The
picture that is kept is the best in whole grey levels, scored as all pictures here are; the best of each class make a
run directory with genomes of pixels, so that whatever reads runs reads them.

The null is the start: the share of pictures that were so sure before the first step; and with --control climbs whose
every step has the size of the true one, and whose direction has its pixels exchanged.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from evofool.base.png import decode_png
from evofool.config import load_config
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.errors import ConfigError
from evofool.evaluate.opening import open_pool
from evofool.evaluate.problem import picture_problem
from evofool.records import Facts
from evofool.runs import runner
from evofool.store.files import read_json
from evofool.store.folders import check_place
from evofool.store.reader import Run, encoding_of, open_run
from evofool.store.rows import Seeds
from evofool.studies.shared.ascent_findings import CLIMB, CONTROL, EVOLUTION, figure, summarise
from evofool.studies.shared.ascent_rows import (
    ASCENT,
    KEYS,
    READS,
    Climb,
    Goal,
    rows_of,
    rows_of_evolution,
    same_network,
    table_of,
)
from evofool.studies.shared.canvases import Canvas, Cppns, Fourier, Pixels
from evofool.studies.shared.climbing import climb
from evofool.studies.shared.judging import Tell
from evofool.studies.shared.rules import Options, Rules
from evofool.studies.shared.tables import read_elites
from evofool.studies.study import Outcome, Study, Work, conduct
from evofool.targets.numerics import default_numerics
from evofool.targets.opening import OpenTarget, open_target, section_of
from evofool.targets.readout import readouts_of
from evofool.targets.specs import section_named
from evofool.targets.target import Target

__all__ = ["STUDY", "ascend"]


def ascend(
    target: str | Target,
    options: Options | None = None,
    *,
    out: str | Path = "runs/ascent",
    limit: int | None = None,
    pool: str | None = None,
    address: str | None = None,
    allow_code: bool = False,
    tell: Tell = lambda text: None,
) -> tuple[Outcome, Run | None]:
    """Climb, and make a run directory of the best picture of each class.

    Args:
        target: a spec as of `target.spec`, or a live target, which is copied.
        out: the run directory; the study's table, picture and facts are in its `_studies`.
        limit: the first few classes only.
        pool, address, allow_code, tell: as of `studies.study.conduct`.

    Returns:
        What came of the study, and the run; None where units were climbed to, which have no cells.

    Raises:
        ConfigError: an option that makes no sense, or `out` has another ascent.
        TargetError: the network has no gradient.
    """
    options, path = options or Options(), Path(out)
    options.refuse()
    if exists := check_place(path):
        _refuse_other(path, target, options, limit)
    outcome = conduct(
        "ascend",
        [target],  # type: ignore[list-item]  # a live target, in Python only
        options,
        out=path / "_studies",
        limit=limit,
        pool=pool,
        address=address,
        allow_code=allow_code,
        tell=tell,
    )
    if options.readout:
        return outcome, None
    opened = _opened(target, allow_code)
    table = pd.read_parquet(outcome.files[0], columns=[*KEYS, "class_index", "image"])
    mine = outcome.frame[outcome.frame["method"] == CLIMB][list(KEYS)]
    rows = mine.merge(table, on=list(KEYS), how="left", validate="one_to_one")
    seeds = _seeds(opened.target, [decode_png(image["bytes"], str(outcome.files[0])) for image in rows["image"]])
    if exists:
        run = open_run(path)
        if run.provenance.get("seeds_sha256") != seeds.sha256():
            raise _other(path)
        if run.status()["generation"] is not None:  # or it was killed before its pictures were scored
            return outcome, run
    config: Facts = {
        "name": "ascent",
        "target": {**opened.section.model_dump(), "classes": sorted(rows["class_index"].unique().tolist())},
        "encoding": {"kind": "direct", "colour": "grey" if opened.target.channels == 1 else "rgb"},
        "search": {"generations": 1},
        "evaluation": {"pool": pool or "inline"},
    }
    live = target if isinstance(target, Target) else None
    run = runner.run(
        config,
        target=live,
        out=path,
        resume="must" if exists else "never",
        address=address,
        allow_code=allow_code,
        progress=False,
        seeds=seeds,
    )
    return outcome, run


def _refuse_other(path: Path, target: str | Target, options: Options, limit: int | None) -> None:
    """Raise ConfigError unless a run at a place is what these arguments make, as far as its record tells."""
    record = path / "_studies" / f"ascend{'' if limit is None else f'-limit{limit}'}.json"
    facts = read_json(record) if record.is_file() else {}
    now, then = json.loads(json.dumps(asdict(options))), facts.get("options", {})
    same = all(now[name] == then.get(name) for name in now if name not in ("beside", "control", "batch"))
    if facts.get("subject") != [getattr(target, "spec", target)] or not same:
        raise _other(path)


def _other(path: Path) -> ConfigError:
    return ConfigError(f"{path}: has the pictures of another ascent, or of a search; give another --out.")


def _seeds(target: Target, images: list[NDArray[np.uint8]]) -> Seeds:
    """Direct genomes that draw pictures, each once."""
    encoding = DirectEncoding(*target.image_size, "grey" if target.channels == 1 else "rgb")
    genomes = (image.astype(np.float32) / np.float32(255) for image in images)
    blobs = list(dict.fromkeys(encoding.to_bytes(genome[None], 0) for genome in genomes))
    return Seeds(blobs, [""] * len(blobs))


def _opened(target: str | Target, allow_code: bool) -> OpenTarget:
    if isinstance(target, Target):
        return open_target(section_of(target), live=target)
    config = load_config({"target": section_named(target, "TARGET")})
    return open_target(config.target, allow_code=allow_code, key="TARGET")


def _rows(work: Work) -> Generator[pa.Table]:
    options: Options = work.options
    options.refuse()
    opened = _opened(work.subject, work.allow_code)
    goals = _goals(work, opened.target)
    others = [same_network(open_run(place), opened) for place in options.beside]
    climbs = [(goal, again) for goal in goals for again in range(options.restarts)]
    batches = [climbs[start : start + options.batch] for start in range(0, len(climbs), options.batch)]
    rules_id = _hash(options)
    todo: list[tuple[str, list[Climb]]] = []
    for method in (CLIMB, CONTROL) if options.control else (CLIMB,):
        for batch in batches:
            keys = [(method, opened.fingerprint, rules_id, goal.text, again) for goal, again in batch]
            missing = set(work.missing(keys))
            todo.append((method, [each for each, key in zip(batch, keys) if key in missing]))
    if todo := [(method, batch) for method, batch in todo if batch]:
        yield from _climbs(work, opened, todo, rules_id)
    for run in others:
        alike = sum(other.path.name == run.path.name for other in others) > 1
        yield from _of_evolution(work, run, str(run.path) if alike else run.path.name, opened, goals)


def _climbs(work: Work, opened: OpenTarget, todo: list[tuple[str, list[Climb]]], rules_id: str) -> Iterator[pa.Table]:
    """The rows of climbs, batch by batch."""
    options: Options = work.options
    readouts = readouts_of(opened.target, options.readout, "--readout") if options.readout else ()
    with _evaluators(work, opened, max(len(batch) for _, batch in todo)) as (pool, _, _):
        done, total = 0, sum(len(batch) for _, batch in todo)
        for method, batch in todo:
            began = time.monotonic()
            canvas = _canvas(work, opened.target, batch)
            addresses = [(goal.number, again) for goal, again in batch]
            track = climb(pool, canvas, options, addresses, readouts=readouts, shuffled=method == CONTROL)
            facts: Facts = {"method": method, "target": opened.target.spec, "target_fingerprint": opened.fingerprint}
            facts |= {"rules": options.named, "rules_id": rules_id, "steps": options.steps}
            yield table_of([{**facts, **row} for row in rows_of(batch, track, pool)])
            done += len(batch)
            work.tell(f"{done} of {total} climbs, these {len(batch)} in {time.monotonic() - began:.1f} s")


def _hash(options: Options) -> str:
    """A name (hex) for what decides a climb: the rules, and the CPPNs it begins with."""
    said = {each.name: getattr(options, each.name) for each in fields(Rules)}
    if options.genomes:
        run = open_run(options.genomes)
        said["genomes"] = f"{run.provenance['run_id']}:{run.archive_hash}"
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _goals(work: Work, target: Target) -> list[Goal]:
    options: Options = work.options
    if options.readout:
        readouts = readouts_of(target, options.readout, "--readout")
        return work.first(Goal(str(r), number, None, r.layer) for number, r in enumerate(readouts))
    names = set(target.class_names)
    asked = [int(c) if c.isdecimal() and c not in names else c for c in options.classes]
    indices = target.class_indices(asked or "all")
    return work.first(Goal(str(i), int(i), target.class_names[i]) for i in indices)


def _evaluators(work: Work, opened: OpenTarget, rows: int) -> AbstractContextManager[Any]:
    """A pool whose forward passes are as large as the batch, up to what suits the device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = min(rows, default_numerics(device, opened.target.family).micro_batch)
    evaluation = {"pool": work.pool or "inline", "micro_batch": size, "chunk": size}
    section = {"spec": "live"} if isinstance(work.subject, Target) else section_named(work.subject, "TARGET")
    problem = picture_problem(load_config({"target": section, "evaluation": evaluation}), opened)
    return open_pool(problem, address=work.address, warn=work.tell)


def _canvas(work: Work, target: Target, batch: list[Climb]) -> Canvas:
    options: Options = work.options
    if options.canvas != "cppn":
        kind = Pixels if options.canvas == "pixels" else Fourier
        return kind(target, options, [(goal.number, again) for goal, again in batch])
    run = open_run(options.genomes)
    encoding = encoding_of(run.store, work.allow_code)
    if not isinstance(encoding, CppnEncoding) or encoding.channels != target.channels:
        raise ConfigError(
            f"--genomes: {run.path} has no CPPNs with {target.channels} channel{'s' * (target.channels > 1)} to draw "
            f"for {target.spec}; give a run of encoding.kind=cppn against a network like it."
        )
    frame, _ = read_elites(run, allow_code=work.allow_code)
    holders = dict(zip(frame["class_name"], frame["individual_id"]))
    if lacking := [goal.class_name for goal, _ in batch if goal.class_name not in holders]:
        raise ConfigError(f"--genomes: {run.path} has no elite of {lacking[0]}; give --classes that it has.")
    ids = [int(holders[goal.class_name]) for goal, _ in batch]
    genomes = run.store.genomes(set(ids))
    height, width = target.image_size
    return Cppns(replace(encoding, height=height, width=width), encoding.from_bytes([genomes[i] for i in ids]))


def _of_evolution(work: Work, run: Run, name: str, opened: OpenTarget, goals: list[Goal]) -> Iterator[pa.Table]:
    """The rows of a run's classes that are climbed to, where they are not stored."""
    elites, archive_hash = read_elites(run, allow_code=work.allow_code)
    rules_id = f"{run.provenance['run_id']}:{archive_hash}"
    keys = {
        (EVOLUTION, opened.fingerprint, rules_id, goal.text, 0): goal
        for goal in goals
        if goal.number in set(elites["class_index"])
    }
    if missing := [keys[key] for key in work.missing(keys)]:
        facts = {"target": opened.target.spec, "target_fingerprint": opened.fingerprint, "rules_id": rules_id}
        yield table_of([{**facts, **row} for row in rows_of_evolution(run, name, elites, missing)])


STUDY = Study(
    subject="network",
    schema=ASCENT,
    keys=KEYS,
    rows=_rows,
    summarise=summarise,
    figure=figure,
    options=Options,
    things="classes or units",
    smoke=5,
    reads=READS,
    evaluates=True,
)
