"""The command line. Results go to stdout, progress and messages to stderr; errors end with their exit code.

Everything heavy is imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from evofool import output
from evofool.errors import ConfigError, EvofoolError, StorageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="evofool",
    help="Find images that a classifier is sure about and that mean nothing to a person.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at configurations.", no_args_is_help=True, rich_markup_mode=None)
train_app = typer.Typer(help="Train small networks to fool.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(train_app, name="train")

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. search.generations=50.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let a python: target run its code, this time.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster: HOST:PORT, auto or local. Default: RAY_ADDRESS, else one on this machine."),
]
NumericsChange = Annotated[
    bool,
    typer.Option("--allow-numerics-change", help="Go on though scores may get other bits; marked in the next commit."),
]


def main() -> None:
    """Run the command line; the exit code is that of the error (see errors.py)."""
    try:
        app()
    except EvofoolError as error:
        output.explain(error)
        sys.exit(error.exit_code)
    except OSError as error:
        output.explain(StorageError(f"{error.filename or 'input/output'}: {error.strerror or error}."))
        sys.exit(StorageError.exit_code)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    stack = ("evofool", "ray", "torch", "torchvision", "deap", "numpy", "pyarrow")
    print(", ".join(f"{name} {metadata.version(name)}" for name in stack))
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    pass


# -------------------------------------------------------------------------------------------------------- run, resume


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; storage.path/name by default.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds one after another, e.g. 1-5 or 1,3,8; the name must hold {seed}.")
    ] = None,
    resume: Annotated[str, typer.Option(help="auto: go on if the run is there; must; never.")] = "auto",
    seed_from: Annotated[
        list[Path] | None, typer.Option(help="Start from the elites of this run; may be repeated.")
    ] = None,
    address: Address = None,
    allow_code: AllowCode = False,
    allow_numerics_change: NumericsChange = False,
) -> None:
    """Run a search, or go on with one that is there."""
    from evofool.config import load_config
    from evofool.observers.progress import make_progress

    given = list(overrides or [])
    numbers: list[int | None] = [None]
    if seeds is not None:
        numbers = list(_seed_numbers(seeds))
        if out is not None or "{seed}" not in load_config(config, given).name:
            raise ConfigError(
                "--seeds needs {seed} in the name, and no --out; say for instance name=quickstart-{seed}."
            )
    settings = [load_config(config, given if n is None else [*given, f"seed={n}"]) for n in numbers]
    from evofool import runner

    for one in settings:
        finished = runner.run(
            one,
            out=out,
            resume=resume,
            seed_from=seed_from or [],
            address=address,
            allow_code=allow_code,
            allow_numerics_change=allow_numerics_change,
            observers=[make_progress(one.observers.progress)],
        )
        output.print_elites(finished, None, None)
        output.print_next(finished.path)


@app.command()
def resume(
    path: RunPath,
    overrides: Overrides = None,
    address: Address = None,
    allow_code: AllowCode = False,
    allow_numerics_change: NumericsChange = False,
) -> None:
    """Go on with a run; overrides may change stopping and operational keys, e.g. search.generations=500."""
    from evofool.config import load_config
    from evofool.observers.progress import make_progress
    from evofool.store.run import RunStore

    config = load_config(RunStore(path).config, list(overrides or []))
    from evofool import runner

    finished = runner.run(
        config,
        out=path,
        resume="must",
        address=address,
        allow_code=allow_code,
        allow_numerics_change=allow_numerics_change,
        observers=[make_progress(config.observers.progress)],
    )
    output.print_elites(finished, None, None)


@app.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Runs of one target and encoding.")],
    out: Annotated[Path, typer.Option(help="The new run directory.")],
    address: Address = None,
    allow_code: AllowCode = False,
) -> None:
    """Make a new run of the best elite of every class; every elite is scored again and keeps its origin."""
    from evofool import runner

    finished = runner.merge(paths, out, address=address, allow_code=allow_code)
    output.print_elites(finished, None, None)


def _seed_numbers(text: str) -> list[int]:
    try:
        numbers: list[int] = []
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers += range(int(first), int(last) + 1) if dash else [int(first)]
        if not numbers:
            raise ValueError
    except ValueError:
        raise ConfigError(f"--seeds: {text!r} is not a list of seeds such as 1-5 or 1,3,8.") from None
    return numbers


# ------------------------------------------------------------------------------------------------------------ reading


@app.command()
def status(path: RunPath, as_json: Json = False) -> None:
    """Counters of the last commit."""
    from evofool.store.reader import open_run

    run = open_run(path)
    data = run.status()
    sessions = run.provenance["sessions"]
    if sessions:
        data["last_session"] = {k: v for k, v in sessions[-1].items() if k not in ("versions", "cluster")}
    if as_json:
        output.print_json(data)
        return
    last = data.pop("last_session", {})
    output.table(["", ""], [[k, v] for k, v in [*data.items(), *((f"last session: {k}", v) for k, v in last.items())]])


@app.command()
def elites(
    path: RunPath,
    sort: Annotated[str, typer.Option(help="Column to sort by.")] = "class_index",
    limit: Annotated[int | None, typer.Option(help="Rows to print.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """The elites, one row for each class."""
    from evofool.store.reader import open_run

    run = open_run(path)
    if as_json:
        frame = output.sort_elites(run.elites(), sort)[:limit].drop(columns=["image", "genome"])
        output.print_json(frame.to_dict("records"))
        return
    output.print_elites(run, sort, limit)


@app.command()
def show(
    path: RunPath,
    class_: Annotated[str, typer.Argument(metavar="CLASS", help="Class name or output index.")],
    png: Annotated[Path | None, typer.Option(help="Write the picture to this file.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels; the archived image by default.", min=1, max=8192)
    ] = None,
    as_json: Json = False,
) -> None:
    """One elite: its figures, its picture in the terminal, and the classes its ancestors were elites of."""
    from evofool.store.reader import open_run

    run = open_run(path)
    row = run.elite(class_)
    lineage = run.lineage(int(row["individual_id"]))
    if png is not None:
        output.write(png, output.png(run.image(class_, size)))
    if as_json:
        kept = {k: v for k, v in row.items() if k not in ("image", "genome", "genome_json")}
        genome = json.loads(row["genome_json"])
        output.print_json({**kept, "genome": genome, "lineage": lineage.to_dict("records")})
        return
    facts = (
        "class_name",
        "confidence",
        "log_odds",
        "top1_class_index",
        "top1_confidence",
        "generation",
        "nodes",
        "connections",
    )
    output.table(["", ""], [[name, row[name]] for name in facts])
    if sys.stdout.isatty():
        output.console().print(output.half_blocks(run.image(class_, 28)))
    print(f"\n{len(lineage) - 1} ancestors; those that were elites, newest first:")
    rows = [
        [f"{a.individual_id:x}", a.generation, ", ".join(a.operators), ", ".join(a.classes), a.origin or ""]
        for a in lineage.head(20).itertuples()
    ]
    output.table(["individual", "generation", "made by", "took the cells of", "from run"], rows, numeric={"generation"})
    if len(lineage) > 20:
        print(f"and {len(lineage) - 20} more; --json lists all")


@app.command()
def verify(path: RunPath, allow_code: AllowCode = False, as_json: Json = False) -> None:
    """Prove the archive: checksums, hash chain, and every elite drawn and scored again, bit for bit."""
    from evofool.verification import verify as prove

    result = prove(path, allow_code=allow_code)
    if as_json:
        output.print_json(result)
        return
    print(
        f"{result['elites']} elites: {result['bit_for_bit']} bit for bit, {result['within_tolerance']} within 1e-4; "
        f"{result['commits']} commits, {result['generations']} generations\narchive_hash {result['archive_hash']}"
    )


@app.command()
def export(
    path: RunPath,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    size: Annotated[
        int | None, typer.Option(help="Side of the PNGs in pixels; the archived images by default.", min=1, max=8192)
    ] = None,
    sheet_only: Annotated[bool, typer.Option("--sheet-only", help="Only contact_sheet.png.")] = False,
) -> None:
    """Write a PNG for each class, elites.csv, genomes.jsonl and contact_sheet.png."""
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
        image = run.image(row["class_index"], size)
        output.write(out / f"{row['class_index']:04d}_{name}.png", output.png(image))
    output.write_csv(out / "elites.csv", frame.drop(columns=["image", "genome", "genome_json"]))
    output.write(out / "genomes.jsonl", "".join(f"{text}\n" for text in frame["genome_json"]).encode())
    print(f"{len(frame)} PNGs, elites.csv and genomes.jsonl in {out}")


@app.command()
def table(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs; those with one config but the seed form a group.")
    ],
    as_json: Json = False,
) -> None:
    """Runs side by side: median over runs, 95 % bootstrap interval, Mann-Whitney between groups."""
    from evofool.table import compare, summarise

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
        if any(t["p"] is None for t in tests):
            print("p-values need scipy: pip install 'evofool[stats]'")


# ------------------------------------------------------------------------------------------------ config, train, doctor


@config_app.command("show")
def config_show(config: ConfigPath, overrides: Overrides = None, as_json: Json = False) -> None:
    """The whole configuration with defaults and overrides, each key with its kind and description."""
    from evofool.config import flatten, key_table, load_config

    settings = load_config(config, list(overrides or []))
    if as_json:
        output.print_json(settings.model_dump())
        return
    values, section = flatten(settings), ""
    for key, (kind, _, description) in key_table().items():
        head, dot, name = key.rpartition(".")
        if head != section:
            section = head
            print(f"{head}:")
        print(f"{'  ' * bool(dot)}{name}: {json.dumps(values[key])}   # {kind}: {description}")


@config_app.command("schema")
def config_schema() -> None:
    """The JSON Schema of configurations, for editors."""
    from evofool.config import Config

    output.print_json(Config.model_json_schema())


@train_app.command("lenet")
def train_lenet(
    out: Annotated[Path, typer.Option(help="File to write (safetensors).")],
    dataset: Annotated[str, typer.Option(help="mnist-5k, mnist or fashion-mnist.")] = "mnist-5k",
    seed: Annotated[int, typer.Option(help="Of weights, order and the split of mnist-5k.", min=0)] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder with the idx files of mnist or fashion-mnist.")] = None,
    as_json: Json = False,
) -> None:
    """Train the paper's LeNet: one recipe, 12 epochs."""
    from evofool.targets.datasets import load_dataset
    from evofool.targets.train import train_lenet as train

    result = train(load_dataset(dataset, seed, data), seed, out, lambda line: print(line, file=sys.stderr))
    if as_json:
        output.print_json({**result, "file": str(out)})
        return
    print(f"{out}: {float(result['held_out_accuracy']):.2%} of {result['held_out_images']} held-out images right")


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Also look at this config's target.")
    ] = None,
    storage: Annotated[str, typer.Option(help="Folder runs are to be kept in.")] = "runs",
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """What of this machine would stand in the way of a run, and what to do about it."""
    from evofool.launch import examine

    findings = examine(str(config) if config else None, storage, allow_code)
    if as_json:
        output.print_json([vars(finding) for finding in findings])
    else:
        output.table(["", "", ""], [[f.subject, f.level, f.text + (f" -> {f.fix}" if f.fix else "")] for f in findings])
    if any(finding.level == "failure" for finding in findings):
        raise typer.Exit(1)
