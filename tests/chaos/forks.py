"""Children that are forked, so that a trial costs milliseconds: everything they need was imported by their parent."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Child", "Shared", "wait_for"]

_C = ctypes.CDLL(None)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Shared:
    """A few counters in memory that parent and child both see: what a child put there outlives its kill.

    No system call is made, so none of these is met by a trial that makes system calls fail.
    """

    def __init__(self, slots: int = 8) -> None:
        self._memory = mmap.mmap(-1, slots * 8)

    def __getitem__(self, slot: int) -> int:
        return int(struct.unpack_from("<q", self._memory, slot * 8)[0])

    def __setitem__(self, slot: int, value: int) -> None:
        struct.pack_into("<q", self._memory, slot * 8, value)


class Child:
    """A forked process that does one thing.

    Args:
        output: where its stdout and stderr go.
        work: what it does with the arguments; its result is the exit code, None being 0.
    """

    def __init__(self, output: Path, work: Callable[..., int | None], *arguments: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.output = output
        # Opened here: whoever makes system calls of the child fail may be quicker than it.
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_do(handle, work, *arguments))
        os.close(handle)
        self._handle: int | None = os.pidfd_open(self.pid)  # None once it was waited for

    def signal(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if it is still there to get one."""
        with contextlib.suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)

    def ended(self, within: float) -> bool:
        """Whether it ends within so many seconds."""
        return self._handle is None or bool(select.select([self._handle], [], [], max(0.0, within))[0])

    def wait(self, within: float = 60.0) -> int:
        """Its exit code, negative for the signal that ended it. It is killed if it takes longer.

        Raises:
            TimeoutError: it had to be.
        """
        late = not self.ended(within)
        if late:
            self.signal()
        _, status = os.waitpid(self.pid, 0)
        assert self._handle is not None
        os.close(self._handle)
        self._handle = None
        if late:
            raise TimeoutError(f"a child took over {within} s: {self.said()}")
        return os.waitstatus_to_exitcode(status)

    def kill_after(self, seconds: float) -> int:
        """Let it live for so long, then kill -9; its exit code, which is another one if it ended earlier."""
        if not self.ended(seconds):
            self.signal()
        return self.wait()

    def said(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-1500:]


def wait_for(condition: Callable[[], bool], child: Child, within: float = 60.0) -> None:
    """Wait until something is true, or the child has ended."""
    until = time.monotonic() + within
    while not condition() and not child.ended(0.001):
        if time.monotonic() > until:
            child.signal()
            raise TimeoutError(f"nothing after {within} s: {child.said()}")


def _do(output: int, work: Callable[..., int | None], *arguments: Any) -> int:
    _C.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = work(*arguments) or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code
