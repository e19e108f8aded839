"""The command line in a process of its own, whose streams are closed, or a terminal that nobody reads."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import evofool
from evofool.config import Config, to_yaml

pytestmark = pytest.mark.slow

EVOFOOL = [sys.executable, "-m", "evofool"]


def hash_of(path: Path) -> str | None:
    return evofool.open_run(path).archive_hash


def test_a_run_without_any_stream_is_the_same_run(config: Config, small_run: evofool.Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    script = 'exec <&- >&- 2>&-; exec "$0" "$@"'
    command = [*EVOFOOL, "run", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "closed")]
    assert subprocess.run(["bash", "-c", script, *command]).returncode == 0
    assert hash_of(tmp_path / "closed") == small_run.archive_hash
    assert evofool.verify(tmp_path / "closed")["generations"] == 6


def until(condition: Callable[[], bool], within: float) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.proof
def test_over_ray_a_stopped_terminal_holds_up_neither_search_nor_sigterm(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    path, grace = tmp_path / "run", 5.0  # of which a generation here takes milliseconds
    master, slave = os.openpty()
    os.write(master, b"\x13")  # Ctrl-S
    until(lambda: not select.select([], [slave], [], 0)[1], 5)
    keys = ["evaluation.pool=ray", "evaluation.evaluators=1", "observers.progress=live", "search.generations=1000000"]
    command = [*EVOFOOL, "run", str(tmp_path / "config.yaml"), *keys, "--out", str(path), "--grace", str(grace)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    try:
        commits = path / "_evofool/commits"
        until(lambda: commits.is_dir() and len(list(commits.glob("*.json"))) > 2, 120)
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert time.monotonic() - sent <= grace + 2
    finally:
        process.kill()
        os.close(slave)
        os.close(master)
    done = evofool.open_run(path).status()["generation"] + 1
    whole = evofool.run(config, [f"search.generations={done}"], out=tmp_path / "whole")
    assert whole.archive_hash == hash_of(path)
