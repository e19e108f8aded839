"""The folders of a run: whether a path can be a run directory, making its folders, and removing them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from evofool.base.places import quoted
from evofool.errors import ConfigError, CorruptData
from evofool.store import files
from evofool.store.commits import TABLES

__all__ = ["abandon", "check_place", "make_folders", "prepare"]


def check_place(path: Path) -> bool:
    """Whether a path is a run; False if a new run can be made at it.

    Raises:
        ConfigError: it is a file, a link or a folder of something else.
        CorruptData: it is a run that lost its run.json.
    """
    if path.is_symlink():
        raise ConfigError(
            f"{path}: is a link, at which no run is made; give another name or --out, or go on with the run it leads "
            f"to by `evofool resume {quoted(path)}`."
        )
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is not a folder, so it cannot be a run directory; give another name or --out.")
    if (path / "_evofool" / "run.json").is_file():
        return True
    if any((path / "_evofool" / "commits").glob("*.json")):
        raise CorruptData(f"{path}: has commits but no _evofool/run.json; put that file back.")
    if path.is_dir() and any(
        entry.name not in ("_evofool", "_history", "_studies", "elites") for entry in path.iterdir()
    ):
        raise ConfigError(f"{path}: a folder with other files in it; give another name or --out.")
    return False


def make_folders(path: Path) -> None:
    """Make the folders of a run; one of them holds the lock.

    Raises:
        StorageError: no permission, or read-only.
    """
    with files.guard(path, "make the run directory"):
        for folder in ("elites", *TABLES.values(), "_evofool/commits"):
            (path / folder).mkdir(parents=True, exist_ok=True)


def prepare(path: Path) -> None:
    """Make the folders and fail now if the file system will not take a run. Only under the lock.

    Raises:
        StorageError: no permission, read-only, or full.
    """
    make_folders(path)
    files.probe(path / "_evofool")


def abandon(path: Path) -> None:
    """Remove what `prepare` and an unfinished RunStore.create made, unless a run exists; files of others stay."""
    if (path / "_evofool" / "run.json").exists() or any((path / "_evofool" / "commits").glob("*.json")):
        return
    for name in ("lock", "config.yaml", "seeds.parquet"):
        (path / "_evofool" / name).unlink(missing_ok=True)
    for folder in (*TABLES.values(), "_evofool/commits", "_evofool", "elites", "."):
        with contextlib.suppress(OSError):
            (path / folder).rmdir()
