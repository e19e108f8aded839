"""`evofool verify --salvage DIR`: the commits of a damaged run up to the damage, as a new run."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from evofool.base.places import as_url
from evofool.errors import ConfigError, CorruptData
from evofool.store import files, folders
from evofool.store.commits import TABLES, Commit, CommitLog, parse
from evofool.store.restore import restore
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
    """Copy as many commits of a damaged run as are whole, from the first on, to a new run; the old one stays as it is.

    Commits from the first to some other are whole if their files are as they say and the archive can be restored from
    them; after a compaction, which deletes the tables before it, none that end before it are. Where only commits before
    the newest whole compaction are damaged, the new run begins with that one instead. It can be resumed, which writes
    its elites view.

    Raises:
        ConfigError: `out` exists, or is a URL.
        CorruptData: no commits are whole, or run.json or config.yaml is damaged.
    """
    if as_url(out):
        raise ConfigError(f"--salvage: {as_url(out)} is no folder; name a new one on this machine.")
    if out.exists():
        raise ConfigError(f"--salvage: {out} is there already; name a new folder.")
    log = CommitLog(run, tolerant=True)
    broken = [log.broken.message] if log.broken else []
    problems = dict.fromkeys(broken)  # in order, each once
    try:
        for commits in filter(None, (log.commits, _from_compaction(run, len(log.commits)))):
            reasons = [*broken]
            if saved := _longest(run, out, commits, reasons):
                return saved
            problems |= dict.fromkeys(reasons)
            shutil.rmtree(out)
        raise CorruptData(f"{run}: nothing can be salvaged; {' '.join(problems) or 'there is no commit'}")
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _longest(run: Path, out: Path, commits: list[Commit], reasons: list[str]) -> Salvaged | None:
    """Copy the commits, and drop the last one until a whole run is left; what was wrong is added to `reasons`."""
    copied = _copy(run, out, commits)
    before_compaction = False
    while copied:
        store = RunStore(out)
        try:
            state = restore(store)
            assert state is not None
            reason = reasons[-1] if reasons else ""
            store.update(salvaged_from={"path": str(run), "commits": len(copied), "reason": reason})
            return Salvaged(str(out), len(copied), state.generation + 1, copied[-1].archive_hash, reason)
        except CorruptData as error:
            # A compaction deletes the tables of commits before it, so that they are missing is no damage.
            if not before_compaction:
                reasons.append(error.message.replace(str(out), str(run)))
            last = copied.pop()
            before_compaction = before_compaction or last.compacts is not None
            store.log.commit_path(last.number).unlink()
            for table in last.files:
                store.log.path(table, last.number).unlink(missing_ok=True)
    return None


def _from_compaction(run: Path, first: int) -> list[Commit]:
    """The commits from the newest undamaged compaction after number `first` on, up to a gap in the chain."""
    commits: list[Commit] = []
    previous = ""
    for path in sorted((run / "_evofool" / "commits").glob("[0-9]*.json")):
        if path.stem <= f"{first:08d}":
            continue
        with files.guard(path, "read"):
            blob = path.read_bytes()
        try:
            commit = parse(path, blob)
        except CorruptData:
            continue
        if commit.compacts is not None:
            commits = [commit]
        elif commits and commit.previous_sha256 == previous:
            commits.append(commit)
        else:
            continue
        previous = hashlib.sha256(blob).hexdigest()
    return commits


def _copy(run: Path, out: Path, commits: list[Commit]) -> list[Commit]:
    """Copy commits and their tables, numbered from 0; the commits of the copy."""
    folders.prepare(out)
    offset, previous, copied = commits[0].number, "", []
    for old in commits:
        dropped = [number - offset for number in old.dropped_genomes if number >= offset]
        commit = replace(old, number=old.number - offset, previous_sha256=previous, dropped_genomes=dropped)
        for table, folder in TABLES.items():
            source = run / folder / f"{old.number:08d}.parquet"
            if table in old.files and source.is_file() and not source.is_symlink():
                files.put(out / folder / f"{commit.number:08d}.parquet", source.read_bytes())
        blob = commit.to_json()
        files.put(out / "_evofool" / "commits" / f"{commit.number:08d}.json", blob)
        previous = hashlib.sha256(blob).hexdigest()
        copied.append(commit)
    for name in (Path("_evofool") / part for part in ("seeds.parquet", "config.yaml", "run.json")):
        if (run / name).is_file():
            files.put(out / name, (run / name).read_bytes())
    return copied
