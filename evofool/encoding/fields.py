"""What the JSON of genomes of every kind says, checked."""

from __future__ import annotations

from collections.abc import Mapping

from evofool.errors import InvalidGenome

__all__ = ["colour", "quantisation", "side"]


def side(value: object) -> int:
    """A side of the picture in pixels, or a number of channels; raises InvalidGenome unless it is 1 .. 8192."""
    if not isinstance(value, int) or not 1 <= value <= 8192:
        raise InvalidGenome(f"a genome has a side of {value!r:.40} pixels.")
    return value


def colour(name: object, channels: int | None = None) -> str:
    """A colour space; raises InvalidGenome unless there is one of that name, for so many channels if they are given."""
    if name not in ("grey", "hsv", "rgb", "hls2015") or (channels is not None and (name == "grey") != (channels == 1)):
        raise InvalidGenome(
            f"a genome has the colour space {name!r:.40}, which is none, or none for {channels} channels."
        )
    return str(name)


def quantisation(data: Mapping[str, object]) -> str:
    """The entry "quantisation" of a genome, "round" where it has none; raises InvalidGenome for an unknown one."""
    name = data.get("quantisation", "round")
    if name not in ("round", "truncate"):
        raise InvalidGenome(f"a genome has the quantisation {str(name)[:40]!r}, which is unknown.")
    return str(name)
