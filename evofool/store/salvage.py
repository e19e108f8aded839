"""`evofool verify --salvage DIR`: what can still be trusted of a damaged run, as a new one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from evofool.errors import ConfigError, CorruptData
from evofool.places import as_url
from evofool.store import files
from evofool.store.commits import Commit, CommitLog
from evofool.store.run import RunStore

__all__ = ["Salvaged", "salvage"]


@dataclass(frozen=True)
class Salvaged:
    """What was saved, and what stood in the way of more."""

    path: str
    commits: int
    generations: int
    archive_hash: str
    reason: str  # "" where nothing is damaged


def salvage(run: Path, out: Path) -> Salvaged:
    """Copy the longest whole prefix of a run's commits to a new run directory; the damaged one is left as it is.

    The new run can be resumed, which writes its elites view. A prefix counts as whole when its files are what its
    commits say and the archive can be restored from them; so none is that ends before a compaction.

    Raises:
        ConfigError: there is something at `out`.
        CorruptData: not even the first commit is whole, or run.json or config.yaml is damaged.
    """
    if as_url(out):
        raise ConfigError(f"--salvage: {as_url(out)} is no folder; name a new one on this machine.")
    if out.exists():
        raise ConfigError(f"--salvage: {out} is there already; name a new folder.")
    log = CommitLog(run, tolerant=True)
    reason = log.broken.message if log.broken else ""
    kept = list(log.commits)
    gone = False
    try:
        _copy(run, out, log, kept)
        while kept:
            store = RunStore(out)
            try:
                state = store.state()
                assert state is not None
                store.update(salvaged_from={"path": str(run), "commits": len(kept), "reason": reason})
                return Salvaged(str(out), len(kept), state.generation + 1, kept[-1].archive_hash, reason)
            except CorruptData as error:
                # Before a compaction the tables are gone, which is not what is wrong.
                if not gone:
                    reason = error.message.replace(str(out), str(run))
                gone = gone or kept[-1].compacts is not None
                _drop(out, kept.pop())
        reasons = dict.fromkeys(filter(None, (log.broken.message if log.broken else "", reason)))
        raise CorruptData(f"{run}: nothing can be salvaged; {' '.join(reasons) or 'there is no commit'}")
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _copy(run: Path, out: Path, log: CommitLog, kept: list[Commit]) -> None:
    RunStore.prepare(out)
    for commit in kept:
        for table in commit.files:
            source = log.path(table, commit.number)
            if source.is_file() and not source.is_symlink():
                files.put(out / source.relative_to(run), source.read_bytes())
        name = Path("_evofool") / "commits" / f"{commit.number:08d}.json"
        files.put(out / name, (run / name).read_bytes())
    for name in (Path("_evofool") / part for part in ("seeds.parquet", "config.yaml", "run.json")):
        if (run / name).is_file():
            files.put(out / name, (run / name).read_bytes())


def _drop(out: Path, commit: Commit) -> None:
    """Take the newest commit back, its files too."""
    (out / "_evofool" / "commits" / f"{commit.number:08d}.json").unlink()
    for table in commit.files:
        CommitLog(out, tolerant=True).path(table, commit.number).unlink(missing_ok=True)
