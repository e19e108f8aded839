"""`evofool transfer`, `matrix`, `score`, `table`: questions asked of runs and of pictures."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from evofool.cli import output
from evofool.cli.options import Address, AllowCode, Insecure, Json, RunPath, app, cluster, run_path
from evofool.errors import ConfigError, StorageError
from evofool.records import Facts

__all__: list[str] = []

PoolName = Annotated[
    str | None, typer.Option("--pool", help="inline or ray; the run's own evaluation.pool by default.")
]
SHOWN = 40  # pictures listed on the screen; the file has all
MEASURES = {
    "same_top1": "same answer as the source",
    "class_is_top1": "the answer is the evolved class",
    "both_99": ">= 0.99 by both",
    "both_9999": ">= 0.9999 by both",
    "source_surer": "source surer, of those with the same answer",
}


@app.command()
def transfer(
    path: RunPath,
    to: Annotated[list[str], typer.Option(help="Target to show the elites to, as target.spec; may be repeated.")],
    pool: PoolName = None,
    address: Address = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Score a run's elites with other networks, as archived and drawn anew at their size."""
    from evofool.studies import transfer as study
    from evofool.studies.shared.tables import table_path

    rows = study.transfer(
        path, to, pool=pool, address=cluster(address, insecure_cluster), allow_code=allow_code, tell=output.tell
    )
    summary = study.summarise(rows)
    file = table_path(path, "transfer")
    if as_json:
        output.print_json({"summary": summary, "rows": len(rows), "file": str(file)})
        return
    # Where the source is sure of all its elites, the second half would only repeat the first.
    wholes = {(e["to_fingerprint"], e["variant"]): e["n"] for e in summary if e["elites"] == "all"}
    shown = [e for e in summary if e["elites"] == "all" or e["n"] < wholes[e["to_fingerprint"], e["variant"]]]
    columns = ["to", "variant", "elites", "figure", "value", "95 % interval", "of"]
    output.table(columns, [line for entry in shown for line in _lines(entry)], numeric=set(columns[4:]))
    print(f"\n{len(rows)} rows in {output.plain(str(file))}; intervals take elites for independent")


def _lines(entry: Facts) -> list[list[str]]:
    """The lines of one target, variant and choice of elites."""
    head = [entry["to"], entry["variant"], entry["elites"]]
    elites = f"{entry['n']} elites ({entry['individuals']} individuals)"
    lines = [[*head, "elites", elites, "", ""]]
    for name, text in (("without_class", "class unknown there"), ("not_finite", "no finite scores there")):
        if entry[name]:
            lines.append([*head, text, str(entry[name]), "", str(entry["n"])])
    median = entry["median_confidence"]
    lines.append([*head, "median confidence", "-" if median is None else f"{median:.6f}", "", ""])
    for name, text in MEASURES.items():
        share = entry[name]
        if share["n"]:
            interval = f"{share['low']:.1%} to {share['high']:.1%}"
            lines.append([*head, text, f"{share['share']:.1%}", interval, f"{share['count']} of {share['n']}"])
        else:
            lines.append([*head, text, "-", "", "0 of 0"])
    return lines


