"""A run that is over in a third of a second: the whole driver by its command line, against a linear network."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from handmade import verify_files

import evofool
from chaos.forks import Child, Shared
from evofool import cli
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.pool import Job
from evofool.store import compaction
from evofool.store.commits import CommitLog
from evofool.store.run import RunStore

__all__ = ["COMMITTED", "SCORED", "SCORING", "SUBMITTED", "Toy", "promised_commits_are_there"]

# Slots of Shared.
SUBMITTED, SCORED, SCORING, COMMITTED = range(4)

TARGET = '''"""A linear network on 8 x 8 grey images; CHAOS_PAUSE makes every forward pass take so many seconds."""

import os
import time

import torch

import evofool


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 5)
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        time.sleep(float(os.environ.get("CHAOS_PAUSE", "0")))
        return self.layer(x.flatten(1))


def build():
    return evofool.Target(Linear(), evofool.Preprocessing((8, 8), 1, (127.0,), (128.0,)), tuple("abcde"))
'''


class Toy:
    """The files of such runs, and what an undisturbed one gives.

    Args:
        folder: where everything goes.
        generations: of every run.
        keys: of the configuration, in place of the usual ones: {section: {key: value}}.
    """

    def __init__(self, folder: Path, generations: int = 24, target: str = TARGET, **keys: dict[str, Any]) -> None:
        self.folder = folder
        self.generations = generations
        (folder / "toy.py").write_text(target)
        data: dict[str, dict[str, Any]] = {
            "target": {"spec": f"python:{folder / 'toy.py'}:build"},
            "search": {"offspring": 20, "initial": 20, "generations": generations},
            "evaluation": {"pool": "inline", "chunk": 10, "micro_batch": 10},
            "storage": {"commit_every": 2, "snapshot_every": 0.0, "history": "lineage"},
            "observers": {"progress": "none"},
        }
        for section, values in keys.items():
            data[section] = {**data[section], **values}
        self.config = folder / "toy.json"  # JSON is YAML
        self.config.write_text(json.dumps(data))

    def undisturbed(self) -> str:
        """The archive hash of a run that nothing happens to, in this process: children need not import again."""
        run = evofool.run(self.config, out=self.folder / "undisturbed", allow_code=True)
        assert run.archive_hash is not None
        return run.archive_hash

    def arguments(self, run: Path) -> list[str]:
        """Of the command that makes a run, or goes on with it."""
        return ["run", str(self.config), "--out", str(run), "--allow-code"]

    def start(self, run: Path, shared: Shared, pause: float = 0.0) -> Child:
        """The command in a child, which tells through `shared` how far it is."""
        return Child(self.folder / "output", command, self.arguments(run), shared, pause)

    def finish(self, run: Path) -> str | None:
        """Go on to the end in a child; the archive hash."""
        child = self.start(run, Shared())
        code = child.wait()
        assert code == 0, f"resuming ended with {code}: {child.said()}"
        leftovers = [str(path) for path in run.rglob("_tmp-*")]
        assert not leftovers, f"left over: {leftovers}"
        return evofool.open_run(run).archive_hash

    def seconds(self) -> tuple[float, float]:
        """How long a run takes in a child: until the search begins, and from there to the last scores."""
        shared, began = Shared(), time.monotonic()
        child = self.start(self.folder / "timed", shared)
        while not shared[SUBMITTED] and not child.ended(0.001):
            pass
        middle = time.monotonic()
        while shared[SCORED] < self.generations and not child.ended(0.001):
            pass
        end = time.monotonic()
        code = child.wait()
        assert code == 0, child.said()
        return middle - began, end - middle


def command(arguments: list[str], shared: Shared, pause: float) -> int:
    """The command line in this process, counting in `shared` what was submitted, scored and committed."""
    os.environ["CHAOS_PAUSE"] = str(pause)
    compaction.FLOOR = 0  # so that there are compactions
    submit, collect, commit = InlinePool.submit, InlinePool.collect, RunStore.commit

    def counted_submit(self: InlinePool, job: Job) -> None:
        submit(self, job)
        shared[SUBMITTED] += job.verb == "score"

    def counted_collect(self: InlinePool, ticket: int) -> Any:
        is_generation = ticket >= 0
        shared[SCORING] = is_generation
        result = collect(self, ticket)
        shared[SCORING] = 0
        shared[SCORED] += is_generation
        return result

    def counted_commit(self: RunStore, *given: Any, **named: Any) -> Any:
        made = commit(self, *given, **named)
        shared[COMMITTED] = len(self.log.commits)
        return made

    setattr(InlinePool, "submit", counted_submit)  # noqa: B010 - mypy refuses to assign methods
    setattr(InlinePool, "collect", counted_collect)  # noqa: B010
    setattr(RunStore, "commit", counted_commit)  # noqa: B010
    sys.argv = ["evofool", *arguments]
    cli.main()
    return 0


def promised_commits_are_there(run: Path, shared: Shared) -> None:
    """Every commit that the child was told of is in the log, and whole."""
    if not shared[COMMITTED]:
        return
    log = CommitLog(run)
    assert len(log.commits) >= shared[COMMITTED], f"{shared[COMMITTED]} promised, {len(log.commits)} there"
    verify_files(log)
