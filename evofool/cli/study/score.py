"""`evofool study score`: any pictures, scored by a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from evofool.cli import options, output
from evofool.cli.options import cluster, file_path
from evofool.cli.study import study_app

if TYPE_CHECKING:
    from evofool.records import Facts

LISTED = 40  # pictures on the screen; the file has all


@study_app.command()
def score(
    images: Annotated[
        list[Path], Argument(metavar="IMAGES...", help="Pictures, or folders of them.", parser=file_path)
    ],
    target: Annotated[str, Option(help="As target.spec, e.g. efficientnet-lite:0.")],
    out: Annotated[Path, Option(help="Parquet file to write.", parser=file_path)] = Path("scores.parquet"),
    classes: Annotated[
        list[str] | None, Option(help="Class whose scores are kept, by name or index; may be repeated.")
    ] = None,
    geometry: options.Geometry = "native",
    crops: options.Crops = 1,
    returns: options.Output = "declared",
    pool: Annotated[str, Option(help="inline or ray.")] = "inline",
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """What does a network say of any pictures?

    Those that cannot be scored are named, and then the exit code is 2.
    """
    from evofool.studies import score as study

    address = cluster(address, insecure_cluster)
    request = study.Request(
        images, target, classes or "all", allow_code, geometry, crops, returns, pool=pool, address=address
    )
    result = study.score_to(out, request, output.tell)
    if as_json:
        output.print_json({"file": str(out), "pictures": result.rows, "left_out": result.left_out})
    else:
        rows = [_line(row) for row in result.rows[:LISTED]]
        output.table(["picture", "size", "top-1 class", "confidence", "entropy"], rows, {"confidence", "entropy"})
        more = f", {len(result.rows) - LISTED} of them not shown" if len(result.rows) > LISTED else ""
        print(f"\n{len(result.rows)} pictures{more}; all scores are in {output.plain(str(out))}")
    if result.left_out:
        output.tell(f"{len(result.left_out)} of {len(result.left_out) + len(result.rows)} left out")
        raise Exit(2)


def _line(row: Facts) -> list[str]:
    size = f"{row['width']} x {row['height']} {row['mode']}"
    scores = f"{row['top1_confidence']:.6f}", f"{row['entropy']:.3f}"
    return [row["path"], size, row["top1_class_name"], *scores]
