"""A few of the trials of `make chaos`, and that each kind can fail: evofool broken on purpose must be found out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "chaos" / "run.py"
NEEDS = {"syscalls": [pytest.mark.needs_strace], "power": [pytest.mark.needs_root, pytest.mark.needs_mounts]}
TRIALS = {
    "kills": 60,
    "syscalls": 45,
    "power": 10,
    "driver": 6,
    "resume": 2,
    "damage": 120,
    "rivals": 3,
    "lockless": 3,
    "sigterm": 4,
    "sigint": 2,
    "targets": 10,
    "settings": 55,
}
# How evofool is broken -> the row of the trials that must find it out.
BROKEN = {
    "commits-in-place": "kills",
    "no-recovery": "kills",
    "no-table-sync": "power",
    "no-commit-sync": "power",
    "no-folder-sync": "power",
    "no-checksums": "damage",
    "commits-replace": "lockless",
}


def chaos(*arguments: str) -> tuple[int, str]:
    """The program in a process of its own, since it forks and mounts: exit code, all that it printed."""
    done = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("row", [pytest.param(row, marks=NEEDS.get(row, [])) for row in TRIALS])
def test_trials_find_no_violation(row: str) -> None:
    code, said = chaos("--only", row, "--trials", str(TRIALS[row]))
    assert code == 0, said
    assert " | 0 violations" in said


@pytest.mark.parametrize("how", [pytest.param(how, marks=NEEDS.get(row, [])) for how, row in BROKEN.items()])
def test_trials_find_out_what_is_broken(how: str) -> None:
    code, said = chaos("--sabotage", how)
    assert code == 1, said
    assert "violations**" in said and "Traceback" not in said.partition("takes away")[0]
