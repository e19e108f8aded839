"""stdout and stderr that are closed, lack a character, or end in a terminal that nobody reads."""

from __future__ import annotations

import contextlib
import io
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evofool.base.streams import PATIENCE, ROOM, Messages

CTRL_S, CTRL_Q = b"\x13", b"\x11"


@contextlib.contextmanager
def stopped_terminal() -> Iterator[int]:
    """The other end of the terminal that stderr is, which is stopped. No fixture: pytest changes stderr after those."""
    master, slave = os.openpty()
    os.write(master, CTRL_S)
    while select.select([], [slave], [], 0)[1]:
        pass
    with os.fdopen(slave, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(sys, "__stderr__", stream)
        yield master
    os.close(master)


def read(terminal: int, end: str) -> str:
    """What comes out of it, until it ends so."""
    said = ""
    while not said.endswith(end) and select.select([terminal], [], [], 5)[0]:
        said += os.read(terminal, 1 << 16).decode()
    return said


@pytest.mark.slow
def test_nobody_waits_for_a_terminal_that_is_stopped() -> None:
    with stopped_terminal() as terminal:
        messages, began = Messages(), time.monotonic()
        for number in range(10 * ROOM):
            messages.write(f"generation {number}\n")
        assert time.monotonic() - began < PATIENCE, "it waited"
        messages.wait()
        messages.wait()
        assert PATIENCE <= time.monotonic() - began < 2 * PATIENCE, "it waited twice"
        os.write(terminal, CTRL_Q)
        assert read(terminal, f"generation {ROOM - 1}\r\n").startswith("generation 0\r\ngeneration 1\r\n")
        messages.write("goes on")
        messages.wait(5)
        assert read(terminal, "goes on").endswith("goes on")


class Wrapper:
    """As importing Ray puts in the place of stderr."""

    def __getattr__(self, name: str) -> object:
        return getattr(sys.__stderr__, name)


def test_what_wraps_stderr_hides_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with stopped_terminal() as terminal:
        monkeypatch.setattr(sys, "stderr", Wrapper())
        messages, began = Messages(), time.monotonic()
        messages.write("hello")
        assert messages.isatty() and time.monotonic() - began < PATIENCE
        os.write(terminal, CTRL_Q)
        assert read(terminal, "hello") == "hello"


@pytest.mark.parametrize("how", ["none", "closed", "ascii", "full", "no reader"])
def test_no_stream_makes_a_message_fail(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    reader, writer = os.pipe()
    os.close(reader)
    streams = {
        "none": None,
        "closed": open(os.devnull, "w"),  # noqa: PTH123, SIM115
        "ascii": io.TextIOWrapper(raw, "ascii"),
        "full": open("/dev/full", "w"),  # noqa: PTH123, SIM115
        "no reader": os.fdopen(writer, "w"),
    }
    stream = streams[how]
    if stream is not None and how == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "__stderr__", stream)
    messages = Messages()
    messages.write("naïve ▀\n")
    messages.wait()
    assert not messages.isatty()
    assert raw.closed or raw.getvalue() == (b"na?ve ?\n" if how == "ascii" else b"")


SAYS = """
import os, sys
from evofool.base.streams import mend_streams
mend_streams()
with open(sys.argv[1], "w") as file:
    print("result ▀", "\\udc80")
    print("message", file=sys.stderr)
    print(file.fileno() > 2, sys.stdin.read() == "", file=file)
    file.flush()
    os.system("echo a child may speak too")
"""


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_a_file_never_takes_the_number_of_a_closed_stream(closed: tuple[int, ...], tmp_path: Path) -> None:
    script = f'exec {" ".join(f"{number}>&-" for number in closed)}; exec "$0" "$@"'
    command = ["bash", "-c", script, sys.executable, "-c", SAYS, str(tmp_path / "file")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "True True\n"
