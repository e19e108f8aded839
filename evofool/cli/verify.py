"""`evofool verify`: is what a run directory says still true? And what is whole of a damaged one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from evofool.base.places import quoted
from evofool.cli import output
from evofool.cli.options import AllowCode, Json, RunPath, app, file_path


@app.command()
def verify(
    path: RunPath,
    replay: Annotated[
        int | None, Option(metavar="N", help="Also breed the first N generations again, and compare.", min=1)
    ] = None,
    salvage: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Of a damaged run, copy what is whole to DIR, a run that can be resumed.",
            parser=file_path,
        ),
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
    print(f"go on with: evofool resume {output.plain(quoted(saved.path))}")
