"""Progress: a live table on a terminal or in a notebook, plain lines elsewhere. It never holds up the search."""

from __future__ import annotations

import sys
import time
from typing import IO, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evofool.base import streams
from evofool.runs.observers.observer import (
    GenerationPlaced,
    Observer,
    RunEnded,
    RunStarted,
    RunStopped,
    Waiting,
    Warned,
)

__all__ = ["Lines", "LiveTable", "Notebook", "is_watched", "make_progress"]


def make_progress(kind: str = "auto") -> Observer:
    """An observer that shows how far a run is, on stderr or in the output of a notebook's cell.

    Args:
        kind: as `observers.progress`: "live", "lines", "none", or "auto", live where somebody watches, else lines.
    """
    if kind == "auto":
        kind = "live" if is_watched() else "lines"
    if kind == "live" and _in_notebook():
        return Notebook()
    return {"live": LiveTable, "lines": Lines, "none": Observer}[kind]()


def is_watched() -> bool:
    """Whether this process is a notebook's, or its stderr a terminal."""
    return _in_notebook() or streams.stderr.isatty()


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")  # which every notebook has imported
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def _title(event: RunStarted) -> str:
    facts, evaluators = event.provenance, event.evaluators
    begin = "new run" if event.resumed_at is None else f"resuming after generation {event.resumed_at}"
    address, kind = event.cluster.get("address"), "units" if "units" in facts else "classes"
    where = "" if address is None else f", the Ray cluster at {address}" if address else ", a Ray of this run's own"
    return (
        f"{event.config.run_name}: {begin}, {facts['encoding']}, {facts['cells']} {kind} of {facts['target']}, "
        f"{evaluators} evaluator{'s' * (evaluators != 1)} on {facts['numerics']['device']}{where}"
    )


def _counters(event: GenerationPlaced, cells: int, units: bool) -> list[tuple[str, str, str, str]]:
    """Rows of two counters each: name, number, name, number; `units`: whether cells are of units."""
    s = event.statistics
    evaluations = f"{s.evaluations} ({event.evaluations_per_second:.0f}/s)"
    measure = "activation" if units else "confidence"
    last = ("", "") if units else ("classes >= 0.9999", str(s.classes_9999))
    return [
        ("evaluations", evaluations, "placements", f"{s.placements_total} (+{s.placements})"),
        (f"median {measure}", f"{s.median:.6f}", "filled cells", f"{s.filled} of {cells}"),
        (f"minimum {measure}", f"{s.minimum:.6f}", "distinct elites", str(s.unique_elites)),
        *([] if units else [("classes >= 0.99", str(s.classes_99), "top-1 in their cell", f"{s.top1_share:.0%}")]),
        (*last, "generations without placement", str(s.stale)),
        ("evaluators", str(event.evaluators), "chunks scored again", str(event.requeued)),
    ]


class Lines(Observer):
    """A line every few seconds."""

    INTERVAL = 5.0

    def __init__(self) -> None:
        self._last = time.monotonic()

    def _say(self, text: str) -> None:
        streams.stderr.write(f"{text}\n")

    def on_wait(self, event: Waiting) -> None:
        self._say(event.text)

    def on_start(self, event: RunStarted) -> None:
        self._say(_title(event))
        self._units = "units" in event.provenance

    def on_generation(self, event: GenerationPlaced) -> None:
        if time.monotonic() - self._last < self.INTERVAL:
            return
        self._last = time.monotonic()
        s = event.statistics
        sure = "" if self._units else f"  >=0.99 {s.classes_99}  >=0.9999 {s.classes_9999}"
        self._say(
            f"generation {s.generation}  evaluations {s.evaluations}  {event.evaluations_per_second:.0f}/s  "
            f"median {s.median:.6f}  minimum {s.minimum:.6f}{sure}  "
            f"filled {s.filled}  placements {s.placements_total}"
        )

    def on_warning(self, event: Warned) -> None:
        self._say(f"warning: {event.text}")

    def on_stop(self, event: RunStopped) -> None:
        self._say(event.reason)

    def on_end(self, event: RunEnded) -> None:
        streams.stderr.wait()


class LiveTable(Observer):
    """A progress bar and the counters, redrawn a few times a second."""

    def __init__(self) -> None:
        self._console = Console(file=cast(IO[str], streams.stderr))
        self._bar = Progress(
            TextColumn("generation {task.completed}"), BarColumn(), TimeRemainingColumn(), console=self._console
        )
        self._live = self._new_live()

    def _new_live(self) -> Live:
        return Live(self._bar, console=self._console, refresh_per_second=4)

    def on_wait(self, event: Waiting) -> None:
        self._say(event.text)

    def on_start(self, event: RunStarted) -> None:
        self._say(_title(event))
        self._cells, self._units = event.provenance["cells"], "units" in event.provenance
        self._task = self._bar.add_task("", total=event.config.search.generations)
        self._live = self._new_live()  # one that was used would erase the lines of its last run
        self._live.start()

    def on_generation(self, event: GenerationPlaced) -> None:
        self._bar.update(self._task, completed=event.statistics.generation + 1)
        table = Table.grid(padding=(0, 2))
        for row in _counters(event, self._cells, self._units):
            table.add_row(*row)
        self._live.update(Group(self._bar, table))

    def on_warning(self, event: Warned) -> None:
        self._say(event.text, "[yellow]warning:[/] ")

    def on_stop(self, event: RunStopped) -> None:
        self._live.stop()
        self._say(event.reason)

    def on_end(self, event: RunEnded) -> None:
        self._live.stop()  # also after an error: it hides the cursor and holds stderr
        streams.stderr.wait()

    def _say(self, text: str, head: str = "") -> None:
        self._console.print(head + escape(text), highlight=False)


class Notebook(Observer):
    """The counters in the output of a notebook's cell, renewed twice a second; below them, warnings."""

    INTERVAL = 0.5

    def __init__(self) -> None:
        self._head, self._counters, self._said = "", "", list[str]()
        self._last, self._display = 0.0, None

    def on_start(self, event: RunStarted) -> None:
        self._head, self._counters, self._display = _title(event), "", None
        self._cells, self._end = event.provenance["cells"], event.config.search.generations
        self._units = "units" in event.provenance
        self._show()

    def on_generation(self, event: GenerationPlaced) -> None:
        done, all_of_them = event.statistics.generation + 1, "" if self._end is None else f" of {self._end}"
        if time.monotonic() - self._last < self.INTERVAL and done != self._end:
            return
        rows = ["{:20}{:24}{:31}{}".format(*row) for row in _counters(event, self._cells, self._units)]
        self._counters = "\n".join([f"generation {done}{all_of_them}", *rows])
        self._show()

    def on_warning(self, event: Warned) -> None:
        self._said.append(f"warning: {event.text}")
        self._show()

    def on_stop(self, event: RunStopped) -> None:
        self._said.append(event.reason)
        self._show()

    def _show(self) -> None:
        """One output for all, which is replaced: no widget has to be installed for it."""
        from IPython.display import display

        self._last = time.monotonic()
        data = {"text/plain": "\n".join(filter(None, [self._head, self._counters, *self._said]))}
        if self._display is None:
            self._display = display(data, raw=True, display_id=True)
        else:
            self._display.update(data, raw=True)
