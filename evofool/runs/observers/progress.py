"""Progress on stderr: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evofool.runs.observers.observer import (
    GenerationPlaced,
    Observer,
    RunEnded,
    RunStarted,
    RunStopped,
    Waiting,
    Warned,
)

__all__ = ["Lines", "LiveTable", "make_progress"]


def make_progress(kind: str) -> Observer:
    """The observer of a kind: "live", "lines", "none", or "auto" for what suits stderr."""
    if kind == "auto":
        kind = "live" if sys.stderr.isatty() else "lines"
    return {"live": LiveTable, "lines": Lines, "none": Observer}[kind]()


def _title(event: RunStarted) -> str:
    facts, evaluators = event.provenance, event.evaluators
    begin = "new run" if event.resumed_at is None else f"resuming after generation {event.resumed_at}"
    address = event.cluster.get("address")
    where = "" if address is None else f", the Ray cluster at {address}" if address else ", a Ray of this run's own"
    return (
        f"{event.config.run_name}: {begin}, {facts['encoding']}, {facts['cells']} classes of {facts['target']}, "
        f"{evaluators} evaluator{'s' * (evaluators != 1)} on {facts['numerics']['device']}{where}"
    )


class Lines(Observer):
    """A line every few seconds."""

    INTERVAL = 5.0

    def __init__(self) -> None:
        self._last = time.monotonic()

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def on_wait(self, event: Waiting) -> None:
        self._say(event.text)

    def on_start(self, event: RunStarted) -> None:
        self._say(_title(event))

    def on_generation(self, event: GenerationPlaced) -> None:
        if time.monotonic() - self._last < self.INTERVAL:
            return
        self._last = time.monotonic()
        s = event.statistics
        self._say(
            f"generation {s.generation}  evaluations {s.evaluations}  {event.evaluations_per_second:.0f}/s  "
            f"median {s.median:.6f}  minimum {s.minimum:.6f}  >=0.99 {s.classes_99}  >=0.9999 {s.classes_9999}  "
            f"filled {s.filled}  placements {s.placements_total}"
        )

    def on_warning(self, event: Warned) -> None:
        self._say(f"warning: {event.text}")

    def on_stop(self, event: RunStopped) -> None:
        self._say(event.reason)


class LiveTable(Observer):
    """A progress bar and the counters, redrawn a few times a second."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
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
        self._cells = event.provenance["cells"]
        self._task = self._bar.add_task("", total=event.config.search.generations)
        self._live = self._new_live()  # one that was used would erase the lines of its last run
        self._live.start()

    def on_generation(self, event: GenerationPlaced) -> None:
        s = event.statistics
        self._bar.update(self._task, completed=s.generation + 1)
        table = Table.grid(padding=(0, 2))
        evaluations = f"{s.evaluations} ({event.evaluations_per_second:.0f}/s)"
        for row in (
            ("evaluations", evaluations, "placements", f"{s.placements_total} (+{s.placements})"),
            ("median confidence", f"{s.median:.6f}", "filled cells", f"{s.filled} of {self._cells}"),
            ("minimum confidence", f"{s.minimum:.6f}", "distinct elites", str(s.unique_elites)),
            ("classes >= 0.99", str(s.classes_99), "top-1 in their cell", f"{s.top1_share:.0%}"),
            ("classes >= 0.9999", str(s.classes_9999), "generations without placement", str(s.stale)),
            ("evaluators", str(event.evaluators), "chunks scored again", str(event.requeued)),
        ):
            table.add_row(*row)
        self._live.update(Group(self._bar, table))

    def on_warning(self, event: Warned) -> None:
        self._say(event.text, "[yellow]warning:[/] ")

    def on_stop(self, event: RunStopped) -> None:
        self._live.stop()
        self._say(event.reason)

    def on_end(self, event: RunEnded) -> None:
        self._live.stop()  # also after an error: it hides the cursor and holds stderr

    def _say(self, text: str, head: str = "") -> None:
        self._console.print(head + escape(text), highlight=False)
