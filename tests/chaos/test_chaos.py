"""A few of the trials of `make chaos`, and that each kind can fail: evofool broken on purpose must be found out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # on a slow machine a row takes minutes

PROGRAM = Path(__file__).with_name("run.py")
PROOFS = {"memory", "strangers", "nodes", "heads"}  # rows that take a minute for one trial
PROOFS |= {"commits-in-place", "no-table-sync", "no-folder-sync", "commits-replace", "objects-replace"}
PROOFS |= {"exchanged", "changing", "no-soundness", "no-platforms", "rivals", "settings"}
# Rows that others cover in part: test_ray, test_closed_streams, test_soundness, test_store, test_cli.
PROOFS |= {"ray-driver", "evaluators", "terminals", "functions", "first", "lockless", "objects-believed", "sigint"}
NEEDS = {"syscalls": [pytest.mark.needs_strace], "power": [pytest.mark.needs_root, pytest.mark.needs_mounts]}
NEEDS |= {row: [pytest.mark.ray, pytest.mark.needs_hosts] for row in ("strangers",)}
NEEDS |= {row: [pytest.mark.ray] for row in ("evaluators", "memory", "ray-driver", "nodes", "heads")}
TRIALS = {
    "kills": 30,
    "syscalls": 20,
    "power": 10,
    "driver": 3,
    "first": 2,
    "resume": 1,
    "damage": 38,
    "rivals": 1,
    "lockless": 4,
    "objects": 80,
    "sigterm": 1,
    "sigint": 1,
    "terminals": 2,
    "targets": 5,
    "functions": 7,
    "exchanged": 2,
    "changing": 2,
    "settings": 14,
    "configs": 300,
    "genomes": 500,
    "parquet": 100,
    "pictures": 200,
    "strangers": 1,
    "evaluators": 3,
    "memory": 1,
    "ray-driver": 1,
    "nodes": 1,
    "heads": 1,
}
# How evofool is broken -> the row whose trials must find it out, and how many.
BROKEN = {
    "commits-in-place": ("kills", 100),
    "no-recovery": ("kills", 20),
    "no-table-sync": ("power", 6),
    "no-commit-sync": ("power", 8),
    "no-folder-sync": ("power", 30),
    "no-checksums": ("damage", 57),
    "commits-replace": ("lockless", 4),
    "objects-replace": ("objects", 300),
    "objects-believed": ("objects", 300),
    "objects-commit-first": ("objects", 300),
    "no-soundness": ("functions", 2),
    "no-platforms": ("exchanged", 1),
}


def chaos(*arguments: str) -> tuple[int, str]:
    """The program in a process of its own, since it forks and mounts: exit code, all that it printed."""
    done = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode == 0 and "left out" in said:
        pytest.skip(said)  # what the markers ask for is there, but not allowed
    return done.returncode, said


def rows(names: Iterable[str], row_of: Callable[[str], str]) -> list[Any]:
    """Names as parameters, with the marks of their rows."""
    return [
        pytest.param(name, marks=NEEDS.get(row_of(name), []) + [pytest.mark.proof] * (name in PROOFS)) for name in names
    ]


@pytest.mark.parametrize("row", rows(TRIALS, lambda name: name))
def test_trials_find_no_violation(row: str) -> None:
    code, said = chaos("--only", row, "--trials", str(TRIALS[row]))
    assert code == 0, said
    assert " | 0 violations" in said


@pytest.mark.parametrize("how", rows(BROKEN, lambda name: BROKEN[name][0]))
def test_trials_find_out_what_is_broken(how: str) -> None:
    code, said = chaos("--sabotage", how, "--trials", str(BROKEN[how][1]))
    assert code == 1, said
    assert "violations**" in said and "Traceback" not in said.partition("takes away")[0]
