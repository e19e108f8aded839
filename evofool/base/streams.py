"""The streams of a process: closed, in an encoding without the character, or on a terminal that nobody reads."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import queue
import select
import sys
import threading
from typing import Any

__all__ = ["Messages", "mend_streams", "printable", "stderr"]

ROOM = 64  # texts that wait for whoever reads stderr
PATIENCE = 0.5  # seconds that the last of them may take


def mend_streams() -> None:
    """Open stdin, stdout and stderr where they are closed, onto nothing, and let none fail for want of a character.

    A file that is opened later would else get the number of a closed one, and what libraries print would land in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null == number:
                os.set_inheritable(null, True)
            else:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def printable(text: str) -> str:
    """Foreign text without characters that are not for reading, such as those that turn the direction of writing."""
    return "".join(c if c.isprintable() else "?" for c in text)


class Messages(io.TextIOBase):
    """stderr, for what must never hold up whoever says it: what is not read in time is dropped, and nothing is raised.

    A write to a terminal that is stopped (Ctrl-S, a frozen ssh) does not come back, nor does the signal's handler that
    interrupts it and writes too. So a thread of its own writes, and nobody waits for that for long.
    """

    def __init__(self) -> None:
        self._parts: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()  # a signal's handler may put too
        self._writer: threading.Thread | None = None
        self._stuck = False
        atexit.register(self.wait)

    @property
    def _stream(self) -> Any:
        """What is sys.stderr now, also while rich has put itself in its place."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Say something, sooner or later or never."""
        stream, data = self._stream, text.encode(self.encoding, "replace")
        if stream is None:
            return len(text)
        if not _is_file_of_process(stream):  # but of a notebook or a test
            with contextlib.suppress(OSError, ValueError):
                stream.write(data.decode(self.encoding, "replace"))
                stream.flush()
        elif self._parts.qsize() < ROOM:
            self._parts.put(data)
            self._start()
        return len(text)

    def wait(self, seconds: float = PATIENCE) -> None:
        """Wait until all that was said is written; not again where that was in vain."""
        if self._writer is None:
            return
        written = threading.Event()
        self._parts.put(written)
        self._start()
        if not written.wait(0 if self._stuck else seconds):
            self._stuck = True  # until the writer gets on

    def _start(self) -> None:
        if self._writer is None or not self._writer.is_alive():  # a fork has no threads
            self._writer = threading.Thread(target=self._write, name="evofool-messages", daemon=True)
            self._writer.start()

    def _write(self) -> None:
        while True:
            part = self._parts.get()
            if isinstance(part, threading.Event):
                part.set()
                self._stuck = False
                continue
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or its reader is gone
                _write_all(sys.__stderr__.fileno(), part)  # type: ignore[union-attr]


def _is_file_of_process(stream: Any) -> bool:
    """Whether a stream ends in stderr itself, perhaps within another: importing Ray wraps it."""
    try:
        return sys.__stderr__ is not None and stream.fileno() == sys.__stderr__.fileno()
    except (OSError, ValueError, AttributeError):
        return False


def _write_all(handle: int, data: bytes) -> None:
    """Write to a file whatever happens meanwhile; not by sys.stderr, whose lock the end of the process would need."""
    while data:
        try:
            data = data[os.write(handle, data) :]
        except BlockingIOError:  # another program made the terminal so
            select.select([], [handle], [])


stderr = Messages()
