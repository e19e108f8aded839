"""Bits that flip and files that are cut short, anywhere in a run directory: found, or as if nothing had happened."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import evofool
from chaos.outcome import Outcome
from chaos.toy import Toy
from evofool.errors import CorruptData
from evofool.store.commits import TABLES, CommitLog
from evofool.store.compaction import compact
from evofool.store.run import RunStore
from evofool.store.view import read_view

__all__ = ["SABOTAGE", "trial_damage"]

VIEW = Path("elites/elites.parquet")


def trial_damage(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """One bit flips, or in one trial of six a file is cut short; every file of a run has its turn.

    `verify` has to refuse it. So has `resume`, and change nothing; only the elites view it may put right instead,
    since that is made from the commits. Readers get what was written, or an error.
    """
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder, generations=6)
    toy.undisturbed()
    run = evofool.run(
        toy.config, ["seed=3"], out=folder / "seeded", allow_code=True, seed_from=[folder / "undisturbed"]
    ).path
    compact(RunStore(run), "lineage")
    evofool.resume(run, ["search.generations=8"], allow_code=True)
    names = sorted(p.relative_to(run) for p in run.rglob("*") if p.is_file() and p.name != "lock")
    outcome.counts["files"] = len(names)
    expected = _read(run)
    before = _tree(run)
    for trial in range(trials):
        name = names[trial % len(names)]
        blob = before[name]
        if trial % 6 == 5:
            damaged, what = blob[: draw.randrange(len(blob))], "cut short"
        else:
            place, bit = draw.randrange(len(blob)), draw.randrange(8)
            damaged = blob[:place] + bytes([blob[place] ^ 1 << bit]) + blob[place + 1 :]
            what = f"bit {bit} of byte {place} flipped"
        with outcome.trial(f"{name}, {what}"), contextlib.ExitStack() as undo:
            undo.callback((run / name).write_bytes, blob)
            (run / name).write_bytes(damaged)
            outcome.counts["cut short" if what == "cut short" else "bits flipped"] += 1
            problems = []
            with contextlib.suppress(CorruptData):
                if _read(run) != expected:
                    problems.append("was silently read")
            if _refused(lambda: evofool.verify(run, allow_code=True)):
                outcome.counts["found by verify"] += 1
            else:
                problems.append("not found by verify")
            refused = _refused(lambda: evofool.resume(run, allow_code=True))
            after = _tree(run)
            if refused:
                outcome.counts["refused by resume"] += 1
                if after != {**before, name: damaged}:
                    problems.append("resume changed something although it refused")
            elif name == VIEW and after[VIEW] == blob:
                outcome.counts["put right by resume"] += 1
            else:
                problems.append("not found by resume")
            for other, data in before.items():
                if after.get(other) != data:
                    (run / other).write_bytes(data)
            assert not problems, "; ".join(problems)
    return outcome


def _refused(work: Callable[[], Any]) -> bool:
    try:
        work()
    except CorruptData:
        return True
    return False


def _tree(run: Path) -> dict[Path, bytes]:
    return {p.relative_to(run): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "lock"}


def _read(path: Path) -> list[Any]:
    """All that readers can be shown of a run, to be compared."""
    store = RunStore(path)
    tables = [read_view(store), *(store.table(name) for name in TABLES)]
    return [store.provenance, store.config, store.seeds(), *(table.to_pylist() for table in tables)]


SABOTAGE: dict[str, Callable[[], Any]] = {
    "no-checksums": lambda: mock.patch.object(
        CommitLog, "read", lambda log, table, number, facts: log.path(table, number).read_bytes()
    ),
}
