"""What the shell offers at a TAB after `evofool --install-completion`: runs, classes of a run, configurations.

Quick and silent: nothing here loads torch or Ray or asks an object store, and whatever goes wrong offers nothing.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from typer import Context

from evofool.base.places import as_path

__all__ = ["ASKED", "classes", "configs", "families", "launches", "presets", "runs"]

ASKED = "_EVOFOOL_COMPLETE"  # the environment variable by which a shell asks
_Offer = Callable[[Context, str], Iterable[str]]


def _quiet(offer: _Offer) -> Callable[[Context, str], list[str]]:
    @functools.wraps(offer)
    def quietly(context: Context, incomplete: str) -> list[str]:
        try:
            return [text for text in dict.fromkeys(offer(context, incomplete)) if text.startswith(incomplete)]
        except Exception:  # a traceback would land in the line that the user is typing
            return []

    return quietly


def _folder(incomplete: str) -> str:
    """The folder that is typed so far, with its slash; "" for the current one."""
    return incomplete[: incomplete.rfind("/") + 1]


@_quiet
def runs(context: Context, incomplete: str) -> Iterable[str]:
    """The runs below ./runs, and those in the folder that is typed so far."""
    for folder in ("runs/", _folder(incomplete)):
        for entry in sorted(as_path(folder).glob("*/_evofool")):
            yield f"{folder}{entry.parent.name}"


@_quiet
def classes(context: Context, incomplete: str) -> Iterable[str]:
    """The classes of the run before it that have an elite."""
    from evofool.store.schemas import read_column

    view = as_path(context.params["path"]) / "elites" / "elites.parquet"
    names = [str(name) for name in read_column(view, "class_name")]
    return [_Escaped(name) if os.environ[ASKED] == "complete_bash" else name for name in names]


class _Escaped(str):
    """A text with spaces and the like as bash has to be given it, that is still found by how it begins unescaped.

    Other shells escape what they insert themselves.
    """

    def __new__(cls, plain: str) -> _Escaped:
        text = super().__new__(cls, re.sub(r"([^\w@%+=:,./-])", r"\\\1", plain))
        text.plain = plain
        return text

    plain: str

    def startswith(self, prefix: str | tuple[str, ...], *span: Any) -> bool:
        return self.plain.startswith(prefix, *span)


@_quiet
def configs(context: Context, incomplete: str) -> Iterable[str]:
    """Presets, and the YAML files in the folder that is typed so far."""
    from evofool.config.presets import SUFFIXES, preset_names

    folder = _folder(incomplete)
    if not folder:
        yield from preset_names()
    for entry in sorted(as_path(folder).iterdir()):
        if entry.name.endswith(SUFFIXES):
            yield f"{folder}{entry.name}"


@_quiet
def presets(context: Context, incomplete: str) -> Iterable[str]:
    """The presets."""
    from evofool.config.presets import preset_names

    return preset_names()


@_quiet
def families(context: Context, incomplete: str) -> Iterable[str]:
    """The kinds of networks."""
    from evofool.base.registry import FAMILIES

    return FAMILIES


@_quiet
def launches(context: Context, incomplete: str) -> Iterable[str]:
    """The kinds of launch files."""
    from evofool.machines.launch import KINDS

    return KINDS
