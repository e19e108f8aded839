"""Places as people write them: paths of this machine, and the URLs of object stores that runs may be kept in."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from evofool.errors import ConfigError

__all__ = ["SCHEMES", "as_path", "as_url", "quoted"]

SCHEMES = ("s3", "gs", "az")
# pathlib makes s3:/bucket of s3://bucket, so a single slash will do for our schemes.
_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://|(s3|gs|az):/)(.*)", re.DOTALL)
_PART = re.compile(r"(?!\.\.?$)[A-Za-z0-9_.=+-]{1,255}", re.ASCII)


def as_path(place: str | Path) -> Path:
    """A path with the home folder in place of ~ or ~NAME at its beginning, which a shell does not always fill in.

    Every path that a person gives comes through here once, where it enters; what is handed on is the whole path.

    Raises:
        ConfigError: no user has that name.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise ConfigError(f"{place}: there is no home folder of that name; give the whole path.") from None


def quoted(place: str | Path) -> str:
    """A place as one word of a shell, for commands that are printed to be pasted."""
    return shlex.quote(str(place))


def as_url(place: str | Path) -> str | None:
    """The URL of a place in an object store, without a slash at its end, e.g. "s3://bucket/runs"; None for a path.

    Raises:
        ConfigError: a URL of another scheme, one with other characters than names have, or one with credentials,
            which the message does not repeat.
    """
    match = _URL.fullmatch(str(place))
    if match is None:
        return None
    scheme, rest = match[1] or match[2], match[3]
    if scheme not in SCHEMES:
        raise ConfigError(f"{scheme}://: runs are kept in folders, or at s3://, gs:// and az:// URLs.")
    if any(sign in rest for sign in "@?#"):
        raise ConfigError(
            f"{scheme}://: a URL with a user, a password or a query is refused, since it would be written down; leave "
            "them out, and give credentials by the environment."
        )
    parts = rest.strip("/").split("/")
    if not all(_PART.fullmatch(part) for part in parts):
        raise ConfigError(
            f"{scheme}://{rest}: is no {scheme}://BUCKET/FOLDER/NAME of plain letters, digits and any of _ . = + -"
        )
    return f"{scheme}://{'/'.join(parts)}"
