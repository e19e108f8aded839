"""Files of weights as evofool writes them: safetensors, whole or not at all, the same bytes for the same weights."""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save as save_safetensors

from evofool.errors import StorageError

__all__ = ["check_place", "write_safetensors"]


def check_place(path: Path) -> None:
    """Make the folder of a file that is to be written, and see whether files can be made there.

    Raises:
        StorageError: they cannot, or the path is a folder.
    """
    part = _part(path)
    with _writing(path, part):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and their metadata, in the place of what a file held before.

    Raises:
        StorageError: the file cannot be written; what was there is still there.
    """
    part = _part(path)
    blob = save_safetensors({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(metadata))
    with _writing(path, part):
        part.write_bytes(_in_order(blob))
        part.replace(path)


def _part(path: Path) -> Path:
    """A file beside the one to be written, of a name of its own: another process may write the same one."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def _writing(path: Path, part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StorageError(f"--out: {path} cannot be written ({error.strerror}).") from None


def _in_order(blob: bytes) -> bytes:
    """A safetensors file with its header sorted: the library's order varies from call to call."""
    length = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]
