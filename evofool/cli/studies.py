"""`evofool transfer`, `matrix`, `score`, `table`: questions asked of runs and of pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from evofool.cli import options, output
from evofool.cli.options import app, cluster, run_path
from evofool.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from evofool.records import Facts

PoolName = Annotated[str | None, Option("--pool", help="inline or ray; the run's own evaluation.pool by default.")]
LISTED = 40  # pictures on the screen; the file has all
MEASURES = {
    "same_top1": "same answer as the source",
    "class_is_top1": "the answer is the evolved class",
    "both_99": ">= 0.99 by both",
    "both_9999": ">= 0.9999 by both",
    "source_surer": "source surer, of those with the same answer",
}


@app.command()
def transfer(
    path: options.RunPath,
    to: Annotated[list[str], Option(help="Target to show the elites to, as target.spec; may be repeated.")],
    pool: PoolName = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Score a run's elites with other networks, as archived and drawn anew at their size."""
    from evofool.studies import transfer as study
    from evofool.studies.shared.tables import table_path

    address = cluster(address, insecure_cluster)
    rows = study.transfer(path, to, pool=pool, address=address, allow_code=allow_code, tell=output.tell)
    summary = study.summarise(rows)
    file = table_path(path, "transfer")
    if as_json:
        output.print_json({"summary": summary, "rows": len(rows), "file": str(file)})
        return
    # Where the source is sure of all its elites, a summary of the sure ones would repeat that of all.
    totals = {(e["to_fingerprint"], e["variant"]): e["n"] for e in summary if e["elites"] == "all"}
    entries = [e for e in summary if e["elites"] == "all" or e["n"] < totals[e["to_fingerprint"], e["variant"]]]
    columns = ["to", "variant", "elites", "figure", "value", "95 % interval", "of"]
    output.table(columns, [line for entry in entries for line in _lines(entry)], numeric=columns[4:])
    print(f"\n{len(rows)} rows in {output.plain(str(file))}; intervals take elites for independent")


def _lines(entry: Facts) -> list[list[str]]:
    """The lines of one target, variant and choice of elites."""
    head = [entry["to"], entry["variant"], entry["elites"]]
    elites = f"{entry['n']} elites ({entry['individuals']} individuals)"
    lines = [["elites", elites, "", ""]]
    for name, text in (("without_class", "class unknown there"), ("not_finite", "no finite scores there")):
        if entry[name]:
            lines.append([text, str(entry[name]), "", str(entry["n"])])
    median = entry["median_confidence"]
    lines.append(["median confidence", "-" if median is None else f"{median:.6f}", "", ""])
    for name, text in MEASURES.items():
        share, interval = "-", ""
        if entry[name]["n"]:
            share, interval = f"{entry[name]['share']:.1%}", f"{entry[name]['low']:.1%} to {entry[name]['high']:.1%}"
        lines.append([text, share, interval, f"{entry[name]['count']} of {entry[name]['n']}"])
    return [[*head, *line] for line in lines]


@app.command()
def matrix(
    paths: Annotated[
        list[Path], Argument(metavar="RUN RUN...", help="Runs against at least two targets.", parser=run_path)
    ],
    variant: Annotated[str, Option(help="same_pixels: as archived; re_rendered: drawn at each size.")] = "same_pixels",
    out: Annotated[
        Path | None, Option(help="Heat map to write (.png); the numbers go beside it as .csv and .json.")
    ] = None,
    pool: PoolName = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Show the elites of every run to the network of every other."""
    if out is not None:
        from evofool.report.heatmap import heat_map, need_matplotlib

        if out.suffix != ".png":
            raise ConfigError(f"--out: {out} does not end in .png.")
        if not out.parent.is_dir():
            raise StorageError(f"--out: there is no folder {out.parent}; make it first.")
        need_matplotlib()
    from evofool.studies import transfer as study

    address = cluster(address, insecure_cluster)
    frame = study.matrix(paths, variant=variant, pool=pool, address=address, allow_code=allow_code, tell=output.tell)
    records = json.loads(frame.to_json(orient="records", double_precision=15))
    if out is not None:
        output.write(out, heat_map(frame))
        output.write_csv(out.with_suffix(".csv"), frame)
        output.write(out.with_suffix(".json"), (json.dumps(records, indent=1) + "\n").encode())
    if as_json:
        output.print_json(records)
        return
    names = list(dict.fromkeys(frame["to"]))
    titles = {"class_is_top1": "share whose class is the answer", "median_confidence": "median confidence of the class"}
    for column, title in titles.items():
        print(f"{title}; evolved on (rows), shown to (columns):")
        cells = {(r["source"], r["to"]): (r[column], r["n"]) for r in records}
        rows = [[name, *(_cell(*cells[name, other]) for other in names)] for name in names]
        output.table(["", *names], rows, numeric=names)
        print()
    if out is not None:
        print(f"{out}, {out.with_suffix('.csv').name}, {out.with_suffix('.json').name}")


def _cell(value: float | None, n: int) -> str:
    return "-" if value is None else f"{math.floor(value * 1e4) / 1e4:.4f} (n {n})"  # never rounded up to 1


@app.command()
def score(
    images: Annotated[list[Path], Argument(metavar="IMAGES...", help="Pictures, or folders of them.")],
    target: Annotated[str, Option(help="As target.spec, e.g. efficientnet-lite:0.")],
    out: Annotated[Path, Option(help="Parquet file to write.")] = Path("scores.parquet"),
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
    """Score any pictures with a target; what cannot be scored is named, and then the exit code is 2."""
    from evofool.studies import score

    address = cluster(address, insecure_cluster)
    request = score.Request(
        images, target, classes or "all", allow_code, geometry, crops, returns, pool=pool, address=address
    )
    result = score.score_to(out, request, output.tell)
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


@app.command()
def table(
    paths: Annotated[
        list[Path],
        Argument(metavar="RUN...", help="Runs; those with one config but the seed form a group.", parser=run_path),
    ],
    as_json: options.Json = False,
) -> None:
    """Runs side by side: median over runs, 95 % bootstrap interval, Mann-Whitney between groups."""
    from evofool.studies.compare import compare, summarise

    runs = compare(paths)
    if runs.empty:
        raise ConfigError("none of these runs has a commit yet.")
    summary, tests = summarise(runs)
    if as_json:
        records = json.loads(runs.to_json(orient="records", double_precision=15))
        output.print_json({"runs": records, "groups": summary, "tests": tests})
        return
    columns = ["run", "seed", "generations", "median", "minimum", "classes_9999", "median_at", "minimum_at"]
    _print_figures(columns, runs.to_dict("records"), columns[1:])
    columns = ["group", "runs", "figure", "median", "low", "high", "never"]
    print()
    _print_figures(columns, summary, columns[3:])
    if tests:
        print()
        _print_figures(["first", "second", "figure", "p"], tests, ["p"])


def _print_figures(columns: list[str], rows: list[Facts], numeric: list[str]) -> None:
    output.table(columns, [[output.figure(row[column]) for column in columns] for row in rows], numeric)
