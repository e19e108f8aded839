"""`evofool status`, `elites`, `show`, `verify`, `export`: what reads runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.cli import output
from evofool.cli.options import AllowCode, Json, RunPath, app
from evofool.errors import ConfigError, StorageError


@app.command()
def status(path: RunPath, as_json: Json = False) -> None:
    """Counters of the last commit."""
    from evofool.store.reader import open_run

    run = open_run(path)
    counters, sessions = run.status(), run.provenance["sessions"]
    last = {k: v for k, v in sessions[-1].items() if k not in ("versions", "cluster")} if sessions else {}
    if as_json:
        output.print_json(counters | ({"last_session": last} if sessions else {}))
    else:
        output.table(["", ""], [*counters.items(), *((f"last session: {k}", v) for k, v in last.items())])


@app.command()
def elites(
    path: RunPath,
    sort: Annotated[str, Option(help="Column to sort by.")] = "class_index",
    limit: Annotated[int | None, Option(help="Rows to print.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """The elites, one row for each class."""
    from evofool.store.reader import open_run

    run = open_run(path)
    if as_json:
        frame = output.sort_elites(run.elites(), sort)[:limit].drop(columns=["image", "genome"])
        output.print_json(frame.to_dict("records"))
    else:
        output.print_elites(run, sort, limit)


@app.command()
def show(
    path: RunPath,
    class_: Annotated[str, Argument(metavar="CLASS", help="Class name or output index.")],
    png: Annotated[Path | None, Option(help="Write the picture to this file.")] = None,
    size: Annotated[int | None, Option(help="Side in pixels; the archived image by default.", min=1, max=8192)] = None,
    as_json: Json = False,
    allow_code: AllowCode = False,
) -> None:
    """One elite: its figures, its picture in the terminal, and the classes its ancestors were elites of."""
    from evofool.base.png import encode_png
    from evofool.store.reader import open_run

    run = open_run(path)
    row = run.elite(class_)
    lineage = run.lineage(int(row["individual_id"]))
    not_stored = lineage.attrs["evofool"]["not_kept"]
    if png is not None:
        output.write(png, encode_png(run.image(class_, size, allow_code=allow_code)))
    if as_json:
        record = {k: v for k, v in row.items() if k not in ("image", "genome", "genome_json")}
        record |= {"genome": json.loads(row["genome_json"]), "lineage": lineage.to_dict("records")}
        output.print_json(record | {"ancestors_not_kept": not_stored})
        return
    scores = ["class_name", "confidence", "log_odds", "top1_class_index", "top1_confidence"]
    output.table(["", ""], [(name, row[name]) for name in [*scores, "generation", "nodes", "connections"]])
    if sys.stdout.isatty():
        output.console().print(output.half_blocks(run.image(class_).tolist()))
    print(f"\n{len(lineage) - 1} ancestors; those that were elites, newest first:")
    rows = [
        [f"{a.individual_id:x}", a.generation, ", ".join(a.operators), ", ".join(a.classes), a.origin or ""]
        for a in lineage.head(20).itertuples()
    ]
    output.table(["individual", "generation", "made by", "took the cells of", "from run"], rows, numeric={"generation"})
    if len(lineage) > 20:
        print(f"and {len(lineage) - 20} more; --json lists all")
    if not_stored:
        print(f"it ends early: storage.history: elites has not kept {len(not_stored)} of the ancestors")


@app.command()
def verify(
    path: RunPath,
    replay: Annotated[
        int | None, Option(metavar="N", help="Also breed the first N generations again, and compare.", min=1)
    ] = None,
    salvage: Annotated[
        Path | None,
        Option(metavar="DIR", help="Of a damaged run, copy what is whole to DIR, a run that can be resumed."),
    ] = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Prove the archive: checksums, hash chain, and every elite drawn and scored again, bit for bit."""
    if salvage is not None:
        _salvage(path, salvage, as_json)
        return
    from evofool.runs.verify import verify as prove

    result = prove(path, replay=replay or 0, allow_code=allow_code)
    if as_json:
        output.print_json(result)
        return
    whole = result["placements_from"]
    print(
        f"{result['elites']} elites: {result['bit_for_bit']} bit for bit, {result['within_tolerance']} within 1e-4; "
        f"{result['commits']} commits, {result['generations']} generations"
        + (f", {result['replayed']} of them bred again" if replay else "")
        + (f" from generation {result['replayed_from']} on" if result["replayed_from"] else "")
        + (f"\nplacements are whole from generation {whole} on (storage.history)" if whole else "")
        + f"\narchive_hash {result['archive_hash']}"
    )


def _salvage(path: Path, out: Path, as_json: bool) -> None:
    from evofool.store.salvage import salvage

    saved = salvage(path, out)
    if as_json:
        output.print_json(vars(saved))
        return
    print(f"{saved.commits} commits, {saved.generations} generations, archive_hash {saved.archive_hash}")
    print(f"what stands in the way of more: {saved.reason}" if saved.reason else "nothing is damaged; this is a copy")
    print(f"go on with: evofool resume {saved.path}")


@app.command()
def export(
    path: RunPath,
    out: Annotated[Path, Option(help="Folder to write to.")],
    size: Annotated[
        int | None, Option(help="Side of the PNGs in pixels; the archived images by default.", min=1, max=8192)
    ] = None,
    sheet_only: Annotated[bool, Option("--sheet-only", help="Only contact_sheet.png.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Write a PNG for each class, elites.csv, genomes.jsonl and contact_sheet.png."""
    from evofool.base.png import encode_png
    from evofool.report.sheet import contact_sheet
    from evofool.store.reader import open_run

    run = open_run(path)
    frame = run.elites()
    if frame.empty:
        raise ConfigError(f"{path}: has no elites yet.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        contact_sheet(frame).save(out / "contact_sheet.png")
    except OSError as error:
        raise StorageError(f"--out: {out} cannot be written ({error.strerror or error}).") from None
    print(out / "contact_sheet.png")
    if sheet_only:
        return
    for row in frame.to_dict("records"):
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in row["class_name"])[:40]
        image = run.image(row["class_index"], size, allow_code=allow_code)
        output.write(out / f"{row['class_index']:04d}_{name}.png", encode_png(image))
    output.write_csv(out / "elites.csv", frame.drop(columns=["image", "genome", "genome_json"]))
    output.write(out / "genomes.jsonl", "".join(f"{text}\n" for text in frame["genome_json"]).encode())
    print(f"{len(frame)} PNGs, elites.csv and genomes.jsonl in {out}")
