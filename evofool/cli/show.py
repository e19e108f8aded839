"""`evofool show`: one elite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.cli import completion, output
from evofool.cli.options import AllowCode, Json, RunPath, app, file_path


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
        output.write(png, encode_png(run.image(class_, size, allow_code=allow_code)))
    if as_json:
        record = {k: v for k, v in row.items() if k not in ("image", "genome", "genome_json")}
        record |= {"genome": json.loads(row["genome_json"]), "lineage": lineage.to_dict("records")}
        output.print_json(record | {"ancestors_not_kept": not_stored})
        return
    scores = ["class_name", "confidence", "log_odds", "top1_class_index", "top1_confidence"]
    output.table(["", ""], [(name, row[name]) for name in [*scores, "generation", "nodes", "connections"]])
    if sys.stdout.isatty():
        output.console().print(output.half_blocks(run.image(class_, allow_code=allow_code).tolist()))
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
