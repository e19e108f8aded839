"""`evofool study transfer`: elites shown to other networks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evofool.cli import options, output
from evofool.cli.options import cluster, file_path, run_path
from evofool.cli.study import study_app
from evofool.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from evofool.records import Facts

PoolName = Annotated[str | None, Option("--pool", help="inline or ray; the run's own evaluation.pool by default.")]


MEASURES = {
    "same_top1": "same answer as the source",
    "class_is_top1": "the answer is the evolved class",
    "both_99": ">= 0.99 by both",
    "both_9999": ">= 0.9999 by both",
    "source_surer": "source surer, of those with the same answer",
}


@study_app.command()
def transfer(
    paths: Annotated[
        list[Path],
        Argument(metavar="RUN...", help="One run with --to, or several against at least two targets.", parser=run_path),
    ],
    to: Annotated[
        list[str] | None, Option(help="Target to show the run's elites to, as target.spec; may be repeated.")
    ] = None,
    variant: Annotated[
        str, Option(help="Of several runs: same_pixels, as archived, or re_rendered, drawn at each size.")
    ] = "same_pixels",
    out: Annotated[
        Path | None,
        Option(help="Of several runs: heat map to write (.png); .csv and .json go beside it.", parser=file_path),
    ] = None,
    pool: PoolName = None,
    address: options.Address = None,
    insecure_cluster: options.Insecure = False,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Are other networks as sure of the elites?

    Of one run: the networks that --to names, with the elites as archived and drawn anew at their size. Of several runs:
    the network of every other run.
    """
    address = cluster(address, insecure_cluster)
    if to and len(paths) == 1 and out is None:
        _to_others(paths[0], to, pool, address, allow_code, as_json)
    elif not to and len(paths) > 1:
        _among_runs(paths, variant, out, pool, address, allow_code, as_json)
    else:
        raise ConfigError("RUN...: give one run with --to TARGET and no --out, or several runs and no --to.")


def _to_others(
    path: Path, to: list[str], pool: str | None, address: str | None, allow_code: bool, as_json: bool
) -> None:
    """Score a run's elites with other networks, as archived and drawn anew at their size."""
    from evofool.studies import transfer as study
    from evofool.studies.shared.tables import table_path

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


def _among_runs(
    paths: list[Path],
    variant: str,
    out: Path | None,
    pool: str | None,
    address: str | None,
    allow_code: bool,
    as_json: bool,
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
