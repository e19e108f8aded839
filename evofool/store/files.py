"""Durable files: each is written whole or not at all, and outlasts a crash of the machine.

Every write goes to a temporary name, is fsynced, gets its name in one step, and the folder is fsynced: without the last
step a crash of the machine loses the name (measured on ext4). A failed fsync is not tried again, since the kernel may
have dropped the data.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from evofool.errors import CorruptData, StorageError
from evofool.records import Facts

__all__ = ["create", "guard", "probe", "put", "read_json", "seal", "seal_holds", "sha256_of", "sync_folder"]

PROBE_BYTES = 4 << 20
TEMPORARY = re.compile(r"_tmp-[0-9a-f]{16}(-link)?")


@contextlib.contextmanager
def guard(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn an OSError into a StorageError that names the path and the reason."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{path}: the disk is full; free some space and go on.") from error
        raise StorageError(f"{path}: cannot {doing} ({error.strerror or error}).") from error


def sync_folder(folder: Path) -> None:
    """fsync a directory, so that names made in it survive a crash."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_temporary(folder: Path, data: bytes) -> Path:
    temporary = folder / f"_tmp-{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def put(path: Path, data: bytes, temporary_folder: Path | None = None) -> None:
    """Write a file, replacing an older one of its name. Raises as `guard`.

    Args:
        temporary_folder: where the data is first written, on the same file system; the file's own folder by default.
            Readers that take every file of a folder must not see temporary ones, so data sets use another.
    """
    with guard(path):
        temporary = _write_temporary(temporary_folder or path.parent, data)
        try:
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def create(path: Path, data: bytes) -> bool:
    """Write a file if nothing has its name: True if this call made it, False if the name is taken. Raises as `guard`.

    `link` is atomic and never replaces, on local file systems and on NFS, so of two drivers exactly one gets True.
    """
    with guard(path):
        temporary = _write_temporary(path.parent, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    return True


def probe(folder: Path) -> None:
    """Fail now, before any work, if a run cannot be written to the folder: space, names, links. Raises as `guard`."""
    with guard(folder, f"write {PROBE_BYTES >> 20} MiB there"):
        temporary = _write_temporary(folder, b"\0" * PROBE_BYTES)
        linked = temporary.with_name(temporary.name + "-link")
        try:
            os.link(temporary, linked)
            linked.unlink()
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, blob: bytes | None = None) -> Facts:
    """A JSON object from a file, or from its bytes where they were read already.

    Raises:
        CorruptData: missing, or not a JSON object.
    """
    try:
        data = json.loads(path.read_bytes() if blob is None else blob)
    except FileNotFoundError:
        raise CorruptData(f"{path}: missing.") from None
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path}: not valid JSON ({error}).") from None
    if not isinstance(data, dict):
        raise CorruptData(f"{path}: not a JSON object.")
    return data


def seal(text: bytes) -> bytes:
    """The text with its sha256 (hex) in one more line, which YAML takes for a comment."""
    return text + b"# sha256 of the lines above: %s\n" % hashlib.sha256(text).hexdigest().encode()


def seal_holds(blob: bytes) -> bool:
    """Whether the last line is the sha256 of the others."""
    return seal(blob.rpartition(b"# sha256")[0]) == blob
