"""Presets: the configurations of `configs/`, which travel in the package and go by name from any folder.

The folder `evofool/presets` is a link to `configs/`, so an installed package has the same files.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from evofool.base.registry import known
from evofool.errors import ConfigError

__all__ = ["SUFFIXES", "preset_about", "preset_named", "preset_names", "preset_text"]

SUFFIXES = (".yaml", ".yml")  # of files; whatever ends so is never a preset's name


def preset_names() -> list[str]:
    """All presets, in the order of their names."""
    names = [entry.name for entry in (resources.files("evofool") / "presets").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def preset_named(source: object) -> str | None:
    """The preset that a CONFIG means, by its name alone; None if it means a file, or anything else.

    A file of that name in the current folder wins.
    """
    name = str(source)
    if not isinstance(source, str | Path) or name not in preset_names() or Path(name).is_file():
        return None
    return name


def preset_text(name: str) -> str:
    """The file of a preset, comments and all.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in preset_names():
        raise ConfigError(f"{name}: is no preset; {known(name, preset_names())}")
    return (resources.files("evofool") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def preset_about(name: str) -> str:
    """What a preset is, in a line: the first of its file, which is a comment."""
    return preset_text(name).partition("\n")[0].removeprefix("#").strip()
