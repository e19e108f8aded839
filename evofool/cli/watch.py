"""`evofool watch`: how a run is doing, live."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from typer import Option

from evofool.cli import output
from evofool.cli.options import RunPath, app
from evofool.errors import CorruptData, EvofoolError, StorageError

if TYPE_CHECKING:
    from evofool.report.watch import Follower, Glance

INTERVAL, OVER_A_NETWORK = 2.0, 10.0  # seconds between looks, at least
SHARE = 0.005  # of this machine's cores is what watching may take, so that a run does not notice
PATIENCE = 30.0  # seconds that a file may be missing or damaged: whoever copies a run may be about to bring it
TICK = 0.5  # seconds within which news is shown


@app.command()
def watch(
    path: RunPath,
    once: Annotated[bool, Option("--once", help="Print how it is doing now, and end.")] = False,
) -> None:
    """How a run is doing, live until q or Ctrl-C: curves, counters, evaluators, newest elites."""
    from evofool.report.watch import Follower

    follower = Follower(path)
    follower.catch_up()
    if once or not sys.stdout.isatty():
        _print(follower.glance())
        return
    os.nice(10)  # whoever searches on this machine goes first
    with contextlib.suppress(KeyboardInterrupt):
        _live(_Reader(follower, OVER_A_NETWORK if follower.store.remote else INTERVAL))


def _print(glance: Glance) -> None:
    from evofool.report.screen import lines, screen

    console = output.console()
    if console.is_terminal and not console.options.ascii_only:
        console.print(screen(glance, console.width, 48, colours=console.color_system is not None))
    else:
        print("\n".join(lines(glance)))


class _Reader:
    """Reads a run in a thread, since a store, or a mount that is gone, may not answer for minutes.

    Args:
        interval: seconds between looks, at least; more where looking and drawing would take more than SHARE.
    """

    def __init__(self, follower: Follower, interval: float) -> None:
        self.follower, self.interval = follower, interval
        self.glance = follower.glance()
        self.news = 0  # grows with each new glance
        self.trouble: EvofoolError | None = None
        self.since = self.asked = time.monotonic()  # of the trouble; of the look under way, 0 between two
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        cores = len(os.sched_getaffinity(0))
        while True:
            self.asked, before = time.monotonic(), time.process_time()
            try:
                if self.follower.catch_up():
                    self.glance = self.follower.glance()
                    self.news += 1
                self.trouble, self.since = None, time.monotonic()
            except EvofoolError as error:
                self.trouble = error
            self.asked = 0.0
            time.sleep(self.interval)
            spent = time.process_time() - before  # by this thread, and by the one that draws
            time.sleep(max(0.0, spent / (SHARE * cores) - self.interval))

    def said(self) -> str:
        """What stands in the way, if anything; raises what will not go away."""
        trouble, waited = self.trouble, time.monotonic() - (self.asked or time.monotonic())
        if trouble is not None:
            lasts = time.monotonic() - self.since
            if not isinstance(trouble, (StorageError, CorruptData)) or (
                isinstance(trouble, CorruptData) and lasts > PATIENCE
            ):
                raise trouble
            return f"{trouble.message} What is below is older; this tries again."
        return f"no answer for {waited:.0f} s; what is below is older" if waited > 5 else ""


def _live(reader: _Reader) -> None:
    from rich.live import Live

    from evofool.report.screen import screen

    console = output.console()
    shown: tuple[object, ...] = ()
    with _keys() as pressed, _ends_well(), Live(console=console, screen=True, auto_refresh=False) as live:
        while not {"q", "Q", "\x1b", "\x04"} & set(pressed(TICK)):
            said, size = reader.said(), console.size
            now = (reader.news, said, size, int(time.time() // 60))
            if now != shown:
                shown = now
                colours = console.color_system is not None
                live.update(screen(reader.glance, size.width, size.height, colours=colours, said=said), refresh=True)


def _no_keys(seconds: float) -> str:
    time.sleep(seconds)
    return ""


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits for keys, for some seconds at most; they are not shown meanwhile."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed(seconds: float) -> str:
        if not select.select([handle], [], [], seconds)[0]:
            return ""
        return os.read(handle, 64).decode(errors="replace") or "q"  # nothing: the terminal is gone

    try:
        tty.setcbreak(handle)
        yield pressed
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _ends_well() -> Iterator[None]:
    """SIGTERM and a closed terminal end the process after its terminal was put back."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
