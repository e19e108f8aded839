"""`evofool export`: pictures, tables and genomes of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from evofool.cli import output
from evofool.cli.options import AllowCode, RunPath, app, file_path
from evofool.errors import ConfigError, StorageError


@app.command()
def export(
    path: RunPath,
    out: Annotated[Path, Option(help="Folder to write to.", parser=file_path)],
    size: Annotated[
        int | None, Option(help="Side of the PNGs in pixels; the archived images by default.", min=1, max=8192)
    ] = None,
    sheet_only: Annotated[bool, Option("--sheet-only", help="Only contact_sheet.png.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Write a PNG for each class, elites.csv, genomes.jsonl and contact_sheet.png."""
    from evofool.base.png import encode_png
    from evofool.base.sheets import png_name
    from evofool.report.sheet import contact_sheet
    from evofool.store.reader import open_run

    run = open_run(path)
    frame = run.elites(allow_code=allow_code)
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
        image = run.image(row["class_index"], size, allow_code=allow_code)
        output.write(out / png_name(row["class_index"], row["class_name"]), encode_png(image))
    output.write_csv(out / "elites.csv", frame.drop(columns=["image", "genome", "genome_json"]))
    output.write(out / "genomes.jsonl", "".join(f"{text}\n" for text in frame["genome_json"]).encode())
    print(f"{len(frame)} PNGs, elites.csv and genomes.jsonl in {out}")
