"""`evofool verify --salvage DIR`: what can still be trusted of a damaged run, as a new one."""

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
    """Copy the longest whole prefix of a run's commits to a new run directory; the damaged one is left as it is.

    The new run can be resumed, which writes its elites view. A prefix counts as whole when its files are what its
    commits say and the archive can be restored from them. None is that ends before a compaction; where only commits
    before the newest compaction are damaged, the new run begins with that one.

    Raises:
        ConfigError: there is something at `out`.
        CorruptData: there is no such prefix, or run.json or config.yaml is damaged.
    """
    if as_url(out):
        raise ConfigError(f"--salvage: {as_url(out)} is no folder; name a new one on this machine.")
    if out.exists():
        raise ConfigError(f"--salvage: {out} is there already; name a new folder.")
    log = CommitLog(run, tolerant=True)
    broken = [log.broken.message] if log.broken else []
    problems = dict.fromkeys(broken)
    try:
        for chosen in filter(None, (log.commits, _from_compaction(run, len(log.commits)))):
            reasons = [*broken]
            if saved := _longest(run, out, chosen, reasons):
                return saved
            problems |= dict.fromkeys(reasons)
            shutil.rmtree(out)
        raise CorruptData(f"{run}: nothing can be salvaged; {' '.join(problems) or 'there is no commit'}")
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _longest(run: Path, out: Path, chosen: list[Commit], reasons: list[str]) -> Salvaged | None:
    """As many of the chosen commits as make a whole run; what is wrong with the others is added to `reasons`."""
    kept = _copy(run, out, chosen)
    gone = False
    while kept:
        store = RunStore(out)
        try:
            state = restore(store)
            assert state is not None
            reason = reasons[-1] if reasons else ""
            store.update(salvaged_from={"path": str(run), "commits": len(kept), "reason": reason})
            return Salvaged(str(out), len(kept), state.generation + 1, kept[-1].archive_hash, reason)
        except CorruptData as error:
            # Before a compaction the tables are gone, which is not what is wrong.
            if not gone:
                reasons.append(error.message.replace(str(out), str(run)))
            gone = gone or kept[-1].compacts is not None
            _drop(out, kept.pop())
    return None


def _from_compaction(run: Path, first: int) -> list[Commit]:
    """The commits from the newest whole compaction on, behind number `first`, as long as each follows the other."""
    found: list[Commit] = []
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
            found = [commit]
        elif not found or commit.previous_sha256 != previous:
            continue
        else:
            found.append(commit)
        previous = hashlib.sha256(blob).hexdigest()
    return found


def _copy(run: Path, out: Path, chosen: list[Commit]) -> list[Commit]:
    """Copy commits and their tables, numbered from 0."""
    folders.prepare(out)
    offset, previous, copied = chosen[0].number, "", []
    for old in chosen:
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


def _drop(out: Path, commit: Commit) -> None:
    """Take the newest commit back, its files too."""
    (out / "_evofool" / "commits" / f"{commit.number:08d}.json").unlink()
    for table in commit.files:
        CommitLog(out, tolerant=True).path(table, commit.number).unlink(missing_ok=True)