@app.command()
def matrix(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Runs against at least two targets.", parser=run_path)
    ],
    variant: Annotated[str, typer.Option(help="same_pixels: as archived; re_rendered: drawn at each size.")] = (
        "same_pixels"
    ),
    out: Annotated[
        Path | None, typer.Option(help="Heat map to write (.png); the numbers go beside it as .csv and .json.")
    ] = None,
    pool: PoolName = None,
    address: Address = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Show the elites of every run to the network of every other."""
    if out is not None:
        from evofool.report.heatmap import need_matplotlib

        if out.suffix != ".png":
            raise ConfigError(f"--out: {out} does not end in .png.")
        if not out.parent.is_dir():
            raise StorageError(f"--out: there is no folder {out.parent}; make it first.")
        need_matplotlib()
    from evofool.studies import transfer as study

    frame = study.matrix(
        paths,
        variant=variant,
        pool=pool,
        address=cluster(address, insecure_cluster),
        allow_code=allow_code,
        tell=output.tell,
    )
    records = json.loads(frame.to_json(orient="records", double_precision=15))
    if out is not None:
        from evofool.report.heatmap import heat_map

        output.write(out, heat_map(frame))
        output.write_csv(out.with_suffix(".csv"), frame)
        output.write(out.with_suffix(".json"), (json.dumps(records, indent=1) + "\n").encode())
    if as_json:
        output.print_json(records)
        return
    names = list(dict.fromkeys(frame["to"]))
    for column, title in (
        ("class_is_top1", "share whose class is the answer"),
        ("median_confidence", "median confidence of the class"),
    ):
        print(f"{title}; evolved on (rows), shown to (columns):")
        cells = {(r["source"], r["to"]): (r[column], r["n"]) for r in records}
        rows = [[name, *(_cell(*cells[name, other]) for other in names)] for name in names]
        output.table(["", *names], rows, numeric=set(names))
        print()
    if out is not None:
        print(f"{out}, {out.with_suffix('.csv').name}, {out.with_suffix('.json').name}")


def _cell(value: float | None, n: int) -> str:
    return "-" if value is None else f"{math.floor(value * 1e4) / 1e4:.4f} (n {n})"  # never rounded up to 1


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of them.")],
    target: Annotated[str, typer.Option(help="As target.spec, e.g. efficientnet-lite:0.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("scores.parquet"),
    classes: Annotated[
        list[str] | None, typer.Option(help="Class whose scores are kept, by name or index; may be repeated.")
    ] = None,
    geometry: Annotated[str, typer.Option(help="native or published, as target.geometry.")] = "native",
    crops: Annotated[int, typer.Option(help="1 or 10, as target.crops.")] = 1,
    returns: Annotated[
        str, typer.Option("--output", help="declared, logits, probabilities or log_probabilities, as target.output.")
    ] = "declared",
    pool: Annotated[str, typer.Option(help="inline or ray.")] = "inline",
    address: Address = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Score any pictures with a target; what cannot be scored is named, and then the exit code is 2."""
    from evofool.studies import score

    request = score.Request(
        images,
        target,
        classes or "all",
        allow_code,
        geometry,
        crops,
        returns,
        pool=pool,
        address=cluster(address, insecure_cluster),
    )
    result = score.score_to(out, request, output.tell)
    if as_json:
        output.print_json({"file": str(out), "pictures": result.rows, "left_out": result.left_out})
    else:
        rows = [_line(row) for row in result.rows[:SHOWN]]
        output.table(["picture", "size", "top-1 class", "confidence", "entropy"], rows, {"confidence", "entropy"})
        more = f", {len(result.rows) - SHOWN} of them not shown" if len(result.rows) > SHOWN else ""
        print(f"\n{len(result.rows)} pictures{more}; all scores are in {output.plain(str(out))}")
    if result.left_out:
        print(f"{len(result.left_out)} of {len(result.left_out) + len(result.rows)} left out", file=sys.stderr)
        raise typer.Exit(2)


def _line(row: Facts) -> list[str]:
    size = f"{row['width']} x {row['height']} {row['mode']}"
    sure = f"{row['top1_confidence']:.6f}"
    return [row["path"], size, row["top1_class_name"], sure, f"{row['entropy']:.3f}"]


@app.command()
def table(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Runs; those with one config but the seed form a group.", parser=run_path
        ),
    ],
    as_json: Json = False,
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
    shown = ["run", "seed", "generations", "median", "minimum", "classes_9999", "median_at", "minimum_at"]
    output.table(shown, [[output.figure(r[c]) for c in shown] for r in runs.to_dict("records")], numeric=set(shown[1:]))
    print()
    columns = ["group", "runs", "figure", "median", "low", "high", "never"]
    output.table(columns, [[output.figure(r[c]) for c in columns] for r in summary], numeric=set(columns[3:]))
    if tests:
        print()
        output.table(
            ["first", "second", "figure", "p"], [[output.figure(t[c]) for c in t] for t in tests], numeric={"p"}
        )
