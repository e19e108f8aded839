"""`evofool show`: one elite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from evofool.cli import completion, output
from evofool.cli.options import AllowCode, Json, RunPath, app, file_path
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.records import Facts
    from evofool.store.reader import Run

_NAMED = {"confidence": "confidence", "log_odds": "log-odds", "objective": "activation"}
ANCESTORS = 20  # that are printed
FORMATS = ("png", "svg", "python")


@app.command()
def show(
    path: RunPath,
    class_: Annotated[
        str, Argument(metavar="CLASS", help="Class name or output index.", autocompletion=completion.classes)
    ],
    png: Annotated[Path | None, Option(help="Write the picture to this file.", parser=file_path)] = None,
    size: Annotated[int | None, Option(help="Side in pixels; the archived image by default.", min=1, max=8192)] = None,
    format_: Annotated[
        str | None,
        Option(
            "--format",
            help="Print nothing but the elite as png (the picture), svg (the network of a CPPN) or python (a program "
            "that draws the picture of a CPPN, with numpy alone).",
        ),
    ] = None,
    as_json: Json = False,
    allow_code: AllowCode = False,
) -> None:
    """One elite: its figures, its picture in the terminal, and the classes its ancestors were elites of."""
    from evofool.base.png import encode_png
    from evofool.store.reader import answers, open_run

    if format_ not in (None, *FORMATS):
        raise ConfigError(f"--format: {format_!r} is none; say {', '.join(FORMATS)}.")
    if format_ and (as_json or png is not None):
        raise ConfigError("--format prints nothing but the elite; leave out --json and --png.")
    if format_ == "png" and sys.stdout.isatty():
        raise ConfigError("--format png: a terminal shows no PNG; add > FILE, or say --png FILE.")
    run = open_run(path)
    row = run.elite(class_, allow_code=allow_code)
    if format_:
        _print_as(format_, run, row, size, allow_code)
        return
    lineage = run.lineage(int(row["individual_id"]))
    not_stored = lineage.attrs["evofool"]["not_kept"]
    if png is not None:
        image = run.image(class_, size, allow_code=allow_code)
        output.write(png, encode_png(image))
        output.tell(f"{png}: {image.shape[0]} x {image.shape[1]} pixels")
    if as_json:
        kept = {k: v for k, v in row.items() if k not in ("image", "genome", "genome_json")}
        record = {k: None if isinstance(v, float) and v != v else v for k, v in kept.items()}
        record |= {"genome": json.loads(row["genome_json"]), "lineage": lineage.to_dict("records")}
        output.print_json(record | {"ancestors_not_kept": not_stored})
        return
    elite, ancestors = next(lineage.itertuples()), lineage[1:]
    names, units = run.output_names, run.store.cells.units
    first, *others = answers(row)
    told = ("objective",) if units else ("confidence", "log_odds")
    figures = [
        ("unit" if units else "class", row["class_name"]),
        *((_NAMED[name], output.number(row[name])) for name in told),
        ("the network's answer", _answer(first, names)),
        *([("and then", ", ".join(_answer(other, names) for other in others))] if others else []),
        *((name, row[name]) for name in ("generation", "nodes", "connections")),
        ("individual", elite.individual_id),
        ("made by", ", ".join(elite.operators)),
        ("took the cells of", ", ".join(elite.classes)),
        *([("from run", elite.origin)] if elite.origin else []),
    ]
    output.table(["", ""], figures)
    if sys.stdout.isatty():
        from evofool.report.screen import half_blocks

        output.console().print(half_blocks(run.image(class_, allow_code=allow_code)))
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


def _print_as(format_: str, run: Run, row: Facts, size: int | None, allow_code: bool) -> None:
    """Print an elite in one of FORMATS."""
    from evofool.base.png import encode_png
    from evofool.base.provenance import versions

    name, run_name = row["class_name"], run.config.run_name
    if format_ == "png":
        sys.stdout.buffer.write(encode_png(run.image(row["class_index"], size, allow_code=allow_code)))
    elif format_ == "svg":
        from evofool.report.graph import network_svg

        print(network_svg(row["genome_json"], f"The network that draws {name}, of {run_name}", size))
    else:
        from evofool.report.drawn import python_text

        units = run.store.cells.units
        told = f"activation {output.number(row['objective'])}" if units else f"{output.number(row['confidence'])} sure"
        about = (
            f"{name} ({told}), of the run {run_name}, individual "
            f"{row['individual_id']}; written by evofool {versions()['evofool']}"
        )
        is_portable = run.config.encoding.arithmetic == "portable"
        shape = (size, size) if size else None
        print(python_text(row["genome_json"], is_portable=is_portable, size=shape, about=about), end="")


def _answer(answer: Facts, names: dict[int, str]) -> str:
    """A class that a network gives, and how sure it is."""
    index = answer["class_index"]
    return f"{names.get(index, f'output {index}')} ({output.number(answer['confidence'])})"


def _counted(ancestors: int, some_are_dropped: bool) -> str:
    if not ancestors:
        return f"no ancestors{' are kept' if some_are_dropped else ': it is one of those that the run began with'}"
    return f"{ancestors} ancestor{'s' * (ancestors > 1)}, newest first:"
