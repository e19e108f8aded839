"""`evofool transfer`, `matrix`: questions asked of runs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evofool.cli import output
from evofool.cli.options import Address, AllowCode, Insecure, Json, RunPath, app, cluster, run_path
from evofool.errors import ConfigError, StorageError

__all__: list[str] = []

PoolName = Annotated[
    str | None, typer.Option("--pool", help="inline or ray; the run's own evaluation.pool by default.")
]
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
        path, to, pool=pool, address=cluster(address, insecure_cluster), allow_code=allow_code, tell=_tell
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


def _lines(entry: dict[str, Any]) -> list[list[str]]:
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
        paths, variant=variant, pool=pool, address=cluster(address, insecure_cluster), allow_code=allow_code, tell=_tell
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


def _tell(text: str) -> None:
    print(output.plain(text), file=sys.stderr)
