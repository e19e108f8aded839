"""What the command line prints and writes: tables, JSON, pictures as text, files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evofool.errors import ConfigError, EvofoolError, StorageError
from evofool.store.remote.working_copy import named


def explain(error: EvofoolError) -> None:
    """Print an error: what, what is safe, how to go on."""
    print(f"evofool: {plain(error.message)}", file=sys.stderr)
    if error.safe:
        print(f"on disk: {plain(error.safe)}", file=sys.stderr)
    if error.go_on:
        print(f"go on with: {plain(error.go_on)}", file=sys.stderr)


def tell(text: str) -> None:
    """Print a sentence of progress, or a warning."""
    print(plain(text), file=sys.stderr)


def plain(text: str) -> str:
    """Foreign text without terminal control characters, and with URLs in the place of their working copies."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in named(text))


def console() -> Console:
    """Where results are printed: stdout, without colours or folding where that is no terminal."""
    # Away from a terminal nothing is folded, so that lines can be searched and cut.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)


def print_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=1, default=plain_value, allow_nan=False))


def plain_value(value: Any) -> Any:
    """numpy and pandas values as JSON's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def table(columns: list[str], rows: list[list[Any]], numeric: set[str] | None = None) -> None:
    """Print a table; columns in `numeric` are aligned to the right."""
    shown = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        shown.add_column(column, justify="right" if column in (numeric or set()) else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(plain(str(value))) for value in row))
    out = console()
    if sys.stdout.isatty():
        out.print(shown)
        return
    with out.capture() as captured:
        out.print(shown)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def sort_elites(frame: Any, column: str) -> Any:
    """Rows by a column, the surest first.

    Raises:
        ConfigError: no such column, or one without an order.
    """
    if column not in frame.columns:
        raise ConfigError(f"--sort: no column {column!r}; columns are {', '.join(frame.columns)}.")
    if column in ("image", "genome", "parent_ids", "operators"):
        raise ConfigError(f"--sort: {column} has no order.")
    return frame.sort_values(column, ascending=column not in ("confidence", "log_odds"), kind="stable")


def print_elites(run: Any, sort: str | None, limit: int | None) -> None:
    """Print the table of elites and a line of counters."""
    from evofool.report.sheet import percent

    frame = run.elites()
    rows = [
        [
            r.class_name,
            percent(r.confidence),
            f"{r.log_odds:.2f}",
            r.generation,
            r.nodes,
            r.connections,
            r.individual_id,
        ]
        for r in sort_elites(frame, sort or "class_index")[:limit].itertuples()
    ]
    for row in rows:
        row[-1] = f"{row[-1]:x}"
    columns = ["class", "confidence", "log-odds", "generation", "nodes", "connections", "individual"]
    table(columns, rows, numeric=set(columns[1:]))
    history = run.history()
    if len(history):
        s = history.iloc[-1]
        console().print(
            f"{int(s['filled'])} of {run.provenance['cells']} classes filled, median {s['median']:.6f}, minimum "
            f"{s['minimum']:.6f}, >= 0.99: {int(s['classes_99'])}, >= 0.9999: {int(s['classes_9999'])}, "
            f"{int(s['evaluations'])} evaluations in {int(s['generation']) + 1} generations"
        )


def print_next(path: Path) -> None:
    """Print what to do with a run."""
    where = escape(plain(str(path)))
    console().print(
        f"\nThe archive is in {where}. What next:\n"
        f"  python -c \"import pandas; print(pandas.read_parquet('{where}/elites').head())\"\n"
        f"  evofool show {where} CLASS             one elite, its picture and its ancestors\n"
        f"  evofool export {where} --out pictures  PNGs, CSV and a contact sheet\n"
        f"  evofool resume {where} search.generations=1000\n"
        "  evofool run CONFIG target.spec=python:mynet.py:build --allow-code    another network"
    )


def half_blocks(image: Any) -> Any:
    """A picture as text: two pixels to a character."""
    from rich.text import Text

    text = Text()
    for top, bottom in zip(image[0::2], image[1::2]):
        for upper, lower in zip(top, bottom):
            colours = ["#{:02x}{:02x}{:02x}".format(*(p if len(p) == 3 else list(p) * 3)) for p in (upper, lower)]
            text.append("▀", style=f"{colours[0]} on {colours[1]}")
        text.append("\n")
    return text


def png(image: Any) -> bytes:
    """PNG bytes of an image."""
    from evofool.base.png import encode_png

    return encode_png(image)


def write(path: Path, data: bytes) -> None:
    """Write a file the user asked for."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}).") from None


def write_csv(path: Path, frame: Any) -> None:
    """Write a DataFrame as CSV that a spreadsheet may open."""

    def cell(value: Any) -> Any:
        if isinstance(value, str):
            # A spreadsheet would run a text that begins so as a formula.
            return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value
        return " ".join(map(str, value)) if hasattr(value, "__len__") else value

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(frame.columns)
        writer.writerows([cell(value) for value in row] for row in frame.itertuples(index=False))


def figure(value: Any) -> str:
    """A number of a table of runs; what is missing never happened."""
    if value is None or value != value:
        return "never"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
