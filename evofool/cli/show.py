"""`evofool show`: one elite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.cli import completion, output
from evofool.cli.options import AllowCode, Json, RunPath, app, file_path

ANCESTORS = 20  # that are printed


@app.command()
def show(
    path: RunPath,
    class_: Annotated[
        str, Argument(metavar="CLASS", help="Class name or output index.", autocompletion=completion.classes)
    ],
    png: Annotated[Path | None, Option(help="Write the picture to this file.", parser=file_path)] = None,
    size: Annotated[int | None, Option(help="Side in pixels; the archived image by default.", min=1, max=8192)] = None,
    as_json: Json = False,
    allow_code: AllowCode = False,
) -> None:
    """One elite: its figures, its picture in the terminal, and the classes its ancestors were elites of."""
    from evofool.base.png import encode_png
    from evofool.store.reader import open_run

    run = open_run(path)
    row = run.elite(class_, allow_code=allow_code)
    lineage = run.lineage(int(row["individual_id"]))
    not_stored = lineage.attrs["evofool"]["not_kept"]
    if png is not None:
        image = run.image(class_, size, allow_code=allow_code)
        output.write(png, encode_png(image))
        output.tell(f"{png}: {image.shape[0]} x {image.shape[1]} pixels")
    if as_json:
        record = {k: v for k, v in row.items() if k not in ("image", "genome", "genome_json")}
        record |= {"genome": json.loads(row["genome_json"]), "lineage": lineage.to_dict("records")}
        output.print_json(record | {"ancestors_not_kept": not_stored})
        return
    elite, ancestors = next(lineage.itertuples()), lineage[1:]
    names = dict(zip(run.provenance["class_indices"], run.provenance["class_names"]))
    answer = names.get(row["top1_class_index"], f"output {row['top1_class_index']}, no class of this run")
    figures = [
        ("class", row["class_name"]),
        ("confidence", output.number(row["confidence"])),
        ("log-odds", output.number(row["log_odds"])),
        ("the network's answer", f"{answer} ({output.number(row['top1_confidence'])})"),
        *((name, row[name]) for name in ("generation", "nodes", "connections")),
        ("individual", elite.individual_id),
        ("made by", ", ".join(elite.operators)),
        ("took the cells of", ", ".join(elite.classes)),
        *([("from run", elite.origin)] if elite.origin else []),
    ]
    output.table(["", ""], figures)
    if sys.stdout.isatty():
        output.console().print(output.half_blocks(run.image(class_, allow_code=allow_code).tolist()))
    print(f"\n{_counted(len(ancestors), bool(not_stored))}")
    columns = ["individual", "generation", "made by", "took the cells of", "from run"]
    rows = [
        [a.individual_id, a.generation, ", ".join(a.operators), ", ".join(a.classes), a.origin or ""]
        for a in ancestors.head(ANCESTORS).itertuples()
    ]
    if rows:
        shown = columns if any(row[-1] for row in rows) else columns[:-1]  # mostly none comes from another run
        output.table(shown, [row[: len(shown)] for row in rows], numeric={"individual", "generation"})
    if len(ancestors) > ANCESTORS:
        print(f"and {len(ancestors) - ANCESTORS} more; --json lists all")
    if not_stored:
        print(f"it ends early: storage.history: elites has not kept {len(not_stored)} of the ancestors")


def _counted(ancestors: int, some_are_dropped: bool) -> str:
    if not ancestors:
        return f"no ancestors{' are kept' if some_are_dropped else ': it is one of those that the run began with'}"
    return f"{ancestors} ancestor{'s' * (ancestors > 1)}, newest first:"
