"""What the command line prints and writes: tables, JSON, pictures as text, files."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evofool.base import streams
from evofool.base.places import quoted
from evofool.errors import ConfigError, EvofoolError, StorageError

if TYPE_CHECKING:
    from evofool.config import Config
    from evofool.store.reader import Run


def explain(error: EvofoolError) -> None:
    """Print an error: its message, what is safely on disk, the command to go on with."""
    for head, text in (("evofool", error.message), ("on disk", error.safe), ("go on with", error.go_on)):
        if text:
            tell(f"{head}: {text}")


def tell(text: str) -> None:
    """Print a sentence of progress, or a warning: on stderr, or nowhere if that takes no more."""
    say(f"{plain(text)}\n")


def say(text: str) -> None:
    """Print text as it is on stderr, before whatever comes next."""
    streams.stderr.write(text)
    streams.stderr.wait()


def plain(text: str) -> str:
    """Foreign text without terminal control characters, and with URLs in the place of their working copies."""
    from evofool.store.remote.working_copy import named  # numpy comes with it, for which --help need not wait

    return "".join(c if c.isprintable() or c == "\n" else "?" for c in named(text))


def console() -> Console:
    """Where results are printed: stdout. Where that is no terminal, long lines stay whole, to be searched and cut."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)


def print_json(data: object) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=1, default=_json_value, allow_nan=False))


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a DataFrame for `print_json`: None where a number is missing."""
    return [
        {name: None if isinstance(value, float) and value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _json_value(value: object) -> object:
    """What JSON has for a value of numpy or pandas, for bytes (hex), and for anything else (its text)."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], numeric: Collection[str] = ()) -> None:
    """Print a table; columns in `numeric` are aligned to the right."""
    shown = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        shown.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
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
    """A DataFrame of elites by a column, ascending; by confidence, log_odds or objective the greatest first.

    Raises:
        ConfigError: no such column, or one without an order.
    """
    if column not in frame.columns:
        raise ConfigError(f"--sort: no column {column!r}; columns are {', '.join(frame.columns)}.")
    if column in ("image", "genome", "parent_ids", "operators"):
        raise ConfigError(f"--sort: {column} has no order.")
    return frame.sort_values(column, ascending=column not in ("confidence", "log_odds", "objective"), kind="stable")


def print_elites(run: Run, sort: str = "class_index", limit: int | None = None) -> None:
    """Print the table of elites and a line of counters."""
    from evofool.base.sheets import percent

    rows, units = [], bool(run.store.cells.units)
    for elite in sort_elites(run.elites(pictures=False), sort)[:limit].itertuples():
        figures = [number(elite.objective)] if units else [percent(elite.confidence), f"{elite.log_odds:.2f}"]
        rows.append([elite.class_name, *figures, elite.generation, elite.nodes, elite.connections, elite.individual_id])
    columns = ["unit", "activation"] if units else ["class", "confidence", "log-odds"]
    columns += ["generation", "nodes", "connections", "individual"]
    table(columns, rows, numeric=columns[1:])
    history = run.history()
    if len(history):
        s = history.iloc[-1]
        generations = int(s["generation"]) + 1
        # Of units there is none while cells are empty.
        median, minimum = ("none yet" if s[name] != s[name] else number(s[name]) for name in ("median", "minimum"))
        sure = "" if units else f">= 0.99: {int(s['classes_99'])}, >= 0.9999: {int(s['classes_9999'])}, "
        console().print(
            f"{int(s['filled'])} of {run.provenance['cells']} {'units' if units else 'classes'} filled, "
            f"median {median}, minimum {minimum}, {sure}"
            f"{int(s['evaluations'])} evaluations in {generations} generation{'s' * (generations != 1)}"
        )


@contextlib.contextmanager
def last_words(config: Config, out: Path | None, go_on: str | None = None) -> Iterator[None]:
    """Where Ray ends this process without a word inside the `with`, another process says how to go on.

    Args:
        config: of the run; one that does without Ray needs no last words.
        out: the run directory if it is not the configuration's.
        go_on: what to go on with; `evofool resume` of that directory by default.
    """
    from evofool.store.remote.working_copy import named

    if config.evaluation.pool != "ray":
        yield
        return
    path = named(str(out)) if out else f"{config.storage.path}/{config.run_name}"
    words = (
        "evofool: this process was ended without a word: by Ray, where its cluster is gone, or by the system, perhaps "
        f"for want of memory.\non disk: everything committed, in {path}\n"
        f"go on with: {go_on or f'evofool resume {quoted(path)}'}\n"
    )
    code = "import sys; sys.stdin.read() or sys.stderr.write(sys.argv[1])"
    command = [sys.executable, "-I", "-S", "-c", code, words]
    # In a session of its own, since Ctrl-C is not for it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield
        finally:
            process.communicate(b"this process is alive")


def print_next(paths: Sequence[Path]) -> None:
    """Print commands for the runs that were just made; of several for the last one, and how to compare them."""
    names = [plain(str(path)) for path in paths]
    where = names[-1]
    code = f"import pandas; print(pandas.read_parquet({json.dumps(f'{where}/elites')}).head())"
    several = f"  evofool study compare {' '.join(quoted(name) for name in names)}\n" if len(names) > 1 else ""
    # Not by rich, which breaks lines that are longer than the terminal's.
    print(
        f"\n{'The archive is' if len(names) == 1 else 'The archives are'} in {', '.join(names)}. What next:\n{several}"
        f"  python -c {quoted(code)}\n"
        f"  evofool show {quoted(where)} CLASS             one elite, its picture and its ancestors\n"
        f"  evofool report {quoted(where)}                 a page of all it found: gallery, ancestors, curves\n"
        f"  evofool export {quoted(where)} --out pictures  PNGs, CSV and a contact sheet\n"
        f"  evofool resume {quoted(where)} search.generations=1000\n"
        "  evofool run CONFIG target.spec=python:mynet.py:build --allow-code    another network"
    )


def write(path: Path, data: bytes) -> None:
    """Write a file the user asked for."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}).") from None


def write_csv(path: Path, frame: Any) -> None:
    """Write a DataFrame as CSV that a spreadsheet may open."""

    def cell(value: object) -> object:
        if isinstance(value, str):
            # A spreadsheet would run a text that begins so as a formula.
            return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value
        return " ".join(map(str, value)) if isinstance(value, Collection) else value

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(frame.columns)
        writer.writerows([cell(value) for value in row] for row in frame.itertuples(index=False))


def figure(value: object) -> str:
    """A number of a table of runs, "never" where it is missing (None, NaN): the run did not get so far."""
    if value is None or value != value:
        return "never"
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """A number in six digits; one below 1 is never shown as 1."""
    text = f"{value:.6g}"
    return text if value >= 1 or float(text) < 1 else f"{math.floor(value * 1e6) / 1e6:.6f}"
